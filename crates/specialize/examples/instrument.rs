//! Puts a component through the passes `state` and `coverage` and says what came of it: sizes, times, refusals.
//!
//!     cargo run --example instrument -- app.wasm [twin.wasm]

#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use std::time::Instant;

use forerun_specialize::passes::coverage::add_coverage;
use forerun_specialize::passes::state::add_state_calls;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which component?")?;
    let source = std::fs::read(&path)?;
    println!("{path}: {} bytes", source.len());

    let began = Instant::now();
    match add_state_calls(&source) {
        Ok(stated) => println!(
            "state: {} globals of {} modules, {} bytes more, {:?}",
            stated.globals,
            stated.modules,
            stated.component.len() - source.len(),
            began.elapsed()
        ),
        Err(refusal) => println!("state: refused ({}): {refusal}", refusal.name()),
    }

    let began = Instant::now();
    match add_coverage(&source) {
        Ok(covered) => {
            let (map, took) = (&covered.map, began.elapsed());
            let functions = map.functions.len();
            println!("coverage: {functions} functions of {} modules, {took:?}", map.modules.len());
            println!("coverage: {} bytes, map {} bytes", covered.component.len(), map.encode().len());
            if let Some(twin) = arguments.next() {
                std::fs::write(twin, covered.component)?;
            }
        }
        Err(refusal) => println!("coverage: refused ({}): {refusal}", refusal.name()),
    }
    Ok(())
}
