//! The engine's statements and its state after a fixed stream of events, against digests kept here.
//!
//! An optimisation must leave both as they are. A change of the state's form changes the second digest only and raises
//! `SNAPSHOT_VERSION`; a change of method changes both, and needs the replay's figures before and after.

use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::hash::mix;
use forerun_predict::paths::RequestContext;
use forerun_predict::plan::{Course, PlanTerms};
use forerun_predict::settings::EngineSettings;
use forerun_predict::timing::bins::Resolution;

const STATEMENTS: &str = "c9656c4366af6ebccdad44dff34d05f5";
const STATE: &str = "7ed16ad342bfd2aaca61caa0e195a643";

const SECOND_US: u64 = 1_000_000;
const EVENTS: u64 = 3_000;

/// One event in all the forms there are: with and without a scope, a session, a caller; chains, timers and noise.
fn call(step: u64, at_us: u64) -> Call {
    let noise = mix(step);
    let scope = (!noise.is_multiple_of(5)).then_some((noise >> 8) as u32 % 6);
    let kind = match noise >> 16 & 3 {
        0 => (noise >> 20) as u32 % 300,
        1 | 2 => (step % 7) as u32,
        _ => 40 + (step % 3) as u32,
    };
    Call {
        at_us,
        target: Target { scope, kind },
        session: (noise >> 30).is_multiple_of(4).then_some((noise >> 32) % 9),
        caller: (noise >> 40).is_multiple_of(3).then_some((noise >> 42) as u32 % 4),
        class: (noise >> 50) as u32 % 3,
        count: 1 + (noise >> 56) as u32 % 4,
    }
}

struct Digest(blake3::Hasher);

impl Digest {
    fn floats(&mut self, values: &[f32]) {
        self.0.update(&(values.len() as u64).to_le_bytes());
        for value in values {
            self.0.update(&value.to_bits().to_le_bytes());
        }
    }

    fn outlook(&mut self, engine: &Engine, outlook: &Outlook) {
        self.floats(&outlook.event.hazards);
        self.floats(&outlook.rhythm.hazards);
        let mut windows = Vec::new();
        let course = Course::new(engine.bins(), &outlook.event.hazards);
        for candidate in &outlook.candidates {
            self.0.update(&candidate.target.kind.to_le_bytes());
            self.floats(&[candidate.probability, candidate.error]);
            let terms = PlanTerms { value: 3_600.0, hold_per_s: 1.0, load: 30.0, held: candidate.target.kind % 2 == 0 };
            let gain = course.plan(engine.bins(), candidate.probability, terms, &mut windows);
            self.floats(&[gain]);
            windows.iter().for_each(|window| self.floats(&[window.start_s, window.end_s, window.probability]));
        }
    }

    fn hex(&self) -> String {
        self.0.finalize().to_hex()[..32].to_owned()
    }
}

/// Digests of the statements and of the state after the stream.
fn run(resolution: Resolution) -> (Digest, Vec<u8>) {
    let mut engine = Engine::new(EngineSettings { resolution, ..EngineSettings::default() });
    let mut digest = Digest(blake3::Hasher::new());
    let mut outlook = Outlook::default();
    let mut at_us = 1_700_000_000 * SECOND_US;
    for step in 0..EVENTS {
        // Mostly seconds apart, now and then hours.
        at_us += if step % 97 == 0 { 5_000 * SECOND_US } else { mix(step ^ 77) % (30 * SECOND_US) };
        let call = call(step, at_us);
        engine.observe(&call);
        engine.outlook(call.target, call.session, &mut outlook);
        digest.outlook(&engine, &outlook);
        if step % 5 == 0 {
            let functions: Vec<u32> = (0..20 + (step % 3) as u32 * 10).collect();
            let request = RequestContext { class: (step % 3) as u32, caller: 1, payload: (step % 2) as u32 };
            engine.paths.observe(call.target.kind % 10, &request, &functions);
            let forecast = engine.paths.forecast(call.target.kind % 10, &request);
            digest.floats(&forecast.signatures.iter().map(|(_, probability)| *probability).collect::<Vec<_>>());
        }
        if step % 400 == 399 {
            call.session.iter().for_each(|session| engine.end_session(call.target.scope, *session));
            engine.set_pressure((step / 400 % 3) as f32 * 0.4);
        }
    }
    (digest, engine.snapshot().expect("the state can be written"))
}

#[test]
fn statements_and_state_are_what_they_were() {
    let (mut digest, seconds) = run(Resolution::Second);
    let (minutes_digest, minutes) = run(Resolution::Minute);
    digest.0.update(minutes_digest.0.finalize().as_bytes());
    let state = blake3::Hasher::new().update(&seconds).update(&minutes).finalize().to_hex()[..32].to_owned();
    assert_eq!((digest.hex().as_str(), state.as_str()), (STATEMENTS, STATE));
}
