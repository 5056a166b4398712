//! What a crate is linked with, however indirectly, on this platform and with the features it asks for.
//!
//! Cargo.lock would be quicker to read, but it joins the features of the whole workspace: a crate would seem to reach
//! what only another one switched on.

use std::collections::BTreeSet;

use crate::packages::cargo;

/// Names of all packages that `package` reaches, itself left out. Macros and tests are not linked and not counted.
pub(crate) fn reach(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package",
        package,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    names(&tree).filter(|name| name != package).collect()
}

/// A line is `name v1.2.3`, and more words for some.
fn names(tree: &str) -> impl Iterator<Item = String> {
    tree.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned())
}

#[test]
fn names_are_the_first_words() {
    let tree = "forerun-gateway v0.1.0 (/somewhere)\nhyper v1.0.0\nhyper v1.0.0 (*)\n\n";
    let expected = BTreeSet::from(["forerun-gateway".to_owned(), "hyper".to_owned()]);
    assert_eq!(names(tree).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn reach_goes_through_other_crates() {
    let reached = reach("forerun-gateway");
    assert!(reached.contains("forerun-types"), "through the driver contract");
    assert!(reached.contains("mio"), "through tokio");
    assert!(!reached.contains("proptest"), "tests are not linked");
}
