//! Who is compared, and with which command line each is started.
//!
//! All of them answer the same request with the same body. The component is the same file for all that run one, and
//! each request gets a VM in which nothing is left of another: that is what both servers do by default for `wasi:http`
//! 0.2, the one with fresh VMs only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::binaries::{Binaries, repository};

/// The options that its documentation has for fast instantiation ("Tuning Wasmtime for Fast Instantiation" and
/// `wasmtime serve -O help`) and that helped here. Pooling and copy-on-write are its defaults already; what is added
/// keeps a slot's pages and a fiber's stack between requests instead of giving them back to the system, and asks the
/// kernel which pages were written. Of those tried (48.0.8), decommit batches, more warm slots and other memory
/// reservations did not help. Forerun itself leaves `pagemap-scan` off; the peer gets what makes it fastest.
pub(crate) const PEER_TUNING: &str = "pooling-allocator=y,memory-init-cow=y,pooling-memory-keep-resident=2097152,\
pooling-table-keep-resident=65536,pooling-async-stack-keep-resident=65536,pooling-pagemap-scan=auto";
/// Connections that `wasmtime serve` takes unless told otherwise; it lets the others wait.
const PEER_CONNECTIONS_DEFAULT: usize = 1_000;

/// One server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// This repository's server.
    Forerun,
    /// `wasmtime serve` as it comes.
    Peer,
    /// `wasmtime serve` with the best settings its documentation has.
    PeerTuned,
    /// A bare hyper server that sends the answer without any VM: what no server on this stack can pass.
    Limit,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Path of the request that everyone answers alike.
    pub(crate) path: &'static str,
    /// With which status.
    pub(crate) status: u16,
    /// Path that is answered with 200 once the server is ready.
    pub(crate) ready: &'static str,
}

/// What a server is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Port for requests on 127.0.0.1.
    pub(crate) port: u16,
    /// Another free port, for a server that wants one.
    pub(crate) second_port: u16,
    /// Folder that is not there yet, and goes away with the server.
    pub(crate) data: &'a Path,
    /// Connections that the server must be able to hold.
    pub(crate) connections: usize,
}

impl Contender {
    /// All of them, in the order in which the first round goes.
    pub(crate) const ALL: [Self; 4] = [Self::Forerun, Self::Peer, Self::PeerTuned, Self::Limit];

    /// Name on the command line and in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Forerun => "forerun",
            Self::Peer => "peer",
            Self::PeerTuned => "peer-tuned",
            Self::Limit => "limit",
        }
    }

    /// What stands behind the name, for the report.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Forerun => "`forerun up`, default settings: a VM that is fresh, or was put back to that state",
            Self::Peer => "`wasmtime serve`, default settings, fresh VM per request",
            Self::PeerTuned => "`wasmtime serve`, settings documented for fast instantiation, fresh VM per request",
            Self::Limit => "bare hyper server, the same answer without any VM",
        }
    }

    /// The program, if it is there.
    pub(crate) fn program(self, binaries: &Binaries) -> Option<&Path> {
        match self {
            Self::Forerun => binaries.forerun.as_deref(),
            Self::Peer | Self::PeerTuned => binaries.peer.as_deref(),
            Self::Limit => binaries.limit.as_deref(),
        }
    }

    /// How to start it with the smallest component.
    pub(crate) fn launch(self, program: &Path, place: Place<'_>) -> Launch {
        let (arguments, path) = match self {
            Self::Forerun => (forerun_arguments(place), "/hello"),
            Self::Peer => (peer_arguments(place, None), "/"),
            Self::PeerTuned => (peer_arguments(place, Some(PEER_TUNING)), "/"),
            Self::Limit => (vec![address(place.port).into()], "/"),
        };
        Launch { program: program.to_owned(), arguments, path, status: 200, ready: path }
    }
}

fn forerun_arguments(place: Place<'_>) -> Vec<OsString> {
    forerun_up(&repository().join("examples/hello"), place)
}

/// `forerun up` of an application.
pub(crate) fn forerun_up(folder: &Path, place: Place<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["up".into(), folder.into()];
    arguments.extend(["--no-watch", "--listen"].map(OsString::from));
    arguments.push(address(place.port).into());
    arguments.extend(["--admin".into(), address(place.second_port).into()]);
    arguments.extend(["--data".into(), place.data.into()]);
    arguments
}

fn peer_arguments(place: Place<'_>, tuning: Option<&str>) -> Vec<OsString> {
    peer_serve(&repository().join("examples/hello/components/hello.wasm"), place, tuning, &[])
}

/// `wasmtime serve` of a component, with `more` options.
pub(crate) fn peer_serve(component: &Path, place: Place<'_>, tuning: Option<&str>, more: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["serve", "-S", "cli", "--addr"].map(OsString::from).into();
    arguments.push(address(place.port).into());
    if place.connections > PEER_CONNECTIONS_DEFAULT {
        arguments.extend(["--max-concurrent-connections".into(), place.connections.to_string().into()]);
    }
    if let Some(tuning) = tuning {
        arguments.extend(["-O".into(), tuning.into()]);
    }
    arguments.extend(more.iter().map(OsString::from));
    arguments.push(component.into());
    arguments
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_differ_in_their_tuning_only() {
        let place = Place { port: 1, second_port: 2, data: Path::new("data"), connections: 16 };
        let plain = Contender::Peer.launch(Path::new("wasmtime"), place).arguments;
        let mut tuned = Contender::PeerTuned.launch(Path::new("wasmtime"), place).arguments;
        let at = tuned.iter().position(|argument| argument == "-O").unwrap();
        tuned.drain(at..at + 2);
        assert_eq!(plain, tuned);
        assert!(!plain.iter().any(|argument| argument == "--max-concurrent-connections"), "defaults stay");
    }

    #[test]
    fn the_component_is_there() {
        assert!(repository().join("examples/hello/components/hello.wasm").is_file());
    }
}
