//! Pre-links a component outside the server and says what became of it.
//!
//! `cargo run --release -p forerun-specialize --example prelink -- component.wasm [prelinked.wasm]`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Instant;

use forerun_specialize::passes::prelink::{PrelinkBounds, prelink};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let input = arguments.next().ok_or("usage: prelink component.wasm [prelinked.wasm]")?;
    let component = std::fs::read(&input)?;
    let began = Instant::now();
    let prelinked = prelink(&component, &PrelinkBounds::default());
    let took_ms = began.elapsed().as_millis();
    let prelinked = match prelinked {
        Ok(prelinked) => prelinked,
        Err(refusal) => return Err(format!("left as it is, after {took_ms} ms: {}: {refusal}", refusal.name()).into()),
    };
    println!("{} in {took_ms} ms", prelinked.figures);
    if let Some(output) = arguments.next() {
        std::fs::write(output, &prelinked.bytes)?;
    }
    Ok(())
}
