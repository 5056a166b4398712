//! `forerun functions` and `forerun remove`.

use std::io::{self, BufRead, Write};

use forerun_types::FunctionName;
use serde_json::json;

use super::answers::{Function, Refusal, Vms};
use super::api::Api;
use super::error::ClientError;
use super::text;
use crate::cli::meaning::Consent;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table, printable};

/// Bytes of an answer to a question; `yes` has three.
const ANSWER_BYTES_MAX: u64 = 64;

/// Lists the functions of a node.
pub(super) fn list(output: &Output, api: &Api) -> Result<(), ClientError> {
    let answer = api.get("/v1/functions")?;
    let functions: Vec<Function> = api.understand(answer.clone())?;
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("app", Align::Left),
        ("revision", Align::Right),
        ("state", Align::Left),
        ("routes", Align::Left),
        ("world", Align::Left),
        ("vms", Align::Left),
        ("code", Align::Right),
        ("in flight", Align::Right),
    ]);
    for function in &functions {
        let Function { spec, revision, state, world, code_bytes, in_flight, vms, .. } = function;
        let app = if spec.app.is_empty() { "-" } else { &spec.app };
        let world = if world.is_empty() { "-" } else { world };
        let vms = if vms.policy.is_empty() { "-" } else { &vms.policy };
        let (revision, in_flight) = (revision.to_string(), in_flight.to_string());
        let (routes, code) = (spec.routes(), text::bytes(*code_bytes));
        table.row([&spec.name, app, &revision, state, &routes, world, vms, &code, &in_flight]);
    }
    let empty = "no functions yet; deploy some with `forerun deploy examples/shop`";
    output.table(&table, &answer, empty).map_err(ClientError::Stdout)?;
    if output.format == Format::Human {
        for function in functions.iter().filter(|function| !function.reason.is_empty()) {
            let reason: String = function.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            output.warning(&format!("{}: {reason}", function.spec.name));
        }
        let instead = |what: &str, why_of: fn(&Vms) -> Option<&Refusal>| {
            for function in &functions {
                if let Some(why) = why_of(&function.vms) {
                    output.note(&format!("{}: {what}: {}", function.spec.name, printable(&why.detail)));
                }
            }
        };
        instead("a fresh VM for each request", |vms| vms.refusal.as_ref());
        instead("VMs are put back to the state in which they were made", |vms| vms.not_warm.as_ref());
        instead("each new VM answers the warm-up requests instead of getting a copy", |vms| vms.no_copy.as_ref());
    }
    Ok(())
}

/// Removes a function, after asking if nobody has agreed yet.
pub(super) fn remove(output: &Output, api: &Api, name: &FunctionName, consent: Consent) -> Result<(), ClientError> {
    let path = format!("/v1/functions/{name}");
    let function: Function = api.understand(api.get(&path)?)?;
    let agreed = match consent {
        Consent::Given => true,
        Consent::Ask => {
            let routes = match function.spec.routes.as_slice() {
                [] => String::new(),
                routes => format!(" ({})", routes.join(" ")),
            };
            ask(&format!("Remove `{name}`{routes} with all its revisions and its log from {}? [y/N] ", api.url()))
        }
    };
    if !agreed {
        return Err(ClientError::NotConfirmed { name: name.to_string() });
    }
    api.delete(&path)?;
    match output.format {
        Format::Json => output.json(&json!({ "removed": name })).map_err(ClientError::Stdout),
        Format::Human => {
            output.note(&format!("removed {name}"));
            Ok(())
        }
    }
}

/// Asks on the terminal. On stderr, so that data on stdout stays data.
fn ask(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    // If it cannot be shown, nobody agrees to it.
    if write!(stderr, "{question}").and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut line = String::new();
    let read = io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX).read_line(&mut line);
    read.is_ok() && is_yes(&line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ColorChoice;
    use crate::cli::environment::Environment;
    use crate::client::testing::{Canned, api_of};

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", " YES \r\n"].iter().all(|line| is_yes(line)));
        assert!(!["", "\n", "n\n", "yo\n", "y y\n"].iter().any(|line| is_yes(line)));
    }

    #[test]
    fn an_unknown_function_is_not_removed() {
        let problem = r#"{"title":"x","status":404,"reason":"unknown_function","detail":"no function named `a`"}"#;
        let server = Canned::answer("404 Not Found", "application/problem+json", problem);
        let output = Output::new(false, ColorChoice::Never, &Environment::default());
        let error = remove(&output, &api_of(&server), &"a".parse().unwrap(), Consent::Given).unwrap_err();
        assert_eq!(error.to_string(), "no function named `a`");
        assert!(server.seen().starts_with("GET "));
    }
}
