//! What a bench found, printed at once: median, least and most of its runs.

pub struct Recorder {
    bench: String,
}

impl Recorder {
    pub fn from_args(bench: &str) -> Recorder {
        Recorder { bench: bench.to_owned() }
    }

    /// What was run, in one line.
    pub fn config(&mut self, text: &str) {
        println!("{}: {text}", self.bench);
    }

    pub fn figure(&mut self, name: &str, unit: &str, runs: &[f64]) {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        let (median, min, max) = ((low + high) / 2.0, sorted[0], sorted[sorted.len() - 1]);
        println!("{name}  {median:.3} ({min:.3}–{max:.3}) {unit}");
    }

    pub fn finish(self) {}
}
