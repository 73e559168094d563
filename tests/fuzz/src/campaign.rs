//! Feeds a target: first its corpus as it is, then what the mutator makes of it, and on a failure the
//! least input that still fails in the same place.

use crate::Target;
use crate::capture::{Broken, attempt};
use crate::corpus::Input;
use crate::mutator::input_of;

/// Attempts that making an input smaller may cost.
const MINIMISE_ATTEMPTS_MAX: u32 = 4_000;

#[derive(Clone, Debug)]
pub struct Failure {
    pub broken: Broken,
    pub input: Vec<u8>,
    /// As it was found.
    pub found_bytes: usize,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the corpus, as it is.
    File(String),
    Case {
        seed: u64,
        case: u64,
    },
}

/// The first file of the corpus that breaks a law, if one does.
pub fn run_corpus(target: &Target, corpus: &[Input]) -> Result<(), Failure> {
    corpus.iter().try_for_each(|input| {
        attempt(target, &input.bytes).map_err(|broken| {
            failure(target, &input.bytes, broken, Origin::File(input.name.clone()))
        })
    })
}

/// A row of cases, from 0 on, of one seed.
pub struct Campaign<'a> {
    target: &'a Target,
    corpus: &'a [Input],
    seed: u64,
    next_case: u64,
    input: Vec<u8>,
}

impl<'a> Campaign<'a> {
    pub fn new(target: &'a Target, corpus: &'a [Input], seed: u64) -> Campaign<'a> {
        Campaign { target, corpus, seed, next_case: 0, input: Vec::new() }
    }

    pub fn cases(&self) -> u64 {
        self.next_case
    }

    /// Makes the next input; [`Campaign::run`] runs it.
    pub fn next_input(&mut self) -> &[u8] {
        input_of(self.target, self.corpus, self.seed, self.next_case, &mut self.input);
        self.next_case += 1;
        &self.input
    }

    pub fn run(&self) -> Result<(), Failure> {
        attempt(self.target, &self.input).map_err(|broken| {
            let origin = Origin::Case { seed: self.seed, case: self.next_case - 1 };
            failure(self.target, &self.input, broken, origin)
        })
    }
}

fn failure(target: &Target, found: &[u8], broken: Broken, origin: Origin) -> Failure {
    let (input, broken) = minimise(target, found.to_vec(), broken);
    Failure { broken, input, found_bytes: found.len(), origin }
}

/// Leaves out ever smaller pieces, then makes bytes plain, as long as the panic's place is the same.
fn minimise(target: &Target, mut input: Vec<u8>, mut broken: Broken) -> (Vec<u8>, Broken) {
    let mut attempts_left = MINIMISE_ATTEMPTS_MAX;
    let mut try_instead = |smaller: Vec<u8>, input: &mut Vec<u8>| {
        if attempts_left == 0 {
            return false;
        }
        attempts_left -= 1;
        match attempt(target, &smaller) {
            Err(found) if found.place == broken.place => {
                (*input, broken) = (smaller, found);
                true
            }
            _ => false,
        }
    };
    let mut piece = input.len().next_power_of_two() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let end = input.len().min(at + piece);
            let smaller = [&input[..at], &input[end..]].concat();
            if !try_instead(smaller, &mut input) {
                at = end;
            }
        }
        piece /= 2;
    }
    for at in 0..input.len() {
        for plain in [0, b'a', b'0'] {
            let mut plainer = input.clone();
            plainer[at] = plain;
            if input[at] == plain || try_instead(plainer, &mut input) {
                break;
            }
        }
    }
    (input, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaks_on_xy(bytes: &[u8]) {
        assert!(!bytes.windows(2).any(|pair| pair == b"xy"), "found it");
    }

    const TARGET: Target = Target {
        name: "xy",
        run: breaks_on_xy,
        dictionary: &[b"xy"],
        input_bytes_max: 100,
        test_cases: 0,
    };

    fn inputs(texts: &[&str]) -> Vec<Input> {
        let input =
            |text: &&str| Input { name: (*text).to_owned(), bytes: text.as_bytes().to_vec() };
        texts.iter().map(input).collect()
    }

    #[test]
    fn a_broken_law_is_found_and_its_input_made_small() {
        let corpus = inputs(&["some long text without it", "another"]);
        run_corpus(&TARGET, &corpus).unwrap();
        let mut campaign = Campaign::new(&TARGET, &corpus, 1);
        let failure = (0..10_000).find_map(|_| {
            campaign.next_input();
            campaign.run().err()
        });
        let failure = failure.expect("the dictionary has it");
        assert_eq!(failure.input, b"xy");
        assert_eq!(failure.broken.message, "found it");
        let Origin::Case { seed: 1, case } = failure.origin else { panic!("{failure:?}") };
        let mut again = Vec::new();
        input_of(&TARGET, &corpus, 1, case, &mut again);
        assert_eq!(again.len(), failure.found_bytes);
        assert!(attempt(&TARGET, &again).is_err(), "seed and case say the input");
    }

    #[test]
    fn the_corpus_runs_as_it_is() {
        let failure = run_corpus(&TARGET, &inputs(&["a", "b xy c"])).unwrap_err();
        assert_eq!(failure.origin, Origin::File("b xy c".to_owned()));
        assert_eq!(failure.input, b"xy");
    }
}
