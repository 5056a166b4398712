//! Which node a command talks to, and which token it shows.
//!
//! ```text
//! --node / FORERUN_NODE ──────────────────────────────────────► that one
//! else: announced in a data folder ─► announced for the usual port ─► the usual address: the first that answers
//! ```
//! A token is shown only to the node it belongs to: one that announced itself, or one on this machine. A folder's
//! token is never sent to another machine unless the node there announced itself in that folder.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ClientError;
use crate::cli::meaning::Connection;
use crate::cli::values::{NodeUrl, Secret};
use crate::running::RunningNode;

/// File with the token in a data folder.
const TOKEN_FILE: &str = "admin.token";
/// A token has 64 characters; one an operator brought may have more, but nobody types a page.
const TOKEN_BYTES_MAX: u64 = 4 << 10;
/// How long an address may take to accept a connection. Announced ones are on this machine.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A node to talk to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Where it is.
    pub(super) url: NodeUrl,
    /// What to show it.
    pub(super) token: Token,
    /// Its data folder, if it is known.
    pub(super) folder: Option<PathBuf>,
}

/// A token, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// What is shown.
    pub(super) secret: Secret,
    /// For people.
    pub(super) from: String,
}

/// A place where a node may be.
#[derive(Clone, Debug)]
struct Candidate {
    url: NodeUrl,
    token_file: Option<PathBuf>,
}

/// Finds the node of a command. `user_folder` is where nodes of this user announce themselves.
pub(super) fn find(connection: &Connection, user_folder: Option<&Path>) -> Result<Found, ClientError> {
    let candidate = if connection.node_is_default {
        first_that_answers(candidates(connection, user_folder)?)?
    } else {
        Candidate { url: connection.node.clone(), token_file: announced(connection, user_folder) }
    };
    let token = token(connection, &candidate)?;
    let folder = candidate.token_file.as_deref().and_then(Path::parent).map(Path::to_owned);
    Ok(Found { url: candidate.url, token, folder })
}

fn candidates(connection: &Connection, user_folder: Option<&Path>) -> Result<Vec<Candidate>, ClientError> {
    let in_folders = connection.data_folders.iter().filter_map(|folder| RunningNode::of_data_folder(folder));
    let mut candidates: Vec<_> = in_folders.map(|node| candidate(&node)).collect();
    if let Some(folder) = only_folder(connection, user_folder) {
        // Whoever names a folder means its node; another one that happens to run must not be changed instead.
        return match candidates.is_empty() {
            true => Err(ClientError::FolderIdle { folder: folder.to_owned() }),
            false => Ok(candidates),
        };
    }
    let of_port = user_folder.and_then(|folder| RunningNode::of_port(connection.node.port, folder));
    candidates.extend(of_port.iter().map(candidate));
    candidates.push(Candidate { url: connection.node.clone(), token_file: None });
    Ok(candidates)
}

/// The data folder that was given by name: the only one, where two would be looked through otherwise.
fn only_folder<'a>(connection: &'a Connection, user_folder: Option<&Path>) -> Option<&'a Path> {
    match (connection.data_folders.as_slice(), user_folder) {
        ([folder], Some(_)) => Some(folder),
        _ => None,
    }
}

fn candidate(node: &RunningNode) -> Candidate {
    let address = reachable(node.admin);
    let url = NodeUrl { tls: false, host: address.ip().to_string(), port: address.port() };
    Candidate { url, token_file: Some(node.token_file.clone()) }
}

/// A node that listens on all networks is reached on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn first_that_answers(candidates: Vec<Candidate>) -> Result<Candidate, ClientError> {
    let mut tried: Vec<String> = Vec::new();
    for candidate in candidates {
        let shown = candidate.url.to_string();
        if tried.contains(&shown) {
            continue;
        }
        if answers(&candidate.url) {
            return Ok(candidate);
        }
        tried.push(shown);
    }
    Err(ClientError::NoNode { tried })
}

/// Whether somebody accepts a connection there.
pub(super) fn answers(url: &NodeUrl) -> bool {
    let addresses = (url.host.as_str(), url.port).to_socket_addrs();
    addresses
        .is_ok_and(|mut addresses| addresses.any(|address| TcpStream::connect_timeout(&address, PROBE_TIMEOUT).is_ok()))
}

/// The token file of the node at the given URL, if that node announced itself.
fn announced(connection: &Connection, user_folder: Option<&Path>) -> Option<PathBuf> {
    let in_folders = connection.data_folders.iter().filter_map(|folder| RunningNode::of_data_folder(folder));
    let of_port = user_folder.and_then(|folder| RunningNode::of_port(connection.node.port, folder));
    let same = |node: &RunningNode| {
        let address = reachable(node.admin);
        let host_is_same = connection.node.host == address.ip().to_string()
            || (address.ip().is_loopback() && is_this_machine(&connection.node.host));
        host_is_same && connection.node.port == address.port()
    };
    in_folders.chain(of_port).find(same).map(|node| node.token_file)
}

/// Whether a host is surely this machine.
pub(super) fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn token(connection: &Connection, candidate: &Candidate) -> Result<Token, ClientError> {
    if let Some(secret) = &connection.token {
        return Ok(Token { secret: secret.clone(), from: "--token or FORERUN_TOKEN".into() });
    }
    if let Some(file) = &candidate.token_file {
        return read_token(file);
    }
    let none = || ClientError::NoToken { url: candidate.url.to_string() };
    if !is_this_machine(&candidate.url.host) {
        return Err(none());
    }
    let mut files = connection.data_folders.iter().map(|folder| folder.join(TOKEN_FILE));
    let file = files.find(|file| file.exists()).ok_or_else(none)?;
    read_token(&file)
}

fn read_token(path: &Path) -> Result<Token, ClientError> {
    let bad = |reason: String| ClientError::TokenFile { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    let read = file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| bad(error.to_string()))?;
    let token = text.trim_end();
    // It goes into a header, so nothing may be in it that ends one.
    if token.is_empty() || text.len() as u64 > TOKEN_BYTES_MAX || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(bad("it does not hold a token".into()));
    }
    Ok(Token { secret: Secret(token.to_owned()), from: format!("`{}`", path.display()) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;

    use super::*;

    fn connection(node: &str, given: bool, folders: &[&Path]) -> Connection {
        Connection {
            node: crate::cli::values::node_url(node).unwrap(),
            node_is_default: !given,
            token: None,
            data_folders: folders.iter().map(|folder| folder.to_path_buf()).collect(),
        }
    }

    /// A folder with a token and, if an address is given, the announcement of a node.
    fn folder(address: Option<SocketAddr>, token: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join(TOKEN_FILE);
        fs::write(&token_file, format!("{token}\n")).unwrap();
        if let Some(admin) = address {
            let text = serde_json::to_vec(&RunningNode { admin, token_file }).unwrap();
            fs::write(folder.path().join("node.json"), text).unwrap();
        }
        folder
    }

    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_stale_announcement_is_passed_over() {
        let running = TcpListener::bind("127.0.0.1:0").unwrap();
        let stale = folder(Some(closed()), "stale");
        let good = folder(Some(running.local_addr().unwrap()), "good");
        let connection = connection("127.0.0.1:1", false, &[stale.path(), good.path()]);
        let found = find(&connection, None).unwrap();
        assert_eq!(found.token.secret.0, "good");
        assert_eq!(found.folder.as_deref(), Some(good.path()));
    }

    #[test]
    fn a_named_folder_is_never_replaced_by_another_node() {
        let running = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = running.local_addr().unwrap();
        let user = folder(Some(address), "user");
        let idle = folder(None, "idle");
        let connection = connection(&address.to_string(), false, &[idle.path()]);
        let error = find(&connection, Some(user.path())).unwrap_err();
        assert!(matches!(error, ClientError::FolderIdle { .. }), "{error}");
    }

    #[test]
    fn nothing_anywhere_names_what_was_tried() {
        let empty = tempfile::tempdir().unwrap();
        let address = closed().to_string();
        let connection = connection(&address, false, &[empty.path(), empty.path()]);
        let error = find(&connection, Some(empty.path())).unwrap_err();
        assert!(error.to_string().contains(&address) && error.hint().contains("forerun up"), "{error}");
    }

    #[test]
    fn a_token_is_not_shown_to_another_machine() {
        let own = folder(None, "secret");
        let remote = connection("http://node.example:81", true, &[own.path()]);
        assert!(matches!(find(&remote, None), Err(ClientError::NoToken { .. })));
        let here = connection("http://localhost:81", true, &[own.path()]);
        assert_eq!(find(&here, None).unwrap().token.secret.0, "secret");
        let announced = folder(Some("192.0.2.7:81".parse().unwrap()), "theirs");
        let there = connection("http://192.0.2.7:81", true, &[announced.path()]);
        assert_eq!(find(&there, None).unwrap().token.secret.0, "theirs");
    }

    #[test]
    fn a_bad_token_file_is_named() {
        for content in ["", "a\r\nb: c", &"x".repeat(5000)] {
            let own = folder(None, content);
            let error = find(&connection("127.0.0.1:81", true, &[own.path()]), None).unwrap_err();
            assert!(error.to_string().contains(TOKEN_FILE), "{error}");
        }
    }

    #[test]
    fn all_networks_are_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("192.0.2.1:80".parse().unwrap()).to_string(), "192.0.2.1:80");
    }
}
