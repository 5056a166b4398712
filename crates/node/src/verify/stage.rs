//! A host that reaches nothing and writes down what a program does to it. A call is answered as the manifest says of
//! the request, or denied.

use std::collections::BTreeMap;
use std::sync::Arc;

use forerun_driver::{
    Body, BoxFuture, Caller, GuestLog, GuestStream, Host, KeyValueError, KeyValues, Outbound, OutboundError,
    OutboundTimeouts, StoreName, made_up_answer,
};
use forerun_types::{CallAnswer, FunctionName, InvocationId};
use http::{Request, Response};
use parking_lot::Mutex;

/// Bytes of output that are compared, each stream; the rest is dropped.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Outbound calls that are compared.
const CALLS_MAX: usize = 1_000;
/// Bytes of keys and values; more are refused, as a store of the node would.
const VALUES_BYTES_MAX: usize = 16 << 20;

/// What one program does to its host.
#[derive(Default)]
pub struct Stage {
    effects: Mutex<Effects>,
    /// To the calls of the request that is being answered.
    answer: Mutex<Option<CallAnswer>>,
}

/// All that a request did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Standard output and standard error.
    pub(super) output: [Vec<u8>; 2],
    /// Method and destination of outbound calls.
    pub(super) calls: Vec<String>,
    /// Key values by store and key; a program belongs to one application.
    pub(super) values: BTreeMap<(String, String), Vec<u8>>,
}

impl Stage {
    /// The host to load a program with.
    pub fn host(self: &Arc<Self>) -> Host {
        Host { outbound: Arc::clone(self) as _, log: Arc::clone(self) as _, key_values: Arc::clone(self) as _ }
    }

    /// Begins anew; from now on calls are answered so, or denied.
    pub(super) fn begin(&self, answer: Option<CallAnswer>) {
        drop(self.take());
        *self.answer.lock() = answer;
    }

    pub(super) fn take(&self) -> Effects {
        std::mem::take(&mut *self.effects.lock())
    }
}

impl GuestLog for Stage {
    fn write(&self, _function: &FunctionName, _invocation: InvocationId, stream: GuestStream, bytes: &[u8]) {
        let mut effects = self.effects.lock();
        let output = &mut effects.output[match stream {
            GuestStream::Stdout => 0,
            GuestStream::Stderr => 1,
        }];
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend(bytes.iter().take(room));
    }
}

impl Outbound for Stage {
    fn send(
        &self,
        _caller: Caller,
        request: Request<Body>,
        _timeouts: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        let destination = request.uri().to_string();
        let mut effects = self.effects.lock();
        if effects.calls.len() < CALLS_MAX {
            effects.calls.push(format!("{} {destination}", request.method()));
        }
        drop(effects);
        let answer = self.answer.lock().as_ref().and_then(|answer| made_up_answer(answer).ok());
        Box::pin(std::future::ready(answer.ok_or(OutboundError::Denied { destination })))
    }
}

impl KeyValues for Stage {
    fn get(&self, store: StoreName<'_>, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.effects.lock().values.get(&named(store, key)).cloned())
    }

    fn set_many(&self, store: StoreName<'_>, pairs: &[(String, Vec<u8>)]) -> Result<(), KeyValueError> {
        let values = &mut self.effects.lock().values;
        let had: usize = values.iter().map(|((store, key), value)| store.len() + key.len() + value.len()).sum();
        let more: usize = pairs.iter().map(|(key, value)| store.name.len() + key.len() + value.len()).sum();
        if had.saturating_add(more) > VALUES_BYTES_MAX {
            return Err(KeyValueError::OverLimits { detail: format!("{VALUES_BYTES_MAX} bytes in a comparison") });
        }
        values.extend(pairs.iter().map(|(key, value)| (named(store, key), value.clone())));
        Ok(())
    }

    fn delete_many(&self, store: StoreName<'_>, keys: &[String]) -> Result<(), KeyValueError> {
        let values = &mut self.effects.lock().values;
        for key in keys {
            values.remove(&named(store, key));
        }
        Ok(())
    }

    fn list_keys(&self, store: StoreName<'_>, after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        let effects = self.effects.lock();
        let keys = effects
            .values
            .keys()
            .filter(|(of, key)| of == store.name && after.is_none_or(|after| key.as_str() > after));
        Ok(keys.map(|(_, key)| key.clone()).collect())
    }

    fn increment(&self, store: StoreName<'_>, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        let mut effects = self.effects.lock();
        let value = effects.values.entry(named(store, key)).or_insert_with(|| b"0".to_vec());
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let sum = number.ok_or(KeyValueError::NotANumber)?.wrapping_add(delta);
        *value = sum.to_string().into_bytes();
        Ok(sum)
    }
}

fn named(store: StoreName<'_>, key: &str) -> (String, String) {
    (store.name.to_owned(), key.to_owned())
}
