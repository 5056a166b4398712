//! What the command line means: every value checked, every default filled in, nothing left to look up.
//!
//! Whoever carries a command out matches on [`Command`] and finds only values that make sense. Files are looked at
//! (is this a folder?), never read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forerun_node::LearningSettings;
use forerun_sim::reader::TraceFormat;
use forerun_types::{
    FunctionName, InvocationId, LearningMode, LearningModeError, RevisionNumber, RoutePattern, SessionSource,
};

use super::args::{ADMIN_DEFAULT, Args, CommandArgs, DeployArgs, FORMAT_AUTO, Globals, InvokeArgs, NodeArgs};
use super::args::{ReplayArgs, SplitArgs, UpArgs};
use super::environment::Environment;
use super::output::{Format, Output};
use super::paths::{self, DataFolder};
use super::values::{self, NodeUrl, Secret, UsageError};

/// Lines of a log that can be asked for; the node keeps no more of one function at hand.
pub(crate) const LOG_LINES_MAX: u32 = 10_000;
/// Bytes of a log filter; it is parsed by a library.
const LOG_FILTER_BYTES_MAX: usize = 1024;

/// Least share of a processor for learning: with less, it would be always late.
const LEARNING_CORES_MIN: f32 = 0.01;

/// A command line with its meaning.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// How data and messages are printed.
    pub(crate) output: Output,
    /// What is logged and how.
    pub(crate) log: Log,
    /// What to do.
    pub(crate) command: Command,
}

/// What is logged on stderr and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// In the syntax of `tracing_subscriber::EnvFilter`.
    pub(crate) filter: String,
    /// For people, or one JSON object a line.
    pub(crate) format: LogFormat,
    /// Whether lines for people have colours.
    pub(crate) colour: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people: stderr is a terminal.
    Human,
    /// For machines.
    Json,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Run a node with an application.
    Up(Up),
    /// Run a node with what it has.
    Serve(Node),
    /// Deploy to a running node.
    Deploy(Connection, Deploy),
    /// List functions.
    Functions(Connection),
    /// List the revisions of a function.
    Revisions(Connection, FunctionName),
    /// Make another revision the current one; `None` is the one before.
    Rollback(Connection, FunctionName, Option<RevisionNumber>),
    /// Remove a function.
    Remove(Connection, FunctionName, Consent),
    /// Show a log.
    Logs(Connection, Logs),
    /// List the machine code that is kept, of one function or of all.
    Images(Connection, Option<FunctionName>),
    /// Call a function.
    Invoke(Connection, Invoke),
    /// Say why a request was served as it was.
    Explain(Connection, InvocationId),
    /// Say what is expected next in the application of a function.
    Predict(Connection, FunctionName),
    /// Say that a call is known to come: so many seconds from now, within so many seconds.
    Expect(Connection, FunctionName, (u64, u64)),
    /// Show what is learnt, or say how far it goes, for the node or for one function.
    Learning(Connection, Option<(LearningMode, Option<FunctionName>)>),
    /// List the calls that functions make of each other.
    Calls(Connection),
    /// Watch the node, for so many frames or until it ends.
    Top(Connection, Option<u32>),
    /// Write the history out.
    Export(Connection, Export),
    /// Show which code of a function runs.
    Paths(Connection, CodePaths),
    /// Show what a function's next image is specialized for.
    Profile(Connection, FunctionName),
    /// Check this machine and the node.
    Doctor(Connection),
    /// Feed traces through the prediction engine; needs no node.
    Replay(Replay),
    /// Split a component; needs no node.
    Split(Split),
    /// Print a completion script; see [`super::write_completions`].
    Completions(clap_complete::Shell),
}

/// Which code paths to show, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodePaths {
    /// Of which function.
    pub(crate) function: FunctionName,
    /// Lines of each table at most.
    pub(crate) top: usize,
    /// For a flame-graph tool.
    pub(crate) folded: bool,
}

/// A trace to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    /// Its files, in their order in time; none was a folder or missing a moment ago.
    pub(crate) traces: Vec<PathBuf>,
    /// Its format; `None` leaves it to the first line.
    pub(crate) format: Option<TraceFormat>,
    /// Where a picture goes, if anywhere; never one of the traces.
    pub(crate) svg: Option<PathBuf>,
    /// Score predictions of the next function too.
    pub(crate) which: bool,
    /// Score whole sessions one after the other.
    pub(crate) by_session: bool,
    /// Say what is cold on memory for so many VMs, for each of these.
    pub(crate) on_vms: Vec<u32>,
    /// Show how far it has come: a person watches stderr.
    pub(crate) progress: bool,
}

/// A component to split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Its file.
    pub(crate) component: PathBuf,
    /// The file of the profile.
    pub(crate) profile: PathBuf,
    /// Functions stay that so many of a thousand requests run, 1 to 1000.
    pub(crate) hot_permille_min: u16,
    /// Where the parts go; it does not exist or is an empty folder.
    pub(crate) folder: PathBuf,
}

/// A node with an application.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    /// A manifest, or a folder; may not exist, which loading says better.
    pub(crate) path: PathBuf,
    /// Deploy again when the manifest or a component changes.
    pub(crate) watch: bool,
    /// Run build commands first.
    pub(crate) build: bool,
    /// Send made-up visitors.
    pub(crate) demo: bool,
    /// The node.
    pub(crate) node: Node,
}

/// A node to run.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// For requests.
    pub(crate) listen: SocketAddr,
    /// For the admin interface.
    pub(crate) admin: SocketAddr,
    /// Where data is kept.
    pub(crate) data: DataFolder,
    /// TLS for requests, if any.
    pub(crate) tls: Option<Tls>,
    /// How far to learn from requests and make ready ahead of them, and at what price.
    pub(crate) learning: LearningSettings,
    /// What tells sessions apart.
    pub(crate) session: SessionSource,
    /// Share of processor time for learning which code runs; 0 is none.
    pub(crate) sample_share_max: f64,
    /// Disk for machine code, in bytes.
    pub(crate) images_bytes_max: u64,
    /// How long a VM that was put back waits for the next request of its function.
    pub(crate) vm_idle_ms: u64,
    /// Memory that such VMs may hold.
    pub(crate) idle_memory_bytes: u64,
    /// Machine code from which on a component is split, in bytes.
    pub(crate) split_code_bytes_min: u64,
    /// Whether the server confines itself.
    pub(crate) sandbox: Sandbox,
    /// Where traces go, if anywhere.
    pub(crate) otlp_endpoint: Option<String>,
    /// The admin port's token, if given; else the node makes one and keeps it with its data.
    pub(crate) token: Option<Secret>,
}

/// Whether a server gives up what it does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sandbox {
    /// As far as the kernel offers it.
    On,
    /// Not at all.
    Off,
}

/// Files for TLS; both exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificate chain in PEM.
    pub(crate) certificate: PathBuf,
    /// Private key in PEM.
    pub(crate) key: PathBuf,
}

/// How to reach a running node.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Where its admin port is.
    pub(crate) node: NodeUrl,
    /// Whether somebody named it; else a node's data folder may know better.
    pub(crate) node_is_default: bool,
    /// Its token, if given; else one of `data_folders` may hold it.
    pub(crate) token: Option<Secret>,
    /// Where a node on this machine may have left its address and token, most likely first.
    pub(crate) data_folders: Vec<PathBuf>,
}

/// What to deploy.
#[derive(Clone, Debug)]
pub(crate) enum Deploy {
    /// One component.
    Component {
        /// Its file.
        path: PathBuf,
        /// Name of the function.
        name: FunctionName,
        /// Its routes.
        routes: Vec<RoutePattern>,
        /// Its environment variables.
        environment: BTreeMap<String, String>,
    },
    /// The functions of a manifest.
    Manifest {
        /// The manifest or its folder.
        path: PathBuf,
        /// Only this one of them.
        only: Option<FunctionName>,
    },
}

/// Whether somebody agreed to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// By `--yes`.
    Given,
    /// Ask; there is a terminal to ask on.
    Ask,
}

/// What to write of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Which rows.
    pub(crate) rows: ExportRows,
    /// Of this function only.
    pub(crate) function: Option<FunctionName>,
    /// Of this last time only.
    pub(crate) since: Option<Duration>,
}

/// Rows of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportRows {
    /// Single invocations.
    Invocations,
    /// Sums per minute and hour.
    Loads,
}

/// Which log lines to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logs {
    /// Of this function.
    pub(crate) function: FunctionName,
    /// Go on with new lines.
    pub(crate) follow: bool,
    /// At most so many of the last lines first.
    pub(crate) lines: u32,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invoke {
    /// To this function.
    pub(crate) function: FunctionName,
    /// In upper case.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Body,
}

/// A body to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// None.
    Empty,
    /// As typed.
    Text(String),
    /// The content of a file.
    File(PathBuf),
    /// What comes from stdin.
    Stdin,
}

/// Gives a command line its meaning.
///
/// # Errors
/// The first value that makes no sense, with what to write instead.
pub(crate) fn of(args: Args, environment: &Environment) -> Result<Invocation, UsageError> {
    let Args { globals, command } = args;
    let output = Output::new(globals.json, globals.color, environment);
    let runs_node = matches!(command, CommandArgs::Up(_) | CommandArgs::Serve(_));
    let log = log(&globals, runs_node, &output, environment)?;
    let connection = || connection(&globals, environment);
    let name = |text: &str| values::function_name(text);
    let command = match command {
        CommandArgs::Replay(args) => {
            let progress = environment.stderr_is_terminal && output.format == Format::Human;
            Command::Replay(replay(args, progress)?)
        }
        CommandArgs::Up(args) => Command::Up(up(args, &globals, environment)?),
        CommandArgs::Serve(args) => {
            let data = match paths::given(globals.data.as_deref(), environment) {
                Some(folder) => folder,
                None => paths::of_user(environment)?,
            };
            Command::Serve(node(args.node, DataFolder::At(data), &globals, environment)?)
        }
        CommandArgs::Deploy(args) => Command::Deploy(connection()?, deploy(args)?),
        CommandArgs::Functions(_) => Command::Functions(connection()?),
        CommandArgs::Revisions(args) => Command::Revisions(connection()?, name(&args.function)?),
        CommandArgs::Rollback(args) => {
            Command::Rollback(connection()?, name(&args.function)?, args.to.map(revision).transpose()?)
        }
        CommandArgs::Remove(args) => {
            Command::Remove(connection()?, name(&args.function)?, consent(args.yes, environment)?)
        }
        CommandArgs::Logs(args) => {
            let lines = args.lines.min(LOG_LINES_MAX);
            Command::Logs(connection()?, Logs { function: name(&args.function)?, follow: args.follow, lines })
        }
        CommandArgs::Images(args) => Command::Images(connection()?, args.function.as_deref().map(name).transpose()?),
        CommandArgs::Invoke(args) => Command::Invoke(connection()?, invoke(&args)?),
        CommandArgs::Explain(args) => Command::Explain(connection()?, request_id(&args.request_id)?),
        CommandArgs::Predict(args) => Command::Predict(connection()?, name(&args.function)?),
        CommandArgs::Expect(args) => Command::Expect(connection()?, name(&args.function)?, (args.after, args.r#for)),
        CommandArgs::Learning(args) => {
            let mode = args.mode.as_deref().map(learning_mode).transpose();
            let mode = mode.map_err(|error| UsageError::new(error.to_string(), "see `forerun learning --help`"))?;
            let switch = mode.map(|mode| Ok((mode, args.function.as_deref().map(name).transpose()?))).transpose()?;
            Command::Learning(connection()?, switch)
        }
        CommandArgs::Export(args) => {
            let rows = if args.loads { ExportRows::Loads } else { ExportRows::Invocations };
            let function = args.function.as_deref().map(name).transpose()?;
            let since = args.since_min.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
            Command::Export(connection()?, Export { rows, function, since })
        }
        CommandArgs::Top(args) => Command::Top(connection()?, args.frames),
        CommandArgs::Calls(_) => Command::Calls(connection()?),
        CommandArgs::Profile(args) => Command::Profile(connection()?, name(&args.function)?),
        CommandArgs::Paths(args) => {
            let wanted = CodePaths { function: name(&args.function)?, top: args.top, folded: args.folded };
            Command::Paths(connection()?, wanted)
        }
        CommandArgs::Doctor(_) => Command::Doctor(connection()?),
        CommandArgs::Split(args) => Command::Split(split(args)?),
        CommandArgs::Completions(args) => Command::Completions(args.shell),
    };
    Ok(Invocation { output, log, command })
}

fn up(args: UpArgs, globals: &Globals, environment: &Environment) -> Result<Up, UsageError> {
    let data = match paths::given(globals.data.as_deref(), environment) {
        _ if args.ephemeral => DataFolder::Temporary,
        Some(folder) => DataFolder::At(folder),
        None => DataFolder::At(paths::beside(&args.path)),
    };
    let mut node = node(args.node, data, globals, environment)?;
    if args.demo && node.session == SessionSource::default() {
        // All visitors have the address of this machine.
        node.session = SessionSource::Cookie(crate::node::SESSION_COOKIE.to_owned());
    }
    Ok(Up { path: args.path, watch: !args.no_watch, build: args.build, demo: args.demo, node })
}

fn node(args: NodeArgs, data: DataFolder, globals: &Globals, environment: &Environment) -> Result<Node, UsageError> {
    let listen = values::listen_address("listen", &args.listen)?;
    let admin = values::listen_address("admin", &args.admin)?;
    if listen == admin && listen.port() != 0 {
        let message = format!("--listen and --admin are both {listen}");
        return Err(UsageError::new(message, "give them two ports; the admin port is not for the public"));
    }
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Tls { certificate: file("tls-cert", certificate)?, key: file("tls-key", key)? })
        }
        // clap has refused one without the other.
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    };
    let endpoint = args.otlp_endpoint.as_deref().or_else(|| environment.variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let otlp_endpoint = endpoint.map(|text| values::http_url("otlp-endpoint", text)).transpose()?;
    let session = args.session.parse();
    let session = session.map_err(|error| refused("session", &args.session, &error, "for example cookie:sid"))?;
    let keep_alive = args.keep_alive.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let learning = learning(&args.learning, args.ready_memory_mib, args.learning_cores)?;
    let learning = LearningSettings { keep_alive, ..learning };
    let sample_share_max = share("sample-share", &args.sample_share)?;
    let split_code_bytes_min = args.split_min_kib.saturating_mul(1024);
    let images_bytes_max = args.images_mib.saturating_mul(1 << 20);
    let sandbox = sandbox(&args.sandbox)?;
    let token = token(globals, environment)?;
    Ok(Node {
        listen,
        admin,
        data,
        tls,
        learning,
        session,
        sample_share_max,
        images_bytes_max,
        vm_idle_ms: args.vm_idle_ms,
        idle_memory_bytes: args.idle_memory_mib.saturating_mul(1 << 20),
        split_code_bytes_min,
        sandbox,
        otlp_endpoint,
        token,
    })
}

fn sandbox(text: &str) -> Result<Sandbox, UsageError> {
    match text {
        "on" => Ok(Sandbox::On),
        "off" => Ok(Sandbox::Off),
        _ => Err(UsageError::new(format!("--sandbox {text}: this is neither on nor off"), "on is the default")),
    }
}

fn share(option: &str, text: &str) -> Result<f64, UsageError> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => {
            let message = format!("--{option} {text}: this is no share");
            Err(UsageError::new(message, "give a number from 0 to 1, such as 0.02 for two per cent"))
        }
    }
}

fn learning(mode: &str, ready_memory_mib: u64, cores: f32) -> Result<LearningSettings, UsageError> {
    let mode = learning_mode(mode).map_err(|error| refused("learning", mode, &error, "full is the default"))?;
    if !(LEARNING_CORES_MIN..=1.0).contains(&cores) {
        let message = format!("--learning-cores {cores} is not between {LEARNING_CORES_MIN} and 1");
        return Err(UsageError::new(message, "learning has one thread; --learning off switches it off"));
    }
    let memory_bytes = ready_memory_mib.saturating_mul(1 << 20);
    Ok(LearningSettings { mode, memory_bytes, processor_share: cores, keep_alive: None })
}

fn learning_mode(text: &str) -> Result<LearningMode, LearningModeError> {
    text.parse()
}

fn refused(option: &str, text: &str, error: &dyn std::error::Error, hint: &'static str) -> UsageError {
    UsageError::new(format!("--{option} {text}: {error}"), hint)
}

fn file(option: &str, path: PathBuf) -> Result<PathBuf, UsageError> {
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("--{option} {}: there is no such file", path.display());
    Err(UsageError::new(message, "give the path of a file in PEM format"))
}

fn connection(globals: &Globals, environment: &Environment) -> Result<Connection, UsageError> {
    let given = globals.node.as_deref().or_else(|| environment.variable("FORERUN_NODE"));
    Ok(Connection {
        node: values::node_url(given.unwrap_or(ADMIN_DEFAULT))?,
        node_is_default: given.is_none(),
        token: token(globals, environment)?,
        data_folders: paths::candidates(globals.data.as_deref(), environment),
    })
}

fn token(globals: &Globals, environment: &Environment) -> Result<Option<Secret>, UsageError> {
    let given = globals.token.clone().or_else(|| environment.variable("FORERUN_TOKEN").map(Secret::from));
    let Some(token) = given else { return Ok(None) };
    // What RFC 6750 allows in an Authorization header, so that it cannot break one.
    let plain = |c: char| c.is_ascii_graphic();
    if token.0.is_empty() || !token.0.chars().all(plain) {
        return Err(UsageError::new(
            "the token is empty or has characters no token has",
            "copy it again; a node keeps its token in its data folder",
        ));
    }
    Ok(Some(token))
}

fn deploy(args: DeployArgs) -> Result<Deploy, UsageError> {
    let DeployArgs { target: path, name, routes, environment } = args;
    let name = name.as_deref().map(values::function_name).transpose()?;
    let facts = std::fs::metadata(&path).map_err(|error| {
        let hint = "give the path of a component (.wasm), of a manifest (.toml), or of a folder with a manifest";
        UsageError::new(format!("cannot deploy `{}`: {error}", path.display()), hint)
    })?;
    if facts.is_dir() || path.extension().is_some_and(|extension| extension == "toml") {
        if !routes.is_empty() || !environment.is_empty() {
            let message = "--route and --env are for a single component, not for a manifest";
            return Err(UsageError::new(message, "write routes and environment into the manifest"));
        }
        return Ok(Deploy::Manifest { path, only: name });
    }
    let name = match name {
        Some(name) => name,
        None => name_from_file(&path)?,
    };
    let routes = routes.iter().map(|route| {
        let hint = "write it as --route /cart, --route /cart/... or --route shop.example/cart";
        route.parse().map_err(|error: forerun_types::RouteError| UsageError::new(error.to_string(), hint))
    });
    let routes = routes.collect::<Result<_, _>>()?;
    let environment = environment.iter().map(|text| values::key_value("env", text)).collect::<Result<_, _>>()?;
    Ok(Deploy::Component { path, name, routes, environment })
}

/// `target/My_Cart.wasm` is the function `my-cart`.
fn name_from_file(path: &Path) -> Result<FunctionName, UsageError> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = stem.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    name.parse().map_err(|_| {
        let message = format!("`{}` does not give the function a name", path.display());
        UsageError::new(message, "name it with --name: lower-case letters, digits and inner hyphens")
    })
}

fn request_id(text: &str) -> Result<InvocationId, UsageError> {
    let wrong = || {
        let message = format!("`{text}` is no request id");
        UsageError::new(message, "it is what an answer's x-request-id header holds: 32 hexadecimal digits")
    };
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u128::from_str_radix(text, 16).map(InvocationId::from_random).map_err(|_| wrong())
}

fn revision(number: u32) -> Result<RevisionNumber, UsageError> {
    if number == 0 {
        return Err(UsageError::new("--to 0: revisions count from 1", "`forerun revisions <function>` lists them"));
    }
    Ok(RevisionNumber(number))
}

fn consent(yes: bool, environment: &Environment) -> Result<Consent, UsageError> {
    match (yes, environment.stdin_is_terminal) {
        (true, _) => Ok(Consent::Given),
        (false, true) => Ok(Consent::Ask),
        (false, false) => {
            Err(UsageError::new("a removal has to be confirmed, and there is no terminal to ask on", "add --yes"))
        }
    }
}

fn invoke(args: &InvokeArgs) -> Result<Invoke, UsageError> {
    let body = match args.body.as_deref() {
        None => Body::Empty,
        Some("@-") => Body::Stdin,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => Body::File(path.into()),
            None => Body::Text(text.to_owned()),
        },
    };
    let usual = if body == Body::Empty { "GET" } else { "POST" };
    Ok(Invoke {
        function: values::function_name(&args.function)?,
        method: values::method(args.method.as_deref().unwrap_or(usual))?,
        path: values::request_path(&args.path)?,
        headers: args.headers.iter().map(|text| values::header(text)).collect::<Result<_, _>>()?,
        body,
    })
}

fn replay(args: ReplayArgs, progress: bool) -> Result<Replay, UsageError> {
    let ReplayArgs { traces, format, svg, which, by_session, on_vms } = args;
    for trace in &traces {
        let refused = |problem: &str| {
            let message = format!("cannot replay `{}`: {problem}", trace.display());
            Err(UsageError::new(message, "give the path of a trace; `forerun replay --help` has examples"))
        };
        match std::fs::metadata(trace) {
            Err(error) => return refused(&error.to_string()),
            Ok(facts) if facts.is_dir() => return refused("it is a folder"),
            Ok(_) => {}
        }
    }
    let format = if format == FORMAT_AUTO { None } else { Some(trace_format(&format)?) };
    if let Some(svg) = &svg {
        picture_path(svg, &traces)?;
    }
    Ok(Replay { traces, format, svg, which, by_session, on_vms, progress })
}

fn trace_format(name: &str) -> Result<TraceFormat, UsageError> {
    TraceFormat::from_name(name).ok_or_else(|| {
        UsageError::new(format!("--format {name}: there is no such format"), "`forerun replay --help` lists them")
    })
}

/// Says now what would else be said after minutes of replay, and saves a trace from being overwritten.
fn picture_path(svg: &Path, traces: &[PathBuf]) -> Result<(), UsageError> {
    let refused = |problem: &str| {
        let message = format!("--svg {}: {problem}", svg.display());
        Err(UsageError::new(message, "give the path of a file to write, such as --svg frontier.svg"))
    };
    // The folder of a bare file name is empty text.
    let folder = svg.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if svg.is_dir() {
        return refused("it is a folder");
    }
    if !folder.is_dir() {
        return refused("there is no such folder");
    }
    let real = svg.canonicalize().ok();
    if real.is_some() && traces.iter().any(|trace| trace.canonicalize().ok() == real) {
        return refused("it is the trace");
    }
    Ok(())
}

fn split(args: SplitArgs) -> Result<Split, UsageError> {
    let SplitArgs { component, profile, threshold, output: folder } = args;
    for path in [&component, &profile] {
        if !path.is_file() {
            let message = format!("cannot split: there is no file `{}`", path.display());
            return Err(UsageError::new(message, "give the path of a component, and of a profile with --profile"));
        }
    }
    // Parts of an earlier split would be taken for parts of this one.
    let is_free = match std::fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_free {
        let message = format!("--output {}: it is no empty folder", folder.display());
        return Err(UsageError::new(message, "name a folder that does not exist yet"));
    }
    Ok(Split { component, profile, hot_permille_min: threshold, folder })
}

fn log(globals: &Globals, runs_node: bool, output: &Output, environment: &Environment) -> Result<Log, UsageError> {
    // A node tells what it does; a command that talks to one keeps to its answer.
    let usual = if runs_node { "info" } else { "warn" };
    let filter = globals.log.as_deref().or_else(|| environment.variable("FORERUN_LOG")).unwrap_or(usual);
    if filter.len() > LOG_FILTER_BYTES_MAX {
        let message = format!("the log filter has more than {LOG_FILTER_BYTES_MAX} bytes");
        return Err(UsageError::new(message, "write it as --log debug or --log info,forerun_gateway=trace"));
    }
    let human = environment.stderr_is_terminal && output.format == Format::Human;
    let format = if human { LogFormat::Human } else { LogFormat::Json };
    Ok(Log { filter: filter.to_owned(), format, colour: output.stderr_colour })
}

#[cfg(test)]
mod tests;
