//! A generated module in a component, whole and split: every function that can be lifted is called in both, each time in
//! an instance of its own. The fuzz target `runs` does the same.

use forerun_specialize::passes::split::{SplitRefusal, split};
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
    /// Those of them that were missed where the component may not be left.
    pub(crate) asked: usize,
}

/// Compares `module` with itself, split as `numbers` say; `None` if it is not split, or not run by the engine.
///
/// # Panics
/// If they differ in anything.
pub(crate) fn whole_with_split(module: &[u8], numbers: &mut Numbers) -> Option<Compared> {
    let (component, exports, functions) = wrap(module);
    // Externref, which the engine does not know.
    Component::new(&ENGINE, &component).ok()?;
    let split = match split(&component, &numbers.plan(functions)) {
        Ok(split) => split,
        Err(SplitRefusal::NothingCold { .. } | SplitRefusal::NoneKnown(_) | SplitRefusal::NameTaken(_)) => return None,
        Err(refusal) => panic!("{refusal}"),
    };
    let whole = Runnable::whole(&component, &exports);
    let split = Runnable::split(&split, &exports);
    let mut compared = Compared::default();
    for function in whole.functions() {
        let arguments = whole.arguments(&function, numbers);
        let (expected, _) = whole.call(&function, &arguments);
        let (seen, host) = split.call_with_host(&function, &arguments);
        assert_eq!(expected, seen, "{function}{arguments:?}");
        compared.calls += 1;
        compared.misses += host.misses.len();
        compared.asked += host.asked.len();
    }
    Some(compared)
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
