//! An application in a folder of its own: a manifest and components, to be run by `forerun up`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::misbehave;

pub struct App {
    folder: TempDir,
}

impl App {
    /// An application without functions yet: `functions` is what follows the head of the manifest.
    pub fn new(functions: &str) -> Self {
        let app = Self { folder: tempfile::tempdir().unwrap() };
        app.manifest(functions);
        app
    }

    /// The misbehaving guest as the function `guest` at `/...`; `more` goes on in its table.
    pub fn misbehaving(more: &str) -> Self {
        let app = Self::new(&misbehaving(more));
        app.component("misbehave.wasm", &misbehave());
        app
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the manifest, in one step as editors do.
    pub fn manifest(&self, functions: &str) {
        self.file("forerun.toml", format!("forerun = 1\n\n[app]\nname = \"test\"\n\n{functions}").as_bytes());
    }

    pub fn component(&self, name: &str, from: &Path) {
        self.file(name, &fs::read(from).unwrap());
    }

    /// Puts a file into the folder, in the place of what was there.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let (new, path) = (self.path().join(format!("{name}.new")), self.path().join(name));
        fs::write(&new, content).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

/// The table of the misbehaving guest.
pub fn misbehaving(more: &str) -> String {
    format!("[function.guest]\nsource = \"misbehave.wasm\"\nroutes = [\"/...\"]\n{more}\n")
}
