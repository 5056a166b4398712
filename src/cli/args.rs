//! What was typed, and no more: plain strings, numbers and flags.
//!
//! Kept dumb on purpose, as ripgrep's `lowargs` are: no file is looked at, no environment is read and nothing
//! depends on anything else, so that help and version cannot fail. `meaning` gives it sense.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use forerun_sim::reader::FORMATS;

use super::values::Secret;

/// Address the gateway listens on if none is given: only this machine reaches it.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// Address of the admin port if none is given, and where commands look for a node.
pub(crate) const ADMIN_DEFAULT: &str = "127.0.0.1:8081";
/// Lines of a log shown if no number is given: a screen or two.
const LOG_LINES_DEFAULT: &str = "100";
/// Format of a trace that leaves it to the first line.
pub(crate) const FORMAT_AUTO: &str = "auto";

/// A functions server that has the code ready before the request comes
#[derive(Debug, Parser)]
#[command(name = "forerun", version, max_term_width = 100, propagate_version = true, subcommand_required = true)]
#[command(after_help = "Start here:\n  $ forerun up examples/shop")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: CommandArgs,
}

/// Options of every command.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Print JSON on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder with the node's data [env: FORERUN_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Admin address of the node to talk to [env: FORERUN_NODE] [default: http://127.0.0.1:8081]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// Token for the node's admin port; the environment keeps it out of process lists [env: FORERUN_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<Secret>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    /// What to log on stderr, such as `debug` or `info,forerun_gateway=trace` [env: FORERUN_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands, as typed.
#[derive(Debug, Subcommand)]
pub(crate) enum CommandArgs {
    /// Run an application from its manifest, and deploy it again when a file changes
    Up(UpArgs),
    /// Run a node with what was deployed to it before
    Serve(ServeArgs),
    /// Deploy a component, or all functions of a manifest, to a running node
    Deploy(DeployArgs),
    /// List the functions of a node
    Functions(FunctionsArgs),
    /// List the revisions of a function
    Revisions(RevisionsArgs),
    /// Make an earlier revision of a function the current one
    Rollback(RollbackArgs),
    /// Remove a function with its routes and revisions
    Remove(RemoveArgs),
    /// Show what a function wrote to stdout and stderr
    Logs(LogsArgs),
    /// List the machine code that is kept, and what went and why
    Images(ImagesArgs),
    /// Call a function through the admin port, whether it has a route or not
    Invoke(InvokeArgs),
    /// Say why a request was served as it was, and whether it had been expected
    Explain(ExplainArgs),
    /// Say which call is expected next in a function's application
    Predict(PredictArgs),
    /// Say that a call of a function is known to come, so that a VM is held for it
    Expect(ExpectArgs),
    /// Show what the node learns, what that costs and saves, or say how far it may go
    Learning(LearningArgs),
    /// List the calls that functions make of each other, with probability and time between
    Calls(CallsArgs),
    /// Watch how the node serves, function by function
    Top(TopArgs),
    /// Write the history of invocations to stdout, as CSV or (with --json) JSON lines
    Export(ExportArgs),
    /// Show which code of a function runs, by class of request
    Paths(PathsArgs),
    /// Show what a function's next image is specialized for, and what has become of the last
    Profile(ProfileArgs),
    /// Check this machine and the node, and say what to do about what is found
    Doctor(DoctorArgs),
    /// Show what prediction would have done on a trace, beside the usual keep-alive policies
    Replay(ReplayArgs),
    /// Split a component into what requests run and modules that are loaded when they are called
    Split(SplitArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

/// What a node listens on and reports to.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Node options")]
pub(crate) struct NodeArgs {
    /// Address for requests; a port alone means 127.0.0.1, port 0 any free one
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN_DEFAULT)]
    pub(crate) listen: String,
    /// Address of the admin port
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN_DEFAULT)]
    pub(crate) admin: String,
    /// Certificate chain in PEM; requests are then served over TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How far to learn from requests: off, observe (make nothing ready), images (on disk only) or full
    #[arg(long, value_name = "MODE", default_value = "full")]
    pub(crate) learning: String,
    /// What tells the sessions of clients apart: none, client (its address), cookie:NAME or header:NAME
    #[arg(long, value_name = "SOURCE", default_value = "client")]
    pub(crate) session: String,
    /// Memory that VMs held ready may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) ready_memory_mib: u64,
    /// Hold a VM of each function for so many seconds after its last call, instead of those that are expected: what
    /// prediction can be compared with
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_alive: Option<u32>,
    /// How long a VM that was put back waits for the next request of its function, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub(crate) vm_idle_ms: u64,
    /// Memory that VMs may take which have served and wait for the next request of their function, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) idle_memory_mib: u64,
    /// Processor time for learning, in processors
    #[arg(long, value_name = "CORES", default_value_t = 0.05)]
    pub(crate) learning_cores: f32,
    /// Share of a large function's processor time that learning which of its code runs may take; 0 switches it off
    #[arg(long, value_name = "SHARE", default_value = "0.01")]
    pub(crate) sample_share: String,
    /// Machine code of a component, in KiB, from which on it is learnt which of it runs and an image of that is made
    #[arg(long, value_name = "KIB", default_value_t = 4096)]
    pub(crate) split_min_kib: u64,
    /// Disk for machine code, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub(crate) images_mib: u64,
    /// Whether the server gives up what it does not need (files, programs, system calls), where the kernel offers that: on
    /// or off
    #[arg(long, value_name = "ON|OFF", default_value = "on")]
    pub(crate) sandbox: String,
    /// Where to send traces by OTLP over HTTP [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun up examples/shop\n  $ forerun up --build --listen 0.0.0.0:8080\n\n\
    Data is kept in .forerun beside the manifest unless --data or --ephemeral says otherwise.")]
pub(crate) struct UpArgs {
    /// Manifest (forerun.toml or spin.toml), or the folder that holds one
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Keep data in a temporary folder that is removed at the end
    #[arg(long, conflicts_with = "data")]
    pub(crate) ephemeral: bool,
    /// Do not watch the manifest and the components for changes
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Let made-up visitors go through the application as its demo.toml says, and show how they are served
    #[arg(long)]
    pub(crate) demo: bool,
    /// Run the build commands of the manifest first, and again when a watched source file changes
    #[arg(long)]
    pub(crate) build: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun serve --data /var/lib/forerun\n  \
    $ forerun serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n\n\
    Data is kept in $XDG_DATA_HOME/forerun or ~/.local/share/forerun unless --data says otherwise.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun deploy cart.wasm --route /cart/... --env LOG=info\n  \
    $ forerun deploy examples/shop\n  $ forerun deploy examples/shop --name cart")]
pub(crate) struct DeployArgs {
    /// Component (.wasm), manifest (.toml), or the folder that holds a manifest
    pub(crate) target: PathBuf,
    /// Name of the function, by default the component's file name; with a manifest, the one function to deploy
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Route of the component, such as /cart/... or shop.example/cart; may be repeated
    #[arg(long = "route", value_name = "ROUTE")]
    pub(crate) routes: Vec<String>,
    /// Environment variable of the component; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub(crate) environment: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun functions\n  $ forerun functions --json")]
pub(crate) struct FunctionsArgs {}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun revisions cart")]
pub(crate) struct RevisionsArgs {
    /// Name of the function
    pub(crate) function: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun rollback cart\n  $ forerun rollback cart --to 3")]
pub(crate) struct RollbackArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Number of the revision to go to; the one before the current by default
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun remove cart\n  $ forerun remove cart --yes")]
pub(crate) struct RemoveArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun logs cart -n 20\n  $ forerun logs cart -f")]
pub(crate) struct LogsArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Go on with new lines as they are written
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// How many of the last lines to show first
    #[arg(long = "lines", short = 'n', value_name = "N", default_value = LOG_LINES_DEFAULT)]
    pub(crate) lines: u32,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun images\n  $ forerun images cart --json")]
pub(crate) struct ImagesArgs {
    /// Only those of this function
    pub(crate) function: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun invoke cart /cart/1\n  \
    $ forerun invoke cart -X PUT -H 'content-type:application/json' -d @item.json /cart/1")]
pub(crate) struct InvokeArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Path and query of the request
    #[arg(default_value = "/")]
    pub(crate) path: String,
    /// Method; GET by default, POST with a body
    #[arg(long, short = 'X')]
    pub(crate) method: Option<String>,
    /// Header of the request; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Body of the request: text, @FILE, or @- for stdin
    #[arg(long = "body", short = 'd', value_name = "BODY")]
    pub(crate) body: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun explain 0d41e7c7deb328bc8ad5806115070690")]
pub(crate) struct ExplainArgs {
    /// The request's id, as its x-request-id header has it
    pub(crate) request_id: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun predict cart\n  $ forerun predict cart --json")]
pub(crate) struct PredictArgs {
    /// Name of the function
    pub(crate) function: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun expect report --after 300 --for 60\n  \
    $ forerun expect report --for 3600 --json\n\n\
    Held only where learning is full, and within the memory budget. At most eight days ahead and a day long.")]
pub(crate) struct ExpectArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Seconds from now until the call may come
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) after: u64,
    /// Seconds in which it may come from then on
    #[arg(long, value_name = "SECONDS")]
    pub(crate) r#for: u64,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun learning\n  $ forerun learning off\n  \
    $ forerun learning observe --function cart\n\n\
    A change takes effect at once. The node's own mode is that of its command line again after a restart; that of a \
    function is kept.")]
pub(crate) struct LearningArgs {
    /// How far to go from now on: off, observe, images or full
    pub(crate) mode: Option<String>,
    /// Only for this function
    #[arg(long, value_name = "NAME", requires = "mode")]
    pub(crate) function: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun calls\n  $ forerun calls --json")]
pub(crate) struct CallsArgs {}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  $ forerun export > calls.csv\n  $ forerun export --function cart --since-min 60\n  \
    $ forerun export --json > calls.jsonl && forerun replay calls.jsonl"
)]
pub(crate) struct ExportArgs {
    /// Sums per minute and hour instead of single invocations
    #[arg(long)]
    pub(crate) loads: bool,
    /// Only of this function
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Only of the last so many minutes
    #[arg(long, value_name = "MINUTES")]
    pub(crate) since_min: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun top\n  $ forerun top --frames 1")]
pub(crate) struct TopArgs {
    /// End after so many frames, one a second
    #[arg(long, value_name = "N")]
    pub(crate) frames: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun paths cart\n  $ forerun paths cart --json\n  \
    $ forerun paths cart --folded > cart.folded\n\n\
    A node learns it of large components only (--split-min-kib).")]
pub(crate) struct PathsArgs {
    /// Name of the function
    pub(crate) function: String,
    /// Lines of each table
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 15)]
    pub(crate) top: usize,
    /// Print one line a code path, as flame-graph tools read it
    #[arg(long, conflicts_with = "json")]
    pub(crate) folded: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun profile cart\n  \
    $ forerun profile cart --json > cart.json && forerun split cart.wasm --profile cart.json -o parts/\n\n\
    With --json it is the profile alone. A node has one of large components only (--split-min-kib).")]
pub(crate) struct ProfileArgs {
    /// Name of the function
    pub(crate) function: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun doctor")]
pub(crate) struct DoctorArgs {}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun replay access.log\n  \
    $ forerun replay day1.csv.gz day2.csv.gz --format azure2019 --svg frontier.svg\n  \
    $ forerun replay spans.csv.zst --which --json\n\n\
    Files may be larger than memory; names that end in .gz or .zst are decompressed. Needs no node.")]
pub(crate) struct ReplayArgs {
    /// Files of the trace, in their order in time
    #[arg(value_name = "TRACE", required = true)]
    pub(crate) traces: Vec<PathBuf>,
    /// Format of the trace; auto finds it out from the first line
    #[arg(long, default_value = FORMAT_AUTO, value_parser = format_names())]
    pub(crate) format: String,
    /// Write a picture of cold starts against memory, one curve a policy
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Score predictions of the next function too, for each combination of experts
    #[arg(long)]
    pub(crate) which: bool,
    /// Score whole sessions one after the other instead of calls in their order in time
    #[arg(long, requires = "which")]
    pub(crate) by_session: bool,
    /// Say too what is cold on memory for so many VMs, each of which serves once: by a node's own rule, and where those
    /// called last are held
    #[arg(long, value_name = "VMS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) on_vms: Vec<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun split cart.wasm --profile cart.json -o split/\n  \
    $ forerun split cart.wasm --profile cart.json --threshold 50 -o split/ --json\n\n\
    Writes primary.wasm, cold-N.wasm and index.json into an empty or new folder. Needs no node.")]
pub(crate) struct SplitArgs {
    /// Component to split
    #[arg(value_name = "COMPONENT")]
    pub(crate) component: PathBuf,
    /// Specialization profile that names the functions that requests run
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: PathBuf,
    /// Keep functions that at least so many of a thousand requests run
    #[arg(long, value_name = "PERMILLE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) threshold: u16,
    /// Folder for what is made
    #[arg(long = "output", short = 'o', value_name = "DIR")]
    pub(crate) output: PathBuf,
}

fn format_names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(FORMAT_AUTO).chain(FORMATS.map(|(_, name)| name)))
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  $ forerun completions bash > ~/.local/share/bash-completion/completions/forerun")]
pub(crate) struct CompletionsArgs {
    /// Name of the shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
