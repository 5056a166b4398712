//! What is known of a component's requests, and what shall be made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::module::{Module, index_u32};
use super::refusal::SplitRefusal;
use super::whole::Whole;
use crate::passes::body_hash::{BodyHash, body_hashes};

/// Functions of a group: enough that the fixed cost of a module (some milliseconds of compiling, tens of microseconds
/// of instantiating) is shared, few enough that a missed group is compiled in about a tenth of a second.
pub(super) const GROUP_FUNCTIONS_MAX: usize = 150;
/// Bytes of code in a group, unless one function has more; bounds what one miss costs.
pub(super) const GROUP_CODE_BYTES_MAX: usize = 128 << 10;

/// What is known of a component's functions: how many of a thousand requests run them. Functions that are not named
/// are held for cold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// By index in the function index space of the largest core module; for this component only.
    ByIndex(BTreeMap<u32, u16>),
    /// By [`body_hashes`]: what was learnt of another revision, or of another component with the same runtime.
    ByBody(BTreeMap<BodyHash, u16>),
}

impl Known {
    /// The same by index, as the functions that are known stand in `component`: for what a pass makes of it that changes bodies
    /// and leaves functions where they are, as `state` and `interrupt` do.
    ///
    /// # Errors
    /// Why it would not be split, or that none of them is in it.
    pub fn in_component(self, component: &[u8]) -> Result<Self, SplitRefusal> {
        let Self::ByBody(by_body) = self else { return Ok(self) };
        let whole = Whole::read(component)?;
        let by_index = found(&by_body, &Module::read(whole.main_module())?)?;
        if by_index.is_empty() && !by_body.is_empty() {
            return Err(SplitRefusal::NoneKnown(by_body.len()));
        }
        Ok(Self::ByIndex(by_index))
    }
}

/// The functions of `module` whose bodies are known, by index.
fn found(by_body: &BTreeMap<BodyHash, u16>, module: &Module<'_>) -> Result<BTreeMap<u32, u16>, SplitRefusal> {
    let hashes = body_hashes(module.bytes).map_err(|error| SplitRefusal::Malformed(error.to_string()))?;
    let with_index = (index_u32(module.imported)..).zip(hashes);
    Ok(with_index.filter_map(|(index, hash)| Some((index, *by_body.get(&hash)?))).collect())
}

/// How to split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlan {
    /// What is known.
    pub known: Known,
    /// A function is hot if at least so many of a thousand requests run it; 0 is taken for 1.
    pub hot_permille_min: u16,
    /// Functions of a group at most, at least 1.
    pub group_functions_max: usize,
    /// Bytes of code of a group at most; a function that is larger gets a group of its own.
    pub group_code_bytes_max: usize,
}

impl SplitPlan {
    /// A plan with groups of the usual size.
    pub fn new(known: Known, hot_permille_min: u16) -> Self {
        Self {
            known,
            hot_permille_min,
            group_functions_max: GROUP_FUNCTIONS_MAX,
            group_code_bytes_max: GROUP_CODE_BYTES_MAX,
        }
    }

    /// The probability of each function of `module`, in permille, by index; imported functions have none.
    pub(super) fn probabilities(&self, module: &Module<'_>) -> Result<Vec<u16>, SplitRefusal> {
        let mut probabilities = vec![0; module.functions()];
        let (known, by_index) = match &self.known {
            Known::ByIndex(known) => (known.len(), Cow::Borrowed(known)),
            Known::ByBody(known) => (known.len(), Cow::Owned(found(known, module)?)),
        };
        for (index, permille) in &*by_index {
            if let Some(probability) = probabilities.get_mut(*index as usize) {
                *probability = *permille;
            }
        }
        // Knowing nothing is one thing, knowing only other functions another: that is somebody else's profile.
        if known > 0 && probabilities.iter().all(|probability| *probability == 0) {
            return Err(SplitRefusal::NoneKnown(known));
        }
        Ok(probabilities)
    }
}
