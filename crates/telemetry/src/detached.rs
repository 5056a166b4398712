//! A thread of its own for a sink that may wait for a disk or a network, so that the others need not.
//!
//! While the sink stalls, a bounded number of events waits; what comes beyond is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::event::InvocationEvent;
use crate::writer::{EventSink, join};

/// A sink on its own thread; itself a sink that never waits.
pub struct Detached {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What became of the events; stays readable when the sink has been handed over.
#[derive(Clone)]
pub struct DetachedCounts(Arc<Shared>);

struct Shared {
    capacity_events: usize,
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Vec<InvocationEvent>>,
    events: usize,
    flush: bool,
    stop: bool,
}

/// What the thread does next.
enum Work {
    Take(Vec<InvocationEvent>),
    Flush,
    Stop,
}

/// At the end, a sink that does not return for this long is left behind: a node must be able to stop on a dead disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl Detached {
    /// Starts a thread `name` for `sink`; at most `capacity_events` wait for it. It calls `begin` first, which may have
    /// it stand back: a disk or a network is not as urgent as a request.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub fn start(
        name: &str,
        capacity_events: usize,
        mut sink: Box<dyn EventSink>,
        begin: fn(),
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            capacity_events,
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let work = move || {
            begin();
            loop {
                match own.next() {
                    Work::Take(events) => sink.take(&events),
                    Work::Flush => sink.flush(),
                    Work::Stop => break,
                }
            }
            sink.flush();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Counters of this sink.
    pub fn counts(&self) -> DetachedCounts {
        DetachedCounts(Arc::clone(&self.shared))
    }
}

impl DetachedCounts {
    /// Events dropped since the start because the sink was too slow.
    pub fn dropped_total(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn next(&self) -> Work {
        let mut state = self.state.lock();
        loop {
            if let Some(events) = state.batches.pop_front() {
                state.events -= events.len();
                return Work::Take(events);
            }
            if state.stop {
                return Work::Stop;
            }
            if std::mem::take(&mut state.flush) {
                return Work::Flush;
            }
            self.changed.wait(&mut state);
        }
    }
}

impl EventSink for Detached {
    fn take(&mut self, events: &[InvocationEvent]) {
        let mut state = self.shared.state.lock();
        if state.events + events.len() > self.shared.capacity_events {
            drop(state);
            self.shared.dropped.fetch_add(events.len() as u64, Ordering::Relaxed);
            return;
        }
        state.events += events.len();
        state.batches.push_back(events.to_vec());
        self.shared.changed.notify_one();
    }

    fn flush(&mut self) {
        self.shared.state.lock().flush = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !thread.is_finished() && waited < STOP_TIMEOUT {
            thread::sleep(step);
            waited += step;
        }
        if thread.is_finished() {
            join(thread, "detached sink");
        } else {
            tracing::warn!("a telemetry sink does not finish and is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::event::tests::event;

    /// Waits for a permit before each batch; a closed channel permits everything.
    struct Slow {
        permits: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u128>>>,
        flushed: mpsc::Sender<()>,
    }

    impl EventSink for Slow {
        fn take(&mut self, events: &[InvocationEvent]) {
            let _ = self.permits.recv();
            self.taken.lock().extend(events.iter().map(|event| event.id.as_u128()));
        }

        fn flush(&mut self) {
            let _ = self.flushed.send(());
        }
    }

    #[test]
    fn a_stalled_sink_drops_and_counts_and_nobody_waits() {
        let (permit, permits) = mpsc::channel();
        let (flushed, flushes) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow { permits, taken: Arc::clone(&taken), flushed };
        let mut sink = Detached::start("slow", 3, Box::new(slow), || {}).unwrap();
        let counts = sink.counts();
        let events: Vec<_> = (0..10).map(event).collect();
        // One batch may be in the sink's hands already, so between three and four fit.
        events.iter().for_each(|event| sink.take(std::slice::from_ref(event)));
        let dropped = counts.dropped_total();
        assert!((6..=7).contains(&dropped), "{dropped}");
        sink.flush();
        drop(permit);
        flushes.recv().unwrap();
        drop(sink);
        assert_eq!(taken.lock().len() as u64 + dropped, 10);
        assert!(taken.lock().is_sorted());
    }
}
