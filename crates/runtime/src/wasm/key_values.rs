//! `wasi:keyvalue` (the 0.2.0 draft of wasmtime 48) on the node's key-value stores.
//!
//! wasmtime's own crate keeps each VM's data to itself, so with a VM per request nothing would be
//! kept at all; here the stores belong to the node. `watch` is not offered. The disk is touched off
//! the request's thread.

use std::sync::Arc;

use forerun_driver::{KeyValueError, KeyValues, StoreName};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use super::effects::{Effect, Effects};

mod generated {
    //! Bindings made from `wit/`.
    #![allow(missing_docs, unreachable_pub, unused_qualifications)]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "forerun:runtime/key-values",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Failure },
    });
}

use generated::wasi::keyvalue::{atomics, batch, store};

/// An opened store.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Bucket {
    name: Arc<str>,
}

/// What a guest is told, or a trap.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub enum Failure {
    Told(store::Error),
    Trap(wasmtime::Error),
}

/// The key-value side of one VM.
pub(super) struct KeyValueHost {
    pub(super) stores: Arc<dyn KeyValues>,
    /// The application of the function: its stores are the only ones there are for it.
    pub(super) app: Arc<str>,
    /// Names the function may open, from its manifest.
    pub(super) allowed: Arc<[String]>,
    pub(super) effects: Effects,
}

/// The view bindings work on.
pub(super) struct KeyValueView<'a> {
    pub(super) host: &'a mut KeyValueHost,
    pub(super) table: &'a mut ResourceTable,
}

struct HasKeyValues;

impl HasData for HasKeyValues {
    type Data<'a> = KeyValueView<'a>;
}

/// Offers the interfaces to components.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasKeyValues>(linker, view)?;
    atomics::add_to_linker::<T, HasKeyValues>(linker, view)?;
    batch::add_to_linker::<T, HasKeyValues>(linker, view)
}

impl KeyValueView<'_> {
    /// Runs `work` on the bucket's store, on a thread that may wait for the disk.
    async fn on_store<R: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        work: impl FnOnce(&dyn KeyValues, StoreName<'_>) -> Result<R, KeyValueError> + Send + 'static,
    ) -> Result<R, Failure> {
        let name = Arc::clone(&self.table.get(bucket)?.name);
        let (stores, app) = (Arc::clone(&self.host.stores), Arc::clone(&self.host.app));
        let work = move || work(stores.as_ref(), StoreName { app: &app, name: &name });
        let done = tokio::task::spawn_blocking(work).await;
        let result = done.map_err(|panicked| Failure::Told(store::Error::Other(panicked.to_string())))?;
        Ok(result?)
    }

    /// As [`Self::on_store`], for what changes it.
    async fn change_store<R: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        work: impl FnOnce(&dyn KeyValues, StoreName<'_>) -> Result<R, KeyValueError> + Send + 'static,
    ) -> Result<R, Failure> {
        self.host.effects.note(Effect::WroteKeyValues);
        self.on_store(bucket, work).await
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Failure> {
        // The draft's identifiers are free text; most guests use "default" or nothing for the only store.
        let name = if identifier.is_empty() { "default" } else { identifier.as_str() };
        if !self.host.allowed.iter().any(|allowed| allowed == name) {
            return Err(Failure::Told(store::Error::NoSuchStore));
        }
        Ok(self.table.push(Bucket { name: name.into() })?)
    }

    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<store::Error> {
        match failure {
            Failure::Told(error) => Ok(error),
            Failure::Trap(error) => Err(error),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Failure> {
        self.on_store(&bucket, move |stores, name| stores.get(name, &key)).await
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Failure> {
        self.change_store(&bucket, move |stores, name| stores.set_many(name, &[(key, value)])).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Failure> {
        self.change_store(&bucket, move |stores, name| stores.delete_many(name, &[key])).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Failure> {
        self.on_store(&bucket, move |stores, name| Ok(stores.get(name, &key)?.is_some())).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Failure> {
        let skip = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        self.on_store(&bucket, move |stores, name| page(stores, name, skip)).await
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

/// The page that begins after `skip` keys. The draft's cursor is a number, so earlier pages are walked again.
fn page(stores: &dyn KeyValues, name: StoreName<'_>, skip: usize) -> Result<store::KeyResponse, KeyValueError> {
    let (mut seen, mut after) = (0, None::<String>);
    loop {
        let keys = stores.list_keys(name, after.as_deref())?;
        let Some(last) = keys.last().cloned() else {
            return Ok(store::KeyResponse { keys: Vec::new(), cursor: None });
        };
        seen += keys.len();
        if seen > skip {
            let first_wanted = keys.len() - (seen - skip);
            let keys = keys.into_iter().skip(first_wanted).collect();
            let more = !stores.list_keys(name, Some(&last))?.is_empty();
            return Ok(store::KeyResponse { keys, cursor: more.then_some(seen as u64) });
        }
        after = Some(last);
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Failure> {
        self.change_store(&bucket, move |stores, name| stores.increment(name, &key, delta)).await
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Failure> {
        self.on_store(&bucket, move |stores, name| {
            let one = |key: String| Ok(stores.get(name, &key)?.map(|value| (key, value)));
            keys.into_iter().map(one).collect()
        })
        .await
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        self.change_store(&bucket, move |stores, name| stores.set_many(name, &key_values)).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<(), Failure> {
        self.change_store(&bucket, move |stores, name| stores.delete_many(name, &keys)).await
    }
}

impl From<KeyValueError> for Failure {
    fn from(error: KeyValueError) -> Self {
        Self::Told(match error {
            KeyValueError::NoSuchStore { .. } => store::Error::NoSuchStore,
            KeyValueError::OverLimits { .. } | KeyValueError::NotANumber | KeyValueError::Storage { .. } => {
                store::Error::Other(error.to_string())
            }
        })
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
