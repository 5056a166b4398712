//! Names of functions as people write them, and the library that a symbol says it is of.
//!
//! Symbols are a stranger's text: what a demangler makes of one is cut, and so is the work it may do.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use wasmparser::{BinaryReader, CustomSectionReader, KnownCustom, Name};

use crate::passes::layout::{ModuleLayout, module_section};
use crate::passes::prelink::{ORIGINS, read_origins};

/// Longest symbol that is demangled; those of deeply nested generics have a few thousand.
const SYMBOL_BYTES_MAX: usize = 8 << 10;
/// Longest name that is kept; a person reads its beginning.
const NAME_BYTES_MAX: usize = 256;

/// What a module's `name` section says.
#[derive(Default)]
pub(super) struct Names<'a> {
    pub(super) module: Option<&'a str>,
    pub(super) functions: BTreeMap<u32, &'a str>,
    /// Which module functions came from, where several were merged: see [`ORIGINS`].
    pub(super) origins: BTreeMap<u32, &'a str>,
}

impl<'a> Names<'a> {
    /// The module that a function was of before modules were merged.
    pub(super) fn origin(&self, function: u32) -> Option<&'a str> {
        self.origins.range(..=function).next_back().map(|(_, name)| *name)
    }
}

/// The names of a module; those that cannot be read are left out.
pub(super) fn of_module<'a>(module: &ModuleLayout<'a>) -> Names<'a> {
    let mut names = Names::default();
    for section in module.sections.iter().filter(|section| section.id == module_section::CUSTOM) {
        let Ok(custom) = CustomSectionReader::new(BinaryReader::new(section.contents, section.range.start)) else {
            continue;
        };
        if custom.name() == ORIGINS {
            names.origins = read_origins(custom.data());
        }
        let KnownCustom::Name(subsections) = custom.as_known() else { continue };
        for subsection in subsections.into_iter().flatten() {
            match subsection {
                Name::Module { name, .. } => names.module = Some(name),
                Name::Function(functions) => {
                    names.functions.extend(functions.into_iter().flatten().map(|naming| (naming.index, naming.name)));
                }
                _ => {}
            }
        }
    }
    names
}

/// The symbol as its language writes it; itself, if it is not mangled.
pub(super) fn readable(symbol: &str) -> String {
    if symbol.len() > SYMBOL_BYTES_MAX {
        return cut(symbol);
    }
    let mut name = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        // It ends early where the name is full.
        let _ = write!(name, "{rust:#}");
        return name.0;
    }
    if symbol.starts_with("_Z")
        && let Ok(cpp) = cpp_demangle::Symbol::new(symbol)
    {
        let options = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
        let _ = cpp.structured_demangle(&mut name, &options);
        if !name.0.is_empty() {
            return name.0;
        }
    }
    cut(symbol)
}

/// The crate or namespace that a mangled `symbol` with the readable `name` is of.
pub(super) fn library<'a>(symbol: &str, name: &'a str) -> Option<&'a str> {
    if symbol == name {
        return None;
    }
    // `<alloc::vec::Vec<T> as core::ops::Drop>::drop` is of `alloc`, `<T as core::any::Any>::type_id` of `core`.
    name.split(" as ").find_map(first_segment)
}

/// `serde` of `<&mut serde::Deserializer>::x`; `None` if the path has one segment only.
fn first_segment(path: &str) -> Option<&str> {
    let path = path.trim_start_matches(['<', '&', '*', '[', '(', ' ']);
    let path = ["mut ", "const ", "dyn "].iter().fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
    let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
    let (segment, rest) = path.split_at(end);
    (rest.starts_with("::") && !segment.is_empty()).then_some(segment)
}

/// The beginning of a text, without half a letter at its end.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

/// Takes text up to `NAME_BYTES_MAX`, then says that there is an error, which ends whoever writes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = NAME_BYTES_MAX - self.0.len();
        let taken = text.floor_char_boundary(left);
        self.0.push_str(&text[..taken]);
        if taken < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(symbol: &str, name: &str, of: Option<&str>) {
        let found = readable(symbol);
        assert_eq!((found.as_str(), library(symbol, &found)), (name, of), "{symbol}");
    }

    #[test]
    fn symbols_are_read_and_their_library_is_known() {
        check("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad", Some("core"));
        check(
            "_ZN58_$LT$alloc..string..String$u20$as$u20$core..fmt..Write$GT$9write_str17h0123456789abcdefE",
            "<alloc::string::String as core::fmt::Write>::write_str",
            Some("alloc"),
        );
        check(
            "_ZN36_$LT$T$u20$as$u20$core..any..Any$GT$7type_id17h0123456789abcdefE",
            "<T as core::any::Any>::type_id",
            Some("core"),
        );
        check("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function", Some("foo"));
        check("_ZN2js9RunScriptEP9JSContextRNS_8RunStateE", "js::RunScript", Some("js"));
        check("_ZNKSt6vectorIiE4sizeEv", "std::vector<int>::size", Some("std"));
        check("PyObject_Call", "PyObject_Call", None);
        check("", "", None);
        check("_Znonsense", "_Znonsense", None);
        check("cabi_realloc", "cabi_realloc", None);
    }

    #[test]
    fn a_name_is_cut_whatever_a_symbol_expands_to() {
        assert_eq!(cut(&"ä".repeat(200)).len(), 256);
        assert_eq!(readable(&"x".repeat(10_000)).len(), 256);
        // Each substitution doubles what was before it.
        let mut bomb = "_Z1fI1AIiiE".to_owned();
        for substitution in ["S0_", "S1_", "S2_", "S3_", "S4_", "S5_", "S6_", "S7_", "S8_", "S9_"] {
            bomb.push_str(&format!("1AI{substitution}{substitution}E"));
        }
        bomb.push_str("Evv");
        assert!(readable(&bomb).len() <= 256);
    }
}
