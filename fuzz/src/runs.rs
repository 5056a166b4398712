//! For `runs`: generated modules run whole and split, with the small host of the tests of the splitter.
//!
//! The input is eight bytes that decide what may be used, how the module is split and the arguments, and what
//! `wasm-smith` makes the module of.

#![allow(dead_code, clippy::unwrap_used, reason = "files of tests, of which this needs a part")]

#[path = "../../crates/specialize/tests/split/compare.rs"]
mod compare;
#[path = "../../crates/specialize/tests/split/engine.rs"]
mod engine;
#[path = "../../crates/specialize/tests/split/modules.rs"]
mod modules;
#[path = "../../crates/specialize/tests/split/seeds.rs"]
mod seeds;

use self::compare::whole_with_split;
use self::modules::{Proposals, generate_of};
use self::seeds::Numbers;

/// Bytes of the input that are not the module's.
const HEADER_BYTES: usize = 8;
/// Bytes that are added to the input, so that short inputs are modules with bodies, too.
const FILLING_BYTES: usize = 4_000;

/// Makes a module of `bytes` and compares it with itself, split; whether there was anything to compare.
///
/// # Panics
/// If they differ.
pub fn run(bytes: &[u8]) -> bool {
    let Some((header, data)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return false };
    let mut numbers = Numbers::new(u64::from_le_bytes(*header));
    let data = [data, &numbers.bytes(FILLING_BYTES)].concat();
    let module = generate_of(&data, &mut numbers, Proposals::Run);
    module.and_then(|module| whole_with_split(&module, &mut numbers)).is_some()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::numbers::Numbers;

    /// A target that compares nothing finds nothing.
    #[test]
    fn many_inputs_are_split_and_run() {
        let compared = (0..40).filter(|seed| run(&Numbers::new(*seed).bytes(600))).count();
        assert!(compared >= 10, "{compared} of 40");
    }
}
