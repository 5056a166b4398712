//! From the tables of `spin.toml` to function specifications.
//!
//! A function is a component with all routes of the HTTP triggers that name it. Its name is the component's, in
//! lower case; limits, reuse and warm-up stay at their defaults, since Spin has no words for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use forerun_types::{FunctionName, FunctionSpec, RoutePattern};

use super::hosts::{self, Translated};
use super::raw::{Component, HttpTrigger, SpinToml};
use super::unsupported::{self, ignored, refused};
use super::variables::Variables;
use crate::diagnostic::Findings;
use crate::document::{Document, Typed};
use crate::function::{Routes, check_app_name, check_spec, source_path, store_names};
use crate::manifest::{Content, LoadOptions, ManifestFunction};
use crate::nearest::nearest;
use crate::spanned::{At, Span, TextOr};

/// The version of the format that is read here.
const VERSION: u64 = 2;
const VERSION_KEY: &str = "spin_manifest_version";
/// What version 1 called it at first.
const VERSION_KEY_BEFORE: &str = "spin_version";

/// Whether the document says that it is Spin's.
pub(crate) fn is_spin(document: &Document<'_>) -> bool {
    document.has(VERSION_KEY) || document.has(VERSION_KEY_BEFORE)
}

/// The functions of a `spin.toml`; errors and warnings go to `findings`.
pub(crate) fn content(
    document: Document<'_>,
    folder: &Path,
    options: &LoadOptions,
    findings: &mut Findings,
) -> Option<Content> {
    // Before the shape: version 1 has other keys, and "unknown key" would mislead. It wrote the number as a text.
    let later = document.version(VERSION_KEY).filter(|(number, _)| *number != Some(VERSION));
    if let Some((_, span)) = document.version(VERSION_KEY_BEFORE).or(later) {
        let finding = findings.error(span, "only version 2 of spin.toml is supported");
        finding.label("refused").help("`spin doctor` brings a manifest to version 2");
        return None;
    }
    let Typed { value: spin, positions } = document.typed::<SpinToml>(findings)?;
    let SpinToml { application, variables, trigger, component, .. } = spin;
    check_app_name(&application.name, findings);
    unsupported::of_application(&application, &trigger.others, findings);
    if trigger.http.is_empty() {
        let finding = findings.error(None, "the application has no HTTP trigger");
        finding.help("functions are called by HTTP: add a [[trigger.http]] with `route` and `component`");
        return None;
    }
    let variables = Variables::new(variables, &options.variables, findings);
    let mut reader = Reader {
        app: application.name.value,
        folder,
        options,
        variables,
        positions,
        routes: Routes::default(),
        names: HashSet::new(),
        findings,
    };
    let called = reader.triggers(trigger.http, component);
    let functions = called.into_iter().filter_map(|one| reader.function(one)).collect();
    Some(Content { app: reader.app, functions })
}

/// A component with what the triggers say of it.
struct Called {
    /// As written, and where: the table's name, or the trigger of a component written inside of it.
    id: At<String>,
    /// `None` before it is called, or if the id cannot be a function's name, which has been said.
    name: Option<FunctionName>,
    component: Component,
    routes: Vec<RoutePattern>,
    called: bool,
}

/// All components, those written inside triggers included.
#[derive(Default)]
struct Components {
    list: Vec<Called>,
    by_id: HashMap<String, usize>,
    inline_count: usize,
}

impl Components {
    fn add(&mut self, id: At<String>, component: Component) -> usize {
        self.by_id.insert(id.value.clone(), self.list.len());
        self.list.push(Called { id, name: None, component, routes: Vec::new(), called: false });
        self.list.len() - 1
    }

    /// A free id for a component that is written inside a trigger: after the trigger's id as Spin does it, else a
    /// number.
    fn inline_id(&mut self, trigger: Option<&At<String>>) -> String {
        let natural = trigger.map(|id| format!("{}-component", id.value));
        if let Some(id) = natural.filter(|id| !self.by_id.contains_key(id)) {
            return id;
        }
        loop {
            self.inline_count += 1;
            let id = format!("inline-component{}", self.inline_count);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

struct Reader<'a> {
    app: String,
    folder: &'a Path,
    options: &'a LoadOptions,
    variables: Variables<'a>,
    positions: HashMap<String, Span>,
    routes: Routes,
    /// Of the functions, for calls from one to another.
    names: HashSet<String>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    /// The components that are called, in the order of the file, with their routes.
    fn triggers(&mut self, triggers: Vec<At<HttpTrigger>>, components: BTreeMap<At<String>, Component>) -> Vec<Called> {
        let mut all = Components::default();
        for (id, component) in components {
            all.add(id, component);
        }
        for At { value: trigger, span } in triggers {
            if !unsupported::of_trigger(&trigger, self.findings) {
                continue;
            }
            let route = self.route(&trigger.route);
            let Some(index) = self.component_of(trigger, span, &mut all) else { continue };
            let one = &mut all.list[index];
            if !one.called {
                one.called = true;
                one.name = self.name(&one.id);
            }
            if let (Some(At { value: route, span }), Some(name)) = (route, &one.name)
                && self.routes.claim(&route, name, &span, self.findings)
            {
                one.routes.push(route);
            }
        }
        let (mut called, uncalled): (Vec<_>, Vec<_>) = all.list.into_iter().partition(|one| one.called);
        for one in uncalled {
            let what = format_args!("`component.{}`", one.id.value);
            ignored(&one.id.span, what, "no HTTP trigger names it", self.findings);
        }
        called.sort_by_key(|one| one.id.span.start);
        called
    }

    /// The index of the component a trigger calls; a component written inside the trigger is added.
    fn component_of(&mut self, trigger: HttpTrigger, span: Span, all: &mut Components) -> Option<usize> {
        match trigger.component {
            None => {
                self.findings.error(span, "the trigger names no component").help("add the key `component`");
                None
            }
            Some(At { value: TextOr::Text(id), span }) => {
                let index = all.by_id.get(&id).copied();
                if index.is_none() {
                    self.no_such_component(&id, span, all);
                }
                index
            }
            Some(At { value: TextOr::Table(component), .. }) => {
                let id = At { value: all.inline_id(trigger.id.as_ref()), span };
                Some(all.add(id, component))
            }
        }
    }

    /// A component's id as a function's name. Ids may have upper case, which host names do not tell apart.
    fn name(&mut self, id: &At<String>) -> Option<FunctionName> {
        match id.value.to_ascii_lowercase().parse::<FunctionName>() {
            Ok(name) if !self.names.insert(name.to_string()) => {
                let message = format!("there is another component named `{name}`, apart from upper and lower case");
                self.findings.error(id.span.clone(), message).help("host names do not tell these apart; rename one");
                None
            }
            Ok(name) => Some(name),
            Err(error) => {
                self.findings.error(id.span.clone(), error);
                None
            }
        }
    }

    /// The pattern of a trigger's route; `None` for a private one, or with the error said.
    fn route(&mut self, route: &At<TextOr<super::raw::PrivateRoute>>) -> Option<At<RoutePattern>> {
        let span = route.span.clone();
        let text = match &route.value {
            TextOr::Table(table) => {
                if !table.private.value {
                    self.findings.error(span, "a route is a path, or { private = true }");
                }
                return None;
            }
            TextOr::Text(text) => text,
        };
        if let Some(segment) = text.split('/').find(|segment| segment.starts_with(':')) {
            let before = text.split(segment).next().unwrap_or("/");
            let help = format!("route `{before}...` to the component and read the rest of the path there");
            refused(&span, format_args!("the route parameter `{segment}`"), &help, self.findings);
            return None;
        }
        // Spin's routes have no hosts, and it forgives a missing slash.
        let path = if text.starts_with('/') { text.clone() } else { format!("/{text}") };
        match path.parse() {
            Ok(pattern) => Some(At { value: pattern, span }),
            Err(error) => {
                self.findings.error(span, error);
                None
            }
        }
    }

    fn no_such_component(&mut self, id: &str, span: Span, all: &Components) {
        // Guessing among many for each of many takes long, and beyond the findings kept is not shown.
        let known = if self.findings.is_full() { None } else { Some(&all.list) };
        let meant = nearest(id, known.into_iter().flatten().map(|one| one.id.value.as_str()));
        let finding = self.findings.error(span, format_args!("there is no component `{id}`"));
        match meant {
            Some(meant) => finding.label(format_args!("did you mean `{meant}`?")),
            None => finding.help(format_args!("add a table [component.{id}]")),
        };
    }

    fn function(&mut self, called: Called) -> Option<ManifestFunction> {
        let Called { id, name, component, routes, called: _ } = called;
        unsupported::of_component(&component, self.findings);
        let build = component.build.map(|build| build.meaning(self.folder, self.findings));
        let source = match component.source.value {
            TextOr::Text(path) => {
                let span = component.source.span;
                source_path(self.folder, &path, span, build.as_ref(), self.options.sources, self.findings)
            }
            TextOr::Table(_) => {
                let why = "download the component and write its path";
                refused(&component.source.span, "a source from a URL or a registry", why, self.findings);
                return None;
            }
        };
        let mut spec = FunctionSpec::named(name?);
        spec.app.clone_from(&self.app);
        spec.routes = routes;
        spec.environment = component.environment;
        spec.key_value_stores = store_names(component.key_value_stores, self.findings);
        for (name, template) in component.variables {
            if let Some(value) = self.variables.expand(&template, self.findings) {
                spec.config.insert(name, value);
            }
        }
        for host in &component.allowed_outbound_hosts {
            self.host(host, &mut spec);
        }
        for At { value, span } in &component.allowed_http_hosts {
            self.host(&At { value: hosts::of_http_host(value), span: span.clone() }, &mut spec);
        }
        let place = |field: &str| {
            let key = field.replacen("config", "variables", 1);
            let exact = self.positions.get(&format!("component.{}.{key}", id.value)).cloned();
            exact.or_else(|| (!field.contains('.')).then(|| id.span.clone()))
        };
        check_spec(&spec, place, self.findings);
        Some(ManifestFunction { spec, source, digest: None, build })
    }

    fn host(&mut self, host: &At<String>, spec: &mut FunctionSpec) {
        let Some(text) = self.variables.expand(host, self.findings) else { return };
        match hosts::translate(&text) {
            Translated::Allowed(hosts) => spec.allowed_outbound_hosts.extend(hosts),
            Translated::OfTheApplication(Some(name)) if !self.names.contains(&name.to_ascii_lowercase()) => {
                let finding = self.findings.warning(host.span.clone(), format_args!("there is no component `{name}`"));
                finding.help("components call those of their own application only; in a forerun.toml, `allowed_outbound_hosts` may name another's");
            }
            Translated::OfTheApplication(_) => {}
            Translated::Nothing(why) => ignored(&host.span, format_args!("`{text}`"), why, self.findings),
            Translated::Malformed(error) => {
                self.findings.error(host.span.clone(), error);
            }
        }
    }
}
