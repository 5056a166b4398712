//! Replays a trace from the command line: `replay [FORMAT] FILE... [--which] [--by-session] [--json FILE] [--svg FILE]`.
//!
//! A thin front for [`forerun_sim::replay`], for use before and beside the CLI.

use forerun_sim::picture;
use forerun_sim::progress::Progress;
use forerun_sim::reader::{FORMATS, Input, TraceFormat};
use forerun_sim::replay::{ReplayOptions, replay};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

struct Bar {
    name: String,
    total: Option<u64>,
}

impl Progress for Bar {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.name = name.to_owned();
        self.total = total;
        self.at(0);
    }

    fn at(&mut self, done: u64) {
        let share = self.total.filter(|total| *total > 0).map_or(0.0, |total| done as f64 / total as f64);
        let filled = "=".repeat((share.min(1.0) * 30.0) as usize);
        let _ = write!(std::io::stderr(), "\r\x1b[K[{filled:<30}] {:>3.0} % {}", share * 100.0, self.name);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = ReplayOptions::default();
    let (mut files, mut json, mut svg, mut reliability) = (Vec::new(), None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--which" => options.which = true,
            "--no-policies" => options.policies = false,
            "--by-session" => options.by_session = true,
            "--calls" => options.which_calls_max = value()?.parse()?,
            "--fairness" => options.fairness = value()?.parse()?,
            "--without" => {
                for family in value()?.chars() {
                    match family {
                        'S' => options.families.statistical = false,
                        'M' => options.families.markov = false,
                        'L' => options.families.lstm = false,
                        other => return Err(format!("no family `{other}`; there are S, M and L").into()),
                    }
                }
            }
            "--json" => json = Some(PathBuf::from(value()?)),
            "--svg" => svg = Some(PathBuf::from(value()?)),
            "--reliability" => reliability = Some(PathBuf::from(value()?)),
            name if files.is_empty() && options.format.is_none() && !Path::new(name).exists() => {
                let names = FORMATS.map(|(_, name)| name).join(", ");
                let format = TraceFormat::from_name(name);
                options.format = Some(format.ok_or(format!("`{name}` is neither a file nor one of {names}"))?);
            }
            file => files.push(PathBuf::from(file)),
        }
    }
    let inputs = files.iter().map(|file| Input::open(file)).collect::<Result<Vec<_>, _>>()?;
    let report = replay(&options, inputs, &mut Bar { name: String::new(), total: None });
    let _ = write!(std::io::stderr(), "\r\x1b[K");
    let report = report?;
    write!(std::io::stdout(), "{}", report.to_text())?;
    if let Some(path) = json {
        std::fs::write(path, report.to_json())?;
    }
    if let Some(path) = svg {
        std::fs::write(path, picture::frontier(&report))?;
    }
    if let (Some(path), Some(picture)) = (reliability, picture::reliability(&report)) {
        std::fs::write(path, picture)?;
    }
    Ok(())
}
