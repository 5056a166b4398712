//! Which pages the requests of a revision usually write, so that VMs held ready can have them before their request comes.
//!
//! A page of a new VM is the image file's, or nobody's, until it is written; then the kernel copies or clears one, about
//! half a microsecond each in the request's own time. What one VM has written in its first requests is what others will:
//! those pages are made the VM's own ([`make_own`](crate::sys::make_own)) while it is made ready, which is nobody's time.
//!
//! Only where the pages are is kept; what was in them is not looked at.

use std::ops::Range;

use parking_lot::Mutex;

use crate::sys::PAGE_BYTES;

/// Pages of one VM that are made its own at most: 4 MiB. A function that writes more has a request in which faults are the least.
const PAGES_MAX: usize = 1_024;
/// Requests of one VM that are looked at: what it wrote in all of them is nearly the same after a few.
const REQUESTS_MAX: u32 = 16;

/// Runs of pages, a list for each memory, as bytes from its start.
pub(super) type Runs = Vec<Vec<Range<usize>>>;

/// What VMs with as much room wrote.
#[derive(Default)]
pub(super) struct Habit(Mutex<Runs>);

impl Habit {
    /// Whether a VM that has served so many requests is worth a look: the first, second, fourth, and so on.
    pub(super) fn wants(requests: u32) -> bool {
        requests <= REQUESTS_MAX && requests.is_power_of_two()
    }

    /// Takes note of all that a VM ever wrote. A flood of pages is not a habit.
    pub(super) fn note(&self, runs: Runs) {
        let pages = runs.iter().flatten().map(|run| run.len() / PAGE_BYTES).sum::<usize>();
        if pages <= PAGES_MAX {
            *self.0.lock() = runs;
        }
    }

    /// Where to touch a VM's memories.
    pub(super) fn runs(&self) -> Runs {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_not_noted() {
        let habit = Habit::default();
        let pages = |first: usize, end: usize| first * PAGE_BYTES..end * PAGE_BYTES;
        let usual = vec![vec![pages(0, 2), pages(4, 5)], vec![]];
        habit.note(usual.clone());
        habit.note(vec![vec![pages(0, 1), pages(2, PAGES_MAX + 2)]]);
        assert_eq!(habit.runs(), usual);
        assert_eq!([1, 2, 3, 4, 16, 17, 32].map(Habit::wants), [true, true, false, true, true, false, false]);
    }
}
