//! Mixed load with every answer checked, while everything that may break does.
//!
//! Functions in Rust (a small one and a shop of seven that call each other), Python and JavaScript are asked all the time;
//! deployments are made all the time; and every few seconds one thing goes wrong: the processes that compile are killed,
//! the node is killed, the disk is full, the disk is full and the node is killed, or the node is asked to end. Afterwards
//! the node is started on the same data, and must have every deployment that it acknowledged.
//!
//! Requests under way when the node goes down may be lost, and requests may be refused with a word about when to come
//! again; nothing else may be but the right answer.

mod deploys;
mod disk;
mod traffic;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use self::deploys::Deploys;
use self::disk::Disk;
use self::traffic::{Counts, Whereabouts};
use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository};
use crate::deployer::{self, Deployer};
use crate::ours::{self, Node};
use crate::report::{Report, Table, Verdict};
use crate::server::{Server, is_running};
use crate::subjects::Handler;

/// The function that is deployed all the time, and where it answers.
const DEPLOYED: &str = "deployed";
const DEPLOYED_ROUTE: &str = "/deployed";
/// Something goes wrong so often.
const TROUBLE_EVERY: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the disk stays full.
const FULL: Duration = Duration::from_secs(3);
/// Clients that ask one after the other.
const CLIENTS: usize = 4;
/// A worker whose node was killed must be gone by then.
const ORPHAN_MAX: Duration = Duration::from_secs(3);
/// Tries to find a worker to be killed.
const WORKER_LOOKS: u32 = 100;
const WORKER_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Rows of memory in the report.
const MEMORY_ROWS: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Trouble {
    WorkersKilled,
    NodeKilled,
    DiskFull,
    DiskFullAndNodeKilled,
    NodeAskedToEnd,
}

const TROUBLES: [Trouble; 5] = [
    Trouble::WorkersKilled,
    Trouble::NodeKilled,
    Trouble::DiskFull,
    Trouble::DiskFullAndNodeKilled,
    Trouble::NodeAskedToEnd,
];

/// What went wrong, and how it went.
#[derive(Clone, Debug, Default, Serialize)]
struct Happened {
    troubles: Vec<(Trouble, f64)>,
    workers_killed: usize,
    orphans: usize,
    lost_deploys: Vec<String>,
    /// The node ended though nobody ended it.
    crashes: u32,
    /// From the start of a process to its first right answer.
    restarts_ms: Vec<f64>,
    /// Resident memory once a second.
    memory: Vec<(f64, u64)>,
}

/// The node and its surroundings.
struct Soak<'a> {
    node: Node<'a>,
    arguments: &'a Arguments,
    disk: &'a Disk,
    data: &'a Path,
    server: Server,
    whereabouts: Arc<Whereabouts>,
    admin: Arc<Mutex<SocketAddr>>,
    deploys: Arc<Deploys>,
    happened: Happened,
    began: Instant,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let (disk, folder) = (Disk::new()?, tempfile::tempdir()?);
    let data = disk.path().join("data");
    let (application, paths) = application()?;
    let options = ["--images-mib", "256"];
    let first =
        Node { program, application: Some(application.path()), data: Some(&data), path: "/hello", options: &options };
    let deployer = Deployer {
        name: DEPLOYED.to_owned(),
        program: program.to_owned(),
        data: data.clone(),
        folder: folder.path().to_owned(),
        component: std::fs::read(ours::hello())?,
    };
    let server = first.start("forerun", arguments).await?;
    deployer.deploy(1, server.admin).await.context("the first deployment")?;
    first.settled(&server).await?;
    server.stop_gently().await?;
    let node = Node { application: None, ..first };
    let server = node.start("forerun", arguments).await?;
    let questions = Arc::new(traffic::learn(server.address, &paths).await?);
    let whereabouts = Arc::new(Whereabouts::default());
    whereabouts.goes_down();
    whereabouts.is_up(server.address);
    let admin = Arc::new(Mutex::new(server.admin));
    let deploys = Arc::new(Deploys::default());
    deploys.acknowledged.store(1, Ordering::SeqCst);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(traffic::client(number, Arc::clone(&questions), Arc::clone(&whereabouts))))
        .collect();
    let deploying =
        tokio::spawn(deploys::run(deployer, Arc::clone(&deploys), Arc::clone(&whereabouts), Arc::clone(&admin)));
    let began = Instant::now();
    let happened = Happened::default();
    let mut soak =
        Soak { node, arguments, disk: &disk, data: &data, server, whereabouts, admin, deploys, happened, began };
    soak.go_on().await?;
    soak.whereabouts.stop();
    for client in clients {
        client.await.context("a client broke off")?;
    }
    deploying.await.context("deploying broke off")?;
    soak.check_deploys("at the end").await;
    Ok(soak.report())
}

/// Everything in one application: the small function, the shop, and the languages that are built.
fn application() -> Result<(TempDir, Vec<(&'static str, &'static str)>)> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let shop = repository().join("examples/shop");
    let manifest = std::fs::read_to_string(shop.join("forerun.toml"))?;
    let mut manifest = manifest.replace("\"components/", &format!("\"{}/components/", shop.display()));
    let mut paths = vec![("GET", "/hello"), ("POST", "/checkout"), ("GET", DEPLOYED_ROUTE)];
    let mut add = |name: &str, component: &Path, route: &str| {
        let limits = format!("[function.{name}.limits]\nmemory_bytes = \"256 MiB\"\ntimeout_ms = 30000\n");
        manifest += &format!("\n[function.{name}]\nsource = {component:?}\nroutes = [\"{route}\"]\n{limits}");
    };
    add("hello", &ours::hello(), "/hello");
    for (handler, route) in [(Handler::Python, "/report/..."), (Handler::JavaScript, "/search")] {
        if handler.component().is_file() {
            add(handler.name(), &handler.component(), route);
            paths.push(("GET", handler.path()));
        } else {
            crate::say(&format!("left out, not built: {}", handler.component().display()));
        }
    }
    std::fs::write(folder.path().join("forerun.toml"), manifest)?;
    Ok((folder, paths))
}

impl Soak<'_> {
    async fn go_on(&mut self) -> Result<()> {
        let mut next = TROUBLE_EVERY;
        for trouble in TROUBLES.into_iter().cycle() {
            while self.began.elapsed() < next.min(self.arguments.measure) {
                self.look().await?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if self.began.elapsed() >= self.arguments.measure {
                return Ok(());
            }
            self.make(trouble).await?;
            next = self.began.elapsed() + TROUBLE_EVERY;
        }
        Ok(())
    }

    /// Notes the node's memory; one that has ended by itself is noted too, and started again.
    async fn look(&mut self) -> Result<()> {
        match self.server.usage() {
            Ok(usage) => self.happened.memory.push((self.began.elapsed().as_secs_f64(), usage.resident_bytes)),
            Err(error) => {
                self.say(&format!("CRASH: {error:#}"));
                self.happened.crashes += 1;
                self.whereabouts.goes_down();
                self.start_again().await?;
            }
        }
        Ok(())
    }

    async fn make(&mut self, trouble: Trouble) -> Result<()> {
        let full = matches!(trouble, Trouble::DiskFull | Trouble::DiskFullAndNodeKilled);
        if full && !self.disk.is_own() {
            return Ok(());
        }
        self.happened.troubles.push((trouble, self.began.elapsed().as_secs_f64()));
        if full {
            let bytes = self.disk.fill()?;
            self.say(&format!("the disk is full ({} MiB taken)", bytes >> 20));
            tokio::time::sleep(FULL).await;
            self.look().await?;
        }
        match trouble {
            Trouble::WorkersKilled => self.kill_workers().await,
            Trouble::NodeKilled => self.kill_node().await?,
            Trouble::DiskFull => self.disk.free()?,
            Trouble::DiskFullAndNodeKilled => {
                self.whereabouts.goes_down();
                let children = self.server.kill().await?;
                self.disk.free()?;
                self.start_again().await?;
                self.count_orphans(children).await;
            }
            Trouble::NodeAskedToEnd => self.end_node().await?,
        }
        Ok(())
    }

    async fn kill_workers(&mut self) {
        for _ in 0..WORKER_LOOKS {
            let killed = self.server.kill_children();
            if killed > 0 {
                self.happened.workers_killed += killed;
                self.say(&format!("{killed} workers killed"));
                return;
            }
            tokio::time::sleep(WORKER_LOOK_EVERY).await;
        }
        self.say("there was no worker to be killed");
    }

    async fn kill_node(&mut self) -> Result<()> {
        self.whereabouts.goes_down();
        let children = self.server.kill().await?;
        self.start_again().await?;
        self.count_orphans(children).await;
        Ok(())
    }

    async fn end_node(&mut self) -> Result<()> {
        self.whereabouts.goes_down();
        self.server.end().await?;
        self.start_again().await
    }

    async fn start_again(&mut self) -> Result<()> {
        self.server = self.node.start("forerun", self.arguments).await.context("it does not start again")?;
        self.happened.restarts_ms.push(self.server.first_answer.as_secs_f64() * 1e3);
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = self.server.admin;
        self.check_deploys("after a start").await;
        self.whereabouts.is_up(self.server.address);
        self.say(&format!("started again, first answer after {:.0?}", self.server.first_answer));
        Ok(())
    }

    /// What was acknowledged before this must be there.
    async fn check_deploys(&mut self, when: &str) {
        let acknowledged = self.deploys.acknowledged.load(Ordering::SeqCst);
        let problem = match deployer::kept(DEPLOYED, self.server.admin, self.data).await {
            Ok(kept) if kept >= acknowledged => return,
            Ok(kept) => format!("{when}: deployment {acknowledged} was acknowledged, {kept} is there"),
            Err(error) => format!("{when}: deployment {acknowledged} cannot be seen: {error:#}"),
        };
        self.say(&format!("LOST: {problem}"));
        self.happened.lost_deploys.push(problem);
    }

    async fn count_orphans(&mut self, children: Vec<u32>) {
        let began = Instant::now();
        while began.elapsed() < ORPHAN_MAX && children.iter().any(|id| is_running(*id)) {
            tokio::time::sleep(WORKER_LOOK_EVERY).await;
        }
        let orphans = children.iter().filter(|id| is_running(**id)).count();
        self.happened.orphans += orphans;
        if orphans > 0 {
            self.say(&format!("ORPHANS: {orphans} workers outlived their node by {ORPHAN_MAX:?}"));
        }
    }

    fn say(&self, text: &str) {
        let counts = self.whereabouts.counts();
        let right: u64 = counts.right.values().sum();
        crate::say(&format!("{:>6.0} s: {text} ({right} right answers so far)", self.began.elapsed().as_secs_f64()));
    }

    fn report(self) -> Report {
        let counts = self.whereabouts.counts();
        let happened = &self.happened;
        let right: u64 = counts.right.values().sum();
        let bad = [counts.wrong, counts.lost, happened.lost_deploys.len() as u64, u64::from(happened.crashes)];
        let orphans = happened.orphans as u64;
        let verdict = Verdict::of(right > 0 && orphans == 0 && bad.iter().all(|count| *count == 0));
        let tables = vec![
            answers(&counts),
            troubles(happened),
            deployments(&self.deploys, happened),
            memory(happened, self.arguments.measure),
        ];
        let method = format!(
            "{CLIENTS} clients that check every answer, deployments in a loop, and trouble every {} s, for {} s, on {}.",
            TROUBLE_EVERY.as_secs(),
            self.arguments.measure.as_secs(),
            if self.disk.is_own() { "a disk of its own" } else { "a disk that could NOT be made full" },
        );
        let mut legend = vec!["**lost, explained**: under way when the node went down".to_owned()];
        legend.extend(counts.shown.iter().map(|line| format!("WRONG: {line}")));
        legend.extend(happened.lost_deploys.iter().map(|line| format!("LOST: {line}")));
        let raw = json!({ "seconds": self.arguments.measure.as_secs(), "happened": happened });
        Report::new("soak", method, legend, tables, raw).with_verdict(verdict)
    }
}

fn answers(counts: &Counts) -> Table {
    let mut rows: Vec<Vec<String>> = counts
        .right
        .iter()
        .map(|(path, count)| vec!["right".to_owned(), (*path).to_owned(), count.to_string()])
        .collect();
    for ((status, path), count) in &counts.refused {
        rows.push(vec![format!("refused, {status}"), (*path).to_owned(), count.to_string()]);
    }
    for (what, count) in
        [("lost, explained", counts.lost_explained), ("lost, NOT explained", counts.lost), ("WRONG", counts.wrong)]
    {
        rows.push(vec![what.to_owned(), String::new(), count.to_string()]);
    }
    Table { title: "Answers".to_owned(), header: vec!["answer", "path", "requests"], rows }
}

fn troubles(happened: &Happened) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for trouble in TROUBLES {
        let count = happened.troubles.iter().filter(|(what, _)| *what == trouble).count();
        rows.push(vec![format!("{trouble:?}"), count.to_string()]);
    }
    rows.push(vec!["workers killed".to_owned(), happened.workers_killed.to_string()]);
    rows.push(vec!["workers that outlived their node".to_owned(), happened.orphans.to_string()]);
    rows.push(vec!["ends of the node that nobody wanted".to_owned(), happened.crashes.to_string()]);
    if !happened.restarts_ms.is_empty() {
        let spread = crate::spread::Spread::of(happened.restarts_ms.iter().copied());
        rows.push(vec!["start to first answer ms".to_owned(), spread.show(0)]);
    }
    Table { title: "Trouble".to_owned(), header: vec!["what", "count"], rows }
}

fn deployments(deploys: &Deploys, happened: &Happened) -> Table {
    let rows = vec![
        vec!["acknowledged".to_owned(), deploys.acknowledged_count.load(Ordering::SeqCst).to_string()],
        vec!["not acknowledged".to_owned(), deploys.refused_count.load(Ordering::SeqCst).to_string()],
        vec!["acknowledged and LOST".to_owned(), happened.lost_deploys.len().to_string()],
    ];
    Table { title: "Deployments".to_owned(), header: vec!["what", "count"], rows }
}

fn memory(happened: &Happened, time: Duration) -> Table {
    let stretch = (time.as_secs_f64() / MEMORY_ROWS as f64).max(1.0);
    let row = |at: usize| {
        let (from, to) = (at as f64 * stretch, (at + 1) as f64 * stretch);
        let looks = happened.memory.iter().filter(|(second, _)| (from..to).contains(second));
        let bytes: Vec<f64> = looks.map(|(_, bytes)| *bytes as f64 / f64::from(1 << 20)).collect();
        (!bytes.is_empty()).then(|| vec![format!("{from:.0}–{to:.0}"), crate::spread::Spread::of(bytes).show(0)])
    };
    let rows = (0..MEMORY_ROWS).filter_map(row).collect();
    Table { title: "Memory of the node".to_owned(), header: vec!["seconds", "memory MiB"], rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_by_stretches_and_a_silent_one_is_left_out() {
        let memory_of = vec![(0.5, 1 << 20), (1.5, 3 << 20), (100.0, 5 << 20)];
        let happened = Happened { memory: memory_of, ..Happened::default() };
        let rows = memory(&happened, Duration::from_secs(120)).rows;
        assert_eq!(rows, [["0–10", "2 (1–3)"], ["100–110", "5"]]);
    }

    #[test]
    fn the_application_has_everyone() {
        let (folder, paths) = application().unwrap();
        let manifest = std::fs::read_to_string(folder.path().join("forerun.toml")).unwrap();
        assert!(manifest.contains("[function.checkout]") && manifest.contains("[function.hello]"));
        assert!(paths.contains(&("POST", "/checkout")));
    }
}
