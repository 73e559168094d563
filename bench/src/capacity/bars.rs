//! Charts of text, with Unicode's block characters.

const UP: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const RIGHT: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A column of `rows` lines for each value, from 0 to `top`, which stands at the left of its line.
pub fn columns(values: &[f64], top: f64, rows: usize, label: impl Fn(f64) -> String) -> String {
    assert!(top > 0.0 && rows > 0);
    let labels: Vec<String> =
        (0..rows).map(|row| label(top * (rows - row) as f64 / rows as f64)).collect();
    let width = labels.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (row, name) in labels.iter().enumerate() {
        let floor = (rows - row - 1) as f64;
        let cell = |value: &f64| {
            let eighths = ((value / top * rows as f64 - floor) * 8.0).round();
            UP[eighths.clamp(0.0, 8.0) as usize]
        };
        let line: String = values.iter().map(cell).collect();
        text.push_str(format!("{name:>width$} ┤{}", line).trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:>width$} └{}\n", "", "─".repeat(values.len())));
    text
}

/// A line for each, as long as its count by the largest, which is `width` wide.
pub fn lines(counted: &[(String, usize)], width: usize) -> String {
    let most = counted.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let names = counted.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, count) in counted {
        // What is there is seen.
        let eighths = (count * width * 8).div_ceil(most);
        let mut bar = "█".repeat(eighths / 8);
        if !eighths.is_multiple_of(8) {
            bar.push(RIGHT[eighths % 8]);
        }
        text.push_str(format!("{name:>names$} │{bar} {count}").trim_end());
        text.push('\n');
    }
    text
}

/// How many values lie in each band of `width` from the lowest to the highest, as percent.
pub fn bands(values: &[f64], width: f64) -> Vec<(String, usize)> {
    let band = |value: f64| (value / width + 1e-9) as usize;
    let first = values.iter().copied().map(band).min().unwrap_or(0);
    let last = values.iter().copied().map(band).max().unwrap_or(0);
    let mut counted: Vec<(String, usize)> = (first..=last)
        .map(|at| {
            let from = at as f64 * width * 100.0;
            (format!("{from:.0}–{:.0} %", from + width * 100.0), 0)
        })
        .collect();
    for value in values {
        counted[band(*value) - first].1 += 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_high_as_its_value() {
        let text = columns(&[0.0, 0.25, 0.5, 0.75, 1.0, 2.0], 1.0, 2, |top| format!("{top:.1}"));
        assert_eq!(text, "1.0 ┤   ▄██\n0.5 ┤ ▄████\n    └──────\n");
    }

    #[test]
    fn a_line_is_as_long_as_its_count() {
        let counted = bands(&[0.1, 0.12, 0.31, 0.5], 0.1);
        let text = lines(&counted, 2);
        assert_eq!(text, "10–20 % │██ 2\n20–30 % │ 0\n30–40 % │█ 1\n40–50 % │ 0\n50–60 % │█ 1\n");
    }
}
