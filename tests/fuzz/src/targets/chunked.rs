//! Any bytes as a chunked body and what follows it.
//!
//! Laws: how the bytes were split changes neither body, end nor refusal; a step takes something and
//! stays inside its input; the bounds hold; every strict prefix of a body that ends is unfinished.
//! Against smuggling: where a body ends, a reader by the letter of RFC 9112 and a careless one that
//! takes a bare LF for a line's end find the same body and the same rest.

use engine::http::{ChunkedDecoder, ChunkedLimits, Reject};

use crate::Target;
use crate::draw::{cuts, draw};

pub const TARGET: Target = Target {
    name: "chunked",
    run: target,
    dictionary: &[
        b"\r\n",
        b"\n",
        b"\r",
        b"0\r\n\r\n",
        b"0\r\n",
        b"5\r\nhello\r\n",
        b"a\r\n0123456789\r\n",
        b";",
        b";a=b",
        b";a=\"b\\\"c\"",
        b"\"",
        b"\\",
        b"=",
        b"0x5",
        b"+5",
        b"00000000000000005",
        b"ffffffffffffffff\r\n",
        b"A: b\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n c",
        b" ",
        b"\t",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    input_bytes_max: 1_200,
    test_cases: 150_000,
};

/// The body, and where in the input it ended.
type Outcome = Result<(Vec<u8>, Option<usize>), Reject>;

fn decode(limits: ChunkedLimits, input: &[u8], ends: impl Iterator<Item = usize>) -> Outcome {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut body, mut at) = (Vec::new(), 0);
    for end in ends.chain([input.len()]) {
        while at < end {
            let step = decoder.decode(&input[at..end])?;
            assert!(step.consumed_bytes > 0 && step.consumed_bytes <= end - at, "{step:?}");
            assert!(step.data.is_empty() || step.data.end == step.consumed_bytes, "{step:?}");
            assert_eq!(step.ended, decoder.has_ended());
            body.extend_from_slice(&input[at..end][step.data]);
            at += step.consumed_bytes;
            if step.ended {
                return Ok((body, Some(at)));
            }
        }
    }
    Ok((body, None))
}

pub fn target(bytes: &[u8]) {
    let mut random = draw(bytes);
    let tight = ChunkedLimits {
        extension_bytes_max: random.below(20) as u32,
        trailer_count_max: random.below(3) as u32,
        trailer_bytes_max: random.below(40) as u32,
    };
    for limits in [ChunkedLimits::default(), tight] {
        let whole = decode(limits, bytes, std::iter::empty());
        assert_eq!(decode(limits, bytes, 0..bytes.len()), whole, "byte by byte");
        let parts = cuts(&mut random, 3, bytes.len());
        assert_eq!(decode(limits, bytes, parts.into_iter()), whole, "in four parts");
        if let Ok((body, Some(end))) = whole {
            let cut = decode(limits, &bytes[..end - 1], std::iter::empty());
            assert!(matches!(cut, Ok((_, None))), "a strict prefix: {cut:?}");
            for line_end in [LineEnd::CrLf, LineEnd::Lf] {
                let mut reader = Reader::new(bytes, line_end);
                let read = reader.body();
                assert_eq!(read, Some((body.clone(), end)), "read otherwise: {line_end:?}");
                assert!(reader.extension_bytes <= limits.extension_bytes_max as usize);
                assert!(reader.trailer_bytes <= limits.trailer_bytes_max as usize);
                assert!(reader.trailer_count <= limits.trailer_count_max as usize);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    CrLf,
    Lf,
}

/// A chunked body as other servers read it: lines, leading hexadecimal digits, all else passed over.
struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    line_end: LineEnd,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_count: usize,
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8], line_end: LineEnd) -> Reader<'a> {
        let (extension_bytes, trailer_bytes, trailer_count) = (0, 0, 0);
        Reader { input, at: 0, line_end, extension_bytes, trailer_bytes, trailer_count }
    }

    fn body(&mut self) -> Option<(Vec<u8>, usize)> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.extension_bytes += line.len() - digits;
            let digits = std::str::from_utf8(&line[..digits]).expect("ASCII");
            let size = usize::from_str_radix(digits, 16).ok()?;
            if size == 0 {
                break;
            }
            let end = self.at.checked_add(size)?;
            body.extend_from_slice(self.input.get(self.at..end)?);
            self.at = end;
            if !self.line()?.is_empty() {
                return None;
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some((body, self.at));
            }
            self.trailer_count += 1;
            self.trailer_bytes += line.len();
        }
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.input[self.at..];
        let (length, end_bytes) = match self.line_end {
            LineEnd::CrLf => (rest.windows(2).position(|pair| pair == b"\r\n")?, 2),
            LineEnd::Lf => (rest.iter().position(|byte| *byte == b'\n')?, 1),
        };
        self.at += length + end_bytes;
        let line = &rest[..length];
        Some(if self.line_end == LineEnd::Lf {
            line.strip_suffix(b"\r").unwrap_or(line)
        } else {
            line
        })
    }
}
