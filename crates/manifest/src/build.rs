//! The `build` table, which both formats have with the same keys.
//!
//! Running the command is the caller's.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostic::Findings;
use crate::manifest::Build;
use crate::spanned::{At, OneOrMany};

/// How a component is built from its sources.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuildTable {
    /// Command for the shell, or several that run one after the other.
    pub(crate) command: At<OneOrMany>,
    /// Folder the command runs in, relative to the manifest. The manifest's own folder by default.
    pub(crate) workdir: Option<At<String>>,
    /// Patterns of source files, relative to `workdir`, whose change makes `forerun up --build` build again.
    #[serde(default)]
    pub(crate) watch: Vec<At<String>>,
}

impl BuildTable {
    /// What the table means; what is wrong with it goes to `findings`.
    pub(crate) fn meaning(self, folder: &Path, findings: &mut Findings) -> Build {
        let Self { command, workdir, watch } = self;
        if command.value.0.iter().all(|command| command.trim().is_empty()) {
            findings.error(command.span, "the build command is empty");
        }
        for pattern in &watch {
            if let Err(error) = glob::Pattern::new(&pattern.value) {
                let message = format!("`{}` is not a pattern of files: {}", pattern.value, error.msg);
                findings.error(pattern.span.clone(), message);
            }
        }
        let workdir = workdir.map_or_else(|| folder.to_owned(), |workdir| folder.join(workdir.value));
        let watch = watch.into_iter().map(|pattern| pattern.value).collect();
        Build { commands: command.value.0, workdir, watch }
    }
}
