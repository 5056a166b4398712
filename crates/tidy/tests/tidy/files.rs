//! What every file of the repository keeps to, looked at as text.

use crate::repository::{TextFile, rust_files, text_files};
use crate::rust_text::{code_of, has_word};

/// Nobody wants to open a longer file; ours should stay far below.
const LINES_MAX: usize = 800;
/// The one place for `unsafe`, each with its proof.
const UNSAFE_HOME: &str = "crates/runtime/src/sys";
/// Traces of one machine, in halves so that this file has none: its folders, and hosts of package registries, which a
/// mirror may have written into a lock file. Where packages come from is the user's setting.
const MACHINE_TRACES: [(&str, &str); 7] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("registry.", "npmjs.org"),
    ("files.", "pythonhosted.org"),
    ("deb.", "debian.org"),
];

#[test]
fn every_source_opens_with_what_it_is_for() {
    let found = paths_where(rust_files(), |file| !file.text.starts_with("//!"));
    assert!(found.is_empty(), "these do not open with `//!`: {found:?}");
}

#[test]
fn no_source_is_too_long_to_open() {
    let found = paths_where(rust_files(), |file| file.text.lines().count() > LINES_MAX);
    assert!(found.is_empty(), "these have more than {LINES_MAX} lines: {found:?}");
}

#[test]
fn unsafe_code_is_in_its_place_only() {
    // What runs in a VM is a stranger to us; its memory is its own.
    let is_guest = |path: &str| path.starts_with("tests/guests/");
    let files = rust_files().into_iter();
    let elsewhere = files.filter(|file| !is_unsafe_home(&file.path) && !is_guest(&file.path)).collect();
    let found = paths_where(elsewhere, |file| has_word(&code_of(&file.text), "unsafe"));
    assert!(found.is_empty(), "`unsafe` outside {UNSAFE_HOME}: {found:?}");
}

/// The compiler denies `unsafe` in the whole workspace; an exception would have to name the lint.
#[test]
fn unsafe_code_is_allowed_in_its_place_only() {
    let lint = ["unsafe", "_code"].concat();
    // What runs in a VM is a stranger to us; its memory is its own.
    let is_guest = |path: &str| path.starts_with("tests/guests/");
    let files = rust_files().into_iter();
    let elsewhere = files.filter(|file| !is_unsafe_home(&file.path) && !is_guest(&file.path)).collect();
    let found = paths_where(elsewhere, |file| names_the_lint_to_allow_it(&code_of(&file.text), &lint));
    assert!(found.is_empty(), "`{lint}` is allowed outside {UNSAFE_HOME}: {found:?}");
}

#[test]
fn nothing_names_a_machine() {
    let mut found = Vec::new();
    for file in text_files() {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(trace) = machine_trace(line) {
                found.push(format!("{}:{}: {trace}", file.path, number + 1));
            }
        }
    }
    assert!(found.is_empty(), "traces of one machine:\n{}", found.join("\n"));
}

#[test]
fn a_trace_of_a_machine_is_found_in_the_midst_of_a_line() {
    let line = ["source = \"https://index.", "crates.io/\""].concat();
    assert_eq!(machine_trace(&line).as_deref(), Some(["index.", "crates.io"].concat().as_str()));
    assert_eq!(machine_trace("source = \"registry+https://github.com/rust-lang/crates.io-index\""), None);
    assert_eq!(machine_trace("a framework/of crates"), None);
}

fn machine_trace(line: &str) -> Option<String> {
    MACHINE_TRACES.iter().map(|(first, second)| [*first, *second].concat()).find(|trace| line.contains(trace))
}

fn is_unsafe_home(path: &str) -> bool {
    path == format!("{UNSAFE_HOME}.rs") || path.starts_with(&format!("{UNSAFE_HOME}/"))
}

/// In a list of lints to deny or forbid it is welcome.
fn names_the_lint_to_allow_it(code: &str, lint: &str) -> bool {
    code.lines().any(|line| has_word(line, lint) && (has_word(line, "allow") || has_word(line, "expect")))
}

fn paths_where(files: Vec<TextFile>, wrong: impl Fn(&TextFile) -> bool) -> Vec<String> {
    files.into_iter().filter(wrong).map(|file| file.path).collect()
}
