//! Replays of small excerpts of public traces: every format is read, errors name the line, and the baselines' figures
//! are what their definitions give.

use forerun_sim::picture;
use forerun_sim::progress::{Progress, Silent};
use forerun_sim::reader::{Input, TraceFormat};
use forerun_sim::replay::{ReplayError, ReplayOptions, replay};
use forerun_sim::report::ReplayReport;
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn options() -> ReplayOptions {
    ReplayOptions { worth_s: vec![600.0, 3_600.0, 14_400.0], ..ReplayOptions::default() }
}

fn replay_file(name: &str, options: &ReplayOptions) -> ReplayReport {
    replay(options, vec![Input::open(&data(name)).expect("the excerpt is there")], &mut Silent)
        .expect("it can be replayed")
}

fn replay_text(text: &str, format: Option<TraceFormat>) -> Result<ReplayReport, ReplayError> {
    let input = Input::from_bytes("text", text.as_bytes().to_vec());
    replay(&ReplayOptions { format, ..options() }, vec![input], &mut Silent)
}

#[test]
fn compressed_forms_of_a_trace_give_the_same_report() {
    let zst = replay_file("azure2019_minute.csv.zst", &options());
    let gz = replay_file("azure2019_minute.csv.gz", &options());
    assert_eq!(zst.trace.functions, gz.trace.functions);
    assert_eq!(serde_json::to_string(&zst.policies).unwrap(), serde_json::to_string(&gz.policies).unwrap());
    let of = |family: &str| zst.policies.iter().filter(|policy| policy.family == family).collect::<Vec<_>>();
    assert!((of("fixed")[0].whole.waste - 1.0).abs() < 1e-9, "the unit of waste is the fixed ten minutes");
    assert_eq!(of("no keep-alive")[0].whole.cold_percent, 100.0);
    assert!(of("FaasCache").len() == 4 && of("hybrid histogram").len() == 2 && of("forerun").len() >= 3);
    let cold: Vec<f64> = of("forerun")[..3].iter().map(|policy| policy.whole.cold_percent).collect();
    assert!(cold[0] > cold[1] && cold[1] > cold[2], "a dearer cold start is avoided more: {cold:?}");
    assert!(picture::frontier(&zst).contains("<polyline"));
    assert!(zst.to_text().contains("\nforerun 600 s "));
    assert!(serde_json::from_str::<serde_json::Value>(&zst.to_json()).is_ok());
}

#[test]
fn two_files_are_two_days() {
    let inputs = || Input::open(&data("azure2019_minute.csv.zst")).unwrap();
    let report = replay(&options(), vec![inputs(), inputs()], &mut Silent).unwrap();
    assert!(report.trace.days > 1.9, "{}", report.trace.days);
}

#[test]
fn every_format_is_recognised_and_read() {
    let expected = [
        ("azure2021.csv", "azure2021", 40),
        ("nezha_spans.csv.zst", "spans", 3_000),
        ("access.log", "access-log", 4),
        ("export.csv", "export", 2),
    ];
    for (name, format, events) in expected {
        let report = replay_file(name, &options());
        assert_eq!((report.trace.format.as_str(), report.trace.events), (format, events), "{name}");
    }
    assert_eq!(replay_file("access.log", &options()).trace.functions, 3, "identifiers in paths do not make functions");
    let wide = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,0,2,1\no,a,g,timer,1,0,0\n";
    let report = replay_text(wide, None).unwrap();
    assert_eq!((report.trace.calls, report.trace.functions, report.trace.scopes), (4, 2, 1));
    let alibaba = "gmt_create,groupId,checkpoint_model_version_id\n2024-11-15 16:57:50,G,M\n2024-11-15 16:58:50,G,\n";
    let report = replay_text(alibaba, None).unwrap();
    assert_eq!((report.trace.events, report.trace.skipped), (1, 1));
}

#[test]
fn the_next_symbol_of_log_keys_is_predicted_and_every_family_scored() {
    let options = ReplayOptions { which: true, by_session: true, ..options() };
    let report = replay_file("deeplog_hdfs.txt", &options);
    assert!(report.policies.is_empty(), "sequences have no times to keep anything alive for");
    let names: Vec<&str> = report.which.iter().map(|score| score.families.as_str()).collect();
    assert_eq!(names, ["S", "M", "L", "S+M", "S+M+L"]);
    let bits = |name: &str| report.which.iter().find(|score| score.families == name).unwrap().bits;
    assert!(bits("S+M+L") < bits("S") && bits("S+M+L") < bits("L"), "{} {} {}", bits("S+M+L"), bits("S"), bits("L"));
    assert!(picture::reliability(&report).is_some_and(|svg| svg.contains("<circle")));
}

#[test]
fn errors_name_the_file_the_line_and_the_value() {
    let cases = [
        ("func,minute,count\n1,2,3\n1,x,3\n", "text, line 3: `minute` is `x`, not a whole number"),
        ("func,minute\n1,2\n", "text, line 1: the header has no column `count`"),
        ("func,minute,count\n1,2\n", "text, line 2: 2 fields, but `count` is number 3"),
        (
            "app,func,end_timestamp,duration\na,f,inf,1\n",
            "text, line 2: `end_timestamp` is `inf`, not a time in seconds",
        ),
        ("what is this\n", "text: unknown format; name one of azure2019, azure2021, alibaba"),
        ("func,minute,count\n", "no calls in text"),
        ("func,minute,count\n1,99999999999,1\n", "text, line 2: minute 99999999999 is beyond ten years"),
    ];
    for (text, expected) in cases {
        let message = replay_text(text, None).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{text:?} gave {message:?}");
    }
    let missing = Input::open(&data("no-such-file.csv")).unwrap_err().to_string();
    assert!(missing.contains("no-such-file.csv"), "{missing}");
}

#[test]
fn a_damaged_archive_is_an_error_not_a_short_trace() {
    let mut bytes = std::fs::read(data("azure2019_minute.csv.gz")).unwrap();
    bytes.truncate(bytes.len() / 2);
    let path = tempfile::Builder::new().suffix(".csv.gz").tempfile().unwrap();
    std::fs::write(path.path(), bytes).unwrap();
    let error = replay(&options(), vec![Input::open(path.path()).unwrap()], &mut Silent).unwrap_err();
    assert!(error.to_string().contains("cannot read on after line"), "{error}");
}

#[test]
fn progress_is_reported_in_stages() {
    #[derive(Default)]
    struct Stages(Vec<String>);
    impl Progress for Stages {
        fn stage(&mut self, name: &str, _total: Option<u64>) {
            self.0.push(name.to_owned());
        }
        fn at(&mut self, _done: u64) {}
    }
    let mut stages = Stages::default();
    replay(&options(), vec![Input::open(&data("azure2021.csv")).unwrap()], &mut stages).unwrap();
    assert_eq!(stages.0.len(), 3, "{:?}", stages.0);
}
