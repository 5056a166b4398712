//! In-process programs: each behaves in one way that a guest may behave in.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forerun_driver::{
    Body, BodyError, BoxFuture, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply, full_body,
};
use forerun_types::{GenericReason, Outcome, ServePath};
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

pub type Handled = Result<Response<Body>, InvokeError>;

/// A program from a closure that gets the invocation, apart from its end hook, and the request.
pub struct Closure<F> {
    handle: F,
    facts: ProgramFacts,
}

/// What a closure sees of its invocation.
pub struct Call {
    pub invocation: Invocation,
    pub request: Request<Body>,
}

impl<F, Fut> Program for Closure<F>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Invocation, Handled)> + Send + 'static,
{
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        let handled = (self.handle)(Call { invocation, request });
        Box::pin(async move {
            let (invocation, handled) = handled.await;
            match handled {
                Ok(response) => Ok(reply(invocation, response)),
                Err(error) => {
                    invocation.end.finish(end(error.outcome, &error.detail));
                    Err(error)
                }
            }
        })
    }

    fn facts(&self) -> &ProgramFacts {
        &self.facts
    }
}

const PATH: ServePath = ServePath::Generic(GenericReason::NoImage);

pub fn end(outcome: Outcome, detail: &str) -> InvocationEnd {
    InvocationEnd {
        outcome,
        detail: detail.to_owned(),
        serve_path: PATH,
        deploy: Duration::ZERO,
        busy: Duration::from_micros(100),
        waited_for_calls: Duration::ZERO,
        cpu: Some(Duration::from_micros(80)),
        memory_bytes_peak: 1 << 20,
    }
}

/// A reply whose end is reported when its body is over, as a driver does; never, if it is dropped before.
fn reply(invocation: Invocation, response: Response<Body>) -> Reply {
    let mut end_hook = Some(invocation.end);
    let response = response.map(|mut inner| {
        let frames = futures::stream::poll_fn(move |context| {
            let next = http_body::Body::poll_frame(std::pin::Pin::new(&mut inner), context);
            if let (std::task::Poll::Ready(None), Some(hook)) = (&next, end_hook.take_if(|_| next_is_end(&next))) {
                hook.finish(end(Outcome::Ok, ""));
            }
            next
        });
        StreamBody::new(frames).boxed_unsync()
    });
    Reply { response, serve_path: PATH, deploy: Duration::ZERO }
}

fn next_is_end(next: &std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>>) -> bool {
    matches!(next, std::task::Poll::Ready(None))
}

pub fn program<F, Fut>(handle: F) -> Arc<dyn Program>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = (Invocation, Handled)> + Send + 'static,
{
    Arc::new(Closure { handle, facts: ProgramFacts { world: "test".to_owned(), compile_ms: 0, code_bytes: 0 } })
}

/// Says hello at once.
pub fn hello() -> Arc<dyn Program> {
    program(|call| async { (call.invocation, Ok(Response::new(full_body("hello")))) })
}

/// Answers with the method, path, headers and body it got.
pub fn echo() -> Arc<dyn Program> {
    program(|call| async {
        let (parts, body) = call.request.into_parts();
        let mut text = format!("{} {}\n", parts.method, parts.uri);
        for (name, value) in &parts.headers {
            text.push_str(&format!("{name}={}\n", value.to_str().unwrap()));
        }
        match body.collect().await {
            Ok(all) => text.push_str(&String::from_utf8_lossy(&all.to_bytes())),
            Err(error) => text.push_str(&format!("body failed: {error}")),
        }
        (call.invocation, Ok(Response::new(full_body(text))))
    })
}

/// Answers after `delay`.
pub fn slow(delay: Duration) -> Arc<dyn Program> {
    program(move |call| async move {
        tokio::time::sleep(delay).await;
        (call.invocation, Ok(Response::new(full_body("late"))))
    })
}

/// Fails with `outcome` before it answers.
pub fn failing(outcome: Outcome) -> Arc<dyn Program> {
    program(
        move |call| async move { (call.invocation, Err(InvokeError { outcome, detail: "secret inside".to_owned() })) },
    )
}

/// Streams pieces as fast as they are taken, for ever.
pub fn endless() -> Arc<dyn Program> {
    program(|call| async {
        let frames = futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 1024]))));
        (call.invocation, Ok(Response::new(StreamBody::new(frames).boxed_unsync())))
    })
}

/// Begins to answer and then says nothing more.
pub fn stalling() -> Arc<dyn Program> {
    program(|call| async {
        let first = futures::stream::once(async { Ok(Frame::data(Bytes::from_static(b"begin"))) });
        let frames = first.chain(futures::stream::pending());
        (call.invocation, Ok(Response::new(StreamBody::new(frames).boxed_unsync())))
    })
}

/// Answers with `response` and a body the test feeds piece by piece.
pub fn fed(head: impl Fn() -> http::response::Builder + Send + Sync + 'static) -> (Arc<dyn Program>, Feeder) {
    let (feeder, pieces) = mpsc::unbounded_channel::<Bytes>();
    let pieces = Arc::new(parking_lot::Mutex::new(Some(pieces)));
    let program = program(move |call| {
        let pieces = pieces.lock().take().expect("a fed function answers once");
        let frames = futures::stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((Ok::<_, BodyError>(Frame::data(piece)), pieces))
        });
        let response = head().body(StreamBody::new(frames).boxed_unsync()).unwrap();
        async { (call.invocation, Ok(response)) }
    });
    (program, feeder)
}

pub type Feeder = mpsc::UnboundedSender<Bytes>;

/// Waits at a gate the test holds, and counts who is inside and who was stopped there.
#[derive(Default)]
pub struct Door {
    pub entered: AtomicUsize,
    pub stopped: AtomicUsize,
    open: tokio::sync::Notify,
}

impl Door {
    pub fn program(self: &Arc<Self>) -> Arc<dyn Program> {
        let door = Arc::clone(self);
        program(move |call| {
            let door = Arc::clone(&door);
            async move {
                door.entered.fetch_add(1, Ordering::SeqCst);
                let mut inside = Inside(Some(Arc::clone(&door)));
                door.open.notified().await;
                inside.0 = None;
                (call.invocation, Ok(Response::new(full_body("passed"))))
            }
        })
    }

    pub fn let_one_pass(&self) {
        self.open.notify_one();
    }

    pub fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }

    pub fn stopped(&self) -> usize {
        self.stopped.load(Ordering::SeqCst)
    }
}

struct Inside(Option<Arc<Door>>);

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(door) = &self.0 {
            door.stopped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A whole body for requests made in a test.
pub fn never_fails(never: Infallible) -> BodyError {
    match never {}
}
