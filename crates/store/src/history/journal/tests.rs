//! The journal across ends at any byte, with damage in it, at its bound, and over many segments.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use forerun_telemetry::{EventSink, InvocationEvent, Phases, RequestClass};
use forerun_types::{GenericReason, InvocationId, Outcome, RevisionNumber, ServePath, SpanId, TraceContext, TraceId};
use proptest::prelude::*;

use super::*;
use crate::directory::tests::directory_in_memory;
use crate::history::Counts;

fn event(number: u64) -> InvocationEvent {
    InvocationEvent {
        id: InvocationId::from_random(number.into()),
        started_unix_us: number,
        function: "cart".parse().unwrap(),
        app: "shop".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
        trace: TraceContext { trace_id: TraceId::from_random(7), span_id: SpanId::from_random(7), sampled: true },
        parent_span: None,
        caller: Some("front".parse().unwrap()),
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: Outcome::Ok,
        status: 200,
        phases: Phases::default(),
        busy_us: 2,
        calls_us: 0,
        cpu_us: Some(u64::MAX),
        memory_bytes_peak: 1 << 20,
        bytes_in: 3,
        bytes_out: u64::MAX,
    }
}

fn events(numbers: std::ops::Range<u64>) -> Vec<InvocationEvent> {
    numbers.map(event).collect()
}

/// A process that appends, and what the database would have.
struct Process {
    appending: HistoryJournal,
    reading: JournalReader,
    counts: Arc<Counts>,
}

impl Process {
    fn start(directory: &Path, settled: Position) -> Self {
        let journal = Arc::new(Journal::open(directory, settled).unwrap());
        let counts = Arc::new(Counts::default());
        let appending = HistoryJournal::new(Arc::clone(&journal), Arc::clone(&counts));
        Self { appending, reading: JournalReader::new(journal, settled), counts }
    }

    /// Settles one transaction: what it has, and where the database stands then.
    fn settle_one(&mut self) -> Option<(Vec<u64>, Position)> {
        let batch = self.reading.next().unwrap()?;
        let numbers = numbers(&batch);
        self.reading.settle(&batch);
        Some((numbers, batch.end()))
    }

    fn settle_all(&mut self) -> (Vec<u64>, Option<Position>) {
        let mut all = (Vec::new(), None);
        while let Some((numbers, position)) = self.settle_one() {
            all.0.extend(numbers);
            all.1 = Some(position);
        }
        all
    }

    fn lost(&self) -> u64 {
        self.counts.lost_events.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn numbers(batch: &Batch) -> Vec<u64> {
    let rows = batch.rows().flat_map(|rows| rows.unwrap().into_iter().map(|row| row.started_unix_us));
    rows.collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

#[test]
fn rows_come_back_as_events_went_in() {
    let all = events(0..3);
    let mut record = Vec::new();
    record::encode(&all, 5, &mut record).unwrap();
    let (header, body) = record.split_first_chunk().unwrap();
    let header = record::Header::of(header);
    assert_eq!((header.first, header.events, header.body_bytes as usize), (5, 3, body.len()));
    assert!(header.fits(body));
    let expected: Vec<_> = all.iter().map(super::super::row::Row::of).collect();
    assert_eq!(record::rows(body).unwrap(), expected);
}

#[test]
fn segments_go_when_they_are_settled_and_numbers_are_not_used_again() {
    let directory = directory_in_memory();
    let mut process = Process::start(directory.path(), Position::default());
    let mut appended = 0;
    while files(directory.path()).len() < 4 {
        process.appending.take(&events(appended..appended + 2000));
        appended += 2000;
    }
    let (numbers, position) = process.settle_all();
    assert_eq!(numbers, (0..appended).collect::<Vec<_>>());
    assert_eq!(files(directory.path()).len(), 1, "the one that is appended to");
    process.appending.take(&events(0..1));
    assert_eq!(process.settle_all().0, [0]);
    drop(process);
    // Everything is settled: nothing comes again, and the next segment has a higher number.
    let mut process = Process::start(directory.path(), position.unwrap());
    assert_eq!(
        process.settle_all().0,
        [0],
        "it was settled in the last batch, which the database does not know of here"
    );
    process.appending.take(&events(7..8));
    let (numbers, last) = process.settle_all();
    assert_eq!(numbers, [7]);
    assert!(last > position);
}

#[test]
fn a_journal_that_is_full_drops_and_counts_until_there_is_room() {
    let directory = directory_in_memory();
    let mut process = Process::start(directory.path(), Position::default());
    let batch = events(0..512);
    let mut taken = 0;
    while process.lost() == 0 {
        process.appending.take(&batch);
        taken += 512;
    }
    let bytes: u64 = files(directory.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!((JOURNAL_BYTES_MAX..JOURNAL_BYTES_MAX + (1 << 20)).contains(&bytes), "{bytes}");
    assert_eq!(process.settle_all().0.len() as u64, taken - process.lost());
    process.appending.take(&batch);
    assert_eq!(process.lost(), 512);
    assert_eq!(process.settle_all().0.len(), 512);
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let directory = directory_in_memory();
    let mut process = Process::start(directory.path(), Position::default());
    process.appending.take(&events(0..10));
    std::fs::remove_dir_all(directory.path().join(FOLDER)).unwrap();
    assert_eq!(process.settle_all().0, [0; 0]);
    // The file that is open has no name any more; what comes next is in a new one once it is full.
    while files_or_none(directory.path()) == 0 {
        process.appending.take(&events(0..512));
    }
    process.appending.take(&events(7..8));
    assert_eq!(process.settle_all().0.last(), Some(&7));
}

fn files_or_none(directory: &Path) -> usize {
    std::fs::read_dir(directory.join(FOLDER)).map_or(0, Iterator::count)
}

#[test]
fn strange_files_stay_and_do_no_harm() {
    let directory = directory_in_memory();
    drop(Process::start(directory.path(), Position::default()));
    let folder = directory.path().join(FOLDER);
    std::fs::write(folder.join("notes"), b"mine").unwrap();
    std::fs::create_dir(folder.join("0000000003")).unwrap();
    std::fs::write(folder.join("0000000005"), [0xff; 300]).unwrap();
    // A record of nothing, which must not be read for ever.
    std::fs::write(folder.join("0000000006"), [0; 300]).unwrap();
    let mut process = Process::start(directory.path(), Position::default());
    process.appending.take(&events(0..2));
    assert_eq!(process.settle_all().0, [0, 1]);
    assert!(folder.join("notes").exists() && folder.join("0000000007").exists());
}

#[test]
fn the_last_number_is_an_error_and_no_overflow() {
    let directory = directory_in_memory();
    let mut process = Process::start(directory.path(), Position { segment: u32::MAX, events: 0 });
    process.appending.take(&events(0..2));
    assert_eq!((process.lost(), process.settle_all().0.len()), (2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a process had appended, settled, and however far its last write came: the next one finds everything that
    /// was appended whole, once.
    #[test]
    fn nothing_whole_is_lost_and_nothing_comes_twice(
        batches in proptest::collection::vec((1..700u64, any::<bool>()), 1..8),
        cut_off in 0..100usize,
        forget_last in any::<bool>(),
    ) {
        let directory = directory_in_memory();
        let mut process = Process::start(directory.path(), Position::default());
        let (mut appended, mut in_database, mut position) = (0, Vec::new(), Position::default());
        for (count, settle) in batches {
            process.appending.take(&events(appended..appended + count));
            appended += count;
            if settle && let Some((numbers, end)) = process.settle_one() {
                // Killed between the database's commit and everything after it, or before.
                in_database.extend(numbers);
                position = end;
            }
        }
        if forget_last {
            // The transaction was not committed: read and gone with the process.
            let _ = process.reading.next().unwrap();
        }
        drop(process);
        // A write that had begun.
        let mut half = Vec::new();
        record::encode(&events(9_000_000..9_000_004), 0, &mut half).unwrap();
        let newest = files(directory.path()).pop().unwrap();
        std::fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(&half[..cut_off]).unwrap();
        let mut process = Process::start(directory.path(), position);
        process.appending.take(&events(appended..appended + 3));
        in_database.extend(process.settle_all().0);
        prop_assert_eq!(in_database, (0..appended + 3).collect::<Vec<_>>());
    }

    /// A flipped byte costs the record that it is in, or what comes after it in the segment, and nothing else.
    #[test]
    fn a_damaged_byte_costs_no_more_than_its_segment(place in 0..20_000usize, bit in 0..8u32) {
        let directory = directory_in_memory();
        let mut process = Process::start(directory.path(), Position::default());
        for batch in 0..20 {
            process.appending.take(&events(batch * 10..batch * 10 + 10));
        }
        drop(process);
        let file = &files(directory.path())[0];
        let mut bytes = std::fs::read(file).unwrap();
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        std::fs::write(file, &bytes).unwrap();
        let mut process = Process::start(directory.path(), Position::default());
        process.appending.take(&events(200..210));
        let found = process.settle_all().0;
        let before = (0..200).take_while(|number| found.contains(number)).count();
        prop_assert!(before + 10 >= place * 200 / bytes.len() / 10 * 10, "{} of 200, byte {}", before, place);
        prop_assert!(found.len() >= before + 10 && found.is_sorted());
        prop_assert_eq!(&found[found.len() - 10..], &(200..210).collect::<Vec<_>>()[..]);
    }
}
