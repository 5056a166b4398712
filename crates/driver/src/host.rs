//! What a program may use of the node it runs on. Implemented by the gateway, the store and telemetry; used by drivers.

use std::sync::Arc;
use std::time::Duration;

use forerun_types::{FunctionName, InvocationId, TraceContext};
use http::{Request, Response};

use crate::{Body, BoxFuture, Chain};

/// Everything a program may use of the node.
#[derive(Clone)]
pub struct Host {
    /// Calls to other functions and to allowed hosts.
    pub outbound: Arc<dyn Outbound>,
    /// Where the guest's output goes.
    pub log: Arc<dyn GuestLog>,
    /// `wasi:keyvalue`.
    pub key_values: Arc<dyn KeyValues>,
}

/// Who makes an outbound call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The calling function.
    pub function: FunctionName,
    /// Its invocation.
    pub invocation: InvocationId,
    /// Its span: the parent of the call.
    pub trace: TraceContext,
    /// The chain it belongs to.
    pub chain: Chain,
}

/// Time-outs a guest asked for; `None` leaves the node's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboundTimeouts {
    /// Until a connection is there.
    pub connect: Option<Duration>,
    /// From then until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer's body.
    pub between_bytes: Option<Duration>,
}

/// Sends requests of guests: to functions of this node without leaving the process, to other hosts only when allowed.
pub trait Outbound: Send + Sync + 'static {
    /// Sends `request`, whose URI is absolute, on behalf of `caller`.
    fn send(
        &self,
        caller: Caller,
        request: Request<Body>,
        timeouts: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>>;
}

/// Why an outbound call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The manifest does not list the destination.
    #[error("calls to {destination} are not allowed: add it to allowed_outbound_hosts")]
    Denied {
        /// `scheme://host:port`.
        destination: String,
    },
    /// The name stands for an address guests must not reach.
    #[error(
        "{destination} resolves to {address}, which functions may not call: allowed_outbound_hosts has to name that host, \
         or the very address if it is of the link or of a metadata service"
    )]
    ForbiddenAddress {
        /// `scheme://host:port`.
        destination: String,
        /// The address found.
        address: String,
    },
    /// There is no function of that name on this node.
    #[error("no function named `{name}` on this node")]
    UnknownFunction {
        /// The name called.
        name: String,
    },
    /// The functions of this node call each other in a chain longer than allowed.
    #[error("functions call each other more than {max} deep")]
    TooDeep {
        /// Allowed depth.
        max: u32,
    },
    /// The URI is not absolute, or not http(s).
    #[error("not a URI that can be called: {detail}")]
    BadUri {
        /// What is wrong.
        detail: String,
    },
    /// The name is not known.
    #[error("the name {host} could not be resolved: {detail}")]
    Dns {
        /// Name looked up.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// No connection.
    #[error("no connection to {destination}: {detail}")]
    Connect {
        /// `scheme://host:port`.
        destination: String,
        /// What the system said.
        detail: String,
    },
    /// The TLS handshake failed.
    #[error("no TLS session with {destination}: {detail}")]
    Tls {
        /// `scheme://host:port`.
        destination: String,
        /// What rustls said.
        detail: String,
    },
    /// No connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// No answer in time.
    #[error("no answer in time")]
    ResponseTimeout,
    /// The called function is full or failed before answering; its own error page's status.
    #[error("the called function gave no answer: {detail}")]
    Failed {
        /// What happened.
        detail: String,
    },
    /// The peer does not speak HTTP.
    #[error("the peer broke the HTTP protocol: {detail}")]
    Protocol {
        /// What hyper said.
        detail: String,
    },
}

/// Which of a guest's outputs a piece of log comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestStream {
    /// `wasi:cli/stdout`.
    Stdout,
    /// `wasi:cli/stderr`.
    Stderr,
}

/// Takes the output of guests. Never blocks: what does not fit is dropped and counted.
pub trait GuestLog: Send + Sync + 'static {
    /// Takes a piece of output; pieces need not end at line ends.
    fn write(&self, function: &FunctionName, invocation: InvocationId, stream: GuestStream, bytes: &[u8]);
}

/// Why a key-value operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The function's manifest does not list the store.
    #[error("no key-value store named `{store}` for this function")]
    NoSuchStore {
        /// Name asked for.
        store: String,
    },
    /// A key, a value or the whole store is larger than allowed.
    #[error("over the limit of the key-value store: {detail}")]
    OverLimits {
        /// Which limit.
        detail: String,
    },
    /// `increment` of something that is no number, or beyond 64 bits.
    #[error("the value is not a number that can be incremented")]
    NotANumber,
    /// The disk said no.
    #[error("the key-value store failed: {detail}")]
    Storage {
        /// What happened.
        detail: String,
    },
}

/// A key-value store. It belongs to an application and is shared by the functions of that application that list it;
/// another application's store of the same name is another store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StoreName<'a> {
    /// The application; empty for functions that belong to none.
    pub app: &'a str,
    /// The name, as the manifest lists it.
    pub name: &'a str,
}

/// Key-value stores of the node. Calls may block on the disk.
pub trait KeyValues: Send + Sync + 'static {
    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// As [`KeyValueError`] says; the same for all methods.
    fn get(&self, store: StoreName<'_>, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;

    /// Sets all pairs, or none.
    ///
    /// # Errors
    /// See [`KeyValues::get`].
    fn set_many(&self, store: StoreName<'_>, pairs: &[(String, Vec<u8>)]) -> Result<(), KeyValueError>;

    /// Deletes all keys that exist.
    ///
    /// # Errors
    /// See [`KeyValues::get`].
    fn delete_many(&self, store: StoreName<'_>, keys: &[String]) -> Result<(), KeyValueError>;

    /// Up to a page of keys after `after` in key order; an empty page means the end.
    ///
    /// # Errors
    /// See [`KeyValues::get`].
    fn list_keys(&self, store: StoreName<'_>, after: Option<&str>) -> Result<Vec<String>, KeyValueError>;

    /// Adds `delta` to the decimal number at `key` (0 if absent) in one step and returns the sum.
    ///
    /// # Errors
    /// See [`KeyValues::get`].
    fn increment(&self, store: StoreName<'_>, key: &str, delta: u64) -> Result<u64, KeyValueError>;
}
