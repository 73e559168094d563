//! Tokens of ClickHouse SQL, as far as finding words at the top level needs them.
//!
//! Owns: where comments, strings, quoted identifiers and parentheses begin and end. Must not be the
//! reason why anything is allowed: what a statement may do is asked of the engine's parser (see
//! `guard`). A text that this lexer reads otherwise than the engine is refused or fails to parse.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Word,
    QuotedName,
    Text,
    Number,
    Open,
    Close,
    Dot,
    Semicolon,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
    /// Parentheses open around the token; an opening one counts itself, a closing one does not.
    pub depth: usize,
}

impl Token {
    pub fn is_word(&self, sql: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Word
            && sql[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }
}

/// Iterates over the tokens; ends early, with what it has, at an unclosed string or comment.
pub struct Lexer<'sql> {
    sql: &'sql [u8],
    position: usize,
    depth: usize,
}

impl<'sql> Lexer<'sql> {
    pub fn new(sql: &'sql [u8]) -> Self {
        Lexer { sql, position: 0, depth: 0 }
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.sql[self.position..].starts_with(prefix)
    }

    fn skip_past(&mut self, needle: &[u8]) {
        let rest = &self.sql[self.position..];
        let found = rest.windows(needle.len()).position(|window| window == needle);
        self.position += found.map_or(rest.len(), |index| index + needle.len());
    }

    fn skip_space_and_comments(&mut self) {
        while let Some(&byte) = self.sql.get(self.position) {
            if byte.is_ascii_whitespace() || byte == 0x0b {
                self.position += 1;
            } else if self.starts_with(b"--")
                || self.starts_with(b"//")
                || self.starts_with(b"# ")
                || self.starts_with(b"#!")
            {
                self.skip_past(b"\n");
            } else if self.starts_with(b"/*") {
                self.position += 2;
                self.skip_past(b"*/");
            } else {
                return;
            }
        }
    }

    /// Past the closing quote; a backslash and a doubled quote each escape. False if unclosed.
    fn skip_quoted(&mut self, quote: u8) -> bool {
        self.position += 1;
        while let Some(&byte) = self.sql.get(self.position) {
            self.position += 1;
            if byte == b'\\' {
                self.position += 1;
            } else if byte == quote {
                if self.sql.get(self.position) != Some(&quote) {
                    return true;
                }
                self.position += 1;
            }
        }
        self.position = self.sql.len();
        false
    }

    /// `$tag$ … $tag$`. False if what stands here is not one.
    fn skip_heredoc(&mut self) -> bool {
        let rest = &self.sql[self.position..];
        let tag_length = rest[1..].iter().take_while(|byte| is_word_byte(**byte)).count();
        if rest.get(tag_length + 1) != Some(&b'$') {
            return false;
        }
        let tag = &rest[..tag_length + 2];
        let Some(close) = rest[tag.len()..].windows(tag.len()).position(|window| window == tag)
        else {
            return false;
        };
        self.position += close + 2 * tag.len();
        true
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) {
        let rest = &self.sql[self.position..];
        self.position += rest.iter().take_while(|byte| accept(**byte)).count();
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_space_and_comments();
        let start = self.position;
        let first = *self.sql.get(start)?;
        let mut depth = self.depth;
        let kind = match first {
            b'\'' => self.skip_quoted(b'\'').then_some(TokenKind::Text)?,
            b'`' | b'"' => self.skip_quoted(first).then_some(TokenKind::QuotedName)?,
            b'$' if self.skip_heredoc() => TokenKind::Text,
            b'0'..=b'9' => {
                self.take_while(is_word_byte);
                TokenKind::Number
            }
            _ if is_word_byte(first) => {
                self.take_while(|byte| is_word_byte(byte) || byte == b'$');
                TokenKind::Word
            }
            b'(' | b'[' | b'{' => {
                self.position += 1;
                self.depth += 1;
                depth = self.depth;
                TokenKind::Open
            }
            b')' | b']' | b'}' => {
                self.position += 1;
                self.depth = self.depth.saturating_sub(1);
                depth = self.depth;
                TokenKind::Close
            }
            b';' => {
                self.position += 1;
                TokenKind::Semicolon
            }
            b'.' => {
                self.position += 1;
                TokenKind::Dot
            }
            _ => {
                self.position += 1;
                TokenKind::Other
            }
        };
        Some(Token { kind, start, end: self.position, depth })
    }
}
