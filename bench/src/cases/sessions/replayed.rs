//! The same calls through `forerun replay`: what it says of cold starts at the memory that was held in reality.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::schedule::Call;

/// Where a replayed trace begins: any time does.
const BEGIN_UNIX_US: u64 = 1_700_000_000_000_000;

/// What a replay found, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Replayed {
    trace: Trace,
    policies: Vec<Policy>,
}

#[derive(Clone, Debug, Deserialize)]
struct Trace {
    waste_unit_h: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Policy {
    family: String,
    whole: Point,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Point {
    cold_percent: f64,
    /// Memory held in vain, in units of the trace.
    waste: f64,
}

/// A family's share of cold starts at some memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cold {
    /// Between two of its points.
    At(f64),
    /// Its curve does not go there; this is where it ends.
    Nearest(f64),
}

/// Replays the calls.
pub(super) async fn replay(program: &Path, calls: &[Call], name: impl Fn(usize) -> String) -> Result<Replayed> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let file = folder.path().join("sessions.csv");
    std::fs::write(&file, export(calls, name)?)?;
    let output = Command::new(program).arg("replay").arg(&file).args(["--format", "export", "--json"]).output().await?;
    ensure!(output.status.success(), "forerun replay failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the replay's report is another than expected")
}

/// As `forerun export` writes it.
fn export(calls: &[Call], name: impl Fn(usize) -> String) -> Result<String> {
    let mut text = "at_us,function,app,session\n".to_owned();
    for Call { at_s, session, function } in calls {
        let at_us = BEGIN_UNIX_US + (at_s * 1e6) as u64;
        writeln!(text, "{at_us},{},sessions,{session}", name(*function))?;
    }
    Ok(text)
}

impl Replayed {
    /// Of the policies whose family begins like that, at so many VM-seconds held.
    pub(super) fn cold_percent(&self, family: &str, held_vm_s: f64) -> Option<Cold> {
        let waste = held_vm_s / 3_600.0 / self.trace.waste_unit_h.max(f64::MIN_POSITIVE);
        let mut points: Vec<Point> =
            self.policies.iter().filter(|policy| policy.family == family).map(|policy| policy.whole).collect();
        points.sort_by(|one, other| one.waste.total_cmp(&other.waste));
        let (first, last) = (points.first()?, points.last()?);
        if waste <= first.waste {
            return Some(Cold::Nearest(first.cold_percent));
        }
        if waste >= last.waste {
            return Some(Cold::Nearest(last.cold_percent));
        }
        let pair = points.windows(2).find(|pair| pair[0].waste <= waste && waste <= pair[1].waste)?;
        let share = (waste - pair[0].waste) / (pair[1].waste - pair[0].waste).max(f64::MIN_POSITIVE);
        Some(Cold::At(pair[0].cold_percent + share * (pair[1].cold_percent - pair[0].cold_percent)))
    }

    /// Names of the families that were replayed.
    pub(super) fn families(&self) -> Vec<&str> {
        let mut families: Vec<&str> = self.policies.iter().map(|policy| policy.family.as_str()).collect();
        families.dedup();
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_as_an_export() {
        let calls = [Call { at_s: 1.5, session: 7, function: 3 }];
        let text = export(&calls, |number| format!("f{number}")).unwrap();
        assert_eq!(text, "at_us,function,app,session\n1700000001500000,f3,sessions,7\n");
    }

    #[test]
    fn cold_starts_are_read_off_the_curve_and_its_ends_are_named() {
        let text = r#"{"trace":{"waste_unit_h":2.0,"more":1},"policies":[
            {"family":"forerun","parameter":"1","whole":{"cold_percent":10.0,"waste":1.0}},
            {"family":"forerun","parameter":"2","whole":{"cold_percent":30.0,"waste":0.5}},
            {"family":"fixed","parameter":"3","whole":{"cold_percent":99.0,"waste":0.7}}]}"#;
        let replayed: Replayed = serde_json::from_str(text).unwrap();
        assert_eq!(replayed.cold_percent("forerun", 0.75 * 7_200.0), Some(Cold::At(20.0)));
        assert_eq!(replayed.cold_percent("forerun", 0.0), Some(Cold::Nearest(30.0)));
        assert_eq!(replayed.cold_percent("forerun", 1e9), Some(Cold::Nearest(10.0)));
        assert_eq!(replayed.cold_percent("other", 1.0), None);
    }
}
