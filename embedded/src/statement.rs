//! Splits a request's text into the statement and, for an INSERT, the rows that follow it.
//!
//! Rows never become part of a statement: what is left of an INSERT here ends before FORMAT or
//! VALUES and goes, with the format's name beside it, to the streaming insert call.

use crate::lexer::{Lexer, Token, TokenKind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// An INSERT with rows: `head` is `text[..head_end]`, rows start at `data_start`.
    InsertRows { head_end: usize, format: Option<String>, data_start: usize },
    /// Anything else; `format` from its FORMAT clause.
    Whole { format: Option<String> },
}

pub fn split(text: &[u8]) -> Statement {
    let tokens: Vec<Token> = Lexer::new(text).collect();
    match tokens.first() {
        Some(first) if first.is_word(text, "INSERT") => split_insert(text, &tokens),
        _ => Statement::Whole { format: trailing_format(text, &tokens) },
    }
}

fn split_insert(text: &[u8], tokens: &[Token]) -> Statement {
    let whole = || Statement::Whole { format: None };
    let word_at =
        |index: usize, word: &str| tokens.get(index).is_some_and(|token| token.is_word(text, word));
    let mut index = 1;
    if word_at(index, "INTO") {
        index += 1;
    }
    if word_at(index, "TABLE") {
        index += 1;
    }
    if word_at(index, "FUNCTION") {
        return whole();
    }
    index += 1;
    while tokens.get(index).is_some_and(|token| token.kind == TokenKind::Dot) {
        index += 2;
    }
    for (offset, token) in tokens.iter().enumerate().skip(index) {
        let opens_select = token.kind == TokenKind::Open
            && (word_at(offset + 1, "SELECT") || word_at(offset + 1, "WITH"));
        if opens_select {
            return whole();
        }
        if token.depth > 0 {
            continue;
        }
        if ["SELECT", "WITH", "FROM", "WATCH"].iter().any(|word| token.is_word(text, word)) {
            return whole();
        }
        if token.is_word(text, "VALUES") {
            let format = Some("Values".to_owned());
            return Statement::InsertRows { head_end: token.start, format, data_start: token.end };
        }
        if token.is_word(text, "FORMAT")
            && let Some(name) = tokens.get(offset + 1)
            && name.kind == TokenKind::Word
        {
            let format = Some(text_of(text, name));
            let data_start = skip_line_end(text, name.end);
            return Statement::InsertRows { head_end: token.start, format, data_start };
        }
    }
    Statement::InsertRows { head_end: text.len(), format: None, data_start: text.len() }
}

/// Spaces and one line end separate the format's name from the rows; all else belongs to the rows.
fn skip_line_end(text: &[u8], mut position: usize) -> usize {
    while matches!(text.get(position), Some(b' ' | b'\t' | 0x0c)) {
        position += 1;
    }
    if text.get(position) == Some(&b'\r') {
        position += 1;
    }
    if text.get(position) == Some(&b'\n') {
        position += 1;
    }
    position
}

fn text_of(text: &[u8], token: &Token) -> String {
    String::from_utf8_lossy(&text[token.start..token.end]).into_owned()
}

fn trailing_format(text: &[u8], tokens: &[Token]) -> Option<String> {
    (0..tokens.len().saturating_sub(1)).rev().find_map(|index| {
        let (keyword, name) = (&tokens[index], &tokens[index + 1]);
        let ends_there = tokens.get(index + 2).is_none_or(|after| {
            after.kind == TokenKind::Semicolon || after.is_word(text, "SETTINGS")
        });
        (keyword.depth == 0
            && keyword.is_word(text, "FORMAT")
            && name.kind == TokenKind::Word
            && ends_there)
            .then(|| text_of(text, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_insert(text: &str, head: &str, format: Option<&str>, data: &str) {
        let Statement::InsertRows { head_end, format: found, data_start } = split(text.as_bytes())
        else {
            panic!("not taken for an INSERT with rows: {text}");
        };
        assert_eq!(&text[..head_end], head);
        assert_eq!(found.as_deref(), format);
        assert_eq!(&text[data_start..], data);
    }

    #[test]
    fn insert_is_cut_before_its_rows() {
        check_insert("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", Some("CSV"), "1,2\n");
        check_insert(
            "insert into `a b`.t (x, format) values (1)",
            "insert into `a b`.t (x, format) ",
            Some("Values"),
            " (1)",
        );
        check_insert(
            "INSERT INTO format VALUES (1)",
            "INSERT INTO format ",
            Some("Values"),
            " (1)",
        );
        check_insert(
            "/* FORMAT X */ INSERT INTO t -- FORMAT Y\n FORMAT TSV\n\n1\n",
            "/* FORMAT X */ INSERT INTO t -- FORMAT Y\n ",
            Some("TSV"),
            "\n1\n",
        );
        check_insert("INSERT INTO t (a)", "INSERT INTO t (a)", None, "");
        check_insert(
            "INSERT INTO t FORMAT RowBinary \r\n\n",
            "INSERT INTO t ",
            Some("RowBinary"),
            "\n",
        );
    }

    #[test]
    fn a_blank_line_in_the_rows_does_not_end_them() {
        check_insert(
            "INSERT INTO t FORMAT TSV\na\n\nDROP TABLE t",
            "INSERT INTO t ",
            Some("TSV"),
            "a\n\nDROP TABLE t",
        );
    }

    #[test]
    fn other_statements_stay_whole() {
        let check = |text: &str, format: Option<&str>| {
            let expected = Statement::Whole { format: format.map(str::to_owned) };
            assert_eq!(split(text.as_bytes()), expected, "{text}");
        };
        check("INSERT INTO t SELECT 1", None);
        check("INSERT INTO t (a) (SELECT 1)", None);
        check("INSERT INTO t FROM INFILE 'x' FORMAT CSV", None);
        check("INSERT INTO FUNCTION file('x') VALUES (1)", None);
        check("SELECT 1 FORMAT JSON", Some("JSON"));
        check("SELECT 1 FORMAT JSON SETTINGS max_threads = 1;", Some("JSON"));
        check("SELECT format FROM t", None);
        check("SELECT ' FORMAT JSON'", None);
        check("", None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_bytes_are_split_within_their_bounds(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut insert = b"INSERT INTO t ".to_vec();
            insert.extend_from_slice(&text);
            for input in [&text, &insert] {
                if let Statement::InsertRows { head_end, data_start, .. } = split(input) {
                    prop_assert!(head_end <= data_start && data_start <= input.len());
                }
            }
        }
    }
}
