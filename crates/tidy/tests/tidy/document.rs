//! ARCHITECTURE.md as data: the tables that the tests hold the crates to.
//!
//! A table is found by the words of its header, a cell is read by its code spans; prose around them is for people.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository;

/// A row of the table of crates.
#[derive(Debug, Default)]
pub(crate) struct CrateRow {
    /// Crates of the workspace it depends on, by short name.
    pub(crate) depends_on: BTreeSet<String>,
    /// Packages of others that only it may depend on; a `*` at the end stands for any ending.
    pub(crate) alone_knows: BTreeSet<String>,
}

/// What the document promises.
#[derive(Debug)]
pub(crate) struct Document {
    /// The table of crates, by short name.
    pub(crate) crates: BTreeMap<String, CrateRow>,
    /// Crate, and the packages it must not reach even indirectly.
    pub(crate) never_reaches: BTreeMap<String, BTreeSet<String>>,
}

impl Document {
    /// Reads ARCHITECTURE.md.
    pub(crate) fn read() -> Self {
        Self::parse(&repository::read("ARCHITECTURE.md"))
    }

    fn parse(text: &str) -> Self {
        let crates = rows(text, &["crate", "purpose", "depends on", "alone knows"]).into_iter().map(|cells| {
            let row = CrateRow { depends_on: spans(cells[2]).collect(), alone_knows: spans(cells[3]).collect() };
            (first_span(cells[0]), row)
        });
        let never = rows(text, &["crate", "never reaches"]).into_iter();
        Self {
            crates: crates.collect(),
            never_reaches: never.map(|cells| (first_span(cells[0]), spans(cells[1]).collect())).collect(),
        }
    }
}

/// Whether a package fits a name of the document.
pub(crate) fn fits(pattern: &str, package: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => package == pattern,
    }
}

/// The rows below the one header that has exactly these cells.
fn rows<'a>(text: &'a str, header: &[&str]) -> Vec<Vec<&'a str>> {
    let mut lines = text.lines().skip_while(|line| cells(line) != header);
    assert!(lines.next().is_some(), "ARCHITECTURE.md has no table with the header {header:?}");
    let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(rows.iter().all(|row| row.len() == header.len()), "a row of the table {header:?} has another width");
    rows
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map_or_else(Vec::new, |inner| inner.split('|').map(str::trim).collect())
}

/// The texts between backquotes.
fn spans(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn first_span(cell: &str) -> String {
    spans(cell).next().unwrap_or_else(|| panic!("{cell:?} in ARCHITECTURE.md names no crate"))
}

#[test]
fn a_table_is_read_by_header_and_code_spans() {
    let document = Document::parse(
        "# A\n\n| crate | purpose | depends on | alone knows |\n|---|---|---|---|\n\
         | `a` | text | – | HTTP (`hyper`, `h2-*`) |\n| `b` | `x` | `a` | – |\n\ntext\n\n\
         | crate | never reaches |\n|---|---|\n| `a` | `wasmtime` |\n",
    );
    assert_eq!(document.crates.len(), 2);
    assert!(document.crates["a"].depends_on.is_empty());
    assert!(document.crates["a"].alone_knows.contains("h2-*"));
    assert!(document.crates["b"].depends_on.contains("a"));
    assert!(document.never_reaches["a"].contains("wasmtime"));
    assert!(fits("h2-*", "h2-server") && !fits("h2-*", "h3") && !fits("hyper", "hyper-util"));
}
