//! Inflates a whole compressed body slice by slice: gzip, deflate (zlib or raw), zstd.
//!
//! Owns the decompressors' state; knows no connection, no limit but the window it allows, and no
//! time: the caller decides how much output one slice may make, so that a small bomb cannot hold a
//! shard. A body is several members or frames at will (RFC 1952, RFC 8878); what follows the last
//! one must be nothing.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

/// Largest zstd window accepted, as a power of two: 8 MiB, what RFC 8878 asks decoders to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const GZIP_WINDOW_BITS: u8 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// Compressed bytes that one slice reads, and members that it begins, at most: there are bodies that
/// take long and give nothing.
const SLICE_INPUT_BYTES_MAX: usize = 16 * 1024;
const SLICE_MEMBERS_MAX: usize = 32;

/// What one slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The output given is full, or the slice has read enough; call again, with room.
    More { written: usize },
    /// The body ended, whole.
    Done { written: usize },
}

/// The body is not what its Content-Encoding says: the compressed offset where that showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable {
    pub offset: usize,
}

/// One body's inflation. Bounded memory: a deflate window of 32 KiB or a zstd window of 8 MiB.
pub struct Inflation {
    decoder: Stream,
    consumed: usize,
    /// Between members: the last one ended and no byte of another was seen.
    ended: bool,
}

enum Stream {
    Gzip(Decompress),
    Deflate(Decompress),
    Zstd(Decoder<'static>),
}

impl Inflation {
    /// `body` is the whole compressed body; its first two bytes tell zlib from raw deflate, which
    /// some clients send under the same name.
    pub fn new(coding: Coding, body: &[u8]) -> Inflation {
        let decoder = match coding {
            Coding::Gzip => Stream::Gzip(Decompress::new_gzip(GZIP_WINDOW_BITS)),
            Coding::Deflate => Stream::Deflate(Decompress::new(starts_as_zlib(body))),
            Coding::Zstd => {
                let mut decoder = Decoder::new().expect("a decoder without a dictionary is made");
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .expect("a window of 2^23 is within what the format knows");
                Stream::Zstd(decoder)
            }
        };
        Inflation { decoder, consumed: 0, ended: false }
    }

    /// Goes on with `body`, the same on every call, until `out` is full, the slice has read enough or
    /// the body has ended.
    pub fn run(&mut self, body: &[u8], out: &mut [u8]) -> Result<Slice, Undecodable> {
        let (mut written, mut members) = (0, 0);
        let end = body.len().min(self.consumed + SLICE_INPUT_BYTES_MAX);
        loop {
            let is_over = self.consumed == body.len();
            if self.ended && is_over {
                return Ok(Slice::Done { written });
            }
            let has_read_enough =
                members == SLICE_MEMBERS_MAX || (self.consumed == end && !is_over);
            if written == out.len() || has_read_enough {
                return Ok(Slice::More { written });
            }
            if self.ended {
                members += 1;
                self.next_member()?;
            }
            let (read, wrote, ended) = self.step(&body[self.consumed..end], &mut out[written..])?;
            self.consumed += read;
            written += wrote;
            self.ended = ended;
            if read == 0 && wrote == 0 && !ended {
                // Nothing moved although there was room: the input stops inside a member.
                return Err(Undecodable { offset: self.consumed });
            }
        }
    }

    /// One call of the decompressor: bytes read, bytes written, whether a member ended.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize, bool), Undecodable> {
        let undecodable = Undecodable { offset: self.consumed };
        match &mut self.decoder {
            Stream::Gzip(inflate) | Stream::Deflate(inflate) => {
                let (read_before, wrote_before) = (inflate.total_in(), inflate.total_out());
                let status = inflate
                    .decompress(input, out, FlushDecompress::None)
                    .map_err(|_| undecodable)?;
                let read = (inflate.total_in() - read_before) as usize;
                let wrote = (inflate.total_out() - wrote_before) as usize;
                Ok((read, wrote, status == Status::StreamEnd))
            }
            Stream::Zstd(decoder) => {
                let status = decoder.run_on_buffers(input, out).map_err(|_| undecodable)?;
                let moved = status.bytes_read + status.bytes_written > 0;
                Ok((status.bytes_read, status.bytes_written, status.remaining == 0 && moved))
            }
        }
    }

    /// More bytes follow a member: another member of the same kind, except in raw or zlib deflate,
    /// which has none.
    fn next_member(&mut self) -> Result<(), Undecodable> {
        let undecodable = Undecodable { offset: self.consumed };
        self.ended = false;
        match &mut self.decoder {
            Stream::Gzip(inflate) => {
                *inflate = Decompress::new_gzip(GZIP_WINDOW_BITS);
                Ok(())
            }
            Stream::Deflate(_) => Err(undecodable),
            Stream::Zstd(decoder) => decoder.reinit().map_err(|_| undecodable),
        }
    }
}

/// RFC 1950: compression method 8, a window of at most 32 KiB, and a check that makes the first two
/// bytes a multiple of 31.
fn starts_as_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8
                && method >> 4 <= 7
                && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_frame(text: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(text, 3).unwrap()
    }

    /// Inflates with slices of `slice_bytes`; `None` where the body is refused.
    fn inflate(coding: Coding, body: &[u8], slice_bytes: usize) -> Option<Vec<u8>> {
        let mut inflation = Inflation::new(coding, body);
        let mut inflated = Vec::new();
        let mut out = vec![0; slice_bytes];
        loop {
            match inflation.run(body, &mut out).ok()? {
                Slice::More { written } => {
                    assert_eq!(written, slice_bytes, "a slice stops early only at the end");
                    inflated.extend_from_slice(&out[..written]);
                }
                Slice::Done { written } => {
                    inflated.extend_from_slice(&out[..written]);
                    return Some(inflated);
                }
            }
        }
    }

    fn check(coding: Coding, body: &[u8], expected: Option<&[u8]>) {
        for slice_bytes in [1, 7, 4096, 1 << 20] {
            assert_eq!(inflate(coding, body, slice_bytes).as_deref(), expected, "{slice_bytes}");
        }
    }

    const TEXT: &[u8] =
        b"{\"app_id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}";

    #[test]
    fn each_coding_gives_back_what_was_compressed() {
        check(Coding::Gzip, &gzip(TEXT), Some(TEXT));
        check(Coding::Deflate, &zlib(TEXT), Some(TEXT));
        check(Coding::Deflate, &raw_deflate(TEXT), Some(TEXT));
        check(Coding::Zstd, &zstd_frame(TEXT), Some(TEXT));
        check(Coding::Gzip, &gzip(b""), Some(b""));
        check(Coding::Zstd, &zstd_frame(b""), Some(b""));
    }

    #[test]
    fn members_are_joined() {
        check(Coding::Gzip, &[gzip(b"one "), gzip(b"two")].concat(), Some(b"one two"));
        check(Coding::Zstd, &[zstd_frame(b"one "), zstd_frame(b"two")].concat(), Some(b"one two"));
    }

    #[test]
    fn a_body_that_gives_nothing_is_worked_on_in_slices() {
        let empty_blocks = [&[0x78, 0x9c][..], &[0, 0, 0, 0xff, 0xff].repeat(100_000)].concat();
        for (coding, body, expected) in [
            (Coding::Gzip, gzip(b"").repeat(10_000), Some(0)),
            (Coding::Zstd, zstd_frame(b"").repeat(10_000), Some(0)),
            (Coding::Deflate, empty_blocks, None),
        ] {
            let mut inflation = Inflation::new(coding, &body);
            let mut out = [0; 4096];
            let last = loop {
                let before = inflation.consumed;
                let slice = inflation.run(&body, &mut out);
                let read = inflation.consumed - before;
                assert!(read <= 32 * 1024, "{coding:?}: {read} bytes in one slice");
                if slice != Ok(Slice::More { written: 0 }) {
                    break slice;
                }
            };
            assert_eq!(last.ok(), expected.map(|written| Slice::Done { written }), "{coding:?}");
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused() {
        let wholes = [
            (Coding::Gzip, gzip(TEXT)),
            (Coding::Deflate, zlib(TEXT)),
            (Coding::Zstd, zstd_frame(TEXT)),
        ];
        for (coding, whole) in wholes {
            for length in 0..whole.len() {
                assert_eq!(inflate(coding, &whole[..length], 4096), None, "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn trailing_bytes_and_flipped_bits_are_refused() {
        check(Coding::Gzip, &[gzip(TEXT), b"x".to_vec()].concat(), None);
        check(Coding::Deflate, &[zlib(TEXT), b"x".to_vec()].concat(), None);
        check(Coding::Zstd, &[zstd_frame(TEXT), b"x".to_vec()].concat(), None);
        let mut flipped = gzip(TEXT);
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        check(Coding::Gzip, &flipped, None);
        check(Coding::Gzip, b"not gzip at all", None);
    }

    #[test]
    fn a_zstd_window_past_the_bound_is_refused() {
        // A frame header that asks for a 2^27 byte window: magic, descriptor 0, window descriptor.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3, 0x01, 0x00, 0x00];
        check(Coding::Zstd, &frame, None);
    }
}
