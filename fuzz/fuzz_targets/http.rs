//! Any bytes as a route, a traceparent, an outbound host, a session source, a name, a digest: refused, or sound.
//!
//! The first byte says which. What is read means the same when it is written and read again, a route answers on its own
//! path and is ordered among others, and a pattern of hosts opens no host that it does not name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((kind, bytes)) = data.split_first() {
        forerun_fuzz::http::read(*kind, bytes);
    }
});
