//! A guest that reaches for what it must not have, one path each, and tells
//! what it got. It is a test instrument: it hides nothing and protects nothing.
//! Calls to other hosts are those of `misbehave`.
//!
//! | path | what it tries |
//! |---|---|
//! | `/folders` | counts the folders that it was given (`wasi:filesystem/preopens`) |
//! | `/read?path=` | reads a file |
//! | `/list?path=` | lists a folder |
//! | `/write?path=` | writes a file |
//! | `/tcp?to=` | opens a TCP connection |
//! | `/udp?to=` | sends a datagram |
//! | `/listen?at=` | listens on a TCP address |
//! | `/resolve?name=` | looks up a name |
//! | `/variables` | tells its environment and its arguments |
//! | `/folder` | tells its working folder |
//! | `/stdin` | reads its standard input |
//!
//! What worked is answered with 200 and what came of it, what did not with 403
//! and the error. Anything else is 404.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// `blocking-write-and-flush` accepts at most this many bytes.
const CHUNK_BYTES: usize = 4096;

struct Escape;

impl Guest for Escape {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let what = query.split_once('=').map_or("", |(_, value)| value);
        match attempt(path, what) {
            None => answer(out, 404, "no such path\n"),
            Some(Ok(got)) => answer(out, 200, &format!("{got}\n")),
            Some(Err(error)) => answer(out, 403, &format!("{:?}: {error}\n", error.kind())),
        }
    }
}

/// What came of reaching for `what`; nothing if the path is none of ours.
fn attempt(path: &str, what: &str) -> Option<io::Result<String>> {
    Some(match path {
        "/folders" => Ok(wasi::filesystem::preopens::get_directories().len().to_string()),
        "/read" => fs::read(what).map(|bytes| format!("{} bytes", bytes.len())),
        "/list" => fs::read_dir(what).map(|entries| format!("{} entries", entries.count())),
        "/write" => fs::write(what, "escaped").map(|()| "written".to_owned()),
        "/tcp" => TcpStream::connect(what).and_then(send),
        "/udp" => datagram(what),
        "/listen" => TcpListener::bind(what).map(|listener| format!("{listener:?}")),
        "/resolve" => (what, 80).to_socket_addrs().map(|found| format!("{:?}", found.collect::<Vec<_>>())),
        "/variables" => Ok(format!("{:?} {:?}", std::env::vars().collect::<Vec<_>>(), std::env::args().collect::<Vec<_>>())),
        "/folder" => std::env::current_dir().map(|folder| folder.display().to_string()),
        "/stdin" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        _ => return None,
    })
}

fn send(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn datagram(to: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"escaped", to).map(|bytes| format!("{bytes} bytes sent"))
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status of ours is one");
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a new body has its stream");
    for piece in text.as_bytes().chunks(CHUNK_BYTES) {
        if stream.blocking_write_and_flush(piece).is_err() {
            break;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

wasi::http::proxy::export!(Escape);
