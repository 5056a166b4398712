//! For `traces`: bytes as a trace of any format, read with a bound.

use forerun_sim::progress::Silent;
use forerun_sim::reader::{Context, FORMATS, Input, TraceError, TraceFormat, read};
use forerun_sim::trace::{Directory, UNKNOWN};

/// Longer traces say nothing new and take long.
const BYTES_MAX: usize = 64 << 10;
/// A line of the widest format is more calls than it has bytes; this many are looked at.
const CALLS_MAX: u64 = 100_000;

/// Reads `bytes` in the format that `format` chooses, or in the one that its first line shows.
///
/// # Panics
/// If what is read does not hold together.
pub fn read_as(format: u8, bytes: &[u8]) {
    let bytes = bytes[..bytes.len().min(BYTES_MAX)].to_vec();
    let chosen = FORMATS.get(usize::from(format) % (FORMATS.len() + 1)).map(|(format, _)| *format);
    let mut directory = Directory::default();
    let (mut calls, mut functions, mut kinds, mut scopes) = (0, 0, 0, 0);
    let mut sink = |call: forerun_sim::trace::Invocation| {
        calls += 1;
        functions = functions.max(call.function);
        kinds = kinds.max(call.kind);
        if call.scope != UNKNOWN {
            scopes = scopes.max(call.scope);
        }
        // Any error ends the reading.
        let enough = || TraceError::Line { name: "enough".to_owned(), line: 0, problem: String::new() };
        if calls < CALLS_MAX { Ok(()) } else { Err(enough()) }
    };
    let mut context = Context { directory: &mut directory, sink: &mut sink, file: u64::from(format >> 4), skipped: 0 };
    let outcome = read(Input::from_bytes("trace", bytes), chosen, &mut context, &mut Silent);
    match outcome {
        Ok(format) => assert!(chosen.is_none_or(|chosen| chosen == format)),
        Err(TraceError::Line { problem, .. }) => assert!(problem.len() < 2_000, "a message is short: {problem}"),
        Err(TraceError::UnknownFormat { .. }) => assert!(chosen.is_none()),
        Err(error) => drop(error.to_string()),
    }
    if calls > 0 {
        assert!((functions as usize) < directory.functions() && (kinds as usize) < directory.kinds.len());
        assert!(scopes == 0 || (scopes as usize) < directory.scopes.len());
    }
    // Names on the command line lead to the formats and back.
    assert!(FORMATS.iter().all(|(format, name)| TraceFormat::from_name(name) == Some(*format)));
}
