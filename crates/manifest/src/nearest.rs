//! "Did you mean": the known word nearest to an unknown one.
//!
//! Words only; what is known at a place is the caller's.

/// How alike two words must be (Jaro-Winkler, 0 to 1) to be suggested; below, suggestions are noise.
const LIKENESS_MIN: f64 = 0.78;
/// Bytes of a word worth comparing; keys of formats are short.
const WORD_BYTES_MAX: usize = 64;

/// What other formats and habits call our keys.
const ALIASES: [(&str, &str); 9] = [
    ("application", "app"),
    ("component", "function"),
    ("functions", "function"),
    ("variables", "config"),
    ("env", "environment"),
    ("route", "routes"),
    ("wasm", "source"),
    ("warmup", "warm_up"),
    ("version", "forerun"),
];

/// The known word that was probably meant by `word`, if any is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let lower = word.to_ascii_lowercase().replace('-', "_");
    let alias = ALIASES.iter().find(|(other, _)| *other == lower).map(|(_, ours)| *ours);
    let mut best = None;
    for candidate in known {
        if alias == Some(candidate) {
            return Some(candidate);
        }
        let likeness = strsim::jaro_winkler(&lower, &candidate.to_ascii_lowercase());
        if likeness >= LIKENESS_MIN && best.is_none_or(|(_, most)| likeness > most) {
            best = Some((candidate, likeness));
        }
    }
    best.map(|(candidate, _)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_likely_word_or_nothing() {
        let known = ["routes", "source", "environment", "limits", "config"];
        assert_eq!(nearest("rotues", known), Some("routes"));
        assert_eq!(nearest("Enviroment", known), Some("environment"));
        assert_eq!(nearest("env", known), Some("environment"));
        assert_eq!(nearest("variables", known), Some("config"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest(&"r".repeat(1 << 20), known), None);
    }
}
