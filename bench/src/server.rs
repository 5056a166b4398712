//! A server as a process: started, waited for, watched, and never left behind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::contenders::{Contender, Launch, Place};
use crate::probe::{Answer, Connection};

/// A server may compile its component first. The slowest seen needs under a second for the small one, and ten for a
/// language runtime.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a server must have been without a process of its own until it counts as settled, and how long that may take.
const ALONE: Duration = Duration::from_secs(2);
const SETTLE_MAX: Duration = Duration::from_secs(300);
const SETTLE_POLL: Duration = Duration::from_millis(50);
/// The first answer is known to this, and asking this often takes next to nothing from the server that starts.
const START_POLL: Duration = Duration::from_millis(2);
/// How long a server that was asked to end may take; a node writes down what it learnt.
const END_MAX: Duration = Duration::from_secs(15);
/// Lines of a server's own output that are shown when it fails.
const LOG_LINES_SHOWN: usize = 15;

/// A running server. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    process_id: u32,
    log: PathBuf,
    pub(crate) contender: Contender,
    pub(crate) address: SocketAddr,
    /// The second address it was given; our node has its admin port there.
    pub(crate) admin: SocketAddr,
    pub(crate) path: &'static str,
    /// What an answer must have.
    pub(crate) status: u16,
    /// Path that is answered with 200 once it is ready.
    ready: &'static str,
    /// Its data, unless it was told to keep them elsewhere.
    pub(crate) state: PathBuf,
    /// Name for messages.
    pub(crate) label: &'static str,
    /// What it was started with, for the report.
    pub(crate) command_line: String,
    /// From the start of the process to its first answer with 200.
    pub(crate) first_answer: Duration,
    _data: TempDir,
}

/// What the process and those that it started have used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// User and system time of all their threads, and of children that have ended.
    pub(crate) cpu_us: u64,
    /// Resident memory now; pages that are mapped several times count once.
    pub(crate) resident_bytes: u64,
    pub(crate) threads: u64,
}

impl Server {
    /// Starts a server and returns when it is ready.
    pub(crate) async fn start(contender: Contender, binaries: &Binaries, arguments: &Arguments) -> Result<Self> {
        let program = contender.program(binaries).with_context(|| format!("{} is absent", contender.label()))?;
        let launch = |place: Place<'_>| Ok(contender.launch(program, place));
        Self::start_as(contender.label(), contender, launch, arguments).await
    }

    /// The same with another name and command line, which may need the data folder for a file of its own.
    pub(crate) async fn start_as(
        label: &'static str,
        contender: Contender,
        launch: impl FnOnce(Place<'_>) -> Result<Launch>,
        arguments: &Arguments,
    ) -> Result<Self> {
        let began = Instant::now();
        let mut server = Self::spawn(label, contender, launch, arguments)?;
        server.wait_until_ready().await?;
        server.first_answer = began.elapsed();
        Ok(server)
    }

    /// The same without waiting for anything.
    pub(crate) fn spawn(
        label: &'static str,
        contender: Contender,
        launch: impl FnOnce(Place<'_>) -> Result<Launch>,
        arguments: &Arguments,
    ) -> Result<Self> {
        let data = tempfile::tempdir().context("no temporary folder can be made")?;
        let [port, second_port] = free_ports()?;
        let connections = arguments.connections_at_once();
        let state = data.path().join("state");
        let launch = launch(Place { port, second_port, data: &state, connections })?;
        let log = data.path().join("log");
        let mut command = on_core(arguments.pin.then_some(0), &launch.program);
        command.args(&launch.arguments).kill_on_drop(true);
        let command_line = format!("{:?}", command.as_std());
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = command.spawn().with_context(|| format!("{command_line} cannot be started"))?;
        let process_id = child.id().context("the server is gone already")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Launch { path, status, ready, .. } = launch;
        Ok(Self {
            child,
            process_id,
            log,
            contender,
            address,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, second_port)),
            path,
            status,
            ready,
            state,
            label,
            command_line,
            first_answer: Duration::ZERO,
            _data: data,
        })
    }

    /// Waits until no process of the server's is at work beside it: better code is made by one, and takes over then.
    pub(crate) async fn settle(&self) -> Result<()> {
        let (began, mut alone_since) = (Instant::now(), Instant::now());
        while alone_since.elapsed() < ALONE {
            ensure!(began.elapsed() < SETTLE_MAX, "{} still makes code after {SETTLE_MAX:?}", self.label);
            tokio::time::sleep(SETTLE_POLL).await;
            if has_children(self.process_id) {
                alone_since = Instant::now();
            }
        }
        Ok(())
    }

    /// Asks once, on a new connection.
    pub(crate) async fn ask(&self) -> Result<Answer> {
        self.ask_for(self.path).await
    }

    async fn ask_for(&self, path: &str) -> Result<Answer> {
        Connection::open(self.address).await?.get(path).await
    }

    /// The address of the benchmark's request.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    /// What the process and those that it started have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let own = usage_of_process(self.process_id);
        let own = own.with_context(|| format!("{} has ended:\n{}", self.label, self.log_tail()))?;
        // A child that ends meanwhile is not an error; its time is in its parent's then.
        let children = descendants(self.process_id).into_iter().filter_map(usage_of_process);
        let all: Vec<Usage> = std::iter::once(own).chain(children).collect();
        Ok(sum(&all))
    }

    /// Ends the processes and waits until the first is gone, so that they disturb nothing that comes after.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let children = descendants(self.process_id);
        self.child.kill().await.with_context(|| format!("{} cannot be ended", self.label))?;
        children.into_iter().for_each(|id| send(id, Signal::KILL));
        Ok(())
    }

    /// Asks the process to end as an operator would, and waits until it has.
    pub(crate) async fn stop_gently(mut self) -> Result<()> {
        send(self.process_id, Signal::TERM);
        match tokio::time::timeout(END_MAX, self.child.wait()).await {
            Ok(ended) => ended.map(|_| ()).with_context(|| format!("{} cannot be waited for", self.label)),
            Err(_) => self.stop().await,
        }
    }

    /// Ends the process, and no other, as the kernel does that has no memory left; the children that it had.
    pub(crate) async fn kill(&mut self) -> Result<Vec<u32>> {
        let children = descendants(self.process_id);
        self.child.kill().await.with_context(|| format!("{} cannot be ended", self.label))?;
        Ok(children)
    }

    /// Asks the process to end as an operator would; kills it if it has not in time.
    pub(crate) async fn end(&mut self) -> Result<()> {
        send(self.process_id, Signal::TERM);
        if tokio::time::timeout(END_MAX, self.child.wait()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// Kills the children of the process, and not itself; how many there were.
    pub(crate) fn kill_children(&self) -> usize {
        let children = descendants(self.process_id);
        children.iter().for_each(|id| send(*id, Signal::KILL));
        children.len()
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", self.command_line, self.log_tail());
            }
            let reason = match self.ask_for(self.ready).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("it answers {}", answer.status),
                Err(error) => format!("{error:#}"),
            };
            ensure!(
                started.elapsed() < START_MAX,
                "{} is not ready after {START_MAX:?}: {reason}\n{}",
                self.command_line,
                self.log_tail()
            );
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// A command bound to one core, or to none.
pub(crate) fn on_core(core: Option<u32>, program: &Path) -> Command {
    match core {
        // taskset becomes the program, so its process id is the program's.
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Two different ports that are free now. Another process could take one before the server does; it would say so.
pub(crate) fn free_ports() -> Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Whether a process is there and has not ended.
pub(crate) fn is_running(process_id: u32) -> bool {
    // Field 3 is the state; one that nobody has asked for yet is a zombie.
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat"));
    stat.is_ok_and(|stat| stat.rfind(')').is_some_and(|end| !stat[end + 1..].trim_start().starts_with('Z')))
}

/// Whether a process has children. A kernel that does not say counts as no.
fn has_children(process_id: u32) -> bool {
    !children(process_id).is_empty()
}

fn children(process_id: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process_id}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Children, their children, and so on.
fn descendants(process_id: u32) -> Vec<u32> {
    let mut found = children(process_id);
    let mut at = 0;
    while at < found.len() {
        let more = children(found[at]);
        found.extend(more);
        at += 1;
    }
    found
}

/// A process that has ended needs no signal.
fn send(process_id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(process_id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

fn usage_of_process(process_id: u32) -> Option<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process_id}/{file}")).ok();
    // Pages that are mapped several times, as an image's are by each VM that is made of it, count once: resident memory
    // as `status` has it counts them each time.
    let proportional = read("smaps_rollup").and_then(|rollup| number(&rollup, "Pss"));
    let usage = usage_of(&read("stat")?, &read("status")?)?;
    Some(Usage { resident_bytes: proportional.map_or(usage.resident_bytes, |kibibytes| kibibytes * 1024), ..usage })
}

/// What processes use together.
fn sum(processes: &[Usage]) -> Usage {
    Usage {
        cpu_us: processes.iter().map(|usage| usage.cpu_us).sum(),
        resident_bytes: processes.iter().map(|usage| usage.resident_bytes).sum(),
        threads: processes.iter().map(|usage| usage.threads).sum(),
    }
}

/// From `/proc/<pid>/stat` (times, proc(5) fields 14 to 17) and `/proc/<pid>/status`.
fn usage_of(stat: &str, status: &str) -> Option<Usage> {
    // The name, field 2, is in parentheses and may hold anything; field 3 is the first after the last of them.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Usage {
        cpu_us: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(),
        resident_bytes: number(status, "VmRSS")? * 1024,
        threads: number(status, "Threads")?,
    })
}

/// The number of a line `name: number ...`, which is one of kibibytes wherever it has a unit.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_seen() {
        assert!(!has_children(u32::MAX));
        assert!(!is_running(u32::MAX) && is_running(std::process::id()));
        let mut child = std::process::Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(has_children(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn usage_is_read_whatever_the_name() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194560 100 0 0 0 30 20 4 6 20 0 3 0 1 2 3";
        let usage = usage_of(stat, "Name:\tx\nVmRSS:\t   2048 kB\nThreads:\t3\n").unwrap();
        assert_eq!(usage.cpu_us, 60 * 1_000_000 / rustix::param::clock_ticks_per_second());
        assert_eq!((usage.resident_bytes, usage.threads), (2 << 20, 3));
        assert!(usage_of("", "").is_none());
    }

    #[test]
    fn pages_that_are_mapped_twice_count_once() {
        let usage = usage_of_process(std::process::id()).unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_bytes <= number(&status, "VmHWM").unwrap() * 1024);
        let together = sum(&[usage, usage]);
        assert_eq!(together.resident_bytes, 2 * usage.resident_bytes);
    }
}
