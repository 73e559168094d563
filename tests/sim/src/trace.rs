//! What happened, in order: a running hash always, so that two runs can be compared, and the lines
//! themselves when somebody wants to read them.

use std::io::Write as _;

#[derive(Clone, Copy, Debug)]
struct Line {
    at_us: u64,
    what: &'static str,
    which: u64,
    detail: u64,
}

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    printed: bool,
}

/// FNV-1a's prime for 64 bits.
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    pub fn new(printed: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, steps: 0, printed }
    }

    pub fn note(&mut self, at_us: u64, what: &'static str, which: u64, detail: u64) {
        let line = Line { at_us, what, which, detail };
        self.steps += 1;
        for word in [line.at_us, line.what.len() as u64, line.which, line.detail] {
            self.hash = (self.hash ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        if self.printed {
            let Line { at_us, what, which, detail } = line;
            // A reader that went away ends nothing.
            let _ = writeln!(
                std::io::stdout(),
                "{:>10}.{:03} ms  {what:<28} {which:>8} {detail}",
                at_us / 1000,
                at_us % 1000
            );
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }
}
