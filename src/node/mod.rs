//! The commands that are a node: `serve` runs what the data folder holds, `up` also keeps it like a manifest.

mod demo;
mod sandbox;
mod start;
mod up;
mod watch;

pub(crate) use demo::SESSION_COOKIE;
pub(crate) use start::serve;
pub(crate) use up::up;
