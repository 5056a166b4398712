//! Any bytes as the body of a snapshot, under a right header: refused or sound, never a panic.
#![no_main]

use forerun_predict::engine::Engine;
use forerun_predict::snapshot::SNAPSHOT_VERSION;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut bytes = b"FRPREDCT".to_vec();
    bytes.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(blake3::hash(body).as_bytes());
    bytes.extend_from_slice(body);
    if let Ok(engine) = Engine::restore(&bytes) {
        engine.snapshot().expect("a sound state can be written");
    }
});
