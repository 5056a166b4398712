//! Who stands beside whom in the case `peers`: the same handler, in our node and in what people run it with otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::binaries::{Binaries, in_path, repository};
use crate::contenders::{Contender, Launch, Place, peer_serve};
use crate::installed::{Installed, handlers};

/// A handler, and the request that all who run it answer alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Handler {
    JavaScript,
    Python,
    Rust,
}

impl Handler {
    pub(crate) const ALL: [Self; 3] = [Self::JavaScript, Self::Python, Self::Rust];

    /// Name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::Python => "python",
            Self::Rust => "rust",
        }
    }

    /// Name in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript, /search",
            Self::Python => "Python, /report",
            Self::Rust => "Rust, hello",
        }
    }

    /// The folder of our application, with its manifest.
    pub(crate) fn application(self) -> PathBuf {
        repository().join(match self {
            Self::JavaScript => "examples/js",
            Self::Python => "examples/python",
            Self::Rust => "examples/hello",
        })
    }

    /// The component that our node runs.
    pub(crate) fn component(self) -> PathBuf {
        self.application().join(match self {
            Self::JavaScript | Self::Python => "dist/app.wasm",
            Self::Rust => "components/hello.wasm",
        })
    }

    /// What is asked of our node.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::JavaScript => "/search?q=lamp&limit=2",
            Self::Python => "/report",
            Self::Rust => "/hello",
        }
    }
}

/// A server with a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    Forerun(Handler),
    Workerd,
    NodeFunctions,
    PythonFunctions,
    Wasmtime,
}

/// What there is to run.
#[derive(Debug)]
pub(crate) struct Programs<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) installed: &'a Installed,
    /// The component of the Rust handler, compiled by the peer beforehand: our code is kept over a restart too.
    pub(crate) compiled: &'a Path,
}

impl Subject {
    /// In the order in which the first round goes.
    pub(crate) const ALL: [Self; 7] = [
        Self::Forerun(Handler::JavaScript),
        Self::Workerd,
        Self::NodeFunctions,
        Self::Forerun(Handler::Python),
        Self::PythonFunctions,
        Self::Forerun(Handler::Rust),
        Self::Wasmtime,
    ];

    pub(crate) fn handler(self) -> Handler {
        match self {
            Self::Forerun(handler) => handler,
            Self::Workerd | Self::NodeFunctions => Handler::JavaScript,
            Self::PythonFunctions => Handler::Python,
            Self::Wasmtime => Handler::Rust,
        }
    }

    /// Name in tables and messages.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Forerun(_) => "Forerun",
            Self::Workerd => "workerd",
            Self::NodeFunctions => "functions-framework (Node)",
            Self::PythonFunctions => "functions-framework (CPython)",
            Self::Wasmtime => "wasmtime serve",
        }
    }

    /// What one request is kept from another by. Figures mean little without it.
    pub(crate) fn isolation(self) -> &'static str {
        match self {
            Self::Forerun(_) => "a VM for each request, nothing of another in it",
            Self::Workerd => "none: one V8 isolate for all",
            Self::NodeFunctions | Self::PythonFunctions => "none: one process for all",
            Self::Wasmtime => "a fresh VM for each request",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Forerun(_))
    }

    /// How it is started; the reason if it cannot be. `data` is where our node finds what was deployed to it.
    pub(crate) fn launch(self, programs: &Programs<'_>, place: Place<'_>, data: Option<&Path>) -> Result<Launch> {
        let (program, arguments) = match self {
            Self::Forerun(handler) => forerun(handler, programs, place, data)?,
            Self::Workerd => workerd(programs, place)?,
            Self::NodeFunctions => node_functions(programs, place)?,
            Self::PythonFunctions => python_functions(programs, place)?,
            Self::Wasmtime => wasmtime(programs, place)?,
        };
        let path = self.handler().path();
        Ok(Launch { program, arguments, path, status: 200, ready: path })
    }

    /// Ours or a peer, for the process that is started.
    pub(crate) fn contender(self) -> Contender {
        if self.is_ours() { Contender::Forerun } else { Contender::Peer }
    }
}

type Command = (PathBuf, Vec<OsString>);

fn forerun(handler: Handler, programs: &Programs<'_>, place: Place<'_>, data: Option<&Path>) -> Result<Command> {
    let program = programs.binaries.forerun.clone().context("forerun is not there")?;
    let component = handler.component();
    ensure!(component.is_file(), "its component is not built: {}", component.display());
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--listen".into(), address(place).into()];
    arguments.extend(["--admin".into(), format!("127.0.0.1:{}", place.second_port).into()]);
    arguments.extend(["--data".into(), data.unwrap_or(place.data).into()]);
    Ok((program, arguments))
}

fn workerd(programs: &Programs<'_>, place: Place<'_>) -> Result<Command> {
    let folder = installed(&programs.installed.javascript)?;
    let program = present(folder.join("node_modules/workerd/bin/workerd"))?;
    let socket = format!("--socket-addr=http={}", address(place));
    Ok((program, vec!["serve".into(), handlers().join("js/workerd.capnp").into(), socket.into()]))
}

fn node_functions(programs: &Programs<'_>, place: Place<'_>) -> Result<Command> {
    let folder = installed(&programs.installed.javascript)?;
    let main = present(folder.join("node_modules/@google-cloud/functions-framework/build/src/main.js"))?;
    let program = in_path("node").context("node is not installed")?;
    let mut arguments: Vec<OsString> = vec![main.into(), "--source".into(), handlers().join("js").into()];
    arguments.extend(["--target", "answer", "--port"].map(OsString::from));
    arguments.push(place.port.to_string().into());
    Ok((program, arguments))
}

fn python_functions(programs: &Programs<'_>, place: Place<'_>) -> Result<Command> {
    let folder = installed(&programs.installed.python)?;
    let program = present(folder.join("bin/functions-framework"))?;
    let mut arguments: Vec<OsString> = vec!["--source".into(), handlers().join("python/main.py").into()];
    arguments.extend(["--target", "answer", "--host", "127.0.0.1", "--port"].map(OsString::from));
    arguments.push(place.port.to_string().into());
    Ok((program, arguments))
}

fn wasmtime(programs: &Programs<'_>, place: Place<'_>) -> Result<Command> {
    let program = programs.binaries.peer.clone().context("wasmtime is not installed, see --peer")?;
    ensure!(programs.compiled.is_file(), "its component could not be compiled");
    Ok((program, peer_serve(programs.compiled, place, None, &["--allow-precompiled"])))
}

fn installed(folder: &Result<PathBuf, String>) -> Result<&Path> {
    folder.as_deref().map_err(|reason| anyhow::anyhow!("it cannot be installed: {reason}"))
}

fn present(file: PathBuf) -> Result<PathBuf> {
    ensure!(file.is_file(), "{} is not there", file.display());
    Ok(file)
}

fn address(place: Place<'_>) -> String {
    format!("127.0.0.1:{}", place.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_absent_says_why_and_holds_up_nobody() {
        let binaries =
            Binaries { forerun: None, peer: Some("wasmtime".into()), limit: None, wrk: PathBuf::from("wrk") };
        let installed =
            Installed { javascript: Err("npm is not installed".to_owned()), python: Err("no network".to_owned()) };
        let compiled = repository().join("Cargo.toml");
        let programs = Programs { binaries: &binaries, installed: &installed, compiled: &compiled };
        let place = Place { port: 1, second_port: 2, data: Path::new("data"), connections: 16 };
        let reason = |subject: Subject| subject.launch(&programs, place, None).err().map(|why| format!("{why:#}"));
        assert_eq!(reason(Subject::Workerd).unwrap(), "it cannot be installed: npm is not installed");
        assert_eq!(reason(Subject::PythonFunctions).unwrap(), "it cannot be installed: no network");
        assert_eq!(reason(Subject::Forerun(Handler::Rust)).unwrap(), "forerun is not there");
        assert_eq!(reason(Subject::Wasmtime), None);
    }
}
