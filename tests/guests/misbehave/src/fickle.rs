//! Goes wrong in some VMs and not in others, as code does that a server has
//! prepared badly. Which ones: those that are older than `old_ms` (their
//! monotonic clock starts when they are made), or, without it, those that
//! find `go wrong` under the key `order`.
//!
//! `first` is what it does before: `print`, `complain` (to stderr), `write`
//! (a key value), `call` (another service), `read` (its body), `answer`
//! (the head of an answer), or nothing. `then` is how it goes wrong: `trap`,
//! `exit`, `never` (no answer), `error` (a status that says so), `slow`
//! (by `slow_ms`). In a good VM it answers `fine` and the request's body.

use crate::request::Request;
use crate::response::{self, text};
use crate::{host, outbound};
use wasi::clocks::monotonic_clock;
use wasi::http::types::{Fields, ResponseOutparam};

pub(crate) fn fickle(request: Request, out: ResponseOutparam) {
    if !goes_wrong(&request) {
        let body = request.into_body();
        return match response::read_all(&body) {
            Ok(body) => text(out, 200, &format!("fine {}\n", String::from_utf8_lossy(&body))),
            Err(()) => text(out, 400, "the body broke off\n"),
        };
    }
    let (then, slow_ms) = (request.text("then"), request.number("slow_ms", 10));
    match request.text("first").as_deref() {
        Some("print") => println!("about to go wrong"),
        Some("complain") => eprintln!("about to go wrong"),
        Some("write") => drop(host::count_up(&["default".to_owned()])),
        Some("call") => outbound::visit("http://other.internal/"),
        Some("read") => drop(response::read_all(&request.into_body())),
        Some("answer") => {
            std::mem::forget(response::start(out, 200, Fields::new()));
            std::process::abort();
        }
        _ => {}
    }
    match then.as_deref() {
        Some("exit") => std::process::exit(3),
        Some("never") => drop(out),
        Some("error") => text(out, 500, "wrong\n"),
        Some("slow") => {
            response::sleep(slow_ms);
            text(out, 200, "fine \n");
        }
        _ => std::process::abort(),
    }
}

fn goes_wrong(request: &Request) -> bool {
    match request.text("old_ms").and_then(|ms| ms.parse::<u64>().ok()) {
        Some(old_ms) => monotonic_clock::now() > old_ms.saturating_mul(1_000_000),
        None => host::order() == "go wrong",
    }
}
