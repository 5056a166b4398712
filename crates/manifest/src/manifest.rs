//! The manifest as the rest of the program sees it, and how it is loaded.
//!
//! Both formats end here; nothing in these types tells which one it was, except the warnings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forerun_types::{ComponentDigest, FunctionSpec};

use crate::diagnostic::{Findings, Report};
use crate::document::Document;
use crate::error::ManifestError;
use crate::read::{self, SPIN_FILE};
use crate::source::{self, SourceError};
use crate::{forerun_toml, spin_toml};

/// An application: its functions as they are to be deployed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the application.
    pub app: String,
    /// In the order of the file.
    pub functions: Vec<ManifestFunction>,
    /// What was accepted but has no effect, or a surprising one.
    pub warnings: Report,
    /// The file it was read from.
    pub path: PathBuf,
}

/// One function of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFunction {
    /// What to deploy, without the component's bytes; checked.
    pub spec: FunctionSpec,
    /// The component's file: the manifest's folder joined with the path in the manifest.
    pub source: PathBuf,
    /// What the file must hash to, if the manifest says so.
    pub digest: Option<ComponentDigest>,
    /// How the component is made, if the manifest says so.
    pub build: Option<Build>,
}

/// How a component is made from its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// For the shell, one after the other; never empty.
    pub commands: Vec<String>,
    /// Where they run: the manifest's folder, or the one named in the manifest below it.
    pub workdir: PathBuf,
    /// Patterns of source files, relative to `workdir`; see [`Build::watch_paths`].
    pub watch: Vec<String>,
}

/// What may differ from one load to the next.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// How strictly component files are looked for.
    pub sources: SourceCheck,
    /// Values for the `[variables]` of a `spin.toml`, by name as written there. They win over defaults.
    /// Spin takes them from `SPIN_VARIABLE_<NAME>` of its environment; see [`LoadOptions::with_spin_variables`].
    pub variables: BTreeMap<String, String>,
}

/// Whether component files must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// All of them.
    #[default]
    MustExist,
    /// Those without a build command; for reading the manifest before the build.
    MayBeBuilt,
    /// None; for looking at a manifest without its files.
    Unchecked,
}

impl LoadOptions {
    /// Takes `SPIN_VARIABLE_<NAME>` entries out of an environment as values of the variable `<name>`.
    #[must_use]
    pub fn with_spin_variables(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let named = |(name, value): (String, String)| {
            name.strip_prefix("SPIN_VARIABLE_").map(|name| (name.to_ascii_lowercase(), value))
        };
        self.variables.extend(environment.into_iter().filter_map(named));
        self
    }
}

impl Manifest {
    /// Loads the manifest at `path`, or the `forerun.toml` or else `spin.toml` in the folder `path`; all component
    /// files must exist.
    ///
    /// # Errors
    /// Named in [`ManifestError`]; what is wrong with the content is in its report, all of it at once as far as
    /// possible.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// [`Manifest::load`] with other than the usual options.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_with(path: &Path, options: &LoadOptions) -> Result<Self, ManifestError> {
        let path = read::find(path)?;
        let text = read::read(&path)?;
        Self::parse(&path, &text, options)
    }

    /// Reads a manifest from `text`. `path` is where it would stand: its folder is what sources are relative to.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] only.
    pub fn parse(path: &Path, text: &str, options: &LoadOptions) -> Result<Self, ManifestError> {
        let mut findings = Findings::default();
        let content = content(path, text, options, &mut findings);
        let failed = findings.has_errors();
        let report = findings.into_report(path, text);
        match content {
            Some(content) if !failed => {
                let Content { app, functions } = content;
                Ok(Self { app, functions, warnings: report, path: path.to_owned() })
            }
            Some(_) | None => Err(ManifestError::Invalid(Box::new(report))),
        }
    }
}

impl ManifestFunction {
    /// The component's bytes, held against the manifest's digest if there is one.
    ///
    /// # Errors
    /// Named in [`SourceError`].
    pub fn read_component(&self) -> Result<Vec<u8>, SourceError> {
        source::read_component(&self.source, self.digest)
    }
}

/// What both formats come to.
pub(crate) struct Content {
    pub(crate) app: String,
    pub(crate) functions: Vec<ManifestFunction>,
}

fn content(path: &Path, text: &str, options: &LoadOptions, findings: &mut Findings) -> Option<Content> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let document = Document::parse(text, findings)?;
    // The content decides, not the name: `forerun up shop-spin.toml` is fine. The name only breaks a tie.
    let named_spin = path.file_name().is_some_and(|name| name == SPIN_FILE);
    if spin_toml::is_spin(&document) || (named_spin && !forerun_toml::is_forerun(&document)) {
        spin_toml::content(document, folder, options, findings)
    } else {
        forerun_toml::content(document, folder, options, findings)
    }
}
