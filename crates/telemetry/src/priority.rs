//! Threads that have to do with no request in particular, and stand back for those that have.

/// A tenth of what a thread of the request path gets while both want all of a processor: at a microsecond or a few for
/// each event still more than requests can cause.
const NICENESS: i32 = 10;

/// From now on the calling thread stands back where processors are short. It is not starved: others may wait for a lock
/// it holds. Where that is not allowed, the thread stays as urgent as others.
pub fn stand_back() {
    // On Linux, of this thread only.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_stands_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let of_thread = std::thread::spawn(move || {
            stand_back();
            niceness()
        });
        assert_eq!(of_thread.join().unwrap(), before.max(NICENESS));
        assert_eq!(niceness(), before);
    }
}
