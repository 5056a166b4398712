//! What the node has learnt: why a request was served as it was, what is expected next, and what it all cost.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use forerun_types::{FunctionName, InvocationId, LearningMode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;
use super::invocations;
use crate::functions::unix_ms;

pub(super) async fn view(State(state): State<Shared>) -> Json<Value> {
    Json(state.learning.view())
}

/// How far learning is to go from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    mode: LearningMode,
    /// Of this function only.
    function: Option<FunctionName>,
}

pub(super) async fn switch(
    State(state): State<Shared>,
    switch: Result<Json<Switch>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(switch) = switch.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    if let Some(function) = &switch.function
        && state.functions.get(function).is_none()
    {
        return Err(ApiError::unknown_function(function.as_str()));
    }
    state.learning.switch(switch.function, switch.mode);
    Ok(Json(json!(state.learning.setting())))
}

/// Furthest ahead that a call may be told, in milliseconds: a schedule that is told once a week.
const TOLD_AHEAD_MAX_MS: u64 = 8 * 86_400_000;
/// Longest window of a call that is told, in milliseconds: a VM is held all the while.
const TOLD_WINDOW_MAX_MS: u64 = 86_400_000;

/// A call that someone knows will come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    from_unix_ms: u64,
    until_unix_ms: u64,
}

impl Told {
    /// Why it is not believed, if it is not.
    fn fault(&self, now_ms: u64) -> Option<&'static str> {
        let Self { from_unix_ms, until_unix_ms } = *self;
        if until_unix_ms <= from_unix_ms {
            Some("`until_unix_ms` must be later than `from_unix_ms`")
        } else if until_unix_ms <= now_ms {
            Some("the time is over")
        } else if from_unix_ms > now_ms.saturating_add(TOLD_AHEAD_MAX_MS) {
            Some("at most eight days ahead")
        } else if until_unix_ms - from_unix_ms > TOLD_WINDOW_MAX_MS {
            Some("at most a day long")
        } else {
            None
        }
    }
}

/// A call of a function is known to come: a VM is held for it.
pub(super) async fn tell(
    State(state): State<Shared>,
    Path(text): Path<String>,
    told: Result<Json<Told>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let function = name(&text)?;
    let Json(told) = told.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    state.functions.get(&function).ok_or_else(|| ApiError::unknown_function(&text))?;
    if let Some(fault) = told.fault(unix_ms()) {
        return Err(ApiError::bad_request(fault));
    }
    let window_us = (told.from_unix_ms.saturating_mul(1_000), told.until_unix_ms.saturating_mul(1_000));
    if !state.learning.tell(&function, window_us) {
        return Err(ApiError::too_many_told());
    }
    Ok(Json(json!({
        "function": function,
        "from_unix_ms": told.from_unix_ms,
        "until_unix_ms": told.until_unix_ms,
        "learning": state.learning.mode_of(&function),
    })))
}

/// The calls that functions make of each other, as they were learnt.
pub(super) async fn calls(State(state): State<Shared>) -> Json<Value> {
    let edges = state.learning.edges().into_iter().map(|(caller, callee, edge)| {
        let mut shown = json!(edge);
        shown["caller"] = caller.into();
        shown["callee"] = callee.into();
        shown
    });
    Json(json!({ "calls": edges.collect::<Vec<_>>() }))
}

pub(super) async fn explain(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let id = u128::from_str_radix(&text, 16)
        .map_err(|_| ApiError::bad_request("an invocation id has 32 hexadecimal digits"))?;
    let id = InvocationId::from_random(id);
    let event = state.recent.get(id).ok_or_else(|| ApiError::unknown_invocation(&text))?;
    let learning = &state.learning;
    Ok(Json(json!({
        "invocation": invocations::view(&event),
        "expectation": learning.expectation(id),
        "function": learning.cost(&event.function),
        "learning_enabled": learning.is_on(),
    })))
}

pub(super) async fn paths(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let function = name(&text)?;
    let view = state.functions.get(&function).ok_or_else(|| ApiError::unknown_function(&text))?;
    let paths = state.functions.paths();
    Ok(Json(json!({
        "function": function,
        "revision": view.revision,
        "sampling_enabled": paths.is_some(),
        "map": paths.and_then(|paths| paths.view(&function)),
    })))
}

pub(super) async fn profile(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let function = name(&text)?;
    let view = state.functions.get(&function).ok_or_else(|| ApiError::unknown_function(&text))?;
    let placed = state.functions.placed(&function);
    let specialization = state.splitting.as_ref().zip(placed).map(|(splitting, placed)| splitting.view(&placed));
    Ok(Json(json!({
        "function": function,
        "revision": view.revision,
        "sampling_enabled": state.splitting.is_some(),
        "specialization": specialization,
        "next_request": expected_paths(&state, &function),
    })))
}

/// Which inner functions the next request of a function is expected to run.
fn expected_paths(state: &Shared, function: &FunctionName) -> Option<Value> {
    let expected = state.learning.expected_paths(function)?;
    state.functions.paths()?.expected_view(function, &expected)
}

pub(super) async fn predict(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let function = name(&text)?;
    let view = state.functions.get(&function).ok_or_else(|| ApiError::unknown_function(&text))?;
    let program = state.functions.program(&function);
    let held = program.map(|program| program.held_ready()).unwrap_or_default();
    let answer = state.learning.answer(&function);
    let prediction = answer.map(|(answer, names)| {
        let next = answer.next.iter().map(|next| {
            let mut shown = json!(next);
            let name = names.get(&next.kind);
            shown["function"] = json!(name);
            let name = name.and_then(|name| name.parse().ok());
            shown["code_paths"] = json!(name.and_then(|name| expected_paths(&state, &name)));
            shown
        });
        json!({
            "calls": answer.calls,
            "again_within": answer.again_within,
            "timing_reasons": answer.timing_reasons,
            "next": next.collect::<Vec<_>>(),
            "other": answer.other,
        })
    });
    Ok(Json(json!({
        "function": function,
        "revision": view.revision,
        "held_ready": { "vms": held.vms, "memory_bytes": held.memory_bytes, "make_us": held.make_us },
        "prediction": prediction,
        "code_paths": expected_paths(&state, &function),
        "costs": state.learning.cost(&function),
        "learning_enabled": state.learning.is_on(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_told_has_bounds() {
        let now_ms = 1_700_000_000_000;
        let fault = |from: u64, until: u64| Told { from_unix_ms: from, until_unix_ms: until }.fault(now_ms);
        assert_eq!(fault(now_ms - 5, now_ms + 5), None);
        assert_eq!(fault(now_ms + TOLD_AHEAD_MAX_MS, now_ms + TOLD_AHEAD_MAX_MS + TOLD_WINDOW_MAX_MS), None);
        for (from, until) in [
            (now_ms + 5, now_ms + 5),
            (now_ms - 5, now_ms),
            (now_ms + TOLD_AHEAD_MAX_MS + 1, now_ms + TOLD_AHEAD_MAX_MS + 2),
            (now_ms, now_ms + TOLD_WINDOW_MAX_MS + 1),
            (0, u64::MAX),
            (u64::MAX - 1, u64::MAX),
        ] {
            assert!(fault(from, until).is_some(), "{from} {until}");
        }
    }
}
