//! What became of a component, in numbers.

use super::entry_table::NoEntryTable;
use super::hot::{Temperature, Why};
use super::links::Links;
use super::module::{Module, index_u32};
use super::needs::Needs;
use super::whole::{Pins, Whole};

/// Counts of functions, and bytes of their bodies as wasm.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SplitReport {
    /// Functions that the main module defines.
    pub functions: u32,
    /// Those that stay because requests run them.
    pub probable: u32,
    /// Those that stay because they may run before the component is complete, or are entered by its host or its other modules.
    pub pinned: u32,
    /// Those that stay because a stub would be no smaller.
    pub tiny: u32,
    /// Those that went into groups.
    pub cold: u32,
    /// Those that nothing can call; they are dropped.
    pub dead: u32,
    /// Cold functions that the primary refers to.
    pub stubs: u32,
    /// Cold functions that are entered from outside their group.
    pub slots: u32,
    /// Dispatchers: distinct types of those.
    pub dispatchers: u32,
    /// Positions of the module's own table at which cold functions stand.
    pub positions: u32,
    /// Distinct types of those: each has one entry in the primary, in place of a stub for each function.
    pub entries: u32,
    /// Why cold functions in tables have stubs instead.
    pub no_entry_table: Option<NoEntryTable>,
    /// What the primary exports for its groups.
    pub exports: u32,
    /// Bytes of bodies that stay.
    pub hot_code_bytes: u64,
    /// Bytes of bodies in groups.
    pub cold_code_bytes: u64,
    /// Bytes of bodies that were dropped.
    pub dead_code_bytes: u64,
    /// Bytes of code in other modules of the component, which stays.
    pub other_code_bytes: u64,
    /// Functions that are entered before the component is complete, or by its host or its other modules: the roots of the pinned
    /// ones.
    pub pins: u32,
    /// Calls through tables in what may run before the component is complete: where those lead was not followed.
    pub pinned_indirect_calls: u32,
}

impl SplitReport {
    pub(super) fn new(
        whole: &Whole<'_>,
        module: &Module<'_>,
        temperature: &[Temperature],
        links: &Links,
        needs: &Needs,
        pins: &Pins,
    ) -> Self {
        let mut report = Self {
            functions: index_u32(module.bodies.len()),
            stubs: index_u32(links.stubs.len()),
            slots: links.slots,
            dispatchers: index_u32(links.dispatched.len()),
            positions: index_u32(links.groups.iter().map(|group| group.positions.len()).sum()),
            entries: index_u32(links.entered.len()),
            exports: index_u32(needs.len() + 1 + usize::from(links.entry_table.is_some())),
            other_code_bytes: whole.other_code_bytes(),
            pins: index_u32(pins.early.union(&pins.entered).count()),
            ..Self::default()
        };
        for (function, body) in module.defined() {
            let bytes = body.size_bytes() as u64;
            match temperature[function as usize] {
                Temperature::Hot(why) => {
                    report.hot_code_bytes += bytes;
                    match why {
                        Why::Imported => {}
                        Why::Pinned => {
                            report.pinned += 1;
                            report.pinned_indirect_calls += index_u32(body.indirect_calls.len());
                        }
                        Why::Entered => report.pinned += 1,
                        Why::Probable => report.probable += 1,
                        Why::Tiny => report.tiny += 1,
                    }
                }
                Temperature::Cold => {
                    report.cold += 1;
                    report.cold_code_bytes += bytes;
                }
                Temperature::Dead => {
                    report.dead += 1;
                    report.dead_code_bytes += bytes;
                }
            }
        }
        report
    }

    /// Share of the module's live code that stays, in permille.
    pub fn hot_permille(&self) -> u64 {
        self.hot_code_bytes * 1000 / (self.hot_code_bytes + self.cold_code_bytes).max(1)
    }
}
