//! What the host gives a guest: headers, logs, environment, configuration,
//! randomness, key-value stores, and memory of its own.

use crate::request::Request;
use crate::response::{self, json, quoted, text};
use std::sync::atomic::{AtomicU64, Ordering};
use wasi::http::types::ResponseOutparam;

#[allow(missing_docs)]
mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "imports", generate_all });
}

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store as keyvalue;

/// Requests seen by this VM.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn count(out: ResponseOutparam) {
    let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    text(out, 200, &format!("{count}\n"));
}

pub(crate) fn headers(request: &Request, out: ResponseOutparam) {
    let headers = request
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
    let pairs: Vec<_> = headers.map(|(name, value)| format!("[{},{}]", quoted(&name), quoted(&value))).collect();
    json(
        out,
        &format!(
            "{{\"method\":{},\"target\":{},\"authority\":{},\"headers\":[{}]}}\n",
            quoted(&format!("{:?}", request.method())),
            quoted(request.target()),
            quoted(&request.authority()),
            pairs.join(",")
        ),
    );
}

pub(crate) fn log(request: &Request, out: ResponseOutparam) {
    for line in 1..=request.number("lines", 1) {
        println!("stdout line {line}");
        eprintln!("stderr line {line}");
    }
    text(out, 200, "logged\n");
}

pub(crate) fn env(out: ResponseOutparam) {
    let environment = object(wasi::cli::environment::get_environment());
    let config = match config::get_all() {
        Ok(pairs) => object(pairs),
        Err(error) => quoted(&format!("{error:?}")),
    };
    json(out, &format!("{{\"environment\":{environment},\"config\":{config}}}\n"));
}

fn object(pairs: Vec<(String, String)>) -> String {
    let members: Vec<_> = pairs.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    format!("{{{}}}", members.join(","))
}

pub(crate) fn random(out: ResponseOutparam) {
    let bytes = wasi::random::random::get_random_bytes(16);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text(out, 200, &format!("{hex}\n"));
}

/// Without `?store=` it takes the store `default`, or else the unnamed one,
/// which is all that `wasmtime serve` knows.
pub(crate) fn key_value(request: &Request, out: ResponseOutparam) {
    let names = match request.text("store") {
        Some(name) => vec![name],
        None => vec!["default".to_owned(), String::new()],
    };
    match count_up(&names) {
        Ok((store, before)) => {
            json(out, &format!("{{\"store\":{},\"before\":{before},\"after\":{}}}\n", quoted(&store), before + 1))
        }
        Err(error) => response::text(out, 500, &format!("{error:?}\n")),
    }
}

/// What the key `order` of the store `default` says.
pub(crate) fn order() -> String {
    let order = keyvalue::open("default").and_then(|bucket| bucket.get("order"));
    order.ok().flatten().map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn count_up(names: &[String]) -> Result<(String, u64), keyvalue::Error> {
    let mut refusal = keyvalue::Error::NoSuchStore;
    for name in names {
        match keyvalue::open(name) {
            Ok(bucket) => {
                let before =
                    bucket.get("count")?.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0_u64);
                bucket.set("count", (before + 1).to_string().as_bytes())?;
                return Ok((name.clone(), before));
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
