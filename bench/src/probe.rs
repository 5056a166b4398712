//! One request at a time over HTTP/1.1, to look at answers and to hold connections open.
//!
//! Not a client for anything else: no request bodies, small answers only, bodies with a length or in chunks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Head and body together; most answers asked for have a hundred bytes, the metrics of fifty functions half a million.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const HEADERS_MAX: usize = 64;
/// An answer on this machine takes less than a millisecond; whatever takes this long is not coming.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The `Server-Timing` header, in small letters; empty if there is none.
    pub(crate) timing: String,
    /// Whether a `Retry-After` header says when to come again.
    pub(crate) retry_after: bool,
    /// The first `Set-Cookie` header up to its first semicolon; empty if there is none.
    pub(crate) cookie: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// How our node served it, by the name it gives in `Server-Timing`; empty if it does not say.
    pub(crate) fn serve_path(&self) -> &str {
        self.timing.strip_prefix("path;desc=\"").and_then(|rest| rest.split('"').next()).unwrap_or_default()
    }
}

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
}

/// Whether the other side still holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Open,
    Closed,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = timeout(ANSWER_TIME_MAX, TcpStream::connect(address)).await.context("no connection in time")??;
        Ok(Self { stream, host: address.to_string() })
    }

    /// Asks for another host from now on.
    pub(crate) fn for_host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// Asks for `path` and reads the answer to its end; the connection can be used again.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send("GET", path, "").await
    }

    /// Sends a request without a body, with cookies if there are any, and reads the answer to its end.
    pub(crate) async fn send(&mut self, method: &str, path: &str, cookie: &str) -> Result<Answer> {
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        timeout(ANSWER_TIME_MAX, self.exchange(method, path, &cookie)).await.context("no answer in time")?
    }

    /// The same with another patience, for servers that have more to do than they can.
    pub(crate) async fn get_within(&mut self, path: &str, time: Duration) -> Result<Answer> {
        timeout(time, self.exchange("GET", path, "")).await.context("no answer in time")?
    }

    /// Asks the admin port, which wants its token.
    pub(crate) async fn get_as(&mut self, path: &str, token: &str) -> Result<Answer> {
        let header = format!("Authorization: Bearer {token}\r\n");
        timeout(ANSWER_TIME_MAX, self.exchange("GET", path, &header)).await.context("no answer in time")?
    }

    /// Looks, without waiting, whether the other side has closed a connection on which nothing is under way.
    pub(crate) fn held(&self) -> Held {
        match self.stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Held::Open,
            Ok(_) | Err(_) => Held::Closed,
        }
    }

    async fn exchange(&mut self, method: &str, path: &str, headers: &str) -> Result<Answer> {
        // Some methods want a length even where there is nothing.
        let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::new();
        loop {
            if let Some(answer) = parse(&received)? {
                return Ok(answer);
            }
            ensure!(received.len() < ANSWER_BYTES_MAX, "the answer has more than {ANSWER_BYTES_MAX} bytes");
            if self.stream.read_buf(&mut received).await? == 0 {
                bail!("the connection was closed after {} bytes", received.len());
            }
        }
    }
}

/// `None` while more is to come.
fn parse(received: &[u8]) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(received)? else { return Ok(None) };
    let status = response.code.context("an answer without a status")?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let rest = &received[head_bytes..];
    let body = if header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        unchunk(rest)?
    } else {
        let length = header("content-length").context("an answer with neither a length nor chunks")?;
        let length: usize = length.parse().context("a length that is no number")?;
        ensure!(length <= ANSWER_BYTES_MAX, "a body of {length} bytes");
        rest.get(..length).map(<[u8]>::to_vec)
    };
    let timing = header("server-timing").unwrap_or_default();
    let retry_after = header("retry-after").is_some();
    let cookie = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("set-cookie"));
    let cookie = cookie.map_or_else(String::new, |header| String::from_utf8_lossy(header.value).into_owned());
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    Ok(body.map(|body| Answer { status, timing, retry_after, cookie, body }))
}

/// The body in chunks, `None` while more is to come. Trailers are not expected.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(rest).ok().context("a chunk without a size")?;
        let httparse::Status::Complete((head_bytes, size)) = size else { return Ok(None) };
        let size = usize::try_from(size)?;
        ensure!(size <= ANSWER_BYTES_MAX, "a chunk of {size} bytes");
        let Some(chunk) = rest.get(head_bytes..head_bytes + size + 2) else { return Ok(None) };
        ensure!(chunk.ends_with(b"\r\n"), "a chunk without its end");
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(Some(body));
        }
        rest = &rest[head_bytes + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Answer {
        let (timing, cookie) = (String::new(), String::new());
        Answer { status: 200, timing, retry_after: false, cookie, body: b"hello\n".to_vec() }
    }

    #[test]
    fn cookies_and_timing_are_found() {
        let whole = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=B; path=/\r\nServer-Timing: path;desc=\"ready\"\r\ncontent-length: 0\r\n\r\n";
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!((answer.cookie.as_str(), answer.serve_path()), ("a=B", "ready"));
        assert_eq!(hello().serve_path(), "");
    }

    #[test]
    fn answers_are_read_piece_by_piece() {
        let answers: [&[u8]; 2] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhell\r\n2\r\no\n\r\n0\r\n\r\n",
        ];
        for whole in answers {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
            }
            assert_eq!(parse(whole).unwrap(), Some(hello()));
        }
    }

    #[test]
    fn what_has_no_end_or_is_too_large_is_refused() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n",
            b"SSH-2.0-OpenSSH\r\n",
        ];
        for answer in answers {
            assert!(parse(answer).is_err(), "{}", String::from_utf8_lossy(answer));
        }
    }
}
