//! Load by wrk: each connection waits for its answer before it asks again, at once or after a time to think.
//!
//! One thread of wrk is enough to keep two cores of server busy and takes least from it. wrk's own summary rounds its
//! figures; a script makes it print them whole.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::server::{Server, on_core};

/// Called by wrk at the end: figures as one line of JSON, after a mark.
const SCRIPT: &str = r#"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nFIGURES {"requests":%d,"duration_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,"errors":%d,"failures":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
"#;
const MARK: &str = "FIGURES ";

/// What one measurement gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) throughput_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// User and system time of the server for one request; that of wrk is not in it.
    pub(crate) server_cpu_us_per_request: f64,
    /// The server's resident memory at the end.
    pub(crate) server_resident_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Figures {
    requests: u64,
    duration_us: u64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    max_us: u64,
    /// Requests without an answer.
    errors: u64,
    /// Answers whose status tells of a failure; a request may be made to get one.
    failures: u64,
}

/// Loads a server for the time asked for, after the warm-up. Any failed request is an error.
pub(crate) async fn measure(
    server: &Server,
    connections: usize,
    binaries: &Binaries,
    arguments: &Arguments,
) -> Result<Measurement> {
    if !arguments.warm_up.is_zero() {
        run(server, connections, arguments.warm_up, binaries, arguments).await?;
    }
    let before = server.usage()?;
    let figures = run(server, connections, arguments.measure, binaries, arguments).await?;
    let after = server.usage()?;
    ensure!(figures.requests > 0, "{} answered nothing", server.label);
    Ok(Measurement {
        throughput_per_s: figures.requests as f64 * 1e6 / figures.duration_us as f64,
        p50_us: figures.p50_us as f64,
        p90_us: figures.p90_us as f64,
        p99_us: figures.p99_us as f64,
        max_us: figures.max_us as f64,
        server_cpu_us_per_request: (after.cpu_us - before.cpu_us) as f64 / figures.requests as f64,
        server_resident_bytes: after.resident_bytes,
    })
}

/// Where `server` and its clients run and how these go about it, for a report.
pub(crate) fn circumstances(server: &str, arguments: &Arguments) -> String {
    let place = if arguments.pin {
        format!("{server} on core 0, wrk on core 1")
    } else {
        format!("{server} and wrk share all cores")
    };
    match arguments.think_ms {
        0 => place,
        think_ms => format!("{place}, each connection waits {think_ms} ms between an answer and its next request"),
    }
}

async fn run(
    server: &Server,
    connections: usize,
    time: Duration,
    binaries: &Binaries,
    arguments: &Arguments,
) -> Result<Figures> {
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    if arguments.think_ms > 0 {
        writeln!(script, "function delay() return {} end", arguments.think_ms)?;
    }
    let mut command = on_core(arguments.pin.then_some(1), &binaries.wrk);
    command.args(["--threads", "1", "--connections", &connections.to_string(), "--latency", "--timeout", "10"]);
    command.args(["--duration", &format!("{}s", time.as_secs())]).arg("--script").arg(script.path());
    command.arg(server.url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("wrk cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let figures = figures_of(&text).with_context(|| format!("wrk gave no figures:\n{text}"))?;
    ensure!(
        output.status.success() && figures.errors == 0 && (figures.failures == 0 || server.status >= 400),
        "{} failed {} of {} requests:\n{text}",
        server.label,
        figures.errors + figures.failures,
        figures.requests
    );
    Ok(figures)
}

fn figures_of(text: &str) -> Option<Figures> {
    serde_json::from_str(text.lines().find_map(|line| line.strip_prefix(MARK))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_the_prose() {
        let text = "Running 1s test\n\nFIGURES {\"requests\":10,\"duration_us\":1000000,\"p50_us\":5,\"p90_us\":6,\
                    \"p99_us\":7,\"max_us\":8,\"errors\":0,\"failures\":0}\nTransfer/sec: 1MB\n";
        let figures = figures_of(text).unwrap();
        assert_eq!((figures.requests, figures.p50_us, figures.p99_us, figures.errors), (10, 5, 7, 0));
        assert!(figures_of("unable to connect").is_none());
    }
}
