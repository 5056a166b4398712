//! Loading from files: what is found, what must be there, and what is watched.

use std::path::{Path, PathBuf};

use forerun_manifest::{LoadOptions, Manifest, ManifestError, SourceCheck, SourceError};

const TWO: &str = "\
forerun = 1
app.name = 'two'
[function.there]
source = 'there.wasm'
[function.built]
source = 'out/built.wasm'
build = { command = 'make', watch = ['*.rs'] }
";

fn folder_with_two() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("forerun.toml"), TWO).expect("written");
    std::fs::write(folder.path().join("there.wasm"), b"\0asm").expect("written");
    folder
}

fn with(sources: SourceCheck) -> LoadOptions {
    LoadOptions { sources, ..LoadOptions::default() }
}

#[test]
fn a_folder_stands_for_its_manifest() {
    let folder = folder_with_two();
    let manifest = Manifest::load_with(folder.path(), &with(SourceCheck::MayBeBuilt)).unwrap();
    assert_eq!(manifest.path, folder.path().join("forerun.toml"));
    assert_eq!(manifest.functions[0].read_component().unwrap(), b"\0asm");
    assert!(matches!(manifest.functions[1].read_component(), Err(SourceError::Missing { .. })));
    let watched = ["forerun.toml", "out/built.wasm", "there.wasm"].map(|file| folder.path().join(file));
    assert_eq!(manifest.watch_paths(), watched);
}

#[test]
fn components_must_exist_unless_they_may_be_built() {
    let folder = folder_with_two();
    let error = Manifest::load(folder.path()).unwrap_err();
    let records = error.report().unwrap().records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].line, records[0].column), (Some(6), Some(10)));
    assert!(records[0].help.contains("forerun up --build"));
    std::fs::remove_file(folder.path().join("there.wasm")).unwrap();
    assert!(Manifest::load_with(folder.path(), &with(SourceCheck::MayBeBuilt)).is_err());
    assert!(Manifest::load_with(folder.path(), &with(SourceCheck::Unchecked)).is_ok());
}

#[test]
fn spin_variables_come_from_the_environment() {
    let text = "\
spin_manifest_version = 2
application.name = 'x'
variables.api_host = { required = true }
trigger.http = [{ route = '/', component = 'x' }]
component.x = { source = 'x.wasm', variables = { host = 'at {{ api_host }}!' } }
";
    let environment = [("SPIN_VARIABLE_API_HOST", "here"), ("PATH", "/bin")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = with(SourceCheck::Unchecked).with_spin_variables(environment);
    let manifest = Manifest::parse(Path::new("any name"), text, &options).unwrap();
    assert_eq!(manifest.functions[0].spec.config["host"], "at here!");
    assert!(Manifest::parse(Path::new("x"), text, &with(SourceCheck::Unchecked)).is_err());
}

#[test]
fn a_component_given_as_manifest_is_named() {
    let folder = folder_with_two();
    let error = Manifest::load(&folder.path().join("there.wasm")).unwrap_err();
    assert!(matches!(error, ManifestError::Invalid(_)), "{error}");
    std::fs::write(folder.path().join("there.wasm"), b"\0asm\xff").unwrap();
    let error = Manifest::load(&folder.path().join("there.wasm")).unwrap_err();
    assert!(matches!(error, ManifestError::NotText { .. }), "{error}");
}

#[test]
fn the_manifests_of_the_examples_are_accepted_without_a_word() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders = std::fs::read_dir(examples).expect("examples").map(|entry| entry.expect("entry").path());
    let manifests: Vec<PathBuf> =
        folders.map(|folder| folder.join("forerun.toml")).filter(|path| path.is_file()).collect();
    assert!(!manifests.is_empty());
    for path in manifests {
        let manifest =
            Manifest::load_with(&path, &with(SourceCheck::Unchecked)).unwrap_or_else(|error| panic!("{error}"));
        assert!(manifest.warnings.is_empty(), "{}", manifest.warnings);
    }
}
