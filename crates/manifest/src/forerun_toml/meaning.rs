//! From the tables of `forerun.toml` to function specifications: every value parsed, every error at its place.
//!
//! Shape (keys and types) is right when we get here.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use forerun_types::limits::FunctionLimits;
use forerun_types::{CallAnswer, FunctionName, FunctionSpec, ReusePolicy, WarmUpRequest, warm_up};

use super::raw::{self, ForerunToml};
use crate::diagnostic::Findings;
use crate::document::{Document, Typed};
use crate::function::{Routes, check_app_name, check_spec, source_path, store_names, warn_of_parameter};
use crate::manifest::{Content, LoadOptions, ManifestFunction};
use crate::quantity::{Quantity, Unit};
use crate::spanned::{At, Span, TextOr};

/// The version of the format that is read here.
const VERSION: u64 = 1;
const VERSION_KEY: &str = "forerun";
/// The table functions stand in; part of the paths of their keys.
const FUNCTION_TABLE: &str = "function";

/// Whether the document says that it is ours.
pub(crate) fn is_forerun(document: &Document<'_>) -> bool {
    document.has(VERSION_KEY)
}

/// The functions of a `forerun.toml`; errors and warnings go to `findings`.
pub(crate) fn content(
    document: Document<'_>,
    folder: &Path,
    options: &LoadOptions,
    findings: &mut Findings,
) -> Option<Content> {
    // Before the shape: a later version may have other keys, and "unknown key" would mislead.
    if let Some((Some(number), span)) = document.version(VERSION_KEY)
        && number != VERSION
    {
        let finding = findings.error(span, format_args!("version {number} of the manifest format is not known"));
        finding
            .label(format_args!("this program reads version {VERSION}"))
            .help("write `forerun = 1`, or use a newer forerun");
        return None;
    }
    let Typed { value: ForerunToml { app, function, .. }, positions } = document.typed(findings)?;
    check_app_name(&app.name, findings);
    if function.is_empty() {
        findings
            .warning(None, "the manifest has no function")
            .help("add a table such as [function.hello] with `source` and `routes`");
    }
    let mut functions: Vec<_> = function.into_iter().collect();
    functions.sort_by_key(|(name, _)| name.span.start);
    let mut reader = Reader { app: &app.name.value, folder, options, positions, routes: Routes::default(), findings };
    let functions = functions.into_iter().filter_map(|(name, table)| reader.function(&name, table)).collect();
    Some(Content { app: app.name.value, functions })
}

struct Reader<'a> {
    app: &'a str,
    folder: &'a Path,
    options: &'a LoadOptions,
    positions: HashMap<String, Span>,
    routes: Routes,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn function(&mut self, name: &At<String>, table: raw::Function) -> Option<ManifestFunction> {
        let written = &name.value;
        let name: FunctionName = self.parse(name)?;
        let build = table.build.map(|build| build.meaning(self.folder, self.findings));
        let (source, digest) = self.source(table.source);
        let path =
            source_path(self.folder, &source.value, source.span, build.as_ref(), self.options.sources, self.findings);
        let mut spec = FunctionSpec::named(name.clone());
        self.app.clone_into(&mut spec.app);
        for route in table.routes {
            let Some(pattern) = self.parse(&route) else { continue };
            warn_of_parameter(&route.value, &route.span, self.findings);
            if self.routes.claim(&pattern, &name, &route.span, self.findings) {
                spec.routes.push(pattern);
            }
        }
        spec.environment = table.environment;
        spec.config = table.config;
        spec.allowed_outbound_hosts = table.allowed_outbound_hosts.iter().filter_map(|host| self.parse(host)).collect();
        spec.key_value_stores = store_names(table.key_value_stores, self.findings);
        spec.reuse = self.reuse(table.reuse);
        spec.warm_up = table.warm_up.into_iter().map(|request| self.warm_up(request)).collect();
        spec.limits = self.limits(&table.limits);
        let place = |field: &str| self.positions.get(&format!("{FUNCTION_TABLE}.{written}.{field}")).cloned();
        check_spec(&spec, place, self.findings);
        Some(ManifestFunction { spec, source: path, digest, build })
    }

    /// Parses a text into one of our shared types; its error goes to its place.
    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, text: &At<String>) -> Option<T> {
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.findings.error(text.span.clone(), error);
                None
            }
        }
    }

    fn source(&mut self, source: At<TextOr<raw::Source>>) -> (At<String>, Option<forerun_types::ComponentDigest>) {
        match source.value {
            TextOr::Text(path) => (At { value: path, span: source.span }, None),
            TextOr::Table(raw::Source { path, digest }) => {
                let digest = digest.and_then(|digest| self.parse(&digest));
                (path, digest)
            }
        }
    }

    fn reuse(&mut self, reuse: Option<At<TextOr<raw::Reuse>>>) -> ReusePolicy {
        let Some(At { value, span }) = reuse else { return ReusePolicy::default() };
        match value {
            TextOr::Text(word) if word == "fresh" => ReusePolicy::Fresh,
            TextOr::Text(word) if word == "rollback" => ReusePolicy::Rollback,
            TextOr::Text(word) if word == "warm" => ReusePolicy::Warm,
            TextOr::Text(word) => {
                let finding = self.findings.error(span, format_args!("`{word}` is not a reuse policy"));
                finding.help(
                    "write `reuse = \"rollback\"`, `reuse = \"warm\"`, `reuse = \"fresh\"` or \
                     `reuse = { requests_max = 100, idle_ms = 1000 }`",
                );
                ReusePolicy::default()
            }
            TextOr::Table(raw::Reuse { requests_max, idle_ms }) => ReusePolicy::Reuse {
                requests_max: self.number(&requests_max),
                idle_ms: self.quantity(Some(&idle_ms), Unit::Milliseconds, 1),
            },
        }
    }

    fn warm_up(&mut self, request: raw::WarmUp) -> WarmUpRequest {
        let raw::WarmUp { path, method, body, answer_to_calls } = request;
        if !warm_up::is_path(&path.value) {
            let finding = self.findings.error(path.span, format_args!("`{}` is not a path", path.value));
            finding.help("a warm-up path starts with `/` and has no spaces and no fragment; a query is fine");
        }
        if let Some(method) = method.as_ref().filter(|method| !warm_up::is_method(&method.value)) {
            let finding = self.findings.error(method.span.clone(), format_args!("`{}` is not a method", method.value));
            finding.help("methods are upper-case words such as GET and POST");
        }
        let method = method.map_or_else(|| "GET".to_owned(), |method| method.value);
        let answer_to_calls = answer_to_calls.map(|answer| self.call_answer(answer));
        WarmUpRequest { method, path: path.value, body: self.warm_up_body(body), answer_to_calls }
    }

    fn warm_up_body(&mut self, body: Option<At<String>>) -> String {
        let Some(body) = body else { return String::new() };
        if !warm_up::is_body(&body.value) {
            let message = format!("a body in a warm-up request has at most {} bytes", warm_up::BODY_BYTES_MAX);
            self.findings.error(body.span, message);
        }
        body.value
    }

    fn call_answer(&mut self, answer: raw::CallAnswer) -> CallAnswer {
        let raw::CallAnswer { status, content_type, body } = answer;
        if let Some(status) = status.as_ref().filter(|status| !warm_up::is_status(status.value)) {
            let finding = self.findings.error(status.span.clone(), format_args!("{} is not a status", status.value));
            finding.help("an answer has a status from 200 to 599");
        }
        if let Some(kind) = content_type.as_ref().filter(|kind| !warm_up::is_content_type(&kind.value)) {
            self.findings.error(kind.span.clone(), format_args!("`{}` is not a content type", kind.value));
        }
        let usual = CallAnswer::default();
        CallAnswer {
            status: status.and_then(|status| u16::try_from(status.value).ok()).unwrap_or(usual.status),
            content_type: content_type.map_or(usual.content_type, |kind| kind.value),
            body: self.warm_up_body(body),
        }
    }

    fn limits(&mut self, limits: &raw::Limits) -> FunctionLimits {
        let raw::Limits {
            memory_bytes,
            timeout_ms,
            concurrency_max,
            queue_max,
            queue_timeout_ms,
            request_body_bytes_max,
            response_body_bytes_max,
            cpus,
        } = limits;
        let usual = FunctionLimits::default();
        let mut bytes = |value: &Option<_>, usual| self.quantity(value.as_ref(), Unit::Bytes, usual);
        let memory_bytes = bytes(memory_bytes, usual.memory_bytes);
        let request_body_bytes_max = bytes(request_body_bytes_max, usual.request_body_bytes_max);
        let response_body_bytes_max = bytes(response_body_bytes_max, usual.response_body_bytes_max);
        let mut time = |value: &Option<_>, usual| self.quantity(value.as_ref(), Unit::Milliseconds, usual);
        let timeout_ms = time(timeout_ms, usual.timeout_ms);
        let queue_timeout_ms = time(queue_timeout_ms, usual.queue_timeout_ms);
        FunctionLimits {
            memory_bytes,
            timeout_ms,
            concurrency_max: concurrency_max.as_ref().map_or(usual.concurrency_max, |value| self.number(value)),
            queue_max: queue_max.as_ref().map_or(usual.queue_max, |value| self.number(value)),
            queue_timeout_ms,
            request_body_bytes_max,
            response_body_bytes_max,
            cpus: cpus.iter().filter_map(|cpu| self.cpu(cpu)).collect(),
        }
    }

    /// The number of a processor.
    fn cpu(&mut self, value: &At<u64>) -> Option<u16> {
        let cpu = u16::try_from(value.value).ok();
        if cpu.is_none() {
            let finding = self.findings.error(value.span.clone(), format_args!("{} is no processor", value.value));
            finding.help("`lscpu --extended` lists their numbers");
        }
        cpu
    }

    fn quantity(&mut self, value: Option<&At<Quantity>>, unit: Unit, usual: u64) -> u64 {
        let Some(At { value, span }) = value else { return usual };
        value.resolve(unit).unwrap_or_else(|error| {
            let finding = self.findings.error(span.clone(), error);
            match unit {
                Unit::Bytes => finding.help("write bytes as a number, or a text such as \"64 MiB\""),
                Unit::Milliseconds => finding.help("write milliseconds as a number, or a text such as \"30 s\""),
            };
            usual
        })
    }

    /// A count. What does not fit is said here, because cut to fit it would pass the checks that follow.
    fn number(&mut self, value: &At<u64>) -> u32 {
        u32::try_from(value.value).unwrap_or_else(|_| {
            self.findings.error(value.span.clone(), format_args!("{} is more than can be counted here", value.value));
            1
        })
    }
}
