//! What a VM draws from its host, noted: randomness, time, variables, key values, answers of others.
//!
//! Used where a state is to be shared by all later requests (`rollback::warm`): whatever was drawn on the way there would
//! be the same for all of them. For a witnessed VM the node is a quiet one: its output goes nowhere, it reaches no other
//! service (the manifest has the answer to a call, or there is none), and has no key-value stores. Outside of that nothing
//! is noted, and nothing costs anything.
//!
//! Waiting (for a timer, a stream) is no draw: it tells the guest nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use forerun_driver::{
    Body, BoxFuture, Caller, GuestLog, GuestStream, Host, KeyValueError, KeyValues, Outbound, OutboundError,
    OutboundTimeouts, StoreName, made_up_answer,
};
use forerun_types::{CallAnswer, Draw, FunctionName, InvocationId};
use http::{Request, Response};
use parking_lot::Mutex;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::WasiCliCtxView;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock, MonotonicClock, WallClock};
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::random::{DEFAULT_MAX_SIZE, Deterministic, WasiRandomCtx};

use super::vm::VmState;

/// Random numbers of VMs that are being warmed up, again and again: no state is kept that was made of others.
const NUMBERS: &[u8] = b"random numbers that are the same in all VMs that are being warmed up";

/// What was drawn so far, and what calls are answered; shared by the parts of the VMs that are witnessed.
#[derive(Clone, Default)]
pub(super) struct Draws(Arc<Witness>);

#[derive(Default)]
struct Witness {
    drawn: AtomicU8,
    /// To the calls of the request that is being answered. It is made up, so that to be given it is no draw.
    answer: Mutex<Option<CallAnswer>>,
}

impl Draws {
    pub(super) fn note(&self, draw: Draw) {
        self.0.drawn.fetch_or(draw as u8, Ordering::Relaxed);
    }

    /// From now on calls of others are answered so; with nothing, they fail and are noted.
    pub(super) fn answer_calls(&self, answer: Option<CallAnswer>) {
        *self.0.answer.lock() = answer;
    }

    /// One of the things that were drawn, if any was that the guest cannot draw anew; `can_renew` says whether it can draw
    /// anything anew. What others answered, and what key-value stores had, it cannot.
    pub(super) fn any(&self, can_renew: bool) -> Option<Draw> {
        let noted = self.0.drawn.load(Ordering::Relaxed);
        let renewed = |draw: &Draw| can_renew && matches!(draw, Draw::Randomness | Draw::Time | Draw::Variables);
        Draw::ALL.into_iter().find(|draw| noted & *draw as u8 != 0 && !renewed(draw))
    }

    /// Clocks that note who looks at them, and random numbers that are the same in all VMs: who draws them is noted
    /// elsewhere.
    pub(super) fn watch(&self, wasi: &mut WasiCtxBuilder) {
        let numbers = || Deterministic::new(NUMBERS.to_vec());
        wasi.secure_random(numbers()).insecure_random(numbers()).insecure_random_seed(0);
        wasi.wall_clock(Watched(WallClock, self.clone()));
        wasi.monotonic_clock(Watched(MonotonicClock::default(), self.clone()));
    }

    /// The node of a witnessed VM.
    pub(super) fn quiet_host(&self) -> Host {
        let quiet = Arc::new(Quiet(self.clone()));
        Host { outbound: Arc::clone(&quiet) as _, log: Arc::clone(&quiet) as _, key_values: quiet }
    }
}

/// Puts the host's functions that hand out randomness and variables behind ones that note it.
pub(super) fn add_to_linker(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    random::add_to_linker::<VmState, HasRandom>(linker, VmState::random)?;
    insecure::add_to_linker::<VmState, HasRandom>(linker, VmState::random)?;
    insecure_seed::add_to_linker::<VmState, HasRandom>(linker, VmState::random)?;
    environment::add_to_linker::<VmState, HasEnvironment>(linker, VmState::environment)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasRandom;

impl HasData for HasRandom {
    type Data<'a> = RandomView<'a>;
}

/// A VM's randomness.
pub(super) struct RandomView<'a> {
    pub(super) random: &'a mut WasiRandomCtx,
    pub(super) draws: Option<&'a Draws>,
}

impl RandomView<'_> {
    fn noted(&mut self) -> &mut WasiRandomCtx {
        if let Some(draws) = self.draws {
            draws.note(Draw::Randomness);
        }
        self.random
    }
}

/// `length` bytes of what `draw` gives, eight at a time. wasmtime's own way draws four for each one, and through a
/// pointer: eight times as long, and a language runtime that seeds its generator asks for 2,496.
fn bytes_of(length: u64, mut draw: impl FnMut() -> wasmtime::Result<u64>) -> wasmtime::Result<Vec<u8>> {
    wasmtime::ensure!(
        length <= DEFAULT_MAX_SIZE,
        "{length} random bytes at once; at most {DEFAULT_MAX_SIZE} are given"
    );
    let mut bytes = vec![0; usize::try_from(length)?];
    for eight in bytes.chunks_mut(8) {
        eight.copy_from_slice(&draw()?.to_le_bytes()[..eight.len()]);
    }
    Ok(bytes)
}

impl random::Host for RandomView<'_> {
    fn get_random_bytes(&mut self, bytes: u64) -> wasmtime::Result<Vec<u8>> {
        let random = self.noted();
        bytes_of(bytes, || random.get_random_u64())
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.noted().get_random_u64()
    }
}

impl insecure::Host for RandomView<'_> {
    fn get_insecure_random_bytes(&mut self, bytes: u64) -> wasmtime::Result<Vec<u8>> {
        let random = self.noted();
        bytes_of(bytes, || random.get_insecure_random_u64())
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.noted().get_insecure_random_u64()
    }
}

impl insecure_seed::Host for RandomView<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.noted().insecure_seed()
    }
}

struct HasEnvironment;

impl HasData for HasEnvironment {
    type Data<'a> = EnvironmentView<'a>;
}

/// A VM's environment.
pub(super) struct EnvironmentView<'a> {
    pub(super) cli: WasiCliCtxView<'a>,
    pub(super) draws: Option<Draws>,
}

impl environment::Host for EnvironmentView<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let variables = self.cli.get_environment()?;
        if let Some(draws) = self.draws.as_ref().filter(|_| !variables.is_empty()) {
            draws.note(Draw::Variables);
        }
        Ok(variables)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.cli.get_arguments()
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.cli.initial_cwd()
    }
}

/// A clock that notes who looks at it.
struct Watched<C>(C, Draws);

impl<C: HostWallClock> HostWallClock for Watched<C> {
    fn resolution(&self) -> Duration {
        self.0.resolution()
    }

    fn now(&self) -> Duration {
        self.1.note(Draw::Time);
        self.0.now()
    }
}

impl<C: HostMonotonicClock> HostMonotonicClock for Watched<C> {
    fn resolution(&self) -> u64 {
        self.0.resolution()
    }

    fn now(&self) -> u64 {
        self.1.note(Draw::Time);
        self.0.now()
    }
}

/// A node from which nothing comes and to which nothing goes.
struct Quiet(Draws);

impl Quiet {
    fn no_store<T>(&self) -> Result<T, KeyValueError> {
        self.0.note(Draw::KeyValues);
        Err(KeyValueError::Storage { detail: "there are no key-value stores while a VM is warmed up".into() })
    }
}

impl GuestLog for Quiet {
    fn write(&self, _: &FunctionName, _: InvocationId, _: GuestStream, _: &[u8]) {}
}

impl Outbound for Quiet {
    fn send(
        &self,
        _: Caller,
        request: Request<Body>,
        _: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        let answer = self.0.0.answer.lock().as_ref().and_then(|answer| made_up_answer(answer).ok());
        let answer = answer.ok_or_else(|| {
            self.0.note(Draw::Answer);
            let destination = request.uri().authority().map_or_else(String::new, ToString::to_string);
            OutboundError::Denied { destination }
        });
        Box::pin(std::future::ready(answer))
    }
}

impl KeyValues for Quiet {
    fn get(&self, _: StoreName<'_>, _: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.no_store()
    }

    fn set_many(&self, _: StoreName<'_>, _: &[(String, Vec<u8>)]) -> Result<(), KeyValueError> {
        self.no_store()
    }

    fn delete_many(&self, _: StoreName<'_>, _: &[String]) -> Result<(), KeyValueError> {
        self.no_store()
    }

    fn list_keys(&self, _: StoreName<'_>, _: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        self.no_store()
    }

    fn increment(&self, _: StoreName<'_>, _: &str, _: u64) -> Result<u64, KeyValueError> {
        self.no_store()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_those_drawn_as_many_as_asked_for_and_never_too_many() {
        for length in [0_u64, 1, 7, 8, 9, 2_496] {
            let mut drawn = 0_u64;
            let bytes = bytes_of(length, || {
                drawn += 1;
                Ok(drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            });
            let expected: Vec<u8> =
                (1..=length.div_ceil(8)).flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
            assert_eq!(bytes.unwrap(), expected[..usize::try_from(length).unwrap()]);
            assert_eq!(drawn, length.div_ceil(8));
        }
        assert!(bytes_of(DEFAULT_MAX_SIZE + 1, || Ok(0)).is_err());
        assert!(bytes_of(9, || wasmtime::bail!("no entropy")).is_err());
    }
}
