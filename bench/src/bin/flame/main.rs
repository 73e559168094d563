//! `unmogrowp-flame`: what `perf script` prints, as a flame graph and a table. `./dev profile` runs it.
//!
//! Owns the way from samples to a picture. It takes no samples and knows nothing of what was sampled.

mod samples;
mod svg;
mod symbols;
mod table;
mod tree;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use symbols::Symbols;
use tree::Tree;

/// Reads `perf script --no-inline -F comm,tid,ip,sym,dso` from its input, writes a flame graph and
/// prints the functions that took the most.
#[derive(Parser)]
#[command(name = "unmogrowp-flame", version)]
struct Arguments {
    /// The picture: one file that loads nothing from elsewhere
    #[arg(long, short = 'o', value_name = "FILE")]
    out: PathBuf,
    /// Stands above the picture
    #[arg(long, default_value = "flame graph")]
    title: String,
    /// Functions in the table
    #[arg(long, default_value_t = 25)]
    top: usize,
    /// Also show inlined functions of the standard library; their time is their callers' otherwise
    #[arg(long)]
    std: bool,
    /// What one sample stands for, in microseconds, and by how many requests to divide it: adds the
    /// CPU time of a request to the table
    #[arg(long, default_value_t = 1001.001)]
    sample_us: f64,
    #[arg(long)]
    requests: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut symbols = Symbols::new(arguments.std);
    let mut tree = Tree::new();
    samples::read(io::stdin().lock(), |sample| {
        let stack = symbols.resolve(sample);
        tree.add(&stack);
    })
    .context("reading what perf script prints")?;
    anyhow::ensure!(tree.samples() > 0, "there is no sample in the input: the process used no CPU");
    let picture = svg::draw(&tree, &arguments.title);
    std::fs::write(&arguments.out, picture)
        .with_context(|| format!("writing {}", arguments.out.display()))?;
    let cost = arguments.requests.filter(|requests| *requests > 0);
    let us_per_sample = cost.map(|requests| arguments.sample_us / requests as f64);
    let text = table::render(&tree, arguments.top, us_per_sample);
    io::stdout().write_all(text.as_bytes()).context("printing the table")
}
