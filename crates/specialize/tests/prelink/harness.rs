//! Runs a component with and without pre-linking, and compares everything that can be seen of it.

use std::sync::OnceLock;

use forerun_specialize::passes::prelink::{PrelinkBounds, Prelinked, prelink};
use wasmtime::component::{Component, Linker, Resource, ResourceType, Val};
use wasmtime::{Config, Engine, Store, StoreContextMut, Trap};

/// Enough for every honest call, and an end to all others.
const FUEL: u64 = 20_000_000;

/// A function to call, by its name, with numbers.
pub(crate) type Call<'c> = (&'c str, &'c [Val]);

/// What came of a component.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// Why there is no instance, or what each call gave.
    pub(crate) calls: Result<Vec<Result<Vec<String>, String>>, String>,
    /// What it told the host, in order.
    pub(crate) log: Vec<String>,
}

impl Seen {
    /// Whether it only ended because somebody counted its steps; the count is not the same after pre-linking.
    pub(crate) fn ran_out_of_fuel(&self) -> bool {
        let out = |text: &String| text.contains(&format!("{:?}", Trap::OutOfFuel));
        match &self.calls {
            Ok(calls) => calls.iter().any(|call| call.as_ref().is_err_and(out)),
            Err(reason) => out(reason),
        }
    }
}

#[derive(Default)]
struct Host {
    log: Vec<String>,
    ticks: u32,
}

struct Thing;

pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        Engine::new(&config).unwrap()
    })
}

pub(crate) fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

pub(crate) fn merge(bytes: &[u8]) -> Prelinked {
    prelink(bytes, &PrelinkBounds::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Runs `calls` on the component before and after pre-linking; both must show the same.
pub(crate) fn same(wat: &str, calls: &[Call<'_>]) -> (Prelinked, Seen) {
    let bytes = component(wat);
    let merged = merge(&bytes);
    let (before, after) = (run(&bytes, calls).unwrap(), run(&merged.bytes, calls).unwrap());
    assert_eq!(before, after, "{:?}", merged.figures);
    (merged, before)
}

/// Makes an instance and calls it; an error is one of the compiler or linker.
pub(crate) fn run(bytes: &[u8], calls: &[Call<'_>]) -> wasmtime::Result<Seen> {
    let component = Component::new(engine(), bytes)?;
    let linker = linker()?;
    let pre = linker.instantiate_pre(&component)?;
    let mut store = Store::new(engine(), Host::default());
    store.set_fuel(FUEL)?;
    let instance = match pre.instantiate(&mut store) {
        Ok(instance) => instance,
        Err(error) => return Ok(Seen { calls: Err(reason(&error)), log: store.into_data().log }),
    };
    let mut outcomes = Vec::new();
    for (name, arguments) in calls {
        let Some(function) = instance.get_func(&mut store, *name) else {
            outcomes.push(Err("not exported".to_owned()));
            continue;
        };
        let mut results = vec![Val::Bool(false); function.ty(&store).results().len()];
        let outcome = function.call(&mut store, arguments, &mut results);
        outcomes.push(outcome.map(|()| results.iter().map(shown).collect()).map_err(|error| reason(&error)));
    }
    Ok(Seen { calls: Ok(outcomes), log: store.into_data().log })
}

/// Floats by their bits: two NaNs of one kind are the same answer.
fn shown(value: &Val) -> String {
    match value {
        Val::Float32(value) => format!("f32 {:08x}", value.to_bits()),
        Val::Float64(value) => format!("f64 {:016x}", value.to_bits()),
        other => format!("{other:?}"),
    }
}

/// The trap by name; a backtrace has other numbers after pre-linking.
fn reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => format!("trap {trap:?}"),
        None => format!("error {}", error.root_cause()),
    }
}

fn linker() -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine());
    // A component that a test damaged may import under a damaged name.
    linker.allow_shadowing(true);
    let mut root = linker.root();
    root.resource("thing", ResourceType::host::<Thing>(), |mut store: StoreContextMut<'_, Host>, rep| {
        store.data_mut().log.push(format!("drop {rep}"));
        Ok(())
    })?;
    root.func_wrap("log", |mut store: StoreContextMut<'_, Host>, (message,): (String,)| {
        store.data_mut().log.push(message);
        Ok((u32::try_from(store.data().log.len())?,))
    })?;
    root.func_wrap("greet", |_: StoreContextMut<'_, Host>, (name,): (String,)| Ok((format!("hello, {name}"),)))?;
    root.func_wrap("tick", |mut store: StoreContextMut<'_, Host>, (): ()| {
        store.data_mut().ticks += 1;
        Ok((store.data().ticks,))
    })?;
    root.func_wrap("fail", |_: StoreContextMut<'_, Host>, (): ()| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("the host says no"))
    })?;
    root.func_wrap("four", |_: StoreContextMut<'_, Host>, (a, b, c, d): (u32, u32, u32, u32)| Ok((a ^ b ^ c ^ d,)))?;
    root.func_wrap("make", |_: StoreContextMut<'_, Host>, (): ()| Ok((Resource::<Thing>::new_own(7),)))?;
    Ok(linker)
}
