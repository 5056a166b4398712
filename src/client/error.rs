//! Why a command did not do what was asked, and what to do about it.

use std::io;
use std::path::PathBuf;

use forerun_manifest::{ManifestError, SourceError};
use forerun_types::{FunctionName, SpecError};

/// Why a command did not do what was asked. The message is one sentence; [`ClientError::hint`] is the next step.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nothing answers anywhere a node might be.
    #[error("no node answers at {}", .tried.join(" or "))]
    NoNode {
        /// Its possible addresses; at least one.
        tried: Vec<String>,
    },
    /// The one folder that was named is of no running node.
    #[error("no node runs with the data folder `{}`", folder.display())]
    FolderIdle {
        /// The folder.
        folder: PathBuf,
    },
    /// The node cannot be reached for another reason.
    #[error("cannot reach the node at {url}: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It did not answer in time.
    #[error("the node at {url} did not answer in time ({what})")]
    TimedOut {
        /// Where it is.
        url: String,
        /// What took too long.
        what: String,
    },
    /// There is no token to show.
    #[error("there is no token for the node at {url}")]
    NoToken {
        /// Where it is.
        url: String,
    },
    /// The file with the token is of no use.
    #[error("cannot read the token in `{}`: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The node knows another token.
    #[error("the node at {url} refused the token")]
    TokenRefused {
        /// Where it is.
        url: String,
        /// Where the token came from.
        source_of_token: String,
    },
    /// The node said no and why.
    #[error("{detail}")]
    Problem {
        /// For people.
        detail: String,
        /// For programs.
        reason: String,
        /// HTTP status.
        status: u16,
    },
    /// The node is of another version and does not understand.
    #[error("the node at {url} is version {theirs}, this command is version {ours}: {detail}")]
    OtherVersion {
        /// Where it is.
        url: String,
        /// Its version.
        theirs: String,
        /// Ours.
        ours: &'static str,
        /// What was not understood.
        detail: String,
    },
    /// What answers is no node, or speaks unlike any.
    #[error("what answers at {url} does not answer as a node does: {detail}")]
    NotANode {
        /// Where it is.
        url: String,
        /// What it did.
        detail: String,
    },
    /// The answer ended before its end.
    #[error("the answer of the node at {url} broke off: {reason}")]
    BrokeOff {
        /// Where it is.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The node stopped taking what was sent.
    #[error("the node at {url} ended the connection while the body was sent: {reason}")]
    NotTaken {
        /// Where it is.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A component's file cannot be used.
    #[error("the component {0}")]
    Component(SourceError),
    /// A component's file is no component.
    #[error("`{}`: {why}", path.display())]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// In the node's words.
        why: &'static str,
    },
    /// Options that no function may have.
    #[error("function `{name}`: {violation}")]
    Spec {
        /// The function.
        name: String,
        /// What is wrong.
        violation: SpecError,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The manifest has no function of that name.
    #[error("there is no function `{name}` in `{}`", manifest.display())]
    NotInManifest {
        /// The name.
        name: String,
        /// The manifest.
        manifest: PathBuf,
        /// What it has.
        names: String,
    },
    /// The body to send cannot be read.
    #[error("cannot read the body from `{from}`: {reason}")]
    Body {
        /// A file, or stdin.
        from: String,
        /// The system's words.
        reason: String,
    },
    /// A header or method that cannot be sent through the admin port.
    #[error("{name} cannot be sent: {why}")]
    NotSendable {
        /// What it is.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The person asked said no.
    #[error("`{name}` was not removed")]
    NotConfirmed {
        /// The function.
        name: String,
    },
    /// Not enough is known for a profile.
    #[error("there is no profile of `{function}` yet: {why}")]
    NoProfile {
        /// The function.
        function: FunctionName,
        /// In the node's words.
        why: String,
    },
    /// Output could not be written.
    #[error("cannot write the output: {0}")]
    Stdout(io::Error),
    /// A command of another module; a mistake of ours.
    #[error("this command does not talk to a node")]
    NotOurs,
}

impl ClientError {
    /// What to do about it; may be empty.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NoNode { .. } => {
                "start one with `forerun up examples/shop` or `forerun serve`, or name one with --node URL".into()
            }
            Self::FolderIdle { folder } => {
                format!("start it with `forerun serve --data {}`, or name a node with --node URL", folder.display())
            }
            Self::Unreachable { url, .. } if url.starts_with("https:") => {
                "check --node or FORERUN_NODE; a node's admin port has no TLS of its own, so https:// needs a proxy before it"
                    .into()
            }
            Self::Unreachable { .. } => "check --node or FORERUN_NODE, and `forerun doctor`".into(),
            Self::TimedOut { .. } => "is the node busy or stopping? see its log, and `forerun doctor`".into(),
            Self::NoToken { .. } => {
                "it is in `admin.token` in the node's data folder: name the folder with --data, or set FORERUN_TOKEN"
                    .into()
            }
            Self::TokenFile { .. } => "run as the user who started the node, or set FORERUN_TOKEN".into(),
            Self::TokenRefused { source_of_token, .. } => {
                format!("it came from {source_of_token}; set FORERUN_TOKEN to the one the node was started with")
            }
            Self::Problem { reason, status, .. } => hint_for(reason, *status).into(),
            Self::OtherVersion { .. } => "use the `forerun` that the node was started with, or update the node".into(),
            Self::NotANode { .. } => "--node and FORERUN_NODE name a node's admin port, which is not its port for requests".into(),
            Self::BrokeOff { .. } => "did the node stop? see its log".into(),
            Self::NotTaken { .. } => "the function may have answered without reading all of it, or it is larger than the function accepts".into(),
            Self::Component(SourceError::Missing { .. }) => "build it first, or check the path".into(),
            Self::Component(_) => "give the path of a component (.wasm)".into(),
            Self::NotAComponent { .. } => "see the examples in examples/shop for how components are built".into(),
            Self::Spec { .. } => "change the options of the command".into(),
            Self::Manifest(_) => String::new(),
            Self::NotInManifest { names, .. } => format!("it has {names}"),
            Self::Body { .. } => "give a body as -d TEXT, -d @FILE or -d @- for stdin".into(),
            Self::NotSendable { .. } => "leave it out, or call the function by its route".into(),
            Self::NotConfirmed { .. } => "answer `y`, or add --yes".into(),
            Self::NoProfile { function, .. } => format!("`forerun paths {function}` shows what is known"),
            Self::Stdout(_) => "is the disk full?".into(),
            Self::NotOurs => "please report this".into(),
        }
    }
}

/// What to do about a problem the node named. Reasons come from another program, so an unknown one is no mistake.
fn hint_for(reason: &str, status: u16) -> &'static str {
    match (reason, status) {
        ("unknown_function", _) => "`forerun functions` lists what is there",
        ("no_such_revision", _) => "`forerun revisions <function>` lists them",
        ("bad_component", _) => {
            "nothing was changed; a component is built for the world wasi:http/proxy, and lives within its `limits`"
        }
        ("bad_specification" | "bad_deployment", _) => "nothing was changed",
        ("storage", _) => "nothing was changed; is the node's disk full? see `forerun doctor` there",
        ("compiler_panic", _) => "please report this with the component",
        (_, 500..) => "see the node's log",
        _ => "",
    }
}
