//! Any bytes as the body of a snapshot, under a right header: refused or sound, never a panic.
#![no_main]

use forerun_fuzz::engine::{restore_and_go_on, with_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    restore_and_go_on(&with_header(body), body);
});
