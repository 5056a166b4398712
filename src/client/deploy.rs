//! `forerun deploy`: upload components by digest, then deploy all functions at once.
//!
//! What is there already is uploaded again without harm. Functions that are not named stay as they are, also those a
//! manifest no longer has: only `up` removes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use forerun_manifest::{LoadOptions, Manifest, ManifestFunction, read_component};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec};
use serde_json::{Value, json};

use super::answers::Change;
use super::api::Api;
use super::error::ClientError;
use super::local;
use crate::cli::meaning::Deploy;
use crate::cli::output::Output;
use crate::cli::table::{Align, Table};

/// A function to be deployed.
struct Wanted {
    spec: FunctionSpec,
    component: Vec<u8>,
}

/// Deploys, and shows what serves now.
pub(super) fn deploy(output: &Output, api: &Api, wanted: Deploy) -> Result<(), ClientError> {
    let wanted = load(output, wanted)?;
    // Before megabytes are sent: a node that refuses the token would close the connection in the middle of them.
    let addresses = api.status()?.addresses;
    let mut uploaded = BTreeSet::new();
    let mut functions = Vec::with_capacity(wanted.len());
    for Wanted { spec, component } in &wanted {
        let digest = ComponentDigest::of(component);
        if uploaded.insert(digest) {
            api.put(&format!("/v1/components/{digest}"), component)?;
        }
        functions.push(json!({ "spec": spec, "component": digest }));
    }
    let answer = api.post("/v1/deployments", &json!({ "functions": functions }))?;
    let changes: Vec<Change> = api.understand(answer.clone())?;
    let specs: BTreeMap<&str, &FunctionSpec> = wanted.iter().map(|one| (one.spec.name.as_str(), &one.spec)).collect();
    show(output, &changes, &specs, &answer)?;
    if let Some(address) = addresses.first() {
        output.note(&format!("serving on {address}"));
    }
    Ok(())
}

fn show(
    output: &Output,
    changes: &[Change],
    specs: &BTreeMap<&str, &FunctionSpec>,
    json: &Value,
) -> Result<(), ClientError> {
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("revision", Align::Right),
        ("change", Align::Left),
        ("routes", Align::Left),
        ("world", Align::Left),
        ("compiled", Align::Right),
    ]);
    for change in changes {
        let routes = specs.get(change.name.as_str()).map_or(&[][..], |spec| &spec.routes);
        let routes: Vec<_> = routes.iter().map(ToString::to_string).collect();
        let routes = if routes.is_empty() { "(internal)".to_owned() } else { routes.join(" ") };
        let what = match (change.changed, change.revision) {
            (true, 1) => "new",
            (true, _) => "changed",
            (false, _) => "unchanged",
        };
        let compiled = if change.changed { format!("{} ms", change.compile_ms) } else { "-".to_owned() };
        let world = if change.world.is_empty() { "-" } else { &change.world };
        table.row([&change.name, &change.revision.to_string(), what, &routes, world, &compiled]);
    }
    output.table(&table, json, "nothing was deployed: the manifest has no functions").map_err(ClientError::Stdout)
}

fn load(output: &Output, wanted: Deploy) -> Result<Vec<Wanted>, ClientError> {
    match wanted {
        Deploy::Component { path, name, routes, environment } => {
            let spec = FunctionSpec { routes, environment, ..FunctionSpec::named(name) };
            spec.check().map_err(|violation| ClientError::Spec { name: spec.name.to_string(), violation })?;
            let component = local::component(&path, read_component(&path, None))?;
            Ok(vec![Wanted { spec, component }])
        }
        Deploy::Manifest { path, only } => load_manifest(output, &path, only.as_ref()),
    }
}

fn load_manifest(output: &Output, path: &Path, only: Option<&FunctionName>) -> Result<Vec<Wanted>, ClientError> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let options = LoadOptions::default().with_spin_variables(variables);
    let manifest = Manifest::load_with(path, &options).map_err(ClientError::Manifest)?;
    output.report(&manifest.warnings);
    let chosen: Vec<_> =
        manifest.functions.iter().filter(|one| only.is_none_or(|name| one.spec.name == *name)).collect();
    if let (Some(name), true) = (only, chosen.is_empty()) {
        let names: Vec<_> = manifest.functions.iter().map(|one| one.spec.name.as_str()).collect();
        let (name, names) = (name.to_string(), names.join(", "));
        return Err(ClientError::NotInManifest { name, manifest: manifest.path, names });
    }
    let load = |one: &ManifestFunction| {
        let component = local::component(&one.source, one.read_component())?;
        Ok(Wanted { spec: one.spec.clone(), component })
    };
    chosen.into_iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ColorChoice;
    use crate::cli::environment::Environment;
    use crate::client::testing::{Canned, api_of};

    fn output() -> Output {
        Output::new(true, ColorChoice::Never, &Environment::default())
    }

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "forerun = 1\n[app]\nname = \"a\"\n".to_owned();
        for name in names {
            text.push_str(&format!("[function.{name}]\nsource = \"a.wasm\"\n"));
        }
        std::fs::write(folder.path().join("a.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
        std::fs::write(folder.path().join("forerun.toml"), text).unwrap();
        folder
    }

    #[test]
    fn uploads_each_component_once_and_never_prunes() {
        let status = r#"{"version":"0","uptime_ms":1,"addresses":[]}"#;
        let changes = r#"[{"name":"one","revision":1,"changed":true,"digest":"d"}]"#;
        let server = Canned::answers(&[
            ("200 OK", "application/json", status),
            ("200 OK", "application/json", "{}"),
            ("200 OK", "application/json", changes),
        ]);
        let folder = folder(&["one", "two"]);
        deploy(&output(), &api_of(&server), Deploy::Manifest { path: folder.path().into(), only: None }).unwrap();
        assert!(server.seen().starts_with("GET /v1/status "));
        assert!(server.seen().starts_with("PUT /v1/components/sha256:"));
        let deployment = server.seen();
        assert!(deployment.starts_with("POST /v1/deployments ") && !deployment.contains("prune"), "{deployment}");
        assert!(deployment.contains(r#""name":"one""#) && deployment.contains(r#""name":"two""#), "{deployment}");
    }

    #[test]
    fn a_name_the_manifest_has_not_is_refused_with_those_it_has() {
        let folder = folder(&["one", "two"]);
        let only = Some("three".parse().unwrap());
        let wanted = Deploy::Manifest { path: folder.path().into(), only };
        let Err(error) = load(&output(), wanted) else { panic!("loaded") };
        assert!(error.hint().contains("one, two"), "{error}");
    }

    #[test]
    fn a_missing_component_is_named() {
        let wanted = Deploy::Component {
            path: "/nowhere/a.wasm".into(),
            name: "a".parse().unwrap(),
            routes: Vec::new(),
            environment: BTreeMap::new(),
        };
        let Err(error) = load(&output(), wanted) else { panic!("loaded") };
        assert_eq!(error.to_string(), "the component `/nowhere/a.wasm` does not exist");
    }
}
