//! What in a component's code a rollback of memories and globals could not undo, found without running it.
//!
//! A VM is rolled back by putting back the bytes of its memories and the values of its globals. Its tables, and
//! which of its segments were dropped, stay as they are; so no code that may run after instantiation may change
//! them. What a start function does is part of instantiation, and free.
//!
//! `memory.init` is no obstacle: it writes memory, which is put back, and reads a segment, which is as it was as
//! long as nothing drops it. Neither is `memory.grow`: whoever rolls back sees the memory's size.
//!
//! Not found here, and seen at run time by whoever rolls back: handles left open, traps, memory that grew.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ConstExpr, Element, ElementItems, Global, Operator, OperatorsReader, ValType,
};

use crate::passes::layout::module_section;
use crate::passes::layout::{ComponentLayout, ModuleLayout, Unsupported, is_function};

/// Why a used VM of a component cannot be put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Code that may run in a request changes a table.
    #[error("function {function} of core module {module} changes a table ({instruction})")]
    TableChanged {
        /// Number of the module.
        module: u32,
        /// Index of the function.
        function: u32,
        /// Which instruction.
        instruction: &'static str,
    },
    /// Code that may run in a request drops a segment.
    #[error("function {function} of core module {module} drops a segment ({instruction})")]
    SegmentDropped {
        /// Number of the module.
        module: u32,
        /// Index of the function.
        function: u32,
        /// Which instruction.
        instruction: &'static str,
    },
    /// A mutable global holds a reference.
    #[error("mutable global {global} of core module {module} holds a reference")]
    ReferenceGlobal {
        /// Number of the module.
        module: u32,
        /// Index of the global.
        global: u32,
    },
    /// Structures and arrays live outside of memories.
    #[error("core module {module} has types for garbage collection")]
    GarbageCollection {
        /// Number of the module.
        module: u32,
    },
    /// An exception is an object outside of memories.
    #[error("core module {module} has exception tags")]
    Exceptions {
        /// Number of the module.
        module: u32,
    },
    /// Another thread may write while it is put back.
    #[error("core module {module} has a shared memory")]
    SharedMemory {
        /// Number of the module.
        module: u32,
    },
    /// Tasks, streams and futures are state of the component that nothing can save.
    #[error("the component uses {what}, as WASI 0.3 does")]
    Asynchronous {
        /// The option or built-in function.
        what: &'static str,
    },
    /// Handles of resources that the component defines itself.
    #[error("the component hands out resources of its own")]
    OwnResources,
}

impl Obstacle {
    /// A short name, for metrics and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TableChanged { .. } => "table-changed",
            Self::SegmentDropped { .. } => "segment-dropped",
            Self::ReferenceGlobal { .. } => "reference-global",
            Self::GarbageCollection { .. } => "garbage-collection",
            Self::Exceptions { .. } => "exceptions",
            Self::SharedMemory { .. } => "shared-memory",
            Self::Asynchronous { .. } => "asynchronous",
            Self::OwnResources => "own-resources",
        }
    }
}

/// The first obstacle that the component's own adapters and built-ins are.
pub(super) fn find_in_component(layout: &ComponentLayout<'_>) -> Result<Option<Obstacle>, Unsupported> {
    Ok(layout.canonical_functions()?.iter().find_map(canonical_obstacle))
}

/// The first obstacle in core module number `module`.
pub(super) fn find_in_module(module: u32, layout: &ModuleLayout<'_>) -> Result<Option<Obstacle>, Unsupported> {
    if layout.has_types_beyond_functions {
        return Ok(Some(Obstacle::GarbageCollection { module }));
    }
    if layout.has_tags {
        return Ok(Some(Obstacle::Exceptions { module }));
    }
    if layout.memories.iter().any(|memory| memory.shared) {
        return Ok(Some(Obstacle::SharedMemory { module }));
    }
    for (global, index) in layout.globals_defined.iter().zip(layout.counts.globals_imported..) {
        if global.mutable && matches!(global.content_type, ValType::Ref(_)) {
            return Ok(Some(Obstacle::ReferenceGlobal { module, global: index }));
        }
    }
    find_in_code(module, layout)
}

fn canonical_obstacle(function: &CanonicalFunction) -> Option<Obstacle> {
    let what = match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            let is_async =
                |option: &CanonicalOption| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_));
            return options.iter().any(is_async).then_some(Obstacle::Asynchronous { what: "asynchronous functions" });
        }
        CanonicalFunction::ResourceDrop { .. } => return None,
        CanonicalFunction::ResourceNew { .. } | CanonicalFunction::ResourceRep { .. } => {
            return Some(Obstacle::OwnResources);
        }
        CanonicalFunction::ThreadSpawnRef { .. }
        | CanonicalFunction::ThreadSpawnIndirect { .. }
        | CanonicalFunction::ThreadAvailableParallelism
        | CanonicalFunction::ThreadIndex
        | CanonicalFunction::ThreadNewIndirect { .. }
        | CanonicalFunction::ThreadResumeLater
        | CanonicalFunction::ThreadSuspend { .. }
        | CanonicalFunction::ThreadYield { .. }
        | CanonicalFunction::ThreadSuspendThenResume { .. }
        | CanonicalFunction::ThreadYieldThenResume { .. }
        | CanonicalFunction::ThreadSuspendThenPromote { .. }
        | CanonicalFunction::ThreadYieldThenPromote { .. } => "threads",
        CanonicalFunction::BackpressureInc
        | CanonicalFunction::BackpressureDec
        | CanonicalFunction::TaskReturn { .. }
        | CanonicalFunction::TaskCancel
        | CanonicalFunction::ContextGet { .. }
        | CanonicalFunction::ContextSet { .. }
        | CanonicalFunction::SubtaskDrop
        | CanonicalFunction::SubtaskCancel { .. } => "tasks",
        CanonicalFunction::StreamNew { .. }
        | CanonicalFunction::StreamRead { .. }
        | CanonicalFunction::StreamWrite { .. }
        | CanonicalFunction::StreamCancelRead { .. }
        | CanonicalFunction::StreamCancelWrite { .. }
        | CanonicalFunction::StreamDropReadable { .. }
        | CanonicalFunction::StreamDropWritable { .. } => "streams",
        CanonicalFunction::FutureNew { .. }
        | CanonicalFunction::FutureRead { .. }
        | CanonicalFunction::FutureWrite { .. }
        | CanonicalFunction::FutureCancelRead { .. }
        | CanonicalFunction::FutureCancelWrite { .. }
        | CanonicalFunction::FutureDropReadable { .. }
        | CanonicalFunction::FutureDropWritable { .. } => "futures",
        CanonicalFunction::ErrorContextNew { .. }
        | CanonicalFunction::ErrorContextDebugMessage { .. }
        | CanonicalFunction::ErrorContextDrop => "error contexts",
        CanonicalFunction::WaitableSetNew
        | CanonicalFunction::WaitableSetWait { .. }
        | CanonicalFunction::WaitableSetPoll { .. }
        | CanonicalFunction::WaitableSetDrop
        | CanonicalFunction::WaitableJoin => "waitable sets",
    };
    Some(Obstacle::Asynchronous { what })
}

/// What one function does that matters here.
#[derive(Default)]
struct Conduct {
    /// The functions it calls directly, by index.
    calls: Vec<u32>,
    /// The first instruction that changes what cannot be put back.
    lasting: Option<Lasting>,
}

#[derive(Clone, Copy)]
enum Lasting {
    Table(&'static str),
    Segment(&'static str),
}

fn find_in_code(module: u32, layout: &ModuleLayout<'_>) -> Result<Option<Obstacle>, Unsupported> {
    let mut referenced = Vec::new();
    let mut conducts = Vec::new();
    for body in layout.bodies()? {
        conducts.push(read_conduct(body.get_operators_reader()?, &mut referenced)?);
    }
    if conducts.iter().all(|conduct| conduct.lasting.is_none()) {
        return Ok(None);
    }
    collect_references(layout, &mut referenced)?;
    let after_start = reachable(&conducts, layout.counts.functions_imported, referenced);
    let first = conducts.iter().zip(&after_start).enumerate().find_map(|(number, (conduct, reached))| {
        let function = layout.counts.functions_imported + u32::try_from(number).ok()?;
        match conduct.lasting.filter(|_| *reached)? {
            Lasting::Table(instruction) => Some(Obstacle::TableChanged { module, function, instruction }),
            Lasting::Segment(instruction) => Some(Obstacle::SegmentDropped { module, function, instruction }),
        }
    });
    Ok(first)
}

fn read_conduct(mut operators: OperatorsReader<'_>, referenced: &mut Vec<u32>) -> Result<Conduct, Unsupported> {
    let mut conduct = Conduct::default();
    while !operators.eof() {
        let lasting = match operators.read()? {
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                conduct.calls.push(function_index);
                None
            }
            Operator::RefFunc { function_index } => {
                referenced.push(function_index);
                None
            }
            Operator::TableSet { .. } => Some(Lasting::Table("table.set")),
            Operator::TableGrow { .. } => Some(Lasting::Table("table.grow")),
            Operator::TableFill { .. } => Some(Lasting::Table("table.fill")),
            Operator::TableCopy { .. } => Some(Lasting::Table("table.copy")),
            Operator::TableInit { .. } => Some(Lasting::Table("table.init")),
            Operator::DataDrop { .. } => Some(Lasting::Segment("data.drop")),
            Operator::ElemDrop { .. } => Some(Lasting::Segment("elem.drop")),
            _ => None,
        };
        conduct.lasting = conduct.lasting.or(lasting);
    }
    conduct.calls.sort_unstable();
    conduct.calls.dedup();
    Ok(conduct)
}

/// The functions that something other than a direct call may run: through an export, a table or a reference.
fn collect_references(layout: &ModuleLayout<'_>, referenced: &mut Vec<u32>) -> Result<(), Unsupported> {
    let exports = layout.exports()?;
    referenced.extend(exports.iter().filter(|export| is_function(export.kind)).map(|export| export.index));
    if let Some(section) = layout.section(module_section::GLOBAL) {
        for global in section.items::<Global<'_>>()? {
            collect_from_expression(&global?.init_expr, referenced)?;
        }
    }
    if let Some(section) = layout.section(module_section::ELEMENT) {
        for element in section.items::<Element<'_>>()? {
            collect_from_element(element?.items, referenced)?;
        }
    }
    // A table's own initial value may be a reference to a function, too.
    if let Some(section) = layout.section(module_section::TABLE) {
        for table in section.items::<wasmparser::Table<'_>>()? {
            if let wasmparser::TableInit::Expr(expression) = &table?.init {
                collect_from_expression(expression, referenced)?;
            }
        }
    }
    Ok(())
}

fn collect_from_element(items: ElementItems<'_>, referenced: &mut Vec<u32>) -> Result<(), Unsupported> {
    match items {
        ElementItems::Functions(functions) => {
            for function in functions {
                referenced.push(function?);
            }
        }
        ElementItems::Expressions(_, expressions) => {
            for expression in expressions {
                collect_from_expression(&expression?, referenced)?;
            }
        }
    }
    Ok(())
}

fn collect_from_expression(expression: &ConstExpr<'_>, referenced: &mut Vec<u32>) -> Result<(), Unsupported> {
    let mut operators = expression.get_operators_reader();
    while !operators.eof() {
        if let Operator::RefFunc { function_index } = operators.read()? {
            referenced.push(function_index);
        }
    }
    Ok(())
}

/// For each defined function, whether it may run after the start function has ended: whether it is among
/// `roots`, or called by one that may. Linear in the number of calls.
fn reachable(conducts: &[Conduct], imported: u32, roots: Vec<u32>) -> Vec<bool> {
    let mut reached = vec![false; conducts.len()];
    let mut open = roots;
    while let Some(function) = open.pop() {
        let Some(number) = function.checked_sub(imported).map(|number| number as usize) else {
            continue;
        };
        let Some(seen) = reached.get_mut(number) else {
            continue;
        };
        if !std::mem::replace(seen, true) {
            open.extend_from_slice(&conducts[number].calls);
        }
    }
    reached
}
