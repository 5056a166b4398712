//! What the host provides beside HTTP: a log, settings, a key-value store, and
//! time. All of it is optional for a function: where the host has none, there
//! is a default.

#[allow(missing_docs)]
mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "imports", generate_all });
}

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store as keyvalue;
use wasi::clocks::monotonic_clock;

/// One line on stdout, unless the variable `LOG` is `off`.
pub fn log(line: &str) {
    if std::env::var("LOG").is_ok_and(|level| level == "off") {
        return;
    }
    println!("{line}");
}

/// A setting from `wasi:config`, or the default.
pub fn setting(name: &str, default: &str) -> String {
    config::get(name).ok().flatten().unwrap_or_else(|| default.to_owned())
}

/// Adds one to a counter in the store `default` (or the unnamed one), and gives
/// the count. A host may forget it with the VM: then it is always 1.
pub fn count_up(key: &str) -> Result<u64, String> {
    let bucket = keyvalue::open("default").or_else(|_| keyvalue::open("")).map_err(reason)?;
    let stored = bucket.get(key).map_err(reason)?;
    let before: u64 = stored.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0);
    bucket.set(key, (before + 1).to_string().as_bytes()).map_err(reason)?;
    Ok(before + 1)
}

fn reason(error: keyvalue::Error) -> String {
    match error {
        keyvalue::Error::NoSuchStore => "there is no store".to_owned(),
        keyvalue::Error::AccessDenied => "the store is not for this function".to_owned(),
        keyvalue::Error::Other(reason) => reason,
    }
}

/// Waits without using the processor.
pub fn pause(ms: u32) {
    monotonic_clock::subscribe_duration(u64::from(ms) * 1_000_000).block();
}
