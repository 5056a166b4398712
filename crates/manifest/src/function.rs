//! What both formats have in common in giving meaning to a function: its file, its specification's checks, and
//! that no two functions answer on one route.
//!
//! Keys are the formats' own; only values come here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use forerun_types::limits::FunctionLimits;
use forerun_types::{FunctionName, FunctionSpec, ReusePolicy, RoutePattern, SpecError, WarmUpRequest};

use crate::diagnostic::Findings;
use crate::manifest::{Build, SourceCheck};
use crate::source::{self, SourceError};
use crate::spanned::{At, Span};

/// Characters of an application's name; it is shown in tables.
const APP_CHARACTERS_MAX: usize = 128;
/// Characters of a key-value store's name; it becomes part of a key in the store.
const STORE_NAME_CHARACTERS_MAX: usize = 63;
/// Rounds of check and repair of one specification; it has fewer fields that can be wrong.
const CHECK_ROUNDS_MAX: usize = 16;

/// Says what is wrong with the name of an application.
pub(crate) fn check_app_name(name: &At<String>, findings: &mut Findings) {
    let (text, span) = (&name.value, name.span.clone());
    if text.trim().is_empty() {
        findings.error(span, "the application's name is empty");
    } else if text.chars().count() > APP_CHARACTERS_MAX || text.chars().any(char::is_control) {
        let message = format!("an application's name has at most {APP_CHARACTERS_MAX} characters, all printable");
        findings.error(span, message);
    }
}

/// Says what is wrong with the names of key-value stores, and returns them sorted.
pub(crate) fn store_names(names: Vec<At<String>>, findings: &mut Findings) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for At { value, span } in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if value.is_empty() || value.len() > STORE_NAME_CHARACTERS_MAX || !value.chars().all(plain) {
            findings
                .error(span, format_args!("`{value}` cannot be the name of a key-value store"))
                .help(format_args!("use up to {STORE_NAME_CHARACTERS_MAX} letters, digits, `-`, `_` and `.`"));
        } else if seen.contains(&value) {
            findings.warning(span, format_args!("the key-value store `{value}` is listed twice"));
        } else {
            seen.insert(value);
        }
    }
    seen.into_iter().collect()
}

/// Where the component's file is; says so if it should be there and is not.
pub(crate) fn source_path(
    folder: &Path,
    written: &str,
    span: Span,
    build: Option<&Build>,
    check: SourceCheck,
    findings: &mut Findings,
) -> PathBuf {
    let path = folder.join(written.strip_prefix("./").unwrap_or(written));
    if written.is_empty() || written.contains('\0') {
        findings.error(span, "a component's path is not empty and without zero bytes");
        return path;
    }
    let wanted = match check {
        SourceCheck::MustExist => true,
        SourceCheck::MayBeBuilt => build.is_none(),
        SourceCheck::Unchecked => false,
    };
    if wanted && let Err(error) = source::check_file(&path) {
        let finding = findings.error(span, format_args!("the component {error}"));
        match (error, build) {
            (SourceError::Missing { .. }, Some(build)) => finding
                .help(format_args!("build it with `forerun up --build`, or run: {}", build.commands.join(" && "))),
            (SourceError::Missing { .. }, None) => finding.help("the path is relative to the manifest's folder"),
            _ => finding,
        };
    }
    path
}

/// Runs [`FunctionSpec::check`] until it finds no more, so that one load names all violations. `place` tells where
/// a field stands in the manifest.
pub(crate) fn check_spec(spec: &FunctionSpec, place: impl Fn(&str) -> Option<Span>, findings: &mut Findings) {
    let mut rest = spec.clone();
    for _ in 0..CHECK_ROUNDS_MAX {
        let Err(error) = rest.check() else { return };
        let field = match &error {
            SpecError::OutOfRange { field, .. } | SpecError::TooMany { field, .. } => Some((*field).to_owned()),
            SpecError::BadVariable { field, name, .. } => Some(variable_path(field, name, &rest)),
            SpecError::RouteTwice { .. } => Some("routes".to_owned()),
            SpecError::NothingToWarmUpWith => Some("reuse".to_owned()),
            SpecError::CpusInDisorder => Some("limits.cpus".to_owned()),
            // Who read it has said so, where it stands.
            SpecError::BadWarmUp { .. } => None,
        };
        if let Some(field) = field {
            let table = field.split('.').next().unwrap_or("");
            findings.error(place(&field).or_else(|| place(table)), &error);
        }
        if !forget(&mut rest, &error) {
            return;
        }
    }
}

/// The error shortens a variable's name; the place needs all of it.
fn variable_path(field: &str, shortened: &str, spec: &FunctionSpec) -> String {
    let variables = if field == "config" { &spec.config } else { &spec.environment };
    format!("{field}.{}", in_full(shortened, variables).map_or(shortened, String::as_str))
}

/// The variable whose name the check shortened to `shortened`: the first with that start, as the check goes in order.
fn in_full<'a>(shortened: &str, variables: &'a BTreeMap<String, String>) -> Option<&'a String> {
    let length = shortened.chars().count();
    variables.keys().find(|name| {
        let start: String = name.chars().take(length.max(1)).collect();
        start == shortened
    })
}

/// Takes the violation out, so that the check finds the next one; false if it is none we know.
fn forget(spec: &mut FunctionSpec, error: &SpecError) -> bool {
    let usual = FunctionLimits::default();
    match error {
        SpecError::OutOfRange { field, .. } => match *field {
            "limits.memory_bytes" => spec.limits.memory_bytes = usual.memory_bytes,
            "limits.timeout_ms" => spec.limits.timeout_ms = usual.timeout_ms,
            "limits.concurrency_max" => spec.limits.concurrency_max = usual.concurrency_max,
            "limits.queue_max" => spec.limits.queue_max = usual.queue_max,
            "limits.queue_timeout_ms" => spec.limits.queue_timeout_ms = usual.queue_timeout_ms,
            "limits.response_body_bytes_max" => spec.limits.response_body_bytes_max = usual.response_body_bytes_max,
            "reuse.requests_max" | "reuse.idle_ms" => spec.reuse = ReusePolicy::default(),
            _ => return false,
        },
        SpecError::TooMany { field, .. } => match *field {
            "routes" => spec.routes.clear(),
            "allowed_outbound_hosts" => spec.allowed_outbound_hosts.clear(),
            "key_value_stores" => spec.key_value_stores.clear(),
            "warm_up" => spec.warm_up.clear(),
            "environment" => spec.environment.clear(),
            "config" => spec.config.clear(),
            "limits.cpus" => spec.limits.cpus.clear(),
            _ => return false,
        },
        SpecError::NothingToWarmUpWith => spec.reuse = ReusePolicy::default(),
        SpecError::BadVariable { field, name, .. } => {
            let variables = if *field == "config" { &mut spec.config } else { &mut spec.environment };
            let Some(name) = in_full(name, variables).cloned() else { return false };
            variables.remove(&name);
        }
        SpecError::CpusInDisorder => spec.limits.cpus.clear(),
        SpecError::RouteTwice { .. } => spec.routes.clear(),
        SpecError::BadWarmUp { index, .. } => spec.warm_up[*index] = unobjectionable(),
    }
    true
}

/// A warm-up request in the place of one that has been objected to.
fn unobjectionable() -> WarmUpRequest {
    WarmUpRequest { method: "GET".to_owned(), path: "/".to_owned(), body: String::new(), answer_to_calls: None }
}

/// The routes of a manifest as they are claimed.
#[derive(Default)]
pub(crate) struct Routes {
    claimed: HashMap<RoutePattern, (FunctionName, Span)>,
}

impl Routes {
    /// Claims a route for a function; false, with the error said, if it is taken.
    pub(crate) fn claim(
        &mut self,
        route: &RoutePattern,
        name: &FunctionName,
        span: &Span,
        findings: &mut Findings,
    ) -> bool {
        let Some((owner, first)) = self.claimed.get(route) else {
            self.claimed.insert(route.clone(), (name.clone(), span.clone()));
            return true;
        };
        if owner == name {
            let finding = findings.error(span.clone(), format_args!("`{name}` lists the route `{route}` twice"));
            finding.label("again here").related(first.clone(), "first here").help("remove one of them");
        } else {
            let message = format!("the functions `{owner}` and `{name}` both answer on `{route}`");
            let finding = findings.error(span.clone(), message).label(format_args!("`{name}` wants it here"));
            finding
                .related(first.clone(), format_args!("`{owner}` has it here"))
                .help("give one of them another route");
        }
        false
    }
}

/// Says so if a route holds what looks like a parameter: it would only ever match that very text.
pub(crate) fn warn_of_parameter(route: &str, span: &Span, findings: &mut Findings) {
    let parameter = |segment: &&str| {
        segment.len() > 1 && (segment.starts_with(':') || (segment.starts_with('{') && segment.ends_with('}')))
    };
    if let Some(segment) = route.split('/').find(parameter) {
        let before = route.split(segment).next().unwrap_or("/");
        let finding =
            findings.warning(span.clone(), format_args!("`{segment}` is taken literally, routes have no parameters"));
        finding.help(format_args!("use the prefix `{before}...` and read the rest of the path in the function"));
    }
}
