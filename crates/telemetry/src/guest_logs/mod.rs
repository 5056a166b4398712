//! What guests write to stdout and stderr: one file of whole lines per function, bounded, safe to look at.
//!
//! ```text
//! guest ──write──► queue (bounded, counted) ──► log thread ──► lines ──► logs/<function>.log, .1, .2
//!                                                                └────► followers
//! ```
//!
//! A line is `2026-11-23T18:40:26.123Z 1f3a9c02 stdout text`: time, start of the invocation id, stream,
//! text. Control characters are escaped, so that a guest cannot drive the terminal of whoever reads its log.

mod files;
mod lines;
mod room;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_queue::ArrayQueue;
use forerun_driver::{GuestLog, GuestStream};
use forerun_types::{FunctionName, InvocationId};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::writer::{Pause, StopFlag, join};
use files::LogFiles;
use lines::LineSplitter;
use room::Room;

/// How much of the guests' output is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLogSettings {
    /// A file that has become this long is set aside. Default 16 MiB.
    pub file_bytes_max: u64,
    /// Files set aside per function, besides the current one. Default 2.
    pub files_kept: u32,
    /// Output that may wait for the disk, of all functions; one function may use a quarter of it. Default 8 MiB;
    /// more is dropped and counted.
    pub queue_bytes_max: usize,
}

impl Default for GuestLogSettings {
    fn default() -> Self {
        Self { file_bytes_max: 16 << 20, files_kept: 2, queue_bytes_max: 8 << 20 }
    }
}

/// Pieces that may wait: what fits into the default number of bytes if each is tiny.
const QUEUE_PIECES_MAX: usize = 16_384;
/// Pieces worked on at once, so that files are opened once for many lines.
const BATCH_PIECES_MAX: usize = 1024;
/// A line without an end is written as it is after this long, so that a prompt or a last line is seen.
const UNFINISHED_LINE_AGE_MAX: Duration = Duration::from_secs(1);
/// Lines a follower may be behind before it loses some and is told so.
const FOLLOWER_LINES_MAX: usize = 1024;

/// The logs of all functions of a node. The log thread ends when this is dropped, after writing what waits.
pub struct GuestLogs {
    shared: Arc<Shared>,
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: ArrayQueue<Piece>,
    room: Room,
    dropped_bytes: AtomicU64,
    /// Held while lines are written and sent: whoever holds it sees files and followers agree.
    output: Mutex<Output>,
}

struct Output {
    files: LogFiles,
    followers: HashMap<FunctionName, broadcast::Sender<Arc<str>>>,
    /// So that a full disk is reported once, not once a line.
    failing: bool,
}

/// What a guest wrote at once.
struct Piece {
    function: FunctionName,
    invocation: InvocationId,
    stream: GuestStream,
    written: SystemTime,
    bytes: Box<[u8]>,
}

/// Reads the lines of one function as they are written.
pub struct LogFollower(broadcast::Receiver<Arc<str>>);

/// What a follower gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A line, without its end.
    Line(Arc<str>),
    /// So many lines are missing here because the follower was too slow; they are in the file.
    Lagged(u64),
    /// The function was removed, or the node stops.
    Ended,
}

impl LogFollower {
    /// The next line, as soon as there is one.
    pub async fn next(&mut self) -> Followed {
        match self.0.recv().await {
            Ok(line) => Followed::Line(line),
            Err(broadcast::error::RecvError::Lagged(lines)) => Followed::Lagged(lines),
            Err(broadcast::error::RecvError::Closed) => Followed::Ended,
        }
    }
}

impl GuestLogs {
    /// Keeps logs in `directory`, which is made if needed, and starts the log thread, which calls `begin` first.
    ///
    /// # Errors
    /// What the system says about the directory or the thread.
    pub fn open(directory: &Path, settings: &GuestLogSettings, begin: fn()) -> std::io::Result<Self> {
        let files = LogFiles::open(directory, settings.file_bytes_max, settings.files_kept)?;
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(QUEUE_PIECES_MAX),
            room: Room::new(settings.queue_bytes_max),
            dropped_bytes: AtomicU64::new(0),
            output: Mutex::new(Output { files, followers: HashMap::new(), failing: false }),
        });
        let flag = Arc::new(AtomicBool::new(false));
        let (own, stopped) = (Arc::clone(&shared), Arc::clone(&flag));
        let work = move || {
            begin();
            own.run(&stopped);
        };
        let thread = thread::Builder::new().name("forerun-logs".into()).spawn(work)?;
        let stop = StopFlag::new(flag, thread.thread().clone());
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// The last lines of a function, oldest first, at most `count` and at most a few megabytes.
    ///
    /// # Errors
    /// What the system says about the files; a function without a log has no lines.
    pub fn tail(&self, function: &FunctionName, count: usize) -> std::io::Result<Vec<String>> {
        self.shared.output.lock().files.tail(function, count)
    }

    /// The last lines of a function and everything after them, with no line missing or twice in between.
    ///
    /// # Errors
    /// See [`GuestLogs::tail`].
    pub fn follow(&self, function: &FunctionName, count: usize) -> std::io::Result<(Vec<String>, LogFollower)> {
        let mut output = self.shared.output.lock();
        let lines = output.files.tail(function, count)?;
        let sender = output.followers.entry(function.clone());
        let receiver = sender.or_insert_with(|| broadcast::Sender::new(FOLLOWER_LINES_MAX)).subscribe();
        Ok((lines, LogFollower(receiver)))
    }

    /// Removes the log of a function and ends its followers.
    ///
    /// # Errors
    /// What the system says about the files.
    pub fn remove(&self, function: &FunctionName) -> std::io::Result<()> {
        let mut output = self.shared.output.lock();
        output.followers.remove(function);
        output.files.remove(function)
    }

    /// Bytes written by guests that did not reach their log, since the start.
    pub fn dropped_bytes_total(&self) -> u64 {
        self.shared.dropped_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for GuestLogs {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            join(thread, "guest logs");
        }
    }
}

impl GuestLog for GuestLogs {
    fn write(&self, function: &FunctionName, invocation: InvocationId, stream: GuestStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.shared.room.take(function, bytes.len()) || !self.push(function, invocation, stream, bytes) {
            self.shared.dropped_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

impl GuestLogs {
    fn push(&self, function: &FunctionName, invocation: InvocationId, stream: GuestStream, bytes: &[u8]) -> bool {
        let (name, written) = (function.clone(), SystemTime::now());
        let piece = Piece { function: name, invocation, stream, written, bytes: bytes.into() };
        let pushed = self.shared.queue.push(piece).is_ok();
        if !pushed {
            self.shared.room.give_back(function, bytes.len());
        }
        pushed
    }
}

impl Shared {
    fn run(&self, stop: &AtomicBool) {
        let mut splitter = LineSplitter::default();
        let mut pause = Pause::default();
        loop {
            let stopping = stop.load(Ordering::Acquire);
            let mut lines = Vec::new();
            let now = Instant::now();
            let pieces = std::iter::from_fn(|| self.queue.pop()).take(BATCH_PIECES_MAX);
            let mut count = 0;
            for piece in pieces {
                count += 1;
                self.room.give_back(&piece.function, piece.bytes.len());
                splitter.take(&piece, now, &mut lines);
            }
            if stopping && count == 0 {
                splitter.finish(&mut lines);
                self.output.lock().write(&lines, &self.dropped_bytes);
                return;
            }
            splitter.finish_older_than(UNFINISHED_LINE_AGE_MAX, now, &mut lines);
            if !lines.is_empty() {
                self.output.lock().write(&lines, &self.dropped_bytes);
            }
            match count {
                0 if !stopping => pause.wait(),
                _ => pause.reset(),
            }
        }
    }
}

impl Output {
    fn write(&mut self, lines: &[lines::Line], dropped_bytes: &AtomicU64) {
        let mut texts: HashMap<&FunctionName, String> = HashMap::new();
        for line in lines {
            let text = texts.entry(&line.function).or_default();
            text.push_str(&line.text);
            text.push('\n');
        }
        for (function, text) in texts {
            match self.files.append(function, &text) {
                Ok(()) => self.failing = false,
                Err(error) => {
                    dropped_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%function, %error, "guest output cannot be logged and is dropped");
                    }
                }
            }
        }
        self.followers.retain(|_, sender| sender.receiver_count() > 0);
        for line in lines {
            if let Some(sender) = self.followers.get(&line.function) {
                let _ = sender.send(line.text.as_str().into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::room::PIECE_BYTES;
    use super::*;

    fn name(text: &str) -> FunctionName {
        text.parse().unwrap()
    }

    fn id(number: u128) -> InvocationId {
        InvocationId::from_random(number << 96)
    }

    /// Lines without their times.
    fn texts(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn writes_lines_of_each_function_to_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let logs = GuestLogs::open(directory.path(), &GuestLogSettings::default(), || {}).unwrap();
        logs.write(&name("cart"), id(1), GuestStream::Stdout, b"one\ntw");
        logs.write(&name("cart"), id(2), GuestStream::Stderr, b"other\n");
        logs.write(&name("shop"), id(3), GuestStream::Stdout, b"\x1b[31mred\n");
        logs.write(&name("cart"), id(1), GuestStream::Stdout, b"o\nlast");
        drop(logs);
        let logs = GuestLogs::open(directory.path(), &GuestLogSettings::default(), || {}).unwrap();
        let cart = texts(&logs.tail(&name("cart"), 10).unwrap());
        assert_eq!(
            cart,
            ["00000001 stdout one", "00000002 stderr other", "00000001 stdout two", "00000001 stdout last"]
        );
        assert_eq!(texts(&logs.tail(&name("shop"), 10).unwrap()), ["00000003 stdout \\x1b[31mred"]);
        assert_eq!(texts(&logs.tail(&name("cart"), 1).unwrap()), ["00000001 stdout last"]);
        assert_eq!(logs.tail(&name("none"), 10).unwrap(), [""; 0]);
        logs.remove(&name("cart")).unwrap();
        assert_eq!(logs.tail(&name("cart"), 10).unwrap(), [""; 0]);
        assert_eq!(logs.dropped_bytes_total(), 0);
    }

    #[tokio::test]
    async fn followers_get_what_comes_and_hear_what_they_missed() {
        let directory = tempfile::tempdir().unwrap();
        let logs = GuestLogs::open(directory.path(), &GuestLogSettings::default(), || {}).unwrap();
        let cart = name("cart");
        let (before, mut follower) = logs.follow(&cart, 10).unwrap();
        assert_eq!(before, [""; 0]);
        logs.write(&cart, id(1), GuestStream::Stdout, b"one\n");
        let Followed::Line(line) = follower.next().await else { panic!("a line comes") };
        assert!(line.ends_with("00000001 stdout one"), "{line}");
        let (before, mut second) = logs.follow(&cart, 10).unwrap();
        assert_eq!(before.len(), 1);
        let many = "x\n".repeat(FOLLOWER_LINES_MAX * 2);
        logs.write(&cart, id(1), GuestStream::Stdout, many.as_bytes());
        let mut counted = 0;
        while counted < FOLLOWER_LINES_MAX as u64 * 2 {
            counted += match second.next().await {
                Followed::Line(_) => 1,
                Followed::Lagged(lines) => lines,
                Followed::Ended => panic!("the function is there"),
            };
        }
        logs.remove(&cart).unwrap();
        assert_eq!(second.next().await, Followed::Ended);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let settings = GuestLogSettings { queue_bytes_max: 20 * PIECE_BYTES, ..Default::default() };
        let logs = GuestLogs::open(directory.path(), &settings, || {}).unwrap();
        let long = [b'x'; 5 * PIECE_BYTES];
        logs.write(&name("cart"), id(1), GuestStream::Stdout, &long);
        assert_eq!(logs.dropped_bytes_total(), long.len() as u64);
        // With the thread held up, only so much waits; how much it has taken before is up to the scheduler.
        let output = logs.shared.output.lock();
        for _ in 0..100 {
            logs.write(&name("cart"), id(1), GuestStream::Stdout, b"12345\n");
        }
        drop(output);
        let dropped = logs.dropped_bytes_total() - long.len() as u64;
        drop(logs);
        let logs = GuestLogs::open(directory.path(), &settings, || {}).unwrap();
        let lines = logs.tail(&name("cart"), 1000).unwrap().len() as u64;
        assert_eq!(lines * 6 + dropped, 600);
    }

    #[test]
    fn a_line_without_an_end_is_shown_after_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let logs = GuestLogs::open(directory.path(), &GuestLogSettings::default(), || {}).unwrap();
        logs.write(&name("cart"), id(1), GuestStream::Stdout, b"prompt> ");
        let begin = Instant::now();
        while logs.tail(&name("cart"), 1).unwrap().is_empty() && begin.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(texts(&logs.tail(&name("cart"), 1).unwrap()), ["00000001 stdout prompt> "]);
    }

    #[test]
    fn a_disk_that_fails_loses_lines_but_counts_them() {
        let directory = tempfile::tempdir().unwrap();
        let logs = GuestLogs::open(directory.path(), &GuestLogSettings::default(), || {}).unwrap();
        // A directory where the file should be: works as root, too.
        std::fs::create_dir(directory.path().join("cart.log")).unwrap();
        logs.write(&name("cart"), id(1), GuestStream::Stdout, b"lost\n");
        logs.write(&name("shop"), id(1), GuestStream::Stdout, b"kept\n");
        let shared = Arc::clone(&logs.shared);
        drop(logs);
        assert!(shared.dropped_bytes.load(Ordering::Relaxed) > 5);
        assert!(directory.path().join("shop.log").exists());
    }
}
