//! Puts checks into the bodies of one module, and says to the compiler that none of them is likely to be taken.
//!
//! Where they go is decided elsewhere. What is not a check is copied byte for byte.

use wasm_encoder::{BlockType, BranchHint, BranchHints, Encode, Instruction, MemArg};
use wasmparser::FunctionBody;

use super::places::Place;
use super::{FLAG_OFFSET, GROWTH_PAGES};

/// What becomes of a module's bodies.
#[derive(Default)]
pub(super) struct Bodies {
    /// The contents of the code section.
    pub(super) code: Vec<u8>,
    /// A hint for each check.
    pub(super) hints: BranchHints,
}

/// The value of a hint that says that a branch is not taken.
const NOT_TAKEN: u32 = 0;

/// The bodies with checks at `places` of each, which look at the flag in `memory`.
pub(super) fn rewrite(
    bodies: &[FunctionBody<'_>],
    places: &[Vec<Place>],
    functions_imported: u32,
    memory: u32,
) -> Bodies {
    let check = Check::new(memory);
    let mut made = Bodies::default();
    bodies.len().encode(&mut made.code);
    for ((body, places), function) in bodies.iter().zip(places).zip(functions_imported..) {
        let (body, branches) = check.insert(body.as_bytes(), places);
        body.encode(&mut made.code);
        if !branches.is_empty() {
            let hints = branches.iter().map(|branch| BranchHint {
                // A body has fewer bytes than this has values.
                branch_func_offset: u32::try_from(*branch).unwrap_or(u32::MAX),
                branch_hint_value: NOT_TAKEN,
            });
            made.hints.function_hints(function, hints);
        }
    }
    made
}

/// The code of a check, the same at each place of a module.
struct Check {
    code: Vec<u8>,
    /// Where its branch is.
    branch: usize,
}

impl Check {
    fn new(memory: u32) -> Self {
        let flag = MemArg { offset: u64::from(FLAG_OFFSET), align: 0, memory_index: memory };
        let mut code = Vec::new();
        Instruction::I32Const(0).encode(&mut code);
        Instruction::I32Load8U(flag).encode(&mut code);
        let branch = code.len();
        Instruction::If(BlockType::Empty).encode(&mut code);
        Instruction::I32Const(GROWTH_PAGES.cast_signed()).encode(&mut code);
        Instruction::MemoryGrow(memory).encode(&mut code);
        Instruction::Drop.encode(&mut code);
        Instruction::End.encode(&mut code);
        Self { code, branch }
    }

    /// The body with checks, and where in it their branches are.
    fn insert(&self, body: &[u8], places: &[Place]) -> (Vec<u8>, Vec<usize>) {
        let mut made = Vec::with_capacity(body.len() + places.len() * self.code.len());
        let mut branches = Vec::with_capacity(places.len());
        let (mut rest, mut copied) = (body, 0);
        for place in places {
            // Places are in order, and inside the body.
            let (before, after) = rest.split_at_checked(place.offset - copied).unwrap_or((rest, &[]));
            made.extend_from_slice(before);
            branches.push(made.len() + self.branch);
            made.extend_from_slice(&self.code);
            (rest, copied) = (after, place.offset);
        }
        made.extend_from_slice(rest);
        (made, branches)
    }
}
