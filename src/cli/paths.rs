//! Where a node keeps its data.
//!
//! Names folders; creating them is the node's.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::values::UsageError;

/// Folder of `forerun up`, beside the manifest.
pub(crate) const UP_FOLDER: &str = ".forerun";
/// Folder of `forerun serve`, in the user's data folder.
const SERVE_FOLDER: &str = "forerun";

/// Where a node keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataFolder {
    /// Here; made if it does not exist.
    At(PathBuf),
    /// In a temporary folder that is removed at the end.
    Temporary,
}

/// The folder given by `--data` or `FORERUN_DATA`, if any.
pub(crate) fn given(option: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    option.map(Path::to_owned).or_else(|| environment.variable("FORERUN_DATA").map(PathBuf::from))
}

/// The folder of `forerun up`: `.forerun` in the folder of the manifest.
pub(crate) fn beside(manifest: &Path) -> PathBuf {
    let folder = if manifest.is_file() { manifest.parent().unwrap_or(manifest) } else { manifest };
    folder.join(UP_FOLDER)
}

/// The folder of `forerun serve`: `$XDG_DATA_HOME/forerun`, or `~/.local/share/forerun`.
///
/// # Errors
/// Neither variable says where the home is.
pub(crate) fn of_user(environment: &Environment) -> Result<PathBuf, UsageError> {
    // The XDG base directory specification: a relative path is to be ignored.
    let xdg = environment.variable("XDG_DATA_HOME").map(Path::new).filter(|path| path.is_absolute());
    if let Some(xdg) = xdg {
        return Ok(xdg.join(SERVE_FOLDER));
    }
    match environment.variable("HOME") {
        Some(home) => Ok(Path::new(home).join(".local/share").join(SERVE_FOLDER)),
        None => Err(UsageError::new(
            "there is no folder for data: neither XDG_DATA_HOME nor HOME is set",
            "name one with --data DIR",
        )),
    }
}

/// Where a node that runs on this machine may have left its address and token, most likely first: the given folder
/// only, or else `.forerun` here and the user's folder.
pub(crate) fn candidates(option: Option<&Path>, environment: &Environment) -> Vec<PathBuf> {
    match given(option, environment) {
        Some(folder) => vec![folder],
        None => {
            let here = environment.folder.join(UP_FOLDER);
            std::iter::once(here).chain(of_user(environment)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment { variables, folder: "/srv".into(), ..Environment::default() }
    }

    #[test]
    fn follows_the_base_directory_specification() {
        let both = with(&[("XDG_DATA_HOME", "/xdg"), ("HOME", "/home/a")]);
        assert_eq!(of_user(&both).unwrap(), Path::new("/xdg/forerun"));
        let relative = with(&[("XDG_DATA_HOME", "xdg"), ("HOME", "/home/a")]);
        assert_eq!(of_user(&relative).unwrap(), Path::new("/home/a/.local/share/forerun"));
        assert!(of_user(&with(&[("HOME", "")])).unwrap_err().hint.contains("--data"));
    }

    #[test]
    fn a_given_folder_is_the_only_candidate() {
        let environment = with(&[("HOME", "/home/a"), ("FORERUN_DATA", "/data")]);
        assert_eq!(candidates(Some(Path::new("/x")), &environment), [Path::new("/x")]);
        assert_eq!(candidates(None, &environment), [Path::new("/data")]);
        let home = with(&[("HOME", "/home/a")]);
        let expected = ["/srv/.forerun", "/home/a/.local/share/forerun"].map(PathBuf::from);
        assert_eq!(candidates(None, &home), expected);
    }

    #[test]
    fn data_stands_beside_the_manifest() {
        let folder = std::env::temp_dir();
        assert_eq!(beside(&folder), folder.join(".forerun"));
        let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(beside(&this), Path::new(env!("CARGO_MANIFEST_DIR")).join(".forerun"));
    }
}
