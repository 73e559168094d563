//! Figures as text: numbers that can be read, columns that stand below each other.

/// With three digits that count, or all of those before the point, thousands apart.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => (2.0 - size.log10().floor()).min(9.0) as usize,
    };
    let text = format!("{value:.decimals$}");
    let whole = text.find('.').unwrap_or(text.len());
    let mut grouped = String::with_capacity(text.len() + text.len() / 3);
    for (at, digit) in text.char_indices() {
        let before_point = whole.saturating_sub(at);
        let follows_digit = grouped.ends_with(|c: char| c.is_ascii_digit());
        if at < whole && before_point.is_multiple_of(3) && follows_digit {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A line for each row, its cells as wide as the widest of their column.
pub fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!(" {cell:<width$} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["ab–", "22"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "  a    1\n  ab–  22\n");
    }

    #[test]
    fn numbers_can_be_read() {
        let check = |value: f64, expected| assert_eq!(number(value), expected, "{value}");
        check(0.0, "0");
        check(0.0123456, "0.0123");
        check(0.5, "0.500");
        check(5.678, "5.68");
        check(56.78, "56.8");
        check(567.8, "568");
        check(5678.0, "5,678");
        check(1_234_567.8, "1,234,568");
        check(-1_234.0, "-1,234");
        check(-123.0, "-123");
    }
}
