//! A guest that is as good as the age of its VM: the monotonic clock of a VM
//! starts when it is made or put back, so that VMs that were prepared some time
//! before a request are old, and those made for it are not.
//!
//! `/?turns=&old_ms=&then=` works for so many turns and answers `done`. In a VM
//! older than `old_ms` it goes wrong like one that was prepared badly: `slow`
//! (works for `slow_turns` instead), `error` (a status that says so), `trap`,
//! or not at all.

use wasi::clocks::monotonic_clock;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Aged;

impl Guest for Aged {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
        };
        let number = |name: &str| parameter(name).parse().unwrap_or(0_u64);
        let turns = number("turns");
        let is_old = monotonic_clock::now() > number("old_ms") * 1_000_000;
        match parameter("then") {
            "slow" if is_old => toil(number("slow_turns")),
            "error" if is_old => return answer(out, 500, "too old"),
            "trap" if is_old => panic!("too old"),
            _ => toil(turns),
        }
        answer(out, 200, "done");
    }
}

wasi::http::proxy::export!(Aged);

/// Takes time in proportion. Without memory: how long that takes depends on where it is.
fn toil(turns: u64) {
    let mut state = turns;
    for _ in 0..turns {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(9);
    }
    std::hint::black_box(state);
}

fn answer(out: ResponseOutparam, status: u16, said: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status that exists");
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(out, Ok(response));
    // A failed write means that the client has left.
    let stream = body.write().expect("a new body has its stream");
    let _ = stream.blocking_write_and_flush(said.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
