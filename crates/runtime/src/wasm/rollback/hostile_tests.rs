//! A guest that keeps handles in one request and tries them in the next: what it finds there.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use forerun_driver::{InvokeError, LoadRequest, Program};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{ComponentDigest, FunctionSpec, RevisionNumber, ServePath, VmDiscard};
use http::Request;
use http_body_util::BodyExt;

use super::super::cpu_time::CpuTime;
use super::super::driver::WasmDriver;
use super::super::program::{Deployed, WasmProgram};
use super::super::settings::WasmSettings;
use super::super::vm::Vm;
use super::handles::Kept;
use super::leak_tests::{invocation, places_of};
use super::nobody::host;

const EARLIER: &str = "hunter2-of-the-earlier-request";
const PRESENT: &str = "hunter2-of-the-present-request";

static DRIVER: LazyLock<WasmDriver> =
    LazyLock::new(|| WasmDriver::new(&WasmSettings { vms_max: 16, ..WasmSettings::default() }).unwrap());

fn program() -> Arc<WasmProgram> {
    let guest = wat::parse_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/handles.wat")).unwrap();
    let source = add_state_calls(&guest).unwrap().component;
    let spec = FunctionSpec::named("hostile".parse().unwrap());
    let digest = ComponentDigest::of(&source);
    let request =
        LoadRequest { spec: &spec, revision: RevisionNumber(1), digest, source: &source, host: host(), image: None };
    DRIVER.load_program(request).unwrap()
}

async fn new_vm(program: &WasmProgram) -> Box<Vm> {
    program.make(Instant::now() + Duration::from_secs(10)).await.expect("a VM")
}

/// A VM that has been put back after a request that kept handles of all kinds and was told `EARLIER`.
async fn vm_with_handles_kept(program: &Arc<WasmProgram>) -> Box<Vm> {
    assert_eq!(ask(program, new_vm(program).await, "/k", EARLIER).await.unwrap(), "");
    program.idle.take().expect("it has been put back")
}

/// Has one VM serve a request that has `secret` in its path, its headers and its body, once, and waits until the VM has
/// been put back or thrown away.
async fn ask(program: &Arc<WasmProgram>, vm: Box<Vm>, path: &str, secret: &str) -> Result<String, InvokeError> {
    let (invocation, ended) = invocation();
    let request = Request::post(format!("{path}?{secret}")).header("host", "example.test").header("x-secret", secret);
    let request = request.body(forerun_driver::full_body(secret.to_owned())).unwrap();
    let deployed = Deployed {
        vm,
        serve_path: ServePath::RolledBack,
        deploy: Duration::ZERO,
        cpu: CpuTime::of(invocation.id),
        sample: None,
    };
    let reply = Arc::clone(program).enter(deployed, invocation, request).await;
    let answer = match reply {
        Ok(reply) => {
            Ok(String::from_utf8_lossy(&reply.response.into_body().collect().await.unwrap().to_bytes()).into_owned())
        }
        Err(error) => Err(error),
    };
    ended.await.unwrap();
    answer
}

fn discards(program: &WasmProgram, why: VmDiscard) -> u64 {
    program.isolation().discarded.into_iter().find(|(reason, _)| *reason == why).map_or(0, |(_, count)| count)
}

/// Handles that the guest is given itself are told from others by the guest, which answers "mine".
#[tokio::test]
async fn a_handle_of_an_earlier_request_leads_to_nothing_whatever_it_is_used_for() {
    const NUMBERS: u32 = 12;
    let program = program();
    let mut stale = 0;
    for what in "fphcbiostqFPBIOQ".chars() {
        let (mut dead, mut mine, mut nothing_there) = (0, 0, 0);
        for number in 0..=NUMBERS {
            let vm = vm_with_handles_kept(&program).await;
            assert_eq!(places_of(&vm, EARLIER), 0);
            let path = format!("/{what}{number:02}");
            match ask(&program, vm, &path, PRESENT).await {
                Ok(answer) if answer == "mine" => mine += 1,
                // To subscribe to a dead stream and to give it back is allowed; it tells nothing.
                Ok(answer) => {
                    assert_eq!(answer, "", "{path}");
                    assert!("stIO".contains(what), "{path} was answered");
                    dead += 1;
                }
                Err(failure) => {
                    let cause = failure.detail.lines().next().unwrap();
                    assert!(!failure.detail.contains("hunter2"), "{path}: {cause}");
                    let is_dead = cause.contains("resource is of another type") || cause.contains("earlier request");
                    dead += u32::from(is_dead);
                    let is_none = cause.contains("unknown handle index") || cause.contains("used with the wrong type");
                    nothing_there += u32::from(is_none);
                    assert!(is_dead || is_none, "{path}: {cause}");
                }
            }
            program.idle.take();
        }
        println!("{what}: {dead} dead, {mine} mine, {nothing_there} nothing there");
        assert_eq!((dead + mine + nothing_there, mine), (NUMBERS + 1, 2), "{what}");
        assert!(dead >= 1, "the guest has kept one that can be used for {what}");
        stale += dead;
    }
    assert!(stale >= 16, "{stale}");
    assert!(program.isolation().refusal.is_none(), "{:?}", program.isolation());
}

/// Otherwise the test above would show nothing.
#[tokio::test]
async fn without_what_is_dead_it_would_lead_to_the_present_request() {
    let program = program();
    let mut found = Vec::new();
    for path in ["/p01", "/h01", "/c01"] {
        let mut vm = vm_with_handles_kept(&program).await;
        vm.renew_state(&program.template, Instant::now() + Duration::from_secs(10), &Kept::default()).unwrap();
        let answer = ask(&program, vm, path, PRESENT).await;
        found.push(answer.is_ok_and(|answer| answer.contains(PRESENT)));
        program.idle.take();
    }
    assert_eq!(found, [true; 3], "handle 1 was the earlier request's, in the first place of the host's table");
}

#[tokio::test]
async fn a_vm_whose_guest_keeps_everything_serves_until_it_has_kept_too_much() {
    let program = program();
    let mut vm = new_vm(&program).await;
    let mut served_by_one = 0;
    while discards(&program, VmDiscard::StaleHandles) == 0 {
        served_by_one += 1;
        assert_eq!(ask(&program, vm, "/k", EARLIER).await.unwrap(), "");
        vm = program.idle.take().expect("it has been put back, or a new one has taken its place");
    }
    assert_eq!(vm.requests, 0, "a new one");
    assert!((100..=1_000).contains(&served_by_one), "{served_by_one}");
    assert_eq!(discards(&program, VmDiscard::StaleHandles), 1, "{:?}", program.isolation());
    assert_eq!(program.isolation().rolled_back, served_by_one - 1);
    assert!(program.isolation().refusal.is_none());
}

#[tokio::test]
async fn what_cannot_be_let_go_costs_the_vm_by_name() {
    let program = program();
    assert_eq!(ask(&program, new_vm(&program).await, "/w", EARLIER).await.unwrap(), "");
    assert!(program.idle.take().is_none(), "a body is not finished");
    assert_eq!(discards(&program, VmDiscard::WorkPending), 1, "{:?}", program.isolation());
    let mut vm = new_vm(&program).await;
    for _ in 0..2 {
        assert_eq!(ask(&program, vm, "/m", EARLIER).await.unwrap(), "");
        vm = program.idle.take().expect("it has been put back");
    }
    assert_eq!(ask(&program, vm, "/m", EARLIER).await.unwrap(), "");
    let successor = program.idle.take().expect("a new one has taken its place");
    assert_eq!(successor.requests, 0, "twelve hundred are too many");
    assert_eq!(discards(&program, VmDiscard::StaleHandles), 1, "{:?}", program.isolation());
}
