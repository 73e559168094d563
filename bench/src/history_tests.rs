//! Choices among recorded lines, and two of them side by side.

use super::*;

fn line(bench: &str, commit: char, runs: &[f64]) -> Line {
    Line {
        at: "2026-11-23T10:00:00Z".to_owned(),
        commit: commit.to_string().repeat(40),
        dirty: false,
        kernel: "6.18".to_owned(),
        cpu: "EPYC".to_owned(),
        cores: 2,
        memory_gib: 24,
        bench: bench.to_owned(),
        config: "as it is".to_owned(),
        figures: BTreeMap::from([("p99_ms".to_owned(), Figure::of("ms", runs))]),
    }
}

fn lines() -> Vec<Line> {
    vec![
        line("ingest", 'a', &[1.0, 2.0]),
        line("null", 'a', &[5.0]),
        line("ingest", 'b', &[4.0, 5.0]),
        line("ingest", 'a', &[1.0, 3.0]),
        line("null", 'b', &[5.0]),
    ]
}

#[test]
fn lines_are_chosen() {
    let lines = lines();
    let head = "a".repeat(40);
    let check = |which: &str, expected: Result<&[(&str, f64)], &str>| match (
        select(&lines, which, &head),
        expected,
    ) {
        (Ok(seen), Ok(expected)) => {
            let seen: Vec<_> =
                seen.iter().map(|(bench, line)| (*bench, line.figures["p99_ms"].max)).collect();
            assert_eq!(seen, expected, "{which}");
        }
        (Err(seen), Err(part)) => assert!(seen.to_string().contains(part), "{which}: {seen}"),
        (seen, _) => panic!("{which}: {seen:?}"),
    };
    check("aaaaaa", Ok(&[("ingest", 3.0), ("null", 5.0)]));
    check("HEAD", Ok(&[("ingest", 3.0), ("null", 5.0)]));
    check("last", Ok(&[("ingest", 5.0), ("null", 5.0)]));
    check("1", Ok(&[("ingest", 2.0)]));
    check("5", Ok(&[("null", 5.0)]));
    check("0", Err("lines 1 to 5"));
    check("6", Err("lines 1 to 5"));
    check("cccccc", Err("recorded are aaaaaaaaaaaa, bbbbbbbbbbbb"));
    check("yesterday", Err("the number of a line"));
    check("aaaa", Err("6 digits"));
    assert!(select(&[], "last", &head).unwrap_err().to_string().contains("--record"));
    assert_eq!(newest(&lines)["ingest"].figures["p99_ms"].max, 3.0);
}

#[test]
fn two_choices_side_by_side() {
    let lines = lines();
    let head = "b".repeat(40);
    let chosen = |which: &str| select(&lines, which, &head).unwrap();
    let text = compare(&chosen("aaaaaa"), &chosen("HEAD")).unwrap();
    assert!(text.contains("2.00 (1.00–3.00) ms"), "{text}");
    assert!(text.contains("4.50 (4.00–5.00) ms"), "{text}");
    let row = text.lines().find(|line| line.contains("4.50 (")).unwrap();
    assert!(row.contains("2.25") && row.contains("apart"), "{row}");
    assert!(text.contains("overlap"), "null is the same on both sides: {text}");
    assert!(!text.contains("NOTE"), "{text}");
    let error = compare(&chosen("1"), &chosen("2")).unwrap_err().to_string();
    assert!(error.contains("A has ingest, B has null"), "{error}");
}

#[test]
fn what_speaks_against_comparing_is_told() {
    let a = line("ingest", 'a', &[1.0]);
    let mut b = a.clone();
    b.cores = 64;
    b.config = "otherwise".to_owned();
    let side = |line| BTreeMap::from([("ingest", line)]);
    let text = compare(&side(&a), &side(&b)).unwrap();
    assert!(text.contains("NOTE these are different machines"), "{text}");
    assert!(text.contains("NOTE B ran: otherwise"), "{text}");
}

#[test]
fn a_line_that_is_no_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("--record"), "{error}");
    let good = serde_json::to_string(&lines()[0]).unwrap();
    std::fs::write(&path, format!("{good}\n\n{{}}\n")).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.ends_with("history.jsonl:3"), "{error}");
    std::fs::write(&path, format!("{good}\n{good}\n")).unwrap();
    assert_eq!(read(&path).unwrap(), vec![lines()[0].clone(); 2]);
}
