//! What a case found: tables for people, every single figure for machines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::machine::Machine;

/// A finished case.
#[derive(Debug)]
pub(crate) struct Report {
    /// Name of the case, as on the command line.
    pub(crate) case: &'static str,
    /// What was done, in one or two sentences.
    pub(crate) method: String,
    /// What stands behind the names in the tables, a line each.
    pub(crate) legend: Vec<String>,
    pub(crate) tables: Vec<Table>,
    /// Every measurement, settings and versions.
    pub(crate) raw: Value,
    /// Whether what was wanted is so, in cases that judge.
    pub(crate) verdict: Verdict,
    machine: Machine,
    when: Timestamp,
}

/// Whether what a case wants of the server is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It measures and does not judge.
    None,
    Passed,
    Failed,
}

impl Verdict {
    /// Passed if all was met.
    pub(crate) fn of(met: bool) -> Self {
        if met { Self::Passed } else { Self::Failed }
    }
}

/// A table of text.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Report {
    /// A report of now and here.
    pub(crate) fn new(case: &'static str, method: String, legend: Vec<String>, tables: Vec<Table>, raw: Value) -> Self {
        let (verdict, machine, when) = (Verdict::None, Machine::look(), Timestamp::now());
        Self { case, method, legend, tables, raw, verdict, machine, when }
    }

    /// The same, judged.
    pub(crate) fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// The whole as markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            format!("# {}\n\n{}\n\nMeasured {} on {}.\n\n", self.case, self.method, self.time(), self.machine.line());
        for line in &self.legend {
            text += &format!("- {line}\n");
        }
        for table in &self.tables {
            text += &table.markdown();
        }
        text += match self.verdict {
            Verdict::None => "",
            Verdict::Passed => "\nVerdict: passed.\n",
            Verdict::Failed => "\nVerdict: FAILED.\n",
        };
        text
    }

    /// Writes both forms into `bench/results`, named by case and time.
    pub(crate) fn write(&self) -> Result<Vec<PathBuf>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let json = json!({
            "case": self.case,
            "measured_at": self.time(),
            "machine": self.machine,
            "results": self.raw,
        });
        let name = format!("{}-{}", self.when.strftime("%Y%m%d-%H%M%S"), self.case);
        let files = [("md", self.markdown()), ("json", serde_json::to_string_pretty(&json)?)];
        files.into_iter().map(|(ending, text)| write_file(&folder, &name, ending, &text)).collect()
    }

    fn time(&self) -> String {
        self.when.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }
}

impl Table {
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let header: Vec<String> = self.header.iter().map(|cell| (*cell).to_owned()).collect();
        let rule: Vec<String> = self.header.iter().map(|_| "---".to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("\n## {}\n\n{}{}{rows}", self.title, line(&header), line(&rule))
    }
}

fn write_file(folder: &Path, name: &str, ending: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.{ending}"));
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_header_a_rule_and_rows() {
        let table = Table { title: "T".into(), header: vec!["a", "b"], rows: vec![vec!["1".into(), "2".into()]] };
        assert_eq!(table.markdown(), "\n## T\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
