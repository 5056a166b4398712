//! An allocator that takes what it gives from an array of its own and never
//! gives any back to anyone: so that memory does not grow while a request is
//! served, as in language runtimes whose heap has room. When the array is
//! used up, memory grows as it does elsewhere.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const ARENA_BYTES: usize = 1 << 20;

#[repr(align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: a byte of it is handed out once only, by the counter below, and
// WebAssembly without threads has one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// The global allocator.
pub(crate) struct Allocator;

// SAFETY: `alloc` gives ranges of the arena that do not overlap, or memory of
// the system's allocator, which `dealloc` tells apart by their address.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = USED.load(Ordering::Relaxed).next_multiple_of(layout.align());
        match start.checked_add(layout.size()).filter(|end| *end <= ARENA_BYTES) {
            Some(end) => {
                USED.store(end, Ordering::Relaxed);
                // SAFETY: `start` is within the arena.
                unsafe { ARENA.0.get().cast::<u8>().add(start) }
            }
            // SAFETY: the caller keeps the contract of `alloc`, which is the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let arena = ARENA.0.get() as usize;
        if !(arena..arena + ARENA_BYTES).contains(&(pointer as usize)) {
            // SAFETY: what is not of the arena came from the system's allocator.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}
