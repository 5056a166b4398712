//! What is remembered of one sequence of calls: its last symbols, what was frequent of late, and the network's state.

use super::lstm::{HIDDEN, NetState};
use crate::hash;
use crate::numeric::{from_half, to_half};
use serde::{Deserialize, Serialize};

/// Stands before the first symbol of a sequence.
pub const START: u32 = u32::MAX;
/// Longest context, in symbols.
pub const ORDER_MAX: usize = 4;
/// Recently frequent symbols kept per sequence.
pub const RECENT_LEN: usize = 12;
/// Bound on the network's state, that of [`super::lstm`].
const STATE_MAX: f32 = 100.0;
/// Fading of a recent symbol's weight with each call: a symbol is half forgotten after seven calls.
const FADING: f32 = 0.9;

/// State of one sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Last symbols, newest first; [`START`] before the beginning.
    pub history: [u32; ORDER_MAX],
    len: u32,
    recent: Vec<(u32, f32)>,
    state: Vec<u16>,
}

impl Default for Session {
    fn default() -> Self {
        Self { history: [START; ORDER_MAX], len: 0, recent: Vec::new(), state: Vec::new() }
    }
}

impl Session {
    /// Number of symbols seen, saturating.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Key of the context of the last `order` symbols, the start of the sequence included once; [`None`] if the
    /// sequence is shorter.
    pub fn context(&self, order: usize) -> Option<u64> {
        if order > self.len as usize + 1 {
            return None;
        }
        let key = self.history[..order].iter().fold(order as u64, |key, symbol| hash::combine(key, u64::from(*symbol)));
        Some(hash::mix(key))
    }

    /// Recently frequent symbols and their weights.
    pub fn recent(&self) -> &[(u32, f32)] {
        &self.recent
    }

    /// State of the network.
    pub fn net_state(&self) -> NetState {
        let mut state = NetState::default();
        let halves = self.state.split_at_checked(HIDDEN).unwrap_or_default();
        for (part, halves) in [(&mut state.h, halves.0), (&mut state.c, halves.1)] {
            part.iter_mut().zip(halves).for_each(|(x, half)| *x = from_half(*half));
        }
        state
    }

    /// The network's output in that state.
    pub fn net_output(&self) -> [f32; HIDDEN] {
        let mut output = [0.0; HIDDEN];
        output.iter_mut().zip(&self.state).for_each(|(x, half)| *x = from_half(*half));
        output
    }

    /// Keeps a state of the network.
    pub fn set_net_state(&mut self, state: &NetState) {
        self.state.resize(2 * HIDDEN, 0);
        let (output, memory) = self.state.split_at_mut(HIDDEN);
        output.iter_mut().zip(&state.h).for_each(|(half, x)| *half = to_half(*x));
        memory.iter_mut().zip(&state.c).for_each(|(half, x)| *half = to_half(*x));
    }

    /// Records the next symbol.
    pub fn push(&mut self, symbol: u32) {
        self.len = self.len.saturating_add(1);
        self.history.copy_within(0..ORDER_MAX - 1, 1);
        self.history[0] = symbol;
        self.recent.iter_mut().for_each(|(_, weight)| *weight *= FADING);
        if let Some((_, weight)) = self.recent.iter_mut().find(|(known, _)| *known == symbol) {
            *weight += 1.0;
            return;
        }
        if self.recent.len() == RECENT_LEN {
            let lightest = (0..RECENT_LEN).min_by(|a, b| self.recent[*a].1.total_cmp(&self.recent[*b].1));
            self.recent.swap_remove(lightest.unwrap_or(0));
        }
        self.recent.push((symbol, 1.0));
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.recent.len() <= RECENT_LEN
            && self.recent.iter().all(|(_, weight)| (0.0..=20.0).contains(weight))
            && (self.state.is_empty() || self.state.len() == 2 * HIDDEN)
            && self.state.iter().all(|half| half & 0x7c00 != 0x7c00 && from_half(*half).abs() <= STATE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_tell_orders_and_beginnings_apart() {
        let mut session = Session::default();
        assert!(session.context(1).is_some() && session.context(2).is_none());
        session.push(7);
        let (one, two) = (session.context(1), session.context(2));
        assert!(one.is_some() && two.is_some() && one != two && session.context(3).is_none());
        let mut longer = Session::default();
        [1, 7].into_iter().for_each(|symbol| longer.push(symbol));
        assert_eq!(longer.context(1), one);
        assert_ne!(longer.context(2), two);
    }

    #[test]
    fn frequent_symbols_stay_recent() {
        let mut session = Session::default();
        for symbol in 0..1_000u32 {
            session.push(if symbol % 2 == 0 { 5 } else { 1_000 + symbol });
        }
        let weight = session.recent().iter().find(|(symbol, _)| *symbol == 5).map(|(_, weight)| *weight);
        assert!(weight.is_some_and(|weight| weight > 4.0));
        assert!(session.is_sound());
    }

    #[test]
    fn the_network_state_survives_packing() {
        let mut session = Session::default();
        let mut state = NetState::default();
        state.h[3] = 0.25;
        state.c[31] = -1.5;
        session.set_net_state(&state);
        assert_eq!(session.net_state(), state);
    }
}
