//! The Code Path Probability Map of one function, by counting: for each class of request, how probable it is that a
//! request of it runs an inner function, and how sure that is.
//!
//! ```text
//! P(f | class) = (r + 1/2) / (n + 1)        r, n: samples that ran f, samples; each newer sample makes
//!                                           earlier ones count less by the share 1/WINDOW
//! error        = half the 95 % interval of a proportion after Wilson, at the same r and n
//! ```
//! so that what changed is forgotten after a few hundred samples, and the interval never claims more than those. What
//! a class's recent samples have run anew is its *novelty*: it says how much another sample would teach.
//!
//! A function of which nothing was sampled yet may have a *prior* from others that share its code. It counts like
//! PRIOR_WEIGHT samples of every class, `P(f | class) = (r + PRIOR_WEIGHT · prior) / (n + PRIOR_WEIGHT)`, until there are
//! PRIOR_SAMPLES_MAX samples of its own.
//!
//! [`crate::paths`] predicts which of these the *next* request runs, from the ones before it; this says what is so on
//! the whole, by counts that can be checked by hand.

use serde::{Deserialize, Serialize};

use crate::paths::SAMPLE_MAX;

/// Classes of one function; samples of a further one count for [`OTHER_CLASS`].
pub const CLASSES_MAX: usize = 32;
/// The class of all that has none of its own.
pub const OTHER_CLASS: u32 = 0;
/// Samples after which an earlier one counts a third.
const WINDOW: f32 = 500.0;
/// Samples after which novelty has forgotten two thirds.
const NOVELTY_WINDOW: f32 = 8.0;
/// The 97.5 % point of the normal distribution.
const Z: f32 = 1.96;
/// Weights are brought back to this size before they lose precision.
const WEIGHT_MAX: f32 = 1e6;

/// Samples that a prior counts as: two of its own outweigh what others do.
const PRIOR_WEIGHT: f32 = 2.0;
/// Samples after which a function needs no one else's.
const PRIOR_SAMPLES_MAX: u64 = 64;

/// The map of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathMap {
    classes: Vec<ClassCounts>,
    /// Inner functions that others run, by number, sorted, with the probability that they do.
    #[serde(default)]
    prior: Vec<(u32, f32)>,
}

/// Counts of one class, in units of `unit`: the newest sample counts `unit`, which grows instead of all the rest fading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ClassCounts {
    class: u32,
    /// Samples ever taken.
    samples: u64,
    unit: f32,
    weight: f32,
    /// Inner functions that ran, by number, sorted.
    ran: Vec<(u32, f32)>,
    novelty: f32,
}

/// How probable one inner function is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PathProbability {
    /// Its number.
    pub id: u32,
    /// Probability that a request of the class runs it.
    pub probability: f32,
    /// Half the width of the 95 % interval.
    pub error: f32,
    /// Samples that ran it, older ones counting less.
    pub runs: f32,
}

/// What is known of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassSummary {
    /// The class.
    pub class: u32,
    /// Samples ever taken.
    pub samples: u64,
    /// Samples the probabilities rest on, older ones counting less.
    pub weight: f32,
    /// Share of the recent samples that ran something no sample had run before.
    pub novelty: f32,
    /// Inner functions that ran in any sample.
    pub functions: usize,
}

impl PathMap {
    /// Counts a sample of `class` that ran `functions`. Says how many of them no sample of the class had run before.
    pub fn observe(&mut self, class: u32, functions: &[u32]) -> usize {
        let mut functions: Vec<u32> = functions.iter().copied().take(SAMPLE_MAX).collect();
        functions.sort_unstable();
        functions.dedup();
        let news = self.counts(class).observe(&functions);
        if !self.prior.is_empty() && self.samples() >= PRIOR_SAMPLES_MAX {
            self.prior = Vec::new();
        }
        news
    }

    /// Begins with what others taught: inner functions, by number, and the probability that a request runs them. Does
    /// nothing where there are samples already.
    pub fn expect(&mut self, prior: impl IntoIterator<Item = (u32, f32)>) {
        if self.samples() > 0 {
            return;
        }
        let usable = |(_, probability): &(u32, f32)| (0.0..=1.0).contains(probability);
        self.prior = prior.into_iter().filter(usable).take(SAMPLE_MAX).collect();
        self.prior.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        self.prior.dedup_by_key(|(id, _)| *id);
    }

    /// How many inner functions are expected because others run them.
    pub fn prior_functions(&self) -> usize {
        self.prior.len()
    }

    /// Samples of all classes, ever.
    pub fn samples(&self) -> u64 {
        self.classes.iter().map(|counts| counts.samples).sum()
    }

    /// The classes, those with the most samples first.
    pub fn classes(&self) -> Vec<ClassSummary> {
        let mut classes: Vec<ClassSummary> = self.classes.iter().map(ClassCounts::summary).collect();
        classes.sort_by(|a, b| b.samples.cmp(&a.samples).then(a.class.cmp(&b.class)));
        classes
    }

    /// What is known of one class.
    pub fn class(&self, class: u32) -> Option<ClassSummary> {
        self.find(class).map(ClassCounts::summary)
    }

    /// The inner functions that a request of `class` may run, most probable first; of a request of any class, if it is
    /// `None`. Those that are not named ran in no sample, and those without runs are expected by the prior alone.
    pub fn probabilities(&self, class: Option<u32>) -> Vec<PathProbability> {
        let mut sums: Vec<(u32, f32)> = Vec::new();
        let mut weight = 0.0;
        for counts in self.classes.iter().filter(|counts| class.is_none_or(|class| counts.class == class)) {
            weight += counts.weight / counts.unit;
            sums.extend(counts.ran.iter().map(|(id, ran)| (*id, ran / counts.unit)));
        }
        sums.sort_unstable_by_key(|(id, _)| *id);
        sums.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        let ran = sums.len();
        for (id, _) in &self.prior {
            if sums[..ran].binary_search_by_key(id, |(id, _)| *id).is_err() {
                sums.push((*id, 0.0));
            }
        }
        let share = |(id, runs): &(u32, f32)| probability(*id, *runs, weight, self.prior_of(*id));
        let mut shares: Vec<PathProbability> = sums.iter().map(share).collect();
        shares.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id)));
        shares
    }

    /// Forgets classes that are not among `kept`, and inner functions that are not: of revisions that are gone.
    pub fn retain(&mut self, keeps: impl Fn(u32) -> bool) {
        for counts in &mut self.classes {
            counts.ran.retain(|(id, _)| keeps(*id));
        }
        self.prior.retain(|(id, _)| keeps(*id));
    }

    /// Whether a map that was read from somewhere keeps its own rules.
    pub fn is_sound(&self) -> bool {
        let mut seen: Vec<u32> = self.classes.iter().map(|counts| counts.class).collect();
        seen.sort_unstable();
        seen.dedup();
        let prior_is_sound = self.prior.len() <= SAMPLE_MAX
            && self.prior.is_sorted_by(|a, b| a.0 < b.0)
            && self.prior.iter().all(|(_, probability)| (0.0..=1.0).contains(probability));
        seen.len() == self.classes.len()
            && seen.len() <= CLASSES_MAX
            && self.classes.iter().all(ClassCounts::is_sound)
            && prior_is_sound
    }

    fn prior_of(&self, id: u32) -> Option<f32> {
        let place = self.prior.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.prior[place].1)
    }

    fn find(&self, class: u32) -> Option<&ClassCounts> {
        self.classes.iter().find(|counts| counts.class == class)
    }

    fn counts(&mut self, class: u32) -> &mut ClassCounts {
        // The last place is kept for all further classes together.
        let is_known = self.find(class).is_some();
        let class = if is_known || self.classes.len() + 1 < CLASSES_MAX { class } else { OTHER_CLASS };
        let index = self.classes.iter().position(|counts| counts.class == class).unwrap_or_else(|| {
            self.classes.push(ClassCounts::new(class));
            self.classes.len() - 1
        });
        &mut self.classes[index]
    }
}

impl ClassCounts {
    fn new(class: u32) -> Self {
        Self { class, samples: 0, unit: 1.0, weight: 0.0, ran: Vec::new(), novelty: 1.0 }
    }

    /// `functions` are sorted and distinct.
    fn observe(&mut self, functions: &[u32]) -> usize {
        if self.samples > 0 {
            self.unit *= WINDOW / (WINDOW - 1.0);
        }
        self.samples = self.samples.saturating_add(1);
        self.weight += self.unit;
        let mut new = Vec::new();
        for id in functions {
            match self.ran.binary_search_by_key(id, |(id, _)| *id) {
                Ok(place) => self.ran[place].1 += self.unit,
                Err(_) => new.push((*id, self.unit)),
            }
        }
        new.truncate(SAMPLE_MAX.saturating_sub(self.ran.len()));
        let news = new.len();
        if news > 0 {
            self.ran.append(&mut new);
            self.ran.sort_unstable_by_key(|(id, _)| *id);
        }
        let is_new = if news > 0 { 1.0 } else { 0.0 };
        self.novelty += (is_new - self.novelty) / NOVELTY_WINDOW;
        if self.unit > WEIGHT_MAX {
            self.rescale();
        }
        news
    }

    fn rescale(&mut self) {
        let unit = self.unit;
        self.unit = 1.0;
        self.weight /= unit;
        self.ran.iter_mut().for_each(|(_, ran)| *ran /= unit);
        // Nobody has run these for thousands of samples.
        self.ran.retain(|(_, ran)| *ran > f32::MIN_POSITIVE);
    }

    fn summary(&self) -> ClassSummary {
        ClassSummary {
            class: self.class,
            samples: self.samples,
            weight: self.weight / self.unit,
            novelty: self.novelty,
            functions: self.ran.len(),
        }
    }

    fn is_sound(&self) -> bool {
        let usable = |number: f32| number.is_finite() && number >= 0.0;
        self.unit.is_finite()
            && (1.0..=2.0 * WEIGHT_MAX).contains(&self.unit)
            && usable(self.weight)
            && (0.0..=1.0).contains(&self.novelty)
            && self.ran.len() <= SAMPLE_MAX
            && self.ran.is_sorted_by(|a, b| a.0 < b.0)
            // Sums of the same numbers in another order, so a little more is none too many.
            && self.ran.iter().all(|(_, ran)| usable(*ran) && *ran <= self.weight * 1.001)
    }
}

fn probability(id: u32, runs: f32, samples: f32, prior: Option<f32>) -> PathProbability {
    let runs = runs.min(samples);
    match prior {
        None => PathProbability {
            id,
            probability: (runs + 0.5) / (samples + 1.0),
            error: wilson_error(runs, samples),
            runs,
        },
        Some(prior) => {
            let (with, of) = (runs + PRIOR_WEIGHT * prior, samples + PRIOR_WEIGHT);
            PathProbability { id, probability: with / of, error: wilson_error(with, of), runs }
        }
    }
}

fn wilson_error(runs: f32, samples: f32) -> f32 {
    if samples <= 0.0 {
        return 0.5;
    }
    let share = runs / samples;
    let variance = share * (1.0 - share) / samples + Z * Z / (4.0 * samples * samples);
    Z * variance.max(0.0).sqrt() / (1.0 + Z * Z / samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(map: &PathMap, class: Option<u32>, id: u32) -> PathProbability {
        map.probabilities(class).into_iter().find(|path| path.id == id).expect("it ran")
    }

    #[test]
    fn counts_are_those_one_gets_by_hand() {
        let mut map = PathMap::default();
        assert_eq!(map.observe(1, &[10, 11, 11]), 2);
        assert_eq!(map.observe(1, &[10]), 0);
        let (always, half) = (of(&map, Some(1), 10), of(&map, Some(1), 11));
        assert!((always.probability - 2.5 / 3.0).abs() < 0.01, "{always:?}");
        assert!((half.probability - 1.5 / 3.0).abs() < 0.01, "{half:?}");
        // Wilson at 1 of 2: 0.095 to 0.905.
        assert!((half.error - 0.405).abs() < 0.01, "{half:?}");
        assert!(map.probabilities(Some(2)).is_empty());
    }

    #[test]
    fn classes_are_kept_apart_and_can_be_seen_together() {
        let mut map = PathMap::default();
        for _ in 0..100 {
            map.observe(1, &[1, 2]);
            map.observe(2, &[1, 3]);
        }
        assert!(of(&map, Some(1), 2).probability > 0.99);
        assert!(map.probabilities(Some(1)).iter().all(|path| path.id != 3));
        assert!((of(&map, None, 2).probability - 0.5).abs() < 0.01);
        assert!(of(&map, None, 1).probability > 0.99);
        assert!(of(&map, None, 2).error < 0.08);
    }

    #[test]
    fn what_changed_is_forgotten_and_what_is_settled_is_not_novel() {
        let mut map = PathMap::default();
        for _ in 0..1_000 {
            map.observe(1, &[1, 2]);
        }
        assert!(map.class(1).unwrap().novelty < 0.01);
        map.observe(1, &[1, 3]);
        assert!(map.class(1).unwrap().novelty > 0.1);
        for _ in 0..2_000 {
            map.observe(1, &[1, 3]);
        }
        assert!(of(&map, Some(1), 2).probability < 0.05);
        assert!(of(&map, Some(1), 3).probability > 0.95);
        let summary = map.class(1).unwrap();
        assert_eq!(summary.samples, 3_001);
        assert!((400.0..=500.5).contains(&summary.weight), "{summary:?}");
    }

    #[test]
    fn it_stays_bounded_and_sound_and_is_restored_as_it_was() {
        let mut map = PathMap::default();
        let many: Vec<u32> = (0..100_000).collect();
        for class in 1..200 {
            map.observe(class, &many[class as usize..]);
        }
        for _ in 0..20_000 {
            map.observe(1, &[5]);
        }
        assert_eq!(map.classes().len(), CLASSES_MAX);
        assert_eq!(map.class(OTHER_CLASS).unwrap().samples, 200 - 1 - (CLASSES_MAX as u64 - 1));
        assert!(map.is_sound());
        assert!(map.classes().iter().all(|class| class.functions <= SAMPLE_MAX));
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<PathMap>(&json).unwrap(), map);
    }

    #[test]
    fn what_others_run_is_expected_until_there_are_samples_enough() {
        let mut map = PathMap::default();
        map.expect([(4, 1.0), (2, 0.5), (2, 0.25), (9, f32::NAN), (8, 2.0)]);
        assert_eq!(map.prior_functions(), 2);
        assert!(map.is_sound() && map.classes().is_empty());
        // Of a class nobody has seen, too: others' requests are all there is.
        for class in [None, Some(1)] {
            let expected: Vec<_> = map.probabilities(class).iter().map(|path| (path.id, path.probability)).collect();
            assert_eq!(expected, [(4, 1.0), (2, 0.5)]);
        }
        assert!(of(&map, None, 2).error > 0.3, "and nothing is sure");
        map.observe(1, &[2, 7]);
        assert!((of(&map, Some(1), 2).probability - 2.0 / 3.0).abs() < 0.01);
        assert!((of(&map, Some(1), 4).probability - 2.0 / 3.0).abs() < 0.01);
        assert_eq!((of(&map, Some(1), 4).runs, of(&map, Some(1), 7).probability), (0.0, 0.75));
        let restored: PathMap = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
        assert_eq!(restored, map);
        map.expect([(1, 1.0)]);
        assert_eq!(map, restored, "a function with samples does not begin again");
        for _ in 0..PRIOR_SAMPLES_MAX {
            map.observe(1, &[2, 7]);
        }
        assert!(map.probabilities(None).iter().all(|path| path.id != 4) && map.prior_functions() == 0);
    }

    #[test]
    fn a_map_that_breaks_its_rules_is_found() {
        let mut map = PathMap::default();
        map.observe(1, &[1, 2]);
        let sound = serde_json::to_string(&map).unwrap();
        for (from, to) in [("[[1,", "[[3,"), ("\"unit\":1.0", "\"unit\":0.0"), ("\"weight\":1.0", "\"weight\":0.5")] {
            let broken = sound.replace(from, to);
            assert_ne!(broken, sound, "{from}");
            assert!(!serde_json::from_str::<PathMap>(&broken).unwrap().is_sound(), "{broken}");
        }
    }
}
