//! The image cache: what is in it, whose it is, and what went and why.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use forerun_images::{Gone, ImageRow, PassNote};
use forerun_types::{ComponentDigest, FunctionName};
use serde_json::{Value, json};

use super::Shared;
use crate::functions::FunctionView;
use crate::paths::COLD_GROUPS_MAX;
use crate::splitting::SplitState;

/// The functions whose active revision is a component.
type Users = BTreeMap<ComponentDigest, Vec<FunctionName>>;

pub(super) async fn list(State(state): State<Shared>) -> Json<Value> {
    let Some(cache) = state.functions.images() else {
        return Json(json!({ "images": [], "split": [], "vms": [], "gone": [] }));
    };
    let functions = state.functions.list();
    let vms: Vec<_> = functions.iter().map(vm_row).collect();
    let mut users = Users::new();
    for function in functions {
        users.entry(function.digest).or_default().push(function.spec.name);
    }
    let images: Vec<_> = cache.list().iter().map(|image| row(image, &users)).collect();
    let split: Vec<_> = state.splitting.iter().flat_map(|splitting| splitting.all()).map(split_row).collect();
    let gone: Vec<_> = cache.gone().iter().map(|gone| gone_row(gone, &users)).collect();
    Json(json!({ "images": images, "split": split, "vms": vms, "gone": gone }))
}

fn row(image: &ImageRow, users: &Users) -> Value {
    json!({
        "component": image.key.component,
        "functions": users.get(&image.key.component).map_or(&[][..], Vec::as_slice),
        "profile": image.key.profile.to_string(),
        "engine": image.key.engine.to_string(),
        "kind": image.meta.as_ref().map(|meta| meta.label.to_string()),
        "passes": image.meta.as_ref().map_or_else(Vec::new, |meta| meta.passes.iter().map(pass).collect()),
        "build_ms": image.meta.as_ref().map(|meta| meta.build_ms),
        "state": image.state.label(),
        "bytes": image.bytes,
        "age_ms": image.age_ms,
        "hits": image.hits,
        "misses": image.misses,
        "uses_since": image.uses_since,
        "value_ms_per_byte": image.value_ms_per_byte,
        "in_use": image.leases,
        "failures": image.failures,
        "why": image.why,
    })
}

/// How VMs of a function's images are run.
fn vm_row(function: &FunctionView) -> Value {
    json!({
        "functions": [function.spec.name],
        "policy": function.vms.policy,
        "memory_bytes_max": function.spec.limits.memory_bytes,
        "room_bytes": function.vms.room_bytes,
        "resident_bytes": function.vms.resident_bytes,
        "time_ms_max": function.spec.limits.timeout_ms,
        "cpus": function.spec.limits.cpus,
        "ready": function.ready,
        "cold_groups_max": COLD_GROUPS_MAX,
    })
}

/// What has become of a function's image of just the code that its requests run.
fn split_row((function, state): (FunctionName, SplitState)) -> Value {
    json!({ "functions": [function], "state": state.name(), "line": state.line(), "detail": state })
}

fn pass(note: &PassNote) -> Value {
    json!({ "pass": note.pass.as_str(), "applied": note.applied, "detail": note.detail.as_str() })
}

fn gone_row(gone: &Gone, users: &Users) -> Value {
    json!({
        "key": gone.key,
        "functions": users.get(&gone.key.component).map_or(&[][..], Vec::as_slice),
        "at_unix_ms": gone.at_unix_ms,
        "bytes": gone.bytes,
        "reason": gone.reason,
        "why": gone.reason.to_string(),
    })
}
