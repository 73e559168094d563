//! The search against simulated servers: with a sharp knee, with a knee in noise, with a generator
//! that gives out first.

use proptest::prelude::*;
use proto::random::SplitMix64;

use super::*;

const LIMITS: Limits =
    Limits { start: 1_000, max: 10_000_000, precision: 0.05, tries: 1, steps_max: 64 };

/// Runs a search to its end; every step with its verdict, and the finding.
fn search(
    limits: Limits,
    mut server: impl FnMut(u64) -> Verdict,
) -> (Vec<(u64, Phase, Verdict)>, Finding) {
    let mut search = KneeSearch::new(limits);
    let mut steps = Vec::new();
    loop {
        match search.next() {
            Next::Done(finding) => return (steps, finding),
            Next::Step { rate, phase } => {
                assert!((1..=limits.max).contains(&rate), "{rate}");
                let verdict = server(rate);
                steps.push((rate, phase, verdict));
                assert!(steps.len() <= limits.steps_max as usize);
                search.tell(verdict);
            }
        }
    }
}

fn sharp(knee: u64) -> impl FnMut(u64) -> Verdict {
    move |rate| if rate <= knee { Verdict::Held } else { Verdict::Broke }
}

#[test]
fn it_grows_narrows_and_confirms() {
    let (steps, finding) = search(LIMITS, sharp(5_000));
    let steps: Vec<_> = steps.iter().map(|&(rate, phase, _)| (rate, phase)).collect();
    let (growing, narrowing) = (Phase::Growing, Phase::Narrowing);
    assert_eq!(
        steps,
        [
            (1_000, growing),
            (2_000, growing),
            (4_000, growing),
            (8_000, growing),
            (6_000, narrowing),
            (5_000, narrowing),
            (5_500, narrowing),
            (5_250, narrowing),
            (5_000, Phase::Confirming),
        ]
    );
    assert_eq!(finding, Finding::Knee(5_000));
}

#[test]
fn ends_of_the_range() {
    assert_eq!(search(LIMITS, |_| Verdict::Broke).1, Finding::Nothing);
    assert_eq!(search(LIMITS, sharp(1)).1, Finding::Knee(1));
    assert_eq!(search(LIMITS, |_| Verdict::Held).1, Finding::Maximum(10_000_000));
    assert_eq!(search(LIMITS, |_| Verdict::GeneratorLimited).1, Finding::GeneratorLimit(None));
    let start_above = Limits { start: 50, max: 20, ..LIMITS };
    assert_eq!(search(start_above, |_| Verdict::Held).1, Finding::Maximum(20));
}

/// One bad step of a noisy machine is asked for again.
#[test]
fn a_rate_has_to_break_as_often_as_was_said() {
    let mut number = 0;
    let (steps, finding) = search(Limits { tries: 2, ..LIMITS }, |rate| {
        number += 1;
        if number == 2 { Verdict::Broke } else { sharp(5_000)(rate) }
    });
    let rates: Vec<_> = steps.iter().map(|step| step.0).collect();
    // One break that was not repeated is forgotten: the next rate has two tries again.
    assert_eq!(rates[..6], [1_000, 2_000, 2_000, 4_000, 8_000, 8_000]);
    assert_eq!(finding, Finding::Knee(5_000));
}

/// Another try does not make the generator faster.
#[test]
fn what_the_generator_could_not_carry_is_not_tried_again() {
    let (steps, _) = search(Limits { tries: 3, ..LIMITS }, |_| Verdict::GeneratorLimited);
    assert!(steps.windows(2).all(|pair| pair[1].0 < pair[0].0), "{steps:?}");
}

/// A rate that does not hold a second time is not the knee; the search goes on below it.
#[test]
fn a_failed_confirmation_lowers_the_ceiling() {
    let mut confirmations = 0;
    let (steps, finding) = search(LIMITS, |rate| {
        let verdict = sharp(5_000)(rate);
        confirmations += u32::from(rate == 5_000);
        // The first 5,000 holds, the second does not.
        if rate == 5_000 && confirmations == 2 { Verdict::Broke } else { verdict }
    });
    assert!(steps.iter().filter(|step| step.1 == Phase::Confirming).count() == 2);
    assert!(matches!(finding, Finding::Knee(4_750..5_000)), "{finding:?}");
}

#[test]
fn steps_are_bounded() {
    let limits = Limits { steps_max: 3, ..LIMITS };
    assert_eq!(search(limits, sharp(5_000)).1, Finding::Unsettled(Some(4_000)));
    let limits = Limits { steps_max: 3, tries: 9, ..LIMITS };
    assert_eq!(search(limits, |_| Verdict::Broke).1, Finding::Unsettled(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_sharp_knee_is_found_to_the_precision(
        knee in 1u64..9_000_000, start in 1u64..1_000_000, precision in 0.005f64..0.5,
    ) {
        let limits = Limits { start, precision, ..LIMITS };
        let (steps, finding) = search(limits, sharp(knee));
        let Finding::Knee(found) = finding else { panic!("{finding:?}") };
        prop_assert!(found <= knee, "{found}");
        prop_assert!(knee as f64 <= (found as f64 * (1.0 + precision)).max(found as f64 + 1.0), "{found}");
        prop_assert!(steps.len() <= 48, "{}", steps.len());
    }

    /// Near the knee, a step holds or breaks by chance; a tenth of the good ones break anyhow.
    #[test]
    fn noise_does_not_lead_astray(knee in 1_000u64..5_000_000, seed in any::<u64>()) {
        let mut random = SplitMix64::new(seed);
        let (steps, finding) = search(Limits { tries: 2, ..LIMITS }, |rate| {
            let over = (rate as f64 / knee as f64).ln() * 50.0;
            let holds = random.unit() < 0.9 / (1.0 + over.exp());
            if holds { Verdict::Held } else { Verdict::Broke }
        });
        let Finding::Knee(found) = finding else { panic!("{finding:?} {steps:?}") };
        prop_assert!(found as f64 <= knee as f64 * 1.3, "{found} of {knee}");
        // What held in the end had held before, or is a rate asked for twice.
        let last = steps.last().unwrap();
        prop_assert_eq!((last.0, last.1, last.2), (found, Phase::Confirming, Verdict::Held));
    }

    /// Whatever happens, a knee is never a rate that the generator could not carry, nor is one told
    /// of when only the generator gave out.
    #[test]
    fn the_generators_limit_is_never_the_servers(
        knee in 1u64..9_000_000, generator in 1u64..9_000_000, start in 1u64..100_000,
    ) {
        let (_, finding) = search(Limits { start, ..LIMITS }, |rate| match () {
            () if rate <= knee.min(generator) => Verdict::Held,
            () if rate > generator => Verdict::GeneratorLimited,
            () => Verdict::Broke,
        });
        match finding {
            Finding::Knee(found) => prop_assert!(found <= knee && knee < generator),
            Finding::GeneratorLimit(Some(found)) => prop_assert!(found <= generator.min(knee)),
            other => prop_assert!(false, "{other:?}"),
        }
        if generator as f64 <= knee as f64 {
            prop_assert!(matches!(finding, Finding::GeneratorLimit(_)), "{finding:?}");
        }
    }

    #[test]
    fn any_verdicts_come_to_an_end(verdicts in prop::collection::vec(0u8..3, 1..70)) {
        let mut verdicts = verdicts.into_iter().cycle();
        let (steps, _) = search(Limits { tries: 2, ..LIMITS }, |_| match verdicts.next() {
            Some(0) => Verdict::Held,
            Some(1) => Verdict::Broke,
            _ => Verdict::GeneratorLimited,
        });
        prop_assert!(steps.len() <= 64);
    }
}
