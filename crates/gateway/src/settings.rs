//! What an operator may set about the request path: plain data, with defaults and their reasons.
//!
//! Limits of one function are in its specification; nothing here is read from files or the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forerun_types::SessionSource;

/// Settings of the request path of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Addresses that speak plain HTTP/1.1 and HTTP/2 (prior knowledge). Default `127.0.0.1:8080`.
    pub listen: Vec<SocketAddr>,
    /// Addresses that speak TLS; `certificate` must be set for any to be here. Default none.
    pub listen_tls: Vec<SocketAddr>,
    /// The certificate of `listen_tls`.
    pub certificate: Option<CertificateFiles>,
    /// Hosts under which this node is known outside, with or without a port. A function's call to one of
    /// them, or to one of the listen addresses, is routed inside the process. Default none.
    pub own_hosts: Vec<String>,
    /// Time for a TLS handshake, and from the first byte of a request's head to its last. Default 10 s:
    /// a head fits in a few packets, whoever needs longer is holding the connection on purpose.
    pub header_read_timeout: Duration,
    /// How long a connection may stay open without a request; it is closed after at least this time and
    /// at most a quarter more. Default 75 s, longer than the keep-alive of the usual load balancers (60 s).
    pub idle_timeout: Duration,
    /// Open connections; beyond it, connections wait in the system's accept queue. Default 16,384.
    pub connections_max: usize,
    /// Bytes of all header names and values of one request; more is answered 431. Default 64 KiB.
    pub header_bytes_max: usize,
    /// Requests under way on one HTTP/2 connection. Default 128; RFC 9113 advises not less than 100.
    pub http2_streams_max: u32,
    /// Invocations under way on the node, all functions together. Default 1,000: as many VMs as the pool holds.
    pub concurrency_max: usize,
    /// Requests that may wait for a place on the node, all functions together. Default 4,096.
    pub queue_max: usize,
    /// What tells the sessions of clients apart, for prediction. Default the client's address.
    pub session: SessionSource,
    /// Calls of functions to hosts beyond the node.
    pub outbound: OutboundSettings,
}

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the certificate chain, the node's own first.
    pub chain: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Settings of calls to hosts beyond the node. A guest may ask for shorter times, never for longer ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundSettings {
    /// Name lookup, connection and TLS handshake. Default 10 s.
    pub connect_timeout: Duration,
    /// From the sent request to the head of the answer. Default 60 s.
    pub first_byte_timeout: Duration,
    /// Between two pieces of the answer. Default 60 s.
    pub between_bytes_timeout: Duration,
    /// Body of an answer. Default 1 GiB: guests stream, so this only ends the endless.
    pub response_body_bytes_max: u64,
    /// Idle connections kept per destination. Default 16.
    pub idle_connections_per_host_max: usize,
    /// How long an idle connection is kept. Default 30 s, below the usual keep-alive of servers.
    pub idle_timeout: Duration,
    /// PEM file of certificate authorities to trust beside the public ones of Mozilla's list. Default none.
    pub extra_roots: Option<PathBuf>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            listen_tls: Vec::new(),
            certificate: None,
            own_hosts: Vec::new(),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            connections_max: 16_384,
            header_bytes_max: 64 << 10,
            http2_streams_max: 128,
            concurrency_max: 1_000,
            queue_max: 4_096,
            session: SessionSource::default(),
            outbound: OutboundSettings::default(),
        }
    }
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(60),
            response_body_bytes_max: 1 << 30,
            idle_connections_per_host_max: 16,
            idle_timeout: Duration::from_secs(30),
            extra_roots: None,
        }
    }
}
