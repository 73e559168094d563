//! Every kernel that this CPU has gives the oracle's answers.

use proptest::prelude::*;

use super::scalar::Scalar;
use super::{Isa, Kernel};
use crate::json::index::{Carry, Scan};
use crate::json::token::{Quotes, Tokens};

/// All answers of an instruction set about one block.
fn answers<I: Isa>(isa: I, bytes: &[u8; 64]) -> ([u64; 6], [u32; 2]) {
    let block = isa.load(bytes);
    let masks = [
        isa.equal_to(block, b'"'),
        isa.equal_to(block, b'\\'),
        isa.controls(block),
        u64::from(isa.has_odd(block)),
        isa.non_ascii(block),
        isa.prefix_xor(u64::from_le_bytes(*bytes.first_chunk().unwrap())),
    ];
    let digits = isa.digits(bytes.first_chunk().unwrap());
    (masks, [isa.unplain(bytes.first_chunk().unwrap()), digits])
}

/// Runs `check` with every instruction set but the oracle's.
macro_rules! for_each_isa {
    ($check:expr) => {
        #[cfg(target_arch = "x86_64")]
        {
            if super::sse42::detected() {
                $check(super::sse42::for_tests());
            }
            if super::avx2::detected() {
                $check(super::avx2::for_tests());
            }
            if super::avx512::detected() {
                $check(super::avx512::for_tests());
            }
        }
    };
}

struct Answers<'a>(&'a [u8; 64]);

impl Answers<'_> {
    fn check<I: Isa>(&self, isa: I) {
        assert_eq!(answers(isa, self.0), answers(Scalar, self.0));
    }
}

#[test]
fn every_byte_in_every_lane() {
    for byte in 0..=255u8 {
        for lane in 0..64 {
            let mut bytes = [b'x'; 64];
            bytes[lane] = byte;
            let case = Answers(&bytes);
            for_each_isa!(|isa| case.check(isa));
        }
    }
}

fn check_uuid(text: &[u8; 36], expected: Option<[u8; 16]>) {
    assert_eq!(Scalar.uuid(text), expected, "{}", String::from_utf8_lossy(text));
    for_each_isa!(|isa| assert_eq!(uuid_of(isa, text), expected));
}

fn uuid_of<I: Isa>(isa: I, text: &[u8; 36]) -> Option<[u8; 16]> {
    isa.uuid(text)
}

#[test]
fn uuids_are_stored_as_rows_want_them() {
    let row = proto::row::uuid_to_row(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210u128.to_be_bytes());
    check_uuid(b"01234567-89ab-cdef-fedc-ba9876543210", Some(row));
    check_uuid(b"01234567-89AB-CDEF-fedc-BA9876543210", Some(row));
    check_uuid(b"00000000-0000-0000-0000-000000000000", Some([0; 16]));
    check_uuid(b"0123456789ab-cdef-fedc-ba98765432100", None);
}

#[test]
fn any_byte_at_any_place_of_a_uuid() {
    for at in 0..36 {
        for byte in 0..=255 {
            let mut text = *b"01234567-89ab-cdef-fedc-ba9876543210";
            text[at] = byte;
            check_uuid(&text, Scalar.uuid(&text));
        }
    }
}

/// Tokens and the first fault of a body that is scanned in parts of `part` blocks.
fn scan(kernel: Kernel, body: &[u8], part: usize) -> (Vec<u32>, Option<super::super::Malformed>) {
    let mut quotes = vec![[0; 8]; body.len().div_ceil(64) + 1];
    let (mut tokens, mut found) = (Tokens::from(0), Vec::new());
    let (mut carry, mut fault, mut from) = (Carry::default(), None, 0);
    loop {
        let to = body.len().min(from + part * 64);
        kernel.scan(&mut Scan {
            body,
            from,
            to,
            carry: &mut carry,
            quotes: &mut quotes[from / 64..],
            fault: &mut fault,
        });
        from = to;
        let known = Quotes::new(quotes[..to.div_ceil(64) + 1].as_flattened());
        let limit = fault.map_or(to, |fault| fault.offset) as u32;
        while let Some(token) = tokens.next(body, known, 0, limit) {
            found.push(token);
        }
        if to == body.len() || fault.is_some() {
            return (found, fault);
        }
    }
}

/// The same by reading byte after byte.
fn scan_plainly(body: &[u8]) -> Vec<u32> {
    let (mut tokens, mut in_string, mut escaped, mut in_run) = (Vec::new(), false, false, false);
    for (at, byte) in body.iter().enumerate() {
        let quote = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        if in_string {
            in_string = !quote;
            in_run = !quote;
            continue;
        }
        let operator = b"{}[]:,".contains(byte);
        if operator || !(b" \t\r\n".contains(byte) || in_run) {
            tokens.push(at as u32);
        }
        in_string = quote;
        in_run = !quote && !operator && !b" \t\r\n".contains(byte);
    }
    tokens
}

proptest! {
    #[test]
    fn random_blocks(bytes in proptest::array::uniform32(any::<u8>()), more in proptest::array::uniform32(any::<u8>())) {
        let mut block = [0; 64];
        block[..32].copy_from_slice(&bytes);
        block[32..].copy_from_slice(&more);
        let case = Answers(&block);
        for_each_isa!(|isa| case.check(isa));
    }

    #[test]
    fn tokens_are_those_of_a_plain_reading(
        body in proptest::collection::vec(prop_oneof![
            4 => proptest::sample::select(b"\"\\{}[]:, \n".to_vec()),
            4 => proptest::sample::select(b"ab01x-.".to_vec()),
        ], 0..400),
        part in 1usize..4,
    ) {
        let expected = scan_plainly(&body);
        for kernel in Kernel::all() {
            let (tokens, fault) = scan(kernel, &body, part);
            match fault {
                None => prop_assert_eq!(&tokens, &expected),
                Some(_) => prop_assert!(expected.starts_with(&tokens)),
            }
            prop_assert_eq!(fault, scan(Kernel::SCALAR, &body, 100).1);
        }
    }
}
