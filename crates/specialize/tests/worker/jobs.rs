//! What the workers of these tests do, good and bad, by name.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use forerun_specialize::{JobError, JobInput};
use rayon::prelude::*;

#[derive(serde::Deserialize)]
struct Parameters {
    what: String,
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `worker_main` asks for")]
pub(crate) fn work(input: JobInput) -> Result<Vec<u8>, JobError> {
    let Parameters { what } = input.read_parameters()?;
    match what.as_str() {
        "echo" => Ok([&input.kind.0.to_le_bytes()[..], &input.component].concat()),
        "empty" => Ok(Vec::new()),
        "environment" => {
            Ok(format!("{:?}", std::env::vars().collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>())
                .into_bytes())
        }
        "rayon" => Ok(on_many_threads()),
        "progress" => {
            input.progress.report(500, "half\nof it");
            eprintln!("a word for the log");
            input.progress.report(1000, "done");
            Ok(Vec::new())
        }
        "error" => Err(JobError::new("unsupported_gc", "the component uses GC types")),
        "long error" => Err(JobError::new("long", "\u{1}".repeat(100_000))),
        "panic" => panic!("the work is too hard"),
        "panic on a thread" => {
            (0..100u32).into_par_iter().for_each(|number| assert!(number < 50, "number {number}"));
            Ok(Vec::new())
        }
        "overflow the stack" => Ok(vec![deeper(&[0; 4096])]),
        "eat memory" => eat_memory(),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        "too much" => Ok(vec![1; (1 << 20) + 1]),
        "flood stdout" => flood_stdout(),
        "flood stderr" => {
            (0..200_000).for_each(|number| eprintln!("line {number}"));
            Ok(Vec::new())
        }
        "garbage" => {
            println!("hello world, this is no frame but text that a library wrote");
            Ok(Vec::new())
        }
        "garbage and exit" => exit_after(&[b'x'; 100]),
        "half a frame" => exit_after(b"FRNRES\r\n\x01\0\0\0\0\0"),
        "nothing at all" => exit_after(b""),
        "exit 3" => std::process::exit(3),
        other => attack(other),
    }
}

/// What an honest job never does. Where the attempt does not end the process, the error is the result.
fn attack(what: &str) -> Result<Vec<u8>, JobError> {
    let denied = |error: std::io::Error| JobError::new(&format!("{:?}", error.kind()), error);
    match what {
        "open a file" => std::fs::read("/etc/passwd").map_err(denied),
        "make a file" => std::fs::write("/tmp/forerun-worker-was-here", "x").map(|()| Vec::new()).map_err(denied),
        "list processes" => std::fs::read_dir("/proc").map(|_| Vec::new()).map_err(denied),
        "connect" => TcpStream::connect(("127.0.0.1", 9)).map(|_| Vec::new()).map_err(denied),
        "connect locally" => UnixStream::connect("/run/x").map(|_| Vec::new()).map_err(denied),
        "make sockets" => UnixStream::pair().map(|_| Vec::new()).map_err(denied),
        "exec" => Err(denied(Command::new("/bin/true").exec())),
        "fork" => loop {
            Command::new("/bin/true").spawn().map_err(denied)?;
        },
        "ptrace the parent" => nix::sys::ptrace::attach(nix::unistd::getppid())
            .map(|()| Vec::new())
            .map_err(|error| JobError::new("errno", error)),
        "signal the parent" => {
            let parent = rustix::process::getppid().ok_or_else(|| JobError::new("orphan", ""))?;
            rustix::process::kill_process(parent, rustix::process::Signal::TERM)
                .map_err(|error| denied(error.into()))?;
            Ok(Vec::new())
        }
        "look into the parent" => {
            let parent = rustix::process::getppid().ok_or_else(|| JobError::new("orphan", ""))?;
            let flags = rustix::process::PidfdFlags::empty();
            rustix::process::pidfd_open(parent, flags).map(|_| Vec::new()).map_err(|error| denied(error.into()))
        }
        "raise its limits" => {
            let new = rustix::process::Rlimit { current: None, maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::Data, new).map_err(|error| denied(error.into()))?;
            Ok(Vec::new())
        }
        "read stdout" => {
            rustix::io::read(std::io::stdout(), &mut [0]).map(|_| Vec::new()).map_err(|error| denied(error.into()))
        }
        "threads" => loop {
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(|| std::thread::sleep(Duration::from_secs(3600)))
                .map_err(denied)?;
        },
        other => Err(JobError::new("unknown", other)),
    }
}

/// As a compiler would: many threads, much memory, hash maps, a sort, a channel, locks.
fn on_many_threads() -> Vec<u8> {
    let mut numbers: Vec<u64> =
        (0..200_000u64).into_par_iter().map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    numbers.par_sort_unstable();
    let threads = rayon::current_num_threads();
    let seen: std::collections::HashSet<u64> = numbers.iter().copied().collect();
    assert_eq!(seen.len(), numbers.len());
    // The hasher is seeded at random; the result is not.
    assert_ne!(RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for part in numbers.chunks(50_000) {
            let sender = sender.clone();
            scope.spawn(move || sender.send(part.iter().fold(0u64, |sum, n| sum.wrapping_add(*n))));
        }
    });
    drop(sender);
    let sum = receiver.iter().fold(0u64, u64::wrapping_add);
    let processors = std::thread::available_parallelism().map_or(0, |count| count.get());
    assert!(processors > 0, "the standard library finds the number of processors");
    format!("{threads} {sum:x} {:x}", numbers[1000]).into_bytes()
}

fn eat_memory() -> Result<Vec<u8>, JobError> {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
        if held.len() > 10_000 {
            return Err(JobError::new("no_limit", "ten gigabytes are there"));
        }
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deeper(frame: &[u8; 4096]) -> u8 {
    let mut next = *frame;
    next[usize::from(next[0])] = next[1].wrapping_add(1);
    deeper(std::hint::black_box(&next)).wrapping_add(next[2])
}

fn flood_stdout() -> ! {
    loop {
        std::io::stdout().lock().write_all(&[b'x'; 4096]).unwrap();
    }
}

fn exit_after(bytes: &[u8]) -> ! {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).unwrap();
    stdout.flush().unwrap();
    std::process::exit(0)
}
