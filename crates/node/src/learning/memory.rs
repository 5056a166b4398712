//! What has been learnt, on disk: names and costs, then the engine's own snapshot, in one file.
//!
//! ```text
//! length   8 bytes LE   of the names
//! names    JSON         catalog, scopes, costs, calls between functions, pace of sessions, switches of functions
//! engine   snapshot     with magic, version, length and checksum of its own
//! ```
//! Written to a temporary file, synced and renamed. A file that is not sound is set aside by name and nothing is
//! believed of it: the node then learns anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use forerun_predict::call_graph::CallGraph;
use forerun_predict::engine::Engine;
use forerun_predict::session_gaps::SessionGaps;
use forerun_predict::settings::EngineSettings;
use forerun_types::{FunctionName, LearningMode};
use serde::{Deserialize, Serialize};

use super::costs::Cost;
use super::expectations::{Expectations, Names};
use crate::ahead::Ahead;

/// Largest file read: far more than a hundred thousand functions need.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Where it is kept.
pub(super) struct Memory {
    path: PathBuf,
}

/// What was kept, while it is being read.
pub(crate) struct Recall {
    memory: Memory,
    kept: Ahead<Kept>,
}

impl Recall {
    /// Begins to read what is kept in a data directory.
    pub(crate) fn begin(data: &Path) -> io::Result<Self> {
        let (memory, read) = (Memory::new(data), Memory::new(data));
        Ok(Self { memory, kept: Ahead::begin("forerun-recall", move || read.recall())? })
    }

    /// When it is read. A panic is an error, so that nothing is written over what caused it.
    pub(super) fn get(self) -> io::Result<(Memory, Kept)> {
        let kept = self.kept.get().ok_or_else(|| io::Error::other("reading what was learnt panicked"))?;
        Ok((self.memory, kept))
    }
}

/// What is kept beside the engine: borrowed to be written, owned to be read.
#[derive(Serialize, Deserialize)]
struct Beside<N, C, G> {
    names: N,
    costs: BTreeMap<FunctionName, Cost>,
    calls: C,
    gaps: G,
    functions: BTreeMap<FunctionName, LearningMode>,
}

/// All that was kept.
pub(super) struct Kept {
    pub(super) learnt: Expectations,
    pub(super) costs: BTreeMap<FunctionName, Cost>,
    /// How far learning goes for functions that were set apart.
    pub(super) functions: BTreeMap<FunctionName, LearningMode>,
}

impl Kept {
    /// Nothing learnt yet.
    pub(super) fn nothing() -> Self {
        let engine = Engine::new(EngineSettings::default());
        let learnt = Expectations::new(engine, Names::default(), CallGraph::default(), SessionGaps::default());
        Self { learnt, costs: BTreeMap::new(), functions: BTreeMap::new() }
    }
}

impl Memory {
    pub(super) fn new(data: &Path) -> Self {
        Self { path: data.join("learning.bin") }
    }

    /// What was kept, or nothing learnt yet.
    pub(super) fn recall(&self) -> Kept {
        match self.read() {
            Ok(kept) => return kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let aside = self.path.with_extension("unusable");
                let moved = fs::rename(&self.path, &aside).is_ok();
                tracing::warn!(%error, moved, aside = %aside.display(), "what was learnt cannot be used: learning anew");
            }
        }
        Kept::nothing()
    }

    fn read(&self) -> io::Result<Kept> {
        let bad = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
        let file = File::open(&self.path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(bad(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| bad("cut off".to_owned()))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (beside, engine) = rest.split_at_checked(length).ok_or_else(|| bad("cut off".to_owned()))?;
        let beside: Beside<Names, CallGraph, SessionGaps> =
            serde_json::from_slice(beside).map_err(|error| bad(error.to_string()))?;
        let Beside { names, costs, calls, gaps, functions } = beside;
        if !names.catalog.is_sound() {
            return Err(bad("names and numbers do not match".to_owned()));
        }
        if !calls.is_sound() || !gaps.is_sound() {
            return Err(bad("figures that cannot have been learnt".to_owned()));
        }
        let engine = Engine::restore(engine).map_err(|error| bad(error.to_string()))?;
        Ok(Kept { learnt: Expectations::new(engine, names, calls, gaps), costs, functions })
    }

    pub(super) fn keep(
        &self,
        learnt: &Expectations,
        costs: BTreeMap<FunctionName, Cost>,
        functions: BTreeMap<FunctionName, LearningMode>,
    ) -> io::Result<()> {
        let Expectations { names, calls, gaps, .. } = learnt;
        let beside = serde_json::to_vec(&Beside { names, costs, calls, gaps, functions })?;
        let engine = learnt.engine.snapshot().map_err(io::Error::other)?;
        let partial = self.path.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&(beside.len() as u64).to_le_bytes())?;
        file.write_all(&beside)?;
        file.write_all(&engine)?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)
    }
}
