//! The contract between the request path and anything that can run a function.
//!
//! [`Driver`] makes a [`Program`] from a revision; [`Program::invoke`] answers one request. What a
//! program may use of the node is handed to it as a [`Host`]: outbound calls, its log, key-value
//! stores. Nothing here knows what a VM is made of, so WebAssembly, native sandboxes and microVMs
//! fit alike, and the gateway, which depends on this crate only, cannot come to know either.
//!
//! There is no implementation here, and no admission, routing or timing of whole requests: those
//! are the gateway's.

pub mod afterwards;
mod body;
mod host;
mod image;
mod invocation;
mod made_up;
mod program;
mod sample;
mod turn;

pub use body::{Body, BodyError, empty_body, full_body};
pub use host::{
    Caller, GuestLog, GuestStream, Host, KeyValueError, KeyValues, Outbound, OutboundError, OutboundTimeouts, StoreName,
};
pub use image::AuthenticImage;
pub use invocation::{Chain, EndHook, Invocation, InvocationEnd, InvokeError, Reply};
pub use made_up::made_up_answer;
pub use program::{
    BoxFuture, Driver, HeldReady, IsolationReport, LoadError, LoadRequest, Program, ProgramFacts, Trust, Trusts,
};
pub use sample::{SampleHook, Sampled, TouchedMemory};
pub use turn::to_the_end_of_the_queue;
