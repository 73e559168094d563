//! The committed inputs of a target: `corpus/NAME/`, one input a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// One file: its name and its bytes.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub bytes: Vec<u8>,
}

pub fn folder(target_name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target_name)
}

/// In the order of their names, because a seed means nothing without an order.
pub fn load(target_name: &str) -> anyhow::Result<Vec<Input>> {
    let folder = folder(target_name);
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        inputs.push(Input { name, bytes });
    }
    ensure!(!inputs.is_empty(), "{} holds no input", folder.display());
    inputs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(inputs)
}
