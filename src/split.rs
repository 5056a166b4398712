//! `forerun split`: a component in two parts, without a node.
//!
//! The work is `forerun_specialize`'s; here are only the files, what is printed, and what to do about an error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forerun_specialize::passes;
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::split::{Known, Split, SplitIndex, SplitPlan, SplitRefusal, split};
use forerun_types::limits::COMPONENT_BYTES_MAX;
use forerun_types::{Coverage, PROFILE_TEXT_BYTES_MAX, ProfileError, SpecializationProfile};
use serde_json::{Value, json};

use crate::cli::meaning::Split as Wanted;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table};

/// Why a component was not split.
#[derive(Debug, thiserror::Error)]
enum SplitError {
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("{path} has {bytes} bytes, at most {bytes_max} are read")]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: usize },
    #[error("{path}: {error}")]
    Profile { path: PathBuf, error: ProfileError },
    #[error("{0}: the profile covers the whole component")]
    Whole(PathBuf),
    #[error("{path} stays whole ({}): {refusal}", refusal.name())]
    Refused { path: PathBuf, refusal: SplitRefusal },
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
}

/// Splits a component and says what became of it.
pub(crate) fn run(output: &Output, wanted: &Wanted) -> ExitCode {
    let printed = split_files(wanted).map(|split| print(output, wanted, &split));
    match printed {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            output.error(&format!("cannot write to stdout: {error}"), "look at where it goes: is the disk full?");
            ExitCode::FAILURE
        }
        Err(error) => {
            output.error(&error.to_string(), hint(&error));
            ExitCode::FAILURE
        }
    }
}

fn split_files(wanted: &Wanted) -> Result<Split, SplitError> {
    let text = read(&wanted.profile, PROFILE_TEXT_BYTES_MAX)?;
    let profile = SpecializationProfile::from_json(&text)
        .map_err(|error| SplitError::Profile { path: wanted.profile.clone(), error })?;
    let Coverage::Paths { paths } = &profile.build.coverage else {
        return Err(SplitError::Whole(wanted.profile.clone()));
    };
    let known = paths.iter().map(|path| (BodyHash(*path.body.as_bytes()), path.probability.get())).collect();
    let component = read(&wanted.component, COMPONENT_BYTES_MAX)?;
    // Profiles are of the component with its core modules merged, if they can be.
    let merge = passes::known("prelink").expect("this build knows its own passes");
    let (merged, _) = passes::apply(&component, &[merge]);
    let component = merged.unwrap_or(component);
    let plan = SplitPlan::new(Known::ByBody(known), wanted.hot_permille_min);
    let split =
        split(&component, &plan).map_err(|refusal| SplitError::Refused { path: wanted.component.clone(), refusal })?;
    write_parts(&wanted.folder, &split)?;
    Ok(split)
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, SplitError> {
    let failed = |error| SplitError::Read { path: path.to_owned(), error };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > bytes_max as u64 {
        return Err(SplitError::TooLarge { path: path.to_owned(), bytes, bytes_max });
    }
    fs::read(path).map_err(failed)
}

/// The index comes last: a folder without one is no split.
fn write_parts(folder: &Path, split: &Split) -> Result<(), SplitError> {
    fs::create_dir_all(folder).map_err(|error| SplitError::Write { path: folder.to_owned(), error })?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| SplitError::Write { path, error })
    };
    write("primary.wasm", &split.primary)?;
    for (number, group) in split.groups.iter().enumerate() {
        write(&format!("cold-{number}.wasm"), &group.module)?;
    }
    // No pass for flags was applied.
    write("index.json", SplitIndex::of(split, false).to_json().as_bytes())
}

fn print(output: &Output, wanted: &Wanted, split: &Split) -> io::Result<()> {
    let report = &split.report;
    let group_bytes: u64 = split.groups.iter().map(|group| group.module.len() as u64).sum();
    let rows = [
        ("kept", report.probable + report.pinned + report.tiny, report.hot_code_bytes, split.primary.len() as u64),
        ("cold", report.cold, report.cold_code_bytes, group_bytes),
        ("dropped", report.dead, report.dead_code_bytes, 0),
    ];
    let columns =
        [("", Align::Left), ("functions", Align::Right), ("code", Align::Right), ("file bytes", Align::Right)];
    let mut table = Table::new(&columns);
    for (name, functions, code, bytes) in rows {
        table.row([name.to_owned(), functions.to_string(), code.to_string(), bytes.to_string()]);
    }
    output.table(&table, &summary(wanted, split, group_bytes), "")?;
    if output.format == Format::Human {
        output.note(&format!(
            "{} ‰ of the code is hot: {} functions that requests run, {} pinned, {} tiny; {} groups with {} slots and {} \
             places in the table",
            report.hot_permille(),
            report.probable,
            report.pinned,
            report.tiny,
            split.groups.len(),
            report.slots,
            report.positions
        ));
    }
    Ok(())
}

fn summary(wanted: &Wanted, split: &Split, group_bytes: u64) -> Value {
    json!({
        "folder": wanted.folder,
        "primary_bytes": split.primary.len(),
        "groups": split.groups.len(),
        "group_bytes": group_bytes,
        "hot_permille": split.report.hot_permille(),
        "report": split.report,
    })
}

fn hint(error: &SplitError) -> &'static str {
    match error {
        SplitError::Read { .. } => "is the file there, and readable?",
        SplitError::TooLarge { .. } => "is it the right file?",
        SplitError::Profile { .. } => "write a profile as the node exports it",
        SplitError::Whole(_) => "there is nothing to split by; name the paths that requests run",
        SplitError::Write { .. } => "give --output a folder that can be written",
        SplitError::Refused { refusal: SplitRefusal::SeveralModules { .. }, .. } => {
            "it has no core module with most of its code, and they cannot be merged"
        }
        SplitError::Refused { refusal: SplitRefusal::NoneKnown(_), .. } => {
            "is the profile that of this component? it names functions by the hash of their code"
        }
        SplitError::Refused { .. } => "it is served whole, which is always right",
    }
}
