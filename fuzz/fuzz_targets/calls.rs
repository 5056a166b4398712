//! Any calls: probabilities stay probabilities, and the state can be written and read back.
#![no_main]

use forerun_fuzz::engine::feed;
use forerun_predict::engine::Engine;
use forerun_predict::settings::EngineSettings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut engine = Engine::new(EngineSettings::default());
    feed(&mut engine, data, 2_000);
    let bytes = engine.snapshot().expect("any state can be written");
    Engine::restore(&bytes).expect("what was written can be read");
});
