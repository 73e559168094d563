//! Names of frames. An optimised binary has most of its functions inlined into a few: which ones
//! stand at an address is in its line tables, and each becomes a frame of its own.
//!
//! Where a binary has no line tables the name is the one that perf found.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::rc::Rc;

use addr2line::{Loader, demangle_auto};

use super::samples::{RawFrame, Sample};

/// Who a frame's code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Kernel,
    /// Code that this workspace wrote.
    Ours,
    /// Libraries, the standard one among them, and the thread's name at the root.
    Library,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    pub name: Rc<str>,
    pub owner: Owner,
}

const CRATES: [&str; 8] =
    ["proto", "engine", "consumer", "api", "embedded", "loadgen", "unmogrowp", "bench"];
const STANDARD: [&str; 3] = ["core", "alloc", "std"];

pub struct Symbols {
    show_std: bool,
    /// `None` for what has no line tables, or cannot be read.
    objects: HashMap<String, Option<Object>>,
    /// The functions at an address, the outermost first.
    known: HashMap<(String, u64), Rc<[Frame]>>,
}

struct Object {
    lines: Loader,
    /// Of each part that is loaded: its place in the file, its length, its address.
    segments: Vec<(u64, u64, u64)>,
}

impl Symbols {
    pub fn new(show_std: bool) -> Symbols {
        Symbols { show_std, objects: HashMap::new(), known: HashMap::new() }
    }

    /// The stack with the thread at its root and the innermost function last.
    pub fn resolve(&mut self, sample: &Sample) -> Vec<Frame> {
        let mut stack = vec![Frame { name: sample.thread.as_str().into(), owner: Owner::Library }];
        for (depth, raw) in sample.frames.iter().enumerate().rev() {
            // A caller's address is the one it is going to return to: the call lies before it.
            let address = raw.address - u64::from(depth > 0 && !raw.is_kernel());
            stack.extend(self.functions(raw, address).iter().cloned());
        }
        stack
    }

    fn functions(&mut self, raw: &RawFrame, address: u64) -> Rc<[Frame]> {
        let key = (raw.object.clone(), address);
        if let Some(known) = self.known.get(&key) {
            return Rc::clone(known);
        }
        let found: Rc<[Frame]> = self.look_up(raw, address).into();
        self.known.insert(key, Rc::clone(&found));
        found
    }

    fn look_up(&mut self, raw: &RawFrame, address: u64) -> Vec<Frame> {
        if raw.is_kernel() {
            return vec![Frame { name: raw.symbol.as_str().into(), owner: Owner::Kernel }];
        }
        let object =
            self.objects.entry(raw.object.clone()).or_insert_with(|| Object::open(&raw.object));
        let names = object.as_ref().map_or_else(Vec::new, |object| object.functions(address));
        if names.is_empty() {
            return vec![Frame { name: perfs_name(raw).into(), owner: Owner::Library }];
        }
        let outermost = names.len() - 1;
        let frames = names.into_iter().enumerate().rev();
        let shown = frames.filter(|(inlined, name)| {
            self.show_std || *inlined == outermost || !is_of(name, &STANDARD)
        });
        shown
            .map(|(_, name)| {
                let owner = if is_of(&name, &CRATES) { Owner::Ours } else { Owner::Library };
                Frame { name: name.into(), owner }
            })
            .collect()
    }
}

impl Object {
    fn open(path: &str) -> Option<Object> {
        if !path.starts_with('/') {
            return None;
        }
        let segments = segments(&fs::read(path).ok()?)?;
        Some(Object { lines: Loader::new(path).ok()?, segments })
    }

    /// Names of the functions at an offset in the file, the innermost first.
    fn functions(&self, offset: u64) -> Vec<String> {
        let segment = self
            .segments
            .iter()
            .find(|(start, length, _)| (*start..start + length).contains(&offset));
        let Some((start, _, address)) = segment else { return Vec::new() };
        let address = offset - start + address;
        let mut names = Vec::new();
        if let Ok(mut frames) = self.lines.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.and_then(|f| f.demangle().map(Cow::into_owned).ok());
                names.push(name.unwrap_or_else(|| "?".to_owned()));
            }
        }
        // The symbol's name has its path, which line tables leave out at the outermost function.
        if let Some(symbol) = self.lines.find_symbol(address) {
            names.pop();
            names.push(demangle_auto(Cow::Borrowed(symbol), None).into_owned());
        }
        names
    }
}

/// The loaded parts of an ELF file of 64 bits, little-endian.
fn segments(file: &[u8]) -> Option<Vec<(u64, u64, u64)>> {
    const LOADED: u64 = 1;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = file.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, each, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut loaded = Vec::new();
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index * each)?).ok()?;
        if number(at, 4)? == LOADED {
            loaded.push((number(at + 8, 8)?, number(at + 32, 8)?, number(at + 16, 8)?));
        }
    }
    Some(loaded)
}

fn perfs_name(raw: &RawFrame) -> String {
    if raw.symbol != "[unknown]" && !raw.symbol.is_empty() {
        return raw.symbol.clone();
    }
    let file = raw.object.rsplit('/').next().filter(|name| !name.is_empty());
    format!("[unknown in {}]", file.unwrap_or("no file"))
}

/// Whether the path in `name` begins with one of `crates`, behind whatever brackets.
fn is_of(name: &str, crates: &[&str]) -> bool {
    let path = name.trim_start_matches(['<', '&', '(', '*', '[']);
    let path = path.strip_prefix("mut ").unwrap_or(path);
    let first = path.split([':', '<', ' ', '[']).next().unwrap_or(path);
    path.len() > first.len() && crates.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_crates() {
        #[track_caller]
        fn check(name: &str, crates: &[&str], expected: bool) {
            assert_eq!(is_of(name, crates), expected, "{name}");
        }
        check("engine::shard::Shard::turn", &CRATES, true);
        check("<engine::driver::Uring as a::B>::run", &CRATES, true);
        check("<&mut engine::shard::Shard>::turn", &CRATES, true);
        check("core::ptr::read", &STANDARD, true);
        check("<core::option::Option<T>>::map", &STANDARD, true);
        check("core", &STANDARD, false);
        check("engineer::work", &CRATES, false);
        check("__memmove_avx512", &CRATES, false);
    }

    #[test]
    fn this_very_binary_has_segments() {
        let own = std::env::current_exe().unwrap();
        let loaded = segments(&fs::read(own).unwrap()).unwrap();
        assert!(!loaded.is_empty());
        assert!(loaded.iter().all(|(_, length, _)| *length > 0));
        assert_eq!(segments(b"#!/bin/sh\n"), None);
        assert_eq!(segments(b"\x7fELF\x02\x01"), None);
    }
}
