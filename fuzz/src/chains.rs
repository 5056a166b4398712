//! For `passes` and `generated`: the passes, one behind the other as the worker runs them, and what must hold of each.
//!
//! A pass validates what it makes and throws it away if it is not valid. For the one who runs it that is a refusal like
//! any other; here it is a finding, and so is a panic, which `apply` turns into a refusal too.

use crate::numbers::Numbers;
use forerun_specialize::passes::coverage::{CoverageMap, add_coverage};
use forerun_specialize::passes::split::{Bundle, SplitIndex, main_module, split};
use forerun_specialize::passes::{apply, known};
use wasmparser::{Validator, WasmFeatures};

/// Refusals that are faults of a pass, by the names that the passes give them.
const FAULTS: [&str; 4] = ["panicked", "invalid_output", "made-invalid", "inconsistent"];
/// Refusals of what is no component. Of a valid one they are faults, too.
const NO_COMPONENT: [&str; 3] = ["invalid", "invalid_component", "malformed"];
/// How many chains there are.
pub const CHAINS: u8 = 6;
/// How often a chain is run twice: what it makes must be the same, since images are found by what they are made of.
const TWICE_ONE_IN: u64 = 4;

/// Runs one of the [`CHAINS`] over `component`, now and then twice. `numbers` decides how it is split.
///
/// # Panics
/// If anything does not hold.
pub fn run(component: &[u8], chain: u8, numbers: &mut Numbers) {
    let seed = numbers.draw();
    let made = make(component, chain, &mut Numbers::new(seed));
    if numbers.below(TWICE_ONE_IN) == 0 {
        let again = make(component, chain, &mut Numbers::new(seed));
        assert!(made == again, "the same bytes in, other bytes out");
    }
}

/// Everything that a chain makes, if it makes anything.
fn make(component: &[u8], chain: u8, numbers: &mut Numbers) -> Vec<Vec<u8>> {
    match chain % CHAINS {
        0 => vec![applied(component, &["prelink", "state", "interrupt"])],
        1 => cover(&applied(component, &["prelink"])),
        2 => {
            let mut made = parts(&applied(component, &["prelink"]), numbers);
            if let Some(primary) = made.first_mut() {
                *primary = applied(primary, &["state"]);
            }
            made
        }
        3 => vec![applied(component, &["state", "interrupt"])],
        4 => cover(component),
        _ => parts(component, numbers),
    }
}

/// Whether these bytes are a component, or a core module, that the engine is asked to compile.
pub fn is_valid(bytes: &[u8]) -> Result<(), String> {
    let validated = Validator::new_with_features(WasmFeatures::default()).validate_all(bytes);
    validated.map(drop).map_err(|error| error.to_string())
}

/// The component that passes of these names made of `component`, or `component` if all of them refused.
fn applied(component: &[u8], names: &[&str]) -> Vec<u8> {
    let passes: Vec<_> = names.iter().map(|name| known(name).expect("passes are called by their names")).collect();
    let (made, reports) = apply(component, &passes);
    assert_eq!(reports.len(), names.len());
    for report in &reports {
        if let Some(refusal) = &report.refusal {
            not_a_fault(component, refusal, &report.detail);
        }
    }
    assert_eq!(made.is_some(), reports.iter().any(|report| report.is_applied()));
    let Some(made) = made else { return component.to_vec() };
    expect_valid("what passes made", &made);
    made
}

/// The twin that notes what ran, and its map.
fn cover(component: &[u8]) -> Vec<Vec<u8>> {
    match add_coverage(component) {
        Ok(covered) => {
            expect_valid("the twin", &covered.component);
            let map = covered.map.encode();
            assert_eq!(CoverageMap::decode(&map).as_ref(), Ok(&covered.map));
            vec![covered.component, map]
        }
        Err(refusal) => {
            not_a_fault(component, refusal.name(), &refusal.to_string());
            Vec::new()
        }
    }
}

/// Primary and groups, after a look at the file that the groups travel in.
fn parts(component: &[u8], numbers: &mut Numbers) -> Vec<Vec<u8>> {
    let plan = numbers.plan(component);
    let main = main_module(component);
    let split = match split(component, &plan) {
        Ok(split) => split,
        Err(refusal) => {
            not_a_fault(component, refusal.name(), &refusal.to_string());
            return Vec::new();
        }
    };
    assert!(main.is_ok(), "what can be split has a module to split");
    expect_valid("the primary", &split.primary);
    for (number, group) in split.groups.iter().enumerate() {
        expect_valid(&format!("group {number}"), &group.module);
    }
    let index = SplitIndex::of(&split, false);
    let head = index.to_json();
    assert_eq!(SplitIndex::from_json(head.as_bytes()).as_ref(), Ok(&index));
    let modules: Vec<&[u8]> = split.groups.iter().map(|group| &*group.module).collect();
    let file = Bundle::encode(head.as_bytes(), &modules).expect("a component has fewer groups than a file may hold");
    let found = Bundle::find(&file, file.len() as u64).expect("what was written can be read");
    let lengths: Vec<u64> = found.parts.iter().map(|part| part.end - part.start).collect();
    assert_eq!(lengths, modules.iter().map(|module| module.len() as u64).collect::<Vec<_>>());
    let groups = split.groups.into_iter().map(|group| group.module);
    std::iter::once(split.primary).chain(groups).collect()
}

fn expect_valid(what: &str, bytes: &[u8]) {
    if let Err(error) = is_valid(bytes) {
        panic!("{what} is not valid: {error}");
    }
}

fn not_a_fault(component: &[u8], refusal: &str, detail: &str) {
    let at_fault = FAULTS.contains(&refusal) || NO_COMPONENT.contains(&refusal) && is_valid(component).is_ok();
    assert!(!at_fault, "a pass is at fault: {refusal}: {detail}");
}
