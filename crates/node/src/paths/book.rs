//! What is known of one function's code paths: its inner functions by their keys, the classes of its requests, and the
//! map of probabilities over both.
//!
//! Keys are hashes of bodies, so a new revision begins with what its predecessor taught of the code they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use forerun_driver::TouchedMemory;
use forerun_predict::path_map::{ClassSummary, OTHER_CLASS, PathMap, PathProbability};
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::coverage::CoverageMap;
use forerun_types::FunctionName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::relatives::{Expected, is_nameless};
use super::sampler::SamplingCost;
use super::touched::Touched;
use crate::learning::ExpectedPaths;

/// Inner functions known of one function; when there are more, those of revisions that are gone are forgotten.
const KNOWN_MAX: usize = 1 << 17;
/// Inner functions listed of what is expected; the sums are over all.
const EXPECTED_SHOWN: usize = 20;
/// Classes whose names are kept; the map has fewer.
const NAMES_MAX: usize = 64;

/// An inner function, as a profile names it.
pub(super) struct Path<'b> {
    pub(super) body: BodyHash,
    pub(super) library: &'b str,
    pub(super) probability: f32,
}

/// One function's book.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Book {
    known: Vec<Known>,
    classes: BTreeMap<u32, String>,
    map: PathMap,
    /// Whose samples the map's prior is of.
    #[serde(default)]
    relatives: Vec<FunctionName>,
    /// Memory that requests touch: of each class in `classes`, and of all.
    #[serde(default)]
    touched: BTreeMap<u32, Touched>,
    #[serde(default)]
    touched_by_all: Touched,
    #[serde(skip)]
    numbers: HashMap<BodyHash, u32>,
    /// Numbers of the active revision's inner functions, in the order of its marks.
    #[serde(skip)]
    active: Vec<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    hash: BodyHash,
    body: BodyHash,
    name: String,
    library: String,
    module: String,
    code_bytes: u32,
    /// Whether another function's symbol for the same body is its name.
    #[serde(default)]
    is_named_by_body: bool,
}

impl Book {
    /// A book that was read from somewhere, if it keeps its own rules.
    pub(super) fn checked(mut self) -> Option<Self> {
        let count = u32::try_from(self.known.len()).ok()?;
        let in_range = self.map.probabilities(None).iter().all(|path| path.id < count);
        let touched = self.touched.values().chain([&self.touched_by_all]);
        if self.touched.len() > NAMES_MAX
            || self.relatives.len() > NAMES_MAX
            || !touched.into_iter().all(Touched::is_sound)
        {
            return None;
        }
        if self.known.len() > KNOWN_MAX * 2 || self.classes.len() > NAMES_MAX || !self.map.is_sound() || !in_range {
            return None;
        }
        self.numbers = (0..count).zip(&self.known).map(|(number, known)| (known.hash, number)).collect();
        Some(self)
    }

    /// A revision's twin is there: its marks stand for the functions of `map`, of which some have their names from others.
    pub(super) fn adopt(&mut self, map: &CoverageMap, named_by_body: &[BodyHash]) {
        let named_by_body: BTreeSet<BodyHash> = named_by_body.iter().copied().collect();
        if self.known.len() + map.functions.len() > KNOWN_MAX {
            *self = Self::default();
        }
        self.active.clear();
        for function in &map.functions {
            let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
            let number = *self.numbers.entry(function.hash).or_insert(next);
            if number == next {
                self.known.push(Known {
                    hash: function.hash,
                    body: function.body,
                    name: function.name.clone(),
                    library: function.library.clone(),
                    module: map.modules[function.module as usize].name.clone(),
                    code_bytes: function.code_bytes,
                    is_named_by_body: named_by_body.contains(&function.hash),
                });
            }
            self.active.push(number);
        }
    }

    /// Begins with what relatives taught, if it has no samples of its own.
    pub(super) fn expect(&mut self, expected: Expected) {
        if self.samples() > 0 {
            return;
        }
        let prior = expected.prior.into_iter();
        self.map.expect(prior.filter_map(|(hash, probability)| Some((*self.numbers.get(&hash)?, probability))));
        self.relatives = expected.from;
    }

    /// Samples of all classes.
    pub(super) fn samples(&self) -> u64 {
        self.map.samples()
    }

    /// The number of an inner function, if it is known.
    pub(super) fn number(&self, hash: BodyHash) -> Option<u32> {
        self.numbers.get(&hash).copied()
    }

    /// What a request of any class runs, by number.
    pub(super) fn probabilities(&self) -> Vec<PathProbability> {
        self.map.probabilities(None)
    }

    /// Bodies with the names and libraries that symbols of this function's own give them.
    pub(super) fn symbols(&self) -> impl Iterator<Item = (BodyHash, &str, &str)> {
        let has_symbol = |known: &&Known| known.named_by() == Some("symbol");
        self.known.iter().filter(has_symbol).map(|known| (known.body, known.name.as_str(), known.library.as_str()))
    }

    /// Memory that requests usually have for themselves, in bytes; 0 where the kernel did not tell.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.touched_by_all.dirty_bytes()
    }

    /// A request of `class` touched so much of its VM's memory.
    pub(super) fn note_touched(&mut self, class: u32, memory: TouchedMemory) {
        self.touched_by_all.note(memory);
        if self.classes.contains_key(&class) {
            self.touched.entry(class).or_default().note(memory);
        }
    }

    /// A request of `class` left these marks. Returns the keys of what it ran; none, if the marks are of a revision that
    /// has just been replaced.
    pub(super) fn observe(&mut self, class: u32, name: &str, marks: &[u8]) -> Option<Vec<u32>> {
        if marks.len() != self.active.len() {
            return None;
        }
        if self.classes.len() < NAMES_MAX {
            self.classes.entry(class).or_insert_with(|| name.to_owned());
        }
        let ran: Vec<u32> = marks.iter().zip(&self.active).filter(|(mark, _)| **mark != 0).map(|(_, id)| *id).collect();
        self.map.observe(class, &ran);
        Some(ran.iter().map(|id| key_of(&self.known[*id as usize].hash)).collect())
    }

    /// What the next request is expected to run, with names; inner functions of other revisions are left out.
    pub(super) fn expected_view(&self, expected: &ExpectedPaths) -> Value {
        let of_key: HashMap<u32, &Known> =
            self.active.iter().map(|id| &self.known[*id as usize]).map(|known| (key_of(&known.hash), known)).collect();
        let set = expected.set.functions.iter().filter_map(|key| of_key.get(key));
        let (functions, code_bytes) =
            set.fold((0u64, 0u64), |(count, bytes), known| (count + 1, bytes + u64::from(known.code_bytes)));
        let named = expected.forecast.map.iter().filter_map(|share| Some((*of_key.get(&share.id)?, share.probability)));
        let shown = named.take(EXPECTED_SHOWN).map(|(known, probability)| {
            json!({ "name": known.name, "library": known.library, "hash": known.hash, "probability": probability })
        });
        json!({
            "samples": expected.forecast.samples,
            "never_seen": expected.forecast.unseen,
            "stays_within": {
                "probability": expected.set.mass,
                "error": expected.forecast.error,
                "functions": functions,
                "code_bytes": code_bytes,
                "of_functions": self.active.len(),
            },
            "paths": shown.collect::<Vec<_>>(),
        })
    }

    /// Classes with a sample, and how settled they are.
    pub(super) fn classes(&self) -> Vec<ClassSummary> {
        self.map.classes()
    }

    /// Inner functions of the active revision that ran, with the probability that a request runs them.
    pub(super) fn paths(&self) -> Vec<Path<'_>> {
        let active: BTreeSet<u32> = self.active.iter().copied().collect();
        let ran = |path: &PathProbability| path.runs > 0.0 && active.contains(&path.id);
        let paths = self.map.probabilities(None).into_iter().filter(ran);
        let of = |path: PathProbability| {
            let known = &self.known[path.id as usize];
            Path { body: known.body, library: &known.library, probability: path.probability }
        };
        paths.map(of).collect()
    }

    /// How much another sample of the class would teach.
    pub(super) fn novelty(&self, class: u32) -> f32 {
        self.map.class(class).map_or(1.0, |class| class.novelty)
    }

    /// Everything, for display.
    pub(super) fn view(&self, cost: &SamplingCost) -> Value {
        let active: BTreeSet<u32> = self.active.iter().copied().collect();
        let code_bytes: u64 = active.iter().map(|id| u64::from(self.known[*id as usize].code_bytes)).sum();
        let classes = self.map.classes();
        let of_class = |class: &ClassSummary| {
            let mut view = self.paths_view(self.map.probabilities(Some(class.class)), &active, code_bytes);
            view["class"] = json!(self.class_name(class.class));
            view["samples"] = json!(class.samples);
            view["weight"] = json!(class.weight);
            view["novelty"] = json!(class.novelty);
            view["memory"] = self.touched.get(&class.class).map_or(Value::Null, Touched::view);
            view
        };
        json!({
            "functions": active.len(),
            "code_bytes": code_bytes,
            "sampling": {
                "requests": cost.requests,
                "samples": cost.samples,
                "busy_us_mean": cost.busy_us_mean,
                "sampled_busy_us_mean": cost.sampled_busy_us_mean,
                "cpu_share": cost.share,
            },
            "memory": self.touched_by_all.view(),
            "inherited": { "from": self.relatives, "functions": self.map.prior_functions() },
            "all": self.paths_view(self.map.probabilities(None), &active, code_bytes),
            "classes": classes.iter().map(of_class).collect::<Vec<_>>(),
        })
    }

    fn class_name(&self, class: u32) -> &str {
        match class {
            OTHER_CLASS => "all others",
            class => self.classes.get(&class).map_or("?", String::as_str),
        }
    }

    fn paths_view(&self, paths: Vec<PathProbability>, active: &BTreeSet<u32>, code_bytes: u64) -> Value {
        let paths: Vec<_> = paths.into_iter().filter(|path| active.contains(&path.id)).collect();
        let ran: Vec<_> = paths.iter().filter(|path| path.runs > 0.0).collect();
        let ran_bytes: u64 = ran.iter().map(|path| u64::from(self.known[path.id as usize].code_bytes)).sum();
        let path = |path: &PathProbability| {
            let known = &self.known[path.id as usize];
            json!({
                "name": known.name,
                "library": known.library,
                "module": known.module,
                "hash": known.hash,
                "named_by": known.named_by(),
                "code_bytes": known.code_bytes,
                "probability": path.probability,
                "error": path.error,
                "runs": path.runs,
            })
        };
        json!({
            "ran": ran.len(),
            "ran_bytes": ran_bytes,
            "never_seen_share": if code_bytes == 0 { 0.0 } else { 1.0 - ran_bytes as f64 / code_bytes as f64 },
            "paths": paths.iter().map(path).collect::<Vec<_>>(),
            "libraries": self.parts_view("library", |known| &known.library, &ran, active),
            "modules": self.parts_view("module", |known| &known.module, &ran, active),
        })
    }

    /// Sums over the inner functions of each part that `part_of` names, those with the most code that ran first.
    fn parts_view(
        &self,
        label: &str,
        part_of: impl Fn(&Known) -> &str,
        ran: &[&PathProbability],
        active: &BTreeSet<u32>,
    ) -> Value {
        let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
        for id in active {
            parts.entry(part_of(&self.known[*id as usize])).or_default().functions += 1;
        }
        for path in ran {
            let known = &self.known[path.id as usize];
            let part = parts.entry(part_of(known)).or_default();
            part.ran += 1;
            part.probability = part.probability.max(path.probability);
            part.code_bytes += u64::from(known.code_bytes);
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by(|a, b| b.1.code_bytes.cmp(&a.1.code_bytes).then(a.0.cmp(b.0)));
        let view = |(name, part): &(&str, Part)| {
            json!({
                label: name,
                "functions": part.functions,
                "ran": part.ran,
                "code_bytes": part.code_bytes,
                "probability": part.probability,
            })
        };
        Value::Array(parts.iter().map(view).collect())
    }
}

/// Number of an inner function for whoever foretells what runs next: it lasts over revisions and restarts, which a place
/// in the book does not. In a component of 14,000 functions two share one in one case of forty, and are then taken for one.
fn key_of(hash: &BodyHash) -> u32 {
    let [a, b, c, d, ..] = hash.0;
    u32::from_le_bytes([a, b, c, d])
}

impl Known {
    /// Where its name is from; nothing, if it is a number only.
    fn named_by(&self) -> Option<&'static str> {
        match (self.is_named_by_body, is_nameless(&self.name)) {
            (true, _) => Some("body"),
            (false, false) => Some("symbol"),
            (false, true) => None,
        }
    }
}

/// Sums over the inner functions of one library or module.
#[derive(Default)]
struct Part {
    functions: usize,
    /// Those that ran in a sample.
    ran: usize,
    /// Their code.
    code_bytes: u64,
    /// That of the most probable.
    probability: f32,
}

#[cfg(test)]
pub(super) mod tests {
    use forerun_predict::paths::Share;
    use forerun_specialize::passes::coverage::{CoveredFunction, CoveredModule};

    use super::*;

    pub(in super::super) fn map(keys: &[u8]) -> CoverageMap {
        let function = |key: &u8| CoveredFunction {
            hash: BodyHash([*key; 16]),
            body: BodyHash([*key; 16]),
            name: format!("f{key}"),
            library: if *key < 3 { "core" } else { "app" }.to_owned(),
            module: 0,
            index: u32::from(*key),
            code_bytes: 10,
        };
        CoverageMap {
            modules: vec![CoveredModule { name: "main".to_owned() }],
            functions: keys.iter().map(function).collect(),
        }
    }

    fn cost() -> SamplingCost {
        crate::paths::sampler::Sampler::default().cost()
    }

    #[test]
    fn a_redeployed_function_keeps_what_is_known_of_the_code_it_shares() {
        let mut book = Book::default();
        book.adopt(&map(&[1, 2, 3]), &[]);
        for _ in 0..9 {
            book.observe(7, "GET /", &[1, 0, 1]);
        }
        book.adopt(&map(&[4, 1, 2]), &[]);
        // Marks of the old revision are not taken for the new one's.
        book.observe(7, "GET /", &[1, 1, 1, 1]);
        let view = book.view(&cost());
        assert_eq!(view["functions"], 3);
        let paths = view["classes"][0]["paths"].as_array().unwrap();
        assert_eq!(paths.len(), 1, "{view:#}");
        assert_eq!((&paths[0]["name"], &view["classes"][0]["class"]), (&json!("f1"), &json!("GET /")));
        assert!(paths[0]["probability"].as_f64().unwrap() > 0.9);
        assert!((view["all"]["never_seen_share"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_expected_is_named_by_keys_that_outlast_a_revision() {
        let mut book = Book::default();
        book.adopt(&map(&[1, 2, 3]), &[]);
        let keys = book.observe(7, "GET /", &[1, 0, 1]).unwrap();
        assert_eq!(book.observe(7, "GET /", &[1, 0]), None);
        book.adopt(&map(&[4, 3]), &[]);
        let mut expected = ExpectedPaths::default();
        expected.set.functions = keys.clone();
        expected.forecast.map = keys.iter().map(|id| Share { id: *id, probability: 0.5 }).collect();
        let view = book.expected_view(&expected);
        // Of the two that ran, one is gone with the old revision.
        assert_eq!((&view["stays_within"]["functions"], &view["stays_within"]["of_functions"]), (&json!(1), &json!(2)));
        assert_eq!((view["paths"].as_array().unwrap().len(), &view["paths"][0]["name"]), (1, &json!("f3")));
    }

    #[test]
    fn a_book_is_restored_as_it_was_and_a_broken_one_is_not() {
        let mut book = Book::default();
        book.adopt(&map(&[1, 2]), &[]);
        book.observe(7, "GET /", &[1, 0]);
        let text = serde_json::to_string(&book).unwrap();
        let restored = serde_json::from_str::<Book>(&text).unwrap().checked().unwrap();
        assert_eq!(restored.map, book.map);
        assert_eq!(restored.numbers, book.numbers);
        let broken = text.replace("\"known\":[", "\"known\":[],\"x\":[");
        assert!(serde_json::from_str::<Book>(&broken).unwrap().checked().is_none());
    }
}
