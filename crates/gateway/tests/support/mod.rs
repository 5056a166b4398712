//! A running gateway on a loopback port, functions to put behind it, and clients that say exactly what they want.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod functions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forerun_driver::Program;
use forerun_gateway::{Admission, BoundAddress, FunctionEntry, Gateway, GatewaySettings, RouteTable};
use forerun_telemetry::{EventReceiver, InvocationEvent, event_pipe};
use forerun_types::{FunctionSpec, RevisionNumber};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A gateway that serves, and everything a test wants of it.
pub struct Running {
    pub gateway: Gateway,
    pub bound: Vec<BoundAddress>,
    pub events: EventReceiver,
}

/// Settings for tests: any free port, limits that no test waits for.
pub fn settings() -> GatewaySettings {
    GatewaySettings { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..GatewaySettings::default() }
}

pub fn spec(name: &str, routes: &[&str]) -> FunctionSpec {
    let mut spec = FunctionSpec::named(name.parse().unwrap());
    spec.routes = routes.iter().map(|route| route.parse().unwrap()).collect();
    spec
}

pub fn entry(spec: FunctionSpec, program: Arc<dyn Program>) -> Arc<FunctionEntry> {
    let admission = Arc::new(Admission::new(&spec.limits));
    Arc::new(FunctionEntry::new(Arc::new(spec), RevisionNumber(1), program, admission))
}

/// One function at `/...`.
pub async fn start_one(program: Arc<dyn Program>) -> Running {
    start(settings(), vec![entry(spec("only", &["/..."]), program)]).await
}

pub async fn start(settings: GatewaySettings, entries: Vec<Arc<FunctionEntry>>) -> Running {
    let (sender, events) = event_pipe(10_000);
    let gateway = Gateway::new(settings, sender, None).unwrap();
    gateway.publish(RouteTable::build(entries).unwrap());
    let bound = gateway.bind().unwrap();
    let serving = gateway.clone();
    tokio::spawn(async move { serving.run().await });
    Running { gateway, bound, events }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.bound[0].address
    }

    /// A connection for raw bytes.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends `request` as it is and reads until the server closes.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is no failure of the test.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// `GET path` with additional header lines, on a connection of its own.
    pub async fn get(&self, path: &str, lines: &[&str]) -> String {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{lines}\r\n")).await
    }

    /// The next event, waiting for it.
    pub async fn event(&mut self) -> InvocationEvent {
        loop {
            match self.events.try_next() {
                Some(event) => return event,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

/// Waits until `condition` holds; a test that never gets there is ended by its own time limit.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the condition never held");
}

/// The value of a header in a raw answer.
pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    })
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
