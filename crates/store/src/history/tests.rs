//! The history across restarts, at its limits, with a disk that stalls, and against sums made by hand.

use std::collections::BTreeMap;
use std::path::Path;

use forerun_telemetry::{
    Detached, EventSink, EventWriter, InvocationEvent, Phases, RecentInvocations, RequestClass, event_pipe,
};
use forerun_types::{
    GenericReason, InvocationId, Outcome, RevisionNumber, ServePath, SessionKey, SpanId, TraceContext, TraceId,
};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::directory::tests::directory_in_memory;
use crate::store::StoreSettings;

/// Midnight, so that hours and minutes are easy to see.
const START_S: u64 = 1_700_006_400;

/// What writes a history, in one hand.
struct Writing {
    journal: HistoryJournal,
    writer: HistoryWriter,
}

impl Writing {
    fn write(&mut self, events: &[InvocationEvent]) {
        self.journal.take(events);
        self.writer.settle().unwrap();
    }
}

fn open(settings: HistorySettings) -> (tempfile::TempDir, Writing, History) {
    let directory = directory_in_memory();
    let (writing, history) = open_in(directory.path(), settings);
    (directory, writing, history)
}

fn open_in(directory: &Path, settings: HistorySettings) -> (Writing, History) {
    let store = Store::open(directory, StoreSettings::default()).unwrap();
    let (journal, writer, history) = store.history(settings).unwrap();
    (Writing { journal, writer }, history)
}

fn event(number: u64, second: u64) -> InvocationEvent {
    InvocationEvent {
        id: InvocationId::from_random(number.into()),
        started_unix_us: (START_S + second) * 1_000_000,
        function: format!("f{}", number % 3).parse().unwrap(),
        app: "shop, \"the\" best".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
        trace: TraceContext {
            trace_id: TraceId::from_random(u128::from(number) + 1),
            span_id: SpanId::from_random(number + 1),
            sampled: true,
        },
        parent_span: number.is_multiple_of(2).then(|| SpanId::from_random(9)),
        caller: None,
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: if number.is_multiple_of(5) { Outcome::Trap } else { Outcome::Ok },
        status: 200,
        phases: Phases { routed_us: 1, admitted_us: 2, deployed_us: 3, first_byte_us: 4, total_us: number },
        busy_us: 2,
        calls_us: 0,
        cpu_us: None,
        memory_bytes_peak: 1 << 20,
        bytes_in: 3,
        bytes_out: u64::MAX,
    }
}

fn export(history: &History, query: &ExportQuery, format: ExportFormat) -> String {
    let mut output = Vec::new();
    let rows = history.export(query, format, &mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    let header = u64::from(format == ExportFormat::Csv);
    assert_eq!(text.lines().count() as u64, rows + header);
    text
}

fn objects(history: &History, table: ExportTable) -> Vec<Value> {
    let text = export(history, &ExportQuery::all(table), ExportFormat::JsonLines);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(objects: &[Value], key: &str) -> i64 {
    objects.iter().map(|object| object[key].as_i64().unwrap()).sum()
}

#[test]
fn calls_and_their_sums_are_there_after_a_restart() {
    let (directory, mut writing, history) = open(HistorySettings::default());
    writing.write(&(0..10).map(|number| event(number, number * 20)).collect::<Vec<_>>());
    drop((writing, history));
    let (_writing, history) = open_in(directory.path(), HistorySettings::default());
    let calls = objects(&history, ExportTable::Invocations);
    assert_eq!(calls.len(), 10);
    assert_eq!(calls[1]["invocation_id"], InvocationId::from_random(1).to_string());
    assert_eq!((&calls[1]["function"], &calls[1]["outcome"]), (&"f1".into(), &"ok".into()));
    assert_eq!((&calls[1]["parent_span_id"], &calls[2]["parent_span_id"]), (&Value::Null, &"0000000000000009".into()));
    let loads = objects(&history, ExportTable::Loads);
    // Three functions in each of four minutes, the last with one call only.
    assert_eq!(loads.len(), 10);
    assert_eq!((sum(&loads, "calls"), sum(&loads, "failures"), sum(&loads, "total_us_sum")), (10, 2, 45));
    assert!(loads.iter().all(|load| load["seconds"] == 60 && load["start_unix_s"].as_u64().unwrap() % 60 == 0));
    assert_eq!(history.find(InvocationId::from_random(3)).unwrap().unwrap(), calls[3]);
    assert_eq!(history.find(InvocationId::from_random(99)).unwrap(), None);
    assert!(history.size_bytes().unwrap() > 0);
}

#[test]
fn sessions_are_kept_as_hashes_and_cpu_time_where_it_was_measured() {
    let (_directory, mut writing, history) = open(HistorySettings::default());
    let measured = InvocationEvent { session: Some(SessionKey::from_hash(0xab)), cpu_us: Some(1), ..event(1, 0) };
    writing.write(&[measured, event(2, 0)]);
    let calls = objects(&history, ExportTable::Invocations);
    assert_eq!((&calls[0]["session"], &calls[0]["cpu_us"]), (&"00000000000000ab".into(), &1.into()));
    assert_eq!((&calls[1]["session"], &calls[1]["cpu_us"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_history_of_the_first_format_is_read_and_written_on() {
    let directory = directory_in_memory();
    drop(Store::open(directory.path(), StoreSettings::default()).unwrap());
    let first = database::DatabaseKind { migrations: &[schema::FORMAT_1], ..KIND };
    let old = database::open(directory.path(), &first).unwrap();
    old.execute_batch(
        "INSERT INTO classes VALUES (1, 'f', '', 'GET', '/', 0);
         INSERT INTO calls VALUES (7, 1, x'01', x'02', x'03', NULL, 1, 1, NULL, 'ready', 'ok', 200,
             1, 2, 3, 4, 5, 6, 7, 8, 9);",
    )
    .unwrap();
    drop(old);
    let (mut writing, history) = open_in(directory.path(), HistorySettings::default());
    writing.write(&[InvocationEvent { session: Some(SessionKey::from_hash(1)), ..event(1, 0) }]);
    let calls = objects(&history, ExportTable::Invocations);
    assert_eq!((&calls[0]["bytes_out"], &calls[0]["session"]), (&9.into(), &Value::Null));
    assert_eq!(calls[1]["session"], "0000000000000001");
}

#[test]
fn exports_what_is_asked_for_page_by_page() {
    let (_directory, mut writing, history) = open(HistorySettings::default());
    // Many rows of one time, over more than one page.
    writing.write(&(0..12_000).map(|number| event(number, number / 7000)).collect::<Vec<_>>());
    let all = objects(&history, ExportTable::Invocations);
    let mut ids: Vec<_> = all.iter().map(|call| call["id"].as_i64().unwrap()).collect();
    assert!(all.is_sorted_by_key(|call| call["started_unix_us"].as_i64()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12_000);
    let query = ExportQuery {
        function: Some("f1".parse().unwrap()),
        from_unix_us: START_S * 1_000_000,
        to_unix_us: (START_S + 1) * 1_000_000,
        ..ExportQuery::all(ExportTable::Invocations)
    };
    let csv = export(&history, &query, ExportFormat::Csv);
    assert_eq!(csv.lines().count() - 1, (0..7000).filter(|number| number % 3 == 1).count());
    let header: Vec<_> = csv.lines().next().unwrap().split(',').collect();
    let keys: Vec<_> = all[0].as_object().unwrap().keys().cloned().collect();
    let mut sorted = header.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, keys);
    let row = csv.lines().nth(1).unwrap();
    assert!(row.contains(",f1,\"shop, \"\"the\"\" best\",1,GET,/cart/...,0,,,generic-no-image,ok,200,"), "{row}");
}

#[test]
fn old_calls_go_and_minutes_become_hours() {
    let hour_ms = 3600 * 1000;
    let settings = HistorySettings {
        calls_age_ms: hour_ms,
        minutes_age_ms: 2 * hour_ms,
        hours_age_ms: 10 * hour_ms,
        ..Default::default()
    };
    let (_directory, mut writing, history) = open(settings);
    // One call every ten minutes for four hours.
    writing.write(&(0..24).map(|number| event(number, number * 600)).collect::<Vec<_>>());
    let before = objects(&history, ExportTable::Loads);
    let now_ms = |hours: u64| START_S * 1000 + hours * hour_ms;
    writing.writer.maintain(now_ms(4));
    assert_eq!(objects(&history, ExportTable::Invocations).len(), 6);
    let loads = objects(&history, ExportTable::Loads);
    let count = |seconds: u64| loads.iter().filter(|load| load["seconds"] == seconds).count();
    assert_eq!((count(60), count(3600)), (12, 2 * 3));
    for key in ["calls", "failures", "total_us_sum", "busy_us_sum", "bytes_in_sum"] {
        assert_eq!(sum(&loads, key), sum(&before, key), "{key}");
    }
    // A late call of an hour that is rolled up already is added to it.
    writing.write(&[event(0, 0)]);
    writing.writer.maintain(now_ms(4));
    assert_eq!(sum(&objects(&history, ExportTable::Loads), "calls"), 25);
    writing.writer.maintain(now_ms(40));
    assert!(objects(&history, ExportTable::Loads).is_empty());
    let classes = history.reader.lock().query_row("SELECT count(*) FROM classes", [], |row| row.get::<_, u32>(0));
    assert_eq!(classes, Ok(0));
    // And it goes on with classes that were removed.
    writing.write(&[event(0, 0)]);
    assert_eq!(objects(&history, ExportTable::Invocations).len(), 1);
}

#[test]
fn the_size_is_bounded_and_single_calls_go_first() {
    let bytes_max = 1 << 20;
    let (_directory, mut writing, history) = open(HistorySettings { bytes_max, ..Default::default() });
    for round in 0..6 {
        writing.write(&(0..5000).map(|number| event(number, round * 60)).collect::<Vec<_>>());
        writing.writer.maintain(START_S * 1000);
        assert!(history.size_bytes().unwrap() <= bytes_max);
    }
    assert_eq!(sum(&objects(&history, ExportTable::Loads), "calls"), 30_000);
    let file_bytes = history.file.metadata().unwrap().len();
    assert!(file_bytes < 4 * bytes_max, "freed pages are used again: {file_bytes}");
}

#[test]
fn a_batch_that_cannot_be_written_waits_in_the_journal() {
    let (_directory, mut writing, history) = open(HistorySettings::default());
    writing.write(&[event(1, 0)]);
    let outside = Connection::open(&history.file).unwrap();
    outside.execute_batch("ALTER TABLE minutes RENAME TO gone").unwrap();
    writing.journal.take(&[event(2, 0), event(3, 0)]);
    assert!(writing.writer.settle().is_err());
    assert_eq!(objects(&history, ExportTable::Invocations).len(), 1, "nothing of it is there");
    outside.execute_batch("ALTER TABLE gone RENAME TO minutes").unwrap();
    writing.write(&[event(4, 0)]);
    assert_eq!(objects(&history, ExportTable::Invocations).len(), 4);
    assert_eq!(sum(&objects(&history, ExportTable::Loads), "calls"), 4);
    assert_eq!(history.lost_events_total(), 0);
}

#[test]
fn a_database_that_stalls_loses_nothing_and_nothing_else_notices() {
    const EVENTS: u64 = 5000;
    let (_directory, writing, history) = open(HistorySettings::default());
    // As good as a disk that does not answer: somebody else holds the file.
    let outside = Connection::open(&history.file).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (sender, receiver) = event_pipe(10_000);
    let journal = writing.journal.settled_by(writing.writer, || {}).unwrap();
    let detached = Detached::start("journal", 10_000, Box::new(journal), || {}).unwrap();
    let counts = detached.counts();
    let recent = RecentInvocations::new(10_000);
    let sinks: Vec<Box<dyn EventSink>> = vec![Box::new(detached), Box::new(Arc::clone(&recent))];
    let thread = EventWriter::start(receiver, sinks, || {}).unwrap();
    (0..EVENTS).for_each(|number| sender.record(event(number, 0)));
    while recent.get(InvocationId::from_random((EVENTS - 1).into())).is_none() {
        std::thread::yield_now();
    }
    let lost = || sender.dropped_total() + counts.dropped_total() + history.lost_events_total();
    assert_eq!(lost(), 0);
    outside.execute_batch("COMMIT").unwrap();
    thread.stop();
    assert_eq!(objects(&history, ExportTable::Invocations).len() as u64, EVENTS);
    assert_eq!(lost(), 0);
}

#[test]
fn an_export_has_what_was_recorded_before_it() {
    let (_directory, writing, history) = open(HistorySettings::default());
    let mut journal = writing.journal.settled_by(writing.writer, || {}).unwrap();
    for number in 0..20 {
        journal.take(&[event(number, 0)]);
        assert_eq!(objects(&history, ExportTable::Invocations).len() as u64, number + 1);
    }
}

#[test]
fn the_documentation_names_every_column() {
    let text = include_str!("../../HISTORY.md");
    let (_directory, _writer, history) = open(HistorySettings::default());
    let reader = history.reader.lock();
    for view in ["invocations", "loads"] {
        let statement = reader.prepare(&format!("SELECT * FROM {view}")).unwrap();
        for column in statement.column_names() {
            assert!(text.contains(&format!("| `{column}` |")), "{view}.{column} is not documented");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn sums_agree_with_calls_however_they_are_batched(
        batches in proptest::collection::vec(proptest::collection::vec((0..100u64, 0..400u64), 0..40), 1..6),
    ) {
        let (_directory, mut writing, history) = open(HistorySettings::default());
        let mut expected: BTreeMap<(u64, String), (i64, i64)> = BTreeMap::new();
        for batch in &batches {
            let events: Vec<_> = batch.iter().map(|(number, second)| event(*number, *second)).collect();
            for event in &events {
                let minute = event.started_unix_us / 60_000_000 * 60;
                let sums = expected.entry((minute, event.function.to_string())).or_default();
                sums.0 += 1;
                sums.1 = sums.1.max(i64::try_from(event.phases.total_us).unwrap());
            }
            writing.write(&events);
        }
        let loads = objects(&history, ExportTable::Loads).into_iter().map(|load| {
            let key = (load["start_unix_s"].as_u64().unwrap(), load["function"].as_str().unwrap().to_owned());
            (key, (load["calls"].as_i64().unwrap(), load["total_us_max"].as_i64().unwrap()))
        });
        prop_assert_eq!(loads.collect::<BTreeMap<_, _>>(), expected);
    }
}
