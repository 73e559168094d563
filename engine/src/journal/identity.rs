//! The two small files of a shard's directory: who it is, and how far it is forwarded.
//!
//! `journal.id` is written once, durably, before the first segment. `forwarded.ckpt` is replaced a
//! few times a second and never synced: after a power cut the boot id differs, and then everything
//! that is kept is forwarded again anyway.
//!
//! ```text
//! journal.id:      "UMGJID01", journal_id (16), crc32c of what precedes it (4)
//! forwarded.ckpt:  "UMGJCKP1", journal_id (16), forwarded sequence (8), boot id (36), crc32c (4)
//! ```

use std::io;
use std::path::Path;

use proto::JournalId;

use super::storage::Storage;
use crate::environment::Environment;

pub const ID_FILE: &str = "journal.id";
pub const CHECKPOINT_FILE: &str = "forwarded.ckpt";

const ID_MAGIC: [u8; 8] = *b"UMGJID01";
const CHECKPOINT_MAGIC: [u8; 8] = *b"UMGJCKP1";

/// Names one boot of the machine, as `/proc/sys/kernel/random/boot_id` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub [u8; 36]);

impl BootId {
    /// Where the kernel does not say, every start counts as a reboot: blocks are forwarded twice
    /// and collapse, none is lost.
    pub fn current(environment: &dyn Environment) -> BootId {
        let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        match text.first_chunk() {
            Some(id) => BootId(*id),
            None => {
                let mut id = [0; 36];
                environment.fill_random(&mut id);
                BootId(id)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub journal_id: JournalId,
    pub forwarded_through: u64,
    pub boot_id: BootId,
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn checked<const N: usize>(bytes: &[u8]) -> Option<&[u8; N]> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(content).to_le_bytes() == *crc).then_some(())?;
    content.try_into().ok()
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = CHECKPOINT_MAGIC.to_vec();
        bytes.extend_from_slice(&self.journal_id.0);
        bytes.extend_from_slice(&self.forwarded_through.to_le_bytes());
        bytes.extend_from_slice(&self.boot_id.0);
        with_crc(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let content: &[u8; 68] = checked(bytes)?;
        (content[..8] == CHECKPOINT_MAGIC).then(|| Checkpoint {
            journal_id: JournalId(content[8..24].try_into().expect("16 bytes")),
            forwarded_through: u64::from_le_bytes(content[24..32].try_into().expect("8 bytes")),
            boot_id: BootId(content[32..68].try_into().expect("36 bytes")),
        })
    }
}

/// What is to be made of the checkpoint that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    Good,
    /// None yet: nothing was forwarded.
    Missing,
    /// Damaged, or of another journal: everything kept is forwarded again.
    Damaged,
    /// The machine was restarted: everything kept is forwarded again.
    Rebooted,
}

/// The checkpoint's state and its watermark. After a reboot the watermark still proves that these
/// blocks were durable; only their forwarding is in doubt.
pub fn read_checkpoint(
    storage: &dyn Storage,
    dir: &Path,
    journal_id: JournalId,
    boot_id: BootId,
) -> io::Result<(CheckpointState, u64)> {
    let bytes = match storage.read_file(&dir.join(CHECKPOINT_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((CheckpointState::Missing, 0));
        }
        Err(error) => return Err(error),
    };
    Ok(match Checkpoint::decode(&bytes) {
        Some(found) if found.journal_id != journal_id => (CheckpointState::Damaged, 0),
        None => (CheckpointState::Damaged, 0),
        Some(found) if found.boot_id != boot_id => {
            (CheckpointState::Rebooted, found.forwarded_through)
        }
        Some(found) => (CheckpointState::Good, found.forwarded_through),
    })
}

/// None: no such file, or a damaged one.
pub fn read_id(storage: &dyn Storage, dir: &Path) -> io::Result<Option<JournalId>> {
    let bytes = match storage.read_file(&dir.join(ID_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let content: Option<&[u8; 24]> = checked(&bytes);
    Ok(content
        .filter(|content| content[..8] == ID_MAGIC)
        .map(|content| JournalId(content[8..].try_into().expect("16 bytes"))))
}

pub fn write_id(storage: &dyn Storage, dir: &Path, id: JournalId) -> io::Result<()> {
    let mut bytes = ID_MAGIC.to_vec();
    bytes.extend_from_slice(&id.0);
    storage.replace_file(&dir.join(ID_FILE), &with_crc(bytes), true)
}

pub fn random_id(environment: &dyn Environment) -> JournalId {
    let mut id = [0; 16];
    environment.fill_random(&mut id);
    JournalId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Machine;

    #[test]
    fn a_checkpoint_is_read_back_and_any_flipped_bit_is_seen() {
        let checkpoint = Checkpoint {
            journal_id: JournalId([7; 16]),
            forwarded_through: 42,
            boot_id: BootId([b'b'; 36]),
        };
        let bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..length]), None, "length {length}");
        }
    }

    #[test]
    fn the_kernel_says_the_same_boot_twice() {
        assert_eq!(BootId::current(&Machine), BootId::current(&Machine));
    }
}
