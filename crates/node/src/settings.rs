//! What an operator may set about a node: plain data, each with its default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forerun_gateway::GatewaySettings;
use forerun_images::ImageCacheSettings;
use forerun_runtime::WasmSettings;
use forerun_store::{HistorySettings, KeyValueLimits, StoreSettings};
use forerun_telemetry::GuestLogSettings;
use forerun_telemetry::otlp::OtlpSettings;
use forerun_types::LearningMode;

/// Longest time, in milliseconds, that a VM which has served waits before it is put back or freed: a chain of calls between
/// language runtimes is over by then.
const PUT_OFF_MS_MAX: u64 = 30;

/// Settings of one node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The data directory; one node at a time holds it.
    pub data: PathBuf,
    /// The request path.
    pub gateway: GatewaySettings,
    /// Where the admin API listens. Default `127.0.0.1:8081`: it is not meant for other machines.
    pub admin_listen: SocketAddr,
    /// Token of the admin API; without one, the one in the data directory, made at the first start.
    pub admin_token: Option<String>,
    /// The wasm engine.
    pub wasm: WasmSettings,
    /// Revisions kept.
    pub store: StoreSettings,
    /// Machine code kept on disk.
    pub images: ImageCacheSettings,
    /// How long a start may be held up by loading functions that have an image, so that they can answer at
    /// once. Default 2 s; the others are loaded while the node serves.
    pub restore_patience: Duration,
    /// How far the node learns from its requests and makes VMs ready ahead of them.
    pub learning: LearningSettings,
    /// Share of a function's processor time that learning which code of it runs may add; 0 switches it off. Default 0.01.
    pub sample_share_max: f64,
    /// Size of a component's machine code and data, in bytes, from which on its requests are sampled and an image of just
    /// the code that they run is made, once that is known. Default 4 MiB: less is compiled in well under a second, and nothing is won.
    pub split_code_bytes_min: u64,
    /// How long invocations are remembered.
    pub history: HistorySettings,
    /// `wasi:keyvalue`.
    pub key_values: KeyValueLimits,
    /// Output of guests.
    pub guest_logs: GuestLogSettings,
    /// Export of traces and metrics.
    pub otlp: OtlpSettings,
    /// Invocations kept in memory to be asked about. Default 10,000, about 5 MB.
    pub recent_invocations: usize,
    /// How long requests under way may go on when the node stops. Default 30 s, the default time-out of a function.
    pub drain_timeout: Duration,
    /// Version shown, of the binary.
    pub version: &'static str,
}

/// How far learning goes, and what it may take.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningSettings {
    /// How far. Default all the way.
    pub mode: LearningMode,
    /// Memory that VMs held ready may take together, in bytes. Default 1 GiB: a hundred VMs of a language runtime.
    pub memory_bytes: u64,
    /// Share of one processor for learning itself. Default 0.05, a fortieth of a machine with two.
    pub processor_share: f32,
    /// Hold a VM of each function for so long after its last call, instead of those of functions that are expected: what
    /// prediction is compared with. Default not.
    pub keep_alive: Option<Duration>,
}

impl Default for LearningSettings {
    fn default() -> Self {
        Self { mode: LearningMode::default(), memory_bytes: 1 << 30, processor_share: 0.05, keep_alive: None }
    }
}

impl NodeSettings {
    /// The defaults with a data directory.
    pub fn new(data: PathBuf, version: &'static str) -> Self {
        Self {
            data,
            gateway: GatewaySettings::default(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            admin_token: None,
            wasm: WasmSettings { put_off_ms_max: PUT_OFF_MS_MAX, ..WasmSettings::default() },
            store: StoreSettings::default(),
            images: ImageCacheSettings::default(),
            restore_patience: Duration::from_secs(2),
            learning: LearningSettings::default(),
            sample_share_max: 0.01,
            split_code_bytes_min: 4 << 20,
            history: HistorySettings::default(),
            key_values: KeyValueLimits::default(),
            guest_logs: GuestLogSettings::default(),
            otlp: OtlpSettings::default(),
            recent_invocations: 10_000,
            drain_timeout: Duration::from_secs(30),
            version,
        }
    }
}
