//! Benchmarks against other servers, over HTTP, from outside.
//!
//! Each case is a file in `cases`; it starts servers as processes (`contenders`, `server`), loads them (`load`), and
//! makes a `report`. Nothing of Forerun is linked in: what is measured is the binary that users run. A case that ends
//! early, by an error or a signal, takes its servers with it.

mod arguments;
mod binaries;
mod cases;
mod contenders;
mod deployer;
mod installed;
mod load;
mod machine;
mod metrics;
mod open_loop;
mod ours;
mod probe;
mod report;
mod schedule;
mod server;
mod spread;
mod subjects;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use arguments::{Arguments, Case, USAGE};
use report::{Report, Verdict};

/// What shells report for a process ended by ctrl-c.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let outcome = match Arguments::from_command_line() {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => print(USAGE).map(|()| ExitCode::SUCCESS),
        Err(error) => Err(error.context("see --help")),
    };
    outcome.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    // Whichever ends first: dropping the case kills the processes it started and removes their data.
    tokio::select! {
        report = run_case(arguments) => finish(&report?),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    }
}

async fn run_case(arguments: &Arguments) -> Result<Report> {
    match arguments.case {
        Case::Serve => cases::serve::run(arguments).await,
        Case::Chain => cases::chain::run(arguments).await,
        Case::Isolation => cases::isolation::run(arguments).await,
        Case::Idle => cases::idle::run(arguments).await,
        Case::Peers => cases::peers::run(arguments).await,
        Case::Overhead | Case::Sampling => cases::overhead::run(arguments).await,
        Case::Compile => cases::compile::run(arguments).await,
        Case::Restart => cases::restart::run(arguments).await,
        Case::Overload => cases::overload::run(arguments).await,
        Case::Soak => cases::soak::run(arguments).await,
        Case::Sessions => cases::sessions::run(arguments).await,
        Case::Trials => cases::trials::run(arguments).await,
    }
}

fn finish(report: &Report) -> Result<ExitCode> {
    let paths = report.write()?;
    print(&report.markdown())?;
    for path in paths {
        say(&format!("written: {}", path.display()));
    }
    match report.verdict {
        Verdict::None | Verdict::Passed => Ok(ExitCode::SUCCESS),
        Verdict::Failed => Ok(ExitCode::FAILURE),
    }
}

/// Results, on stdout.
fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("stdout is closed")
}

/// Progress, on stderr. A closed stderr must not end a measurement.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
