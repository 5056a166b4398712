//! The node itself: whether it answers and serves, or else whether one could be started.

use std::net::TcpListener;

use super::Check;
use crate::cli::args::{ADMIN_DEFAULT, LISTEN_DEFAULT};
use crate::cli::meaning::Connection;
use crate::client::answers::Function;
use crate::client::api::Api;
use crate::client::error::ClientError;
use crate::client::find::Found;
use crate::client::text;

/// Names of functions in one line; `forerun functions` has them all.
const NAMES_MAX: usize = 5;

/// All checks of this file.
pub(super) fn checks(connection: &Connection, found: Result<Found, ClientError>) -> Vec<Check> {
    match found {
        Ok(found) => answering(&Api::new(found.url, found.token)),
        Err(error @ (ClientError::NoNode { .. } | ClientError::FolderIdle { .. })) if connection.node_is_default => {
            let mut checks = vec![Check::ok("node", format!("not running: {error}"))];
            checks.extend([port("port", LISTEN_DEFAULT, "listen"), port("admin port", ADMIN_DEFAULT, "admin")]);
            checks
        }
        Err(error) => vec![failed(&error)],
    }
}

fn answering(api: &Api) -> Vec<Check> {
    let status = match api.status() {
        Ok(status) => status,
        Err(error) => return vec![failed(&error)],
    };
    let ours = env!("CARGO_PKG_VERSION");
    let detail = format!(
        "version {} at {}, up for {}, serving on {}",
        status.version,
        api.url(),
        text::span(status.uptime_ms),
        status.addresses.join(" ")
    );
    let node = if status.version == ours {
        Check::ok("node", detail)
    } else {
        let hint = format!("this command is version {ours}: use the `forerun` the node was started with");
        Check::warning("node", detail, hint)
    };
    vec![node, functions(api)]
}

fn functions(api: &Api) -> Check {
    let name = "functions";
    let list = api.get("/v1/functions").and_then(|answer| api.understand::<Vec<Function>>(answer));
    let list = match list {
        Ok(list) => list,
        Err(error) => return Check::failed(name, error.to_string(), error.hint()),
    };
    let of = |state| list.iter().filter(move |function: &&Function| function.state == state);
    let broken: Vec<_> = of("failed").map(|function| function.spec.name.as_str()).collect();
    if broken.is_empty() {
        return Check::ok(name, format!("{} ready, {} loading", of("ready").count(), of("loading").count()));
    }
    let more = if broken.len() > NAMES_MAX { ", ..." } else { "" };
    let names = broken[..broken.len().min(NAMES_MAX)].join(", ");
    let detail = format!("{} of {} cannot be loaded: {names}{more}", broken.len(), list.len());
    Check::failed(name, detail, "`forerun functions` says why; roll them back or deploy them again")
}

fn failed(error: &ClientError) -> Check {
    let hint = match error.hint() {
        hint if hint.is_empty() => "see the node's log".to_owned(),
        hint => hint,
    };
    Check::failed("node", error.to_string(), hint)
}

/// Whether a node could listen there.
fn port(name: &'static str, address: &str, option: &str) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => {
            let hint = format!("end what listens there, or start the node with --{option} ADDRESS:PORT");
            Check::warning(name, format!("{address} cannot be used: {error}"), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::client::testing::{Canned, api_of};

    fn function(name: &str, state: &str) -> String {
        format!(r#"{{"spec":{{"name":"{name}"}},"revision":1,"digest":"d","state":"{state}"}}"#)
    }

    #[test]
    fn functions_that_failed_are_named() {
        let status = format!(r#"{{"version":"{}","uptime_ms":1,"addresses":[]}}"#, env!("CARGO_PKG_VERSION"));
        let list = format!("[{},{}]", function("a", "ready"), function("b", "failed"));
        let answer = |body| ("200 OK", "application/json", body);
        let server = Canned::answers(&[answer(status.as_str()), answer(list.as_str())]);
        let checks = answering(&api_of(&server));
        assert_eq!(checks[0].state, State::Ok);
        assert!(
            checks[1].state == State::Failed && checks[1].detail.contains("1 of 2") && checks[1].detail.ends_with(" b")
        );
    }

    #[test]
    fn another_version_is_a_warning_and_no_node_a_failure() {
        let server = Canned::answer("200 OK", "application/json", r#"{"version":"9","uptime_ms":1,"addresses":[]}"#);
        assert_eq!(answering(&api_of(&server))[0].state, State::Warning);
        let server = Canned::answer("200 OK", "text/html", "<html>");
        assert_eq!(answering(&api_of(&server))[0].state, State::Failed);
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(port("port", &address, "listen").state, State::Warning);
    }
}
