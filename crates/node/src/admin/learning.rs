//! What the node has learnt: why a request was served as it was, what is expected next, and what it all cost.

use axum::Json;
use axum::extract::{Path, State};
use forerun_types::InvocationId;
use serde_json::{Value, json};

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;
use super::invocations;
use crate::learning::Learning;

pub(super) async fn view(State(state): State<Shared>) -> Json<Value> {
    Json(state.learning.as_deref().map_or_else(
        || json!({ "enabled": false }),
        |learning| {
            let mut view = learning.view();
            view["enabled"] = true.into();
            view
        },
    ))
}

pub(super) async fn explain(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let id = u128::from_str_radix(&text, 16)
        .map_err(|_| ApiError::bad_request("an invocation id has 32 hexadecimal digits"))?;
    let id = InvocationId::from_random(id);
    let event = state.recent.get(id).ok_or_else(|| ApiError::unknown_invocation(&text))?;
    let learning = state.learning.as_deref();
    Ok(Json(json!({
        "invocation": invocations::view(&event),
        "expectation": learning.and_then(|learning| learning.expectation(id)),
        "function": learning.and_then(|learning| learning.cost(&event.function)),
        "learning_enabled": learning.is_some(),
    })))
}

pub(super) async fn predict(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let function = name(&text)?;
    let view = state.functions.get(&function).ok_or_else(|| ApiError::unknown_function(&text))?;
    let program = state.functions.program(&function);
    let held = program.map(|program| program.held_ready()).unwrap_or_default();
    let answer = state.learning.as_deref().and_then(|learning| learning.answer(&function));
    let prediction = answer.map(|(answer, names)| {
        let next = answer.next.iter().map(|next| {
            let mut shown = json!(next);
            shown["function"] = json!(names.get(&next.kind));
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
        "costs": state.learning.as_deref().and_then(|learning: &Learning| learning.cost(&function)),
        "learning_enabled": state.learning.is_some(),
    })))
}
