//! For `records`: what must hold of each record that a process reads and another one may have written.

use forerun_specialize::passes::Made;
use forerun_specialize::passes::coverage::CoverageMap;
use forerun_specialize::passes::split::{BUNDLE_TABLE_BYTES_MAX, Bundle, SplitIndex};
use forerun_types::{FunctionSpec, SpecializationProfile};

/// How many kinds of records there are.
pub const KINDS: u8 = 6;

/// Reads `bytes` as a record of one of the [`KINDS`]: refused, or it adds up and can be written and read again.
///
/// # Panics
/// If that does not hold.
pub fn read(kind: u8, bytes: &[u8]) {
    match kind % KINDS {
        0 => bundle(bytes),
        1 => {
            if let Ok(index) = SplitIndex::from_json(bytes) {
                assert_eq!(SplitIndex::from_json(index.to_json().as_bytes()).as_ref(), Ok(&index));
                let entries: usize = index.groups.iter().map(|group| group.entries.len()).sum();
                assert_eq!(entries + 1, index.slots as usize);
            }
        }
        2 => {
            if let Ok(map) = CoverageMap::decode(bytes) {
                assert!(map.functions.iter().all(|function| (function.module as usize) < map.modules.len()));
                assert_eq!(CoverageMap::decode(&map.encode()).as_ref(), Ok(&map));
            }
        }
        3 => {
            if let Ok(made) = Made::from_artifact(bytes.to_vec()) {
                assert!(bytes.starts_with(&made.code));
                let (code, passes) = (made.code.clone(), made.passes.clone());
                let again = Made::from_artifact(made.into_artifact());
                assert_eq!(again, Ok(Made { code, passes }));
            }
        }
        4 => {
            if let Ok(profile) = SpecializationProfile::from_json(bytes) {
                assert_eq!(profile.check(), Ok(()));
                profile.digest().expect("a checked profile has a digest");
                assert_eq!(SpecializationProfile::from_json(profile.to_json().as_bytes()).as_ref(), Ok(&profile));
            }
        }
        // What the store keeps of a function and the API takes.
        _ => {
            if let Ok(spec) = serde_json::from_slice::<FunctionSpec>(bytes) {
                let checked = spec.check().map_err(|error| error.to_string());
                let text = serde_json::to_vec(&spec).expect("texts and numbers are always JSON");
                let again: FunctionSpec = serde_json::from_slice(&text).expect("what was written can be read");
                assert_eq!(checked, again.check().map_err(|error| error.to_string()));
            }
        }
    }
}

/// The parts lie one behind the other in the file, wherever it was cut for reading its table.
fn bundle(bytes: &[u8]) {
    let beginning = &bytes[..bytes.len().min(BUNDLE_TABLE_BYTES_MAX)];
    if let Ok(found) = Bundle::find(beginning, bytes.len() as u64) {
        let mut end = found.head.end;
        assert!(found.head.start <= end);
        for part in &found.parts {
            assert_eq!(part.start, end);
            assert!(part.start <= part.end);
            end = part.end;
        }
        assert_eq!(end, bytes.len() as u64);
    }
    // A file whose length somebody else says: the first eight bytes of the rest.
    if let Some((length, beginning)) = bytes.split_first_chunk() {
        let _ = Bundle::find(beginning, u64::from_le_bytes(*length));
    }
}
