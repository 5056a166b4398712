//! The image cache: what is in it, and what went and why.

use axum::Json;
use axum::extract::State;
use forerun_images::ImageRow;
use serde_json::{Value, json};

use super::Shared;

pub(super) async fn list(State(state): State<Shared>) -> Json<Value> {
    let Some(cache) = state.functions.images() else {
        return Json(json!({ "images": [], "gone": [] }));
    };
    let images: Vec<_> = cache.list().iter().map(row).collect();
    let gone: Vec<_> = cache.gone().iter().map(|gone| json!(gone)).collect();
    Json(json!({ "images": images, "gone": gone }))
}

fn row(image: &ImageRow) -> Value {
    json!({
        "component": image.key.component,
        "profile": image.key.profile.to_string(),
        "engine": image.key.engine.to_string(),
        "kind": image.meta.as_ref().map(|meta| meta.label.to_string()),
        "build_ms": image.meta.as_ref().map(|meta| meta.build_ms),
        "state": image.state.label(),
        "bytes": image.bytes,
        "age_ms": image.age_ms,
        "hits": image.hits,
        "misses": image.misses,
        "in_use": image.leases,
        "failures": image.failures,
        "why": image.why,
    })
}
