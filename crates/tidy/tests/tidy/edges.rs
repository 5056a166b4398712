//! The crates depend on one another, and on the work of others, as ARCHITECTURE.md says and not otherwise.

use std::collections::BTreeSet;

use crate::document::{Document, fits};
use crate::packages::{package_name, short_name, workspace};
use crate::reach::reach;

#[test]
fn architecture_lists_every_crate() {
    let listed: BTreeSet<String> = Document::read().crates.into_keys().collect();
    let present: BTreeSet<String> = workspace().keys().map(|name| short_name(name).to_owned()).collect();
    assert_eq!(listed, present, "left: the table in ARCHITECTURE.md, right: the workspace");
}

#[test]
fn edges_between_crates_are_those_of_the_table() {
    let packages = workspace();
    let document = Document::read();
    for (name, package) in &packages {
        let ours = package.dependencies.iter().filter(|name| packages.contains_key(*name));
        let present: BTreeSet<String> = ours.map(|name| short_name(name).to_owned()).collect();
        let Some(row) = document.crates.get(short_name(name)) else { continue };
        assert_eq!(row.depends_on, present, "{name}: left: the table in ARCHITECTURE.md, right: its Cargo.toml");
    }
}

#[test]
fn what_one_crate_alone_knows_no_other_depends_on() {
    let packages = workspace();
    for (owner, row) in Document::read().crates {
        for pattern in &row.alone_knows {
            let owned = |name: &String| fits(pattern, name);
            let users: Vec<&str> = packages
                .iter()
                .filter(|(_, package)| package.dependencies.iter().any(owned))
                .map(|(name, _)| short_name(name))
                .collect();
            assert_eq!(users, [owner.as_str()], "{pattern} belongs to {owner} alone");
        }
    }
}

#[test]
fn no_crate_reaches_what_it_must_never_reach() {
    for (name, forbidden) in Document::read().never_reaches {
        let reached = reach(&package_name(&name));
        for pattern in forbidden {
            // A crate of ours that is not written yet may be named: the rule waits for it.
            let found: Vec<&String> = reached
                .iter()
                .filter(|package| fits(&pattern, package) || **package == package_name(&pattern))
                .collect();
            assert!(found.is_empty(), "{name} must never reach {pattern}, and does: {found:?}");
        }
    }
}

#[test]
fn the_gateway_is_among_those_held_back() {
    let never = Document::read().never_reaches;
    for forbidden in ["runtime", "predict", "specialize", "wasmtime*"] {
        assert!(never["gateway"].contains(forbidden), "the first promise of ARCHITECTURE.md is gone: {forbidden}");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let without: Vec<String> =
        workspace().into_iter().filter(|(_, package)| !package.workspace_lints).map(|(name, _)| name).collect();
    assert!(without.is_empty(), "`[lints] workspace = true` is missing in {without:?}");
}
