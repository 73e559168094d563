//! The oracle: one byte at a time, no SIMD, any CPU.

use super::classes::{is_host_name, is_target, is_token, is_value};
use super::{Stops, Window, fill};

/// The stop bits of each byte, spread so that one look-up serves all classes.
static STOPS: [Stops; 256] = {
    let mut table = [Stops::ALL; 256];
    let mut byte = 0;
    while byte < 256 {
        let is = byte as u8;
        table[byte] = Stops {
            token: !is_token(is) as u64,
            target: !is_target(is) as u64,
            host_name: !is_host_name(is) as u64,
            value: !is_value(is) as u64,
        };
        byte += 1;
    }
    table
};

pub(super) fn classify(buf: &[u8], base: usize, window: &mut Window) {
    fill(buf, base, window, |bytes| {
        let mut stops = Stops::NONE;
        for (at, &byte) in bytes.iter().enumerate() {
            let of_byte = &STOPS[byte as usize];
            stops.token |= of_byte.token << at;
            stops.target |= of_byte.target << at;
            stops.host_name |= of_byte.host_name << at;
            stops.value |= of_byte.value << at;
        }
        stops
    });
}
