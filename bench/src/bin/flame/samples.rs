//! The text of `perf script`: a line that names the thread, a line for each frame from the innermost
//! outwards, an empty line. Lines that are none of these are passed over, as perf prints warnings.

use std::io::{self, BufRead};

/// One frame as perf saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// In the kernel a virtual address; elsewhere an offset in the file of `object`.
    pub address: u64,
    pub symbol: String,
    pub object: String,
}

impl RawFrame {
    /// The upper half of the address space is the kernel's.
    pub fn is_kernel(&self) -> bool {
        self.address >> 63 == 1
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub thread: String,
    /// The innermost first.
    pub frames: Vec<RawFrame>,
}

/// Calls `on_sample` for each sample of the input, in order.
pub fn read(input: impl BufRead, mut on_sample: impl FnMut(&Sample)) -> io::Result<()> {
    let mut sample = Sample::default();
    for line in input.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            if !sample.frames.is_empty() {
                on_sample(&sample);
            }
            sample = Sample::default();
        } else if line.starts_with(char::is_whitespace) {
            sample.frames.extend(parse_frame(&line));
        } else {
            // The thread's number follows its name, which may hold spaces.
            let name = line.trim_end().rsplit_once(char::is_whitespace);
            sample.thread = name.map_or(line.trim(), |(name, _)| name.trim()).to_owned();
        }
    }
    if !sample.frames.is_empty() {
        on_sample(&sample);
    }
    Ok(())
}

/// `   ffff820146 do_syscall_64 ([kernel.kallsyms])`
fn parse_frame(line: &str) -> Option<RawFrame> {
    let (address, rest) = line.trim().split_once(' ')?;
    // All ones is where perf gave up: the stack's end, no function.
    let address = u64::from_str_radix(address, 16).ok().filter(|address| *address != u64::MAX)?;
    // A symbol may hold spaces and brackets; an object is a path, or a name in square brackets.
    let split = rest.rfind(" (/").or_else(|| rest.rfind(" (["));
    let (symbol, object) = match split {
        Some(at) => (&rest[..at], rest[at + 2..].trim_end_matches(')')),
        None => (rest, ""),
    };
    let object = object.trim_end_matches(" (deleted");
    Some(RawFrame { address, symbol: symbol.trim().to_owned(), object: object.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(address: u64, symbol: &str, object: &str) -> RawFrame {
        RawFrame { address, symbol: symbol.to_owned(), object: object.to_owned() }
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, Vec<RawFrame>)]) {
        let mut found = Vec::new();
        read(text.as_bytes(), |sample| found.push(sample.clone())).unwrap();
        let expected: Vec<Sample> = expected
            .iter()
            .map(|(thread, frames)| Sample { thread: (*thread).to_owned(), frames: frames.clone() })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn threads_and_frames() {
        let kernel = frame(0xffff_ffff_821e_cc26, "do_syscall_64", "[kernel.kallsyms]");
        assert!(kernel.is_kernel());
        let user = frame(0x32f72, "<a::B as c::D>::e (f)", "/usr/lib/libc.so.6");
        assert!(!user.is_kernel());
        check(
            "shard-0  139 \n\tffffffff821ecc26 do_syscall_64 ([kernel.kallsyms])\n\t   32f72 <a::B as c::D>::e (f) (/usr/lib/libc.so.6)\n\n\
             rdk:main one 7\n\t 10 [unknown] (/tmp/x (deleted))\n",
            &[
                ("shard-0", vec![kernel, user]),
                ("rdk:main one", vec![frame(0x10, "[unknown]", "/tmp/x")]),
            ],
        );
    }

    #[test]
    fn what_is_no_frame_is_passed_over() {
        check("", &[]);
        check("Warning: lost 3 chunks\n\n", &[]);
        check("a 1\n\tzz not hex (/x)\n\n", &[]);
        check("a 1\n\tffffffffffffffff [unknown] ([unknown])\n\n", &[]);
    }
}
