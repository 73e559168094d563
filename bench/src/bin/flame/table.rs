//! The functions that took the most, as text: the kernel's and the rest apart, each with its own
//! time and with that of what it called.

use std::fmt::Write;

use super::symbols::{Frame, Owner};
use super::tree::{Share, Tree};

const NAME_CHARS_MAX: usize = 100;

/// `us_per_sample`: microseconds of a request's CPU that one sample stands for.
pub fn render(tree: &Tree, top: usize, us_per_sample: Option<f64>) -> String {
    let mut functions: Vec<(&Frame, Share)> = tree.functions().filter(|(_, s)| s.own > 0).collect();
    functions.sort_by(|(a, x), (b, y)| y.own.cmp(&x.own).then_with(|| a.cmp(b)));
    functions.truncate(top);
    let (all, kernel) = (tree.samples(), tree.kernel_samples());
    let mut text = String::new();
    line(&mut text, format_args!("{all} samples"));
    for node in tree.children(tree.root()) {
        let name = &node.frame.name;
        line(&mut text, format_args!("{:>7}  thread {name}", percent(node.total, all)));
    }
    for (heading, samples, is_kernel) in [("user", all - kernel, false), ("kernel", kernel, true)] {
        let cost = us_per_sample.map(|us| format!(", {:.3} us a request", us * samples as f64));
        let cost = cost.unwrap_or_default();
        line(
            &mut text,
            format_args!("\n{heading}: {} of the samples{cost}", percent(samples, all)),
        );
        line(
            &mut text,
            format_args!("   self    total{}", us_per_sample.map_or("", |_| "  self us")),
        );
        let of_these = functions.iter().filter(|(f, _)| (f.owner == Owner::Kernel) == is_kernel);
        for (frame, share) in of_these {
            let us = us_per_sample.map(|us| format!(" {:8.3}", us * share.own as f64));
            let (own, total) = (percent(share.own, all), percent(share.total, all));
            let (us, name) = (us.unwrap_or_default(), shortened(&frame.name));
            line(&mut text, format_args!("{own:>7}  {total:>7}{us}  {name}"));
        }
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a String takes any text");
}

fn percent(part: u64, all: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / all.max(1) as f64)
}

/// The end of a path says more than its beginning.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(length - NAME_CHARS_MAX + 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_the_kernel_apart() {
        let mut tree = Tree::new();
        let frame = |name: &str, owner| Frame { name: name.into(), owner };
        let thread = frame("shard-0", Owner::Library);
        for (name, owner, times) in
            [("small", Owner::Ours, 1), ("large", Owner::Ours, 6), ("copy", Owner::Kernel, 3)]
        {
            for _ in 0..times {
                tree.add(&[thread.clone(), frame(name, owner)]);
            }
        }
        let text = render(&tree, 2, Some(2.0));
        let places: Vec<Option<usize>> = [
            "10 samples",
            "100.0 %  thread shard-0",
            "user: 70.0 %",
            "large",
            "kernel: 30.0 %",
            "copy",
        ]
        .iter()
        .map(|part| text.find(part))
        .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
        assert!(!text.contains("small"), "{text}");
        assert!(text.contains("   12.000  large"), "{text}");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let name = format!("{}end", "é".repeat(200));
        let short = shortened(&name);
        assert!(short.ends_with("end") && short.chars().count() == NAME_CHARS_MAX, "{short}");
    }
}
