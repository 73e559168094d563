//! The oracle: one byte at a time, no SIMD, any CPU.

use super::{Stops, Window, classes, fill};

pub(super) fn classify(buf: &[u8], base: usize, window: &mut Window) {
    fill(buf, base, window, |bytes| {
        let mut stops = Stops { token: 0, target: 0, value: 0 };
        for (at, &byte) in bytes.iter().enumerate() {
            let (token, target, value) = classes::stop_bits(byte);
            stops.token |= token << at;
            stops.target |= target << at;
            stops.value |= value << at;
        }
        stops
    });
}
