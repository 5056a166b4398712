//! `forerun replay` on excerpts of public traces, through the real binary. Figures are `forerun_sim`'s own tests.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/sim/tests/data").join(name)
}

fn command(trace: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerun"));
    command.arg("replay").arg(trace).args(options).env_remove("FORERUN_LOG").stdin(Stdio::null());
    command
}

fn run(trace: &Path, options: &[&str]) -> Output {
    command(trace, options).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_trace_gives_a_table_json_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("frontier.svg");
    let text = run(&data("azure2021.csv"), &["--svg", svg.to_str().unwrap()]);
    assert!(text.status.success(), "{}", stderr(&text));
    let table = String::from_utf8(text.stdout.clone()).unwrap();
    assert!(table.contains("(azure2021)") && table.contains("\nhybrid histogram") && table.contains("\nforerun "));
    assert!(!stderr(&text).contains("\r"), "no bar without a terminal");
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<polyline"));

    let json = run(&data("azure2021.csv"), &["--json", "--which"]);
    assert!(json.status.success() && json.stderr.is_empty(), "{}", stderr(&json));
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["trace"]["format"], &report["trace"]["events"]), (&"azure2021".into(), &40.into()));
    assert_eq!(report["which"].as_array().unwrap().len(), 5);
}

#[test]
fn errors_name_the_line_and_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.csv");
    std::fs::write(&trace, "func,minute,count\n1,2,3\n1,x,3\n").unwrap();
    let bad = run(&trace, &[]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(bad.stdout.is_empty() && stderr(&bad).contains("trace.csv, line 3: `minute` is `x`"), "{}", stderr(&bad));
    assert!(stderr(&bad).contains("\nhint: "), "{}", stderr(&bad));
    let json: Value = serde_json::from_slice(&run(&trace, &["--json"]).stderr).unwrap();
    assert!(json["hint"].as_str().unwrap().contains("--format"), "{json}");

    std::fs::write(&trace, "what is this\n").unwrap();
    assert!(stderr(&run(&trace, &[])).contains("unknown format"));
    let missing = run(&folder.path().join("none.csv"), &[]);
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for options in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = command(&data("azure2021.csv"), options).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{}", stderr(&ended));
    }
}

#[test]
fn a_trace_without_times_has_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("a.svg");
    let ended = run(&data("deeplog_hdfs.txt"), &["--svg", svg.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr(&ended).contains("no picture") && stderr(&ended).contains("--which"), "{}", stderr(&ended));
    assert!(!svg.exists());
}
