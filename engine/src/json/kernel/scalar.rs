//! The oracle, and the kernel of CPUs without a better one. Plain loops that say what is meant.

use super::Isa;

#[derive(Clone, Copy)]
pub struct Scalar;

fn mask(bytes: &[u8], class: impl Fn(u8) -> bool) -> u64 {
    bytes.iter().enumerate().fold(0, |mask, (at, byte)| mask | u64::from(class(*byte)) << at)
}

impl Isa for Scalar {
    type Block = [u8; 64];

    fn load(self, bytes: &[u8; 64]) -> [u8; 64] {
        *bytes
    }

    fn equal_to(self, block: [u8; 64], byte: u8) -> u64 {
        mask(&block, |other| other == byte)
    }

    fn has_odd(self, block: [u8; 64]) -> bool {
        block.iter().any(|byte| *byte == b'\\' || !(0x20..0x80).contains(byte))
    }

    fn controls(self, block: [u8; 64]) -> u64 {
        mask(&block, |byte| byte < 0x20)
    }

    fn non_ascii(self, block: [u8; 64]) -> u64 {
        mask(&block, |byte| byte >= 0x80)
    }

    fn prefix_xor(self, bits: u64) -> u64 {
        [1, 2, 4, 8, 16, 32].into_iter().fold(bits, |bits, step| bits ^ bits << step)
    }

    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]> {
        let mut value = 0u128;
        for (at, byte) in text.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            value = value << 4 | u128::from(char::from(*byte).to_digit(16)?);
        }
        Some(proto::row::uuid_to_row(value.to_be_bytes()))
    }

    fn unplain(self, text: &[u8; 32]) -> u32 {
        mask(text, |byte| byte == b'\\' || byte >= 0x80) as u32
    }

    fn digits(self, text: &[u8; 16]) -> u32 {
        mask(text, |byte| byte.is_ascii_digit()) as u32
    }
}
