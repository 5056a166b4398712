//! For `calls`, `restore` and `mutate`: calls from bytes, and what must hold of any engine.

use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::paths::RequestContext;
use forerun_predict::plan::{Course, PlanTerms, PlanWindow};
use forerun_predict::snapshot::SNAPSHOT_VERSION;

/// Bytes of one event.
const EVENT_BYTES: usize = 12;

/// Feeds events to an engine and checks what it says after each. The last byte says what kind of time it is: mostly a
/// small step, sometimes any time at all.
pub fn feed(engine: &mut Engine, data: &[u8], events_max: usize) {
    let (mut outlook, mut windows) = (Outlook::default(), Vec::new());
    for bytes in data.chunks_exact(EVENT_BYTES).take(events_max) {
        let at = u64::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        let step_us = at & ((1 << (8 + u32::from(bytes[10] % 40))) - 1);
        let at_us = if bytes[11] & 7 == 0 { at } else { engine.now_us().saturating_add(step_us) };
        // Few kinds, so that something repeats; now and then any, the reserved one too.
        let kind = if bytes[9] < 250 { u32::from(bytes[9] % 80) } else { (at >> 3) as u32 | 0xffff_ff00 };
        let target = Target { scope: (bytes[8] < 200).then_some(u32::from(bytes[8] % 5)), kind };
        let session = (bytes[10] < 64).then_some(u64::from(bytes[10] % 7));
        let count = if bytes[11] == 255 { u32::MAX } else { u32::from(bytes[11]) };
        engine.observe(&Call { at_us, target, session, caller: Some(count), class: count, count });
        if bytes[11] & 31 == 9 {
            engine.set_pressure(f32::from_bits(at as u32));
            engine.advance(at);
        }
        if bytes[11] & 31 == 17 {
            session.iter().for_each(|session| engine.end_session(target.scope, *session));
            observe_paths(engine, kind, bytes);
        }
        engine.outlook(target, session, &mut outlook);
        check(engine, &outlook, &mut windows);
    }
}

fn observe_paths(engine: &mut Engine, kind: u32, bytes: &[u8]) {
    let functions: Vec<u32> = bytes.iter().map(|byte| u32::from(byte & 15)).collect();
    let request = RequestContext { class: u32::from(bytes[0] & 3), caller: 0, payload: u32::from(bytes[1] & 1) };
    engine.paths.observe(kind, &request, &functions);
    let forecast = engine.paths.forecast(kind, &request);
    let set = engine.paths.smallest_set(kind, &forecast, 0.1);
    assert!(set.mass <= 1.001 && (0.0..=1.0).contains(&forecast.error));
    assert!(forecast.map.iter().all(|share| (0.0..=1.0).contains(&share.probability)));
}

fn check(engine: &Engine, outlook: &Outlook, windows: &mut Vec<PlanWindow>) {
    assert!(outlook.event.hazards.iter().chain(&outlook.rhythm.hazards).all(|h| (0.0..=1.0).contains(h)));
    let total: f32 = outlook.candidates.iter().map(|candidate| candidate.probability).sum();
    assert!(total <= 1.001, "{total}");
    let course = Course::new(engine.bins(), &outlook.event.hazards);
    for candidate in &outlook.candidates {
        assert!((0.0..=1.0).contains(&candidate.probability) && (0.0..=1.0).contains(&candidate.error));
        let terms = PlanTerms { value: 3_600.0, hold_per_s: 1.0, load: 30.0, held: candidate.probability > 0.5 };
        let gain = course.plan(engine.bins(), candidate.probability, terms, windows);
        assert!(gain >= 0.0 && gain <= terms.value);
        assert!(windows.is_sorted_by(|a, b| a.end_s <= b.start_s));
    }
}

/// A snapshot with this body: its size and checksum are right.
pub fn with_header(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"FRPREDCT".to_vec();
    bytes.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(blake3::hash(body).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A snapshot that is believed must be as good as one of our own: the engine goes on, and its state can be kept again.
pub fn restore_and_go_on(snapshot: &[u8], data: &[u8]) -> bool {
    let Ok(mut engine) = Engine::restore(snapshot) else { return false };
    feed(&mut engine, data, 60);
    let again = engine.snapshot().expect("a sound state can be written");
    if let Err(error) = Engine::restore(&again) {
        panic!("a state that grew from a sound one is refused: {error}");
    }
    true
}
