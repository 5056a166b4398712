//! Our node as the cases want it: with an application, options and a data folder of their own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository};
use crate::contenders::{Contender, Launch, Place, forerun_up};
use crate::load::measure;
use crate::probe::Connection;
use crate::server::Server;
use crate::subjects::Handler;

/// A language runtime is optimised in half a minute, or in some on a busy machine.
const CODE_MAX: Duration = Duration::from_secs(600);

/// How our node is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) program: &'a Path,
    /// Folder with the manifest; without one the node serves what was deployed to it before.
    pub(crate) application: Option<&'a Path>,
    /// Where it keeps its data; without one, where it goes away with the node.
    pub(crate) data: Option<&'a Path>,
    /// Path of the request that tells that it is ready, and of the load.
    pub(crate) path: &'static str,
    pub(crate) options: &'a [&'a str],
}

impl Node<'_> {
    fn launch(&self, place: Place<'_>) -> Launch {
        let place = Place { data: self.data.unwrap_or(place.data), ..place };
        let mut arguments = match self.application {
            Some(folder) => forerun_up(folder, place),
            None => forerun_serve(place),
        };
        arguments.extend(self.options.iter().map(OsString::from));
        Launch { program: self.program.to_owned(), arguments, path: self.path, status: 200, ready: self.path }
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&self, label: &'static str, arguments: &Arguments) -> Result<Server> {
        Server::start_as(label, Contender::Forerun, |place| Ok(self.launch(place)), arguments).await
    }

    /// Waits until all functions have fully optimised code, and nothing is at work beside the node. What was made in a
    /// hurry takes several times as long; a comparison with it would be one of compilers.
    pub(crate) async fn settled(&self, server: &Server) -> Result<()> {
        let began = Instant::now();
        loop {
            server.settle().await?;
            let Some(component) = self.without_code(server).await? else { return Ok(()) };
            ensure!(began.elapsed() < CODE_MAX, "{} has no optimised code of {component}", server.label);
        }
    }

    /// Whether all functions have fully optimised code now.
    pub(crate) async fn is_settled(&self, server: &Server) -> Result<bool> {
        Ok(self.without_code(server).await?.is_none())
    }

    /// A component without fully optimised code.
    async fn without_code(&self, server: &Server) -> Result<Option<String>> {
        let data = self.data.unwrap_or(&server.state);
        Ok(without_code(&admin(server.admin, data, "/v1/images").await?))
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&self, label: &'static str, arguments: &Arguments) -> Result<Server> {
        Server::spawn(label, Contender::Forerun, |place| Ok(self.launch(place)), arguments)
    }

    /// Leaves a data folder as a node does that served for a while and ended in order.
    pub(crate) async fn fill(&self, binaries: &Binaries, arguments: &Arguments) -> Result<()> {
        let server = self.start("forerun", arguments).await?;
        crate::say(&format!("{}: first answer ever after {:.0?}", self.path, server.first_answer));
        self.settled(&server).await?;
        measure(&server, 1, binaries, arguments).await?;
        server.settle().await?;
        server.stop_gently().await
    }
}

/// A component of which there is code and none that is fully optimised.
fn without_code(images: &Value) -> Option<String> {
    let images = images["images"].as_array()?;
    let component = |image: &Value| image["component"].as_str().map(str::to_owned);
    let is_whole = |image: &&Value| image["kind"] == "t2-full";
    let whole: BTreeSet<Option<String>> = images.iter().filter(is_whole).map(component).collect();
    images.iter().map(component).find(|component| !whole.contains(component)).flatten()
}

/// What a node says of its learning, as the admin API shows it.
pub(crate) async fn learning(address: SocketAddr, data: &Path) -> Result<Value> {
    admin(address, data, "/v1/learning").await
}

/// What the admin port of a node answers at a path.
pub(crate) async fn admin(address: SocketAddr, data: &Path, path: &str) -> Result<Value> {
    let token = std::fs::read_to_string(data.join("admin.token")).context("the node has no token")?;
    let answer = Connection::open(address).await?.get_as(path, token.trim()).await?;
    ensure!(answer.status == 200, "{path} answers {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

fn forerun_serve(place: Place<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--listen".into()];
    arguments.push(format!("127.0.0.1:{}", place.port).into());
    arguments.extend(["--admin".into(), format!("127.0.0.1:{}", place.second_port).into()]);
    arguments.extend(["--data".into(), place.data.into()]);
    arguments
}

/// Those asked for whose component is built; who is absent is named on stderr.
pub(crate) fn languages(arguments: &Arguments) -> Result<Vec<Handler>> {
    let wanted = arguments.languages.clone().unwrap_or_else(|| Handler::ALL.to_vec());
    let (built, absent): (Vec<Handler>, Vec<Handler>) =
        wanted.into_iter().partition(|handler| handler.component().is_file());
    for handler in absent {
        crate::say(&format!("left out, not built: {}", handler.component().display()));
    }
    ensure!(!built.is_empty(), "no component is built: examples/python/build.sh, examples/js/build.sh");
    Ok(built)
}

/// One function of an application that a case makes up.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) component: PathBuf,
    pub(crate) route: Option<String>,
    /// The `reuse` of the manifest, as TOML; the default without one.
    pub(crate) reuse: Option<&'static str>,
}

/// An application in a folder of its own, which goes away with this.
pub(crate) fn application(name: &str, functions: &[Function]) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    std::fs::write(folder.path().join("forerun.toml"), manifest(name, functions)?)?;
    Ok(folder)
}

fn manifest(name: &str, functions: &[Function]) -> Result<String> {
    let mut text = format!("forerun = 1\n[app]\nname = \"{name}\"\n");
    for Function { name, component, route, reuse } in functions {
        writeln!(text, "[function.{name}]\nsource = {:?}", component.display().to_string())?;
        if let Some(route) = route {
            writeln!(text, "routes = [{route:?}]")?;
        }
        if let Some(reuse) = reuse {
            writeln!(text, "reuse = {reuse}")?;
        }
        // Those of the examples in Python and JavaScript.
        writeln!(text, "[function.{name}.limits]\nmemory_bytes = \"256 MiB\"\ntimeout_ms = 30000")?;
    }
    Ok(text)
}

/// The component of the smallest function in Rust.
pub(crate) fn hello() -> PathBuf {
    repository().join("examples/hello/components/hello.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_what_was_asked_for() {
        let function = |name: &str, route: Option<&str>, reuse| Function {
            name: name.to_owned(),
            component: PathBuf::from("/a b/c.wasm"),
            route: route.map(str::to_owned),
            reuse,
        };
        let text = manifest("x", &[function("one", Some("/one"), None), function("two", None, Some("\"fresh\""))]);
        let text = text.unwrap();
        assert!(text.contains("[function.one]\nsource = \"/a b/c.wasm\"\nroutes = [\"/one\"]\n[function.one.limits]"));
        assert!(text.contains("[function.two]\nsource = \"/a b/c.wasm\"\nreuse = \"fresh\"\n"));
    }

    #[test]
    fn a_component_that_was_compiled_in_a_hurry_only_is_found() {
        let image = |component: &str, kind: &str| serde_json::json!({ "component": component, "kind": kind });
        let images = |list: &[Value]| serde_json::json!({ "images": list });
        let [quick, whole, other] = [image("a", "t0-quick"), image("a", "t2-full"), image("b", "t2-full")];
        assert_eq!(without_code(&images(&[other.clone(), quick.clone()])), Some("a".to_owned()));
        assert_eq!(without_code(&images(&[quick, whole, other])), None);
    }

    #[test]
    fn options_come_last_and_data_may_be_elsewhere() {
        let place = Place { port: 1, second_port: 2, data: Path::new("theirs"), connections: 1 };
        let options = ["--learning", "off"];
        let node = Node {
            program: Path::new("f"),
            application: None,
            data: Some(Path::new("ours")),
            path: "/",
            options: &options,
        };
        let words: Vec<_> = node.launch(place).arguments.into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(words.join(" "), "serve --listen 127.0.0.1:1 --admin 127.0.0.1:2 --data ours --learning off");
    }
}
