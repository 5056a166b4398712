//! `forerun up`: a node whose functions are those of a manifest, from the first start and after each change.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::{Duration, Instant};

use forerun_manifest::{Build, Demo, LoadOptions, Manifest, ManifestError, SourceCheck, SourceError};
use forerun_node::{Change, DeployFailure, FunctionState, Source, Wanted};

use super::demo::Visitors;
use super::sandbox::Work;
use super::start::{self, Started};
use super::watch::{Watch, WatchError};
use crate::cli::meaning::{Log, Up};
use crate::cli::output::Output;

/// Time between two looks at functions that are still being compiled.
const LOADING_PAUSE: Duration = Duration::from_millis(10);

/// Why a manifest is not what is running.
enum UpError {
    Manifest(ManifestError),
    Source(SourceError),
    Build { command: String, detail: String },
    Deploy(DeployFailure),
}

/// Runs a node with the functions of a manifest.
pub(crate) fn up(output: &Output, log: &Log, up: Up) -> ExitCode {
    let Up { path, watch, build, demo, node } = up;
    // Before anything is started, so that a mistake in the manifest is said at once.
    let manifest = match load(&path, build) {
        Ok(manifest) => manifest,
        Err(error) => return failed(output, &error),
    };
    output.report(&manifest.warnings);
    let demo = match demo.then(|| Demo::load(&folder_of(&path))).transpose() {
        Ok(demo) => demo,
        Err(error) => {
            output.error(&error.to_string(), "--demo needs a demo.toml beside the manifest; examples/shop has one");
            return ExitCode::FAILURE;
        }
    };
    let work = if build { Work::RunsPrograms } else { Work::Reads(reads(&path, &manifest)) };
    let prepared = match start::prepare(output, log, node, &work) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    // Watched from before the first deployment, so that a change made during it is not lost.
    let watching = watch.then(|| Watch::start(&watched(&manifest, build)));
    start::run(output, prepared, |started| async move {
        if let Err(error) = deploy(output, &started, &manifest).await {
            return failed(output, &error);
        }
        started.say_ready(output, &format!("app {}", manifest.app));
        say_routes(output, &started);
        let _visitors = match demo.map(|demo| Visitors::start(demo, started.address(), output.clone())).transpose() {
            Ok(visitors) => visitors,
            Err(error) => {
                output.warning(&format!("no visitors: {error}"));
                None
            }
        };
        match watching {
            Some(watching) => tokio::select! {
                () = follow(output, &started, &path, manifest, watching, build) => {}
                () = started.stopped() => {}
            },
            None => started.stopped().await,
        }
        ExitCode::SUCCESS
    })
}

/// The folder of a manifest that is named itself or by its folder.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().unwrap_or(Path::new(".")).to_owned() }
}

/// The files that are read again whenever they change.
fn reads(path: &Path, manifest: &Manifest) -> Vec<PathBuf> {
    let mut files = manifest.watch_paths();
    files.push(folder_of(path));
    files
}

fn load(path: &Path, build: bool) -> Result<Manifest, UpError> {
    let sources = if build { SourceCheck::MayBeBuilt } else { SourceCheck::MustExist };
    let options = LoadOptions { sources, ..LoadOptions::default() }.with_spin_variables(std::env::vars());
    let manifest = Manifest::load_with(path, &options).map_err(UpError::Manifest)?;
    if !build {
        return Ok(manifest);
    }
    for step in manifest.functions.iter().filter_map(|function| function.build.as_ref()) {
        run_build(step)?;
    }
    let built = LoadOptions { sources: SourceCheck::MustExist, ..options };
    Manifest::load_with(path, &built).map_err(UpError::Manifest)
}

fn run_build(build: &Build) -> Result<(), UpError> {
    for command in &build.commands {
        let failed = |detail: String| UpError::Build { command: command.clone(), detail };
        let status = Process::new("sh").arg("-c").arg(command).current_dir(&build.workdir).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failed(format!("it ended with {status}"))),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(())
}

/// Deploys what differs, removes what the manifest no longer has, and waits until everything can serve.
async fn deploy(output: &Output, started: &Started, manifest: &Manifest) -> Result<(), UpError> {
    let mut wanted = Vec::with_capacity(manifest.functions.len());
    for function in &manifest.functions {
        let bytes = function.read_component().map_err(UpError::Source)?;
        wanted.push(Wanted { spec: function.spec.clone(), source: Source::Bytes(bytes.into()) });
    }
    let began = Instant::now();
    let changes = started.functions.deploy(wanted, Some(manifest.app.clone())).await.map_err(UpError::Deploy)?;
    while started.functions.list().iter().any(|function| function.state == FunctionState::Loading) {
        tokio::time::sleep(LOADING_PAUSE).await;
    }
    changes.iter().filter(|change| change.changed).for_each(|change| say_change(output, change));
    tracing::debug!(took_ms = began.elapsed().as_millis(), "deployed");
    Ok(())
}

fn say_change(output: &Output, change: &Change) {
    let Change { name, revision, world, compile_ms, .. } = change;
    output.note(&format!("{name}: revision {revision}, {world}, compiled in {compile_ms} ms"));
}

fn say_routes(output: &Output, started: &Started) {
    for function in started.functions.list() {
        match &function.state {
            FunctionState::Ready | FunctionState::Loading => {
                let routes: Vec<_> = function.spec.routes.iter().map(ToString::to_string).collect();
                let routes = if routes.is_empty() { "(internal)".to_owned() } else { routes.join("  ") };
                output.note(&format!("  {:<14} {routes}", function.spec.name));
            }
            FunctionState::Failed(reason) => output.warning(&format!("{}: {reason}", function.spec.name)),
        }
    }
    let first = started.functions.list().into_iter().find_map(|function| function.spec.routes.into_iter().next());
    if let Some(route) = first {
        let host = route.host.as_ref().map(|host| format!(" -H 'host: {host}'")).unwrap_or_default();
        let path = match route.path.as_str() {
            "" => "/",
            path => path,
        };
        output.note(&format!("try: curl -i{host} {}{path}", started.address()));
    }
}

/// Deploys again whenever the manifest or a component changes. Never ends; a mistake leaves everything as it was.
async fn follow(
    output: &Output,
    started: &Started,
    path: &Path,
    mut manifest: Manifest,
    mut watching: Result<Watch, WatchError>,
    build: bool,
) {
    loop {
        let changed = match watching {
            Ok(watch) => watch.changed().await,
            Err(error) => Err(error),
        };
        if let Err(WatchError { detail }) = changed {
            output.warning(&format!("changes are not watched any more: {detail}"));
            return std::future::pending().await;
        }
        // Watched again before anything is read: a change from here on is another one.
        watching = Watch::start(&watched(&manifest, build));
        match load_again(path, build).await {
            Ok(new) => {
                let moved = new.watch_paths() != manifest.watch_paths();
                manifest = new;
                // A build writes what is watched; and other files may belong to it now.
                if build || moved {
                    watching = Watch::start(&watched(&manifest, build));
                }
                if let Err(error) = deploy(output, started, &manifest).await {
                    say(output, &error);
                    output.note("what was running goes on");
                }
            }
            Err(error) => {
                say(output, &error);
                output.note("what was running goes on");
            }
        }
    }
}

/// Reads (and builds) on a thread that may wait.
async fn load_again(path: &Path, build: bool) -> Result<Manifest, UpError> {
    let path = path.to_owned();
    match tokio::task::spawn_blocking(move || load(&path, build)).await {
        Ok(loaded) => loaded,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn watched(manifest: &Manifest, build: bool) -> Vec<PathBuf> {
    let mut paths = manifest.watch_paths();
    if build {
        let builds = manifest.functions.iter().filter_map(|function| function.build.as_ref());
        paths.extend(builds.flat_map(Build::watch_paths));
    }
    paths
}

fn failed(output: &Output, error: &UpError) -> ExitCode {
    say(output, error);
    ExitCode::FAILURE
}

fn say(output: &Output, error: &UpError) {
    match error {
        UpError::Manifest(error) => output.manifest_error(error),
        UpError::Source(error) => output.error(&error.to_string(), "build the component, or correct `source`"),
        UpError::Build { command, detail } => {
            output.error(&format!("`{command}` failed: {detail}"), "correct the build command, or leave --build out");
        }
        UpError::Deploy(failure) => output.error(&failure.to_string(), deploy_hint(failure)),
    }
}

fn deploy_hint(failure: &DeployFailure) -> &'static str {
    match failure {
        DeployFailure::Load { .. } => {
            "the file must be a component with a wasi:http handler; `forerun doctor` tells more about this machine"
        }
        DeployFailure::Spec { .. } => "correct the manifest",
        DeployFailure::BadComponent { .. } => {
            "the file must be a component with a wasi:http handler; build for wasm32-wasip2 or use the language's own tool"
        }
        DeployFailure::HarmfulComponent { .. } => "please report this, with the component if you can",
        DeployFailure::Store(_) => "correct the manifest, or remove the function that is in the way",
        DeployFailure::Component(_) | DeployFailure::Storage(_) => "is the disk full? nothing was changed",
        DeployFailure::Rollback(_) | DeployFailure::Remove(_) => "see `forerun functions`",
    }
}
