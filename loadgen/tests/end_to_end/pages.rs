//! The pages that `--html` writes.

use std::path::Path;

use crate::stand_in::{load, load_exactly, reply, serve};

/// A page that begins and ends well, loads nothing and runs nothing.
fn read_page(path: &Path) -> String {
    let html = std::fs::read_to_string(path).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    for foreign in ["<script", "src=", "href=", "url(", "@import", "http-equiv", "NaN", "inf,"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for (open, close) in [("<svg", "</svg>"), ("<section", "</section>"), ("<div", "</div>")] {
        assert_eq!(html.matches(open).count(), html.matches(close).count(), "{open}");
    }
    html
}

#[test]
fn a_run_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.html");
    let address = serve(|request| reply(if request.number % 10 == 3 { 503 } else { 200 }));
    let flags = ["--connections", "2", "--batch", "3", "--html", path.to_str().unwrap()];
    let run = load_exactly(100, address, &flags);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let html = read_page(&path);
    assert_eq!(html.matches("<svg").count(), 3);
    for text in [
        "Requests over time",
        "Corrected latency over time",
        "Latency distribution",
        "answered 503",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("<td>10</td><td>10.000 %</td>"), "the share of 503");
    assert!(!html.contains(">key<"), "the key is no setting to show");
    assert!(html.contains("<div class=\"name\">errors</div><div class=\"value\">10</div>"));
    assert!(html.contains(" UTC · "), "when it began");
}

/// Two requests are due on a connection whose first answer comes too late for the second.
#[test]
fn what_was_not_sent_is_told_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.html");
    let address = serve(|_| {
        // The answer's own duration: longer than requests are sent.
        std::thread::sleep(std::time::Duration::from_secs(2));
        reply(200)
    });
    let flags = ["--connections", "1", "--rate", "2", "--duration", "1"];
    load(address, &[&flags[..], &["--html", path.to_str().unwrap()]].concat());
    let html = read_page(&path);
    let tile =
        "<div class=\"tile bad\"><div class=\"name\">unsent</div><div class=\"value\">1</div>";
    assert!(html.contains(tile), "{html}");
}

#[test]
fn a_search_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("search.html");
    let address = serve(|_| reply(200));
    let flags =
        ["search", "--bound", "p99<9s", "--bound", "max<9s", "--start", "10", "--max", "10"];
    let more = ["--duration", "500ms", "--rest", "1ms", "--html", path.to_str().unwrap()];
    let run = load(address, &[&flags[..], &more].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let html = read_page(&path);
    assert_eq!(html.matches("<svg").count(), 2, "one for each bound");
    assert!(html.contains("p99&lt;9s and max&lt;9s"));
    assert_eq!(html.matches("<td>confirming</td>").count(), 1);
    assert!(html.contains("all that --max allows"));
}

#[test]
fn a_page_that_can_not_be_written_is_told_of() {
    let address = serve(|_| reply(200));
    let run = load(address, &["--rate", "5", "--duration", "500ms", "--html", "/nonexistent/x"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("/nonexistent/x"), "{}", run.stderr);
    assert!(run.stdout.contains("events/s"), "the result is there all the same");
}
