//! Puts a component through the passes `prelink`, `state` and `interrupt` and says what came of it.
//!
//!     cargo run --example interrupt -- app.wasm [checked.wasm]

#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use std::time::Instant;

use forerun_specialize::passes::{apply, interrupt, known};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which component?")?;
    let source = std::fs::read(&path)?;
    let before: Vec<_> = ["prelink", "state"].into_iter().filter_map(known).collect();
    let (made, reports) = apply(&source, &before);
    println!("{path}: {} bytes, {reports:?}", source.len());
    let component = made.unwrap_or(source);

    let began = Instant::now();
    match interrupt::add_checks(&component) {
        Ok(checked) => {
            println!(
                "interrupt: {} modules, {} loops, {} indirect calls, {} calls in circles, {} long stretches, {} bytes more, {:?}",
                checked.modules,
                checked.loops,
                checked.indirect,
                checked.circles,
                checked.stretches,
                checked.component.len() - component.len(),
                began.elapsed()
            );
            if let Some(output) = arguments.next() {
                std::fs::write(output, checked.component)?;
            }
        }
        Err(refusal) => println!("interrupt: refused ({}): {refusal}", refusal.name()),
    }
    Ok(())
}
