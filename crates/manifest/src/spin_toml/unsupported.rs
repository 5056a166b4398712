//! What of `spin.toml` is not supported, each with the reason: refused if the application would not work without
//! it, ignored with a warning if the rest works.
//!
//! Keys that mean nothing at run time (`description`, `tool`, `targets`, ...) are read over without a word.

use std::fmt::Display;

use super::raw::{Application, Component, HttpTrigger, Triggers, Unread};
use crate::diagnostic::Findings;
use crate::spanned::{At, Span};

/// Names what is not supported outside triggers and components. `other_triggers` are the kinds beside HTTP.
pub(crate) fn of_application(application: &Application, other_triggers: &[At<String>], findings: &mut Findings) {
    let Triggers { http, others } = &application.trigger;
    if let Some(base) = http.base.as_ref().filter(|base| !matches!(base.value.as_str(), "" | "/")) {
        refused(&base.span, "the key `base`", "write the whole path into each route, as Spin 3 wants it", findings);
    }
    for kind in others {
        let what = format_args!("`application.trigger.{}`", kind.value);
        ignored(&kind.span, what, "only HTTP calls functions here", findings);
    }
    for kind in other_triggers {
        let what = format_args!("`trigger.{}`", kind.value);
        ignored(&kind.span, what, "only HTTP calls functions here, so this never calls its component", findings);
    }
}

/// Names what is not supported of an HTTP trigger; false if the trigger cannot be served at all.
pub(crate) fn of_trigger(trigger: &HttpTrigger, findings: &mut Findings) -> bool {
    let mut served = true;
    if let Some(span) = something(trigger.static_response.as_ref()) {
        refused(span, "`static_response`", "only components answer requests here", findings);
        served = false;
    }
    let middleware = [("components", &trigger.components), ("dependencies", &trigger.dependencies)];
    for (key, value) in middleware {
        if let Some(span) = something(value.as_ref()) {
            refused(
                span,
                format_args!("`{key}`"),
                "a route is answered by one component; compose them with `wac` before",
                findings,
            );
        }
    }
    if let Some(executor) = &trigger.executor {
        let kind = &executor.value.r#type;
        if !matches!(kind.value.as_str(), "http" | "spin") {
            let what = format_args!("the executor `{}`", kind.value);
            refused(&kind.span, what, "components are called by wasi:http only", findings);
        }
    }
    served
}

/// Names what is not supported of a component.
pub(crate) fn of_component(component: &Component, findings: &mut Findings) {
    let refusals = [
        ("files", &component.files, "functions have no file system; build the files into the component"),
        ("sqlite_databases", &component.sqlite_databases, "there is no SQLite interface; use wasi:keyvalue"),
        ("ai_models", &component.ai_models, "there is no inference interface"),
        ("dependencies", &component.dependencies, "compose the component with `wac` before"),
    ];
    for (key, value, why) in refusals {
        if let Some(span) = something(value.as_ref()) {
            refused(span, format_args!("`{key}`"), why, findings);
        }
    }
    if let Some(span) = something(component.profile.as_ref()) {
        ignored(span, "`profile`", "the component's own settings are used", findings);
    }
}

/// Says that `what` is refused, and what to do instead.
pub(crate) fn refused(span: &Span, what: impl Display, why: &str, findings: &mut Findings) {
    findings.error(span.clone(), format_args!("{what} is not supported")).label("refused").help(why);
}

/// Says that `what` is ignored, and why.
pub(crate) fn ignored(span: &Span, what: impl Display, why: &str, findings: &mut Findings) {
    findings.warning(span.clone(), format_args!("{what} is ignored")).label("ignored").help(why);
}

fn something(value: Option<&At<Unread>>) -> Option<&Span> {
    value.filter(|value| value.value == Unread::Something).map(|value| &value.span)
}
