//! The shop as its visitors use it: a page, a catalog, a cart, a checkout of six functions and a streamed receipt.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Command, Node, Response, eventually, repository};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn shop() -> Node {
    Command::up(&repository("examples/shop")).argument("--no-watch").start()
}

/// Every answer of a function says how and when it was served.
fn check_told(response: &Response) {
    let timing = response.header("server-timing");
    for part in ["path;desc=\"", "route;dur=", "queue;dur=", "deploy;dur=", "handler;dur="] {
        assert!(timing.contains(part), "{part} in {timing}");
    }
    let id = response.header("x-request-id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn five_calls_answer_as_the_tour_says() {
    let shop = shop();
    let page = shop.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().contains("<b>Desk lamp</b>") && page.text().contains("Your cart is empty."), "{}", page.text());
    check_told(&page);

    let catalog = shop.get("/catalog");
    assert_eq!(catalog.json()["products"].as_array().unwrap().len(), 8);
    check_told(&catalog);

    let cart = shop.client().send("POST", "/cart/lamp?pieces=2", &[], b"");
    assert_eq!((cart.status, &cart.json()["total_cents"]), (200, &Value::from(9980)));
    check_told(&cart);
    let cookie = cart.header("set-cookie").split(';').next().unwrap();
    let with_cart = shop.client().send("GET", "/", &[("cookie", cookie)], b"");
    assert!(with_cart.text().contains("In your cart: 2 pieces"), "{}", with_cart.text());

    let order = shop.client().send("POST", "/checkout", &[("cookie", cookie)], b"");
    assert_eq!((order.status, &order.json()["total_cents"]), (201, &Value::from(9980)), "{order:?}");
    check_told(&order);

    let receipt = order.json()["receipt"]["path"].as_str().unwrap().to_owned();
    check_arrives_line_by_line(&shop, &receipt);
    internal_functions_are_not_reachable(&shop);
}

/// The printer pauses 200 ms between lines; whoever collects them first would give all of them at once.
fn check_arrives_line_by_line(shop: &Node, receipt: &str) {
    let mut client = shop.client();
    client.begin("GET", &format!("{receipt}?pause_ms=200"), &[], b"");
    let head = client.head().unwrap();
    assert_eq!(head.status, 200);
    let mut body = head.body();
    let first = client.piece(&mut body).unwrap().unwrap();
    let began = Instant::now();
    assert_eq!(first, b"THE SHOP\n");
    let mut rest = Vec::new();
    while let Some(piece) = client.piece(&mut body).unwrap() {
        rest.extend(piece);
    }
    assert!(began.elapsed() > Duration::from_millis(600), "all of it came at once");
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("Desk lamp") && rest.ends_with("Come again.\n"), "{rest}");
}

fn internal_functions_are_not_reachable(shop: &Node) {
    let reserve = br#"{"lines":[]}"#;
    for host in ["localhost", "stock.forerun.internal", "stock.spin.internal"] {
        let refused = shop.client().send("POST", "/stock/reserve", &[("host", host)], reserve);
        assert_eq!((refused.status, refused.reason().as_str()), (404, "no_route"), "{host}");
    }
    // It is there, for the operator.
    let invoked = shop.admin("POST", "/v1/functions/stock/invoke/stock/reserve", reserve);
    assert_eq!((invoked.status, &invoked.json()["complete"]), (200, &Value::from(true)));
}

#[test]
fn one_trace_goes_through_all_functions_of_a_checkout() {
    let shop = shop();
    let headers = [("cookie", "cart=lamp.2-rug.1"), ("traceparent", &*format!("00-{TRACE}-{PARENT}-01"))];
    let order = shop.client().send("POST", "/checkout", &headers, b"");
    assert_eq!(order.status, 201, "{order:?}");
    let all = eventually("six invocations of one trace", || {
        let all = shop.admin_json("/v1/invocations?count=50").as_array().unwrap().clone();
        let of_trace: Vec<_> = all.into_iter().filter(|one| one["trace_id"] == TRACE).collect();
        (of_trace.len() >= 6).then_some(of_trace)
    });
    assert_eq!(all.len(), 6, "{all:#?}");
    let one = |name: &str| all.iter().find(|one| one["function"] == name).unwrap_or_else(|| panic!("no {name}"));
    let callers = [
        ("cart", "checkout"),
        ("catalog", "cart"),
        ("stock", "checkout"),
        ("payment", "checkout"),
        ("receipt", "checkout"),
    ];
    for (callee, caller) in callers {
        assert_eq!(one(callee)["caller"], caller);
        assert_eq!(one(callee)["parent_span_id"], one(caller)["span_id"], "{callee}");
    }
    let checkout = one("checkout");
    assert_eq!((&checkout["caller"], &checkout["parent_span_id"]), (&Value::Null, &Value::from(PARENT)));
    let by_id = shop.invocation(order.header("x-request-id"));
    assert_eq!(&by_id, checkout);
    assert_eq!((&by_id["status"], &by_id["outcome"]), (&Value::from(201), &Value::from("ok")));
    assert!(by_id["phases"]["total_us"].as_u64() >= by_id["phases"]["first_byte_us"].as_u64(), "{by_id}");
    assert!(by_id["memory_bytes_peak"].as_u64() > Some(0), "{by_id}");
}

/// Whether a request is of the control group, its chain's first invocation decides, for all functions alike.
fn check_control_is_of_chains(shop: &Node, visit: &dyn Fn()) {
    let is_control = |one: &Value| one["serve_path"] == "generic-control-rolled-back";
    let chains = eventually("five called functions in the control group", || {
        (0..10).for_each(|_| visit());
        let all = shop.admin_json("/v1/invocations?count=1000").as_array().unwrap().clone();
        let mut chains: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for one in all {
            chains.entry(one["trace_id"].as_str().unwrap().to_owned()).or_default().push(one);
        }
        // The oldest may have lost its root by now.
        chains.retain(|_, chain| chain.iter().any(|one| one["caller"].is_null()));
        let called = chains.values().flatten().filter(|one| is_control(one) && !one["caller"].is_null()).count();
        (called >= 5).then_some(chains)
    });
    for chain in chains.values().filter(|chain| chain.iter().any(is_control)) {
        let root = chain.iter().find(|one| one["caller"].is_null()).unwrap();
        let id = u128::from_str_radix(root["id"].as_str().unwrap(), 16).unwrap();
        assert!(id.is_multiple_of(8), "{chain:#?}");
    }
    // What a caller waits for is not its own time.
    let checkout = chains.values().flatten().find(|one| one["function"] == "checkout").unwrap();
    let first_byte_us = checkout["phases"]["first_byte_us"].as_u64().unwrap();
    assert!((1..first_byte_us).contains(&checkout["calls_us"].as_u64().unwrap()), "{checkout:#}");
}

/// Their allocators have memory grow in the first request of each VM, until VMs are made with room for it.
#[test]
fn every_function_of_the_shop_is_rolled_back_in_the_end() {
    let shop = shop();
    let visit = || {
        let order = shop.client().send("POST", "/checkout", &[("cookie", "cart=lamp.2-rug.1")], b"");
        assert_eq!(order.status, 201, "{order:?}");
        let receipt = order.json()["receipt"]["path"].as_str().unwrap().to_owned();
        for path in ["/", "/catalog", &format!("{receipt}?pause_ms=0")] {
            assert_eq!(shop.get(path).status, 200, "{path}");
        }
        order.header("x-request-id").to_owned()
    };
    let functions = || shop.admin_json("/v1/functions").as_array().unwrap().clone();
    let served = eventually("all functions to be rolled back", || {
        (0..4).for_each(|_| drop(visit()));
        let functions = functions();
        let all = functions.iter().all(|function| function["vms"]["rolled_back"].as_u64() > Some(2));
        all.then_some(functions)
    });
    assert_eq!(served.len(), 7);
    for function in &served {
        let vms = &function["vms"];
        assert!(vms["policy"] == "rollback" && vms["room_bytes"].as_u64() > Some(0), "{function:#}");
        assert!(vms["refusal"].is_null() && vms["no_room"].is_null(), "{function:#}");
    }
    let metrics = shop.admin("GET", "/metrics", b"").text();
    for counter in
        ["rollbacks_total{function=\"catalog\"}", "discards_total{function=\"catalog\",reason=\"memory-grew\"}"]
    {
        let counter = format!("forerun_vm_{counter} ");
        assert!(metrics.lines().any(|line| line.starts_with(&counter)), "{counter} in {metrics}");
    }
    check_control_is_of_chains(&shop, &|| drop(visit()));
    // A VM that is still being put back is not there yet for the next request, so that not every order is the one.
    eventually("an order of rolled-back VMs only", || {
        let trace = shop.invocation(&visit())["trace_id"].clone();
        let all = shop.admin_json("/v1/invocations?count=50").as_array().unwrap().clone();
        let of_trace: Vec<_> = all.into_iter().filter(|one| one["trace_id"] == trace).collect();
        (of_trace.len() == 6 && of_trace.iter().all(|one| one["serve_path"] == "rolled-back")).then_some(())
    });
}
