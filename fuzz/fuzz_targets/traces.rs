//! Any bytes as a trace: calls with numbers that have names, or an error that says what is wrong in a few words.
//!
//! The first byte chooses one of the formats, or that the first line shows which it is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((format, bytes)) = data.split_first() {
        forerun_fuzz::traces::read_as(*format, bytes);
    }
});
