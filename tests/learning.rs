//! The loop on a real node: what is called again and again in one order is ready before it is called, every answer
//! says so, and what was learnt is there again after a restart.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{App, Command, Ended, Node, eventually, hello, repository};

/// Steps of a session, always in this order.
const STEPS: [&str; 3] = ["look", "fill", "pay"];
/// Between two steps: longer than the loop needs to look, shorter than a test may last.
const THINK: Duration = Duration::from_millis(120);
/// Sessions until the order must have been learnt.
const SESSIONS_MAX: usize = 60;

/// A node whose learning may take a whole processor: without optimisation it is twenty times slower, and would see
/// what comes at this pace in summary only.
fn eager(command: Command) -> Node {
    command.argument("--learning-cores").argument("1").start()
}

fn deploy_steps(node: &Node) {
    for name in STEPS {
        // A VM that was put back after the last request would serve, and nothing would have to be made ready.
        let fresh = json!({ "policy": "fresh" });
        let specification = json!({ "name": name, "app": "shop", "routes": [format!("/{name}")], "reuse": fresh });
        assert_eq!(node.deploy(&specification, &hello()).status, 200);
    }
}

/// One session; the serve path of each step and its id.
fn session(node: &Node) -> Vec<(String, String)> {
    let step = |name: &&str| {
        std::thread::sleep(THINK);
        let response = node.get(&format!("/{name}"));
        assert_eq!((response.status, response.text().trim()), (200, "hello"), "{response:?}");
        let timing = response.header("server-timing");
        let path = timing.split('"').nth(1).unwrap().to_owned();
        (path, response.header("x-request-id").to_owned())
    };
    STEPS.iter().map(step).collect()
}

/// Goes through sessions until a whole one was served by VMs made ready.
fn sessions_until_ready(node: &Node) -> Vec<(String, String)> {
    for _ in 0..SESSIONS_MAX {
        let served = session(node);
        if served.iter().all(|(path, _)| path == "ready") {
            return served;
        }
    }
    panic!("no session was ready in {SESSIONS_MAX}: {:#}", node.admin_json("/v1/learning"));
}

fn command(node: &Node, arguments: &[&str]) -> Ended {
    let ended = Command::new(arguments).argument("--node").argument(format!("http://{}", node.admin)).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn a_call_that_is_known_to_come_finds_a_vm() {
    let (_folder, data) = data_folder();
    let node = eager(Command::serve(&data));
    deploy_steps(&node);
    let told = command(&node, &["expect", "pay", "--for", "60"]);
    assert!(told.stdout.contains("a VM will be held for it"), "{told:?}");
    let held = || node.admin_json("/v1/functions/pay/prediction")["held_ready"]["vms"].as_u64().filter(|vms| *vms > 0);
    // One request in 32 is the control group's and leaves the VM where it is; the next one gets it.
    let response = eventually("a request that gets the VM held", || {
        eventually("a VM held", held);
        let response = node.get("/pay");
        let timing = response.header("server-timing");
        assert!(timing.contains("\"ready\"") || timing.contains("\"generic-control\""), "{response:?}");
        timing.contains("\"ready\"").then_some(response)
    });
    let explained = command(&node, &["explain", response.header("x-request-id")]);
    assert!(explained.stdout.contains("someone told the node"), "{explained:?}");
    let refused = Command::new(&["expect", "pay", "--for", "0"])
        .argument("--node")
        .argument(format!("http://{}", node.admin))
        .run();
    assert!(refused.code != Some(0) && refused.stderr.contains("later"), "{refused:?}");
}

#[test]
fn what_comes_in_one_order_is_ready_before_it_comes() {
    let (_folder, data) = data_folder();
    let node = eager(Command::serve(&data));
    deploy_steps(&node);
    let first = session(&node);
    assert!(first.iter().all(|(path, _)| path.starts_with("generic-")), "{first:?}");
    let served = sessions_until_ready(&node);

    let explained = command(&node, &["explain", &served[1].1]);
    assert!(explained.stdout.contains("path      ready"), "{explained:?}");
    assert!(explained.stdout.contains("expected  yes") && explained.stdout.contains("after "), "{explained:?}");
    let predicted = command(&node, &["predict", "look"]);
    // The session ended with `pay`, so the next call of the application is the first of another one.
    assert!(predicted.stdout.contains("look"), "{predicted:?}");
    let learning = node.admin_json("/v1/learning");
    assert!(learning["functions"]["fill"]["served_ready_total"].as_u64() > Some(0), "{learning:#}");

    // Ended in order, it has kept what it knows; killed later, it still has it.
    node.stop();
    let node = eager(Command::serve(&data));
    let prediction = node.admin_json("/v1/functions/look/prediction");
    assert!(prediction["prediction"]["calls"].as_u64() > Some(0), "{prediction:#}");
    sessions_until_ready(&node);
}

#[test]
fn without_learning_nothing_is_made_ready() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).argument("--learning").argument("off").start();
    deploy_steps(&node);
    let disabled = || session(&node).iter().all(|(path, _)| path == "generic-disabled");
    eventually("the switch to be heard", || disabled().then_some(()));
    for _ in 0..5 {
        let served = session(&node);
        assert!(served.iter().all(|(path, _)| path == "generic-disabled"), "{served:?}");
        let explanation = node.admin_json(&format!("/v1/invocations/{}/explain", served[0].1));
        assert_eq!(explanation["learning_enabled"], Value::Bool(false));
    }
    let learning = node.admin_json("/v1/learning");
    assert_eq!((&learning["mode"], &learning["held"]["vms"]), (&json!("off"), &json!(0)), "{learning:#}");
    assert_eq!(learning["functions"]["fill"]["served_ready_total"], 0, "{learning:#}");
}

/// The baseline: what was called is held for the time, whether it is expected or not, and nothing else is.
#[test]
fn a_fixed_keep_alive_holds_what_was_called_and_nothing_else() {
    let (_folder, data) = data_folder();
    let node = eager(Command::serve(&data).argument("--keep-alive").argument("3"));
    deploy_steps(&node);
    assert_eq!(node.get("/fill").status, 200);
    let held = |name: &str| node.admin_json(&format!("/v1/functions/{name}/prediction"))["held_ready"]["vms"].clone();
    eventually("a VM of the function that was called to be held", || (held("fill") == json!(1)).then_some(()));
    assert_eq!((held("look"), held("pay")), (json!(0), json!(0)), "nobody called them");
    eventually("it to go when its time is over", || (held("fill") == json!(0)).then_some(()));
}

#[test]
fn the_switch_takes_effect_at_once_and_what_was_learnt_stays() {
    let (_folder, data) = data_folder();
    let node = eager(Command::serve(&data));
    deploy_steps(&node);
    sessions_until_ready(&node);
    let calls = || node.admin_json("/v1/functions/look/prediction")["prediction"]["calls"].as_u64().unwrap();

    // One function may stay behind.
    let switched = command(&node, &["learning", "observe", "--function", "fill"]);
    assert!(switched.stdout.contains("fill observe"), "{switched:?}");
    eventually("the VMs of `fill` to go", || {
        let held = node.admin_json("/v1/functions/fill/prediction")["held_ready"]["vms"].as_u64();
        (held == Some(0)).then_some(())
    });
    let served = session(&node);
    assert_eq!(served[1].0, "generic-disabled", "{served:?}");

    let switched = command(&node, &["learning", "off"]);
    assert!(switched.stdout.contains("learning is off"), "{switched:?}");
    eventually("all VMs to go", || (node.admin_json("/v1/learning")["held"]["vms"] == 0).then_some(()));
    let before = calls();
    let served = session(&node);
    assert!(served.iter().all(|(path, _)| path == "generic-disabled"), "{served:?}");
    assert_eq!(calls(), before);

    command(&node, &["learning", "full"]);
    command(&node, &["learning", "full", "--function", "fill"]);
    sessions_until_ready(&node);
    assert!(calls() > before);

    for wrong in [["learning", "on"].as_slice(), &["learning", "--function", "fill"]] {
        let ended = Command::new(wrong).argument("--node").argument(format!("http://{}", node.admin)).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
    let unknown = node.admin("PUT", "/v1/learning", br#"{"mode":"off","function":"nobody"}"#);
    assert_eq!((unknown.status, unknown.reason().as_str()), (404, "unknown_function"), "{unknown:?}");
}

/// A function called by another one comes within milliseconds; the first call of the chain announces it.
/// The shop, but for the last of the chain: a VM of it that was put back would serve, and none would have to be ready.
fn shop_with_a_fresh_receipt() -> App {
    let app = App::new("");
    let shop = repository("examples/shop");
    let manifest = std::fs::read_to_string(shop.join("forerun.toml")).unwrap();
    let manifest = manifest.replace("\"components/", &format!("\"{}/components/", shop.display()));
    let fresh = manifest.replace("[function.receipt]\n", "[function.receipt]\nreuse = \"fresh\"\n");
    assert_ne!(manifest, fresh);
    app.file("forerun.toml", fresh.as_bytes());
    app
}

#[test]
fn a_chain_of_calls_is_foreseen_from_its_first_call() {
    let app = shop_with_a_fresh_receipt();
    let shop = eager(Command::up(app.path()).argument("--no-watch"));
    let cart = shop.client().send("POST", "/cart/lamp", &[], b"");
    let cookie = cart.header("set-cookie").split(';').next().unwrap().to_owned();
    let buy = || {
        let order = shop.client().send("POST", "/checkout", &[("cookie", &cookie)], b"");
        assert_eq!(order.status, 201, "{order:?}");
    };
    let orders = 8;
    (0..orders).for_each(|_| buy());
    // All of them: in between there is an order of which some calls have not been learnt.
    let calls = eventually("the calls of all orders to be known", || {
        let calls = shop.admin_json("/v1/calls");
        let of_checkout = calls["calls"].as_array()?.iter().filter(|edge| edge["caller"] == "checkout");
        let known = of_checkout.filter(|edge| edge["calls"].as_u64() == Some(orders)).count();
        (known == 4).then_some(calls)
    });
    let sure = |edge: &Value| edge["probability"].as_f64() > Some(0.8) && edge["lag_us"].as_u64() < Some(1_000_000);
    assert!(
        calls["calls"].as_array().unwrap().iter().filter(|edge| edge["caller"] == "checkout").all(sure),
        "{calls:#}"
    );
    assert!(command(&shop, &["calls"]).stdout.contains("checkout"), "{calls:#}");

    // The last of the chain was announced by the first: seen in the explanation, whoever was quicker.
    eventually("a receipt that was expected because of the checkout", || {
        buy();
        let latest = shop.admin_json("/v1/invocations?count=5&function=receipt");
        let id = latest.as_array()?.first()?["id"].as_str()?.to_owned();
        let explanation = shop.admin_json(&format!("/v1/invocations/{id}/explain"));
        let cause = &explanation["expectation"]["cause"];
        (cause["by"] == "call" && cause["after_function"] == "checkout").then_some(())
    });
    eventually("a receipt that was served by a VM ready for it", || {
        buy();
        let latest = shop.admin_json("/v1/invocations?count=5&function=receipt");
        latest.as_array()?.iter().any(|one| one["serve_path"] == "ready").then_some(())
    });
}

/// Clients told apart by a cookie: what one of them does next depends on what it did, not on what the others do.
#[test]
fn sessions_are_told_apart_by_what_the_operator_says() {
    let (_folder, data) = data_folder();
    let node = eager(Command::serve(&data).argument("--session").argument("cookie:sid"));
    deploy_steps(&node);
    let step = |turn: usize, name: &str| {
        let cookie = format!("sid={turn}");
        assert_eq!(node.client().send("GET", &format!("/{name}"), &[("cookie", &cookie)], b"").status, 200);
    };
    // Three sessions at a time, each one step behind the other.
    for turn in 0..40 {
        step(turn + 2, "look");
        step(turn + 1, "fill");
        step(turn, "pay");
        std::thread::sleep(Duration::from_millis(30));
    }
    eventually("the prediction that a look is followed by a fill", || {
        let prediction = node.admin_json("/v1/functions/look/prediction");
        let next = &prediction["prediction"]["next"][0];
        (next["function"] == "fill" && next["probability"].as_f64() > Some(0.8)).then_some(())
    });
}

#[test]
fn what_was_learnt_and_is_damaged_is_set_aside() {
    let (_folder, data) = data_folder();
    std::fs::create_dir_all(&data).unwrap();
    for garbage in [b"".as_slice(), b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x02\0\0\0\0\0\0\0{}FRPREDCT"] {
        std::fs::write(data.join("learning.bin"), garbage).unwrap();
        let node = eager(Command::serve(&data));
        assert_eq!(node.admin_json("/v1/learning")["mode"], "full");
        node.stop();
        assert!(data.join("learning.unusable").exists());
        std::fs::remove_file(data.join("learning.unusable")).unwrap();
    }
}
