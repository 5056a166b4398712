//! Sections as bytes: what is not changed is not decoded either.

use std::ops::Range;

use wasm_encoder::Encode;
use wasmparser::BinaryReader;

use super::refusal::SplitRefusal;

/// A section as it stands in its file.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) id: u8,
    pub(super) range: Range<usize>,
}

/// Bytes of the magic number and version before the first section.
pub(super) const HEADER_BYTES: usize = 8;

/// Writes one section.
pub(super) fn append_section(file: &mut Vec<u8>, id: u8, content: &[u8]) {
    file.push(id);
    content.encode(file);
}

/// A section that is a list, with `entries` behind those it has; `old` is `None` where there is no such section.
pub(super) fn append_entries(old: Option<&[u8]>, count: u32, entries: &[u8]) -> Result<Vec<u8>, SplitRefusal> {
    let mut content = Vec::with_capacity(old.map_or(0, <[u8]>::len) + entries.len() + 5);
    match old {
        None => count.encode(&mut content),
        Some(old) => {
            let mut reader = BinaryReader::new(old, 0);
            let old_count = reader.read_var_u32()?;
            old_count.saturating_add(count).encode(&mut content);
            content.extend_from_slice(&old[reader.original_position()..]);
        }
    }
    content.extend_from_slice(entries);
    Ok(content)
}
