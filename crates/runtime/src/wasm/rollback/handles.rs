//! Handles that a guest kept when its request had ended, as language runtimes do that give things back when they collect
//! garbage.
//!
//! A handle is a number that a guest has; wasmtime's table of the guest's handles says which place of the host's
//! [`ResourceTable`] it leads to. A VM that was put back knows none of its handles, since its memory and globals do not. But
//! wasmtime's table cannot be reached through its interface: there the handles stay, and whoever guesses a number can use
//! one. So the resources are let go, and the table that the next request gets has something dead in each place that such
//! a handle leads to:
//!
//! ```text
//! guest's handles    1     2     3     4              1     2           4
//!                    │     │     │     │     put      │     │           │
//! host's places      0     1     2     3     back     0     1     2     3
//!                    ▲                 ▲     ───►     ▲     ▲     ▲     ▲
//!                   kept             kept            dead   │   free   dead
//!                                                  the next request's first
//! ```
//!
//! What stays is which numbers are free, and in which order they are given out: a guest that wants to can leave itself a
//! note in that. How long a note is bounded by how many handles there are at once.
//!
//! What is dead fails whatever is asked of it, which traps. It is a [`Gone`], which is of no type that anybody asks for;
//! except where a guest could subscribe to it: wasmtime looks at the type only when it polls, and would panic. There it
//! is of the type that was there, and has nothing in it.
//!
//! Letting go is what the host does when the guest gives a handle back, and when a fresh VM ends. It is not done here
//! where something would still be sent ([`VmDiscard::WorkPending`]), nor to a resource of a type that this file has not
//! been told of ([`VmDiscard::HandlesLeft`]).

use std::any::{Any, TypeId};
use std::collections::BTreeMap;

use forerun_types::VmDiscard;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::WasiCliCtxView;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions};

use super::super::key_values::Bucket;
use super::super::log_streams::{LogStream, LogStreams, StreamPlace};

/// Handles kept in one VM, by all of its requests. Each of them costs some ten nanoseconds a rollback from then on, and a
/// new VM about a millisecond, first rollback included: at the eight that JavaScript's runtime keeps a request, the sum of
/// both is least at about a thousand.
const KEPT_MAX: usize = 1_000;
/// Handles that the guest has at once, those that it kept among them. Requests have some dozens; the order in which so many
/// numbers are free tells no more than five kilobytes.
const AT_ONCE_MAX: u32 = 4_096;

/// What the handles that the guest kept lead to, by place, in order.
#[derive(Default, Debug, PartialEq, Eq)]
pub(in super::super) struct Kept(Vec<(u32, Remains)>);

/// What takes the place of a resource: something dead, or a stream to the log that the VM begins each request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remains {
    Log(LogStream),
    Gone,
    InputStream,
    OutputStream,
    FutureTrailers,
    FutureResponse,
}

/// What is dead, and nobody asks for.
struct Gone;

/// A stream that is dead.
struct DeadStream;

impl Kept {
    /// Looks at all that is left in a table after a request, or says why it cannot be let go; `streams` stay. The
    /// table is of no more use.
    pub(in super::super) fn of(table: &mut ResourceTable, streams: &[StreamPlace]) -> Result<Self, VmDiscard> {
        let count = table.iter_mut().count();
        if count > KEPT_MAX {
            return Err(VmDiscard::StaleHandles);
        }
        let mut kept = Vec::with_capacity(count);
        // The table tells what it has without saying where, and of each place whether something is there.
        for place in 0..AT_ONCE_MAX {
            if kept.len() == count {
                break;
            }
            if let Ok(resource) = table.get_any_mut(place) {
                let stream = streams.iter().find(|(stays, _)| *stays == place);
                kept.push((place, stream.map_or_else(|| judge(resource).1, |(_, stream)| Ok(Remains::Log(*stream)))?));
            }
        }
        let all_found = kept.len() == count && fill(table, AT_ONCE_MAX as usize - count);
        if all_found { Ok(Self(kept)) } else { Err(VmDiscard::StaleHandles) }
    }

    /// Nothing but streams to the log.
    pub(in super::super) fn streams(streams: &[StreamPlace]) -> Self {
        Self(streams.iter().map(|(place, stream)| (*place, Remains::Log(*stream))).collect())
    }

    /// The streams to the log among what was kept.
    pub(in super::super) fn log_streams(&self) -> LogStreams {
        let stream = |(place, remains): &(u32, Remains)| match remains {
            Remains::Log(stream) => Some((*place, *stream)),
            _ => None,
        };
        LogStreams::of(self.0.iter().filter_map(stream).collect())
    }

    /// A new table, in which nothing is alive but streams to the log of `wasi`, and other handles that were kept lead to
    /// nothing that will be.
    pub(in super::super) fn table(&self, wasi: &mut WasiCtx) -> Result<ResourceTable, VmDiscard> {
        let mut table = ResourceTable::new();
        let places = self.0.last().map_or(0, |(last, _)| last + 1);
        let (mut free, mut kept) = (Vec::new(), self.0.iter().peekable());
        for place in 0..places {
            let remains = kept.next_if(|(kept, _)| *kept == place).map(|(_, remains)| *remains);
            let taken = remains.unwrap_or(Remains::Gone).take_place(&mut table, wasi);
            // A table that has nothing free takes the next place. Were that ever otherwise, this VM would end here.
            if !taken.is_ok_and(|taken| taken == place) {
                return Err(VmDiscard::Unlike);
            }
            if remains.is_none() {
                free.push(Resource::<Gone>::new_own(place));
            }
        }
        // What is given free last is taken first: the lowest, as in a table that never had anything in it.
        for resource in free.into_iter().rev() {
            table.delete(resource).map_err(|_| VmDiscard::Unlike)?;
        }
        Ok(table)
    }
}

/// What a guest kept, and how much of it, for whoever wonders why VMs are not rolled back.
pub(in super::super) fn kinds(table: &mut ResourceTable) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for resource in table.iter_mut() {
        *kinds.entry(judge(resource).0).or_default() += 1;
    }
    kinds
}

/// Takes all places that are free in a table which is of no more use; says whether those are at most `free_max`. A table
/// has as many places as it ever had resources at once, and one that may not have more gives out those that are free.
fn fill(table: &mut ResourceTable, free_max: usize) -> bool {
    table.set_max_capacity(0);
    (0..=free_max).any(|_| table.push(Gone).is_err())
}

/// What a resource is, and what takes its place, or why it cannot be let go.
fn judge(resource: &dyn Any) -> (&'static str, Result<Remains, VmDiscard>) {
    // Asked once: there may be a thousand resources, each in another cache line.
    let type_id = resource.type_id();
    // What was dead already comes first, since most of what is kept for long is that. The others are plain data, or what is
    // only read from: nothing else notices that they are let go.
    let gone = [
        (TypeId::of::<Gone>(), "gone"),
        (TypeId::of::<FieldMap>(), "fields"),
        (TypeId::of::<HostIncomingRequest>(), "incoming-request"),
        (TypeId::of::<HostIncomingResponse>(), "incoming-response"),
        (TypeId::of::<HostIncomingBody>(), "incoming-body"),
        (TypeId::of::<HostOutgoingRequest>(), "outgoing-request"),
        (TypeId::of::<HostOutgoingResponse>(), "outgoing-response"),
        (TypeId::of::<RequestOptions>(), "request-options"),
        (TypeId::of::<DynPollable>(), "pollable"),
        (TypeId::of::<wasmtime::Error>(), "error"),
        (TypeId::of::<Bucket>(), "bucket"),
    ];
    if let Some((_, kind)) = gone.into_iter().find(|(of, _)| *of == type_id) {
        return (kind, Ok(Remains::Gone));
    }
    match resource.downcast_ref() {
        Some(HostFutureIncomingResponse::Consumed) => return ("future-incoming-response", Ok(Remains::FutureResponse)),
        Some(HostFutureIncomingResponse::Pending(_) | HostFutureIncomingResponse::Ready(_)) => {
            return ("future-incoming-response", Err(VmDiscard::WorkPending));
        }
        None => {}
    }
    let others = [
        (TypeId::of::<DynInputStream>(), "input-stream", Ok(Remains::InputStream)),
        // One that leads to a body is that body's child, which is left, too, and tells.
        (TypeId::of::<DynOutputStream>(), "output-stream", Ok(Remains::OutputStream)),
        (TypeId::of::<HostFutureTrailers>(), "future-trailers", Ok(Remains::FutureTrailers)),
        (TypeId::of::<HostOutgoingBody>(), "outgoing-body", Err(VmDiscard::WorkPending)),
    ];
    let other = others.into_iter().find(|(of, _, _)| *of == type_id);
    other.map_or(("other", Err(VmDiscard::HandlesLeft)), |(_, kind, remains)| (kind, remains))
}

impl Remains {
    /// Puts it into a table; says where it is.
    fn take_place(self, table: &mut ResourceTable, wasi: &mut WasiCtx) -> wasmtime::Result<u32> {
        Ok(match self {
            Self::Log(stream) => stream.open(&mut WasiCliCtxView { ctx: wasi.cli(), table })?,
            Self::Gone => table.push(Gone)?.rep(),
            Self::InputStream => table.push::<DynInputStream>(Box::new(DeadStream))?.rep(),
            Self::OutputStream => table.push::<DynOutputStream>(Box::new(DeadStream))?.rep(),
            Self::FutureTrailers => table.push(HostFutureTrailers::Consumed)?.rep(),
            Self::FutureResponse => table.push(HostFutureIncomingResponse::Consumed)?.rep(),
        })
    }
}

fn dead<T>() -> StreamResult<T> {
    Err(StreamError::trap("a stream of an earlier request"))
}

#[wasmtime_wasi::async_trait]
impl Pollable for DeadStream {
    async fn ready(&mut self) {}
}

impl InputStream for DeadStream {
    fn read(&mut self, _bytes: usize) -> StreamResult<bytes::Bytes> {
        dead()
    }
}

impl OutputStream for DeadStream {
    fn write(&mut self, _bytes: bytes::Bytes) -> StreamResult<()> {
        dead()
    }

    fn flush(&mut self) -> StreamResult<()> {
        dead()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        dead()
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::ResourceTableError;
    use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
    use wasmtime_wasi::p2::bindings::io::streams::{HostInputStream, HostOutputStream};
    use wasmtime_wasi::p2::subscribe;
    use wasmtime_wasi_http::p2::body::StreamContext;

    use super::*;

    const FIELDS_BYTES_MAX: usize = 1_000;

    fn wasi() -> WasiCtx {
        WasiCtx::builder().build()
    }

    fn kept_in(table: &mut ResourceTable) -> Result<Kept, VmDiscard> {
        Kept::of(table, &[])
    }

    fn fields() -> FieldMap {
        FieldMap::new_mutable(FIELDS_BYTES_MAX)
    }

    /// A table of `count` fields of which those at `kept` are left.
    fn table_of(count: u32, kept: &[u32]) -> ResourceTable {
        let mut table = ResourceTable::new();
        let all: Vec<_> = (0..count).map(|_| table.push(fields()).unwrap()).collect();
        for resource in all.into_iter().filter(|resource| !kept.contains(&resource.rep())) {
            table.delete(resource).unwrap();
        }
        table
    }

    fn pending() -> HostFutureIncomingResponse {
        HostFutureIncomingResponse::Pending(wasmtime_wasi::runtime::spawn(std::future::pending()))
    }

    #[test]
    fn kept_places_are_dead_and_the_others_are_taken_lowest_first() {
        let mut numbers = 9_u64;
        for _ in 0..200 {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let kept: Vec<u32> = (0..40).filter(|place| numbers >> place & 1 == 1).collect();
            let found = kept_in(&mut table_of(40, &kept)).unwrap();
            assert_eq!(found.0.iter().map(|(place, _)| *place).collect::<Vec<_>>(), kept);
            let again = kept_in(&mut found.table(&mut wasi()).unwrap());
            assert_eq!(again.unwrap(), found, "what is dead is found again by the next rollback");
            let mut table = found.table(&mut wasi()).unwrap();
            let taken: Vec<u32> = (0..50).map(|_| table.push(fields()).unwrap().rep()).collect();
            let free: Vec<u32> = (0..).filter(|place| !kept.contains(place)).take(50).collect();
            assert_eq!(taken, free, "kept: {kept:?}");
            for place in kept {
                let stale = table.get(&Resource::<FieldMap>::new_borrow(place));
                assert!(matches!(stale, Err(ResourceTableError::WrongType)), "{place}");
                assert!(table.delete(Resource::<FieldMap>::new_own(place)).is_err(), "{place}");
            }
        }
    }

    #[test]
    fn a_table_with_nothing_left_gives_one_that_is_as_new() {
        let mut table = kept_in(&mut table_of(30, &[])).unwrap().table(&mut wasi()).unwrap();
        assert!(table.is_empty());
        assert_eq!(table.push(fields()).unwrap().rep(), 0);
    }

    #[tokio::test]
    async fn a_dead_stream_can_be_subscribed_to_and_traps_when_it_is_used() {
        let mut table = ResourceTable::new();
        table.push::<DynInputStream>(Box::new(DeadStream)).unwrap();
        table.push::<DynOutputStream>(Box::new(DeadStream)).unwrap();
        let mut table = kept_in(&mut table).unwrap().table(&mut wasi()).unwrap();
        let (input, output) =
            (|| Resource::<DynInputStream>::new_borrow(0), || Resource::<DynOutputStream>::new_borrow(1));
        for pollable in [subscribe(&mut table, input()).unwrap(), subscribe(&mut table, output()).unwrap()] {
            table.block(Resource::new_borrow(pollable.rep())).await.unwrap();
            HostPollable::drop(&mut table, pollable).unwrap();
        }
        let reads = [HostInputStream::read(&mut table, input(), 9), table.blocking_read(input(), 9).await];
        assert!(reads.iter().all(|read| matches!(read, Err(StreamError::Trap(_)))), "{reads:?}");
        let writes = [
            HostOutputStream::write(&mut table, output(), vec![1]),
            table.blocking_write_and_flush(output(), vec![1]).await,
            table.blocking_flush(output()).await,
            table.write_zeroes(output(), 1),
        ];
        assert!(writes.iter().all(|write| matches!(write, Err(StreamError::Trap(_)))), "{writes:?}");
        HostInputStream::drop(&mut table, Resource::new_own(0)).await.unwrap();
        HostOutputStream::drop(&mut table, Resource::new_own(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_future_that_was_answered_is_let_go_and_its_place_can_be_subscribed_to() {
        let mut table = ResourceTable::new();
        table.push(HostFutureIncomingResponse::Consumed).unwrap();
        table.push(HostFutureTrailers::Consumed).unwrap();
        let mut table = kept_in(&mut table).unwrap().table(&mut wasi()).unwrap();
        let response = subscribe(&mut table, Resource::<HostFutureIncomingResponse>::new_borrow(0)).unwrap();
        let trailers = subscribe(&mut table, Resource::<HostFutureTrailers>::new_borrow(1)).unwrap();
        for pollable in [response, trailers] {
            table.block(Resource::new_borrow(pollable.rep())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_still_sent_or_not_known_is_not_let_go() {
        fn why<T: Send + 'static>(left: T) -> Option<VmDiscard> {
            let mut table = ResourceTable::new();
            table.push(fields()).unwrap();
            table.push(left).unwrap();
            kept_in(&mut table).err()
        }
        assert_eq!(why(fields()), None);
        assert_eq!(why(pending()), Some(VmDiscard::WorkPending));
        let body = HostOutgoingBody::new(StreamContext::Request, None, 1, 1_024).0;
        assert_eq!(why(body), Some(VmDiscard::WorkPending));
        assert_eq!(why("of a type that nobody has told of"), Some(VmDiscard::HandlesLeft));
    }

    #[test]
    fn handles_that_are_kept_have_a_bound_and_so_have_those_at_once() {
        let all: Vec<u32> = (0..1_000).collect();
        assert!(kept_in(&mut table_of(1_000, &all)).is_ok());
        assert_eq!(kept_in(&mut table_of(1_001, &(0..1_001).collect::<Vec<_>>())), Err(VmDiscard::StaleHandles));
        assert!(kept_in(&mut table_of(AT_ONCE_MAX, &[5, AT_ONCE_MAX - 1])).is_ok());
        assert!(kept_in(&mut table_of(AT_ONCE_MAX, &[])).is_ok());
        for kept in [&[][..], &[5], &[5, AT_ONCE_MAX]] {
            assert_eq!(kept_in(&mut table_of(AT_ONCE_MAX + 1, kept)), Err(VmDiscard::StaleHandles), "{kept:?}");
        }
    }
}
