//! A core module: what is in it, and the same with more at the end of some of its sections.

use wasm_encoder::Encode;
use wasmparser::{
    BinaryReader, CompositeInnerType, Export, ExternalKind, FunctionBody, Global, GlobalType, Imports, MemoryType,
    RecGroup, Table, TypeRef,
};

use super::Unsupported;
use super::sections::{RawSection, append_items, header, read_sections, write_section};

/// The numbers of a module's sections.
pub(crate) mod section_id {
    pub(crate) const CUSTOM: u8 = 0;
    pub(crate) const TYPE: u8 = 1;
    pub(crate) const IMPORT: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const TABLE: u8 = 4;
    pub(crate) const MEMORY: u8 = 5;
    pub(crate) const GLOBAL: u8 = 6;
    pub(crate) const EXPORT: u8 = 7;
    pub(crate) const START: u8 = 8;
    pub(crate) const ELEMENT: u8 = 9;
    pub(crate) const CODE: u8 = 10;
    pub(crate) const DATA: u8 = 11;
    pub(crate) const DATA_COUNT: u8 = 12;
    pub(crate) const TAG: u8 = 13;
}

/// The order in which they must come.
const ORDER: [u8; 13] = [
    section_id::TYPE,
    section_id::IMPORT,
    section_id::FUNCTION,
    section_id::TABLE,
    section_id::MEMORY,
    section_id::TAG,
    section_id::GLOBAL,
    section_id::EXPORT,
    section_id::START,
    section_id::ELEMENT,
    section_id::DATA_COUNT,
    section_id::CODE,
    section_id::DATA,
];

/// How many of each there are, imported ones included, which is the index of the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ModuleCounts {
    pub(crate) types: u32,
    pub(crate) functions_imported: u32,
    pub(crate) functions: u32,
    pub(crate) tables: u32,
    pub(crate) memories_imported: u32,
    pub(crate) memories: u32,
    pub(crate) globals_imported: u32,
    pub(crate) globals: u32,
}

/// What was read of a valid core module.
#[derive(Debug)]
pub(crate) struct ModuleLayout<'a> {
    bytes: &'a [u8],
    pub(crate) sections: Vec<RawSection<'a>>,
    pub(crate) counts: ModuleCounts,
    /// Of the memories, whether imported or defined.
    pub(crate) memories: Vec<MemoryType>,
    /// Of the globals that are defined here; the first has index `counts.globals_imported`.
    pub(crate) globals_defined: Vec<GlobalType>,
    /// Whether a type is a structure, an array or a continuation.
    pub(crate) has_types_beyond_functions: bool,
    pub(crate) has_tags: bool,
    export_names: Vec<&'a str>,
}

/// What is put at the ends of a module's sections, encoded, with how many there are of each.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    items: [(u32, Vec<u8>); ORDER.len()],
    /// The contents of the code section before anything is added, if bodies were changed.
    bodies_changed: Option<Vec<u8>>,
    /// A custom section, header included, that must come directly before the code.
    before_code: Vec<u8>,
}

impl<'a> ModuleLayout<'a> {
    /// Reads a module out of a component that was found valid.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Unsupported> {
        let sections = read_sections(bytes)?;
        let mut layout = Self {
            bytes,
            sections: Vec::new(),
            counts: ModuleCounts::default(),
            memories: Vec::new(),
            globals_defined: Vec::new(),
            has_types_beyond_functions: false,
            has_tags: false,
            export_names: Vec::new(),
        };
        for section in &sections {
            layout.read_section(section)?;
        }
        layout.sections = sections;
        Ok(layout)
    }

    /// Refuses a module that exports `name` itself.
    pub(crate) fn require_free(&self, name: &'static str) -> Result<(), Unsupported> {
        if self.exports_name(name) {
            return Err(Unsupported::NameTaken { name });
        }
        Ok(())
    }

    pub(crate) fn exports_name(&self, name: &str) -> bool {
        self.export_names.contains(&name)
    }

    pub(crate) fn section(&self, id: u8) -> Option<&RawSection<'a>> {
        self.sections.iter().find(|section| section.id == id)
    }

    /// The bodies of the defined functions, in order.
    pub(crate) fn bodies(&self) -> Result<Vec<FunctionBody<'a>>, Unsupported> {
        let Some(section) = self.section(section_id::CODE) else {
            return Ok(Vec::new());
        };
        section.items::<FunctionBody<'_>>()?.into_iter().map(|body| Ok(body?)).collect()
    }

    pub(crate) fn exports(&self) -> Result<Vec<Export<'a>>, Unsupported> {
        let Some(section) = self.section(section_id::EXPORT) else {
            return Ok(Vec::new());
        };
        section.items::<Export<'_>>()?.into_iter().map(|export| Ok(export?)).collect()
    }

    /// The module with `additions`.
    pub(crate) fn with(&self, additions: &Additions) -> Result<Vec<u8>, Unsupported> {
        let mut output = Vec::with_capacity(self.bytes.len() + additions.encoded_bytes());
        output.extend_from_slice(header(self.bytes));
        let mut next = 0;
        for section in &self.sections {
            if section.id == section_id::CUSTOM {
                if additions.bodies_changed.is_none() || !has_code_offsets(section)? {
                    write_section(&mut output, section.id, section.contents);
                }
                continue;
            }
            // Validation has let no other number through.
            let place = ORDER.iter().position(|id| *id == section.id).unwrap_or(ORDER.len() - 1);
            self.write_new_sections(&mut output, next..place, additions)?;
            if section.id == section_id::CODE {
                output.extend_from_slice(&additions.before_code);
            }
            let contents = match &additions.bodies_changed {
                Some(bodies) if section.id == section_id::CODE => bodies,
                _ => section.contents,
            };
            self.write_grown_section(&mut output, place, Some(contents), additions)?;
            next = place + 1;
        }
        self.write_new_sections(&mut output, next..ORDER.len(), additions)?;
        Ok(output)
    }

    fn write_new_sections(
        &self,
        output: &mut Vec<u8>,
        places: std::ops::Range<usize>,
        additions: &Additions,
    ) -> Result<(), Unsupported> {
        for place in places {
            if additions.items[place].0 > 0 {
                self.write_grown_section(output, place, None, additions)?;
            }
        }
        Ok(())
    }

    fn write_grown_section(
        &self,
        output: &mut Vec<u8>,
        place: usize,
        before: Option<&[u8]>,
        additions: &Additions,
    ) -> Result<(), Unsupported> {
        let (items, encoded) = &additions.items[place];
        match before {
            Some(contents) if *items == 0 => write_section(output, ORDER[place], contents),
            _ => write_section(output, ORDER[place], &append_items(before, *items, encoded)?),
        }
        Ok(())
    }

    fn read_section(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        match section.id {
            section_id::TYPE => self.read_types(section)?,
            section_id::IMPORT => self.read_imports(section)?,
            section_id::FUNCTION => self.counts.functions += section.items::<u32>()?.count(),
            section_id::TABLE => self.counts.tables += section.items::<Table<'_>>()?.count(),
            section_id::MEMORY => {
                for memory in section.items::<MemoryType>()? {
                    self.memories.push(memory?);
                    self.counts.memories += 1;
                }
            }
            section_id::TAG => self.has_tags = true,
            section_id::GLOBAL => {
                for global in section.items::<Global<'_>>()? {
                    self.globals_defined.push(global?.ty);
                    self.counts.globals += 1;
                }
            }
            section_id::EXPORT => {
                for export in section.items::<Export<'_>>()? {
                    self.export_names.push(export?.name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_types(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        for group in section.items::<RecGroup>()? {
            for ty in group?.into_types() {
                self.counts.types += 1;
                let is_function = matches!(ty.composite_type.inner, CompositeInnerType::Func(_));
                self.has_types_beyond_functions |= !is_function;
            }
        }
        Ok(())
    }

    fn read_imports(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        for import in section.items::<Imports<'_>>()?.into_imports() {
            match import?.ty {
                TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                    self.counts.functions += 1;
                    self.counts.functions_imported += 1;
                }
                TypeRef::Table(_) => self.counts.tables += 1,
                TypeRef::Memory(memory) => {
                    self.memories.push(memory);
                    self.counts.memories += 1;
                    self.counts.memories_imported += 1;
                }
                TypeRef::Global(_) => {
                    self.counts.globals += 1;
                    self.counts.globals_imported += 1;
                }
                TypeRef::Tag(_) => self.has_tags = true,
            }
        }
        Ok(())
    }
}

impl Additions {
    /// One more item for the section `id`, as the section has it.
    pub(crate) fn add(&mut self, id: u8, item: &impl Encode) {
        let place = ORDER.iter().position(|known| *known == id).expect("only the numbers above are used");
        let (items, encoded) = &mut self.items[place];
        *items += 1;
        item.encode(encoded);
    }

    /// One more export.
    pub(crate) fn add_export(&mut self, name: &str, kind: wasm_encoder::ExportKind, index: u32) {
        let mut encoded = Vec::new();
        name.encode(&mut encoded);
        kind.encode(&mut encoded);
        index.encode(&mut encoded);
        self.add(section_id::EXPORT, &Raw(&encoded));
    }

    /// Puts `bodies`, as many as there were, in the place of the functions' bodies.
    pub(crate) fn change_bodies(&mut self, bodies: Vec<u8>) {
        self.bodies_changed = Some(bodies);
    }

    /// Hints for the branches of changed bodies, in the place of those of the bodies before.
    pub(crate) fn hint_branches(&mut self, hints: &wasm_encoder::BranchHints) {
        use wasm_encoder::Section;
        hints.append_to(&mut self.before_code);
    }

    fn encoded_bytes(&self) -> usize {
        let changed = self.bodies_changed.as_ref().map_or(0, Vec::len);
        self.items.iter().map(|(_, encoded)| encoded.len()).sum::<usize>() + changed + self.before_code.len()
    }
}

/// Whether a custom section speaks of places in code that are elsewhere once bodies have changed: hints for the
/// compiler, which would then be wrong, and debug information.
fn has_code_offsets(section: &RawSection<'_>) -> Result<bool, Unsupported> {
    let name = BinaryReader::new(section.contents, section.range.start).read_string()?;
    Ok(name.starts_with("metadata.code.") || name.starts_with(".debug_") || name == "sourceMappingURL")
}

/// Bytes that are an item already.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Encode for Raw<'_> {
    fn encode(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(self.0);
    }
}

/// What an export of a function is, in both of its spellings.
pub(crate) fn is_function(kind: ExternalKind) -> bool {
    matches!(kind, ExternalKind::Func | ExternalKind::FuncExact)
}
