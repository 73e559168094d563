//! What a bench found, printed as it comes. Knows nothing of what is measured.

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
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        println!("{name}  {:.2} ({least:.2}–{most:.2}) {unit}", sorted[sorted.len() / 2]);
    }

    pub fn finish(self) {}
}
