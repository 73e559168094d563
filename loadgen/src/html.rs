//! The report as one page for any browser: tiles, plots drawn as SVG, tables. Nothing in it runs or
//! is loaded from elsewhere. Every text that came from outside is escaped where it is put in.

mod plot;
mod run;
mod search;

use std::fmt::Write;

pub use self::run::run_page;
pub use self::search::search_page;

const STYLE: &str = include_str!("html/style.css");

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A page from parts that are HTML already; the title is not.
fn page(title: &str, subtitle: &str, parts: &[String]) -> String {
    let (title, subtitle) = (escape(title), escape(subtitle));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n\
         <h1>{title}</h1>\n<p class=\"sub\">{subtitle}</p>\n{}\n\
         <footer>unmogrowp-loadgen {}</footer>\n</main></body></html>\n",
        parts.join("\n"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// A figure that should be seen first.
struct Tile {
    name: &'static str,
    value: String,
    note: String,
    bad: bool,
}

fn tile(name: &'static str, value: impl Into<String>, note: impl Into<String>) -> Tile {
    Tile { name, value: value.into(), note: note.into(), bad: false }
}

fn tiles(tiles: &[Tile]) -> String {
    // Rows of three or of four, whichever leaves no gap.
    let threes = tiles.len().is_multiple_of(3) && !tiles.len().is_multiple_of(4);
    let mut html = format!("<div class=\"tiles{}\">", if threes { " threes" } else { "" });
    for tile in tiles {
        let _ = write!(
            html,
            "<div class=\"tile{}\"><div class=\"name\">{}</div><div class=\"value\">{}</div>\
             <div class=\"note\">{}</div></div>",
            if tile.bad { " bad" } else { "" },
            escape(tile.name),
            escape(&tile.value),
            escape(&tile.note)
        );
    }
    html + "</div>"
}

fn warnings(texts: &[String]) -> String {
    // A flag's hyphens are no place to break a line.
    let whole_flags = |text: &str| escape(text).replace("--", "-&NoBreak;-&NoBreak;");
    let texts = texts.iter().map(|text| format!("<p class=\"warning\">{}</p>", whole_flags(text)));
    texts.collect()
}

fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], tag: &str| -> String {
        row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let head: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!(
        "<section><h2>{}</h2><div class=\"scroll\"><table><thead><tr>{}</tr></thead>\n\
         <tbody>{rows}</tbody></table></div></section>",
        escape(title),
        cells(&head, "th")
    )
}

/// Whatever a report holds as its configuration, one line each.
fn config_table(config: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(config).unwrap_or_default();
    let rows = value.as_object().into_iter().flatten().map(|(name, value)| {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        vec![name.replace('_', " "), text]
    });
    table("Configuration", &["setting", "value"], &rows.collect::<Vec<_>>())
}

fn ms(us: f64) -> String {
    match us / 1e3 {
        ms if ms >= 999.5 => format!("{:.2} s", ms / 1e3),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits_and_a_unit_that_fits() {
        let check = |us: f64, expected: &str| assert_eq!(ms(us), expected, "{us}");
        check(0.0, "0.00 ms");
        check(1_234.0, "1.23 ms");
        check(12_340.0, "12.3 ms");
        check(123_400.0, "123 ms");
        check(999_900.0, "1.00 s");
        check(1_234_000.0, "1.23 s");
    }

    #[test]
    fn flags_are_not_broken_over_lines() {
        let html = warnings(&["give it more --threads".to_owned()]);
        assert!(html.contains("more -&NoBreak;-&NoBreak;threads"), "{html}");
    }

    #[test]
    fn what_came_from_outside_is_escaped() {
        let evil = "<script>alert(\"x\" & 'y')</script>";
        let safe = "&lt;script&gt;alert(&quot;x&quot; &amp; &#39;y&#39;)&lt;/script&gt;";
        for html in [
            escape(evil),
            page(evil, evil, &[]),
            tiles(&[tile("x", evil, evil)]),
            warnings(&[evil.to_owned()]),
            table(evil, &[evil], &[vec![evil.to_owned()]]),
            config_table(&serde_json::json!({"url": evil})),
        ] {
            assert!(html.contains(safe), "{html}");
            assert!(!html.contains("<script"), "{html}");
        }
    }
}
