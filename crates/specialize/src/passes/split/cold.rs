//! Cold groups as core modules.
//!
//! A group imports what its functions use of the primary, and nothing else: every import costs at each miss, and a
//! module compiles an entry for each of its types. Its own functions it calls directly, hot ones through imports,
//! cold ones of other groups through their dispatcher.

mod renumber;
mod types;
mod uses;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, EntityType, FunctionSection, ImportSection, Instruction, NameMap,
    NameSection, TagKind, TagType,
};
use wasmparser::Operator;

use self::renumber::{Indices, Renumber};
use self::types::{Types, signature, with_slot};
use self::uses::Uses;
use super::links::{Group, Links, Way};
use super::module::{Module, index_u32};
use super::needs::{Kind, Needs};
use super::refusal::SplitRefusal;
use super::{COLD_TABLE, ColdGroup, PRIMARY, features, primary};

/// The module of every group; what they import is added to `needs`.
pub(super) fn emit_all(module: &Module<'_>, links: &Links, needs: &mut Needs) -> Result<Vec<ColdGroup>, SplitRefusal> {
    let mut groups = Vec::with_capacity(links.groups.len());
    for (number, group) in (0..).zip(&links.groups) {
        let uses = Uses::of(module, links, number, &group.functions)?;
        let emitter = Emitter { module, links, number, group, uses: &uses };
        let bytes = emitter.emit()?;
        features::validate_output(&format!("group {number}"), &bytes)?;
        needs.extend(&uses.needs);
        let size = |function: &u32| module.body(*function).map_or(0, |body| body.size_bytes() as u64);
        groups.push(ColdGroup {
            module: bytes,
            first_slot: group.first_slot,
            entries: group.entries.clone(),
            functions: index_u32(group.functions.len()),
            code_bytes: group.functions.iter().map(size).sum(),
        });
    }
    Ok(groups)
}

struct Emitter<'e, 'a> {
    module: &'e Module<'a>,
    links: &'e Links,
    number: u32,
    group: &'e Group,
    uses: &'e Uses,
}

impl Emitter<'_, '_> {
    fn emit(&self) -> Result<Vec<u8>, SplitRefusal> {
        let mut types = Types::default();
        let indices = Indices::new(self.module, self.uses, &self.group.functions, &mut types);
        let imports = self.imports(&mut types)?;
        let mut functions = FunctionSection::new();
        for member in &self.group.functions {
            functions.function(types.intern(signature(self.module, self.module.type_index(*member))));
        }
        let code = self.code(&indices)?;
        let mut file = wasm_encoder::Module::new();
        file.section(&types.section()?)
            .section(&imports)
            .section(&functions)
            .section(&self.elements(&indices))
            .section(&code)
            .section(&self.names(&indices));
        Ok(file.finish())
    }

    fn imports(&self, types: &mut Types) -> Result<ImportSection, SplitRefusal> {
        let (module, needs) = (self.module, &self.uses.needs);
        let mut imports = ImportSection::new();
        let mut import = |kind: Kind, index: u32, ty: EntityType| {
            imports.import(PRIMARY, &kind.export_name(index), ty);
        };
        for function in &needs.functions {
            let signature = match self.links.dispatched_type(*function) {
                Some(ty) => with_slot(&signature(module, ty)),
                None => signature(module, module.type_index(*function)),
            };
            import(Kind::Function, *function, EntityType::Function(types.intern(signature)));
        }
        for table in &needs.tables {
            let ty = RoundtripReencoder.table_type(module.tables[*table as usize]);
            import(Kind::Table, *table, EntityType::Table(ty.map_err(renumber::fault)?));
        }
        for memory in &needs.memories {
            let ty = RoundtripReencoder.memory_type(module.memories[*memory as usize]);
            import(Kind::Memory, *memory, EntityType::Memory(ty.map_err(renumber::fault)?));
        }
        for global in &needs.globals {
            let ty = RoundtripReencoder.global_type(module.globals[*global as usize]);
            import(Kind::Global, *global, EntityType::Global(ty.map_err(renumber::fault)?));
        }
        for tag in &needs.tags {
            let func_type_idx = types.intern(signature(module, module.tags[*tag as usize]));
            import(Kind::Tag, *tag, EntityType::Tag(TagType { kind: TagKind::Exception, func_type_idx }));
        }
        // Behind the module's own tables, which are numbered as if it were not there.
        imports.import(PRIMARY, COLD_TABLE, EntityType::Table(primary::cold_table(self.links)));
        Ok(imports)
    }

    /// The segment that fills the group's slots, and the references that its code takes.
    fn elements(&self, indices: &Indices) -> ElementSection {
        let mut elements = ElementSection::new();
        let own: Vec<u32> = self.group.entries.iter().filter_map(|entry| indices.members.get(entry).copied()).collect();
        let table = index_u32(self.uses.needs.tables.len());
        let offset = ConstExpr::i32_const(self.group.first_slot.cast_signed());
        elements.active(Some(table), &offset, Elements::Functions(own.into()));
        let taken = self.uses.references.iter().filter_map(|function| indices.functions.get(function).copied());
        let taken: Vec<u32> = taken.collect();
        if !taken.is_empty() {
            elements.declared(Elements::Functions(taken.into()));
        }
        elements
    }

    fn code(&self, indices: &Indices) -> Result<CodeSection, SplitRefusal> {
        let mut code = CodeSection::new();
        for body in self.group.functions.iter().filter_map(|member| self.module.body(*member)) {
            let mut renumber = Renumber { indices };
            let mut function = renumber.new_function_with_parsed_locals(&body.raw).map_err(renumber::fault)?;
            let mut operators = body.raw.get_operators_reader()?;
            while !operators.eof() {
                match operators.read()? {
                    Operator::Call { function_index } => {
                        let target = self.target(indices, function_index, &mut function)?;
                        function.instruction(&Instruction::Call(target));
                    }
                    Operator::ReturnCall { function_index } => {
                        let target = self.target(indices, function_index, &mut function)?;
                        function.instruction(&Instruction::ReturnCall(target));
                    }
                    operator => {
                        function.instruction(&renumber.instruction(operator).map_err(renumber::fault)?);
                    }
                }
            }
            code.function(&function);
        }
        Ok(code)
    }

    /// The index to call for `callee`; the slot is pushed before if that is a dispatcher.
    fn target(
        &self,
        indices: &Indices,
        callee: u32,
        function: &mut wasm_encoder::Function,
    ) -> Result<u32, SplitRefusal> {
        let index = match self.links.way(self.module, self.number, callee)? {
            Way::Neighbour => indices.members.get(&callee),
            Way::Primary => indices.functions.get(&callee),
            Way::Dispatch { slot, dispatcher } => {
                function.instruction(&Instruction::I32Const(slot.cast_signed()));
                indices.functions.get(&dispatcher)
            }
        };
        index.copied().ok_or_else(|| renumber::missing("function", callee))
    }

    fn names(&self, indices: &Indices) -> NameSection {
        let mut functions = NameMap::new();
        for (original, index) in indices.functions.iter().chain(&indices.members) {
            if let Some(name) = self.module.names.get(original) {
                functions.append(*index, name);
            }
        }
        let mut names = NameSection::new();
        names.module(&format!("cold-{}", self.number));
        names.functions(&functions);
        names
    }
}
