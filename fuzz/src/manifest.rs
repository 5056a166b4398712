//! For `manifest`: what must hold of a manifest that was read, and of what is said about one that was not.

use forerun_manifest::{LoadOptions, Manifest, ManifestError, Report, Severity, SourceCheck};
use std::collections::BTreeSet;
use std::path::Path;

/// Longer texts say nothing new and take long.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Reads a text as a manifest of this name.
///
/// # Panics
/// If what comes out does not hold together.
pub fn read(name: &str, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    let options = LoadOptions { sources: SourceCheck::Unchecked, ..LoadOptions::default() };
    match Manifest::parse(Path::new(name), text, &options) {
        Ok(manifest) => {
            let (mut routes, mut names) = (BTreeSet::new(), BTreeSet::new());
            for function in &manifest.functions {
                assert!(names.insert(function.spec.name.clone()), "{} twice", function.spec.name);
                assert_eq!(function.spec.check(), Ok(()));
                for route in &function.spec.routes {
                    assert!(routes.insert(route.to_string()), "{route} twice");
                }
            }
            assert!(manifest.warnings.diagnostics().iter().all(|one| one.severity == Severity::Warning));
            rendered(&manifest.warnings, text);
        }
        Err(ManifestError::Invalid(report)) => {
            assert!(report.left_out() > 0 || report.diagnostics().iter().any(|one| one.severity == Severity::Error));
            rendered(&report, text);
        }
        Err(other) => panic!("nothing else can be wrong with a text: {other}"),
    }
}

/// What is said can be drawn, has nothing in it that a terminal obeys, and points into the text.
fn rendered(report: &Report, text: &str) {
    let drawn = report.render(false);
    assert!(report.is_empty() || !drawn.is_empty());
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
    assert!(!report.render(true).is_empty() || report.is_empty());
    let lines = text.matches('\n').count() + 1;
    assert!(report.records().iter().all(|record| record.line.is_none_or(|line| (1..=lines).contains(&line))));
}
