//! For `passes`: components of the repository, and changes to one that bytes decide.
//!
//! Most changes of single bytes give something that is no component any more and is refused at once. So others are made
//! to whole sections, to constants in the code, or add what nothing uses: of these more are components.

use std::path::Path;
use std::sync::OnceLock;

/// Where the components are, below the root of the repository. They are read when the target starts.
const FOLDERS: [&str; 3] = ["examples/hello/components", "examples/shop/components", "tests/guests/components"];
/// Bytes that decide one change.
pub const CHANGE_BYTES: usize = 8;
/// Kinds of changes.
pub const KINDS: u8 = 16;
/// From this kind on, what comes out is a component rather often.
const SOUND_KINDS: u8 = 12;
/// The section of a core module.
const CORE_MODULE: u8 = 1;
/// Sections that only define something: of a custom one, core modules, core types, types.
const UNUSED: [u8; 4] = [0, CORE_MODULE, 3, 7];
/// The instruction `i32.const`.
const CONSTANT: u8 = 0x41;
/// Magic and version.
const HEADER_BYTES: usize = 8;
/// More than the largest component and some doubled sections; keeps one execution short.
const BYTES_MAX: usize = 600 << 10;

/// All components, in the order of their paths.
///
/// # Panics
/// If they are not there: it is to be run from a checkout.
pub fn all() -> &'static [Vec<u8>] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = FOLDERS.iter().map(|folder| std::fs::read_dir(root.join(folder)).expect("the folder is there"));
        let mut paths: Vec<_> = folders.flatten().map(|entry| entry.expect("it can be listed").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
        paths.sort();
        assert!(paths.len() >= 10, "the components of the examples and tests are there");
        paths.iter().map(|path| std::fs::read(path).expect("a component can be read")).collect()
    })
}

/// The component that the first byte chooses, changed as the others say.
pub fn changed(which: u8, changes: &[u8]) -> Vec<u8> {
    let mut component = all()[usize::from(which) % all().len()].clone();
    // The last one may be short: the fuzzer likes short inputs, and they would all be the component as it is.
    for change in changes.chunks(CHANGE_BYTES) {
        let change = std::array::from_fn(|index| change.get(index).copied().unwrap_or(0));
        apply(&mut component, change);
        component.truncate(BYTES_MAX);
    }
    component
}

/// One change: what kind, where (two numbers), and with what.
fn apply(component: &mut Vec<u8>, [kind, a, b, c, d, e, value, other]: [u8; CHANGE_BYTES]) {
    let sections = sections(component);
    let Some(section) = sections.get(usize::from(a) % sections.len().max(1)).cloned() else { return };
    // A place in a section: all sections are equally likely, since the small ones say how the parts fit together.
    let offset = u32::from_le_bytes([b, c, d, 0]) as usize % (section.end - section.start).max(1);
    let place = (section.start + offset).min(component.len() - 1);
    let donor = &all()[usize::from(other) % all().len()];
    // Half of the changes are of the kinds that are known to give components.
    let kind = if kind & 1 == 0 { kind / 2 % KINDS } else { SOUND_KINDS + kind / 2 % (KINDS - SOUND_KINDS) };
    match kind {
        0 => component[place] = value,
        1 => component[place] ^= 1 << (value % 8),
        2 => component[place] = component[place].wrapping_add(1),
        3 => drop(component.splice(place..place, [value])),
        4 => drop(component.splice(place..(place + usize::from(value)).min(component.len()), [])),
        // A number as long as numbers get.
        5 => drop(component.splice(place..place + 1, [255, 255, 255, 255, 15])),
        6 => drop(component.drain(section)),
        7 => {
            let copy = component[section.clone()].to_vec();
            let at = sections[usize::from(e) % sections.len()].end;
            drop(component.splice(at..at, copy));
        }
        8 => {
            let theirs = self::sections(donor);
            let copy = donor[theirs[usize::from(e) % theirs.len()].clone()].to_vec();
            drop(component.splice(section.end..section.end, copy));
        }
        9 => {
            let theirs = self::sections(donor);
            let copy = donor[theirs[usize::from(e) % theirs.len()].clone()].to_vec();
            drop(component.splice(section, copy));
        }
        // The end of another component, from anywhere or from a section on.
        10 => {
            let theirs = self::sections(donor);
            component.truncate(section.end);
            component.extend_from_slice(&donor[theirs[usize::from(e) % theirs.len()].start..]);
        }
        11 => {
            component.truncate(place);
            component.extend_from_slice(&donor[place.min(donor.len())..]);
        }
        // More at the end: a module, types or a custom section that nothing uses leave it a component.
        12 | 13 => {
            let theirs = self::sections(donor);
            let theirs: Vec<_> = theirs.iter().filter(|section| UNUSED.contains(&donor[section.start])).collect();
            let Some(copy) = theirs.get(usize::from(e) % theirs.len().max(1)) else { return };
            component.extend_from_slice(&donor[(*copy).clone()]);
        }
        // Another constant in the code, if that is what the byte stands for.
        14 => {
            let Some(found) = component[place..].iter().position(|byte| *byte == CONSTANT) else { return };
            if let Some(byte) = component.get_mut(place + found + 1) {
                *byte = *byte & 0x80 | value & 0x7f;
            }
        }
        // The next or the last of a kind, somewhere in what says how the parts fit together.
        _ => {
            let small: Vec<_> = sections.iter().filter(|section| component[section.start] != CORE_MODULE).collect();
            let Some(section) = small.get(usize::from(a) % small.len().max(1)) else { return };
            let place = (section.start + 2 + offset % (section.end - section.start)).min(component.len() - 1);
            component[place] =
                if value & 1 == 0 { component[place].wrapping_add(1) } else { component[place].wrapping_sub(1) };
        }
    }
}

/// The sections of a component, with their headers, as far as they can be told apart.
fn sections(component: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut sections = Vec::new();
    let mut start = HEADER_BYTES;
    while start < component.len() {
        let Some((length, length_bytes)) = number(&component[start + 1..]) else { break };
        let end = start.saturating_add(1 + length_bytes).saturating_add(length).min(component.len());
        sections.push(start..end);
        start = end;
    }
    sections
}

/// A number in LEB128 and how many bytes it takes.
fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chains::is_valid;
    use crate::numbers::Numbers;

    /// If nothing were valid any more, only the validator would be tested; if all were, nothing would be changed.
    #[test]
    fn some_changed_components_are_components() {
        let mut numbers = Numbers::new(7);
        let changes = (0..60).map(|number| changed(number, &numbers.bytes(CHANGE_BYTES)));
        let valid = changes.filter(|component| is_valid(component).is_ok()).count();
        assert!((6..54).contains(&valid), "{valid} of 60 are valid");
    }

    #[test]
    fn changes_are_what_the_bytes_say() {
        let mut numbers = Numbers::new(8);
        for number in 0..60 {
            let bytes = numbers.bytes(3 * CHANGE_BYTES);
            assert_eq!(changed(number, &bytes), changed(number, &bytes));
        }
    }
}
