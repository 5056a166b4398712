//! Guests on processors of their function's choice (`limits.cpus`).
//!
//! While such a guest runs, the thread that runs it may use no other processor, and has its own again afterwards. That takes three
//! system calls each time, and some tens of microseconds where the thread is elsewhere; a function that names none is left
//! alone. What is done for VMs behind requests, and ahead of them, is done wherever there is time.

use std::sync::Arc;

use forerun_driver::LoadError;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors that a function's guests run on.
pub(super) struct Affinity(CpuSet);

/// The thread is on those for as long as it is held.
pub(super) struct Within {
    /// Where it may be otherwise; nothing if that is not known, and then it was left where it is.
    before: Option<CpuSet>,
}

impl Affinity {
    /// Nothing for a function that names none.
    ///
    /// # Errors
    /// This process may use none of them.
    pub(super) fn of(cpus: &[u16]) -> Result<Option<Arc<Self>>, LoadError> {
        if cpus.is_empty() {
            return Ok(None);
        }
        let mine = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut wanted = CpuSet::new();
        let usable = |cpu: &usize| *cpu < CpuSet::MAX_CPU && mine.is_set(*cpu);
        cpus.iter().map(|cpu| usize::from(*cpu)).filter(usable).for_each(|cpu| wanted.set(cpu));
        if wanted.count() == 0 {
            return Err(LoadError::NoProcessor { cpus: cpus.to_vec() });
        }
        Ok(Some(Arc::new(Self(wanted))))
    }

    pub(super) fn enter(&self) -> Within {
        let before = sched_getaffinity(None).ok();
        let is_there = before.is_some() && sched_setaffinity(None, &self.0).is_ok();
        Within { before: before.filter(|_| is_there) }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // They were allowed a moment ago; if they no longer are, the kernel has chosen others.
            let _ = sched_setaffinity(None, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    }

    #[test]
    fn a_thread_is_on_them_for_as_long_as_it_is_held() {
        let before = mine();
        let last = *before.last().unwrap();
        let affinity = Affinity::of(&[u16::try_from(last).unwrap(), u16::MAX]).unwrap().unwrap();
        let within = affinity.enter();
        assert_eq!(mine(), [last]);
        drop(within);
        assert_eq!(mine(), before);
    }

    #[test]
    fn processors_that_are_not_there_are_refused_and_none_are_any() {
        assert!(matches!(Affinity::of(&[1_023, u16::MAX]), Err(LoadError::NoProcessor { .. })));
        assert!(Affinity::of(&[]).unwrap().is_none());
    }
}
