//! The memories of a revision's VMs when they have just been made: what every rollback goes back to, one copy for all.

use std::ops::Range;

use forerun_types::{RollbackRefusal, VmDiscard};
use wasmtime::component::WasmList;

use super::super::vm::VmStore;
use crate::sys::{PAGE_BYTES, with_bytes};

/// Memory a function may have of which a copy is kept; a language runtime's has 13 MB.
const BASELINE_BYTES_MAX: u64 = 256 << 20;

/// One [`Content`] for each memory.
pub(in super::super) struct Baseline {
    pub(super) memories: Vec<Content>,
}

/// Content of a memory. Pages of zeros take no memory here.
pub(super) struct Content(Vec<u8>);

impl Baseline {
    /// Copies the memories of a VM that has served nothing.
    pub(super) fn of(store: &mut VmStore, memories: &[WasmList<u8>]) -> Result<Self, RollbackRefusal> {
        let bytes = memories.iter().map(|memory| memory.as_le_slice(&*store).len() as u64).sum();
        if bytes > BASELINE_BYTES_MAX {
            return Err(RollbackRefusal::TooLarge { bytes, max: BASELINE_BYTES_MAX });
        }
        let memories = memories.iter().map(|memory| Content::of(memory.as_le_slice(&*store))).collect();
        Ok(Self { memories })
    }

    /// Whether `memories` are as many and as large.
    pub(super) fn fits(&self, store: &VmStore, memories: &[WasmList<u8>]) -> Result<(), VmDiscard> {
        let sizes = memories.iter().map(|memory| memory.as_le_slice(store).len());
        let expected = self.memories.iter().map(|content| content.0.len());
        if sizes.eq(expected) { Ok(()) } else { Err(VmDiscard::Unlike) }
    }

    /// Whether `memories` have exactly this content.
    pub(super) fn equals(&self, store: &VmStore, memories: &[WasmList<u8>]) -> bool {
        self.fits(store, memories).is_ok()
            && memories.iter().zip(&self.memories).all(|(memory, content)| memory.as_le_slice(store) == content.0)
    }
}

/// Written pages are compared in pieces of this size, and only what differs is copied.
const PIECE_BYTES: usize = 512;

impl Content {
    fn of(memory: &[u8]) -> Self {
        // Zeroed memory is the kernel's zero page until it is written.
        let mut copy = vec![0; memory.len()];
        for (to, from) in copy.chunks_mut(PAGE_BYTES).zip(memory.chunks(PAGE_BYTES)) {
            if from.iter().any(|byte| *byte != 0) {
                to.copy_from_slice(from);
            }
        }
        Self(copy)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pages in `runs` of this memory in which `now` has something else. What `now` does not have is zeroes.
    pub(super) fn differing(&self, runs: &[Range<usize>], now: &[u8]) -> Vec<Range<usize>> {
        const ZEROES: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        let pages = runs.iter().flat_map(|run| run.clone().step_by(PAGE_BYTES));
        joined(pages.filter(|start| {
            let page = *start..start + PAGE_BYTES;
            now.get(page.clone()).unwrap_or(&ZEROES) != &self.0[page]
        }))
    }

    /// The pages with something in them that are not in `runs`, which are in order.
    pub(super) fn but_for(&self, runs: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut runs = runs.iter().peekable();
        let pages = self.0.chunks_exact(PAGE_BYTES).enumerate().filter(|(number, page)| {
            let start = number * PAGE_BYTES;
            while runs.next_if(|run| run.end <= start).is_some() {}
            runs.peek().is_none_or(|run| start < run.start) && page.iter().any(|byte| *byte != 0)
        });
        joined(pages.map(|(number, _)| number * PAGE_BYTES))
    }

    /// Copies runs of pages back; says how many bytes that were.
    pub(super) fn restore(&self, store: &mut VmStore, memory: &WasmList<u8>, runs: &[Range<usize>]) -> u64 {
        with_bytes(store, memory, |data| {
            for run in runs {
                let pieces = data[run.clone()].chunks_mut(PIECE_BYTES).zip(self.0[run.clone()].chunks(PIECE_BYTES));
                for (piece, original) in pieces.filter(|(piece, original)| piece != original) {
                    piece.copy_from_slice(original);
                }
            }
        });
        runs.iter().map(|run| run.len() as u64).sum()
    }
}

/// Pages that begin there, in order, neighbours joined.
fn joined(starts: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for start in starts {
        match runs.last_mut() {
            Some(last) if last.end == start => last.end += PAGE_BYTES,
            _ => runs.push(start..start + PAGE_BYTES),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_differ_and_pages_that_do_not_are_told_apart() {
        let page = |number: usize| number * PAGE_BYTES..(number + 1) * PAGE_BYTES;
        let mut bytes = vec![0; 6 * PAGE_BYTES];
        for number in [0, 1, 3, 5] {
            bytes[number * PAGE_BYTES + 7] = 1;
        }
        let content = Content::of(&bytes);
        // The first and the fourth page are as they were, and the last one is not there yet.
        let mut now = bytes[..5 * PAGE_BYTES].to_vec();
        now[PAGE_BYTES] = 2;
        now[2 * PAGE_BYTES] = 2;
        let differing = content.differing(&[0..2 * PAGE_BYTES, 2 * PAGE_BYTES..6 * PAGE_BYTES], &now);
        assert_eq!(differing, [page(1).start..page(2).end, page(5)]);
        assert_eq!(content.but_for(&differing), [page(0), page(3)], "the fifth is zeroes");
        assert_eq!(content.but_for(&[]), [page(0).start..page(1).end, page(3), page(5)]);
    }
}
