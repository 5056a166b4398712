//! The one thread that takes events out of the pipe and gives them to everything that learns or reports.
//!
//! It looks into the pipe at intervals that grow while nothing comes, so that senders never have to wake it.
//! Sinks that may wait for a disk or a network belong behind a [`Detached`](crate::Detached).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crate::event::InvocationEvent;
use crate::pipe::EventReceiver;

/// Events given to a sink at once: enough to spread its fixed costs, little enough to stay in the caches.
const BATCH_EVENTS_MAX: usize = 512;
/// First pause after the pipe was empty. On a machine with few processors each look takes one from a request that is being
/// served and moves it to another, which costs that more than the look does.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The first pause while many events come: what waits in the pipe is lost by `kill -9`.
const PAUSE_BUSY: Duration = Duration::from_millis(2);
/// So many events at one look are many: 8,000 a second.
const MANY_EVENTS: usize = 16;
/// Longest pause: 20 looks a second cost an idle node next to nothing, and the pipe holds more than comes in between.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Something that wants every event.
pub trait EventSink: Send {
    /// Takes the next events in order. Should return soon: all other sinks wait for it.
    fn take(&mut self, events: &[InvocationEvent]);

    /// Called when nothing more has come for a while, and at the end: puts what is held back where it belongs.
    fn flush(&mut self);
}

/// The thread. Stopped when dropped, after everything that is in the pipe has been given to the sinks.
pub struct EventWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventWriter {
    /// Starts the thread, which calls `begin` first.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub fn start(receiver: EventReceiver, sinks: Vec<Box<dyn EventSink>>, begin: fn()) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            begin();
            run(receiver, sinks, &stopped);
        };
        let thread = thread::Builder::new().name("forerun-events".into()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Lets the thread empty the pipe, flush all sinks and end; waits for it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            join(thread, "events");
        }
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for a thread of this crate; one that panicked is reported, because whoever asks is about to leave.
pub(crate) fn join(handle: JoinHandle<()>, what: &'static str) {
    if handle.join().is_err() {
        tracing::error!(what, "telemetry thread panicked");
    }
}

/// Pauses that double from `PAUSE_MIN` to `PAUSE_MAX` until there is work.
#[derive(Default)]
pub(crate) struct Pause {
    last: Duration,
    hurries: bool,
}

impl Pause {
    /// There was work: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.last = Duration::ZERO;
    }

    /// There was much work: the next pause is shorter still.
    pub(crate) fn hurry(&mut self) {
        self.hurries = true;
    }

    /// Waits; shorter if the thread is unparked.
    pub(crate) fn wait(&mut self) {
        let doubled = (self.last * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.last = if std::mem::take(&mut self.hurries) { PAUSE_BUSY } else { doubled };
        thread::park_timeout(self.last);
    }

    /// Whether pauses have become long: a time to tidy up.
    pub(crate) fn is_long(&self) -> bool {
        self.last == PAUSE_MAX
    }
}

/// A flag and the thread that looks at it.
pub(crate) struct StopFlag {
    flag: Arc<AtomicBool>,
    thread: Thread,
}

impl StopFlag {
    pub(crate) fn new(flag: Arc<AtomicBool>, thread: Thread) -> Self {
        Self { flag, thread }
    }

    pub(crate) fn raise(&self) {
        self.flag.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn run(mut receiver: EventReceiver, mut sinks: Vec<Box<dyn EventSink>>, stop: &AtomicBool) {
    let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
    let mut pause = Pause::default();
    let mut flushed = true;
    loop {
        // Read before the pipe is: what was recorded before the request to stop is still taken.
        let stopping = stop.load(Ordering::Acquire);
        batch.clear();
        if receiver.drain(&mut batch, BATCH_EVENTS_MAX) > 0 {
            sinks.iter_mut().for_each(|sink| sink.take(&batch));
            flushed = false;
            pause.reset();
            if batch.len() >= MANY_EVENTS {
                pause.hurry();
            }
            // More than a batch may be waiting; a batch that was not full means a pause costs nothing.
            if batch.len() == BATCH_EVENTS_MAX {
                continue;
            }
        } else if stopping {
            break;
        }
        if pause.is_long() && !flushed {
            sinks.iter_mut().for_each(|sink| sink.flush());
            flushed = true;
        }
        if !stopping {
            pause.wait();
        }
    }
    sinks.iter_mut().for_each(|sink| sink.flush());
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::event::tests::event;
    use crate::pipe::event_pipe;

    #[derive(Default, Clone)]
    struct Collecting(Arc<Mutex<(Vec<u128>, u32)>>);

    impl EventSink for Collecting {
        fn take(&mut self, events: &[InvocationEvent]) {
            self.0.lock().0.extend(events.iter().map(|event| event.id.as_u128()));
        }

        fn flush(&mut self) {
            self.0.lock().1 += 1;
        }
    }

    #[test]
    fn every_sink_gets_every_event_in_order() {
        let (sender, receiver) = event_pipe(10_000);
        let (first, second) = (Collecting::default(), Collecting::default());
        let writer =
            EventWriter::start(receiver, vec![Box::new(first.clone()), Box::new(second.clone())], || {}).unwrap();
        (0..5_000).for_each(|number| sender.record(event(number)));
        writer.stop();
        let expected: Vec<_> = (0..5_000).collect();
        for sink in [first, second] {
            let (ids, flushes) = &*sink.0.lock();
            assert_eq!((ids, sender.dropped_total()), (&expected, 0));
            assert!(*flushes > 0);
        }
    }

    #[test]
    fn flushes_when_nothing_more_comes() {
        let (sender, receiver) = event_pipe(10);
        let sink = Collecting::default();
        let _writer = EventWriter::start(receiver, vec![Box::new(sink.clone())], || {}).unwrap();
        sender.record(event(1));
        while sink.0.lock().1 == 0 {
            thread::sleep(PAUSE_MIN);
        }
        assert_eq!(sink.0.lock().0, [1]);
    }
}
