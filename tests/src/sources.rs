//! The files of the repository, for the tests that read it instead of running it.

use std::path::{Path, PathBuf};

use crate::process::checkout;

pub struct Source {
    /// From the root of the checkout, with `/`.
    pub path: String,
    pub text: String,
}

/// Every file under the root whose name ends like that, without what builds and runs leave behind.
pub fn sources(ending: &str) -> Vec<Source> {
    let root = checkout();
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut sources: Vec<Source> = paths
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .map(|path| Source {
            path: relative(&root, &path),
            text: std::fs::read_to_string(&path).expect("sources are UTF-8"),
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!sources.is_empty(), "no file ends with {ending}");
    sources
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    const LEFT_OUT: [&str; 4] = ["target", "data", "out", ".git"];
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if !path.is_dir() {
            paths.push(path);
        } else if !LEFT_OUT.contains(&name.as_str()) {
            collect(&path, paths);
        }
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("collected below the root").to_string_lossy().replace('\\', "/")
}

impl Source {
    /// A file of nothing but tests: integration tests, and unit tests beside their module.
    pub fn is_test_file(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// Numbered lines of code: without comments, the insides of strings, and `#[cfg(test)]` modules.
    pub fn code_lines(&self) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        let mut state = State::Code;
        let mut test_module_depth: Option<i32> = None;
        let mut awaits_module = false;
        for (index, line) in self.text.lines().enumerate() {
            let code = strip(line, &mut state);
            let trimmed = code.trim();
            if let Some(depth) = &mut test_module_depth {
                *depth += braces(&code);
                if *depth <= 0 {
                    test_module_depth = None;
                }
                continue;
            }
            if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(all(test") {
                awaits_module = true;
                continue;
            }
            if awaits_module && (trimmed.is_empty() || trimmed.starts_with("#[")) {
                continue;
            }
            if awaits_module {
                awaits_module = false;
                let depth = braces(&code);
                if depth > 0 {
                    test_module_depth = Some(depth);
                }
                continue;
            }
            if !trimmed.is_empty() {
                lines.push((index + 1, code));
            }
        }
        lines
    }
}

enum State {
    Code,
    BlockComment,
    /// Inside a string that goes on over the line's end.
    Text,
    /// The same, closed by a quote and so many `#`.
    RawText(usize),
}

fn braces(code: &str) -> i32 {
    let count = |wanted: char| code.chars().filter(|&character| character == wanted).count() as i32;
    count('{') - count('}')
}

/// One line without comments and without what stands between quotes.
fn strip(line: &str, state: &mut State) -> String {
    let mut code = String::new();
    let characters: Vec<char> = line.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let hashes = |from: usize| characters[from..].iter().take_while(|&&c| c == '#').count();
    let mut index = 0;
    while index < characters.len() {
        match state {
            State::BlockComment => {
                if at(index) == '*' && at(index + 1) == '/' {
                    *state = State::Code;
                    index += 1;
                }
            }
            State::Text => match at(index) {
                '\\' => index += 1,
                '"' => {
                    *state = State::Code;
                    code.push('"');
                }
                _ => {}
            },
            State::RawText(count) => {
                if at(index) == '"' && hashes(index + 1) >= *count {
                    index += *count;
                    *state = State::Code;
                    code.push('"');
                }
            }
            State::Code => {
                let before = index.checked_sub(1).map_or(' ', at);
                let in_word = before.is_alphanumeric() || before == '_';
                let raw = at(index) == 'r' && (!in_word || before == 'b');
                match at(index) {
                    '/' if at(index + 1) == '/' => return code,
                    '/' if at(index + 1) == '*' => *state = State::BlockComment,
                    '"' => {
                        *state = State::Text;
                        code.push('"');
                    }
                    'r' if raw && at(index + 1 + hashes(index + 1)) == '"' => {
                        let count = hashes(index + 1);
                        *state = State::RawText(count);
                        index += 1 + count;
                        code.push('"');
                    }
                    // A character, not a lifetime: '{', '\'', '"'.
                    '\'' if at(index + 1) == '\\' => {
                        index += 2;
                        while index + 1 < characters.len() && at(index + 1) != '\'' {
                            index += 1;
                        }
                        index += 1;
                    }
                    '\'' if at(index + 2) == '\'' => index += 2,
                    other => code.push(other),
                }
            }
        }
        index += 1;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let source = Source { path: "engine/src/x.rs".to_owned(), text: text.to_owned() };
        let lines: Vec<String> =
            source.code_lines().into_iter().map(|(_, line)| line.trim().to_owned()).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn code_is_what_is_neither_comment_nor_text_nor_test() {
        check("let a = 1; // unwrap()", &["let a = 1;"]);
        check("a(\"x.unwrap()\");", &["a(\"\");"]);
        check("a(r#\"\"quoted\" unsafe\"#); b", &["a(\"\"); b"]);
        check("a('\"'); b // c", &["a(); b"]);
        check("a('\\''); b", &["a(); b"]);
        check("fn f<'a>(x: &'a str) {}", &["fn f<'a>(x: &'a str) {}"]);
        check("a /* b\nc */ d", &["a", "d"]);
        check("a(\"x\n  unsafe\"); b", &["a(\"", "\"); b"]);
        check("a\n#[cfg(test)]\nmod tests {\n fn f() { b }\n}\nc", &["a", "c"]);
        check("#[cfg(test)]\n#[path = \"x\"]\nmod x_tests;\nc", &["c"]);
    }
}
