//! No input makes the manifest reader panic, and what it says about any input holds together.

use std::collections::BTreeSet;
use std::path::Path;

use forerun_manifest::{LoadOptions, Manifest, Severity, SourceCheck};
use proptest::prelude::*;

const FORERUN: [&str; 2] = [include_str!("cases/full.toml"), include_str!("cases/bad-values.toml")];
const SPIN: [&str; 2] = [include_str!("cases/spin-shop.toml"), include_str!("cases/spin-refused.toml")];

/// Pieces that are likely to matter when they stand in the wrong place.
const PIECES: [&str; 14] =
    ["[", "]", "\"", "'''", "=", ".", "\n", "\r", "{", "}", "...", "\u{1b}", "ä", "[function.cart]\n"];

fn holds_together(name: &str, text: &str) {
    let options = LoadOptions { sources: SourceCheck::Unchecked, ..LoadOptions::default() };
    let report = match Manifest::parse(Path::new(name), text, &options) {
        Ok(manifest) => {
            let (mut routes, mut names) = (BTreeSet::new(), BTreeSet::new());
            for function in &manifest.functions {
                assert!(names.insert(function.spec.name.clone()), "{} twice", function.spec.name);
                assert_eq!(function.spec.check(), Ok(()));
                assert_eq!(function.spec.app, manifest.app);
                for route in &function.spec.routes {
                    assert!(routes.insert(route.to_string()), "{route} twice");
                }
            }
            assert!(manifest.warnings.diagnostics().iter().all(|one| one.severity == Severity::Warning));
            manifest.warnings
        }
        Err(error) => {
            let report = error.report().expect("only the content can be wrong").clone();
            assert!(report.left_out() > 0 || report.diagnostics().iter().any(|one| one.severity == Severity::Error));
            report
        }
    };
    let drawn = report.to_string();
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
    for record in report.records() {
        assert!(record.line.is_none_or(|line| line >= 1 && line <= text.matches('\n').count() + 1));
    }
}

/// A valid manifest with some bytes cut out, pieces put in, or lines doubled.
fn mutated(bases: &'static [&'static str]) -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..30usize, prop::sample::select(&PIECES[..]), any::<bool>());
    (prop::sample::select(bases), prop::collection::vec(edit, 1..6)).prop_map(|(base, edits)| {
        let mut text = base.to_owned();
        for (place, length, piece, double) in edits {
            let start = text.floor_char_boundary(place.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            let cut = text[start..end].to_owned();
            let put = if double { format!("{cut}{piece}{cut}") } else { piece.to_owned() };
            text.replace_range(start..end, &put);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        holds_together("forerun.toml", &String::from_utf8_lossy(&bytes));
        holds_together("spin.toml", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_after_the_version(text in "[ -~\\n\u{80}-\u{ff}]{0,200}") {
        holds_together("forerun.toml", &format!("forerun = 1\n{text}"));
        holds_together("spin.toml", &format!("spin_manifest_version = 2\n{text}"));
    }

    #[test]
    fn mutated_manifests(text in mutated(&FORERUN)) {
        holds_together("forerun.toml", &text);
    }

    #[test]
    fn mutated_spin_manifests(text in mutated(&SPIN)) {
        holds_together("spin.toml", &text);
    }
}

/// The work grows with the size of the manifest, not with its square: this test takes minutes if it does.
#[test]
fn thousands_of_small_parts_are_read() {
    let head = "spin_manifest_version = 2\napplication.name = \"x\"\ntrigger.http = [\n";
    let inline = "{route=\"/x\",component={source=\"x\"}},\n".repeat(8_000);
    holds_together("spin.toml", &format!("{head}{inline}]"));
    let unknown = "{route=\"/x\",component=\"x\"},\n".repeat(6_000);
    let many: String = (0..6_000).map(|index| format!("component.c{index}.source=\"x\"\n")).collect();
    holds_together("spin.toml", &format!("{head}{unknown}]\n{many}"));
    let names = "\"a\",".repeat(60_000);
    for key in ["routes", "key_value_stores", "allowed_outbound_hosts"] {
        let text = format!("forerun = 1\napp.name = \"x\"\n[function.x]\nsource = \"x\"\n{key} = [{names}]");
        holds_together("forerun.toml", &text);
    }
}

#[test]
fn a_megabyte_of_garbage_is_refused() {
    for piece in ["=\n", "[", "[a]\n", "a.", "\"", "x = [1,\n", "x = {a = ", "a=1\n"] {
        holds_together("forerun.toml", &piece.repeat((1 << 20) / piece.len()));
        holds_together("forerun.toml", &piece.repeat((1 << 15) / piece.len()));
    }
}
