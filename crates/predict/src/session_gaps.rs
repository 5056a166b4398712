//! When a session goes on: the time between two calls of one session, by application and by the function called last.
//!
//! The next call of an application comes soon when many sessions are open; the next call of *one* session does not
//! come any sooner for that. So the sequence of a session has a clock of its own. Kaplan-Meier over the grid of
//! [`TimeBins`], with `c_j` gaps that ended in bin `j`, `n` calls that opened a gap, and the hazard `p_j` of the level
//! above (function, then application, then all):
//!
//! ```text
//! h_j = (c_j + s p_j) / (r_j + s)        r_j = n - sum of c_i over i < j,   s = 4
//! ```
//!
//! A gap that never ends, because the session is over, stays in every `r_j`: "not again" has its share. All counts are
//! halved when there are many, so that habits may change.
//!
//! Which function is called is not its business.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::event::Target;
use crate::timing::bins::{BINS_MAX, TimeBins};
use crate::timing::forecast::Forecast;

/// Sessions whose last call is remembered; the one that was first seen longest ago is forgotten first.
const OPEN_MAX: usize = 65_536;
/// Functions with a clock of their own; others go by their application's.
const FUNCTIONS_MAX: usize = 16_384;
/// Applications with a clock of their own; others go by that of all.
const SCOPES_MAX: usize = 16_384;
/// Weight of the level above, in calls.
const SHRINKAGE: f32 = 4.0;
/// Calls that count in full; when there are more, all count half as much.
const MEMORY: f32 = 1_024.0;
/// Hazard of every bin as long as nothing is known: one gap in a hundred ends in each.
const IGNORANCE: f32 = 0.01;

/// Gaps of all sessions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionGaps {
    all: Gaps,
    scopes: BTreeMap<u32, Gaps>,
    /// By scope, then kind.
    functions: BTreeMap<u32, BTreeMap<u32, Gaps>>,
    functions_count: usize,
    #[serde(skip)]
    open: HashMap<u64, (u64, u32, u32)>,
    #[serde(skip)]
    order: VecDeque<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Gaps {
    opened: f32,
    /// Bin and gaps that ended in it, by bin: most are empty.
    closed: Vec<(u8, f32)>,
}

impl SessionGaps {
    /// Takes a call of a session in.
    pub fn observe(&mut self, bins: &TimeBins, session: u64, scope: u32, kind: u32, at_us: u64) {
        if let Some((last_us, scope, kind)) = self.open.get(&session).copied() {
            let bin = bins.bin_of(at_us.saturating_sub(last_us) as f32 * 1e-6);
            self.each(scope, kind, |gaps| gaps.close(bin));
        } else {
            self.order.push_back(session);
        }
        self.each(scope, kind, Gaps::open);
        self.open.insert(session, (at_us, scope, kind));
        if self.order.len() > OPEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
    }

    /// Hazards of the next call of a session whose last call was one of `target`.
    pub fn forecast(&self, bins: &TimeBins, target: Target, forecast: &mut Forecast) {
        forecast.clear();
        forecast.hazards.resize(bins.len(), IGNORANCE);
        self.all.refine(&mut forecast.hazards);
        let Some(scope) = target.scope else { return };
        if let Some(gaps) = self.scopes.get(&scope) {
            gaps.refine(&mut forecast.hazards);
        }
        if let Some(gaps) = self.functions.get(&scope).and_then(|kinds| kinds.get(&target.kind)) {
            gaps.refine(&mut forecast.hazards);
        }
    }

    fn each(&mut self, scope: u32, kind: u32, change: impl Fn(&mut Gaps)) {
        change(&mut self.all);
        if self.scopes.contains_key(&scope) || self.scopes.len() < SCOPES_MAX {
            change(self.scopes.entry(scope).or_default());
        }
        let is_known = self.functions.get(&scope).is_some_and(|kinds| kinds.contains_key(&kind));
        if is_known || self.functions_count < FUNCTIONS_MAX {
            self.functions_count += usize::from(!is_known);
            change(self.functions.entry(scope).or_default().entry(kind).or_default());
        }
    }

    /// Whether what was restored could have been learnt.
    pub fn is_sound(&self) -> bool {
        self.scopes.len() <= SCOPES_MAX
            && self.functions_count <= FUNCTIONS_MAX
            && self.functions.values().map(BTreeMap::len).sum::<usize>() == self.functions_count
            && self.functions.values().flat_map(BTreeMap::values).all(Gaps::is_sound)
            && self.scopes.values().chain([&self.all]).all(Gaps::is_sound)
    }
}

impl Gaps {
    fn open(&mut self) {
        self.opened += 1.0;
        if self.opened > MEMORY {
            self.opened *= 0.5;
            self.closed.iter_mut().for_each(|(_, count)| *count *= 0.5);
        }
    }

    fn close(&mut self, bin: usize) {
        let Ok(bin) = u8::try_from(bin) else { return };
        match self.closed.binary_search_by_key(&bin, |(known, _)| *known) {
            Ok(index) => self.closed[index].1 += 1.0,
            Err(index) => self.closed.insert(index, (bin, 1.0)),
        }
    }

    /// Moves hazards of the level above to those of this level, by what is known here.
    fn refine(&self, hazards: &mut [f32]) {
        let (mut at_risk, mut closed) = (self.opened, self.closed.iter().peekable());
        for (bin, hazard) in hazards.iter_mut().enumerate() {
            let here = closed.next_if(|(known, _)| usize::from(*known) == bin).map_or(0.0, |(_, count)| *count);
            *hazard = ((here + SHRINKAGE * *hazard) / (at_risk.max(here) + SHRINKAGE)).clamp(0.0, 1.0);
            at_risk -= here;
        }
    }

    fn is_sound(&self) -> bool {
        let share = |value: f32| (0.0..=2.0 * MEMORY).contains(&value);
        share(self.opened)
            && self.closed.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.closed.iter().all(|(bin, count)| usize::from(*bin) < BINS_MAX && share(*count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::timing::bins::Resolution;

    const SECOND_US: u64 = 1_000_000;

    fn target(kind: u32) -> Target {
        Target { scope: Some(0), kind }
    }

    #[test]
    fn many_open_sessions_do_not_hurry_one_of_them() {
        let bins = TimeBins::new(Resolution::Second);
        let mut gaps = SessionGaps::default();
        // A thousand sessions, one call of each ten seconds after the one before; a new session each 50 ms.
        for session in 0..1_000u64 {
            for step in 0..3 {
                let at_us = session * 50_000 + step * 10 * SECOND_US;
                gaps.observe(&bins, session, 0, step as u32, at_us);
            }
        }
        let mut forecast = Forecast::default();
        gaps.forecast(&bins, target(0), &mut forecast);
        let within = |from_s, until_s| forecast.probability_within(&bins, 0.0, (from_s, until_s));
        assert!(within(0.0, 8.0) < 0.05, "{}", within(0.0, 8.0));
        assert!(within(8.0, 12.0) > 0.9, "{}", within(8.0, 12.0));
        // The last step is followed by nothing.
        gaps.forecast(&bins, target(2), &mut forecast);
        assert!(forecast.probability_within(&bins, 0.0, (0.0, 3_600.0)) < 0.2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn hazards_are_probabilities(calls in prop::collection::vec((0u64..20, 0u32..3, 0u32..5, any::<u64>()), 0..200)) {
            let bins = TimeBins::new(Resolution::Second);
            let mut gaps = SessionGaps::default();
            for (session, scope, kind, at_us) in calls {
                gaps.observe(&bins, session, scope, kind, at_us);
            }
            prop_assert!(gaps.is_sound());
            let mut forecast = Forecast::default();
            for kind in 0..6 {
                gaps.forecast(&bins, target(kind), &mut forecast);
                prop_assert!(forecast.hazards.iter().all(|hazard| (0.0..=1.0).contains(hazard)));
            }
        }
    }
}
