//! The operator's switches: how far learning goes, for the node and for single functions.
//!
//! Read at every step of the loop and by whoever shows them; a change takes effect at the next step, which it wakes.
//! The node's own mode is that of the command line after a restart; the functions' modes are kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use forerun_types::{FunctionName, LearningMode};
use parking_lot::RwLock;
use serde::Serialize;

/// The switches as they stand.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Setting {
    /// Of the node: no function goes further.
    pub(crate) mode: LearningMode,
    /// Functions that stay behind it.
    pub(crate) functions: BTreeMap<FunctionName, LearningMode>,
}

/// The switches, shared.
pub(super) struct Switches {
    setting: RwLock<Setting>,
    /// How often they have been set.
    set: AtomicU64,
}

impl Switches {
    pub(super) fn new(mode: LearningMode, functions: BTreeMap<FunctionName, LearningMode>) -> Self {
        Self { setting: RwLock::new(Setting { mode, functions }), set: AtomicU64::new(0) }
    }

    pub(super) fn setting(&self) -> Setting {
        self.setting.read().clone()
    }

    pub(super) fn mode(&self) -> LearningMode {
        self.setting.read().mode
    }

    /// How far learning goes for one function.
    pub(super) fn of(&self, function: &FunctionName) -> LearningMode {
        let setting = self.setting.read();
        setting.functions.get(function).map_or(setting.mode, |own| setting.mode.min(*own))
    }

    pub(super) fn set_mode(&self, mode: LearningMode) {
        self.setting.write().mode = mode;
        self.set.fetch_add(1, Ordering::Release);
    }

    /// `Full` is what a function has that was never set: it goes as far as the node.
    pub(super) fn set_function(&self, function: FunctionName, mode: LearningMode) {
        let mut setting = self.setting.write();
        match mode {
            LearningMode::Full => setting.functions.remove(&function),
            LearningMode::Off | LearningMode::Observe | LearningMode::Images => {
                setting.functions.insert(function, mode)
            }
        };
        drop(setting);
        self.set.fetch_add(1, Ordering::Release);
    }

    /// A number that is another one after each change.
    pub(super) fn set_count(&self) -> u64 {
        self.set.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_goes_no_further_than_the_node_and_than_itself() {
        let switches = Switches::new(LearningMode::Full, BTreeMap::new());
        let cart: FunctionName = "cart".parse().unwrap();
        assert_eq!(switches.of(&cart), LearningMode::Full);
        switches.set_function(cart.clone(), LearningMode::Observe);
        assert_eq!(switches.of(&cart), LearningMode::Observe);
        switches.set_mode(LearningMode::Off);
        assert_eq!(switches.of(&cart), LearningMode::Off);
        switches.set_mode(LearningMode::Full);
        switches.set_function(cart.clone(), LearningMode::Full);
        assert_eq!(switches.of(&cart), LearningMode::Full);
        assert!(switches.setting().functions.is_empty());
    }
}
