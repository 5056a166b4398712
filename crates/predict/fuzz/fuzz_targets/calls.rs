//! Any calls: probabilities stay probabilities, and the state can be written and read back.
#![no_main]

use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::settings::EngineSettings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut engine = Engine::new(EngineSettings::default());
    let mut outlook = Outlook::default();
    for bytes in data.chunks_exact(12).take(2_000) {
        let at = u64::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        let at_us = if bytes[11] & 1 == 0 { engine.now_us().saturating_add(at & 0xff_ffff) } else { at };
        let target = Target { scope: (bytes[8] < 200).then_some(u32::from(bytes[8] % 5)), kind: u32::from(bytes[9]) };
        let session = (bytes[10] < 64).then_some(u64::from(bytes[10]));
        let count = u32::from(bytes[11]);
        engine.observe(&Call { at_us, target, session, caller: Some(count), class: count, count });
        engine.set_pressure(f32::from(bytes[10]) / 255.0);
        engine.outlook(target, session, &mut outlook);
        assert!(outlook.event.hazards.iter().all(|hazard| (0.0..=1.0).contains(hazard)));
        assert!(outlook.candidates.iter().map(|candidate| candidate.probability).sum::<f32>() <= 1.001);
    }
    let bytes = engine.snapshot().expect("any state can be written");
    Engine::restore(&bytes).expect("what was written can be read");
});
