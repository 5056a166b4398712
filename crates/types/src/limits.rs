//! Every bound a function lives under, with its default and the reason for it.
//!
//! Limits of one function only; those of the whole node are settings of the node.

use serde::{Deserialize, Serialize};

/// What one function may use. All fields have defaults; a manifest names only what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionLimits {
    /// Linear memory of one VM, all memories together. Default 128 MiB: holds a Python or JavaScript
    /// runtime several times over, and a thousand leaking guests do not take a node down at once.
    pub memory_bytes: u64,
    /// From the request's admission to the end of the response. Default 30 s, as most gateways.
    pub timeout_ms: u64,
    /// VMs of this function at work at the same time. Default 256, below the node's own limit so
    /// that one function cannot take every VM.
    pub concurrency_max: u32,
    /// Requests that may wait for a VM beyond `concurrency_max`; more are answered 429. Default 1024.
    pub queue_max: u32,
    /// How long a request may wait in that queue before it is answered 503. Default 5 s: later, most clients have left.
    pub queue_timeout_ms: u64,
    /// Body of a request. Default 64 MiB; larger is answered 413.
    pub request_body_bytes_max: u64,
    /// Body of a response, so that an endless one ends. Default 1 GiB.
    pub response_body_bytes_max: u64,
    /// Processors that its guests run on, by the numbers that the kernel gives them, ascending. None by default, which is any: a
    /// thread that must go to another processor loses more than most functions gain. For one that must leave others alone.
    pub cpus: Vec<u16>,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            timeout_ms: 30_000,
            concurrency_max: 256,
            queue_max: 1024,
            queue_timeout_ms: 5_000,
            request_body_bytes_max: 64 << 20,
            response_body_bytes_max: 1 << 30,
            cpus: Vec::new(),
        }
    }
}

/// Largest `memory_bytes` that can be asked for: a 32-bit memory has no more.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// One wasm page; less memory than that cannot hold any guest.
pub const MEMORY_BYTES_MIN: u64 = 64 << 10;
/// Largest `timeout_ms`: a day. Longer work is no request.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;
/// Largest component accepted, in bytes. The largest language runtimes seen are below 40 MB.
pub const COMPONENT_BYTES_MAX: usize = 256 << 20;
/// Functions of one node. A bound for the admin API, far above what one machine serves today.
pub const FUNCTIONS_MAX: usize = 100_000;
/// Processors that one function may name.
pub const CPUS_MAX: usize = 1024;
/// Routes of one function.
pub const ROUTES_MAX: usize = 64;
/// Entries of `environment` and of `config`, each.
pub const VARIABLES_MAX: usize = 256;
/// Bytes of one name or value in `environment` or `config`.
pub const VARIABLE_BYTES_MAX: usize = 32 << 10;
