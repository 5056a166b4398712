//! A generated module in a component, whole and split: every function that can be lifted is called in both, each time in
//! an instance of its own, and a third time split with flags to look at. The fuzz target `runs` does the same.

use forerun_specialize::passes::interrupt::add_checks;
use forerun_specialize::passes::split::{Split, SplitPlan, SplitRefusal, split};
use wasmtime::component::{Component, Type, Val};

use super::engine::{ENGINE, Runnable};
use super::modules::wrap;
use super::seeds::Numbers;

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) calls: usize,
    /// Groups that were missed.
    pub(crate) misses: usize,
    /// Those of them that were missed by components that look at flags.
    pub(crate) flagged: usize,
}

/// Compares `module` with itself, split as `numbers` say; `None` if it is not split, or not run by the engine.
///
/// # Panics
/// If they differ in anything.
pub(crate) fn whole_with_split(module: &[u8], numbers: &mut Numbers) -> Option<Compared> {
    let (component, exports, functions) = wrap(module);
    // Externref, which the engine does not know.
    Component::new(&ENGINE, &component).ok()?;
    let plan = numbers.plan(functions);
    let split = split_as(&component, &plan)?;
    let whole = Runnable::whole(&component, &exports);
    let split = Runnable::split(&split, &exports);
    // Flags are up from the beginning, and so each check calls its host.
    let flagged = add_checks(&component).ok().and_then(|checked| split_as(&checked.component, &plan));
    let flagged = flagged.map(|split| Runnable::split(&split, &exports));
    let mut compared = Compared::default();
    for function in whole.functions() {
        let arguments = whole.arguments(&function, numbers);
        let (expected, _) = whole.call(&function, &arguments);
        let (seen, misses) = split.call(&function, &arguments);
        assert_eq!(expected, seen, "{function}{arguments:?}");
        compared.calls += 1;
        compared.misses += misses.len();
        if let Some(flagged) = &flagged {
            let (seen, misses) = flagged.call(&function, &arguments);
            assert_eq!(expected, seen, "{function}{arguments:?}, with flags");
            compared.flagged += misses.len();
        }
    }
    Some(compared)
}

fn split_as(component: &[u8], plan: &SplitPlan) -> Option<Split> {
    match split(component, plan) {
        Ok(split) => Some(split),
        Err(SplitRefusal::NothingCold { .. } | SplitRefusal::NoneKnown(_) | SplitRefusal::NameTaken(_)) => None,
        Err(refusal) => panic!("{refusal}"),
    }
}

impl Runnable {
    /// Arguments for a function: small numbers, large ones, and the ends of their ranges.
    fn arguments(&self, function: &str, numbers: &mut Numbers) -> Vec<Val> {
        let parameters = self.parameters(function);
        parameters
            .into_iter()
            .map(|ty| {
                let number = match numbers.below(4) {
                    0 => numbers.below(4),
                    1 => u64::MAX,
                    _ => numbers.next(),
                };
                match ty {
                    Type::U32 => Val::U32(number as u32),
                    Type::U64 => Val::U64(number),
                    Type::Float32 => Val::Float32(number as f32),
                    Type::Float64 => Val::Float64(number as f64),
                    other => panic!("{other:?} was not lifted"),
                }
            })
            .collect()
    }
}
