//! `dead list` and `dead retry`: the table of dead letters, for people.

use super::letter::{Letter, WHOLE_RECORD, statement};
use crate::cli::{Dead, DeadCommand, WarehouseFlags};
use crate::pace::pause;
use crate::record::Record;
use crate::serve::inserter;
use crate::warehouse::{Address, Inserter, client_of, sort};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clickhouse::Client;
use proto::insert::{Failure, InsertFailure, Token};
use proto::row::Rows;
use proto::{BlockHeader, BlockId, JournalId};
use serde_json::Value;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Letters in memory at once; each is at most a record.
const PAGE: u32 = 50;
const ATTEMPTS_MAX: u32 = 8;
/// Makes a retried letter's token differ from that of the INSERT that refused it.
const RETRY_RUN: [u8; 16] = *b"dead letter, new";

const COLUMNS_SHOWN: &str = "journal_id, epoch, sequence, row_index, partition, offset, layout, \
     code, reason, hex(raw) AS raw, toUnixTimestamp64Milli(died_at) AS died_at_ms, \
     toUnixTimestamp64Milli(retried_at) AS retried_at_ms";
const KEY: &str = "journal_id, epoch, sequence, row_index, partition, offset";
const ID: &str = "concat(journal_id, '-', toString(epoch), '-', toString(sequence), '-', \
     toString(row_index), '-', toString(partition), '-', toString(offset))";

pub async fn run(options: Dead) -> anyhow::Result<()> {
    match options.command {
        DeadCommand::List { warehouse, limit, json } => list(&warehouse, limit, json).await,
        DeadCommand::Retry { warehouse, all: _, id } => retry(&warehouse, &id).await,
    }
}

struct Office {
    client: Client,
    inserter: Inserter,
    statement: String,
}

impl Office {
    fn open(flags: &WarehouseFlags) -> anyhow::Result<Office> {
        let client = client_of(&Address::parse(&flags.clickhouse_url)?, &flags.database);
        let client = client.with_setting("output_format_json_quote_64bit_integers", "0");
        Ok(Office { client, inserter: inserter(flags)?, statement: statement(&flags.database) })
    }

    async fn read(&self, query: clickhouse::query::Query) -> anyhow::Result<Vec<Letter>> {
        let lines = async { query.fetch_bytes("JSONEachRow")?.collect().await };
        let lines = lines.await.map_err(|error| anyhow::anyhow!("{}", sort(&error).text));
        let lines = lines.context("dead letters cannot be read")?;
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| letter(&serde_json::from_slice(line)?)).collect()
    }
}

async fn list(flags: &WarehouseFlags, limit: u32, json: bool) -> anyhow::Result<()> {
    let office = Office::open(flags)?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut shown = 0;
    while shown < limit {
        let sql = format!(
            "SELECT {COLUMNS_SHOWN} FROM events_dead FINAL ORDER BY died_at DESC, {KEY} \
             LIMIT {{limit:UInt32}} OFFSET {{shown:UInt32}}"
        );
        let page = PAGE.min(limit - shown);
        let query = office.client.query(&sql).param("limit", page).param("shown", shown);
        let letters = office.read(query).await?;
        for letter in &letters {
            let line = if json { line_of_json(letter) } else { line_of_text(letter) };
            writeln!(out, "{line}").context("cannot print")?;
        }
        shown += letters.len() as u32;
        if letters.len() < page as usize {
            break;
        }
    }
    out.flush().context("cannot print")
}

fn line_of_json(letter: &Letter) -> String {
    let raw: String = letter.raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let retried = (letter.retried_at_ms != 0).then(|| moment(letter.retried_at_ms));
    serde_json::json!({
        "id": letter.id(),
        "partition": letter.partition,
        "offset": letter.offset,
        "row_index": letter.row_index,
        "layout": letter.layout,
        "code": letter.code,
        "reason": letter.reason,
        "died_at": moment(letter.died_at_ms),
        "retried_at": retried,
        "raw_hex": raw,
    })
    .to_string()
}

fn line_of_text(letter: &Letter) -> String {
    let state = if letter.retried_at_ms == 0 { "dead" } else { "retried" };
    let what = if letter.layout == WHOLE_RECORD { "record" } else { "row" };
    let (died_at, bytes) = (moment(letter.died_at_ms), letter.raw.len());
    let reason = letter.reason.replace(char::is_control, " ");
    format!("{died_at}  {state}  {}  {what} of {bytes} bytes  {reason}", letter.id())
}

fn moment(ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| ms.to_string())
}

async fn retry(flags: &WarehouseFlags, ids: &[String]) -> anyhow::Result<()> {
    let office = Office::open(flags)?;
    let (mut taken, mut refused) = (0u32, 0u32);
    loop {
        let filter = if ids.is_empty() {
            "toUnixTimestamp64Milli(retried_at) = 0".to_owned()
        } else {
            format!("has({{ids:Array(String)}}, {ID})")
        };
        let sql = format!(
            "SELECT {COLUMNS_SHOWN} FROM events_dead FINAL WHERE {filter} ORDER BY {KEY} \
             LIMIT {{limit:UInt32}} OFFSET {{passed:UInt32}}"
        );
        // Those that were taken do not match any more, unless they were asked for by name.
        let passed = if ids.is_empty() { refused } else { refused + taken };
        let mut query = office.client.query(&sql).param("limit", PAGE).param("passed", passed);
        if !ids.is_empty() {
            query = query.param("ids", ids);
        }
        let letters = office.read(query).await?;
        for letter in &letters {
            match office.retry_one(letter).await? {
                Ok(rows) => {
                    taken += 1;
                    writeln!(std::io::stdout(), "{}  taken, rows: {rows}", letter.id())?;
                }
                Err(reason) => {
                    refused += 1;
                    writeln!(std::io::stdout(), "{}  refused again: {reason}", letter.id())?;
                }
            }
        }
        if letters.len() < PAGE as usize {
            break;
        }
    }
    if (taken + refused) as usize != ids.len() && !ids.is_empty() {
        bail!(
            "{} of {} ids are not among the dead letters",
            ids.len() as u32 - taken - refused,
            ids.len()
        );
    }
    if refused > 0 {
        bail!("{taken} were taken, {refused} were refused again and stay");
    }
    Ok(())
}

impl Office {
    /// Inserts one letter and marks it. The inner error is the letter's own: it stays as it was.
    async fn retry_one(&self, letter: &Letter) -> anyhow::Result<Result<usize, String>> {
        let (payload, rows) = match rows_of(letter) {
            Ok(rows) => rows,
            Err(reason) => return Ok(Err(reason)),
        };
        if rows > 0 {
            let token = token(letter, &payload);
            let sent = || self.inserter.insert(vec![payload.clone()], rows, &token);
            if let Err(failure) = patiently(sent).await {
                if failure.kind == InsertFailure::Refused {
                    return Ok(Err(failure.text));
                }
                bail!("ClickHouse does not take rows now: {}", failure.text);
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut row = Vec::new();
        Letter { retried_at_ms: now.as_millis() as i64, ..letter.clone() }.encode(&mut row);
        let row = Bytes::from(row);
        let marked = patiently(|| self.inserter.insert_rows(&self.statement, row.clone())).await;
        match marked {
            Ok(()) => Ok(Ok(rows)),
            Err(failure) => bail!("inserted, but not marked as retried: {}", failure.text),
        }
    }
}

/// Tries again what may mend itself, for about a minute.
async fn patiently<F>(mut send: impl FnMut() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut attempts = 0;
    loop {
        let failure = match send().await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        attempts += 1;
        if !failure.is_outage() || attempts >= ATTEMPTS_MAX {
            return Err(failure);
        }
        tokio::time::sleep(pause(failure.pace, attempts)).await;
    }
}

/// The rows that a letter holds. A whole record may be a block by now, to a newer version of this
/// program.
fn rows_of(letter: &Letter) -> Result<(Bytes, usize), String> {
    if letter.layout == WHOLE_RECORD {
        return match Record::read(letter.raw.clone()) {
            Record::Block { block, .. } => Ok((block.payload, block.header.row_count as usize)),
            Record::Bad { why, .. } => Err(why.to_string()),
        };
    }
    if letter.layout != proto::row::LAYOUT {
        return Err(format!("row layout {} is not known to this version", letter.layout));
    }
    let mut rows = 0;
    for row in Rows::new(&letter.raw) {
        row.map_err(|error| error.to_string())?;
        rows += 1;
    }
    Ok((letter.raw.clone(), rows))
}

fn token(letter: &Letter, payload: &[u8]) -> String {
    let mut token = Token::new(Some(RETRY_RUN));
    token.add(&BlockHeader::seal(letter.block, 0, 0, 0, 0, payload));
    let row = letter.row_index as usize;
    token.add_rows(&(row..row + 1));
    token.finish()
}

/// A line of `JSONEachRow` with [`COLUMNS_SHOWN`].
fn letter(line: &Value) -> anyhow::Result<Letter> {
    let text = |name: &str| line[name].as_str().with_context(|| format!("no {name} in {line}"));
    let number = |name: &str| {
        let value = &line[name];
        let quoted = || value.as_str()?.parse::<i128>().ok();
        let plain = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        plain.or_else(quoted).with_context(|| format!("no number {name} in {line}"))
    };
    let journal_id = unhex(text("journal_id")?)?;
    let journal_id: [u8; 16] =
        journal_id.try_into().ok().context("a journal_id has 32 hexadecimal digits")?;
    let block = BlockId {
        journal_id: JournalId(journal_id),
        epoch: number("epoch")?.try_into()?,
        sequence: number("sequence")?.try_into()?,
    };
    Ok(Letter {
        block,
        row_index: number("row_index")?.try_into()?,
        partition: number("partition")?.try_into()?,
        offset: number("offset")?.try_into()?,
        layout: number("layout")?.try_into()?,
        code: number("code")?.try_into()?,
        reason: text("reason")?.to_owned(),
        raw: unhex(text("raw")?)?.into(),
        died_at_ms: number("died_at_ms")?.try_into()?,
        retried_at_ms: number("retried_at_ms")?.try_into()?,
    })
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>().context("not hexadecimal")
}

#[cfg(test)]
#[path = "office_tests.rs"]
mod tests;
