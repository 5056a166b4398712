//! A guest whose memory does not grow, so that its VMs can be rolled back. It
//! keeps what it can from one request to the next: whatever of that is seen
//! again was not rolled back. It hides nothing and protects nothing.
//!
//! | path | what it does |
//! |---|---|
//! | `/count` | a counter in guest memory: `1` in every VM that is as good as fresh |
//! | `/remember?text=` | keeps a text in several places, and answers with what was there before |
//! | `/learn` | works something out once, as a language runtime loads its modules at the first request |
//! | `/learnt` | whether that was done before |
//! | `/churn?seed=` | writes here and there in a megabyte, and answers with a digest of all of it |
//! | `/print?text=` | writes to stdout and stderr |
//! | `/env` | the environment |
//! | `/random` | random bytes, and the seed that a hash map would start from |
//! | `/clock` | the monotonic clock |
//! | `/aged?ms=` | panics in a VM older than that: its monotonic clock starts when it is made or put back |
//! | `/slow?ms=` | waits on a clock, then answers |
//! | `/spin` | spins for ever |
//! | `/trap` | panics |
//! | `/grow` | uses so much memory that it has to grow |
//! | `/flood?bytes=` | writes all of that many bytes of memory it has |
//! | `/keep` | keeps a handle of the host |
//! | `/open` | returns without finishing its body |
//! | `/echo` | answers with the request's body |
//!
//! Anything else is 404.

mod arena;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wasi::clocks::monotonic_clock;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasi::io::streams::StreamError;

#[global_allocator]
static ALLOCATOR: arena::Allocator = arena::Allocator;

/// `blocking-write-and-flush` accepts at most this many bytes.
const CHUNK_BYTES: usize = 4096;
const FIELD_BYTES: usize = 1 << 20;
const LARGE_BYTES: usize = 12 << 20;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LEARNT: AtomicBool = AtomicBool::new(false);
static FIELD: Mutex<[u8; FIELD_BYTES]> = Mutex::new([0; FIELD_BYTES]);
static LARGE: Mutex<[u8; LARGE_BYTES]> = Mutex::new([0; LARGE_BYTES]);
static TEXTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Steady;

impl Guest for Steady {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = query.split_once('=').map_or("", |(_, value)| value);
        let number = value.parse().unwrap_or(0_u64);
        match path {
            "/count" => text(out, &(COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string()),
            "/remember" => text(out, &remember(value)),
            "/learn" => {
                LEARNT.store(true, Ordering::Relaxed);
                text(out, "learnt");
            }
            "/learnt" => text(out, if LEARNT.load(Ordering::Relaxed) { "yes" } else { "no" }),
            "/churn" => text(out, &churn(number).to_string()),
            "/print" => {
                println!("printed {value}");
                eprintln!("printed {value} too");
                text(out, "printed");
            }
            "/env" => text(out, &format!("{:?}", wasi::cli::environment::get_environment())),
            "/random" => {
                let bytes = wasi::random::random::get_random_bytes(16);
                text(out, &format!("{bytes:?} {}", RandomState::new().hash_one(7)));
            }
            "/clock" => text(out, &monotonic_clock::now().to_string()),
            "/aged" => {
                assert!(monotonic_clock::now() <= number * 1_000_000, "too old to serve");
                text(out, "young enough");
            }
            "/slow" => {
                monotonic_clock::subscribe_duration(number * 1_000_000).block();
                text(out, "waited");
            }
            "/spin" => loop {
                std::hint::black_box(COUNT.fetch_add(1, Ordering::Relaxed));
            },
            "/trap" => panic!("as asked for"),
            "/grow" => {
                TEXTS.lock().expect("one thread").push("grown ".repeat(1 << 20));
                text(out, "grown");
            }
            "/flood" => {
                let mut large = LARGE.lock().expect("one thread");
                let bytes = usize::try_from(number).unwrap_or(LARGE_BYTES).min(LARGE_BYTES);
                large[..bytes].fill(1);
                text(out, "flooded");
            }
            "/keep" => {
                std::mem::forget(Fields::new());
                text(out, "kept");
            }
            "/open" => open(out),
            "/echo" => {
                let body = read(&request);
                text(out, &String::from_utf8_lossy(&body));
            }
            _ => answer(out, 404, "no such path"),
        }
    }
}

wasi::http::proxy::export!(Steady);

/// Keeps a text on the heap, in an array and on the stack below; says what was kept before.
fn remember(value: &str) -> String {
    let mut texts = TEXTS.lock().expect("one thread");
    let before = texts.join(",");
    texts.push(value.to_owned());
    let mut field = FIELD.lock().expect("one thread");
    let bytes = value.as_bytes();
    field[500_000..][..bytes.len()].copy_from_slice(bytes);
    let deep = on_the_stack(value, 20);
    format!("before [{before}], {deep} bytes deep")
}

#[inline(never)]
fn on_the_stack(value: &str, depth: usize) -> usize {
    let mut copy = [0_u8; 256];
    let length = value.len().min(copy.len());
    copy[..length].copy_from_slice(&value.as_bytes()[..length]);
    let kept = std::hint::black_box(&copy)[..length].len();
    if depth == 0 { kept } else { kept + on_the_stack(value, depth - 1) }
}

/// Writes pseudo-randomly, and digests what is there then.
fn churn(seed: u64) -> u64 {
    let mut field = FIELD.lock().expect("one thread");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..seed % 300 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state % FIELD_BYTES as u64).expect("smaller than the field");
        field[at] = field[at].wrapping_add(state.to_le_bytes()[3]);
    }
    field.iter().fold(seed, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("the body is taken once");
    let mut bytes = Vec::new();
    {
        let stream = body.stream().expect("the stream is taken once");
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(piece) => bytes.extend(piece),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    drop(IncomingBody::finish(body));
    bytes
}

fn start(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status that exists");
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, text: &str) {
    let stream = body.write().expect("a new body has its stream");
    let mut pieces = text.as_bytes().chunks(CHUNK_BYTES);
    // A failed write means that the client has left.
    let _ = pieces.try_for_each(|piece| stream.blocking_write_and_flush(piece));
}

fn text(out: ResponseOutparam, said: &str) {
    answer(out, 200, said);
}

fn answer(out: ResponseOutparam, status: u16, said: &str) {
    let body = start(out, status);
    write(&body, said);
    let _ = OutgoingBody::finish(body, None);
}

/// Forgets its body: the handle stays with the guest, the body is never finished.
fn open(out: ResponseOutparam) {
    let body = start(out, 200);
    write(&body, "half of it");
    std::mem::forget(body);
}
