//! The same calls through `forerun replay --on-vms`: what it says of cold starts on memory for as many VMs.

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
    on_vms: Vec<OnVms>,
}

/// One of the node's rules in virtual time.
#[derive(Clone, Debug, Deserialize)]
struct OnVms {
    rule: String,
    cold_percent: f64,
}

/// Replays the calls.
pub(super) async fn replay(
    program: &Path,
    calls: &[Call],
    vms: u64,
    name: impl Fn(usize) -> String,
) -> Result<Replayed> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let file = folder.path().join("sessions.csv");
    std::fs::write(&file, export(calls, name)?)?;
    let vms = vms.to_string();
    let options = ["--format", "export", "--json", "--on-vms", &vms];
    let output = Command::new(program).arg("replay").arg(&file).args(options).output().await?;
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
    /// Calls that start cold by the node's rule of that name.
    pub(super) fn cold_percent(&self, rule: &str) -> Option<f64> {
        self.on_vms.iter().find(|found| found.rule == rule).map(|found| found.cold_percent)
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
    fn cold_starts_are_found_by_rule() {
        let text = r#"{"trace":{},"on_vms":[{"rule":"expected","vms":10,"cold_percent":12.5}]}"#;
        let replayed: Replayed = serde_json::from_str(text).unwrap();
        assert_eq!((replayed.cold_percent("expected"), replayed.cold_percent("other")), (Some(12.5), None));
    }
}
