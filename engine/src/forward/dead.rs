//! The file of dead letters: rows that ClickHouse refused, kept until somebody looks.
//!
//! `dead/dead-letters.umgd` in the journal's directory is a sequence of records, appended and synced
//! before the rows' block is marked forwarded. A crash in between repeats records: the same block
//! identity and row index is the same row.
//!
//! ```text
//! offset  bytes  field          all numbers little-endian
//!      0      4  magic          "UMGD"
//!      4      2  version        1
//!      6      2  reason_bytes
//!      8     16  journal_id     these three are the block's identity
//!     24      8  epoch
//!     32      8  sequence
//!     40      4  row_index      from 0, within the block
//!     44      4  code           ClickHouse's
//!     48      8  at_ms          Unix milliseconds
//!     56      4  row_bytes
//!     60      4  crc32c         over bytes 0..60, reason and row
//!     64      …  reason         UTF-8
//!      …      …  row            as in the block, see proto::row
//! ```

use proto::insert::DeadRow;
use proto::{BlockId, JournalId};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"UMGD";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
/// Beyond this nothing is put aside any more: the forwarder stops and says so.
pub const DEAD_BYTES_MAX: u64 = 1 << 30;
const FILE_NAME: &str = "dead-letters.umgd";

/// One record, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub block: BlockId,
    pub row_index: u32,
    pub code: u32,
    pub at_ms: i64,
    pub reason: String,
    pub row: Vec<u8>,
}

/// Where dead rows are put aside.
pub trait DeadFile: Send {
    /// All or nothing, and synced when it returns. `at_ms`: Unix milliseconds.
    fn append(&mut self, rows: &[DeadRow], at_ms: i64) -> io::Result<()>;
}

/// The file, open for appending.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl DeadLetters {
    /// Finds the end of the last whole record; what follows it was never synced and is cut off.
    /// The file itself is made with the first dead letter.
    pub fn open(directory: &Path) -> io::Result<DeadLetters> {
        let path = directory.join(FILE_NAME);
        if !path.try_exists()? {
            return Ok(DeadLetters { path, file: None, bytes: 0 });
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let bytes = walk(&mut file, |_| {})?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(DeadLetters { path, file: Some(file), bytes })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let directory = self.path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(directory)?;
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
            // The names must be as durable as what they name.
            File::open(directory)?.sync_all()?;
            if let Some(parent) = directory.parent() {
                File::open(parent)?.sync_all()?;
            }
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("opened just above"))
    }
}

impl DeadFile for DeadLetters {
    /// After an error the next call overwrites what may have been written.
    fn append(&mut self, rows: &[DeadRow], at_ms: i64) -> io::Result<()> {
        let mut records = Vec::new();
        for row in rows {
            encode(row, at_ms, &mut records);
        }
        let end = self.bytes + records.len() as u64;
        if end > DEAD_BYTES_MAX {
            let text =
                format!("{} holds {DEAD_BYTES_MAX} bytes: move it away", self.path.display());
            return Err(io::Error::other(text));
        }
        let begin = self.bytes;
        let file = self.file()?;
        file.seek(SeekFrom::Start(begin))?;
        file.write_all(&records)?;
        file.set_len(end)?;
        file.sync_all()?;
        self.bytes = end;
        Ok(())
    }
}

/// Every whole record in a directory's file, in order; none where there is no file.
pub fn read_dead_letters(directory: &Path) -> io::Result<Vec<DeadLetter>> {
    let path = directory.join(FILE_NAME);
    if !path.try_exists()? {
        return Ok(Vec::new());
    }
    let mut letters = Vec::new();
    walk(&mut File::open(path)?, |letter| letters.push(letter))?;
    Ok(letters)
}

fn encode(row: &DeadRow, at_ms: i64, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let reason_bytes = u16::try_from(row.reason.len()).expect("a failure's text is short");
    out.extend_from_slice(&reason_bytes.to_le_bytes());
    out.extend_from_slice(&row.block.journal_id.0);
    out.extend_from_slice(&row.block.epoch.to_le_bytes());
    out.extend_from_slice(&row.block.sequence.to_le_bytes());
    out.extend_from_slice(&row.row_index.to_le_bytes());
    out.extend_from_slice(&row.code.to_le_bytes());
    out.extend_from_slice(&at_ms.to_le_bytes());
    let row_bytes = u32::try_from(row.bytes.len()).expect("a row fits a block");
    out.extend_from_slice(&row_bytes.to_le_bytes());
    let crc = crc32c::crc32c(&out[begin..]);
    let crc = crc32c::crc32c_append(crc, row.reason.as_bytes());
    let crc = crc32c::crc32c_append(crc, &row.bytes);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(row.reason.as_bytes());
    out.extend_from_slice(&row.bytes);
}

/// Reads record after record; gives the length of the whole ones.
fn walk(file: &mut File, mut each: impl FnMut(DeadLetter)) -> io::Result<u64> {
    let mut input = io::BufReader::new(file);
    let mut whole = 0;
    loop {
        let mut header = [0; HEADER_BYTES];
        match input.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4"));
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8"));
        let (reason_bytes, row_bytes) = (usize::from(u16_at(6)), u32_at(56) as usize);
        let sane = header[..4] == MAGIC
            && u16_at(4) == VERSION
            && row_bytes <= proto::limits::BLOCK_PAYLOAD_BYTES_MAX;
        if !sane {
            return Ok(whole);
        }
        let mut body = vec![0; reason_bytes + row_bytes];
        match input.read_exact(&mut body) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
        if crc32c::crc32c_append(crc32c::crc32c(&header[..60]), &body) != u32_at(60) {
            return Ok(whole);
        }
        whole += (HEADER_BYTES + body.len()) as u64;
        let row = body.split_off(reason_bytes);
        each(DeadLetter {
            block: BlockId {
                journal_id: JournalId(header[8..24].try_into().expect("16")),
                epoch: u64_at(24),
                sequence: u64_at(32),
            },
            row_index: u32_at(40),
            code: u32_at(44),
            at_ms: u64_at(48) as i64,
            reason: String::from_utf8_lossy(&body).into_owned(),
            row,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const AT_MS: i64 = 1_700_000_000_123;

    fn row(index: u32) -> DeadRow {
        DeadRow {
            block: BlockId { journal_id: JournalId([7; 16]), epoch: 2, sequence: 3 },
            row_index: index,
            code: 33,
            reason: "não".to_owned(),
            bytes: Bytes::from(vec![index as u8; 100]),
        }
    }

    #[test]
    fn what_was_appended_is_read_back_across_openings() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("dead");
        assert_eq!(read_dead_letters(&directory).unwrap(), []);
        DeadLetters::open(&directory).unwrap().append(&[row(0), row(1)], AT_MS).unwrap();
        DeadLetters::open(&directory).unwrap().append(&[row(2)], AT_MS).unwrap();
        let letters = read_dead_letters(&directory).unwrap();
        assert_eq!(letters.len(), 3);
        for (index, letter) in letters.iter().enumerate() {
            let expected = row(index as u32);
            assert_eq!(letter.block, expected.block);
            assert_eq!((letter.row_index, letter.code), (index as u32, 33));
            assert_eq!((letter.reason.as_str(), &letter.row[..]), ("não", &expected.bytes[..]));
            assert_eq!(letter.at_ms, AT_MS);
        }
    }

    #[test]
    fn a_torn_or_damaged_end_is_cut_off_before_the_next_record() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(FILE_NAME);
        DeadLetters::open(parent.path()).unwrap().append(&[row(0), row(1)], AT_MS).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [whole.len() - 1, whole.len() / 2 + 1, whole.len() / 2 + 64] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            DeadLetters::open(parent.path()).unwrap().append(&[row(5)], AT_MS).unwrap();
            let letters = read_dead_letters(parent.path()).unwrap();
            let rows: Vec<u32> = letters.iter().map(|letter| letter.row_index).collect();
            assert_eq!(rows, [0, 5], "cut at {cut}");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(read_dead_letters(parent.path()).unwrap().len(), 1);
    }
}
