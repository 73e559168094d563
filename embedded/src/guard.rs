//! Which statements run. Three layers, none of which reads SQL by pattern alone:
//!
//! 1. The engine's access rights (`engine_config`): no source, table engine, SYSTEM command, backup,
//!    user, function or dictionary that is not granted, however the statement is written.
//! 2. The engine's own classification of exactly the text that will run: one statement, and neither
//!    session control nor INTO OUTFILE, ATTACH, KILL, INSERT INTO FUNCTION.
//! 3. The engine's own syntax tree, for what rights do not cover: the *ordinary* functions that read
//!    files or reach the network (`file('/etc/passwd')` needs no right in an embedded engine), table
//!    functions and engines not on the list below. A text that holds none of their names, no
//!    backslash (a quoted name may spell letters as escapes) and creates nothing skips this layer.
//!
//! What the tree hides is refused when a denied name might be in it (`APPLY`, `SHOW … WHERE`), and
//! the keyword INFILE, which cannot be spelled otherwise, is refused wherever it stands outside a
//! read. Values that arrive as parameters or rows are never SQL.

use crate::chdb::{Connection, Params, StatementClass};
use crate::exception::{Code, Exception};

/// Table functions that touch local tables and made-up rows alone. All others are denied.
const TABLE_FUNCTIONS: &[&str] = &[
    "dictionary",
    "format",
    "generate_series",
    "generateRandom",
    "generateSeries",
    "input",
    "loop",
    "merge",
    "mergeTreeAnalyzeIndexes",
    "mergeTreeAnalyzeIndexesUUID",
    "mergeTreeIndex",
    "mergeTreeProjection",
    "mergeTreeTextIndex",
    "null",
    "numbers",
    "numbers_mt",
    "primes",
    "SQLStandardValues",
    "values",
    "view",
    "viewExplain",
    "viewIfPermitted",
    "zeros",
    "zeros_mt",
];

/// Ordinary functions that read files, load models or talk to other hosts.
const FUNCTIONS_DENIED: &[&str] = &[
    "file",
    "catboostEvaluate",
    "hasColumnInTable",
    "aiClassify",
    "aiEmbed",
    "aiExtract",
    "aiGenerate",
    "aiTranslate",
    "reverseDNSQuery",
    "evalMLMethod",
    "disk",
];

/// Engines that keep what they hold in the data directory or in memory.
const ENGINES: &[&str] = &[
    "AggregatingMergeTree",
    "Atomic",
    "CollapsingMergeTree",
    "Memory",
    "MergeTree",
    "Null",
    "ReplacingMergeTree",
    "SummingMergeTree",
    "VersionedCollapsingMergeTree",
];

/// Nodes of the tree that keep expressions to themselves.
const OPAQUE_NODES: &[&str] = &["ColumnsApplyTransformer", "Show"];

pub struct Guard {
    /// Lower case.
    names_denied: Vec<String>,
}

impl Guard {
    /// Asks the engine for its table functions, so that one that a later engine adds is denied.
    pub fn new(connection: &mut Connection) -> Result<Guard, Exception> {
        let answer = connection
            .query(b"SELECT name FROM system.table_functions", "TSVRaw", &[])
            .map_err(Exception::from_engine)?;
        let names = String::from_utf8_lossy(answer.bytes());
        let table_functions = names.lines().filter(|name| !TABLE_FUNCTIONS.contains(name));
        let mut names_denied: Vec<String> = table_functions
            .chain(FUNCTIONS_DENIED.iter().copied())
            .map(str::to_ascii_lowercase)
            .collect();
        names_denied.sort_unstable();
        names_denied.dedup();
        Ok(Guard { names_denied })
    }

    /// Says what class of statement `sql` is, or why it does not run.
    pub fn admit(
        &self,
        connection: &mut Connection,
        sql: &[u8],
        params: &Params,
    ) -> Result<StatementClass, Exception> {
        let analysis = connection.classify(sql);
        match analysis.class {
            StatementClass::Unknown => return Err(unknown_statement(connection, sql)),
            _ if analysis.statement_count != 1 => {
                return Err(Exception::new(
                    Code::SyntaxError,
                    "Syntax error (Multi-statements are not allowed): one request, one statement",
                ));
            }
            // The classifier counts a mutation with a SETTINGS clause as session control.
            StatementClass::Control if is_mutation(connection, sql, params) => {}
            StatementClass::Control => {
                return Err(denied(
                    "SET, USE, SYSTEM, BACKUP, RESTORE, ATTACH, DETACH, KILL, FREEZE, temporary \
                     tables, INTO OUTFILE and INSERT INTO FUNCTION are not served; settings go \
                     into the URL",
                ));
            }
            StatementClass::MutatingGlobal => {
                return Err(denied("users, functions and named collections are not served"));
            }
            StatementClass::ReadOnly | StatementClass::Mutating => {}
        }
        if analysis.has_secrets {
            return Err(denied("a statement with a credential or a disk definition"));
        }
        if contains_ignoring_case(sql, "outfile") {
            return Err(denied("INTO OUTFILE; pass the word as a parameter if it is a value"));
        }
        let mutating = analysis.class != StatementClass::ReadOnly;
        if mutating && contains_ignoring_case(sql, "infile") {
            return Err(denied("FROM INFILE; pass the word as a parameter if it is a value"));
        }
        if mutating || !self.is_plain(sql) {
            self.check_tree(connection, sql, params)?;
        }
        Ok(if mutating { StatementClass::Mutating } else { StatementClass::ReadOnly })
    }

    /// No denied name occurs in the text, not even spelled with escapes.
    pub fn is_plain(&self, text: &[u8]) -> bool {
        let lower = text.to_ascii_lowercase();
        !lower.contains(&b'\\') && !self.names_denied.iter().any(|name| contains(&lower, name))
    }

    /// For the head of an INSERT whose rows follow apart: names a table, columns and settings only.
    pub fn admit_insert_head(
        &self,
        connection: &mut Connection,
        head: &[u8],
        format: &str,
        params: &Params,
    ) -> Result<(), Exception> {
        let whole = [head, b"\nFORMAT ", format.as_bytes()].concat();
        match self.admit(connection, &whole, params)? {
            StatementClass::Mutating => Ok(()),
            _ => Err(denied("only an INSERT takes rows")),
        }
    }

    fn check_tree(
        &self,
        connection: &mut Connection,
        sql: &[u8],
        params: &Params,
    ) -> Result<(), Exception> {
        let explain = [b"EXPLAIN AST ", sql].concat();
        let answer = connection
            .query(&explain, "TSVRaw", params)
            .map_err(|text| Exception::from_engine(without_explain_offset(text)))?;
        let tree = String::from_utf8_lossy(answer.bytes());
        let plain = self.is_plain(sql);
        let mut parent = "";
        for line in tree.lines() {
            let node = line.trim_start();
            if let Some(function) = node.strip_prefix("Function ") {
                let name = function.split([' ', '(']).next().unwrap_or_default();
                if self.names_denied.contains(&name.to_ascii_lowercase()) {
                    return Err(denied(&format!("{name}() reads outside the database")));
                }
                if parent.starts_with("Storage definition") && !ENGINES.contains(&name) {
                    return Err(denied(&format!("the engine {name} is not served")));
                }
            }
            if !plain && OPAQUE_NODES.iter().any(|opaque| node.starts_with(opaque)) {
                return Err(denied(
                    "this form of statement together with an escape or such a name",
                ));
            }
            parent = node;
        }
        let is_insert = tree.starts_with("InsertQuery");
        if is_insert && !tree.contains("\n SelectWithUnionQuery") && !has_no_rows(sql) {
            return Err(denied("rows in the text of a statement"));
        }
        Ok(())
    }
}

/// ALTER … DELETE, ALTER … UPDATE and DELETE, by their trees.
fn is_mutation(connection: &mut Connection, sql: &[u8], params: &Params) -> bool {
    let explain = [b"EXPLAIN AST ", sql].concat();
    let Ok(answer) = connection.query(&explain, "TSVRaw", params) else { return false };
    let tree = String::from_utf8_lossy(answer.bytes());
    let commands_are_mutations = tree
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("AlterCommand "))
        .all(|command| ["DELETE", "UPDATE"].contains(&command.split(' ').next().unwrap_or("")));
    tree.starts_with("DeleteQuery") || tree.starts_with("AlterQuery") && commands_are_mutations
}

/// True for an INSERT that ends with its format's name, so that nothing in it can be rows.
fn has_no_rows(sql: &[u8]) -> bool {
    match crate::statement::split(sql) {
        crate::statement::Statement::InsertRows { data_start, .. } => data_start == sql.len(),
        crate::statement::Statement::Whole { .. } => false,
    }
}

/// A text that does not parse gets the parser's own message, without being run: `formatQuery`
/// takes it as a value.
fn unknown_statement(connection: &mut Connection, sql: &[u8]) -> Exception {
    let mut value = Vec::with_capacity(sql.len());
    for &byte in sql {
        match byte {
            b'\\' => value.extend_from_slice(b"\\\\"),
            b'\n' => value.extend_from_slice(b"\\n"),
            b'\t' => value.extend_from_slice(b"\\t"),
            b'\r' => value.extend_from_slice(b"\\r"),
            0 => value.extend_from_slice(b"\\0"),
            _ => value.push(byte),
        }
    }
    let params = [("statement".to_owned(), value)];
    match connection.query(b"SELECT formatQuery({statement:String})", "TSVRaw", &params) {
        Err(text) => Exception::from_engine(text),
        Ok(_) => denied("this kind of statement is not served"),
    }
}

fn without_explain_offset(text: String) -> String {
    text.replace("EXPLAIN AST ", "")
}

fn denied(what: &str) -> Exception {
    Exception::new(Code::AccessDenied, format!("Not allowed here: {what}"))
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

fn contains_ignoring_case(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}
