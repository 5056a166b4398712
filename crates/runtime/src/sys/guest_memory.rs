//! A guest's memory as bytes that the host may write, while the guest stands still.

use std::ops::Range;

use wasmtime::component::WasmList;

use super::flags::FlaggedStore;
use super::pages::PAGE_BYTES;

/// Runs `work` on the memory that `list` is, or is part of.
pub(crate) fn with_bytes<T: 'static, R>(
    store: &mut FlaggedStore<T>,
    list: &WasmList<u8>,
    work: impl FnOnce(&mut [u8]) -> R,
) -> R {
    // This panics if the list is of another store, and gives where the memory is now.
    let bytes: &[u8] = list.as_le_slice(&*store);
    let (start, length) = (bytes.as_ptr().expose_provenance(), bytes.len());
    // SAFETY: the line above has just made a slice of the same bytes, so they are mapped, readable, and belong to a linear
    // memory of `store`; linear memories are writable up to their size. They stay so, and nobody else reads or writes
    // them, while `work` runs: memory grows, moves and ends only through its store, and guests run only in calls on
    // their store, but `store` is exclusively borrowed until this returns, and `work` has no way to it. Threads of guests
    // do not exist here, since components with shared memories do not get this far and engines do not allow any. The
    // bytes come from a mapping of the kernel's and from no allocation of Rust's, and an address of it was exposed.
    let bytes = unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(start), length) };
    work(bytes)
}

/// Has the process own the pages at `runs`, bytes from the start of `memory`, as writing to them would, and leaves every
/// byte as it is. What lies beyond the memory is left out; a kernel that cannot do it does nothing.
///
/// Writing back what was read would do it, too, and the other processors would have to be told of each page: the mapping
/// that reading has made is replaced by the write. Measured, that was a third of all time of a JavaScript function.
pub(crate) fn make_own(memory: &mut [u8], runs: &[Range<usize>]) {
    populate(memory, runs, libc::MADV_POPULATE_WRITE);
}

/// The same for pages that will only be read. Whoever writes to one afterwards pays for it, see [`make_own`]: pages of zeros
/// are best left alone.
pub(crate) fn make_present(memory: &mut [u8], runs: &[Range<usize>]) {
    populate(memory, runs, libc::MADV_POPULATE_READ);
}

fn populate(memory: &mut [u8], runs: &[Range<usize>], advice: libc::c_int) {
    if !memory.as_ptr().addr().is_multiple_of(PAGE_BYTES) {
        return;
    }
    for run in runs {
        let end = run.end.min(memory.len() / PAGE_BYTES * PAGE_BYTES);
        let Some(pages) = memory.get_mut(run.start / PAGE_BYTES * PAGE_BYTES..end) else { continue };
        // SAFETY: the range is that of a slice that is exclusively borrowed; both advices make the mapping present, which it
        // may be already, and one of them writable, and change no byte. They fail where they cannot, which costs time only.
        unsafe { libc::madvise(pages.as_mut_ptr().cast(), pages.len(), advice) };
    }
}

/// Asks the kernel to swap out all of `memory`; without swap space it does not, and that is no error.
#[cfg(test)]
pub(crate) fn swap_out(memory: &mut [u8]) {
    // SAFETY: the advice changes where the pages are, not what is in them: whoever reads them next waits for the kernel
    // to bring them back. The range is that of the slice, which is borrowed.
    let result = unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), libc::MADV_PAGEOUT) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
