//! The JavaScript example in VMs that are put back: its runtime keeps handles in each request, and is as good as new in the
//! next. Kept as it is, the same VM would not answer a second request.
//!
//! Its component is built by `examples/js/build.sh` and not kept in the repository. Without it this says so and checks
//! nothing, unless `FORERUN_REQUIRE_BUILT_EXAMPLES=1`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says why not"
)]

mod common;

use common::{Guest, get, load_image, prepared, repository, spec};
use forerun_driver::Body;
use forerun_runtime::{Tier, compile};
use forerun_types::{ReusePolicy, ServePath, VmDiscard};
use http::Request;

const COMPONENT: &str = "examples/js/dist/app.wasm";
const REQUESTS: usize = 400;

/// The example with two policies, compiled once; `None` if it was not built.
fn rolled_back_and_fresh() -> Option<(Guest, Guest)> {
    if !repository(COMPONENT).is_file() {
        let required = std::env::var_os("FORERUN_REQUIRE_BUILT_EXAMPLES").is_some_and(|value| value == "1");
        assert!(!required, "{COMPONENT} is missing; run examples/js/build.sh");
        println!("SKIPPED: {COMPONENT} is missing; run examples/js/build.sh");
        return None;
    }
    let source = std::fs::read(repository(COMPONENT)).unwrap();
    let code = compile(&prepared(COMPONENT), Tier::Quick, true).unwrap();
    let (rolled, mut fresh) = (spec(), spec());
    fresh.reuse = ReusePolicy::Fresh;
    Some((load_image(&source, &code, &rolled).unwrap(), load_image(&source, &code, &fresh).unwrap()))
}

/// Both kinds of request with other contents each time, now and then what they refuse, a stream, and a call of another
/// function.
fn request(number: usize) -> Request<Body> {
    let orders = |pieces: usize| {
        let body = format!(r#"[{{"product":"lamp-{number}","price":49.9,"pieces":{pieces},"day":"2026-01-31"}}]"#);
        let request = Request::post("/orders").header("host", "example.test");
        request.body(forerun_driver::full_body(body)).unwrap()
    };
    match number % 10 {
        0 | 2 | 6 => get(&format!("/search?q=lmap{number}&limit={}", 1 + number % 5)),
        1 | 3 | 7 => orders(number),
        4 => get(&format!("/events?count=3&pause_ms={}", number / 10 % 2)),
        5 => get("/relay/two"),
        8 => Request::post("/orders").header("host", "test").body(forerun_driver::full_body("{".to_owned())).unwrap(),
        _ => get(&format!("/no-such-path-{number}")),
    }
}

/// An answer without the moments that are in it: an event says when it was made.
fn timeless(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().map(|line| line.split(r#","at":"#).next().unwrap()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn javascript_answers_in_vms_that_were_put_back_as_in_fresh_ones() {
    let Some((rolled, fresh)) = rolled_back_and_fresh() else { return };
    let mut paths = Vec::new();
    for number in 0..REQUESTS {
        let (status, body, end) = rolled.call(request(number)).await;
        let (fresh_status, fresh_body, fresh_end) = fresh.call(request(number)).await;
        let (body, fresh_body) = (timeless(&body.unwrap()), timeless(&fresh_body.unwrap()));
        assert_eq!((status, body), (fresh_status, fresh_body), "request {number}: {end:?}");
        assert_eq!(end.outcome, fresh_end.outcome, "request {number}: {end:?}");
        paths.push(end.serve_path);
    }
    let report = rolled.program.isolation();
    println!("{report:?}");
    assert_eq!((report.policy, &report.refusal), ("rollback", &None), "{report:?}");
    // About eight handles a request are kept, so that a VM serves more than a hundred.
    let discarded: u64 = report.discarded.iter().map(|(_, count)| count).sum();
    assert!(report.discarded.iter().all(|(why, _)| *why == VmDiscard::StaleHandles), "{report:?}");
    assert!((2..=4).contains(&discarded), "{report:?}");
    assert_eq!(report.rolled_back + discarded, REQUESTS as u64, "each VM has one fate: {report:?}");
    // A VM that has kept as many as it may is followed by another before the next request.
    assert!(paths[1..].iter().all(|path| *path == ServePath::RolledBack), "{report:?}");
}
