//! Files whose change means: read the manifest again, deploy again, or build again.
//!
//! Names them; looking at them over and over is the caller's.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::manifest::{Build, Manifest};

/// Files of one build that are watched. More is a pattern that caught a dependency folder by mistake.
pub(crate) const WATCHED_FILES_MAX: usize = 10_000;

impl Manifest {
    /// The manifest and the components: when one of them changes, something has to be deployed again.
    /// A component that is not built yet is listed as well.
    pub fn watch_paths(&self) -> Vec<PathBuf> {
        let sources: BTreeSet<_> = self.functions.iter().map(|function| function.source.clone()).collect();
        std::iter::once(self.path.clone()).chain(sources).collect()
    }
}

impl Build {
    /// The files that match `watch` now, sorted, at most 10,000: when one changes, the component has to be built
    /// again. Folders that cannot be read are passed over.
    pub fn watch_paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .watch
            .iter()
            .filter_map(|pattern| glob::glob(&self.absolute(pattern)).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter(|path| path.is_file())
            .take(WATCHED_FILES_MAX)
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// A pattern below the build's folder. `src/**` means the files below `src`, as everyone expects, and not the
    /// folders, as the pattern library has it.
    fn absolute(&self, pattern: &str) -> String {
        let folder = glob::Pattern::escape(&self.workdir.to_string_lossy());
        let every = if pattern.ends_with("**") { "/*" } else { "" };
        format!("{folder}/{pattern}{every}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_files_of_a_build() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("odd[name]");
        std::fs::create_dir_all(root.join("src/inner")).unwrap();
        for file in ["src/a.rs", "src/inner/b.rs", "Cargo.toml", "README"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        let watch = vec!["src/**".to_owned(), "Cargo.toml".to_owned(), "none/*".to_owned()];
        let build = Build { commands: vec!["true".into()], workdir: root.clone(), watch };
        assert_eq!(build.watch_paths(), ["Cargo.toml", "src/a.rs", "src/inner/b.rs"].map(|file| root.join(file)));
    }
}
