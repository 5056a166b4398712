//! The keys of `forerun.toml`, as typed tables. The doc comments are the published schema's descriptions.
//!
//! Types only; ranges and references are checked in `meaning`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::build::BuildTable;
use crate::quantity::{Quantity, bytes_schema, milliseconds_schema};
use crate::spanned::{At, TextOr};

/// Manifest of a Forerun application: its functions, where they answer, and what they may use.
///
/// Editors check a manifest that begins with the line `#:schema ./forerun.schema.json`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "forerun.toml")]
pub(crate) struct ForerunToml {
    /// Version of this format; write `forerun = 1`.
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "declares the key; its value is checked before the rest is read")]
    pub(crate) forerun: At<u64>,
    /// The application.
    pub(crate) app: App,
    /// The functions by name. A name has up to 63 lower-case letters, digits and inner hyphens, starting with a
    /// letter; other functions call it as `http://<name>.forerun.internal/`.
    #[serde(default)]
    pub(crate) function: BTreeMap<At<String>, Function>,
}

/// The application.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// Name of the application. Its functions call each other and share key-value stores; those of other applications do
    /// not. A new name is another application, with stores of its own.
    pub(crate) name: At<String>,
}

/// A function: a component and how it is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Function {
    /// The wasi:http component: its path relative to the manifest, or a table with `path` and `digest`.
    pub(crate) source: At<TextOr<Source>>,
    /// Where it answers from outside: `/cart` (exactly), `/cart/...` (and everything below), `shop.example/cart/...`
    /// (on that host only). Without any, only other functions and `forerun invoke` reach it.
    #[serde(default)]
    pub(crate) routes: Vec<At<String>>,
    /// Environment variables (wasi:cli/environment).
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// Configuration values (wasi:config/store).
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
    /// Hosts it may call: `https://api.example.com`, `http://*.example.com:8080`, `https://*:*`. Functions of the same
    /// application need no entry; one of another application is named: `http://<name>.forerun.internal`.
    #[serde(default)]
    pub(crate) allowed_outbound_hosts: Vec<At<String>>,
    /// Key-value stores it may open (wasi:keyvalue/store), by name. They belong to the application: the functions of one
    /// application share them, another application's stores of the same names are others.
    #[serde(default)]
    pub(crate) key_value_stores: Vec<At<String>>,
    /// `"rollback"` (the default): after each request the VM is put back to the state in which it was made, so that nothing
    /// of one request reaches another; where that cannot be done, as `"fresh"`: a new VM for each request. `"warm"`: put
    /// back to the state after the `warm_up` requests, once that state has passed a test. Or a table: one VM serves requests
    /// one after the other, and module state survives between them.
    pub(crate) reuse: Option<At<TextOr<Reuse>>>,
    /// How the component is built; run by `forerun up --build`.
    pub(crate) build: Option<BuildTable>,
    /// Requests that exercise the function without doing harm; an image of a part of its code is tried with them before it
    /// serves, and `reuse = "warm"` warms VMs up with them.
    #[serde(default)]
    pub(crate) warm_up: Vec<WarmUp>,
    /// What it may use.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// A component with the digest it must have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// Path of the component, relative to the manifest.
    pub(crate) path: At<String>,
    /// SHA-256 of the component, as `sha256:<64 hex digits>`. A component with another digest is refused.
    pub(crate) digest: Option<At<String>>,
}

/// One VM serves several requests, one after the other.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reuse {
    /// Requests after which the VM is retired.
    pub(crate) requests_max: At<u64>,
    /// Idle time after which the VM is retired: milliseconds, or a text such as "1 s".
    #[schemars(schema_with = "milliseconds_schema")]
    pub(crate) idle_ms: At<Quantity>,
}

/// A request that warms the function up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WarmUp {
    /// Path and query.
    pub(crate) path: At<String>,
    /// Method. `GET` by default.
    pub(crate) method: Option<At<String>>,
    /// Body, as text. Empty by default.
    pub(crate) body: Option<At<String>>,
    /// What the calls it makes of others are answered while a VM is warmed up: nobody is called then, and without an
    /// answer a request that calls others warms nothing up.
    pub(crate) answer_to_calls: Option<CallAnswer>,
}

/// A made-up answer to all calls of a warm-up request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallAnswer {
    /// HTTP status, 200 to 599. 200 by default.
    pub(crate) status: Option<At<u64>>,
    /// Value of the header `content-type`. `application/json` by default.
    pub(crate) content_type: Option<At<String>>,
    /// Body, as text. Empty by default.
    pub(crate) body: Option<At<String>>,
}

/// What a function may use; all keys have defaults.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Linear memory of one VM: bytes, or a text such as "64 MiB". 128 MiB by default.
    #[schemars(schema_with = "bytes_schema")]
    #[serde(default)]
    pub(crate) memory_bytes: Option<At<Quantity>>,
    /// From a request's admission to the end of its response: milliseconds, or a text such as "30 s". 30 s by default.
    #[schemars(schema_with = "milliseconds_schema")]
    #[serde(default)]
    pub(crate) timeout_ms: Option<At<Quantity>>,
    /// VMs of this function at work at the same time. 256 by default.
    pub(crate) concurrency_max: Option<At<u64>>,
    /// Requests that may wait for a VM beyond `concurrency_max`; more are answered 429. 1024 by default.
    pub(crate) queue_max: Option<At<u64>>,
    /// How long a request may wait for a VM before it is answered 503: milliseconds, or a text such as "5 s".
    /// 5 s by default.
    #[schemars(schema_with = "milliseconds_schema")]
    #[serde(default)]
    pub(crate) queue_timeout_ms: Option<At<Quantity>>,
    /// Body of a request: bytes, or a text such as "64 MiB"; a larger one is answered 413. 64 MiB by default.
    #[schemars(schema_with = "bytes_schema")]
    #[serde(default)]
    pub(crate) request_body_bytes_max: Option<At<Quantity>>,
    /// Body of a response: bytes, or a text such as "1 GiB"; a larger one is cut. 1 GiB by default.
    #[schemars(schema_with = "bytes_schema")]
    #[serde(default)]
    pub(crate) response_body_bytes_max: Option<At<Quantity>>,
    /// Processors that the function's guests run on, by the numbers that the kernel gives them, ascending: `[0, 1]`. Any by
    /// default.
    #[serde(default)]
    pub(crate) cpus: Vec<At<u64>>,
}
