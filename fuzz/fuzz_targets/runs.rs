//! Generated modules do the same whole and split: results, traps, what they log, memories and globals.
#![no_main]

use forerun_fuzz::runs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    runs::run(data);
});
