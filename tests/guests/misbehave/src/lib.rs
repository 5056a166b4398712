//! A guest that does on request, one path each, what a server of other
//! people's code must survive or must get right. It is a test instrument: it
//! hides nothing and protects nothing.
//!
//! | path | what it does |
//! |---|---|
//! | `/trap` | panics before a response is set |
//! | `/trap-after-headers` | sends headers and a first chunk, then panics |
//! | `/loop` | spins for ever |
//! | `/burn?ms=` | spins for that long, then answers |
//! | `/recurse` | overflows the stack |
//! | `/eat` | allocates until it is stopped |
//! | `/exit` | leaves through `wasi:cli/exit` |
//! | `/never` | returns without a response |
//! | `/endless` | a body that never ends |
//! | `/big?bytes=` | a body of that size |
//! | `/stall?ms=` | half a body, a pause, the other half |
//! | `/slow?ms=` | waits on a clock, then answers |
//! | `/echo` | streams the request body back as it arrives |
//! | `/status?code=` | an empty answer with that status |
//! | `/many-headers?count=&bytes=` | that many response headers of that size |
//! | `/headers` | method, path, authority and headers as JSON |
//! | `/count` | a counter in guest memory: `1` in every fresh VM |
//! | `/log?lines=` | writes lines to stdout and stderr |
//! | `/env` | environment and configuration as JSON |
//! | `/random` | 16 random bytes in hexadecimal |
//! | `/kv?store=` | counts up in a key-value store |
//! | `/fickle?old_ms=&first=&then=` | in a VM older than that, or when the key `order` says so, goes wrong; see `fickle` |
//! | `/outbound?url=` | calls that URL, with this request's body, and reports |
//!
//! Anything else is 404.

mod fickle;
mod host;
mod hostile;
mod outbound;
mod request;
mod response;

use request::Request;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{IncomingRequest, ResponseOutparam};

struct Misbehave;

impl Guest for Misbehave {
    fn handle(incoming: IncomingRequest, out: ResponseOutparam) {
        let request = Request::new(incoming);
        match request.path() {
            "/trap" => hostile::trap(),
            "/trap-after-headers" => hostile::trap_after_headers(out),
            "/loop" => hostile::spin_for_ever(),
            "/burn" => hostile::burn(&request, out),
            "/recurse" => hostile::recurse(out),
            "/eat" => hostile::eat(),
            "/exit" => hostile::exit(),
            // The handle is dropped unset: the host has to notice.
            "/never" => drop(out),
            "/endless" => hostile::endless(out),
            "/big" => response::big(&request, out),
            "/stall" => response::stall(&request, out),
            "/slow" => response::slow(&request, out),
            "/echo" => response::echo(request, out),
            "/status" => response::status(&request, out),
            "/many-headers" => response::many_headers(&request, out),
            "/headers" => host::headers(&request, out),
            "/count" => host::count(out),
            "/log" => host::log(&request, out),
            "/env" => host::env(out),
            "/random" => host::random(out),
            "/kv" => host::key_value(&request, out),
            "/fickle" => fickle::fickle(request, out),
            "/outbound" => outbound::call(request, out),
            _ => response::text(out, 404, "no such path\n"),
        }
    }
}

wasi::http::proxy::export!(Misbehave);
