//! Components of the repository, changed: every pass gives a valid component or refuses, and never panics.
//!
//! The input is the number of a component, the number of a chain of passes, and changes of eight bytes each. What must
//! hold of a chain is in `chains`: whatever a pass makes is valid, and no pass finds fault with what it made itself.
#![no_main]

use forerun_fuzz::components::{CHANGE_BYTES, changed};
use forerun_fuzz::{chains, numbers::Numbers};
use libfuzzer_sys::fuzz_target;

/// More changes than these give no component.
const CHANGES_MAX: usize = 5;

fuzz_target!(|data: &[u8]| {
    let [which, chain, changes @ ..] = data else { return };
    let changes = &changes[..changes.len().min(CHANGES_MAX * CHANGE_BYTES)];
    chains::run(&changed(*which, changes), *chain, &mut Numbers::of(data));
});
