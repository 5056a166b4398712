//! Code of bodies that were compiled before is used again, and makes no difference to what is made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use forerun_runtime::{Compiled, Interruption, Tier, compile, compile_again};

fn component(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/components").join(name)).unwrap()
}

fn again(source: &[u8], bodies: Vec<u8>) -> Compiled {
    compile_again(source, Tier::Full, true, Interruption::Epochs, bodies).unwrap()
}

#[test]
fn the_code_is_that_of_a_whole_compilation() {
    let (steady, misbehave) = (component("steady.wasm"), component("misbehave.wasm"));
    let whole = |source: &[u8]| compile(source, Tier::Full, true).unwrap();
    let first = again(&misbehave, Vec::new());
    assert_eq!((first.reused, first.code == whole(&misbehave)), (0, true));

    // What the compiler knows a body by is not the same in every run: a tenth to a fifth of them are not found.
    let same = again(&misbehave, first.bodies.clone());
    assert!(same.code == first.code && same.reused > 2 * same.made, "{} reused, {} made", same.reused, same.made);

    // Two components of one language share some bodies, and neither gets the other's by mistake.
    let other = again(&steady, first.bodies.clone());
    assert!(other.code == whole(&steady) && other.reused > 0 && other.made > 0);

    // What cannot be read, or not as what it says to be, is compiled.
    let mut torn = first.bodies.clone();
    torn.truncate(torn.len() / 2);
    let mut wrong = first.bodies;
    let empty_code_of_one = 32 + 4;
    wrong[32..empty_code_of_one].fill(0);
    for bodies in [torn, wrong, b"something else".to_vec()] {
        let made = again(&misbehave, bodies);
        assert!(made.code == first.code && made.made > 0);
    }
}

#[test]
fn code_made_in_a_hurry_is_never_taken_for_better_code() {
    let source = component("steady.wasm");
    let quick = compile_again(&source, Tier::Quick, true, Interruption::Epochs, Vec::new()).unwrap();
    let full = again(&source, quick.bodies);
    assert_eq!((full.reused, full.code == compile(&source, Tier::Full, true).unwrap()), (0, true));
}
