//! Trace readers: each turns one public format into [`Invocation`]s, in the order of the file.
//!
//! Files may be larger than memory: a reader holds one line at a time (and the names it has seen). Traces are hostile
//! input: every line has a bound, every number is checked, and an error names the file and the line.

pub mod access_log;
pub mod alibaba;
pub mod azure2019;
pub mod azure2021;
pub mod columns;
pub mod export;
pub mod lines;
pub mod sequences;
pub mod spans;
pub mod time;

use crate::progress::Progress;
use crate::trace::{Directory, Invocation};
use lines::Lines;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// Azure Functions 2019, calls per minute: the published wide table (one file a day) or `func,minute,count`.
    Azure2019,
    /// Azure Functions 2021: `app,func,end_timestamp,duration`.
    Azure2021,
    /// Alibaba GenAI 2026: requests with time, tenant and model.
    Alibaba,
    /// Spans of traces: `trace,span,parent,op,start_us,dur_us`.
    Spans,
    /// Access logs of web servers: common, combined, or one JSON object a line.
    AccessLog,
    /// What `forerun export` writes: CSV or one JSON object a line.
    Export,
    /// One sequence of symbols a line, without times.
    Sequences,
}

/// All formats with the names used on the command line.
pub const FORMATS: [(TraceFormat, &str); 7] = [
    (TraceFormat::Azure2019, "azure2019"),
    (TraceFormat::Azure2021, "azure2021"),
    (TraceFormat::Alibaba, "alibaba"),
    (TraceFormat::Spans, "spans"),
    (TraceFormat::AccessLog, "access-log"),
    (TraceFormat::Export, "export"),
    (TraceFormat::Sequences, "sequences"),
];

impl TraceFormat {
    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|(_, known)| *known == name).map(|(format, _)| *format)
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(format, _)| *format == self).map_or("?", |(_, name)| name)
    }

    /// The format that a first line belongs to.
    pub fn detect(first_line: &str) -> Option<Self> {
        let line = first_line.trim_start_matches('\u{feff}').trim();
        if line.starts_with("HashOwner,") || line.starts_with("func,minute") {
            Some(Self::Azure2019)
        } else if line.starts_with("app,func,end_timestamp") {
            Some(Self::Azure2021)
        } else if line.starts_with("gmt_create,") {
            Some(Self::Alibaba)
        } else if line.starts_with("trace,span,parent") {
            Some(Self::Spans)
        } else if is_export(line) {
            Some(Self::Export)
        } else if line.starts_with('{') || line.contains('[') && line.contains('"') {
            Some(Self::AccessLog)
        } else if !line.is_empty() && line.split_ascii_whitespace().all(|word| word.parse::<u64>().is_ok()) {
            Some(Self::Sequences)
        } else {
            None
        }
    }

    /// Whether the format knows only the minute of a call.
    pub fn is_by_minute(self) -> bool {
        self == Self::Azure2019
    }
}

fn is_export(line: &str) -> bool {
    let is_object = line.starts_with('{') && (line.contains("\"function\"") || line.contains("\"at_us\""));
    let is_header = line.starts_with("at_us,") || line.starts_with("at,function") || line.contains("started_unix_us,");
    is_object || is_header
}

/// A file, or anything that can be read, with a name for messages.
pub struct Input {
    /// Name for messages.
    pub name: String,
    /// Length in bytes of what lies on disk, if known; for the progress bar.
    pub len: Option<u64>,
    /// The bytes, already decompressed.
    pub reader: Box<dyn Read>,
    /// How many bytes of the file have been read.
    pub position: lines::Position,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a trace could not be read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes could not be read or decompressed.
    #[error("{name}: cannot read on after line {line}")]
    Read {
        /// The file.
        name: String,
        /// The last line read.
        line: u64,
        /// What the system or the decompressor said.
        source: std::io::Error,
    },
    /// A line is not what the format says.
    #[error("{name}, line {line}: {problem}")]
    Line {
        /// The file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The first line belongs to no known format.
    #[error("{name}: unknown format; name one of {}", format_names())]
    UnknownFormat {
        /// The file.
        name: String,
    },
    /// The sorted trace could not be kept in a temporary file.
    #[error("cannot keep the sorted trace in a temporary file")]
    Spill(#[source] std::io::Error),
}

fn format_names() -> String {
    FORMATS.map(|(_, name)| name).join(", ")
}

/// What a reader needs besides its lines.
pub struct Context<'a> {
    /// Numbers for names.
    pub directory: &'a mut Directory,
    /// Takes the calls.
    pub sink: &'a mut dyn FnMut(Invocation) -> Result<(), TraceError>,
    /// Which of several files this is, from 0: the day of the Azure 2019 format.
    pub file: u64,
    /// Rows left out because they name no function.
    pub skipped: u64,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Input {
    /// Opens a file; names that end in `.zst` or `.gz` are decompressed.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let failed = |source| TraceError::Open { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let len = file.metadata().ok().map(|metadata| metadata.len());
        let position = lines::Position::default();
        let counted = lines::Counted::new(std::io::BufReader::with_capacity(1 << 16, file), position.clone());
        let reader: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(counted);
                Box::new(decoder.map_err(|error| failed(std::io::Error::other(error)))?)
            }
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(counted)),
            Some(_) | None => Box::new(counted),
        };
        Ok(Self { name: path.display().to_string(), len, reader, position })
    }

    /// Something in memory, for tests and for callers that have the bytes.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            len: None,
            reader: Box::new(std::io::Cursor::new(bytes)),
            position: lines::Position::default(),
        }
    }
}

/// Reads one input; the format is that given, or the one its first line shows.
pub fn read(
    input: Input,
    format: Option<TraceFormat>,
    context: &mut Context<'_>,
    progress: &mut dyn Progress,
) -> Result<TraceFormat, TraceError> {
    let mut lines = Lines::new(input, progress);
    let first = lines.peek()?.unwrap_or_default();
    let format = match format.or_else(|| TraceFormat::detect(&first)) {
        Some(format) => format,
        None => return Err(TraceError::UnknownFormat { name: lines.name().to_owned() }),
    };
    match format {
        TraceFormat::Azure2019 => azure2019::read(&mut lines, context)?,
        TraceFormat::Azure2021 => azure2021::read(&mut lines, context)?,
        TraceFormat::Alibaba => alibaba::read(&mut lines, context)?,
        TraceFormat::Spans => spans::read(&mut lines, context)?,
        TraceFormat::AccessLog => access_log::read(&mut lines, context)?,
        TraceFormat::Export => export::read(&mut lines, context)?,
        TraceFormat::Sequences => sequences::read(&mut lines, context)?,
    }
    Ok(format)
}
