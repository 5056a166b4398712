//! The memories of a revision's VMs when they have just been made: what every rollback goes back to, one copy for all.

use std::ops::Range;

use forerun_types::{RollbackRefusal, VmDiscard};
use wasmtime::component::WasmList;

use super::super::vm::VmStore;
use crate::sys::{Fingerprint, Fingerprinter, PAGE_BYTES, PIECE_BYTES, Piece, fetch_ahead, with_bytes};

/// Memory a function may have of which a copy is kept; a language runtime's has 13 MB.
const BASELINE_BYTES_MAX: u64 = 256 << 20;

/// One [`Content`] for each memory.
pub(in super::super) struct Baseline {
    pub(super) memories: Vec<Content>,
}

/// Content of a memory.
pub(super) struct Content {
    /// All of it. Pages of zeros take no memory here.
    bytes: Vec<u8>,
    /// By which it is known again, piece by piece.
    fingerprints: Option<Fingerprints>,
}

/// The fingerprints of a memory's pieces, in order, and who takes them.
struct Fingerprints {
    fingerprinter: Fingerprinter,
    pieces: Vec<Fingerprint>,
}

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
        let expected = self.memories.iter().map(|content| content.bytes.len());
        if sizes.eq(expected) { Ok(()) } else { Err(VmDiscard::Unlike) }
    }

    /// Whether `memories` have exactly this content.
    pub(super) fn equals(&self, store: &VmStore, memories: &[WasmList<u8>]) -> bool {
        self.fits(store, memories).is_ok()
            && memories.iter().zip(&self.memories).all(|(memory, content)| memory.as_le_slice(store) == content.bytes)
    }
}

/// Written pages are looked at in pieces, and only those that differ are copied. So many pieces are on their way into the
/// processor's cache meanwhile (of 2, 4, 8 and 16 the first that helped).
const PIECES_AHEAD: usize = 8;

impl Fingerprints {
    fn of(bytes: &[u8]) -> Option<Self> {
        let fingerprinter = Fingerprinter::new()?;
        let pieces = bytes.as_chunks().0.iter().map(|piece| fingerprinter.of(piece)).collect();
        Some(Self { fingerprinter, pieces })
    }

    /// Whether the piece of this number still is as it was.
    fn knows(&self, number: usize, now: &Piece) -> bool {
        self.pieces.get(number) == Some(&self.fingerprinter.of(now))
    }
}

impl Content {
    fn of(memory: &[u8]) -> Self {
        // Zeroed memory is the kernel's zero page until it is written.
        let mut copy = vec![0; memory.len()];
        for (to, from) in copy.chunks_mut(PAGE_BYTES).zip(memory.chunks(PAGE_BYTES)) {
            if from.iter().any(|byte| *byte != 0) {
                to.copy_from_slice(from);
            }
        }
        let fingerprints = Fingerprints::of(&copy);
        Self { bytes: copy, fingerprints }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pages in `runs` of this memory in which `now` has something else. What `now` does not have is zeroes.
    pub(super) fn differing(&self, runs: &[Range<usize>], now: &[u8]) -> Vec<Range<usize>> {
        const ZEROES: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        let pages = runs.iter().flat_map(|run| run.clone().step_by(PAGE_BYTES));
        joined(pages.filter(|start| {
            let page = *start..start + PAGE_BYTES;
            now.get(page.clone()).unwrap_or(&ZEROES) != &self.bytes[page]
        }))
    }

    /// The pages with something in them that are not in `runs`, which are in order.
    pub(super) fn but_for(&self, runs: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut runs = runs.iter().peekable();
        let pages = self.bytes.chunks_exact(PAGE_BYTES).enumerate().filter(|(number, page)| {
            let start = number * PAGE_BYTES;
            while runs.next_if(|run| run.end <= start).is_some() {}
            runs.peek().is_none_or(|run| start < run.start) && page.iter().any(|byte| *byte != 0)
        });
        joined(pages.map(|(number, _)| number * PAGE_BYTES))
    }

    /// Puts runs of pages back; says how many bytes those are.
    pub(super) fn restore(&self, store: &mut VmStore, memory: &WasmList<u8>, runs: &[Range<usize>]) -> u64 {
        with_bytes(store, memory, |data| self.put_back(data, runs));
        runs.iter().map(|run| run.len() as u64).sum()
    }

    fn put_back(&self, data: &mut [u8], runs: &[Range<usize>]) {
        let pieces = runs.iter().flat_map(|run| run.clone().step_by(PIECE_BYTES));
        let mut ahead = pieces.clone().skip(PIECES_AHEAD);
        for start in pieces {
            if let Some(next) = ahead.next() {
                fetch_ahead(&data[next..next + PIECE_BYTES]);
            }
            let piece = start..start + PIECE_BYTES;
            if !self.is_at(start / PIECE_BYTES, &data[piece.clone()]) {
                data[piece.clone()].copy_from_slice(&self.bytes[piece]);
            }
        }
    }

    /// Whether `now` is the piece of this number.
    fn is_at(&self, number: usize, now: &[u8]) -> bool {
        match (&self.fingerprints, now.as_array()) {
            (Some(fingerprints), Some(now)) => fingerprints.knows(number, now),
            _ => now == &self.bytes[number * PIECE_BYTES..(number + 1) * PIECE_BYTES],
        }
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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

    fn pages(memory: &[u8], numbers: &[usize]) -> Vec<Range<usize>> {
        let pages = numbers.iter().map(|number| number % (memory.len() / PAGE_BYTES)).collect::<BTreeSet<_>>();
        joined(pages.into_iter().map(|number| number * PAGE_BYTES))
    }

    proptest! {
        #[test]
        fn what_was_written_goes_back_with_fingerprints_and_without_and_nothing_else_does(
            seed: u8,
            writes in proptest::collection::vec((0..9 * PAGE_BYTES, any::<u8>()), 0..300),
            listed in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let made: Vec<u8> = (0..9 * PAGE_BYTES).map(|at| (at / 7) as u8 ^ seed).collect();
            let mut content = Content::of(&made);
            prop_assert!(content.fingerprints.is_some());
            let mut used = made.clone();
            writes.iter().for_each(|(at, byte)| used[*at] = *byte);
            let runs = pages(&made, &listed);
            let mut expected = used.clone();
            runs.iter().for_each(|run| expected[run.clone()].copy_from_slice(&made[run.clone()]));
            for _ in 0..2 {
                let mut now = used.clone();
                content.put_back(&mut now, &runs);
                prop_assert!(now == expected);
                content.fingerprints = None;
            }
        }
    }
}
