//! Snapshots that someone has changed: each is refused, or gives an engine that goes on as a sound one does.
//!
//! The same as the fuzz target `mutate`, for a few cases at every test run.

use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::hash::mix;
use forerun_predict::paths::RequestContext;
use forerun_predict::settings::EngineSettings;
use proptest::prelude::*;
use std::sync::OnceLock;

const HEADER_BYTES: usize = 52;
const SECOND_US: u64 = 1_000_000;

fn feed(engine: &mut Engine, steps: std::ops::Range<u64>) {
    let mut outlook = Outlook::default();
    for step in steps {
        let noise = mix(step);
        let at_us = engine.now_us().saturating_add(noise % (60 * SECOND_US));
        let target =
            Target { scope: (!noise.is_multiple_of(4)).then_some(noise as u32 % 3), kind: (noise >> 9) as u32 % 12 };
        let session = (noise >> 20).is_multiple_of(3).then_some(noise >> 21 & 3);
        engine.observe(&Call { at_us, target, session, caller: None, class: step as u32 % 2, count: 1 });
        if step % 3 == 0 {
            let functions: Vec<u32> = (0..step as u32 % 9).collect();
            engine.paths.observe(target.kind, &RequestContext::default(), &functions);
            let forecast = engine.paths.forecast(target.kind, &RequestContext::default());
            assert!(forecast.map.iter().all(|share| (0.0..=1.0).contains(&share.probability)));
        }
        engine.outlook(target, session, &mut outlook);
        assert!(outlook.event.hazards.iter().chain(&outlook.rhythm.hazards).all(|h| (0.0..=1.0).contains(h)));
        assert!(outlook.candidates.iter().map(|candidate| candidate.probability).sum::<f32>() <= 1.001);
    }
}

/// A snapshot, and the places of its body that the last calls changed: counters, clocks, queues among all the weights.
fn live() -> &'static (Vec<u8>, Vec<usize>) {
    static LIVE: OnceLock<(Vec<u8>, Vec<usize>)> = OnceLock::new();
    LIVE.get_or_init(|| {
        let mut engine = Engine::new(EngineSettings::default());
        feed(&mut engine, 0..400);
        let before = engine.snapshot().expect("the state can be written");
        feed(&mut engine, 400..404);
        let bytes = engine.snapshot().expect("the state can be written");
        let places = (HEADER_BYTES..bytes.len()).filter(|place| before.get(*place) != Some(&bytes[*place])).collect();
        (bytes, places)
    })
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let (length, checksum) = ((bytes.len() - HEADER_BYTES) as u64, blake3::hash(&bytes[HEADER_BYTES..]));
    bytes[12..20].copy_from_slice(&length.to_le_bytes());
    bytes[20..52].copy_from_slice(checksum.as_bytes());
    bytes
}

#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Flip(u8),
    /// A number as long as numbers get in the form of a snapshot.
    Huge,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![any::<u8>().prop_map(Change::Set), (0u8..8).prop_map(Change::Flip), Just(Change::Huge)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn a_changed_snapshot_is_refused_or_goes_on(
        changes in prop::collection::vec((any::<bool>(), any::<usize>(), change()), 1..4),
    ) {
        let (bytes, places) = live();
        let mut bytes = bytes.clone();
        for (live_place, raw, change) in changes {
            let anywhere = HEADER_BYTES + raw % (bytes.len() - HEADER_BYTES);
            let place = if live_place { places[raw % places.len()] } else { anywhere };
            match change {
                Change::Set(value) => bytes[place] = value,
                Change::Flip(bit) => bytes[place] ^= 1 << bit,
                Change::Huge => drop(bytes.splice(place..=place, [255, 255, 255, 255, 255, 255, 255, 255, 255, 1])),
            }
        }
        if let Ok(mut engine) = Engine::restore(&sealed(bytes)) {
            feed(&mut engine, 1_000..1_060);
            let again = engine.snapshot().expect("the state can be written");
            prop_assert!(Engine::restore(&again).is_ok(), "a state that grew from a sound one is refused");
        }
    }
}

#[test]
fn an_unchanged_snapshot_is_accepted() {
    assert!(Engine::restore(&sealed(live().0.clone())).is_ok());
}
