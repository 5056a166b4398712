//! How long a component takes to compile that differs little from one that was compiled before:
//! `compile_again BEFORE.wasm AFTER.wasm`. The code must be the same, byte for byte, as that of a whole compilation.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement fails by panicking and prints what it finds"
)]

use std::time::Instant;

use forerun_runtime::{Interruption, Tier, compile, compile_again};

fn main() {
    let mut files = std::env::args().skip(1).map(|path| std::fs::read(path).unwrap());
    let (Some(before), Some(after)) = (files.next(), files.next()) else {
        println!("usage: compile_again BEFORE.wasm AFTER.wasm");
        return;
    };
    let began = Instant::now();
    let first = compile_again(&before, Tier::Full, true, Interruption::Epochs, Vec::new()).unwrap();
    println!("before, nothing known: {:?}, {} bodies, {} bytes left", began.elapsed(), first.made, first.bodies.len());
    let began = Instant::now();
    let whole = compile(&after, Tier::Full, true).unwrap();
    println!("after, whole: {:?}, {} bytes of code", began.elapsed(), whole.len());
    let began = Instant::now();
    let again = compile_again(&after, Tier::Full, true, Interruption::Epochs, first.bodies).unwrap();
    println!("after, again: {:?}, {} bodies reused, {} made", began.elapsed(), again.reused, again.made);
    assert!(again.code == whole, "the code differs");
}
