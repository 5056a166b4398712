//! The commands of `docs/getting-started.md`, run as they are written, against the real binary.
//!
//! Each section (`## ...`) is a story of its own, in a folder that has `examples/` as the repository has it, on a node of
//! its own. Only the two ports are others than written. Words behind a fence's language say what is done with a block:
//!
//! | fence | what the test does |
//! |---|---|
//! | `sh test` | runs it; it must end well |
//! | `sh test node` | starts it in the background and waits until it serves; it ends before the next one and with the section |
//! | `sh ci` | each line must stand in `.ci/run`, which runs it |
//! | `text expect` | each line must be in what the block before said, in this order; `...` stands for anything |
//! | `LANGUAGE file=PATH` | writes the file |
//!
//! `<!-- needs: NAME -->` in a section names a program, or a target of the Rust compiler, without which the section is
//! passed over, and that is said.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::pages::{Block, Page};
use crate::support::node::Running;
use crate::support::{Command, eventually, repository};

const PAGE: &str = "docs/getting-started.md";
/// A component of a language runtime is compiled in half a minute on idle cores; these may not be.
const NODE_PATIENCE: Duration = Duration::from_secs(300);
/// Ports in the page, in the place of which free ones are put.
const PORTS: [&str; 2] = ["8080", "8081"];

#[test]
fn the_examples() {
    run("Run an example");
}

#[test]
fn a_function_in_rust() {
    run("Your own function in Rust");
}

#[test]
fn a_function_in_python() {
    run("Your own function in Python");
}

#[test]
fn a_function_in_javascript() {
    run("Your own function in JavaScript");
}

#[test]
fn what_ci_runs_is_run_by_ci() {
    let ci = fs::read_to_string(repository(".ci/run")).unwrap();
    let page = Page::read(PAGE);
    let blocks = page.blocks();
    let lines = blocks.iter().filter(|block| block.info == ["sh", "ci"]).flat_map(|block| block.text.lines());
    let missing: Vec<&str> = lines.filter(|line| !ci.lines().any(|own| own.trim() == *line)).collect();
    assert!(missing.is_empty(), ".ci/run does not run {missing:?}");
}

/// Every section with commands to run is run by a test above.
#[test]
fn no_section_is_forgotten() {
    let this = include_str!("getting_started.rs");
    for section in Page::read(PAGE).text.split("\n## ").skip(1).filter(|section| section.contains("```sh test")) {
        let title = section.lines().next().unwrap_or_default();
        assert!(this.contains(&format!("run(\"{title}\")")), "no test runs `{title}`");
    }
}

fn run(title: &str) {
    let page = Page::read(PAGE);
    let section = page.text.split("\n## ").find(|section| section.lines().next() == Some(title));
    let section = Page { path: PAGE.to_owned(), text: section.unwrap_or_else(|| panic!("no `{title}`")).to_owned() };
    let story = Story::begin();
    for need in section.text.lines().filter_map(|line| line.strip_prefix("<!-- needs: ")?.strip_suffix(" -->")) {
        if !story.has(need) {
            println!("SKIPPED `{title}`: there is no {need} here");
            return;
        }
    }
    story.tell(&section);
}

struct Story {
    folder: TempDir,
    ports: [u16; 2],
}

impl Story {
    fn begin() -> Self {
        let story = Self { folder: tempfile::tempdir().unwrap(), ports: free_ports() };
        copy(&repository("examples"), &story.path("examples"));
        // The node on the ports that are free; everything else goes to the binary as it is.
        let [listen, admin] = story.ports;
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\nup | serve) exec '{0}' \"$@\" --listen {listen} --admin {admin} ;;\n*) exec '{0}' \"$@\" ;;\nesac\n",
            env!("CARGO_BIN_EXE_forerun")
        );
        fs::create_dir(story.path("bin")).unwrap();
        fs::write(story.path("bin/forerun"), script).unwrap();
        fs::set_permissions(story.path("bin/forerun"), fs::Permissions::from_mode(0o755)).unwrap();
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tell(&self, section: &Page) {
        let title = section.text.lines().next().unwrap();
        let mut said = String::new();
        let mut last: Option<Block<'_>> = None;
        let mut node: Option<Running> = None;
        for block in section.blocks() {
            let place = format!("{PAGE}, `{title}`, line {} of it", block.line);
            match block.info.as_slice() {
                ["sh", "test", "node"] => {
                    // The ports are free again only when the one before has ended.
                    drop(node.take());
                    node = Some(self.start(&block));
                    said = node.as_ref().map(Running::stderr).unwrap_or_default();
                    last = None;
                }
                ["sh", "test"] => {
                    said = self.run(&block, &place);
                    last = Some(block);
                }
                ["text", "expect"] => self.check(&block, last.as_ref(), &said, &place),
                [_, file] if file.starts_with("file=") => self.write(&file["file=".len()..], &block.text),
                _ => {}
            }
        }
    }

    fn start(&self, block: &Block<'_>) -> Running {
        let mut shell =
            Command::through("bash", &["-c", &format!("exec {}", self.here(block.text.trim()))]).without_token();
        for (name, value) in self.environment() {
            shell = shell.environment(name, &value);
        }
        let mut running = shell.in_folder(self.folder.path()).begin();
        running.wait_for_within("serving on ", NODE_PATIENCE);
        // What it says right behind, such as routes.
        running.wait_for("dashboard on ");
        running
    }

    fn run(&self, block: &Block<'_>, place: &str) -> String {
        let mut shell = Process::new("bash");
        shell.args(["-euo", "pipefail", "-c", &self.here(&block.text)]).current_dir(self.folder.path());
        for name in ["FORERUN_DATA", "FORERUN_TOKEN", "FORERUN_LOG", "CARGO_TARGET_DIR"] {
            shell.env_remove(name);
        }
        // The messages are looked at, too, in the place where they come.
        let output = self.path("output");
        let file = fs::File::create(&output).unwrap();
        shell.envs(self.environment()).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let status = shell.status().unwrap();
        let said = fs::read_to_string(output).unwrap();
        assert!(status.success(), "{place}: {status}\n{}\n--- it said\n{said}", block.text);
        said
    }

    /// What was said is what is expected. Logs and records are written behind the answer, so what only asks for them
    /// (`forerun` and nothing else) is asked again for a while.
    fn check(&self, expected: &Block<'_>, asked: Option<&Block<'_>>, said: &str, place: &str) {
        let asked = asked.filter(|block| block.text.lines().all(|line| line.starts_with("forerun ")));
        let expected = self.here(&expected.text);
        let (Err(first), Some(asked)) = (compare(&expected, said), asked) else {
            return compare(&expected, said).unwrap_or_else(|why| panic!("{place}: {why}"));
        };
        eventually(&format!("{place}: {first}"), || compare(&expected, &self.run(asked, place)).ok());
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// With the ports of this story.
    fn here(&self, text: &str) -> String {
        PORTS.iter().zip(self.ports).fold(text.to_owned(), |text, (port, own)| text.replace(port, &own.to_string()))
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let tools = std::env::var_os("FORERUN_BUILD_DIR").map_or_else(|| cache.join("forerun"), PathBuf::from);
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            ("PATH", format!("{}:{path}", self.path("bin").display())),
            ("FORERUN_NODE", format!("http://127.0.0.1:{}", self.ports[1])),
            ("FORERUN_BUILD_DIR", tools.display().to_string()),
            // Where a node says that it runs.
            ("XDG_DATA_HOME", self.path("share").display().to_string()),
        ]
    }

    fn has(&self, need: &str) -> bool {
        let tools = self.environment().into_iter().find(|(name, _)| *name == "FORERUN_BUILD_DIR").unwrap().1;
        match need {
            "wasm32-wasip2" => has_rust_target(need),
            "componentize-py" => Path::new(&tools).join("python/bin/componentize-py").exists(),
            "componentize-js" => Path::new(&tools).join("js/node_modules/.bin/componentize-js").exists(),
            program => Process::new(program).arg("--version").stdout(Stdio::null()).status().is_ok(),
        }
    }
}

fn has_rust_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Process::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    let folder = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    !folder.is_empty() && Path::new(&folder).is_dir()
}

/// Two that are not the same: each is held until both are known.
fn free_ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref().map(|held| held.local_addr().unwrap().port())
}

/// Sources and committed components; what a build or a node left is not taken along.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        let is_left_over = [".forerun", "dist", "target", "node_modules"].iter().any(|left| name == **left);
        match entry.file_type().unwrap().is_dir() {
            true if is_left_over => {}
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Every expected line is among those said, in order.
fn compare(expected: &str, said: &str) -> Result<(), String> {
    let mut lines = said.lines();
    match expected.lines().find(|expected| !lines.any(|line| fits(expected, line))) {
        None => Ok(()),
        Some(missing) => Err(format!("no line `{missing}` in\n{said}")),
    }
}

/// Whether a line is the expected one, in which `...` stands for anything. Spaces at the end do not count.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.trim_end().split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim_end().strip_prefix(first) else { return false };
    let mut is_open = false;
    for part in parts {
        is_open = part.is_empty();
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    is_open || rest.is_empty()
}

#[test]
fn dots_stand_for_anything() {
    for (expected, line, fits_it) in [
        ("hello", "hello ", true),
        ("hello", "hello you", false),
        ("a ... c", "a b c", true),
        ("a ...", "a b c", true),
        ("a ... c", "a b d", false),
        ("...c...", "abcd", true),
    ] {
        assert_eq!(fits(expected, line), fits_it, "{expected} / {line}");
    }
}
