//! What is said about a manifest, compared with text files: `tests/cases/<name>.toml` and `<name>.txt`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p forerun-manifest` writes the text files anew; look at the difference before
//! committing it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use forerun_manifest::{LoadOptions, Manifest, ManifestError, SourceCheck};

/// Manifests whose name starts with this have their component files looked for.
const WITH_SOURCES: &str = "source-";

#[test]
fn cases_say_what_they_should() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20, "the cases are not where they are looked for: {cases:?}");
    for case in cases {
        let said = said_about(&case);
        let golden = case.with_extension("txt");
        if update {
            std::fs::write(&golden, said).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != said {
            different.push(format!("==== {} says now:\n{said}", case.display()));
        }
    }
    assert!(different.is_empty(), "run with UPDATE_GOLDEN=1 if this is right\n{}", different.join("\n"));
}

/// Relative to the package, where cargo runs tests, so that no path of this machine is in the texts.
fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/cases").expect("cases").map(|entry| entry.expect("case").path());
    let mut cases: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    cases.sort();
    cases
}

fn said_about(case: &Path) -> String {
    let with_sources = case.file_name().expect("a file").to_string_lossy().starts_with(WITH_SOURCES);
    let sources = if with_sources { SourceCheck::MustExist } else { SourceCheck::Unchecked };
    let options = LoadOptions { sources, ..LoadOptions::default() };
    match Manifest::load_with(case, &options) {
        Ok(manifest) => accepted(&manifest),
        Err(error) => format!("REFUSED\n\n{}\n", plain(&error)),
    }
}

fn plain(error: &ManifestError) -> String {
    trimmed(&error.to_string())
}

fn accepted(manifest: &Manifest) -> String {
    let mut text = format!("ACCEPTED app {}\n", manifest.app);
    for function in &manifest.functions {
        writeln!(text, "\n{function:#?}").expect("text");
    }
    if !manifest.warnings.is_empty() {
        writeln!(text, "\n{}", trimmed(&manifest.warnings.to_string())).expect("text");
    }
    text
}

fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
