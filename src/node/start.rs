//! Starting and stopping a node: settings from the command line, signals, and what is said at both ends.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use forerun_gateway::{CertificateFiles, GatewaySettings};
use forerun_node::{Functions, Node, NodeError, NodeSettings};
use forerun_telemetry::logging;
use forerun_telemetry::otlp::OtlpSettings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::sandbox::{self, Work};
use crate::cli::environment::Environment;
use crate::cli::meaning::{self, Log, LogFormat};
use crate::cli::output::Output;
use crate::cli::paths::{self, DataFolder};
use crate::running::{Announcement, RunningNode};

/// Exit code of a process that was stopped by a second interrupt, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// Runs a node with what its data folder holds.
pub(crate) fn serve(output: &Output, log: &Log, settings: meaning::Node) -> ExitCode {
    let prepared = match prepare(output, log, settings, &Work::Reads(Vec::new())) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    run(output, prepared, |started| async move {
        started.say_ready(output, "no manifest: deploy with `forerun deploy`");
        started.stopped().await;
        ExitCode::SUCCESS
    })
}

/// A node that runs in the background of a command.
pub(crate) struct Started {
    /// What is deployed on it.
    pub(crate) functions: Arc<Functions>,
    addresses: Vec<String>,
    admin: String,
    stop: watch::Receiver<bool>,
}

impl Started {
    /// Says where the node is.
    pub(crate) fn say_ready(&self, output: &Output, what: &str) {
        for address in &self.addresses {
            output.note(&format!("serving on {address}  ({what})"));
        }
        output.note(&format!("admin API on {}", self.admin));
        output.note(&format!("dashboard on {}/", self.admin));
        tracing::info!(addresses = ?self.addresses, admin = self.admin, functions = self.functions.list().len(), "ready");
    }

    /// Done when the node is told to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that whoever would say so is gone, which is the same.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// The first address for requests, as a URL.
    pub(crate) fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }
}

/// A node that is about to start, in a process that is confined to what it needs.
pub(crate) struct Prepared {
    settings: NodeSettings,
    _temporary: Option<TempDir>,
}

/// Sets the process up for a node, while it has no other thread: its log, its limits, its data folder, its sandbox.
///
/// # Errors
/// The exit code, where the reason has been said.
pub(crate) fn prepare(output: &Output, log: &Log, node: meaning::Node, work: &Work) -> Result<Prepared, ExitCode> {
    let format = match log.format {
        LogFormat::Human => logging::LogFormat::Human,
        LogFormat::Json => logging::LogFormat::Json,
    };
    if let Err(error) = logging::set_up_logging(Some(&log.filter), format) {
        output.error(&error.to_string(), "see `--log` in `forerun up --help`");
        return Err(ExitCode::from(crate::cli::EXIT_USAGE));
    }
    raise_open_files();
    let (data, temporary) = data_folder(&node.data).map_err(|error| {
        output.error(&format!("no temporary folder: {error}"), "name a folder with --data DIR");
        ExitCode::FAILURE
    })?;
    // One that cannot be made is named by the store, which must not fail for another reason.
    if let Ok(made) = forerun_node::make_data_folder(&data) {
        sandbox::confine(&node, &made, work);
    }
    Ok(Prepared { settings: settings(node, data), _temporary: temporary })
}

/// Starts a node, runs `work` beside it, and stops the node when `work` is done or a signal comes.
pub(crate) fn run<W: Future<Output = ExitCode>>(
    output: &Output,
    prepared: Prepared,
    work: impl FnOnce(Started) -> W,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&format!("no threads for the node: {error}"), "raise the limit of processes (`ulimit -u`)");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run_async(output, prepared, work));
    // Blocking work that still runs, such as a compiler, must not hold the process up.
    runtime.shutdown_background();
    code
}

async fn run_async<W: Future<Output = ExitCode>>(
    output: &Output,
    Prepared { settings, _temporary }: Prepared,
    work: impl FnOnce(Started) -> W,
) -> ExitCode {
    let data = settings.data.clone();
    let node = match Node::build(settings).await {
        Ok(node) => node,
        Err(error) => {
            output.error(&error.to_string(), hint(&error));
            return ExitCode::FAILURE;
        }
    };
    let _announcement = announce(&node, data);
    let (stop_sender, stop) = watch::channel(false);
    let started = Started {
        functions: node.functions(),
        addresses: addresses(&node),
        admin: format!("http://{}", node.admin_address()),
        stop: stop.clone(),
    };
    tokio::spawn(stop_on_signals(stop_sender.clone()));
    let mut told = stop;
    let running = tokio::spawn(node.run(async move {
        let _ = told.wait_for(|stop| *stop).await;
    }));
    let code = work(started).await;
    stop_sender.send_replace(true);
    match running.await {
        Ok(report) if report.requests_cut > 0 => {
            output.warning(&format!("{} requests were cut off: they took longer than the drain", report.requests_cut));
        }
        Ok(_) => output.note("stopped"),
        Err(error) => output.error(&format!("the node ended in disorder: {error}"), "please report this"),
    }
    code
}

/// Each connection is an open file, and the usual soft limit of 1,024 is meant for programs that use `select`.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, soft_limit = limit.current, "the limit of open files stays as it is");
    }
}

fn addresses(node: &Node) -> Vec<String> {
    let scheme = |tls| if tls { "https" } else { "http" };
    node.gateway_addresses().iter().map(|bound| format!("{}://{}", scheme(bound.tls), bound.address)).collect()
}

fn announce(node: &Node, data: PathBuf) -> Announcement {
    let data = std::path::absolute(&data).unwrap_or(data);
    let running = RunningNode { admin: node.admin_address(), token_file: data.join("admin.token") };
    let user_folder = paths::of_user(&Environment::of_process()).ok();
    running.announce(&data, user_folder.as_deref())
}

fn data_folder(wanted: &DataFolder) -> std::io::Result<(PathBuf, Option<TempDir>)> {
    match wanted {
        DataFolder::At(folder) => Ok((folder.clone(), None)),
        DataFolder::Temporary => {
            let folder = TempDir::with_prefix("forerun-")?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

fn settings(node: meaning::Node, data: PathBuf) -> NodeSettings {
    let version = env!("CARGO_PKG_VERSION");
    let mut settings = NodeSettings::new(data, version);
    settings.gateway = match node.tls {
        Some(tls) => GatewaySettings {
            listen: Vec::new(),
            listen_tls: vec![node.listen],
            certificate: Some(CertificateFiles { chain: tls.certificate, key: tls.key }),
            ..GatewaySettings::default()
        },
        None => GatewaySettings { listen: vec![node.listen], ..GatewaySettings::default() },
    };
    settings.gateway.session = node.session;
    settings.admin_listen = node.admin;
    settings.learning = node.learning;
    settings.sample_share_max = node.sample_share_max;
    settings.images.bytes_max = node.images_bytes_max;
    settings.wasm.put_back_idle_ms = node.vm_idle_ms;
    settings.wasm.idle_bytes_max = node.idle_memory_bytes;
    settings.split_code_bytes_min = node.split_code_bytes_min;
    settings.admin_token = node.token.map(|token| token.0);
    settings.otlp = OtlpSettings {
        endpoint: node.otlp_endpoint.unwrap_or_default(),
        version: version.to_owned(),
        ..OtlpSettings::default()
    };
    settings
}

/// What to do about a node that does not start.
fn hint(error: &NodeError) -> &'static str {
    match error {
        NodeError::Bind(_) => "is another server running there? choose another with --listen ADDRESS:PORT",
        NodeError::BindAdmin { .. } => "is another node running? choose another with --admin ADDRESS:PORT",
        NodeError::Store(_) | NodeError::Storage(_) | NodeError::Logs(_) => {
            "see `forerun doctor`, or name another folder with --data DIR"
        }
        NodeError::Token(_) => "the admin API needs a token that others cannot know",
        NodeError::Driver(_) => "see `forerun doctor`: the pool of VMs needs address space (`ulimit -v unlimited`)",
        NodeError::Otlp(_) => "check --otlp-endpoint and the OTEL_EXPORTER_OTLP_ variables",
        NodeError::Thread(_) => "raise the limit of processes (`ulimit -u`)",
        NodeError::Code => "see the log above, and please report it",
        NodeError::Outbound(_) => "check the additional certificate authorities",
    }
}

/// The first interrupt or termination begins the drain, a second one ends the process at once.
async fn stop_on_signals(stop: watch::Sender<bool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be handled: stop this process with SIGKILL");
        return;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    stop.send_replace(true);
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    tracing::warn!("stopped at once by a second signal");
    std::process::exit(EXIT_INTERRUPTED);
}
