//! What other functions of the node know of code that a function shares with them: those made with the same runtime.
//!
//! ```text
//! relative     a function with samples that has RELATED_MIN of this one's inner functions, by key; the nearest few
//! prior(f)   = mean over the relatives that have f of P(f | any request)
//! name(f)    = what a function with symbols calls the same body, where this one has none
//! ```
//! A first version so begins with what is known of its runtime, and not with nothing. Its own samples soon outweigh that
//! (see `forerun_predict::path_map`).

use std::collections::HashMap;

use forerun_predict::path_map::PathProbability;
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::coverage::{CoverageMap, CoveredFunction};
use forerun_types::FunctionName;

use super::book::Book;

/// Share of a function's inner functions that a relative has, at least: less is what any two programs have in common.
const RELATED_MIN: f64 = 0.25;
/// Relatives that are asked, the nearest first.
const RELATIVES_MAX: usize = 4;
/// What relatives hardly ever run is expected as little as what nobody knows.
const PRIOR_MIN: f32 = 0.01;
/// Shorter bodies are alike in programs that have nothing to do with each other.
const NAMED_BYTES_MIN: u32 = 24;

/// What is expected of a function because of others.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expected {
    /// The relatives, nearest first.
    pub(super) from: Vec<FunctionName>,
    /// Keys of inner functions, and the probability that a request runs them.
    pub(super) prior: Vec<(BodyHash, f32)>,
}

/// What the functions with `books` teach about one with these inner functions.
pub(super) fn expected<'b>(books: impl Iterator<Item = (&'b FunctionName, &'b Book)>, map: &CoverageMap) -> Expected {
    let needed = RELATED_MIN * map.functions.len() as f64;
    let shared = |book: &Book| map.functions.iter().filter(|function| book.number(function.hash).is_some()).count();
    let with_samples = books.filter(|(_, book)| book.samples() > 0);
    let mut relatives: Vec<_> = with_samples.map(|(name, book)| (shared(book), name, book)).collect();
    relatives.retain(|(shared, _, _)| *shared > 0 && *shared as f64 >= needed);
    relatives.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    relatives.truncate(RELATIVES_MAX);
    let books: Vec<(&Book, HashMap<u32, f32>)> =
        relatives.iter().map(|(_, _, book)| (*book, probabilities(&book.probabilities()))).collect();
    let prior = map.functions.iter().filter_map(|function| Some((function.hash, mean(&books, function.hash)?)));
    Expected {
        prior: prior.filter(|(_, probability)| *probability >= PRIOR_MIN).collect(),
        from: relatives.into_iter().map(|(_, name, _)| name.clone()).collect(),
    }
}

/// Gives inner functions without a symbol the name and the library under which others have the same body. Says which.
pub(super) fn name_by_body<'b>(books: impl Iterator<Item = &'b Book>, map: &mut CoverageMap) -> Vec<BodyHash> {
    let is_wanted =
        |function: &&mut CoveredFunction| function.code_bytes >= NAMED_BYTES_MIN && is_nameless(&function.name);
    let mut wanted: HashMap<BodyHash, Option<(&str, &str)>> =
        map.functions.iter_mut().filter(is_wanted).map(|function| (function.body, None)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    for (body, name, library) in books.flat_map(Book::symbols) {
        if let Some(found) = wanted.get_mut(&body) {
            // Of several names for one body the first is as good as any, as long as it is always the same.
            *found = (*found).into_iter().chain([(name, library)]).min();
        }
    }
    let mut named = Vec::new();
    for function in map.functions.iter_mut().filter(is_wanted) {
        if let Some((name, library)) = wanted.get(&function.body).copied().flatten() {
            (function.name, function.library) = (name.to_owned(), library.to_owned());
            named.push(function.hash);
        }
    }
    named
}

/// Whether that is what the map calls a function that has no symbol.
pub(super) fn is_nameless(name: &str) -> bool {
    name.strip_prefix("func[").is_some_and(|rest| rest.ends_with(']'))
}

fn probabilities(paths: &[PathProbability]) -> HashMap<u32, f32> {
    paths.iter().map(|path| (path.id, path.probability)).collect()
}

/// `None` if no relative has it.
fn mean(books: &[(&Book, HashMap<u32, f32>)], hash: BodyHash) -> Option<f32> {
    let known = books.iter().filter_map(|(book, paths)| Some(paths.get(&book.number(hash)?).copied().unwrap_or(0.0)));
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), probability| (sum + probability, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

#[cfg(test)]
mod tests {
    use super::super::book::tests::map;
    use super::*;

    fn learnt(keys: &[u8], samples: u32, ran: impl Fn(u8) -> bool) -> Book {
        let mut book = Book::default();
        book.adopt(&map(keys), &[]);
        let marks: Vec<u8> = keys.iter().map(|key| u8::from(ran(*key))).collect();
        (0..samples).for_each(|_| drop(book.observe(7, "GET /", &marks)));
        book
    }

    #[test]
    fn a_first_version_begins_with_what_is_known_of_its_runtime() {
        let names = ["near", "far", "untold"].map(|name| name.parse::<FunctionName>().unwrap());
        let books = [
            learnt(&[1, 2, 3, 9], 100, |key| key != 2),
            learnt(&[1, 50, 51, 52], 100, |_| true),
            learnt(&[1, 2, 3, 4, 5], 0, |_| true),
        ];
        let all = || names.iter().zip(&books);
        let found = expected(all(), &map(&[1, 2, 3, 4, 5]));
        // One function of five in common is not the same runtime; no samples are nothing to learn from.
        assert_eq!(found.from, names[..1]);
        let keys: Vec<u8> = found.prior.iter().map(|(hash, _)| hash.0[0]).collect();
        assert_eq!(keys, [1, 3]);
        assert!(found.prior.iter().all(|(_, probability)| *probability > 0.99));
        let mut book = Book::default();
        book.adopt(&map(&[1, 2, 3, 4, 5]), &[]);
        book.expect(found);
        assert!(book.paths().is_empty(), "an image is made of what was seen to run");
        let view = book.view(&crate::paths::sampler::Sampler::default().cost());
        assert_eq!(
            (view["inherited"]["from"][0].as_str(), view["inherited"]["functions"].as_u64()),
            (Some("near"), Some(2))
        );
        let paths = view["all"]["paths"].as_array().unwrap();
        let shown: Vec<_> = paths.iter().map(|path| path["name"].as_str().unwrap()).collect();
        assert_eq!((shown, view["all"]["ran"].as_u64()), (vec!["f1", "f3"], Some(0)));
    }

    #[test]
    fn what_two_relatives_know_is_averaged() {
        let names = ["one", "other"].map(|name| name.parse::<FunctionName>().unwrap());
        let books = [learnt(&[1, 2], 400, |_| true), learnt(&[1, 2], 400, |key| key == 1)];
        let found = expected(names.iter().zip(&books), &map(&[1, 2]));
        let of = |key: u8| found.prior.iter().find(|(hash, _)| hash.0[0] == key).unwrap().1;
        assert!(of(1) > 0.99 && (of(2) - 0.5).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn code_without_symbols_is_named_by_its_body() {
        let mut symbols = map(&[1, 2, 3]);
        symbols.functions.iter_mut().for_each(|function| function.code_bytes = NAMED_BYTES_MIN);
        symbols.functions[1].code_bytes = 3;
        let mut known = Book::default();
        known.adopt(&symbols, &[]);
        let mut stripped = symbols.clone();
        for function in &mut stripped.functions {
            (function.name, function.library) = (format!("func[{}]", function.index), "main".to_owned());
        }
        let named = name_by_body([&known].into_iter(), &mut stripped);
        let shown: Vec<_> = stripped.functions.iter().map(|f| (f.name.as_str(), f.library.as_str())).collect();
        // The second is too short to be recognised.
        assert_eq!(shown, [("f1", "core"), ("func[2]", "main"), ("f3", "app")]);
        assert_eq!(named, [symbols.functions[0].hash, symbols.functions[2].hash]);
        let mut book = Book::default();
        book.adopt(&stripped, &named);
        assert_eq!(book.symbols().count(), 0, "a name that was guessed names nobody else");
    }
}
