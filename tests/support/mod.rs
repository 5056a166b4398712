//! What the end-to-end tests share: a node as a process (`node`), applications on disk (`app`), a client that
//! says exactly what it wants (`client`), and waiting that ends (`eventually`).
//!
//! Every wait is bounded. Nothing here knows what a particular test is about.

#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod app;
pub mod client;
pub mod node;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use app::App;
pub use client::{Client, Response};
pub use node::{Command, Ended, Node};

/// The longest that anything is waited for. A debug build beside a compiler on two cores needs a few seconds, and a good
/// deal more where other programs hold the cores: what is optimised or learnt stands back for them.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The component that does on request what a server must survive.
pub fn misbehave() -> PathBuf {
    repository("tests/guests/components/misbehave.wasm")
}

pub fn hello() -> PathBuf {
    repository("examples/hello/components/hello.wasm")
}

/// What `look` finds, as soon as it finds something.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(what, PATIENCE, look)
}

pub fn eventually_within<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {patience:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}
