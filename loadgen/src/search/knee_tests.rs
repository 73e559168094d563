//! The search against simulated servers: with a sharp knee, with a knee in noise, with a generator
//! that gives out first.

use proptest::prelude::*;
use proto::random::SplitMix64;

use super::*;

const LIMITS: Limits =
    Limits { start: 1_000, max: 10_000_000, precision: 0.05, tries: 1, steps_max: 64 };

type Steps = Vec<(u64, Phase, Verdict)>;

/// Runs a search to its end; every step with its verdict, and the finding.
fn search(limits: Limits, mut server: impl FnMut(u64) -> Verdict) -> (Steps, Finding) {
    search_knowing_lengths(limits, |rate, _| server(rate))
}

/// The server is told whether the step is a long one.
fn search_knowing_lengths(
    limits: Limits,
    mut server: impl FnMut(u64, bool) -> Verdict,
) -> (Steps, Finding) {
    let mut search = KneeSearch::new(limits);
    let mut steps = Vec::new();
    loop {
        match search.next() {
            Next::Done(finding) => return (steps, finding),
            Next::Step { rate, phase, long } => {
                assert!((1..=limits.max).contains(&rate), "{rate}");
                let verdict = server(rate, long);
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
    assert!(matches!(finding, Finding::Knee { held: 5_000, broke: 5_001..=5_250 }), "{finding:?}");
}

#[test]
fn ends_of_the_range() {
    assert_eq!(search(LIMITS, |_| Verdict::Broke).1, Finding::Nothing);
    assert_eq!(search(LIMITS, sharp(1)).1, Finding::Knee { held: 1, broke: 2 });
    assert_eq!(search(LIMITS, |_| Verdict::Held).1, Finding::Maximum(10_000_000));
    let nothing = Finding::GeneratorLimit { held: None, broke: None };
    assert_eq!(search(LIMITS, |_| Verdict::GeneratorLimited).1, nothing);
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
    assert!(matches!(finding, Finding::Knee { held: 5_000, broke: 5_001..=5_250 }), "{finding:?}");
}

/// On cores that it shares, the generator is late by chance: its limit, too, is tried again.
#[test]
fn what_the_generator_could_not_carry_is_tried_again() {
    let late = Verdict::GeneratorLimited;
    let limits = Limits { tries: 3, ..LIMITS };
    let (steps, finding) = search(limits, |_| late);
    assert_eq!(finding, Finding::GeneratorLimit { held: None, broke: None });
    let rates: Vec<_> = steps.iter().map(|step| step.0).collect();
    assert_eq!(rates[..7], [1_000, 1_000, 1_000, 500, 500, 500, 250]);

    // Late once and then not: nothing has happened.
    let mut number = 0;
    let (_, finding) = search(limits, |rate| {
        number += 1;
        if number % 3 == 1 { late } else { sharp(5_000)(rate) }
    });
    assert!(matches!(finding, Finding::Knee { held: 5_000, .. }), "{finding:?}");
}

/// It decides only where it was late every time.
#[test]
fn one_break_with_the_generator_in_time_is_the_servers() {
    for in_time in 0..3 {
        let mut tries = 0;
        let (_, finding) = search(Limits { tries: 3, ..LIMITS }, |rate| {
            if rate <= 5_000 {
                return Verdict::Held;
            }
            tries += 1;
            let was_in_time = (tries - 1) % 3 == in_time;
            if was_in_time { Verdict::Broke } else { Verdict::GeneratorLimited }
        });
        assert!(matches!(finding, Finding::Knee { held: 5_000, .. }), "{in_time}: {finding:?}");
    }
}

/// The generator gives out in between: what lies above still is the server's.
#[test]
fn a_rate_that_broke_above_the_generators_limit_is_told_of() {
    let check = |late: std::ops::RangeInclusive<u64>, expected| {
        let limits = Limits { tries: 2, ..LIMITS };
        let finding = search(limits, |rate| match rate {
            _ if late.contains(&rate) => Verdict::GeneratorLimited,
            ..4_000 => Verdict::Held,
            _ => Verdict::Broke,
        });
        assert_eq!(finding.1, expected, "{late:?}");
    };
    // 3,500 and 3,250 are late, 4,000 broke: 28 % above what held.
    let broke = Some(4_000);
    check(3_200..=3_900, Finding::GeneratorLimit { held: Some(3_125), broke });
    check(3_200..=9_999_999, Finding::GeneratorLimit { held: Some(3_125), broke: None });
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
    assert!(matches!(finding, Finding::Knee { held: 4_750..5_000, broke: 5_000 }), "{finding:?}");
    // A wide step down, the middle, and once more: not up again from half the rate.
    let rates: Vec<_> = steps.iter().map(|step| step.0).collect();
    assert_eq!(rates[rates.len() - 4..], [5_000, 4_546, 4_773, 4_773]);
}

/// Where short steps hold only because there is room to put events aside, the first confirmation
/// says so, and the steps from then on are long enough to see it.
#[test]
fn what_only_short_steps_hold_is_left_quickly() {
    for lasting in [1_000, 2_500, 3_900] {
        let limits = Limits { tries: 2, ..LIMITS };
        let (steps, finding) = search_knowing_lengths(limits, |rate, long| {
            sharp(if long { lasting } else { 4_200 })(rate)
        });
        let Finding::Knee { held, broke } = finding else { panic!("{finding:?}") };
        assert!(held <= lasting && lasting < broke, "{lasting}: {finding:?}");
        assert!(steps.len() <= 32, "{lasting}: {} {steps:?}", steps.len());
    }
}

#[test]
fn steps_are_bounded() {
    let limits = Limits { steps_max: 3, ..LIMITS };
    assert_eq!(
        search(limits, sharp(5_000)).1,
        Finding::Unsettled { held: Some(4_000), broke: None }
    );
    let limits = Limits { steps_max: 3, tries: 9, ..LIMITS };
    assert_eq!(
        search(limits, |_| Verdict::Broke).1,
        Finding::Unsettled { held: None, broke: None }
    );
}

/// Near the knee, a step holds or breaks by chance; a tenth of the good ones break anyhow.
fn noisy(knee: u64, seed: u64) -> impl FnMut(u64) -> Verdict {
    let mut random = SplitMix64::new(seed);
    move |rate| {
        let over = (rate as f64 / knee as f64).ln() * 50.0;
        let holds = random.unit() < 0.9 / (1.0 + over.exp());
        if holds { Verdict::Held } else { Verdict::Broke }
    }
}

/// A thousand searches for knees of 1,000 to 64,000, in short steps `room` times as high: their mean
/// number of steps, the number that 95 of 100 keep to, and how many end near the knee.
fn thousand_searches(room: f64) -> (f64, usize, usize) {
    let (mut counts, mut near) = (Vec::new(), 0);
    for seed in 0..1_000 {
        let knee = 1_000 + seed * 63;
        let mut short_step = noisy((knee as f64 * room) as u64, seed);
        let mut long_step = noisy(knee, !seed);
        let (steps, finding) =
            search_knowing_lengths(Limits { tries: 2, ..LIMITS }, |rate, long| {
                if long { long_step(rate) } else { short_step(rate) }
            });
        if let Finding::Knee { held, .. } = finding {
            near += usize::from((0.8..=1.1).contains(&(held as f64 / knee as f64)));
        }
        counts.push(steps.len());
    }
    counts.sort_unstable();
    (counts.iter().sum::<usize>() as f64 / 1e3, counts[950], near)
}

#[test]
fn noise_does_not_take_many_steps() {
    let check = |room, mean_max, most_max| {
        let (mean, most, near) = thousand_searches(room);
        let seen = format!("room for {room}: {mean} steps, most up to {most}, {near} near");
        assert!(mean <= mean_max && most <= most_max && near >= 900, "{seen}");
    };
    check(1.0, 19.0, 25);
    // Confirmations fail one after the other where short steps hold more than lasts.
    check(1.3, 30.0, 40);
    check(2.5, 38.0, 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_sharp_knee_is_found_to_the_precision(
        knee in 1u64..9_000_000, start in 1u64..1_000_000, precision in 0.005f64..0.5,
    ) {
        let limits = Limits { start, precision, ..LIMITS };
        let (steps, finding) = search(limits, sharp(knee));
        let Finding::Knee { held: found, broke } = finding else { panic!("{finding:?}") };
        prop_assert!(found <= knee && knee < broke, "{found} {broke}");
        prop_assert!(knee as f64 <= (found as f64 * (1.0 + precision)).max(found as f64 + 1.0), "{found}");
        prop_assert!(steps.len() <= 48, "{}", steps.len());
    }

    #[test]
    fn noise_does_not_lead_astray(knee in 1_000u64..5_000_000, seed in any::<u64>()) {
        let (steps, finding) = search(Limits { tries: 2, ..LIMITS }, noisy(knee, seed));
        let Finding::Knee { held: found, broke } = finding else { panic!("{finding:?} {steps:?}") };
        prop_assert!(found as f64 <= knee as f64 * 1.3, "{found} of {knee}");
        prop_assert!(broke > found && broke as f64 <= found as f64 * 1.05 + 1.0, "{found} {broke}");
        // What held in the end had held before, or is a rate asked for twice.
        let last = steps.last().unwrap();
        prop_assert_eq!((last.0, last.1, last.2), (found, Phase::Confirming, Verdict::Held));
        let held_before = |step: &&(u64, Phase, Verdict)| step.0 == found && step.2 == Verdict::Held;
        prop_assert!(steps.iter().filter(held_before).count() >= 2, "{steps:?}");
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
            Finding::Knee { held, broke } => {
                prop_assert!(held <= knee && knee < broke && broke <= generator, "{finding:?}");
            }
            Finding::GeneratorLimit { held: Some(held), broke } => {
                prop_assert!(held <= generator.min(knee), "{finding:?}");
                prop_assert!(broke.is_none_or(|broke| knee < broke && broke <= generator));
            }
            other => prop_assert!(false, "{other:?}"),
        }
        if generator <= knee {
            let limit = matches!(finding, Finding::GeneratorLimit { broke: None, .. });
            prop_assert!(limit, "{finding:?}");
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
