//! By which numbers the guest of a warm VM knows the streams to its log, and how a new VM's guest comes to hold the same.
//!
//! A handle is a number that the guest keeps in its memory. Which one leads where is in a table of wasmtime's that cannot be
//! reached through its interface; but the guest's own functions work on it (`open-stream`, `close-stream`), and it is the
//! host who answers them:
//!
//! ```text
//! find:  open very many ──► the numbers that did not come are those in use
//!        close each of them ──► the host's place that is empty then is where it led. The VM is of no more use.
//! have:  open 1, 2, 3, ... up to the last one in use; the host answers one in use with the place that it is to lead to
//!        close all others
//! ```
//!
//! What is in those places is put there by [`Vm::renew_state`] afterwards. Other handles than streams of standard output
//! and errors cannot be closed so, and have the whole given up.

use std::collections::BTreeSet;

use forerun_types::NoCopy;

use super::super::calls::StateExports;
use super::copy::{entered, failed};
use crate::wasm::log_streams::StreamPlace;
use crate::wasm::vm::Vm;

/// Handles that are opened to see which numbers are in use: more than a guest that was warmed up ever had at once.
const OPENED: u32 = 1_024;

/// The guest's number of each stream, with its place in the host's table; by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers(Vec<(u32, u32)>);

impl Numbers {
    /// Looks at a VM in the warm state, whose host's side is new. It is of no more use then.
    pub(super) async fn find(vm: &mut Vm, exports: &StateExports, streams: &[StreamPlace]) -> Result<Self, NoCopy> {
        if streams.is_empty() {
            return Ok(Self::default());
        }
        let instance = entered(vm)?;
        let calls = exports.streams(&mut vm.store, &instance).map_err(failed)?;
        let (open, close) = calls.ok_or(NoCopy::StreamsOpen)?;
        let mut free = BTreeSet::new();
        for _ in 0..OPENED {
            free.insert(open.call_async(&mut vm.store, ()).await.map_err(failed)?.0);
        }
        let last = free.last().copied().unwrap_or(0);
        let in_use: Vec<_> = (1..last.min(2 * OPENED)).filter(|number| !free.contains(number)).collect();
        if in_use.len() != streams.len() {
            return Err(NoCopy::StreamsOpen);
        }
        let (mut found, mut left) = (Vec::new(), streams.to_vec());
        for number in in_use {
            // What is no output stream cannot be closed as one.
            close.call_async(&mut vm.store, (number,)).await.map_err(|_| NoCopy::StreamsOpen)?;
            let closed = left.iter().position(|stream| !vm.store.data_mut().has_stream(*stream));
            let (place, _) = left.swap_remove(closed.ok_or(NoCopy::StreamsOpen)?);
            found.push((number, place));
        }
        Ok(Self(found))
    }

    /// Has the guest of a VM that has just been made hold handles with these numbers. Its host's side has to be renewed.
    pub(super) async fn have(&self, vm: &mut Vm, exports: &StateExports) -> Result<(), NoCopy> {
        let Some((last, _)) = self.0.last() else { return Ok(()) };
        let instance = entered(vm)?;
        let calls = exports.streams(&mut vm.store, &instance).map_err(failed)?;
        let (open, close) = calls.ok_or(NoCopy::StreamsOpen)?;
        let (mut in_use, mut others) = (self.0.iter().peekable(), Vec::new());
        for number in 1..=*last {
            match in_use.next_if(|(in_use, _)| *in_use == number) {
                Some((_, place)) => vm.store.data_mut().answer_with_place(*place),
                None => others.push(number),
            }
            if open.call_async(&mut vm.store, ()).await.map_err(failed)?.0 != number {
                return Err(NoCopy::NotAlike);
            }
        }
        for number in others {
            close.call_async(&mut vm.store, (number,)).await.map_err(failed)?;
        }
        Ok(())
    }
}
