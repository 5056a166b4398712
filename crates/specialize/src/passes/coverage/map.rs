//! What each byte of a twin's coverage stands for: a function's key, its name, its library, its module.
//!
//! The map is made beside the twin, by the same pass, and read where the coverage is: it travels as JSON. It does not
//! know how often a function ran; that is learnt elsewhere, by key.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wasmparser::FunctionBody;

use super::body_hash::body_hashes;
use super::names;
use super::{FUNCTIONS_MAX, MODULES_MAX};
use crate::passes::layout::{ModuleLayout, Unsupported};

/// Largest map that is read: names are cut, so that the largest component's is below this.
const MAP_BYTES_MAX: usize = 256 << 20;

/// Names a function by what it does, so that it is found again in another revision or another component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BodyHash(pub [u8; 16]);

/// The functions of a component, in the order of the bytes that its twin gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageMap {
    /// The core modules which they are in.
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
    /// Its key. No two functions of a component have the same.
    pub hash: BodyHash,
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
        let in_bounds = map.functions.len() <= FUNCTIONS_MAX && map.modules.len() <= MODULES_MAX;
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
        module: &ModuleLayout<'_>,
        bodies: &[FunctionBody<'_>],
        outer_name: Option<&str>,
    ) -> Result<(), Unsupported> {
        // Bounded by `MODULES_MAX` before the map is given away.
        let number = u32::try_from(self.map.modules.len()).unwrap_or(u32::MAX);
        let names = names::of_module(module);
        let module_name = outer_name.or(names.module).map_or_else(|| format!("module[{number}]"), names::cut);
        let hashes = body_hashes(module, bodies)?;
        for ((body, hash), index) in bodies.iter().zip(hashes).zip(module.counts.functions_imported..) {
            let symbol = names.functions.get(&index).copied();
            let name = symbol.map_or_else(|| format!("func[{index}]"), names::readable);
            let library = names::library(symbol.unwrap_or_default(), &name);
            let hash = self.unique(hash);
            self.map.functions.push(CoveredFunction {
                hash,
                library: library.unwrap_or(&module_name).to_owned(),
                name,
                module: number,
                index,
                code_bytes: u32::try_from(body.as_bytes().len()).unwrap_or(u32::MAX),
            });
        }
        self.map.modules.push(CoveredModule { name: module_name });
        Ok(())
    }

    /// Functions that do the same are told apart by their order, which another revision mostly keeps.
    fn unique(&mut self, hash: BodyHash) -> BodyHash {
        let before = self.seen.entry(hash).or_insert(0);
        *before += 1;
        match *before - 1 {
            0 => hash,
            earlier => BodyHash::of(&[&hash.0[..], &earlier.to_le_bytes()].concat()),
        }
    }
}

impl BodyHash {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self(hash)
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<BodyHash> for String {
    fn from(hash: BodyHash) -> Self {
        hash.to_string()
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body hash has 32 hexadecimal digits")]
pub struct NoBodyHash;

impl FromStr for BodyHash {
    type Err = NoBodyHash;

    fn from_str(text: &str) -> Result<Self, NoBodyHash> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoBodyHash);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NoBodyHash)
    }
}

impl TryFrom<String> for BodyHash {
    type Error = NoBodyHash;

    fn try_from(text: String) -> Result<Self, NoBodyHash> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_as_it_was_written() {
        let hash = BodyHash::of(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "00", &"g".repeat(32), "+0000000000000000000000000000000", &"0".repeat(33)] {
            assert_eq!(wrong.parse::<BodyHash>(), Err(NoBodyHash), "{wrong}");
        }
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let mut map = CoverageMap { modules: vec![CoveredModule { name: "m".into() }], functions: Vec::new() };
        assert_eq!(CoverageMap::decode(&map.encode()), Ok(map.clone()));
        map.functions.push(CoveredFunction {
            hash: BodyHash::default(),
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
