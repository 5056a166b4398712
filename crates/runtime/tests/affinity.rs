//! Functions that name the processors that their guests run on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{get, load, prepared, processors, spec};
use forerun_driver::LoadError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_run_on_the_processors_of_their_function_and_nobody_else_has_to() {
    let (component, mine) = (prepared("tests/guests/components/steady.wasm"), processors());
    let last = *mine.last().unwrap();
    let mut bound = spec();
    // One that is not there is left out.
    bound.limits.cpus = vec![u16::try_from(last).unwrap(), 1_000];
    let (bound, any) = (load(&component, &bound).unwrap(), load(&component, &spec()).unwrap());
    // The second and later ones are served by a VM that was put back.
    for _ in 0..5 {
        for guest in [&bound, &any] {
            let (status, _, _) = guest.call(get("/print?text=here")).await;
            assert_eq!(status, 200);
        }
    }
    let seen = |guest: &common::Guest| guest.recorded.processors.lock().unwrap().clone();
    assert!(seen(&bound).len() >= 5 && seen(&bound).iter().all(|on| *on == [last]), "{:?}", seen(&bound));
    assert!(seen(&any).len() >= 5 && seen(&any).iter().all(|on| *on == mine), "{:?}", seen(&any));
}

#[tokio::test]
async fn processors_that_are_not_there_are_named() {
    let mut nowhere = spec();
    nowhere.limits.cpus = vec![1_000, 1_001];
    let refused = load(&prepared("tests/guests/components/steady.wasm"), &nowhere).err().unwrap();
    assert_eq!(refused, LoadError::NoProcessor { cpus: vec![1_000, 1_001] });
}
