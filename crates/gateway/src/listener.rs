//! Listening sockets and their accept loops: each connection becomes a task, as many as there are places.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::connection::{ConnectionState, Place, drive};
use crate::core::Core;
use crate::tls::{CertificateError, server_config};

/// Connections the system keeps for us between two accepts; it may cap it at its own `somaxconn`.
const BACKLOG: u32 = 4096;

/// Wait after a failed accept. Out of file descriptors is the usual reason, and only time heals it.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another process has it.
    #[error("{address} is in use by another process: stop it, or listen on another port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on {address}: take a port above 1023, or give the process CAP_NET_BIND_SERVICE")]
    NotPermitted {
        /// The address.
        address: SocketAddr,
    },
    /// No interface of this machine has it.
    #[error("{address} is no address of this machine")]
    NotOurs {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {detail}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        detail: String,
    },
    /// TLS is asked for and cannot be offered.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A socket that is bound, and how connections on it are spoken to.
pub(crate) struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

impl Bound {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// Binds all addresses of the settings, or none.
pub(crate) fn bind_all(core: &Core) -> Result<Vec<Bound>, BindError> {
    let settings = &core.settings;
    let tls = match (&settings.certificate, settings.listen_tls.is_empty()) {
        (_, true) => None,
        (None, false) => return Err(CertificateError::Missing.into()),
        (Some(files), false) => Some(TlsAcceptor::from(server_config(files)?)),
    };
    let plain = settings.listen.iter().map(|address| bind(*address, None));
    let secure = settings.listen_tls.iter().map(|address| bind(*address, tls.clone()));
    plain.chain(secure).collect()
}

fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Bound, BindError> {
    let listener = listen(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::NotPermitted { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { address },
        _ => BindError::Other { address, detail: error.to_string() },
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok(Bound { listener, tls, address })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for connections of its predecessor that linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop` changes. Errors slow the loop down and never end it.
pub(crate) async fn accept_loop(core: Arc<Core>, bound: Bound, mut stop: watch::Receiver<bool>) {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = accept(&core, &bound.listener) => accepted,
        };
        match accepted {
            Ok(Some((stream, client, permit))) => {
                pause = ACCEPT_PAUSE_MIN;
                let state = Arc::new(ConnectionState::new(bound.tls.is_some(), client.ip()));
                let place = Place::take(&core, permit, Arc::clone(&state));
                tokio::spawn(serve_stream(Arc::clone(&core), place, state, stream, bound.tls.clone()));
            }
            Ok(None) => {}
            Err(error) => {
                core.count(&core.counters.accept_errors);
                tracing::warn!(%error, address = %bound.address, pause_ms = pause.as_millis() as u64, "cannot accept");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// One connection, when there is a place for it. None if the client left before it was accepted.
async fn accept(core: &Core, listener: &TcpListener) -> io::Result<Option<Accepted>> {
    let permit = match core.connections.try_place() {
        Some(permit) => permit,
        None => {
            core.count(&core.counters.connections_full);
            match core.connections.place().await {
                Some(permit) => permit,
                None => return Ok(None),
            }
        }
    };
    match listener.accept().await {
        Ok((stream, client)) => Ok(Some((stream, client, permit))),
        Err(error) if is_clients_fault(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn serve_stream(
    core: Arc<Core>,
    place: Place,
    state: Arc<ConnectionState>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) {
    core.count(&core.counters.connections);
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    match tls {
        None => drive(core, state, stream).await,
        Some(acceptor) => {
            match tokio::time::timeout(core.settings.header_read_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drive(core, state, stream).await,
                Ok(Err(_)) | Err(_) => core.count(&core.counters.handshake_failures),
            }
        }
    }
    drop(place);
}
