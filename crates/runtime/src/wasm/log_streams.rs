//! Which of a guest's handles are streams of its stdin, stdout and stderr, and where in the host's table they are.
//!
//! A language runtime opens them once and keeps them. They lead to the function's log and to nothing of any request, so
//! they may be part of a state that requests begin with (`rollback::warm`), whose every request gets streams of its own
//! in the same places. The table itself does not tell one stream from another, so it is noted here when they are opened.
//!
//! A runtime that waits until a stream takes more keeps what says so, too: the stream's pollable. Rust's standard library
//! does (1.95).

use std::any::Any;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::WasiCliCtxView;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdin, stdout};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, subscribe};

use super::vm::VmState;

/// One of the three, or what says when one of them can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LogStream {
    Stdin,
    Stdout,
    Stderr,
    /// The pollable of the input stream in that place.
    InputReady(u32),
    /// The pollable of the output stream in that place.
    OutputReady(u32),
}

/// Places of a table that are looked at for pollables; a VM that has been warmed up and has more there is an odd one.
const PLACES_MAX: u32 = 256;

/// A place in the host's table, and what is there.
pub(super) type StreamPlace = (u32, LogStream);

/// The streams that were opened in a VM, by place: the last one where there were several.
#[derive(Clone, Debug, Default)]
pub(super) struct LogStreams {
    opened: Vec<StreamPlace>,
    /// Whether a place was taken again: what was there before is gone.
    replaced: bool,
    /// Where the next stream to standard output is to be, instead of being opened.
    next_place: Option<u32>,
}

impl LogStream {
    /// Whether `resource` can be one.
    fn is_like(self, resource: &dyn Any) -> bool {
        match self {
            Self::Stdin => resource.is::<DynInputStream>(),
            Self::Stdout | Self::Stderr => resource.is::<DynOutputStream>(),
            Self::InputReady(_) | Self::OutputReady(_) => resource.is::<DynPollable>(),
        }
    }

    /// What a pollable of it would be, if it is a stream in that place.
    fn ready(self, place: u32) -> Option<Self> {
        match self {
            Self::Stdin => Some(Self::InputReady(place)),
            Self::Stdout | Self::Stderr => Some(Self::OutputReady(place)),
            Self::InputReady(_) | Self::OutputReady(_) => None,
        }
    }

    /// The place of the stream that it belongs to, if it is a pollable.
    fn stream(self) -> Option<u32> {
        match self {
            Self::InputReady(of) | Self::OutputReady(of) => Some(of),
            Self::Stdin | Self::Stdout | Self::Stderr => None,
        }
    }

    /// Opens one; says where it is.
    pub(super) fn open(self, cli: &mut WasiCliCtxView<'_>) -> wasmtime::Result<u32> {
        Ok(match self {
            Self::Stdin => stdin::Host::get_stdin(cli)?.rep(),
            Self::Stdout => stdout::Host::get_stdout(cli)?.rep(),
            Self::Stderr => stderr::Host::get_stderr(cli)?.rep(),
            Self::InputReady(of) => subscribe(cli.table, Resource::<DynInputStream>::new_borrow(of))?.rep(),
            Self::OutputReady(of) => subscribe(cli.table, Resource::<DynOutputStream>::new_borrow(of))?.rep(),
        })
    }
}

impl LogStreams {
    /// Those that a VM begins with.
    pub(super) fn of(opened: Vec<StreamPlace>) -> Self {
        Self { opened, replaced: false, next_place: None }
    }

    /// Has the guest get a handle to that place when it opens standard output next, whatever is there. Its table is to be
    /// replaced before any request.
    pub(super) fn answer_with_place(&mut self, place: u32) {
        self.next_place = Some(place);
    }

    fn note(&mut self, place: u32, stream: LogStream) {
        match self.opened.iter_mut().find(|(taken, _)| *taken == place) {
            Some(opened) => {
                *opened = (place, stream);
                self.replaced = true;
            }
            None => self.opened.push((place, stream)),
        }
    }

    /// The streams in `table` and their pollables, by place in order, if it has nothing else. A stream of another kind is
    /// the child of a body, which would be there, too.
    pub(super) fn alone_in(&self, table: &mut ResourceTable) -> Option<Vec<StreamPlace>> {
        let mut there: Vec<_> = self.opened.iter().copied().filter(|stream| is_there(*stream, table)).collect();
        let pollables: Vec<_> = (0..PLACES_MAX).filter_map(|place| pollable(place, &there, table)).collect();
        there.extend(pollables);
        there.sort_unstable();
        // They are made again in this order, each pollable after its stream.
        let in_order = there.iter().all(|(place, stream)| stream.stream().is_none_or(|of| of < *place));
        (in_order && there.len() == table.iter_mut().count()).then_some(there)
    }

    /// Whether the streams that the VM began with, `all`, still are in `table`.
    pub(super) fn are_as_at_the_start(&self, all: &[StreamPlace], table: &mut ResourceTable) -> bool {
        all.is_empty() || (!self.replaced && all.iter().all(|stream| is_there(*stream, table)))
    }
}

/// Whether that stream is in its place.
pub(super) fn is_there((place, stream): StreamPlace, table: &mut ResourceTable) -> bool {
    let is_like = table.get_any_mut(place).is_ok_and(|resource| stream.is_like(resource));
    is_like && stream.stream().is_none_or(|of| is_child(place, of, table))
}

/// The pollable in that place, if it is one of `streams`.
fn pollable(place: u32, streams: &[StreamPlace], table: &mut ResourceTable) -> Option<StreamPlace> {
    table.get_any_mut(place).ok().filter(|resource| resource.is::<DynPollable>())?;
    let (of, stream) = streams.iter().find(|(of, _)| is_child(place, *of, table))?;
    stream.ready(*of).map(|ready| (place, ready))
}

/// Whether what is in a place is a child of what is in place `of`. The table lists children without their places, but where
/// they are in memory.
fn is_child(place: u32, of: u32, table: &mut ResourceTable) -> bool {
    let address = |resource: &dyn Any| std::ptr::from_ref(resource).cast::<()>();
    let Ok(child) = table.get_any_mut(place).map(|resource| address(resource)) else { return false };
    // The type is not looked at where children are listed.
    let children = table.iter_children(&Resource::<DynPollable>::new_borrow(of));
    children.is_ok_and(|mut children| children.any(|resource| address(resource) == child))
}

/// Puts the host's functions that open the streams behind ones that note it.
pub(super) fn add_to_linker(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    stdin::add_to_linker::<VmState, HasLog>(linker, VmState::log)?;
    stdout::add_to_linker::<VmState, HasLog>(linker, VmState::log)?;
    stderr::add_to_linker::<VmState, HasLog>(linker, VmState::log)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasLog;

impl HasData for HasLog {
    type Data<'a> = LogView<'a>;
}

/// A VM's log.
pub(super) struct LogView<'a> {
    pub(super) cli: WasiCliCtxView<'a>,
    pub(super) streams: &'a mut LogStreams,
}

impl stdin::Host for LogView<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream = stdin::Host::get_stdin(&mut self.cli)?;
        self.streams.note(stream.rep(), LogStream::Stdin);
        Ok(stream)
    }
}

impl stdout::Host for LogView<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        if let Some(place) = self.streams.next_place.take() {
            return Ok(Resource::new_own(place));
        }
        let stream = stdout::Host::get_stdout(&mut self.cli)?;
        self.streams.note(stream.rep(), LogStream::Stdout);
        Ok(stream)
    }
}

impl stderr::Host for LogView<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream = stderr::Host::get_stderr(&mut self.cli)?;
        self.streams.note(stream.rep(), LogStream::Stderr);
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::WasiCtx;

    use super::*;

    #[test]
    fn pollables_of_streams_are_made_again_in_their_places() {
        let (mut wasi, mut streams) = (WasiCtx::builder().build(), LogStreams::default());
        let mut table = ResourceTable::new();
        for which in [LogStream::Stdout, LogStream::OutputReady(0), LogStream::Stdin, LogStream::InputReady(2)] {
            let place = which.open(&mut WasiCliCtxView { ctx: wasi.cli(), table: &mut table }).unwrap();
            if which.stream().is_none() {
                streams.note(place, which);
            }
        }
        let all = streams.alone_in(&mut table).unwrap();
        let places = [LogStream::Stdout, LogStream::OutputReady(0), LogStream::Stdin, LogStream::InputReady(2)];
        assert_eq!(all, (0..).zip(places).collect::<Vec<_>>());

        let mut again = ResourceTable::new();
        for (place, stream) in &all {
            let made = stream.open(&mut WasiCliCtxView { ctx: wasi.cli(), table: &mut again }).unwrap();
            assert_eq!(made, *place);
        }
        let streams = LogStreams::of(all.clone());
        assert!(streams.are_as_at_the_start(&all, &mut again));
        assert_eq!(LogStreams::of(all[..1].to_vec()).alone_in(&mut again), None, "stdin is not known of");

        // Another pollable in the place of one is not it.
        again.delete(Resource::<DynPollable>::new_own(1)).unwrap();
        assert!(!streams.are_as_at_the_start(&all, &mut again));
        let other = subscribe(&mut again, Resource::<DynInputStream>::new_borrow(2)).unwrap();
        assert_eq!((other.rep(), streams.are_as_at_the_start(&all, &mut again)), (1, false));
    }

    #[test]
    fn a_stream_that_was_given_back_and_opened_again_is_another_one() {
        let (mut wasi, mut table, mut streams) =
            (WasiCtx::builder().build(), ResourceTable::new(), LogStreams::default());
        for which in [LogStream::Stdout, LogStream::Stdin] {
            let place = which.open(&mut WasiCliCtxView { ctx: wasi.cli(), table: &mut table }).unwrap();
            streams.note(place, which);
        }
        let both = vec![(0, LogStream::Stdout), (1, LogStream::Stdin)];
        assert_eq!(streams.alone_in(&mut table), Some(both.clone()));
        assert!(streams.are_as_at_the_start(&both, &mut table));
        let other = table.push(7_u8).unwrap();
        assert_eq!(streams.alone_in(&mut table), None, "something else is there");
        table.delete(other).unwrap();
        table.delete(Resource::<DynOutputStream>::new_own(0)).unwrap();
        assert!(!streams.are_as_at_the_start(&both, &mut table));
        assert_eq!(streams.alone_in(&mut table), Some(vec![(1, LogStream::Stdin)]));
        let place = LogStream::Stderr.open(&mut WasiCliCtxView { ctx: wasi.cli(), table: &mut table }).unwrap();
        streams.note(place, LogStream::Stderr);
        assert_eq!((place, streams.are_as_at_the_start(&both, &mut table)), (0, false));
        assert_eq!(streams.alone_in(&mut table), Some(vec![(0, LogStream::Stderr), (1, LogStream::Stdin)]));
    }
}
