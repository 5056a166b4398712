//! A first look at bytes that claim to be a component, before anything parses them in full.

use forerun_driver::LoadError;
use forerun_types::limits::COMPONENT_BYTES_MAX;
use wasmparser::{Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine::Concurrency;

const MAGIC: &[u8; 4] = b"\0asm";
/// Version 1 of layer 0: a core module.
const CORE_MODULE: &[u8; 4] = &[1, 0, 0, 0];

/// The handler interface a component exports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum World {
    /// `wasi:http/incoming-handler@0.2.x`
    Proxy02,
    /// `wasi:http/handler@0.3.x`
    Service03,
}

impl World {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Proxy02 => "wasi:http/proxy@0.2",
            Self::Service03 => "wasi:http/service@0.3",
        }
    }
}

/// Refuses what is too large, no wasm, or a core module.
pub(super) fn check_header(source: &[u8]) -> Result<(), LoadError> {
    if source.len() > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge { bytes: source.len(), max: COMPONENT_BYTES_MAX });
    }
    match (source.get(..4), source.get(4..8)) {
        (Some(magic), Some(version)) if magic == MAGIC => {
            if version == CORE_MODULE {
                Err(LoadError::CoreModule)
            } else {
                Ok(())
            }
        }
        (Some(magic), None) if magic == MAGIC => {
            Err(LoadError::Malformed { detail: "the file ends inside its header".into() })
        }
        _ => Err(LoadError::NotWasm),
    }
}

/// Whether the component is one of WASI 0.2, which is called by one request at a time. What cannot be read is left to the
/// compiler to complain about.
pub fn is_sequential(source: &[u8]) -> bool {
    concurrency(source) == Concurrency::None
}

/// What the component needs of its engine, from the names of its imports and exports. What cannot be read
/// here is left to the compiler to complain about.
pub(super) fn concurrency(source: &[u8]) -> Concurrency {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(source) {
        let tasks = match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => {
                depth += 1;
                false
            }
            Ok(Payload::End(_)) => {
                depth = depth.saturating_sub(1);
                false
            }
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                section.into_iter().flatten().any(|import| is_of_wasi_03(import.name.name))
            }
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                section.into_iter().flatten().any(|export| is_of_wasi_03(export.name.name))
            }
            Ok(_) => false,
            Err(_) => break,
        };
        if tasks {
            return Concurrency::Tasks;
        }
    }
    Concurrency::None
}

/// Whether the bytes of a component say that it exports `name`.
pub(super) fn exports(source: &[u8], name: &str) -> bool {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(source) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                if section.into_iter().flatten().any(|export| export.name.name == name) {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

fn is_of_wasi_03(name: &str) -> bool {
    name.starts_with("wasi:") && name.contains("@0.3.")
}

/// Which handler the component exports. Where both are there, the newer is used.
pub(super) fn world(engine: &Engine, component: &Component) -> Result<World, LoadError> {
    let mut names: Vec<String> = Vec::new();
    let mut found = None;
    for (name, _) in component.component_type().exports(engine) {
        if name.starts_with("wasi:http/handler@0.3.") {
            found = Some(World::Service03);
        } else if name.starts_with("wasi:http/incoming-handler@0.2.") && found.is_none() {
            found = Some(World::Proxy02);
        }
        if names.len() < 8 {
            names.push(format!("`{}`", name.chars().take(100).collect::<String>()));
        }
    }
    found.ok_or_else(|| LoadError::WrongWorld {
        exports: if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_a_component_needs() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/components");
        let of = |name: &str| concurrency(&std::fs::read(format!("{folder}/{name}.wasm")).unwrap());
        assert_eq!(of("hello"), Concurrency::None);
        assert_eq!(of("hello-p3"), Concurrency::Tasks);
        assert_eq!(concurrency(b"\0asm\x0d\0\x01\0 and rubbish"), Concurrency::None);
        let hello = std::fs::read(format!("{folder}/hello.wasm")).unwrap();
        assert!(!exports(&hello, "forerun:vm/state@0.1.0") && !exports(&hello[..99], "wasi:io/poll@0.2.4"));
        assert!(exports(
            &wat::parse_str("(component (instance $i) (export \"a:b/c\" (instance $i)))").unwrap(),
            "a:b/c"
        ));
    }

    #[test]
    fn names_what_is_no_component() {
        assert_eq!(check_header(b"#!/bin/sh"), Err(LoadError::NotWasm));
        assert_eq!(check_header(b""), Err(LoadError::NotWasm));
        assert_eq!(check_header(b"\0asm\x01\0\0\0"), Err(LoadError::CoreModule));
        assert!(matches!(check_header(b"\0asm\x0d"), Err(LoadError::Malformed { .. })));
        assert_eq!(check_header(b"\0asm\x0d\0\x01\0"), Ok(()));
    }
}
