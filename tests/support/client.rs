//! An HTTP/1.1 client that hides nothing: what is sent is what was asked for, and an answer is read piece by piece.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// Longer lines of a head are no answer of this server.
const LINE_BYTES_MAX: u64 = 256 << 10;

/// A connection.
pub struct Client<S> {
    stream: BufReader<S>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub fn connect(address: SocketAddr) -> Client<TcpStream> {
    Client::new(dial(address))
}

/// A connection on which nothing waits for ever.
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Client<TcpStream> {
    /// Does not wait longer than this for anything.
    pub fn patience(self, patience: Duration) -> Self {
        self.stream.get_ref().set_read_timeout(Some(patience)).unwrap();
        self
    }
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.begin(method, path, headers, body);
        self.answer().unwrap()
    }

    /// Sends a request and does not wait for its answer.
    pub fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "host: localhost\r\n";
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat()).unwrap();
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// The next answer, whole.
    pub fn answer(&mut self) -> io::Result<Response> {
        let head = self.head()?;
        let mut body = Vec::new();
        let mut reading = head.body();
        while let Some(piece) = self.piece(&mut reading)? {
            body.extend(piece);
        }
        let Head { status, headers } = head;
        Ok(Response { status, headers, body })
    }

    pub fn head(&mut self) -> io::Result<Head> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| torn(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| torn(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next piece of a body as the server sent it; `None` at its end, an error if it broke off.
    pub fn piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        match body {
            Body::Rest(0) => Ok(None),
            Body::Rest(left) => {
                let mut piece = vec![0; (*left).min(64 << 10)];
                let length = self.stream.read(&mut piece)?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(length);
                *left -= length;
                Ok(Some(piece))
            }
            Body::Chunked => {
                let line = self.line()?;
                let length = usize::from_str_radix(&line, 16).map_err(|_| torn(&line))?;
                let mut piece = vec![0; length];
                self.stream.read_exact(&mut piece)?;
                if !self.line()?.is_empty() {
                    return Err(torn("a chunk without its end"));
                }
                if length == 0 {
                    *body = Body::Rest(0);
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    /// Whether the server has closed this connection; waits for it as long as reading does.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// How the rest of a body is found.
#[derive(Debug)]
pub enum Body {
    Rest(usize),
    Chunked,
}

impl Head {
    pub fn body(&self) -> Body {
        if header(&self.headers, "transfer-encoding").is_some() {
            return Body::Chunked;
        }
        Body::Rest(header(&self.headers, "content-length").map_or(0, |length| length.parse().unwrap()))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn has(&self, name: &str) -> bool {
        header(&self.headers, name).is_some()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `reason` of a problem document.
    pub fn reason(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["reason"].as_str().unwrap().to_owned()
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

fn torn(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {text:?}"))
}
