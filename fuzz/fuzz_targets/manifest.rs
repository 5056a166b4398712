//! Any text as forerun.toml and as spin.toml: specifications that pass their own check, or findings that can be drawn.
//!
//! The first byte says under which name it is read. Names and routes are unique, findings point into the text, and what
//! is drawn has no control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((name, text)) = data.split_first() else { return };
    let name = if name & 1 == 0 { "forerun.toml" } else { "spin.toml" };
    forerun_fuzz::manifest::read(name, &String::from_utf8_lossy(text));
});
