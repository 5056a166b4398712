//! Why the specializer has not prepared a component, as far as that can be read from its bytes: by walking every function
//! once. It decides nothing; it names what the specializer does not tell.
//!
//! Memories, variable globals and the host's side are put back. Table entries, dropped segments and the handles of a
//! component's own resources cannot be reached through wasmtime's interface; a component that could change them is
//! refused by the name of what it does. Growth is noticed when it happens, so that it need not be looked for here.

use forerun_types::RollbackRefusal;
use wasmparser::{ComponentType, FunctionBody, MemoryType, Operator, Parser, Payload, TypeRef};

/// Reads all of `source`. What cannot be parsed was never compiled, so that any answer does.
pub(in super::super) fn admit(source: &[u8]) -> Result<(), RollbackRefusal> {
    for payload in Parser::new(0).parse_all(source) {
        let payload = payload.map_err(|error| unreadable(&error))?;
        look_at(&payload)?;
    }
    Ok(())
}

fn look_at(payload: &Payload<'_>) -> Result<(), RollbackRefusal> {
    match payload {
        Payload::CodeSectionEntry(body) => functions_instructions(body),
        Payload::MemorySection(memories) => {
            memories.clone().into_iter().flatten().try_for_each(|memory| unshared(&memory))
        }
        Payload::ImportSection(imports) => imports
            .clone()
            .into_imports()
            .flatten()
            .filter_map(|import| match import.ty {
                TypeRef::Memory(memory) => Some(memory),
                _ => None,
            })
            .try_for_each(|memory| unshared(&memory)),
        Payload::ComponentTypeSection(types) => {
            let resources = types.clone().into_iter().flatten().any(|ty| matches!(ty, ComponentType::Resource { .. }));
            if resources { Err(RollbackRefusal::OwnResources) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn unshared(memory: &MemoryType) -> Result<(), RollbackRefusal> {
    if memory.shared { Err(RollbackRefusal::SharedMemory) } else { Ok(()) }
}

fn functions_instructions(body: &FunctionBody<'_>) -> Result<(), RollbackRefusal> {
    let mut operators = body.get_operators_reader().map_err(|error| unreadable(&error))?;
    while !operators.eof() {
        let name = match operators.read().map_err(|error| unreadable(&error))? {
            Operator::TableSet { .. } => "table.set",
            Operator::TableFill { .. } => "table.fill",
            Operator::TableCopy { .. } => "table.copy",
            Operator::TableInit { .. } => "table.init",
            Operator::ElemDrop { .. } => "elem.drop",
            Operator::DataDrop { .. } => "data.drop",
            _ => continue,
        };
        return Err(RollbackRefusal::Instruction { name });
    }
    Ok(())
}

fn unreadable(error: &wasmparser::BinaryReaderError) -> RollbackRefusal {
    RollbackRefusal::Unreadable { detail: error.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(core: &str) -> Result<(), RollbackRefusal> {
        admit(&wat::parse_str(format!("(component (core module {core}))")).unwrap())
    }

    #[test]
    fn what_cannot_be_put_back_is_refused_by_name() {
        let instruction = |name| Err(RollbackRefusal::Instruction { name });
        let table = "(table 2 funcref) (elem $e func 0)";
        for (body, name) in [
            ("(table.set (i32.const 0) (ref.func 0))", "table.set"),
            ("(table.fill (i32.const 0) (ref.func 0) (i32.const 1))", "table.fill"),
            ("(table.copy (i32.const 0) (i32.const 1) (i32.const 1))", "table.copy"),
            ("(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))", "table.init"),
            ("(elem.drop $e)", "elem.drop"),
        ] {
            assert_eq!(of(&format!("{table} (func {body})")), instruction(name), "{body}");
        }
        assert_eq!(of("(memory 1) (data $d \"x\") (func (data.drop $d))"), instruction("data.drop"));
        assert_eq!(of("(memory 1 1 shared)"), Err(RollbackRefusal::SharedMemory));
        assert_eq!(of("(import \"a\" \"b\" (memory 1 1 shared))"), Err(RollbackRefusal::SharedMemory));
        let resource = wat::parse_str("(component (component (type (resource (rep i32)))))").unwrap();
        assert_eq!(admit(&resource), Err(RollbackRefusal::OwnResources));
        assert!(matches!(admit(b"\0asm\x0d\0\x01\0rubbish"), Err(RollbackRefusal::Unreadable { .. })));
    }

    #[test]
    fn ordinary_modules_are_admitted() {
        let usual = "(memory 1) (table 1 funcref) (elem (i32.const 0) func 0) (global (mut i32) (i32.const 0))
            (data $d \"x\") (func (global.set 0 (i32.const 1)) (i32.store (i32.const 0) (memory.grow (i32.const 1)))
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))";
        assert_eq!(of(usual), Ok(()));
    }

    #[test]
    fn the_example_components_are_admitted() {
        for path in ["examples/hello/components/hello.wasm", "tests/guests/components/misbehave.wasm"] {
            let source = std::fs::read(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            assert_eq!(admit(&source), Ok(()), "{path}");
        }
    }
}
