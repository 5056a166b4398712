//! What is remembered beside the files: statistics, quarantine, what went and why.
//!
//! One file, replaced whole: 64 hexadecimal digits of keyed BLAKE3, a line break, JSON. The image files are the
//! truth about what is stored; losing the index loses only what is named above, and is counted.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use forerun_types::ImageKey;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::miss::{Gone, GoneReason};
use crate::record::{GONE_MAX, Presence, Record, State, Statistics};
use crate::trouble::Trouble;

const FILE: &str = "index";
/// Goes up when the meaning of a field changes.
const VERSION: u32 = 1;
const CODE_DIGITS: usize = 64;
/// Some 700 bytes for each of at most 5,120 keys, and as much again.
const BYTES_MAX: u64 = 8 << 20;

#[derive(Default, Serialize, Deserialize)]
struct Index {
    version: u32,
    uses: u64,
    keys: Vec<Entry>,
    gone: Vec<Gone>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: ImageKey,
    statistics: Statistics,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
    /// Whether there was a file when this was written.
    stored: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<GoneReason>,
}

/// How reading the index went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IndexRead {
    Whole,
    /// There is none: a first start, or the folder was cleared.
    Absent,
    /// Damaged, not authentic, too large or of another release.
    Lost,
}

/// The index as bytes of its file.
pub(crate) fn bytes(state: &State, mac_key: &[u8; 32]) -> Vec<u8> {
    let entry = |(key, record): (&ImageKey, &Record)| Entry {
        key: *key,
        statistics: record.statistics,
        trouble: (!record.trouble.is_none()).then(|| record.trouble.clone()),
        stored: matches!(record.presence, Presence::Stored(_)),
        gone: match &record.presence {
            Presence::Absent(reason) => reason.clone(),
            Presence::Building | Presence::Stored(_) => None,
        },
    };
    let index = Index {
        version: VERSION,
        uses: state.uses,
        keys: state.records.iter().map(entry).collect(),
        gone: state.gone.iter().cloned().collect(),
    };
    let json = serde_json::to_vec(&index).expect("numbers, texts and lists can be written as JSON");
    let mut bytes = blake3::keyed_hash(mac_key, &json).to_hex().as_bytes().to_vec();
    bytes.push(b'\n');
    bytes.extend(json);
    bytes
}

/// Replaces the index in `directory`.
pub(crate) fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    files::write_whole(&directory.join(FILE), &[bytes])
}

/// Adds what the index in `directory` says to `state`, in which the files that were found are noted already.
pub(crate) fn read(directory: &Path, mac_key: &[u8; 32], state: &mut State) -> IndexRead {
    match read_bytes(&directory.join(FILE)) {
        Ok(bytes) => match parse(&bytes, mac_key) {
            Some(index) => {
                merge(index, state);
                IndexRead::Whole
            }
            None => IndexRead::Lost,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => IndexRead::Absent,
        Err(_) => IndexRead::Lost,
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = files::open_plain(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > BYTES_MAX {
        return Err(io::Error::other("no index"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], mac_key: &[u8; 32]) -> Option<Index> {
    let (digits, rest) = bytes.split_at_checked(CODE_DIGITS)?;
    let json = rest.strip_prefix(b"\n")?;
    let code = blake3::Hash::from_hex(digits).ok()?;
    // Compares in constant time.
    if blake3::keyed_hash(mac_key, json) != code {
        return None;
    }
    let index: Index = serde_json::from_slice(json).ok()?;
    (index.version == VERSION).then_some(index)
}

fn merge(index: Index, state: &mut State) {
    state.uses = state.uses.max(index.uses);
    // What was found at start comes after what the index knows from before; it is as recent as the index says.
    let found: BTreeMap<_, _> = index.keys.into_iter().map(|entry| (entry.key, entry)).collect();
    for (key, entry) in found {
        let record = state.records.entry(key).or_insert_with(|| {
            let vanished = entry.stored.then_some(GoneReason::Vanished);
            Record::absent(entry.gone.or(vanished))
        });
        record.statistics = entry.statistics;
        record.touched = entry.statistics.last_use;
        record.trouble = entry.trouble.map(Trouble::checked).unwrap_or_default();
    }
    let surplus = index.gone.len().saturating_sub(GONE_MAX);
    // Those noted during this start are later.
    let earlier = index.gone.into_iter().skip(surplus);
    state.gone = earlier.chain(state.gone.drain(..)).collect();
    while state.gone.len() > GONE_MAX {
        state.gone.pop_front();
    }
    state.forget();
}
