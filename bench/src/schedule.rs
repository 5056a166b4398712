//! Made-up sessions: who calls which function when. The same in every run and for every contender.
//!
//! Sessions come at random (Poisson). Each begins at a function chosen by popularity (Zipf), goes on along one of three
//! edges from function to function, with one of them likely, or ends; between two calls somebody thinks (log-normal). No
//! trace of anybody's users: shaped like what is published of them (a few functions get most calls, paths repeat,
//! pauses are of seconds with a long tail), and small enough to be watched.

/// Shape of the sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) functions: usize,
    pub(crate) seconds: f64,
    pub(crate) sessions_per_s: f64,
    pub(crate) seed: u64,
}

/// Popularity of the function at rank `r` is `1 / r^ZIPF`; most published catalogs lie between 0.8 and 1.2.
const ZIPF: f64 = 1.0;
/// Where a session goes from a function; the rest of the time it ends.
const EDGES: [f64; 3] = [0.55, 0.2, 0.1];
/// A session that goes in circles ends after so many calls.
const CALLS_MAX: usize = 40;
/// Median of the pauses, and the deviation of their logarithm: nine of ten lie between 0.5 and 8 s.
const THINK_MEDIAN_S: f64 = 2.0;
const THINK_SIGMA: f64 = 0.85;
const THINK_MAX_S: f64 = 60.0;

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) at_s: f64,
    pub(crate) session: u32,
    pub(crate) function: usize,
}

/// All calls in their order in time.
pub(crate) fn calls(shape: &Shape) -> Vec<Call> {
    let mut dice = Dice(shape.seed);
    let edges = edges(shape.functions, &mut dice);
    let mut calls = Vec::new();
    let mut at_s = dice.pause(shape.sessions_per_s);
    let mut session = 0;
    while at_s < shape.seconds {
        walk(shape, &edges, session, at_s, &mut dice, &mut calls);
        session += 1;
        at_s += dice.pause(shape.sessions_per_s);
    }
    calls.sort_by(|one, other| one.at_s.total_cmp(&other.at_s).then(one.session.cmp(&other.session)));
    calls
}

/// One session; what lies beyond the end is left out.
fn walk(shape: &Shape, edges: &[[usize; 3]], session: u32, begin_s: f64, dice: &mut Dice, calls: &mut Vec<Call>) {
    let (mut at_s, mut function) = (begin_s, dice.popular(shape.functions));
    for _ in 0..CALLS_MAX {
        if at_s >= shape.seconds {
            return;
        }
        calls.push(Call { at_s, session, function });
        let Some(next) = dice.edge() else { return };
        function = edges[function][next];
        at_s += dice.think();
    }
}

/// Where one goes from each function: to popular ones more often than to others.
fn edges(functions: usize, dice: &mut Dice) -> Vec<[usize; 3]> {
    (0..functions).map(|_| [0; 3].map(|_| dice.popular(functions))).collect()
}

/// Random numbers, the same in every run (SplitMix64, public domain, Vigna 2015).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Between 0 and 1, without 0.
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 2.0
    }

    /// Until the next of so many a second.
    fn pause(&mut self, per_s: f64) -> f64 {
        -self.roll().ln() / per_s
    }

    fn think(&mut self) -> f64 {
        let normal = (-2.0 * self.roll().ln()).sqrt() * (std::f64::consts::TAU * self.roll()).cos();
        (THINK_MEDIAN_S * (THINK_SIGMA * normal).exp()).min(THINK_MAX_S)
    }

    fn popular(&mut self, functions: usize) -> usize {
        let weight = |rank: usize| 1.0 / ((rank + 1) as f64).powf(ZIPF);
        let all: f64 = (0..functions).map(weight).sum();
        let mut left = self.roll() * all;
        for rank in 0..functions {
            left -= weight(rank);
            if left <= 0.0 {
                return rank;
            }
        }
        functions - 1
    }

    fn edge(&mut self) -> Option<usize> {
        let mut left = self.roll();
        for (at, share) in EDGES.iter().enumerate() {
            left -= share;
            if left <= 0.0 {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { functions: 50, seconds: 600.0, sessions_per_s: 1.0, seed: 1 };

    #[test]
    fn the_same_seed_gives_the_same_calls_in_their_order() {
        let one = calls(&SHAPE);
        assert_eq!(one, calls(&SHAPE));
        assert_ne!(one, calls(&Shape { seed: 2, ..SHAPE }));
        assert!(one.is_sorted_by(|a, b| a.at_s <= b.at_s));
        assert!(one.iter().all(|call| call.at_s < 600.0 && call.function < 50));
    }

    #[test]
    fn sessions_have_some_calls_and_pauses_and_popular_functions_most() {
        let all = calls(&SHAPE);
        let sessions = all.iter().map(|call| call.session).max().unwrap() + 1;
        assert!((500..700).contains(&sessions), "{sessions}");
        let per_session = all.len() as f64 / f64::from(sessions);
        assert!((4.0..8.0).contains(&per_session), "{per_session}");
        let mut counts = [0u32; 50];
        all.iter().for_each(|call| counts[call.function] += 1);
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let ten: u32 = counts[..10].iter().sum();
        let share = f64::from(ten) / all.len() as f64;
        assert!((0.5..0.9).contains(&share), "{share}");
    }
}
