//! The raw sections of a module or component: number and contents, in order.

use std::ops::Range;

use wasm_encoder::Encode;
use wasmparser::{BinaryReader, FromReader, SectionLimited};

use super::Unsupported;

/// Magic, version and layer.
const HEADER_BYTES: usize = 8;

/// One section.
#[derive(Clone, Debug)]
pub(crate) struct RawSection<'a> {
    pub(crate) id: u8,
    pub(crate) contents: &'a [u8],
    /// Where the contents are in what was read, for messages.
    pub(crate) range: Range<usize>,
}

impl<'a> RawSection<'a> {
    /// The section as a list of `T`, which its number must say it is.
    pub(crate) fn items<T: FromReader<'a>>(&self) -> Result<SectionLimited<'a, T>, Unsupported> {
        Ok(SectionLimited::new(BinaryReader::new(self.contents, self.range.start))?)
    }
}

/// All sections of a module or component. Nested ones are the contents of their sections.
pub(crate) fn read_sections(bytes: &[u8]) -> Result<Vec<RawSection<'_>>, Unsupported> {
    let rest = bytes.get(HEADER_BYTES..).unwrap_or(&[]);
    let mut reader = BinaryReader::new(rest, HEADER_BYTES);
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let contents_bytes = reader.read_var_u32()? as usize;
        let start = reader.original_position();
        let contents = reader.read_bytes(contents_bytes)?;
        sections.push(RawSection { id, contents, range: start..start + contents_bytes });
    }
    Ok(sections)
}

/// The header of a module or component, to begin its successor with.
pub(crate) fn header(bytes: &[u8]) -> &[u8] {
    &bytes[..HEADER_BYTES.min(bytes.len())]
}

pub(crate) fn write_section(output: &mut Vec<u8>, id: u8, contents: &[u8]) {
    output.push(id);
    contents.encode(output);
}

/// A list section with more items at its end; `None` if there was no such section.
pub(crate) fn append_items(before: Option<&[u8]>, items: u32, encoded: &[u8]) -> Result<Vec<u8>, Unsupported> {
    let mut reader = BinaryReader::new(before.unwrap_or(&[0]), 0);
    let items_before = reader.read_var_u32()?;
    let rest = reader.read_bytes(reader.bytes_remaining())?;
    let mut contents = Vec::with_capacity(rest.len() + encoded.len() + 5);
    items_before.saturating_add(items).encode(&mut contents);
    contents.extend_from_slice(rest);
    contents.extend_from_slice(encoded);
    Ok(contents)
}
