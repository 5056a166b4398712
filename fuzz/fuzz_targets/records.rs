//! Records of one process that another reads: refused, or sound.
//!
//! The first byte says which record: the file of cold groups, the index of a split, the map of coverage, the artifact of
//! a worker, a profile, the specification of a function. What is read adds up, and can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((kind, bytes)) = data.split_first() {
        forerun_fuzz::records::read(*kind, bytes);
    }
});
