//! An image file or the index of the image cache, changed: the cache opens, and gives out what was published or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| forerun_fuzz::images::change_and_get(data));
