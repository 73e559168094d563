//! Makes a new input of the corpus: one file, changed one to eight times.

use proto::random::SplitMix64;

use crate::Target;
use crate::corpus::Input;
use crate::draw::below;

const CHANGES_MAX: usize = 8;
/// A copy within an input, and a piece of another one, are at most this long.
const PIECE_BYTES_MAX: usize = 256;
/// Bytes at the edges of the ranges that parsers compare with.
const EDGES: [u8; 16] =
    [0, 1, 9, b'\n', b'\r', 0x1f, b' ', b'0', b':', 0x7f, 0x80, 0xc2, 0xed, 0xf4, 0xfe, 0xff];

/// The input that `seed` and `case` say.
pub fn input_of(target: &Target, corpus: &[Input], seed: u64, case: u64, out: &mut Vec<u8>) {
    // Two rounds, so that neighbouring cases have nothing in common.
    let mut random = SplitMix64::new(seed ^ SplitMix64::new(case).next_u64());
    out.clear();
    out.extend_from_slice(&pick(&mut random, corpus).bytes);
    for _ in 0..1 + below(&mut random, CHANGES_MAX) {
        change(&mut random, target, corpus, out);
    }
    out.truncate(target.input_bytes_max);
}

fn pick<'a, T>(random: &mut SplitMix64, choices: &'a [T]) -> &'a T {
    &choices[below(random, choices.len())]
}

fn change(random: &mut SplitMix64, target: &Target, corpus: &[Input], out: &mut Vec<u8>) {
    let at = below(random, out.len() + 1);
    let byte = random.next_u64() as u8;
    match below(random, 12) {
        0 | 1 if at < out.len() => out[at] ^= 1 << (byte % 8),
        2 if at < out.len() => out[at] = byte,
        3 if at < out.len() => out[at] = *pick(random, &EDGES),
        4 if at < out.len() => out[at] = out[at].wrapping_add(1 + byte % 3).wrapping_sub(2),
        5 => out.insert(at, if byte.is_multiple_of(2) { byte } else { *pick(random, &EDGES) }),
        6 => drop(out.drain(at..piece_end(random, at, out.len()))),
        7 | 8 if !target.dictionary.is_empty() => {
            let word = *pick(random, target.dictionary);
            let over = if byte.is_multiple_of(2) { word.len() } else { 0 };
            let end = out.len().min(at + over);
            out.splice(at..end, word.iter().copied());
        }
        9 => {
            let piece = out[at..piece_end(random, at, out.len())].to_vec();
            let times = if byte < 16 { 64 } else { 1 + usize::from(byte % 4) };
            let to = below(random, out.len() + 1);
            out.splice(to..to, piece.repeat(times));
        }
        10 => {
            let other = &pick(random, corpus).bytes;
            let from = below(random, other.len() + 1);
            let piece = &other[from..piece_end(random, from, other.len())];
            let end = piece_end(random, at, out.len());
            let over = if byte.is_multiple_of(2) { at..end } else { at..at };
            out.splice(over, piece.iter().copied());
        }
        11 => cross(random, corpus, out, at),
        _ => out.truncate(at),
    }
    // Copies of copies would only cost time.
    out.truncate(2 * target.input_bytes_max);
}

/// The first part of this input and the last of another.
fn cross(random: &mut SplitMix64, corpus: &[Input], out: &mut Vec<u8>, at: usize) {
    let other = &pick(random, corpus).bytes;
    let from = below(random, other.len() + 1);
    out.truncate(at);
    out.extend_from_slice(&other[from..]);
}

fn piece_end(random: &mut SplitMix64, from: usize, length: usize) -> usize {
    let bound = if random.next_u64().is_multiple_of(2) { 8 } else { PIECE_BYTES_MAX };
    length.min(from + 1 + below(random, bound))
}
