//! A node in miniature for driver tests: real components, and a host that records what reaches it.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test may panic, and this module is included by several"
)]

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::{
    AuthenticImage, Body, BodyError, BoxFuture, Caller, Chain, Driver, EndHook, GuestLog, GuestStream, Host,
    Invocation, InvocationEnd, InvokeError, KeyValueError, KeyValues, LoadError, LoadRequest, Outbound, OutboundError,
    OutboundTimeouts, Program, Reply, StoreName, empty_body,
};
use forerun_runtime::{ColdCode, SplitProgram, WasmDriver, WasmSettings};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, InvocationId, RevisionNumber, TraceContext};
use http::{Request, Response};
use http_body_util::BodyExt;

static DRIVER: LazyLock<WasmDriver> = LazyLock::new(|| {
    // A small pool: many test processes share a machine.
    WasmDriver::new(&WasmSettings { vms_max: 64, ..WasmSettings::default() }).unwrap()
});

/// What the guests' host saw.
#[derive(Default)]
pub struct Recorded {
    pub log: Mutex<Vec<(InvocationId, GuestStream, String)>>,
    /// The processors that the thread might use which wrote each of them.
    pub processors: Mutex<Vec<Vec<usize>>>,
    pub calls: Mutex<Vec<(Caller, String)>>,
    pub values: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What the key `order` is at the first look at it, at the second, ...; nothing after that.
    pub orders: Mutex<VecDeque<&'static str>>,
}

impl GuestLog for Recorded {
    fn write(&self, _function: &FunctionName, invocation: InvocationId, stream: GuestStream, bytes: &[u8]) {
        self.processors.lock().unwrap().push(processors());
        self.log.lock().unwrap().push((invocation, stream, String::from_utf8_lossy(bytes).into_owned()));
    }
}

impl Outbound for Recorded {
    fn send(
        &self,
        caller: Caller,
        request: Request<Body>,
        _timeouts: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        let uri = request.uri().to_string();
        self.calls.lock().unwrap().push((caller, uri.clone()));
        Box::pin(async move {
            if uri.contains("denied") {
                return Err(OutboundError::Denied { destination: uri });
            }
            Ok(Response::new(forerun_driver::full_body(format!("answer of {uri}"))))
        })
    }
}

impl KeyValues for Recorded {
    fn get(&self, store: StoreName<'_>, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        if key == "order" {
            return Ok(self.orders.lock().unwrap().pop_front().map(|order| order.as_bytes().to_vec()));
        }
        Ok(self.values.lock().unwrap().get(&format!("{}/{key}", store.name)).cloned())
    }

    fn set_many(&self, store: StoreName<'_>, pairs: &[(String, Vec<u8>)]) -> Result<(), KeyValueError> {
        let named = |(key, value): &(String, Vec<u8>)| (format!("{}/{key}", store.name), value.clone());
        self.values.lock().unwrap().extend(pairs.iter().map(named));
        Ok(())
    }

    fn delete_many(&self, store: StoreName<'_>, keys: &[String]) -> Result<(), KeyValueError> {
        self.values.lock().unwrap().retain(|name, _| !keys.iter().any(|key| *name == format!("{}/{key}", store.name)));
        Ok(())
    }

    fn list_keys(&self, _store: StoreName<'_>, _after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        Ok(Vec::new())
    }

    fn increment(&self, _store: StoreName<'_>, _key: &str, _delta: u64) -> Result<u64, KeyValueError> {
        Err(KeyValueError::NotANumber)
    }
}

/// The processors that this thread may use.
pub fn processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// A loaded component and everything that it did to its host.
pub struct Guest {
    pub program: Arc<dyn Program>,
    pub recorded: Arc<Recorded>,
    pub timeout: Duration,
}

/// Path of a file in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// The function of the test guests, with everything at its default.
pub fn spec() -> FunctionSpec {
    FunctionSpec::named("guest".parse().unwrap())
}

/// Loads bytes as `spec`.
pub fn load(source: &[u8], spec: &FunctionSpec) -> Result<Guest, LoadError> {
    load_with(source, None, spec)
}

/// Loads bytes by another driver than that which the tests of a file share.
pub fn load_by(driver: &WasmDriver, source: &[u8], spec: &FunctionSpec) -> Result<Guest, LoadError> {
    load_as(source, None, spec, |request| driver.load(request))
}

/// Loads bytes with machine code made before.
pub fn load_image(source: &[u8], code: &[u8], spec: &FunctionSpec) -> Result<Guest, LoadError> {
    load_with(source, Some(image(code)), spec)
}

/// Loads a split component from its primary, compiled before or not.
pub fn load_split(
    primary: &[u8],
    image: Option<AuthenticImage>,
    split: SplitProgram,
    spec: &FunctionSpec,
) -> Result<Guest, LoadError> {
    load_as(primary, image, spec, |request| DRIVER.load_split(request, split))
}

/// Machine code as the image cache would hand it out.
pub fn image(code: &[u8]) -> AuthenticImage {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(code).unwrap();
    AuthenticImage::vouch_for(file, ())
}

/// Machine code of a cold group, as a part of an image: the last one of a larger file.
pub fn code_image(code: &[u8]) -> ColdCode {
    let before = b"the group before";
    let file = image(&[before, code].concat());
    let start = before.len() as u64;
    ColdCode::Image(Arc::new(file), start..start + code.len() as u64)
}

fn load_with(source: &[u8], image: Option<AuthenticImage>, spec: &FunctionSpec) -> Result<Guest, LoadError> {
    load_as(source, image, spec, |request| DRIVER.load(request))
}

fn load_as(
    source: &[u8],
    image: Option<AuthenticImage>,
    spec: &FunctionSpec,
    load: impl FnOnce(LoadRequest<'_>) -> Result<Arc<dyn Program>, LoadError>,
) -> Result<Guest, LoadError> {
    let recorded = Arc::new(Recorded::default());
    let host = Host {
        outbound: Arc::clone(&recorded) as _,
        log: Arc::clone(&recorded) as _,
        key_values: Arc::clone(&recorded) as _,
    };
    let digest = ComponentDigest::of(source);
    let program = load(LoadRequest { spec, revision: RevisionNumber(1), digest, source, host, image })?;
    Ok(Guest { program, recorded, timeout: Duration::from_secs(20) })
}

/// Loads the component of tests/guests that does as its path says.
pub fn misbehave(spec: &FunctionSpec) -> Guest {
    load(&std::fs::read(repository("tests/guests/components/misbehave.wasm")).unwrap(), spec).unwrap()
}

/// What the driver does when memory is short.
#[allow(dead_code, reason = "not every test needs it")]
pub fn give_back_memory() -> usize {
    DRIVER.give_back_memory()
}

/// A component as the specializer prepares it, so that its VMs can be rolled back.
#[allow(dead_code, reason = "not every test needs it")]
pub fn prepared(path: &str) -> Vec<u8> {
    let source = std::fs::read(repository(path)).unwrap();
    forerun_specialize::passes::state::add_state_calls(&source).unwrap().component
}

/// The component at `path`, linked and prepared, with flags at which it looks.
#[allow(dead_code, reason = "not every test needs it")]
pub fn with_flags(path: &str) -> Vec<u8> {
    use forerun_specialize::passes;
    let source = std::fs::read(repository(path)).unwrap();
    let (linked, _) = passes::apply(&source, &["prelink", "state"].map(|name| passes::known(name).unwrap()));
    // Linked first, or it has more modules than get one.
    passes::interrupt::add_checks(&linked.unwrap()).unwrap().component
}

/// A GET of `path`.
pub fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "example.test").body(empty_body()).unwrap()
}

impl Guest {
    /// Starts one invocation; the receiver gets its end.
    pub async fn begin(&self, request: Request<Body>) -> (Result<Reply, InvokeError>, mpsc::Receiver<InvocationEnd>) {
        let (sender, ended) = mpsc::channel();
        let invocation = Invocation {
            id: InvocationId::from_random(7),
            trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<TraceContext>().unwrap(),
            chain: Chain::begins(InvocationId::from_random(7), None),
            https: false,
            deadline: Instant::now() + self.timeout,
            end: EndHook::new(move |end| sender.send(end).unwrap()),
        };
        (Arc::clone(&self.program).invoke(invocation, request).await, ended)
    }

    /// One whole invocation.
    pub async fn call(&self, request: Request<Body>) -> (u16, Result<Bytes, BodyError>, InvocationEnd) {
        let (reply, ended) = self.begin(request).await;
        let (status, body) = match reply {
            Ok(reply) => {
                let status = reply.response.status().as_u16();
                (status, reply.response.into_body().collect().await.map(http_body_util::Collected::to_bytes))
            }
            Err(_) => (0, Ok(Bytes::new())),
        };
        (status, body, end_of(ended).await)
    }

    /// The body of a successful GET, as text.
    pub async fn text(&self, path: &str) -> String {
        let (status, body, end) = self.call(get(path)).await;
        assert_eq!(status, 200, "{path}: {end:?}");
        String::from_utf8(body.unwrap().to_vec()).unwrap()
    }

    /// Has the guest `misbehave` be busy for so long, and sees that another request is answered meanwhile. On one thread that can
    /// only be if the busy one lets it.
    pub async fn lets_others_run(&self, busy_ms: u32) {
        let began = Instant::now();
        let busy = format!("/burn?ms={busy_ms}");
        let (burnt, quick) = tokio::join!(self.text(&busy), async {
            let text = self.text("/count").await;
            (text, began.elapsed())
        });
        assert!(burnt.starts_with("burnt"));
        assert_eq!(quick.0.trim(), "1");
        assert!(quick.1 < began.elapsed(), "the quick one came first");
    }
}

/// The end of an invocation; it comes a little after the last byte.
pub async fn end_of(ended: mpsc::Receiver<InvocationEnd>) -> InvocationEnd {
    tokio::task::spawn_blocking(move || ended.recv_timeout(Duration::from_secs(20)).unwrap()).await.unwrap()
}
