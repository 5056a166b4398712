//! A host that gives a program nothing, for the examples and the driver's own tests.

use std::sync::Arc;

use forerun_driver::{
    Body, BoxFuture, Caller, GuestLog, GuestStream, Host, KeyValueError, KeyValues, Outbound, OutboundError,
    OutboundTimeouts, StoreName,
};
use forerun_types::{FunctionName, InvocationId};
use http::{Request, Response};

/// A host that has nothing to give.
struct Nobody;

impl GuestLog for Nobody {
    fn write(&self, _: &FunctionName, _: InvocationId, _: GuestStream, _: &[u8]) {}
}

impl Outbound for Nobody {
    fn send(
        &self,
        _: Caller,
        _: Request<Body>,
        _: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        Box::pin(async { Err(OutboundError::ConnectTimeout) })
    }
}

impl KeyValues for Nobody {
    fn get(&self, _: StoreName<'_>, _: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(None)
    }

    fn set_many(&self, _: StoreName<'_>, _: &[(String, Vec<u8>)]) -> Result<(), KeyValueError> {
        Ok(())
    }

    fn delete_many(&self, _: StoreName<'_>, _: &[String]) -> Result<(), KeyValueError> {
        Ok(())
    }

    fn list_keys(&self, _: StoreName<'_>, _: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        Ok(Vec::new())
    }

    fn increment(&self, _: StoreName<'_>, _: &str, _: u64) -> Result<u64, KeyValueError> {
        Err(KeyValueError::NotANumber)
    }
}

/// A host without anything in it.
pub(crate) fn host() -> Host {
    Host { outbound: Arc::new(Nobody), log: Arc::new(Nobody), key_values: Arc::new(Nobody) }
}
