//! Random numbers for invocation and span ids: one generator per thread, seeded by the operating system.
//!
//! Not for secrets: the generator (xoshiro256++) is fast and predictable to whoever sees enough of it.

use std::cell::RefCell;

use forerun_types::{InvocationId, SpanId, TraceContext, TraceId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

thread_local! {
    static GENERATOR: RefCell<SmallRng> = RefCell::new(seeded());
}

/// The ids of one new invocation.
pub(crate) struct FreshIds {
    pub(crate) invocation: InvocationId,
    pub(crate) span: SpanId,
}

/// Ids that no other invocation has.
pub(crate) fn fresh_ids() -> FreshIds {
    GENERATOR.with_borrow_mut(|random| FreshIds {
        invocation: InvocationId::from_random(wide(random)),
        span: SpanId::from_random(random.next_u64()),
    })
}

/// A new trace whose first span is `span`. Sampled: whether it is kept is decided by who exports it.
pub(crate) fn fresh_trace(span: SpanId) -> TraceContext {
    let trace_id = GENERATOR.with_borrow_mut(|random| TraceId::from_random(wide(random)));
    TraceContext { trace_id, span_id: span, sampled: true }
}

fn wide(random: &mut SmallRng) -> u128 {
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

/// Without the system's randomness, ids still differ between threads and starts, by clock and stack address.
fn seeded() -> SmallRng {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let place = std::ptr::from_ref(&seed).addr();
        seed[..16].copy_from_slice(&clock.to_le_bytes());
        seed[16..24].copy_from_slice(&(place as u64).to_le_bytes());
    }
    SmallRng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_within_and_between_threads() {
        let draw = || (0..1000).map(|_| fresh_ids().invocation.as_u128()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw).join().unwrap();
        let all: HashSet<u128> = draw().into_iter().chain(other).collect();
        assert_eq!(all.len(), 2000);
    }
}
