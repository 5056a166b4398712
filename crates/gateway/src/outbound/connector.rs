//! New connections to other hosts: one name lookup, every address judged, connected to what was judged.
//!
//! The address that was checked is the address connected to; nothing is looked up twice, so a name
//! server cannot show one address to the check and another to the connection.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use forerun_driver::OutboundError;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::OutboundSetupError;
use super::addresses::{is_metadata, is_public};
use super::destination::Destination;
use super::network::Reach;
use crate::tls::{CertificateError, certificates};

/// Addresses of one name that are tried; more only delay the error.
const ADDRESSES_MAX: usize = 8;

#[derive(Clone)]
pub(super) struct Connector {
    reach: Reach,
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
}

/// Mozilla's authorities, and those of `extra_roots`.
pub(super) fn client_config(extra_roots: Option<&Path>) -> Result<Arc<ClientConfig>, OutboundSetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_roots {
        for certificate in certificates(path)? {
            let bad = |error: rustls::Error| CertificateError::BadFile { path: path.into(), detail: error.to_string() };
            roots.add(certificate).map_err(bad)?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| OutboundSetupError::Tls { detail: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Connector {
    pub(super) fn new(reach: Reach, tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        Self { reach, tls, connect_timeout }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, OutboundError> {
        let to = Destination::of(&uri)?;
        let addresses = self.resolve(&to).await?;
        let stream = connect_first(&addresses, &to).await?;
        let _ = stream.set_nodelay(true);
        if !to.https() {
            return Ok(TokioIo::new(Stream::Plain(stream)));
        }
        let failed = |detail: String| OutboundError::Tls { destination: to.to_string(), detail };
        let name = ServerName::try_from(to.host().to_owned()).map_err(|error| failed(error.to_string()))?;
        let secured = TlsConnector::from(self.tls).connect(name, stream).await;
        let secured = secured.map_err(|error| failed(error.to_string()))?;
        Ok(TokioIo::new(Stream::Tls(Box::new(secured))))
    }

    /// The addresses of `to` that may be called; never none.
    async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>, OutboundError> {
        let literal = to.host().parse::<IpAddr>().ok();
        let found: Vec<SocketAddr> = match literal {
            Some(address) => vec![SocketAddr::new(address, to.port())],
            None => {
                let looked_up = tokio::net::lookup_host((to.host(), to.port())).await;
                let failed =
                    |error: io::Error| OutboundError::Dns { host: to.host().to_owned(), detail: error.to_string() };
                looked_up.map_err(failed)?.collect()
            }
        };
        let permitted = |address: &SocketAddr| match self.reach {
            Reach::PublicOnly => is_public(address.ip()) && !is_metadata(address.ip()),
            Reach::Everywhere => literal.is_some() || !is_metadata(address.ip()),
        };
        let usable: Vec<_> = found.iter().copied().filter(permitted).take(ADDRESSES_MAX).collect();
        match (usable.is_empty(), found.first()) {
            (false, _) => Ok(usable),
            (true, Some(address)) => {
                Err(OutboundError::ForbiddenAddress { destination: to.to_string(), address: address.ip().to_string() })
            }
            (true, None) => {
                Err(OutboundError::Dns { host: to.host().to_owned(), detail: "it has no address".to_owned() })
            }
        }
    }
}

async fn connect_first(addresses: &[SocketAddr], to: &Destination) -> Result<TcpStream, OutboundError> {
    let mut detail = String::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => detail = error.to_string(),
        }
    }
    Err(OutboundError::Connect { destination: to.to_string(), detail })
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let limit = connector.connect_timeout;
            tokio::time::timeout(limit, connector.connect(uri)).await.unwrap_or(Err(OutboundError::ConnectTimeout))
        })
    }
}

/// A connection, in clear or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            Self::Tls(_) | Self::Plain(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
