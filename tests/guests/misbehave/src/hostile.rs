//! What a server must stop: everything here ends by the host's hand only,
//! except `burn`, which is the same work with an end.

use crate::request::Request;
use crate::response;
use std::hint::black_box;
use std::time::{Duration, Instant};
use wasi::http::types::{Fields, ResponseOutparam};

pub(crate) fn trap() {
    panic!("asked to trap");
}

pub(crate) fn trap_after_headers(out: ResponseOutparam) {
    let body = response::start(out, 200, Fields::new());
    let stream = body.write().expect("a new body has its stream");
    let _ = response::write(&stream, b"so far so good\n");
    panic!("asked to trap after the headers");
}

pub(crate) fn spin_for_ever() {
    loop {
        black_box(0);
    }
}

pub(crate) fn burn(request: &Request, out: ResponseOutparam) {
    let ms = request.number("ms", 10);
    let start = Instant::now();
    let mut rounds: u64 = 0;
    while start.elapsed() < Duration::from_millis(ms) {
        for _ in 0..1000 {
            rounds = black_box(rounds + 1);
        }
    }
    response::text(out, 200, &format!("burnt {ms} ms in {rounds} rounds\n"));
}

pub(crate) fn recurse(out: ResponseOutparam) {
    let depth = deeper(0);
    response::text(out, 200, &format!("came back from {depth}\n"));
}

/// Every frame is kept alive, so the compiler can't make a loop of it.
#[expect(unconditional_recursion, reason = "the stack overflow is the point")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(depth + 1) + frame[63]
}

pub(crate) fn eat() {
    loop {
        // Written, so that the pages are really there, and never freed.
        std::mem::forget(black_box(vec![0xa5_u8; 1 << 20]));
    }
}

pub(crate) fn exit() {
    std::process::exit(3);
}

pub(crate) fn endless(out: ResponseOutparam) {
    let body = response::start(out, 200, Fields::new());
    let stream = body.write().expect("a new body has its stream");
    while response::write(&stream, &[b'.'; 1024]).is_ok() {}
}
