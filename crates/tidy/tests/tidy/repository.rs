//! The files of the repository, as paths below its root. What a build or a tool made is passed over.

use std::fs;
use std::path::{Path, PathBuf};

/// What holds nothing written by hand: builds, caches, data of a node, results of benchmarks.
const MADE_BY_TOOLS: [&str; 8] =
    [".forerun", ".git", "__pycache__", "corpus", "dist", "node_modules", "results", "target"];
/// More than any text of ours has; what is larger is data and is not read.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// One text file.
pub(crate) struct TextFile {
    /// Path below the root, with `/` between its parts.
    pub(crate) path: String,
    /// The whole of it.
    pub(crate) text: String,
}

/// The root of the repository: two folders above this crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("this crate is in crates/")
}

/// The text of a file that must be there.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file, sorted by path. Binary files (not UTF-8, or with a zero byte) are left out.
pub(crate) fn text_files() -> Vec<TextFile> {
    let root = root();
    let mut files = Vec::new();
    visit(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The Rust sources among [`text_files`].
pub(crate) fn rust_files() -> Vec<TextFile> {
    text_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn visit(root: &Path, folder: &Path, files: &mut Vec<TextFile>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("the folder stays readable");
        let kind = entry.file_type().expect("an entry has a type");
        let name = entry.file_name();
        // Not a folder everywhere: `.git` is a file in a second work tree of one repository.
        if MADE_BY_TOOLS.iter().any(|made| name == *made) {
            continue;
        }
        if kind.is_dir() {
            visit(root, &entry.path(), files);
        } else if kind.is_file()
            && let Some(text) = text_of(&entry.path())
        {
            files.push(TextFile { path: below(root, &entry.path()), text });
        }
    }
}

/// A file may vanish while we look (an editor's, a build's): that is no finding.
fn text_of(path: &Path) -> Option<String> {
    if fs::metadata(path).ok()?.len() > TEXT_BYTES_MAX {
        return None;
    }
    String::from_utf8(fs::read(path).ok()?).ok().filter(|text| !text.contains('\0'))
}

fn below(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).expect("visited below the root");
    relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[test]
fn the_walk_finds_sources_and_passes_over_builds() {
    let paths: Vec<String> = text_files().into_iter().map(|file| file.path).collect();
    assert!(paths.iter().any(|path| path == "crates/tidy/tests/tidy/repository.rs"));
    assert!(paths.iter().any(|path| path == "Cargo.toml"));
    assert!(!paths.iter().any(|path| path.split('/').any(|part| part == "target" || part == ".git")));
}
