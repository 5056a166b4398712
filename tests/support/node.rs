//! The real binary as a process: started on free ports with a home of its own, watched, and killed at the end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{self, Client, Response};
use super::{PATIENCE, eventually, eventually_within};

/// The token of every node here; long enough for the node to accept it.
pub const TOKEN: &str = "a-token-of-the-end-to-end-tests-0";

/// A command line of the binary.
pub struct Command {
    process: std::process::Command,
    home: TempDir,
}

/// What a process that ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A process, killed when it is dropped.
pub struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
    _home: TempDir,
}

/// A node that serves.
pub struct Node {
    pub process: Running,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
}

/// How long the last words of a process that has ended may take.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Default)]
struct Output {
    text: Arc<Mutex<String>>,
    whole: Arc<AtomicBool>,
}

impl Command {
    pub fn new(arguments: &[&str]) -> Self {
        Self::through(env!("CARGO_BIN_EXE_forerun"), arguments)
    }

    /// A program that runs the binary, such as a shell with other limits.
    pub fn through(program: &str, arguments: &[impl AsRef<OsStr>]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut process = std::process::Command::new(program);
        process.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Nothing of the user's settings, and nothing left in the user's folders.
        for name in ["DATA", "NODE", "TOKEN", "LOG"] {
            process.env_remove(format!("FORERUN_{name}"));
        }
        process.env_remove("XDG_DATA_HOME").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env("HOME", home.path());
        process.env("FORERUN_TOKEN", TOKEN).current_dir(home.path());
        Self { process, home }
    }

    /// `forerun up`, on free ports, with data that is gone at the end.
    pub fn up(folder: &Path) -> Self {
        Self::new(&["up"]).argument(folder).argument("--ephemeral").on_free_ports()
    }

    /// `forerun serve`, on free ports.
    pub fn serve(data: &Path) -> Self {
        Self::new(&["serve"]).on_free_ports().argument("--data").argument(data)
    }

    pub fn on_free_ports(self) -> Self {
        ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"].iter().fold(self, Self::argument)
    }

    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.process.arg(argument);
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.process.env(name, value);
        self
    }

    /// The node makes its own token, and commands look for it.
    pub fn without_token(mut self) -> Self {
        self.process.env_remove("FORERUN_TOKEN");
        self
    }

    /// Runs in this folder instead of one of its own.
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.process.current_dir(folder);
        self
    }

    pub fn begin(mut self) -> Running {
        let mut child = self.process.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr, _home: self.home }
    }

    /// Runs it to its end.
    pub fn run(self) -> Ended {
        self.begin().end()
    }

    /// Starts a node and waits until it serves.
    pub fn start(self) -> Node {
        self.start_within(PATIENCE)
    }

    pub fn start_within(self, patience: Duration) -> Node {
        let mut process = self.begin();
        process.wait_for_within("serving on ", patience);
        Node::of(process)
    }
}

impl Running {
    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_within(text, PATIENCE)
    }

    pub fn wait_for_within(&mut self, text: &str, patience: Duration) -> String {
        eventually_within(&format!("`{text}` on stderr"), patience, || {
            let said = self.stderr();
            if said.contains(text) {
                return Some(said);
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?} before it said `{text}`:\n{said}");
            None
        })
    }

    fn address_after(&mut self, words: &str) -> SocketAddr {
        let said = self.wait_for(words);
        let line = said.lines().find_map(|line| line.strip_prefix(words)).unwrap();
        let url = line.split_whitespace().next().unwrap();
        url.split_once("://").unwrap().1.parse().unwrap()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let status = self.status();
        // Readers end with the process, unless a child of it holds the pipe.
        let began = Instant::now();
        while !(self.stdout.is_whole() && self.stderr.is_whole()) && began.elapsed() < LAST_WORDS_PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn status(&mut self) -> ExitStatus {
        let said = self.stderr.clone();
        let child = &mut self.child;
        eventually("the end of the process", || {
            let ended = child.try_wait().unwrap();
            if ended.is_none() && said.text().len() > 1 << 20 {
                panic!("it says too much: {}", &said.text()[..1000]);
            }
            ended
        })
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "what the process said belongs to a failed test's output")]
            let () = eprintln!("--- stderr of the process\n{}---", self.stderr());
        }
    }
}

impl Node {
    /// The node that a process is, once it serves.
    pub fn of(mut process: Running) -> Self {
        let gateway = process.address_after("serving on ");
        let admin = process.address_after("admin API on ");
        Self { process, gateway, admin }
    }

    pub fn client(&self) -> Client<TcpStream> {
        client::connect(self.gateway)
    }

    /// `GET path` on a connection of its own, answered in full.
    pub fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    pub fn text(&self, path: &str) -> String {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.text()
    }

    /// A request to the admin API with the token.
    pub fn admin(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        client::connect(self.admin).send(method, path, &headers, body)
    }

    pub fn admin_json(&self, path: &str) -> Value {
        let response = self.admin("GET", path, b"");
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.json()
    }

    /// Uploads a component.
    pub fn upload(&self, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let response = self.admin("PUT", &format!("/v1/components/{digest}"), bytes);
        assert_eq!(response.status, 200, "{response:?}");
        digest
    }

    /// Deploys one function; `specification` is everything but the component.
    pub fn deploy(&self, specification: &Value, component: &Path) -> Response {
        let digest = self.upload(&std::fs::read(component).unwrap());
        self.deploy_stored(specification, &digest)
    }

    pub fn deploy_stored(&self, specification: &Value, digest: &str) -> Response {
        let body = serde_json::json!({ "functions": [{ "spec": specification, "component": digest }] });
        self.admin("POST", "/v1/deployments", body.to_string().as_bytes())
    }

    pub fn function(&self, name: &str) -> Value {
        self.admin_json(&format!("/v1/functions/{name}"))
    }

    /// Waits until so many invocations of a function are under way.
    pub fn wait_in_flight(&self, name: &str, count: u64) {
        eventually(&format!("{count} invocations of `{name}` under way"), || {
            (self.function(name)["in_flight"] == count).then_some(())
        });
    }

    /// The invocation of a request, once its record has arrived.
    pub fn invocation(&self, id: &str) -> Value {
        eventually("the record of the invocation", || {
            let response = self.admin("GET", &format!("/v1/invocations/{id}"), b"");
            (response.status == 200).then(|| response.json())
        })
    }

    /// SIGTERM, and the orderly end.
    pub fn stop(self) -> Ended {
        self.process.signal("TERM");
        self.process.end()
    }
}

pub fn digest_of(bytes: &[u8]) -> String {
    forerun_types::ComponentDigest::of(bytes).to_string()
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let kept = output.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                kept.text.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            kept.whole.store(true, Ordering::Release);
        });
        output
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
}

/// A data folder that outlives its nodes.
pub fn data_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    (folder, data)
}
