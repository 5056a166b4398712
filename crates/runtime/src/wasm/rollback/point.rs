//! Putting one VM back.
//!
//! The first time, everything that the VM changed since it was made is found without help: it is in the pages that are
//! no longer those of the image file. From then on the kernel watches all other pages ([`Watch`]), and a rollback
//! restores what is written now or ever was: pages that one request writes are written by most.
//!
//! So a VM that serves only once costs nothing more than any other, and nothing is done before a request.

use std::ops::Range;
use std::sync::Arc;

use forerun_types::VmDiscard;
use wasmtime::component::{Instance, TypedFunc, WasmList};

use super::super::vm::VmStore;
use super::baseline::{Baseline, Content};
use super::calls::StateExports;
use super::habit::Runs;
use crate::sys::{PAGE_BYTES, ScanError, Span, Tracker, Watch, with_bytes};

/// Written pages of one memory beyond which restoring takes longer than making a VM: 2,048 pages are 8 MiB, about
/// half a millisecond. Runs of pages are bounded by the same number.
const WRITTEN_PAGES_MAX: usize = 2_048;
/// Runs of own pages of a memory that has just served its first request, the image's relocated pages included.
pub(super) const OWN_RUNS_MAX: usize = 65_536;

/// A VM that has been put back once and can be put back again.
pub(in super::super) struct Point {
    restore_globals: TypedFunc<(), ()>,
    globals_same: TypedFunc<(), (bool,)>,
    memories: Vec<Watched>,
    /// Bytes that the VM had for itself when it was first put back, and that were as they should be.
    unchanged_bytes: u64,
    /// Bytes that the last rollback restored.
    pub(in super::super) restored_bytes: u64,
    /// Where those are.
    restored: Runs,
    /// The pages that the VM had for itself when it was first put back, those in which nothing differed among them: counts of
    /// references go up and come down again.
    own: Runs,
}

/// A memory that is watched. The watch ends before the memory does: [`Vm`](super::super::vm::Vm) drops its point first.
struct Watched {
    memory: WasmList<u8>,
    watch: Watch,
}

impl Point {
    /// Puts a VM back for the first time. Its host state must be new already.
    pub(super) async fn first(
        store: &mut VmStore,
        instance: &Instance,
        exports: &StateExports,
        baseline: &Baseline,
        tracker: &Arc<Tracker>,
    ) -> Result<Self, VmDiscard> {
        let restore_globals = exports.restore(store, instance).map_err(|_| VmDiscard::Unlike)?;
        let globals_same = exports.same(store, instance).map_err(|_| VmDiscard::Unlike)?;
        restore_globals.call_async(&mut *store, ()).await.map_err(|_| VmDiscard::RestoreTrapped)?;
        let memories = exports.memories(store, instance).await.map_err(|_| VmDiscard::RestoreTrapped)?;
        baseline.fits(store, &memories)?;
        let mut point = Self {
            restore_globals,
            globals_same,
            memories: Vec::new(),
            unchanged_bytes: 0,
            restored_bytes: 0,
            restored: Runs::new(),
            own: Runs::new(),
        };
        for (memory, content) in memories.into_iter().zip(&baseline.memories) {
            point.restore_and_watch(store, memory, content, tracker)?;
        }
        Ok(point)
    }

    /// Puts the VM back once more. Its host state must be new already. Globals first: that runs code of the guest's.
    pub(super) async fn again(&mut self, store: &mut VmStore, baseline: &Baseline) -> Result<(), VmDiscard> {
        self.restore_globals.call_async(&mut *store, ()).await.map_err(|_| VmDiscard::RestoreTrapped)?;
        self.restored_bytes = 0;
        self.restored.clear();
        for (Watched { memory, watch }, content) in self.memories.iter().zip(&baseline.memories) {
            let written = watch.written(WRITTEN_PAGES_MAX).map_err(|error| not_listed(&error))?;
            if pages(&written) > WRITTEN_PAGES_MAX {
                return Err(VmDiscard::TooManyPages);
            }
            self.restored_bytes += content.restore(store, memory, &written);
            self.restored.push(written);
        }
        Ok(())
    }

    /// All pages that the VM has written since it was made, and while it was.
    pub(super) fn written(&self) -> Runs {
        self.own.iter().zip(&self.restored).map(|(own, restored)| union(own, restored)).collect()
    }

    /// Memory that the VM does not share with the image file, in bytes.
    pub(in super::super) fn own_bytes(&self) -> u64 {
        self.unchanged_bytes + self.restored_bytes
    }

    /// The content of all memories.
    #[cfg(test)]
    pub(super) fn memories<'a>(&'a self, store: &'a VmStore) -> impl Iterator<Item = &'a [u8]> {
        self.memories.iter().map(move |watched| watched.memory.as_le_slice(store))
    }

    /// Whether the VM's memories and globals are exactly as they were made. Reads all of them.
    pub(super) async fn is_clean(&self, store: &mut VmStore, baseline: &Baseline) -> bool {
        let globals_same = self.globals_same.call_async(&mut *store, ()).await;
        let mut contents = self.memories.iter().zip(&baseline.memories);
        matches!(globals_same, Ok((true,)))
            && self.memories.len() == baseline.memories.len()
            && contents.all(|(watched, content)| watched.memory.as_le_slice(&*store) == content.bytes())
    }

    /// Restores what differs of a memory and has the kernel watch the rest.
    fn restore_and_watch(
        &mut self,
        store: &mut VmStore,
        memory: WasmList<u8>,
        content: &Content,
        tracker: &Arc<Tracker>,
    ) -> Result<(), VmDiscard> {
        let span = with_bytes(store, &memory, |data| Span::of(data)).ok_or(VmDiscard::Unlike)?;
        let own = tracker.own_pages(span, OWN_RUNS_MAX).map_err(|error| not_listed(&error))?;
        let changed = with_bytes(store, &memory, |data| content.differing(&own, data));
        if pages(&changed) > WRITTEN_PAGES_MAX {
            return Err(VmDiscard::TooManyPages);
        }
        let restored = content.restore(store, &memory, &changed);
        let watch = tracker.watch(span).map_err(|_| VmDiscard::ScanFailed)?;
        protect_all_but(&watch, &changed, content.bytes().len()).map_err(|_| VmDiscard::ScanFailed)?;
        self.unchanged_bytes += (pages(&own) * PAGE_BYTES) as u64 - restored;
        self.restored_bytes += restored;
        self.restored.push(changed);
        self.own.push(own);
        self.memories.push(Watched { memory, watch });
        Ok(())
    }
}

/// What has been written once stays unprotected, and so is restored every time.
fn protect_all_but(watch: &Watch, written: &[Range<usize>], bytes: usize) -> std::io::Result<()> {
    let mut from = 0;
    for run in written {
        watch.protect(from..run.start)?;
        from = run.end;
    }
    watch.protect(from..bytes)
}

/// The runs that are in either of two lists, in order, neighbours joined.
fn union(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut all: Vec<_> = a.iter().chain(b).cloned().collect();
    all.sort_unstable_by_key(|run| run.start);
    let mut union: Vec<Range<usize>> = Vec::with_capacity(all.len());
    for run in all {
        match union.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => union.push(run),
        }
    }
    union
}

fn not_listed(error: &ScanError) -> VmDiscard {
    match error {
        ScanError::TooManyRuns => VmDiscard::TooManyPages,
        ScanError::OutOfRange | ScanError::Refused(_) => VmDiscard::ScanFailed,
    }
}

fn pages(runs: &[Range<usize>]) -> usize {
    runs.iter().map(|run| run.len() / PAGE_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(pages: &[bool]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for page in (0..pages.len()).filter(|page| pages[*page]) {
            match runs.last_mut() {
                Some(last) if last.end == page => last.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }

    proptest! {
        #[test]
        fn a_union_has_what_either_has(
            a in proptest::collection::vec(any::<bool>(), 40),
            b in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let either: Vec<_> = a.iter().zip(&b).map(|(a, b)| *a || *b).collect();
            prop_assert_eq!(union(&runs(&a), &runs(&b)), runs(&either));
        }
    }
}
