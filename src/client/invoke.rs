//! `forerun invoke`: one request to a function through the admin port.
//!
//! As with `curl --fail-with-body`: the body goes to stdout whatever the status is, and a status of 400 or more makes
//! the exit code 22. Status and headers go to stderr if the status is not 2xx; `--json` has all of it in one document.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use ureq::http::{HeaderMap, Method, Response};
use ureq::{Body as ResponseBody, SendBody};

use super::Done;
use super::api::{Api, Patience, REQUEST_ID, is_problem};
use super::error::ClientError;
use super::text;
use crate::cli::meaning::{Body, Invoke};
use crate::cli::output::{Format, Output};
use crate::cli::table::printable;

/// Exit code for a status of 400 or more; the one curl uses.
const EXIT_HTTP_ERROR: u8 = 22;
/// Bytes written at once: what a pipe holds.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of a body that goes into a JSON document, which has to be in memory.
const JSON_BODY_BYTES_MAX: u64 = 64 << 20;
/// Headers that belong to the connection to the admin port, each with the reason.
const OWN_HEADERS: &[(&str, &str)] = &[
    ("authorization", "the admin port takes it for the node's token"),
    ("host", "the node sets it to the function's internal name"),
    ("content-length", "it follows from the body"),
    ("transfer-encoding", "it follows from the body"),
    ("connection", "it is about the connection to the admin port"),
    ("upgrade", "the admin port passes no upgrades on"),
    ("expect", "the body is sent at once"),
];

/// Sends a request and shows the answer.
pub(super) fn invoke(output: &Output, api: &Api, request: Invoke) -> Result<Done, ClientError> {
    let Invoke { function, method, path, headers, body } = request;
    check(&headers)?;
    let method = known_method(&method)?;
    let path = format!("/v1/functions/{function}/invoke{path}");
    let response = send(api, method, &path, &headers, body)?;
    if is_problem(&response) && !response.headers().contains_key(REQUEST_ID) {
        return Err(api.problem(response));
    }
    let status = response.status();
    match output.format {
        Format::Json => show_document(output, api, response)?,
        Format::Human => {
            if !status.is_success() {
                show_head(output, &response);
            }
            copy(api, response, &mut io::stdout().lock())?;
        }
    }
    let failed = status.is_client_error() || status.is_server_error();
    Ok(if failed { Done::Code(EXIT_HTTP_ERROR) } else { Done::Well })
}

fn check(headers: &[(String, String)]) -> Result<(), ClientError> {
    let own = |(name, _): &(String, String)| OWN_HEADERS.iter().find(|(own, _)| own == name);
    match headers.iter().find_map(own) {
        Some((name, why)) => Err(ClientError::NotSendable { name: format!("the header `{name}`"), why }),
        None => Ok(()),
    }
}

fn known_method(text: &str) -> Result<Method, ClientError> {
    let not = |why| ClientError::NotSendable { name: format!("the method {text}"), why };
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err(not("there are no tunnels to functions")),
        Ok(method) => Ok(method),
        Err(_) => Err(not("it is none")),
    }
}

fn send(
    api: &Api,
    method: Method,
    path: &str,
    headers: &[(String, String)],
    body: Body,
) -> Result<Response<ResponseBody>, ClientError> {
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let length;
    let mut reader: Box<dyn Read> = match body {
        // RFC 9110, section 8.6: these methods say that there is no content, others leave it out.
        Body::Empty if [Method::POST, Method::PUT, Method::PATCH].contains(&method) => {
            headers.push(("content-length", "0"));
            Box::new(io::empty())
        }
        Body::Empty => return api.send(method, path, &headers, SendBody::none(), Patience::Endless),
        Body::Text(text) => {
            length = text.len().to_string();
            headers.push(("content-length", &length));
            Box::new(io::Cursor::new(text.into_bytes()))
        }
        Body::File(file) => {
            let (file, bytes) = open(&file)?;
            if let Some(bytes) = bytes {
                length = bytes.to_string();
                headers.push(("content-length", &length));
                // Should the file grow meanwhile, what was promised is sent.
                Box::new(file.take(bytes))
            } else {
                Box::new(file)
            }
        }
        Body::Stdin => Box::new(io::stdin().lock()),
    };
    api.send(method, path, &headers, SendBody::from_reader(&mut reader), Patience::Endless)
}

/// A file and its size; a pipe or device has none.
fn open(path: &Path) -> Result<(File, Option<u64>), ClientError> {
    let bad = |reason: String| ClientError::Body { from: path.display().to_string(), reason };
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    let facts = file.metadata().map_err(|error| bad(error.to_string()))?;
    if facts.is_dir() {
        return Err(bad("it is a folder".into()));
    }
    Ok((file, facts.is_file().then_some(facts.len())))
}

/// Status and headers, for people.
fn show_head(output: &Output, response: &Response<ResponseBody>) {
    let reason = response.status().canonical_reason().unwrap_or("");
    output.note(format!("{} {reason}", response.status().as_u16()).trim_end());
    for (name, value) in response.headers() {
        output.note(&printable(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))));
    }
    output.note("");
}

/// Copies the body as it comes: whoever waits for a stream sees each piece at once.
fn copy(api: &Api, response: Response<ResponseBody>, out: &mut impl Write) -> Result<(), ClientError> {
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = body.read(&mut buffer).map_err(|error| broke_off(api, &error))?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count]).and_then(|()| out.flush()).map_err(ClientError::Stdout)?;
    }
}

fn show_document(output: &Output, api: &Api, response: Response<ResponseBody>) -> Result<(), ClientError> {
    let status = response.status().as_u16();
    let headers = headers_of(response.headers());
    let mut bytes = Vec::new();
    let body = response.into_body().into_reader();
    body.take(JSON_BODY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| broke_off(api, &error))?;
    if bytes.len() as u64 > JSON_BODY_BYTES_MAX {
        let detail = format!("the body has more than {JSON_BODY_BYTES_MAX} bytes: leave --json out");
        return Err(ClientError::Problem { detail, reason: "too_large".into(), status });
    }
    let document = match String::from_utf8(bytes) {
        Ok(body) => json!({ "status": status, "headers": headers, "body": body }),
        Err(error) => {
            json!({ "status": status, "headers": headers, "body_base64": text::base64(error.as_bytes()) })
        }
    };
    output.json(&document).map_err(ClientError::Stdout)
}

/// Headers by name, each with all its values.
fn headers_of(headers: &HeaderMap) -> Map<String, Value> {
    let values = |name| headers.get_all(name).iter().map(|value| json!(String::from_utf8_lossy(value.as_bytes())));
    headers.keys().map(|name| (name.to_string(), values(name).collect())).collect()
}

fn broke_off(api: &Api, error: &io::Error) -> ClientError {
    ClientError::BrokeOff { url: api.url().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Canned, api_of};

    fn request(method: &str, body: Body) -> Invoke {
        Invoke {
            function: "cart".parse().unwrap(),
            method: method.into(),
            path: "/a?b=c".into(),
            headers: vec![("x-a".into(), "b".into())],
            body,
        }
    }

    fn send_to(server: &Canned, request: Invoke) -> Result<Response<ResponseBody>, ClientError> {
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let path = format!("/v1/functions/{}/invoke{}", request.function, request.path);
        send(&api_of(server), method, &path, &request.headers, request.body)
    }

    #[test]
    fn any_method_goes_with_any_body() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        for method in ["GET", "POST", "DELETE", "OPTIONS", "BREW"] {
            for body in [Body::Text("text".into()), Body::File(file.path().into())] {
                let server = Canned::answer("200 OK", "text/plain", "");
                send_to(&server, request(method, body)).unwrap();
                let seen = server.seen();
                let line = format!("{method} /v1/functions/cart/invoke/a?b=c HTTP/1.1\r\n");
                assert!(seen.starts_with(&line) && seen.ends_with("\r\n\r\ntext"), "{seen}");
                assert!(seen.contains("x-a: b\r\n"), "{seen}");
            }
        }
        let server = Canned::answer("200 OK", "text/plain", "");
        send_to(&server, request("POST", Body::Empty)).unwrap();
        assert!(server.seen().contains("content-length: 0\r\n"));
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        let error = check(&[("authorization".into(), "x".into())]).unwrap_err();
        assert!(error.to_string().contains("`authorization`") && error.hint().contains("route"), "{error}");
        assert!(check(&[("accept".into(), "x".into())]).is_ok());
    }

    #[test]
    fn a_body_that_is_no_file_is_named() {
        let error = open(Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        assert!(open(Path::new("/")).unwrap_err().to_string().contains("folder"));
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error_after_what_came() {
        let server = Canned::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        let response = send_to(&server, request("GET", Body::Empty)).unwrap();
        let mut out = Vec::new();
        let error = copy(&api_of(&server), response, &mut out).unwrap_err();
        assert!(matches!(error, ClientError::BrokeOff { .. }), "{error}");
        assert_eq!(out, b"half");
    }
}
