//! Waiting until one of some files changes.
//!
//! Folders are watched rather than files: compilers and editors put a new file in the place of the old one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A build writes in several steps; changes within this time are one.
const QUIET: Duration = Duration::from_millis(300);
/// Events that wait while a change is being taken up; all that matters is that there was one.
const EVENTS_MAX: usize = 16;

/// Files being watched.
pub(crate) struct Watch {
    _watcher: RecommendedWatcher,
    events: mpsc::Receiver<Result<(), WatchError>>,
}

/// Why files cannot be watched.
pub(crate) struct WatchError {
    /// What the system said.
    pub(crate) detail: String,
}

impl Watch {
    /// Watches the folders of `files` for changes of `files`.
    pub(crate) fn start(files: &[PathBuf]) -> Result<Self, WatchError> {
        let files: BTreeSet<PathBuf> = files.iter().map(|file| in_full(file)).collect();
        let folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let told = match event {
                Ok(event) if concerns(&event, &files) => Ok(()),
                Ok(_) => return,
                Err(error) => Err(failed(&error)),
            };
            // A full queue already says that something changed.
            let _ = sender.try_send(told);
        })
        .map_err(|error| failed(&error))?;
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| failed(&error))?;
        }
        Ok(Self { _watcher: watcher, events })
    }

    /// Done when something has changed and it has been quiet since for a moment.
    pub(crate) async fn changed(mut self) -> Result<(), WatchError> {
        let Some(first) = self.events.recv().await else {
            return Err(WatchError { detail: "the watcher has ended".to_owned() });
        };
        first?;
        while let Ok(Some(next)) = tokio::time::timeout(QUIET, self.events.recv()).await {
            next?;
        }
        Ok(())
    }
}

fn concerns(event: &Event, files: &BTreeSet<PathBuf>) -> bool {
    let changes = match event.kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => true,
        EventKind::Access(_) => false,
    };
    changes && event.paths.iter().any(|path| files.contains(path))
}

fn in_full(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        (Ok(_) | Err(_), _) => path.to_owned(),
    }
}

fn failed(error: &notify::Error) -> WatchError {
    WatchError { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_put_in_place_of_another_is_a_change_and_its_neighbour_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        std::fs::write(&file, "1").unwrap();
        let neighbour = Watch::start(std::slice::from_ref(&file)).ok().unwrap();
        std::fs::write(folder.path().join("b.wasm"), "1").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(500), neighbour.changed()).await;
        assert!(quiet.is_err());
        let watch = Watch::start(std::slice::from_ref(&file)).ok().unwrap();
        std::fs::write(folder.path().join("new"), "2").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        let changed = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
        assert!(changed.unwrap().is_ok());
    }
}
