//! Changes to the snapshot of an engine at work: refused, or an engine that goes on.
//!
//! A change is six bytes: which place (half of the time one of those that the last calls changed, so that counters,
//! clocks and queues are found among megabytes of weights), how, and with what. The rest of the input is calls.
#![no_main]

use forerun_fuzz::engine::{feed, restore_and_go_on, with_header};
use forerun_predict::engine::Engine;
use forerun_predict::settings::EngineSettings;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const HEADER_BYTES: usize = 52;

struct Live {
    body: Vec<u8>,
    places: Vec<usize>,
}

/// The body of a snapshot, and the places in it that differ from one taken a little earlier.
fn live() -> &'static Live {
    static LIVE: OnceLock<Live> = OnceLock::new();
    LIVE.get_or_init(|| {
        let mut engine = Engine::new(EngineSettings::default());
        let events: Vec<u8> = (0..9_600u64).map(|byte| (forerun_predict::hash::mix(byte) >> 20) as u8).collect();
        feed(&mut engine, &events, usize::MAX);
        let before = engine.snapshot().expect("it can be written");
        feed(&mut engine, &events[..120], usize::MAX);
        let body = engine.snapshot().expect("it can be written").split_off(HEADER_BYTES);
        let places = (0..body.len()).filter(|place| before.get(place + HEADER_BYTES) != Some(&body[*place])).collect();
        Live { body, places }
    })
}

fuzz_target!(|data: &[u8]| {
    let live = live();
    let (Some((count, data)), true) = (data.split_first(), data.len() > 6) else { return };
    let mut body = live.body.clone();
    let changes = usize::from(count % 4) + 1;
    for change in data.chunks_exact(6).take(changes) {
        let raw = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize;
        let place = if raw & 1 == 0 { live.places[(raw >> 1) % live.places.len()] } else { (raw >> 1) % body.len() };
        match change[4] % 4 {
            0 => body[place] = change[5],
            1 => body[place] ^= 1 << (change[5] % 8),
            // A number as long as numbers get: ten bytes in the form of a snapshot.
            2 => drop(body.splice(place..place + 1, [255, 255, 255, 255, 255, 255, 255, 255, 255, 1])),
            _ => drop(body.splice(place..place + 1, [255, 255, 255, 255, 15])),
        }
    }
    restore_and_go_on(&with_header(&body), &data[(6 * changes).min(data.len())..]);
});
