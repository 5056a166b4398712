//! Waiting for one's turn: behind everything that waits for this thread already.

use std::future::poll_fn;
use std::task::Poll;

/// Lets what waits for this thread run once each. As wasmtime does at the end of an epoch, and other than tokio's `yield_now`,
/// which waits until nothing else is ready: on a busy node, requests that come later are served before it.
pub fn to_the_end_of_the_queue() -> impl Future<Output = ()> + Send {
    let mut has_let_go = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut has_let_go, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn who_lets_go_comes_behind_those_that_wait_and_before_those_that_come_later() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let order = Arc::clone(&order);
            async move { order.lock().unwrap().push(name) }
        };
        let (waits, comes_later) = (note("waits"), note("comes later"));
        let lets_go = note("lets go");
        let letting_go = tokio::spawn(async move {
            to_the_end_of_the_queue().await;
            lets_go.await;
        });
        let waiting = tokio::spawn(async move {
            let later = tokio::spawn(comes_later);
            waits.await;
            later.await
        });
        letting_go.await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(*order.lock().unwrap(), ["waits", "lets go", "comes later"]);
    }
}
