//! A server for tests of error paths: it gives canned answers, one per connection, and keeps what it was sent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::api::Api;
use super::find::Token;
use crate::cli::values::{NodeUrl, Secret};

/// How long a test waits for what surely comes; only a failing test takes that long.
const WAIT: Duration = Duration::from_secs(10);

/// The server.
pub(super) struct Canned {
    /// Where it is.
    pub(super) url: NodeUrl,
    requests: Receiver<String>,
}

impl Canned {
    /// Gives this answer.
    pub(super) fn answer(status: &str, content_type: &str, body: &str) -> Self {
        Self::answers(&[(status, content_type, body)])
    }

    /// Gives these answers in turn, the last one for ever.
    pub(super) fn answers(answers: &[(&str, &str, &str)]) -> Self {
        let text = |(status, content_type, body): &(&str, &str, &str)| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .into_bytes()
        };
        Self::start(answers.iter().map(text).collect())
    }

    /// Gives these bytes and closes.
    pub(super) fn raw(bytes: &[u8]) -> Self {
        Self::start(vec![bytes.to_vec()])
    }

    /// The next request it got.
    pub(super) fn seen(&self) -> String {
        self.requests.recv_timeout(WAIT).unwrap()
    }

    fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for (count, connection) in listener.incoming().enumerate() {
                let Ok(mut connection) = connection else { return };
                let request = read_request(&mut connection);
                let _ = connection.write_all(&answers[count.min(answers.len() - 1)]);
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url: NodeUrl { tls: false, host: "127.0.0.1".into(), port }, requests }
    }
}

/// The API at such a server.
pub(super) fn api_of(server: &Canned) -> Api {
    Api::new(server.url.clone(), Token { secret: Secret("secret".into()), from: "the test".into() })
}

/// Reads head and body, the latter by its `content-length` or to the last chunk.
fn read_request(connection: &mut TcpStream) -> String {
    connection.set_read_timeout(Some(WAIT)).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            let chunked = head.contains("chunked");
            if (!chunked && body.len() >= length) || (chunked && body.ends_with("0\r\n\r\n")) {
                return text;
            }
        }
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
