//! Event ids: unique within a run, reproducible from its seed, and spread like random ones so that
//! a store which sorts by id works as hard as it would in earnest.
//!
//! The first 64 bits are the run, the last 64 a bijection of (connection, event number).

/// Connections of one run that ids can tell apart.
pub const CONNECTIONS_MAX: u64 = 1 << CONNECTION_BITS;

const CONNECTION_BITS: u32 = 20;
const EVENT_BITS: u32 = 42;
const SERIAL_MASK: u64 = (1 << (CONNECTION_BITS + EVENT_BITS)) - 1;

/// RFC 9562: version 4 in the third group, variant 10 in the fourth.
const VERSION_MASK: u64 = 0xF000;
const VERSION_4: u64 = 0x4000;
const VARIANT: u64 = 0b10 << 62;

/// What all ids, user ids and event names of one run share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(u64);

impl RunId {
    pub fn from_seed(seed: u64) -> Self {
        RunId((mix64(seed) & !VERSION_MASK) | VERSION_4)
    }

    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// The last 64 bits of the id of a connection's event number `event`.
#[inline]
pub fn low_half(connection: u64, event: u64) -> u64 {
    debug_assert!(connection < CONNECTIONS_MAX && event < 1 << EVENT_BITS);
    VARIANT | scramble((connection << EVENT_BITS) | event)
}

/// Bits of [`serial_of`].
pub const SERIAL_BITS: u32 = CONNECTION_BITS + EVENT_BITS;

/// The part of an id's second half that differs between the ids of a run.
#[inline]
pub fn serial_of(low_half: u64) -> u64 {
    low_half & SERIAL_MASK
}

/// A number in `0..bound`, even over the ids of a run.
#[inline]
pub fn pick(low_half: u64, bound: u64) -> u64 {
    let serial = u128::from(low_half & SERIAL_MASK);
    ((serial * u128::from(bound)) >> (CONNECTION_BITS + EVENT_BITS)) as u64
}

/// Each step is a bijection of 62-bit numbers: times an odd number, and xor with the own high bits.
#[inline]
fn scramble(serial: u64) -> u64 {
    let mut x = serial;
    x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15) & SERIAL_MASK;
    x ^= x >> 31;
    x = x.wrapping_mul(0xD6E8_FEB8_6659_FD93) & SERIAL_MASK;
    x ^ (x >> 31)
}

/// SplitMix64's finaliser: seeds that are near each other give runs that are not.
#[inline]
pub fn mix64(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Eight digits at once: this runs three times for every event. Lower case, as `{value:08x}` writes it.
#[inline]
pub fn hex8(value: u32) -> [u8; 8] {
    let mut x = u64::from(value);
    // Every half of a word to the low half of a word of its own, until each nibble has a byte.
    x = (x | x << 16) & 0x0000_FFFF_0000_FFFF;
    x = (x | x << 8) & 0x00FF_00FF_00FF_00FF;
    x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // 1 in every byte that holds 10 to 15: those are letters, which begin 39 past where digits end.
    let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// The number that [`low_half`] made, from the last 17 characters of an id's text (`8abc-0123456789ab`).
pub fn low_half_of_text(id: &str) -> Option<u64> {
    let (group, node) = id.get(19..36)?.split_once('-')?;
    if group.len() != 4 || node.len() != 12 {
        return None;
    }
    Some(u64::from_str_radix(group, 16).ok()? << 48 | u64::from_str_radix(node, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_a_run_differ() {
        let mut seen = HashSet::new();
        for connection in [0, 1, 2, CONNECTIONS_MAX - 1] {
            for event in (0..20_000).chain((1 << EVENT_BITS) - 1_000..1 << EVENT_BITS) {
                assert!(seen.insert(low_half(connection, event)), "{connection} {event}");
            }
        }
    }

    #[test]
    fn ids_are_version_4_and_reproducible() {
        for seed in 0..100 {
            assert_eq!(RunId::from_seed(seed).as_u64() >> 12 & 15, 4);
            assert_eq!(RunId::from_seed(seed), RunId::from_seed(seed));
            assert_eq!(low_half(seed, seed * 7) >> 62, 0b10);
        }
        assert_ne!(RunId::from_seed(1), RunId::from_seed(2));
    }

    #[test]
    fn picks_stay_in_bounds_and_spread() {
        let picked: HashSet<u64> = (0..10_000).map(|e| pick(low_half(3, e), 100)).collect();
        assert_eq!(picked.len(), 100);
        assert!(picked.iter().all(|&p| p < 100));
    }

    #[test]
    fn text_round_trips() {
        for value in [0, 1, 0x9abc_def0, u32::MAX, low_half(1, 1) as u32] {
            assert_eq!(hex8(value), *format!("{value:08x}").as_bytes());
        }
        let id = "00000000-0000-4000-8abc-0123456789ab";
        assert_eq!(low_half_of_text(id), Some(0x8abc_0123_4567_89ab));
        for wrong in ["", "00000000-0000-4000-8abc", "00000000-0000-4000-8abcd-123456789ab"] {
            assert_eq!(low_half_of_text(wrong), None, "{wrong}");
        }
    }
}
