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
    ConstExpr, ElementSection, Elements, EntityType, FunctionSection, ImportSection, NameMap, NameSection, TagKind,
    TagType,
};

use self::renumber::{Indices, Renumber};
use self::types::{Types, signature, with_slot};
use self::uses::Uses;
use super::body::{self, Code, Home, Target};
use super::links::{Group, Links, Way};
use super::module::{Module, index_u32};
use super::needs::{Kind, Needs};
use super::refusal::{SplitRefusal, fault};
use super::{COLD_TABLE, ColdGroup, POSITION, PRIMARY, features, primary};

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
            positions: group.positions.iter().map(|(position, _)| *position).collect(),
            functions: group.functions.clone(),
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
        file.section(&types.section()?).section(&imports).section(&functions).section(&self.elements(&indices));
        code.write(&mut file);
        file.section(&self.names(&indices));
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
            import(Kind::Table, *table, EntityType::Table(ty.map_err(fault)?));
        }
        for memory in &needs.memories {
            let ty = RoundtripReencoder.memory_type(module.memories[*memory as usize]);
            import(Kind::Memory, *memory, EntityType::Memory(ty.map_err(fault)?));
        }
        for global in &needs.globals {
            let ty = RoundtripReencoder.global_type(module.globals[*global as usize]);
            import(Kind::Global, *global, EntityType::Global(ty.map_err(fault)?));
        }
        for tag in &needs.tags {
            let func_type_idx = types.intern(signature(module, module.tags[*tag as usize]));
            import(Kind::Tag, *tag, EntityType::Tag(TagType { kind: TagKind::Exception, func_type_idx }));
        }
        if self.uses.says_position {
            // Behind the module's own, as the table of cold functions is.
            imports.import(PRIMARY, POSITION, EntityType::Global(primary::position_global()));
        }
        imports.import(PRIMARY, COLD_TABLE, EntityType::Table(primary::cold_table(self.links)));
        Ok(imports)
    }

    /// The segments that fill the group's slots and positions, and the references that its code takes.
    fn elements(&self, indices: &Indices) -> ElementSection {
        let mut elements = ElementSection::new();
        let own: Vec<u32> = self.group.entries.iter().filter_map(|entry| indices.members.get(entry).copied()).collect();
        let table = index_u32(self.uses.needs.tables.len());
        let offset = ConstExpr::i32_const(self.group.first_slot.cast_signed());
        elements.active(Some(table), &offset, Elements::Functions(own.into()));
        if let Some(entry_table) = &self.links.entry_table {
            let table = indices.table(entry_table.index);
            for (first, members) in runs(&self.group.positions) {
                let members: Vec<u32> = members.iter().filter_map(|f| indices.members.get(f).copied()).collect();
                elements.active(table, &ConstExpr::i32_const(first.cast_signed()), Elements::Functions(members.into()));
            }
        }
        let taken = self.uses.references.iter().filter_map(|function| indices.functions.get(function).copied());
        let taken: Vec<u32> = taken.collect();
        if !taken.is_empty() {
            elements.declared(Elements::Functions(taken.into()));
        }
        elements
    }

    fn code(&self, indices: &Indices) -> Result<Code, SplitRefusal> {
        let mut code = Code::default();
        let home = InGroup { emitter: self, indices };
        for (member, index) in &indices.members {
            if let Some(body) = self.module.body(*member) {
                let renumber = &mut Renumber { indices };
                code.add(*index, body::rewrite((*member, body), self.module, self.links, &home, renumber)?);
            }
        }
        Ok(code)
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

/// The group as the home of its functions.
struct InGroup<'g, 'e, 'a> {
    emitter: &'g Emitter<'e, 'a>,
    indices: &'g Indices,
}

impl Home for InGroup<'_, '_, '_> {
    fn target(&self, callee: u32) -> Result<Target, SplitRefusal> {
        let (emitter, indices) = (self.emitter, self.indices);
        let of = |index: Option<&u32>| index.copied().ok_or_else(|| renumber::missing("function", callee));
        Ok(match emitter.links.way(emitter.module, Some(emitter.number), callee)? {
            Way::Neighbour => Target::Direct(of(indices.members.get(&callee))?),
            Way::Primary => Target::Direct(of(indices.functions.get(&callee))?),
            Way::Dispatch { slot, dispatcher } => {
                Target::Dispatch { slot, dispatcher: of(indices.functions.get(&dispatcher))? }
            }
        })
    }

    /// Behind what is imported of the module's own globals.
    fn position(&self) -> u32 {
        index_u32(self.emitter.uses.needs.globals.len())
    }
}

/// Positions that follow one another, with what stands there: the first position of each run, and its functions.
fn runs(positions: &[(u32, u32)]) -> Vec<(u32, Vec<u32>)> {
    let mut runs: Vec<(u32, Vec<u32>)> = Vec::new();
    for (position, function) in positions {
        match runs.last_mut() {
            Some((first, run)) if *first + index_u32(run.len()) == *position => run.push(*function),
            _ => runs.push((*position, vec![*function])),
        }
    }
    runs
}
