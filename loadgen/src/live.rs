//! Shows on standard error how a run goes: on a terminal a view that is redrawn in place, elsewhere
//! a plain line now and then. Standard output stays free for the result.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::progress::{Progress, Snapshot};
use crate::schedule::Schedule;

const REDRAW_INTERVAL: Duration = Duration::from_millis(500);
/// A short run tells every second, a longer one every few.
const LINE_INTERVAL_SHORT: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const SHORT_RUN: Duration = Duration::from_secs(10);
const BAR_CELLS: usize = 40;

/// What the view says besides the figures.
pub struct Caption<'a> {
    /// Such as which step of a search this is; empty for nothing.
    pub title: &'a str,
    pub duration: Duration,
    pub schedule: Option<&'a Schedule>,
}

pub struct LiveView<'a> {
    caption: Caption<'a>,
    terminal: bool,
    interval: Duration,
    start: Instant,
    shown_at: Instant,
    before: Snapshot,
    /// Lines of the last drawing, which the next one goes over.
    drawn_lines: usize,
}

impl<'a> LiveView<'a> {
    pub fn new(caption: Caption<'a>, start: Instant) -> Self {
        let terminal = io::stderr().is_terminal();
        let interval = match () {
            () if terminal => REDRAW_INTERVAL,
            () if caption.duration <= SHORT_RUN => LINE_INTERVAL_SHORT,
            () => LINE_INTERVAL,
        };
        LiveView {
            caption,
            terminal,
            interval,
            start,
            shown_at: start,
            before: Snapshot::default(),
            drawn_lines: 0,
        }
    }

    pub fn until_next(&self) -> Duration {
        (self.shown_at + self.interval).saturating_duration_since(Instant::now())
    }

    pub fn show(&mut self, progress: &[Progress]) {
        let mut now = Snapshot::default();
        progress.iter().for_each(|progress| progress.add_to(&mut now));
        let at = Instant::now();
        let rates = Rates::between(&self.before, &now, at - self.shown_at);
        let elapsed = at - self.start;
        let text = if self.terminal {
            self.drawing(elapsed, &rates, &now)
        } else {
            self.line(elapsed, &rates, &now)
        };
        // Nobody to show it to is no reason to stop.
        let _ = io::stderr().write_all(text.as_bytes());
        self.shown_at = at;
        self.before = now;
    }

    /// Takes the view off the terminal.
    pub fn finish(mut self) {
        let text = self.wipe();
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn wipe(&mut self) -> String {
        match std::mem::take(&mut self.drawn_lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn drawing(&mut self, elapsed: Duration, rates: &Rates, now: &Snapshot) -> String {
        let mut text = self.wipe();
        let total_s = self.caption.duration.as_secs_f64();
        let done = (elapsed.as_secs_f64() / total_s).clamp(0.0, 1.0);
        let cells = (done * BAR_CELLS as f64) as usize;
        let due = self.caption.schedule.map_or_else(String::new, |schedule| {
            format!(" of {} due", grouped(schedule.rate_at(elapsed.as_nanos() as u64)))
        });
        let lines = [
            self.caption.title.to_owned(),
            format!(
                "[{}{}] {:.0} s of {total_s:.0} s{}",
                "#".repeat(cells),
                ".".repeat(BAR_CELLS - cells),
                elapsed.as_secs_f64(),
                self.waiting(elapsed)
            ),
            format!("now      {}", rates.text(&due)),
            format!("so far   {}", percentiles(now)),
            format!("errors   {} now, {} so far", rates.errors, now.errors),
        ];
        for line in lines.iter().filter(|line| !line.is_empty()) {
            // Lines that wrap would make the next drawing begin in the wrong place.
            let line: String = line.chars().take(terminal_columns() - 1).collect();
            text.push_str(&line);
            text.push('\n');
            self.drawn_lines += 1;
        }
        text
    }

    fn line(&self, elapsed: Duration, rates: &Rates, now: &Snapshot) -> String {
        let mut text = String::new();
        if !self.caption.title.is_empty() {
            let _ = write!(text, "{}: ", self.caption.title);
        }
        let _ = writeln!(
            text,
            "{:.0} s of {:.0} s  {}  {} errors  so far {}{}",
            elapsed.as_secs_f64(),
            self.caption.duration.as_secs_f64(),
            rates.text(""),
            rates.errors,
            percentiles(now),
            self.waiting(elapsed)
        );
        text
    }

    fn waiting(&self, elapsed: Duration) -> &'static str {
        if elapsed > self.caption.duration { ", waiting for answers" } else { "" }
    }
}

/// What happened between two looks, by the second.
struct Rates {
    events_per_s: f64,
    requests_per_s: f64,
    bytes_per_s: f64,
    /// Not by the second: how many there were.
    errors: u64,
}

impl Rates {
    fn between(before: &Snapshot, now: &Snapshot, elapsed: Duration) -> Self {
        let per_s = |before: u64, now: u64| {
            now.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(1e-3)
        };
        Rates {
            events_per_s: per_s(before.events, now.events),
            requests_per_s: per_s(before.answers, now.answers),
            bytes_per_s: per_s(before.sent_bytes, now.sent_bytes),
            errors: now.errors.saturating_sub(before.errors),
        }
    }

    /// `due` stands behind the requests.
    fn text(&self, due: &str) -> String {
        let (events, requests) = (grouped(self.events_per_s), grouped(self.requests_per_s));
        let megabytes = self.bytes_per_s / 1e6;
        format!("{events} events/s  {requests} requests/s{due}  {megabytes:.1} MB/s")
    }
}

fn percentiles(now: &Snapshot) -> String {
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let shown = quantiles.map(|(name, quantile)| match now.latency.quantile_ns(quantile) {
        Some(ns) => format!("{name} {:.2} ms", ns as f64 / 1e6),
        None => format!("{name} -"),
    });
    shown.join("  ")
}

/// `1234567` as `1,234,567`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn terminal_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    // Some terminals do not know their size and say 0.
    let columns = size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    columns.unwrap_or(80).clamp(20, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (value, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1e7, "10,000,000")] {
            assert_eq!(grouped(value), text);
        }
    }

    fn view(terminal: bool) -> LiveView<'static> {
        let caption =
            Caption { title: "step 3", duration: Duration::from_secs(10), schedule: None };
        LiveView { terminal, ..LiveView::new(caption, Instant::now()) }
    }

    fn snapshot(events: u64, errors: u64) -> Snapshot {
        let mut snapshot = Snapshot { events, answers: events, errors, ..Snapshot::default() };
        snapshot.latency.record(2_000_000);
        snapshot
    }

    #[test]
    fn a_drawing_goes_over_the_one_before() {
        let mut view = view(true);
        let rates =
            Rates::between(&snapshot(0, 1), &snapshot(5_000, 4), Duration::from_millis(500));
        let first = view.drawing(Duration::from_secs(5), &rates, &snapshot(5_000, 4));
        assert!(
            first.starts_with("step 3\n[####################....................] 5 s of 10 s")
        );
        assert!(first.contains("10,000 events/s"), "{first}");
        assert!(first.contains("3 now, 4 so far"), "{first}");
        assert!(first.contains("p50 2.0"), "{first}");
        let lines = first.lines().count();
        let second = view.drawing(Duration::from_secs(11), &rates, &snapshot(5_000, 4));
        assert!(second.starts_with(&format!("\x1b[{lines}A\r\x1b[Jstep 3\n")), "{second:?}");
        assert!(second.contains("waiting for answers"));
        assert_eq!(view.wipe(), format!("\x1b[{lines}A\r\x1b[J"));
        assert_eq!(view.wipe(), "");
    }

    /// The widest figures that a machine of today makes fit into 80 columns.
    #[test]
    fn a_drawing_says_what_is_due_within_80_columns() {
        let stages = "10s@1000..1000000".parse().expect("these are stages");
        let schedule = Schedule::new(&stages, 1);
        let caption = Caption {
            title: "step 12, confirming: 1000000 requests/s",
            duration: Duration::from_secs(600),
            schedule: Some(&schedule),
        };
        let mut view = LiveView { terminal: true, ..LiveView::new(caption, Instant::now()) };
        let rates = Rates {
            events_per_s: 12_345_678.0,
            requests_per_s: 500_123.0,
            bytes_per_s: 2.5e9,
            errors: 100_000,
        };
        let drawing = view.drawing(Duration::from_secs(5), &rates, &snapshot(5_000, 1_000_000));
        let now = "now      12,345,678 events/s  500,123 requests/s of 500,500 due  2500.0 MB/s";
        assert_eq!(drawing.lines().nth(2), Some(now));
        assert!(drawing.lines().all(|line| line.chars().count() < 80), "{drawing}");
    }

    #[test]
    fn without_a_terminal_it_is_a_line() {
        let rates = Rates::between(&snapshot(0, 0), &snapshot(5_000, 0), Duration::from_secs(1));
        let line = view(false).line(Duration::from_secs(5), &rates, &snapshot(5_000, 0));
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("step 3: 5 s of 10 s  5,000 events/s"), "{line}");
        assert!(!line.contains('\x1b'));
    }
}
