use super::*;

const RANGE: RangeInclusive<u64> = 1..=1_000;

/// Mean and values of a thousand even quantiles.
fn sample(text: &str) -> (f64, Vec<u64>) {
    let distribution: Distribution = text.parse().unwrap();
    let quantiles = (0..1_000).map(|k| (f64::from(k) + 0.5) / 1_000.0);
    let values: Vec<u64> = quantiles.map(|q| distribution.value_at(q, &RANGE)).collect();
    assert!(values.is_sorted(), "{text}");
    (values.iter().sum::<u64>() as f64 / 1_000.0, values)
}

fn check_mean(text: &str, expected: f64) {
    let (mean, _) = sample(text);
    assert!((mean / expected - 1.0).abs() < 0.01, "{text}: {mean}, not {expected}");
    assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
}

#[test]
fn values_follow_the_distribution() {
    check_mean("100", 100.0);
    check_mean("uniform:1..1000", 500.5);
    check_mean("uniform:1..4", 2.5);
    check_mean("normal:500,100", 500.0);
    check_mean("1:50%,100:40%,1000:10%", 140.5);
    // The sum of k × 1/k over 1 to 10 by that of 1/k.
    check_mean("zipf:1..10,1", 10.0 / 2.928_968);
    check_mean("zipf:1..10,0", 5.5);
    let (_, values) = sample("normal:500,100");
    let inside = values.iter().filter(|value| (400..=600).contains(*value)).count();
    assert!((675..=695).contains(&inside), "one standard deviation: {inside}");
    let (_, values) = sample("normal:10,100");
    assert_eq!((values[0], values[999] < 400), (1, true), "the range is kept");
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        "-1",
        "1.5",
        "uniform:5",
        "uniform:5..1",
        "zipf:1..5",
        "zipf:1..5,-1",
        "zipf:1..5,11",
        "normal:5",
        "gauss:1,2",
        "1:50%",
        "1:50%,2:60%",
        "1:50,2:50",
        "1:150%,2:-50%",
    ] {
        assert!(text.parse::<Distribution>().is_err(), "{text}");
    }
    let too_many = format!("{}1:0.5%,1:0.5%", "1:1%,".repeat(WEIGHTS_MAX - 1));
    let error = too_many.parse::<Distribution>().unwrap_err();
    assert!(error.contains("at most 100"), "{error}");
    for text in ["0", "1001", "uniform:0..5", "zipf:1..1001,1", "normal:2000,1", "1:99%,5000:1%"] {
        let distribution: Distribution = text.parse().unwrap();
        let error = distribution.check_range(&RANGE).unwrap_err();
        assert!(error.contains("outside 1 to 1000"), "{text}: {error}");
    }
}

/// Against the sum over all ranks, done one by one.
#[test]
fn ranks_have_their_zipf_shares() {
    const BITS: u32 = 30;
    for (count, exponent) in [(5, 1.0), (1_000, 0.5), (100_000, 1.1), (100_000, 1.0)] {
        let table = RankTable::zipf(count, exponent);
        let points = 200_000u64;
        let ranks = (0..points).map(|k| table.rank(k * ((1 << BITS) / points), BITS));
        let mut seen = vec![0.0; count as usize];
        ranks.for_each(|rank| seen[rank as usize] += 1.0 / points as f64);
        let total: f64 = (1..=count).map(|k| (k as f64).powf(-exponent)).sum();
        let share = |ranks: std::ops::Range<u64>| {
            ranks.map(|k| ((k + 1) as f64).powf(-exponent)).sum::<f64>() / total
        };
        for ranks in [0..1, 0..3, 3..count / 2, count / 2..count] {
            let (expected, seen) = (share(ranks.clone()), {
                let (from, to) = (ranks.start as usize, ranks.end.max(ranks.start) as usize);
                seen[from.min(to)..to].iter().sum::<f64>()
            });
            assert!((seen - expected).abs() < 0.01, "{count} {exponent} {ranks:?}: {seen}");
        }
    }
}

/// Far more ranks than the table has places: those between two ends come, too.
#[test]
fn every_rank_has_its_turn() {
    let table = RankTable::zipf(50_000, 0.0);
    let ranks = (0..200_000u64).map(|k| table.rank(k * ((1 << 30) / 200_000), 30));
    let seen: std::collections::BTreeSet<u64> = ranks.collect();
    assert!(seen.len() > 49_000, "{}", seen.len());
}

/// 2^32 users are more than can be counted through.
#[test]
fn very_many_ranks_are_quick_and_in_range() {
    let table = RankTable::zipf(1 << 32, 1.2);
    assert!(table.rank((1 << 30) - 1, 30) < 1 << 32);
    assert_eq!(table.rank(0, 30), 0);
}
