//! What each byte of a twin's coverage stands for: a function's key, its name, its library, its module.
//!
//! The map is made beside the twin, by the same pass, and read where the coverage is: it travels as JSON. It does not
//! know how often a function ran; that is learnt elsewhere, by key.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use wasmparser::FunctionBody;

use super::names;
use super::{FUNCTIONS_MAX, MODULES_MAX};
use crate::passes::body_hash::{BodyHash, BodyHashError, body_hashes};
use crate::passes::layout::{ModuleLayout, Unsupported};

/// Largest map that is read: names are cut, so that the largest component's is below this.
const MAP_BYTES_MAX: usize = 256 << 20;

/// Modules that were merged into others before, told apart; Python with its libraries has 14.
const ORIGINS_MAX: usize = 256;

/// The functions of a component, in the order of the bytes that its twin gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageMap {
    /// The core modules which they are in, and those which they were in before modules were merged.
    pub modules: Vec<CoveredModule>,
    /// One for each byte.
    pub functions: Vec<CoveredFunction>,
}

/// A core module with functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredModule {
    /// What the component or the module itself calls it.
    pub name: String,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredFunction {
    /// Its key: [`body`](Self::body), numbered where several have the same. No two functions of a component have one key.
    pub hash: BodyHash,
    /// The hash of its body, by which it is found again in another revision, another component, or after another pass.
    pub body: BodyHash,
    /// Its name, demangled; `func[7]` if it has none.
    pub name: String,
    /// The library which its symbol says it is of: a crate or a namespace; else the module's name.
    pub library: String,
    /// Number of its module in the map.
    pub module: u32,
    /// Index of the function in its module.
    pub index: u32,
    /// Size of its body.
    pub code_bytes: u32,
}

/// Why bytes are no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// More bytes than a map can have.
    #[error("the map has {bytes} bytes, at most {bytes_max} are read")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// No JSON, or of another shape.
    #[error("the map cannot be read: {reason}")]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// More than a pass would make, or a module that is not there.
    #[error("the map contradicts itself")]
    Inconsistent,
}

impl CoverageMap {
    /// The map as bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are always JSON")
    }

    /// Reads what [`Self::encode`] made.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MapError> {
        if bytes.len() > MAP_BYTES_MAX {
            return Err(MapError::TooLarge { bytes: bytes.len(), bytes_max: MAP_BYTES_MAX });
        }
        let map: Self =
            serde_json::from_slice(bytes).map_err(|error| MapError::Malformed { reason: error.to_string() })?;
        let in_bounds = map.functions.len() <= FUNCTIONS_MAX && map.modules.len() <= MODULES_MAX + ORIGINS_MAX;
        let modules = map.modules.len();
        if in_bounds && map.functions.iter().all(|function| (function.module as usize) < modules) {
            Ok(map)
        } else {
            Err(MapError::Inconsistent)
        }
    }
}

/// Makes a map module by module, and sees to it that no key comes twice.
#[derive(Default)]
pub(super) struct MapMaker {
    map: CoverageMap,
    /// How many functions had a key so far.
    seen: HashMap<BodyHash, u32>,
}

impl MapMaker {
    pub(super) fn functions(&self) -> usize {
        self.map.functions.len()
    }

    pub(super) fn finish(self) -> CoverageMap {
        self.map
    }

    /// Adds a module's functions, which the component calls `outer_name`.
    pub(super) fn add_module(
        &mut self,
        bytes: &[u8],
        module: &ModuleLayout<'_>,
        bodies: &[FunctionBody<'_>],
        outer_name: Option<&str>,
    ) -> Result<(), Unsupported> {
        let names = names::of_module(module);
        let number = self.module_number();
        let module_name = outer_name.or(names.module).map_or_else(|| format!("module[{number}]"), names::cut);
        self.map.modules.push(CoveredModule { name: module_name });
        let mut origins = HashMap::new();
        let hashes = body_hashes(bytes).map_err(unreadable)?;
        for ((body, hash), index) in bodies.iter().zip(hashes).zip(module.counts.functions_imported..) {
            let symbol = names.functions.get(&index).copied();
            let name = symbol.map_or_else(|| format!("func[{index}]"), names::readable);
            let library = names::library(symbol.unwrap_or_default(), &name);
            let number = match names.origin(index) {
                Some(origin) => *origins.entry(origin).or_insert_with(|| self.add_origin(origin, number)),
                None => number,
            };
            let library = library.unwrap_or(&self.map.modules[number as usize].name).to_owned();
            let key = self.unique(hash);
            self.map.functions.push(CoveredFunction {
                hash: key,
                body: hash,
                library,
                name,
                module: number,
                index,
                code_bytes: u32::try_from(body.as_bytes().len()).unwrap_or(u32::MAX),
            });
        }
        Ok(())
    }

    /// The number of the next module.
    fn module_number(&self) -> u32 {
        // Bounded by `MODULES_MAX` before the map is given away.
        u32::try_from(self.map.modules.len()).unwrap_or(u32::MAX)
    }

    /// The number of a module that was merged into the module `whole`, which stands for those that are too many.
    fn add_origin(&mut self, name: &str, whole: u32) -> u32 {
        if self.map.modules.len() >= ORIGINS_MAX {
            return whole;
        }
        let number = self.module_number();
        self.map.modules.push(CoveredModule { name: names::cut(name) });
        number
    }

    /// Functions that do the same are told apart by their order, which another revision mostly keeps.
    fn unique(&mut self, hash: BodyHash) -> BodyHash {
        let before = self.seen.entry(hash).or_insert(0);
        *before += 1;
        hash.numbered(*before - 1)
    }
}

fn unreadable(error: BodyHashError) -> Unsupported {
    match error {
        BodyHashError::Malformed(error) => error.into(),
        BodyHashError::Unreadable(reason) => Unsupported::Invalid { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let mut map = CoverageMap { modules: vec![CoveredModule { name: "m".into() }], functions: Vec::new() };
        assert_eq!(CoverageMap::decode(&map.encode()), Ok(map.clone()));
        map.functions.push(CoveredFunction {
            hash: BodyHash::default(),
            body: BodyHash::default(),
            name: "f".into(),
            library: "m".into(),
            module: 1,
            index: 0,
            code_bytes: 2,
        });
        assert_eq!(CoverageMap::decode(&map.encode()), Err(MapError::Inconsistent));
        assert!(matches!(CoverageMap::decode(b"{"), Err(MapError::Malformed { .. })));
    }
}
