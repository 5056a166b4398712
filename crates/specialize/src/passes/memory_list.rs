//! A core module's memory as a list of bytes, which is how a host learns where it is.
//!
//! The list *is* the memory, from its first byte to its last, and nothing is copied to make it. Its own address and length
//! have to be in that memory: they are put over the first eight bytes, which are put back as soon as the host has read
//! them. So the first page counts as written from then on.

use wasm_encoder::{Function, MemArg};
use wasmparser::MemoryType;

/// Whether a memory can be a list: not if it is empty at first, has wide addresses or pages of its own size.
pub(super) fn can_be(ty: &MemoryType) -> bool {
    ty.initial > 0 && !ty.memory64 && ty.page_size_log2.is_none()
}

/// Keeps the memory's first bytes in the global `kept`, puts address 0 and the memory's length over them, and gives the
/// address of that.
pub(super) fn give(memory: u32, kept: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).i64_load(head(memory)).global_set(kept);
    // A page has 2^16 bytes, and the length is the upper half of the two numbers.
    code.i32_const(0).memory_size(memory).i64_extend_i32_u().i64_const(48).i64_shl().i64_store(head(memory));
    code.i32_const(0).end();
    function
}

/// The host has read address and length.
pub(super) fn put_back(memory: u32, kept: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).global_get(kept).i64_store(head(memory)).end();
    function
}

/// Where address and length are while the host reads them.
fn head(memory: u32) -> MemArg {
    MemArg { offset: 0, align: 3, memory_index: memory }
}
