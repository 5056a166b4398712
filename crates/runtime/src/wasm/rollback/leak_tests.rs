//! The leak test-bed: a real component is told secrets in every way a request can carry them, and then its rolled-back VM
//! is searched for them, byte by byte: all memories, all globals, and what the host keeps for it.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use forerun_driver::{Body, Chain, EndHook, Invocation, InvocationEnd, LoadRequest, Program};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{ComponentDigest, FunctionSpec, InvocationId, ReusePolicy, RevisionNumber, TraceContext};
use http::Request;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::component::WasmList;

use super::super::driver::WasmDriver;
use super::super::program::WasmProgram;
use super::super::ready::Taken;
use super::super::settings::WasmSettings;
use super::super::vm::Vm;
use super::nobody::host;
use crate::sys::{swap_out, with_bytes};

static DRIVER: LazyLock<WasmDriver> =
    LazyLock::new(|| WasmDriver::new(&WasmSettings { vms_max: 16, ..WasmSettings::default() }).unwrap());

fn program(reuse: ReusePolicy) -> Arc<WasmProgram> {
    program_of(&DRIVER, reuse)
}

fn program_of(driver: &WasmDriver, reuse: ReusePolicy) -> Arc<WasmProgram> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/components/steady.wasm");
    let source = add_state_calls(&std::fs::read(path).unwrap()).unwrap().component;
    let mut spec = FunctionSpec::named("leaky".parse().unwrap());
    spec.reuse = reuse;
    let digest = ComponentDigest::of(&source);
    let request =
        LoadRequest { spec: &spec, revision: RevisionNumber(1), digest, source: &source, host: host(), image: None };
    driver.load_program(request).unwrap()
}

/// An invocation, and what tells that its VM has been put back or thrown away.
pub(super) fn invocation() -> (Invocation, oneshot::Receiver<InvocationEnd>) {
    let (sender, ended) = oneshot::channel();
    let invocation = Invocation {
        id: InvocationId::from_random(7),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<TraceContext>().unwrap(),
        chain: Chain::begins(InvocationId::from_random(7), None),
        https: false,
        deadline: Instant::now() + Duration::from_secs(20),
        end: EndHook::new(move |end| drop(sender.send(end))),
    };
    (invocation, ended)
}

/// One request, until its VM has been put back.
async fn call(program: &Arc<WasmProgram>, request: Request<Body>) -> String {
    let (invocation, ended) = invocation();
    let reply = Arc::clone(program).invoke(invocation, request).await.unwrap();
    let body = reply.response.into_body().collect().await.unwrap().to_bytes();
    ended.await.unwrap();
    String::from_utf8_lossy(&body).into_owned()
}

fn requests(secret: &str) -> Vec<Request<Body>> {
    let get = |path: String| {
        let request = Request::get(path).header("host", "example.test").header("authorization", secret);
        request.header("cookie", secret).body(forerun_driver::empty_body()).unwrap()
    };
    let posted = Request::post("/echo").header("host", "example.test").header("x-secret", secret);
    vec![
        get(format!("/remember?text={secret}")),
        get(format!("/print?text={secret}")),
        get(format!("/{secret}")),
        posted.body(forerun_driver::full_body(format!("before {secret} after").repeat(100))).unwrap(),
    ]
}

/// How often `secret` still is in the memories of a VM that was put back.
pub(super) fn places_of(vm: &Vm, secret: &str) -> usize {
    let point = vm.point.as_ref().expect("it has been put back");
    places_in(point.memories(&vm.store), secret)
}

fn places_in<'m>(memories: impl Iterator<Item = &'m [u8]>, secret: &str) -> usize {
    const PAGE: usize = 4096;
    let in_page = |memory: &[u8], start: usize| {
        // Most pages are empty.
        if memory[start..start + PAGE] == [0; PAGE] {
            return 0;
        }
        let end = (start + PAGE + secret.len() - 1).min(memory.len());
        memory[start..end].windows(secret.len()).filter(|window| *window == secret.as_bytes()).count()
    };
    let in_memory = |memory: &[u8]| (0..memory.len()).step_by(PAGE).map(|start| in_page(memory, start)).sum::<usize>();
    memories.map(in_memory).sum()
}

#[tokio::test]
async fn no_secret_is_found_in_a_vm_that_was_put_back() {
    let program = program(ReusePolicy::Rollback);
    for round in 0..5 {
        let secret = format!("hunter2-{}-{round}", 0x5ec2_e7b1_u64 + round);
        for request in requests(&secret) {
            let answer = call(&program, request).await;
            assert!(!answer.contains("before [hunter2"), "{answer}");
            let vm = program.idle.take().expect("it has been put back");
            assert_eq!(places_of(&vm, &secret), 0);
            program.idle.put(vm, Instant::now());
        }
    }
    assert_eq!(program.isolation().rolled_back, 20, "{:?}", program.isolation());
}

/// Whatever became of the pages meanwhile: a page that was swapped out is not present, and still as it was left.
#[tokio::test]
async fn no_secret_is_found_in_a_new_vm_in_the_place_of_one_that_ended() {
    let driver = WasmDriver::new(&WasmSettings { vms_max: 1, ..WasmSettings::default() }).unwrap();
    let program = program_of(&driver, ReusePolicy::Rollback);
    let mut before = None;
    for round in 0..6 {
        let mut vm = program.template.vm(&program.linked, Instant::now() + Duration::from_secs(10)).await.unwrap();
        let memories = memories(&program, &mut vm).await;
        let contents: Vec<_> = memories.iter().map(|memory| memory.as_le_slice(&vm.store).to_vec()).collect();
        assert_eq!(places_in(contents.iter().map(Vec::as_slice), "hunter2"), 0);
        assert!(*before.get_or_insert_with(|| contents.clone()) == contents, "round {round}: not a byte differs");
        for memory in &memories {
            with_bytes(&mut vm.store, memory, |data| {
                let pages = data.chunks_mut(4096).step_by(1 + round);
                pages.for_each(|page| page[..7].copy_from_slice(b"hunter2"));
            });
            if round % 2 == 0 {
                with_bytes(&mut vm.store, memory, swap_out);
            }
        }
    }
}

/// The same of one that is put back, with its pages swapped out before that.
#[tokio::test]
async fn no_secret_is_found_in_a_vm_that_was_put_back_from_swap() {
    let program = program(ReusePolicy::Rollback);
    call(&program, requests("hunter1").swap_remove(0)).await;
    for round in 0..6 {
        let mut vm = program.idle.take().expect("it has been put back");
        assert_eq!(places_of(&vm, "hunter2"), 0);
        let memories = memories(&program, &mut vm).await;
        for memory in &memories {
            with_bytes(&mut vm.store, memory, |data| {
                // Pages that the guest has no use for yet: it has to serve a request with this.
                let empty = data.chunks_mut(4096).filter(|page| page.iter().all(|byte| *byte == 0));
                empty.step_by(1 + round).take(300).for_each(|page| page[..7].copy_from_slice(b"hunter2"));
                swap_out(data);
            });
        }
        program.idle.put(vm, Instant::now());
        call(&program, requests("hunter1").swap_remove(0)).await;
    }
    assert_eq!(program.isolation().rolled_back, 7, "{:?}", program.isolation());
}

async fn memories(program: &WasmProgram, vm: &mut Vm) -> Vec<WasmList<u8>> {
    program.linked.state_exports().unwrap().memories(&mut vm.store, &vm.entered.unwrap()).await.unwrap()
}

/// Otherwise the tests above would show nothing.
#[tokio::test]
async fn the_search_sees_memory_and_the_guest_does_keep_secrets() {
    let rolled = program(ReusePolicy::Rollback);
    call(&rolled, requests("hunter2").swap_remove(0)).await;
    let vm = rolled.idle.take().unwrap();
    assert!(places_of(&vm, "no such path") > 0, "a text of the guest's own data");
    let reused = program(ReusePolicy::Reuse { requests_max: 10, idle_ms: 60_000 });
    call(&reused, requests("hunter2").swap_remove(0)).await;
    let answer = call(&reused, requests("other").swap_remove(0)).await;
    assert!(answer.contains("before [hunter2]"), "{answer}");
}

/// How many pages of a VM's memories are its own.
async fn own_pages(program: &WasmProgram, vm: &mut Vm) -> usize {
    let tracker = crate::sys::Tracker::new().unwrap();
    let mut pages = 0;
    for memory in memories(program, vm).await {
        let span = crate::sys::Span::of(memory.as_le_slice(&vm.store)).unwrap();
        let runs = tracker.own_pages(span, 65_536).unwrap();
        pages += runs.iter().map(|run| run.len() / crate::sys::PAGE_BYTES).sum::<usize>();
    }
    pages
}

#[tokio::test]
async fn a_vm_held_ready_has_the_pages_that_requests_write_and_the_state_of_a_new_one() {
    let program = program(ReusePolicy::Rollback);
    let churn = || Request::get("/churn?seed=299").header("host", "test").body(forerun_driver::empty_body()).unwrap();
    let answer = call(&program, churn()).await;
    let served = program.idle.take().expect("it has been put back");
    let written = served.point.as_ref().unwrap().written().iter().flatten().map(|run| run.len() / 4096).sum::<usize>();
    assert!(written > 50, "the guest writes here and there: {written}");

    let deadline = Instant::now() + Duration::from_secs(10);
    let mut plain = program.template.vm(&program.linked, deadline).await.unwrap();
    let plain_pages = own_pages(&program, &mut plain).await;
    Arc::clone(&program).hold_ready(1).await.unwrap();
    let Taken::Vm(mut held) = program.ready.take(InvocationId::from_random(7)) else { panic!("one was made") };
    let held_pages = own_pages(&program, &mut held).await;
    assert!(held_pages >= written && held_pages > plain_pages + 50, "{held_pages}, {plain_pages}, {written}");

    let mut contents = Vec::new();
    for vm in [&mut plain, &mut *held] {
        let memories = memories(&program, vm).await;
        contents.push(memories.iter().map(|memory| memory.as_le_slice(&vm.store).to_vec()).collect::<Vec<_>>());
    }
    assert!(contents[0] == contents[1], "not a byte differs");

    // And it serves as any other.
    Arc::clone(&program).hold_ready(1).await.unwrap();
    assert_eq!(call(&program, churn()).await, answer);
    assert_eq!(program.ready.held().vms, 0, "the one that was held has served");
}

#[tokio::test]
async fn a_function_whose_vms_are_not_put_back_has_them_made_ready_with_their_pages_too() {
    let program = program(ReusePolicy::Rollback);
    let get = |path: &str| Request::get(path).header("host", "test").body(forerun_driver::empty_body()).unwrap();
    for _ in 0..8 {
        call(&program, get("/open")).await;
    }
    assert!(program.isolation().refusal.is_some(), "{:?}", program.isolation());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut plain = program.template.vm(&program.linked, deadline).await.unwrap();
    let plain_pages = own_pages(&program, &mut plain).await;
    for _ in 0..2 {
        call(&program, get("/churn?seed=299")).await;
    }
    Arc::clone(&program).hold_ready(1).await.unwrap();
    let Taken::Vm(mut held) = program.ready.take(InvocationId::from_random(7)) else { panic!("one was made") };
    let held_pages = own_pages(&program, &mut held).await;
    assert!(held_pages > plain_pages + 50, "{held_pages}, {plain_pages}");
}
