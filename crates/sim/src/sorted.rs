//! Calls in time order, however many there are: what does not fit in memory is sorted in runs and merged from disk.
//!
//! Calls at the same time keep the order in which they were read. The order is fixed once and can be walked through any
//! number of times.

use crate::reader::TraceError;
use crate::trace::Invocation;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Calls per run; at 40 bytes each a run takes 160 MB.
const RUN_LEN: usize = 4_000_000;
const RECORD_BYTES: usize = 40;

/// Takes calls in any order.
#[derive(Debug)]
pub struct Sorter {
    run_len: usize,
    run: Vec<Invocation>,
    spilled: Vec<File>,
    len: u64,
    first_us: u64,
    last_us: u64,
}

/// Calls in time order.
#[derive(Debug)]
pub struct SortedTrace {
    memory: Vec<Invocation>,
    spilled: Vec<File>,
    /// Number of calls.
    pub len: u64,
    /// Time of the first call.
    pub first_us: u64,
    /// Time of the last call.
    pub last_us: u64,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::with_run_len(RUN_LEN)
    }
}

impl Sorter {
    fn with_run_len(run_len: usize) -> Self {
        Self { run_len, run: Vec::new(), spilled: Vec::new(), len: 0, first_us: u64::MAX, last_us: 0 }
    }

    /// Takes a call.
    pub fn push(&mut self, call: Invocation) -> Result<(), TraceError> {
        self.len += 1;
        self.first_us = self.first_us.min(call.at_us);
        self.last_us = self.last_us.max(call.at_us);
        self.run.push(call);
        if self.run.len() < self.run_len {
            return Ok(());
        }
        self.run.sort_by_key(|call| call.at_us);
        let file = write_run(&self.run).map_err(TraceError::Spill)?;
        self.spilled.push(file);
        self.run.clear();
        Ok(())
    }

    /// All calls have been taken.
    pub fn finish(mut self) -> SortedTrace {
        self.run.sort_by_key(|call| call.at_us);
        SortedTrace {
            memory: self.run,
            spilled: self.spilled,
            len: self.len,
            first_us: self.first_us.min(self.last_us),
            last_us: self.last_us,
        }
    }
}

impl SortedTrace {
    /// Walks through the calls in order.
    pub fn for_each(&self, mut visit: impl FnMut(&Invocation) -> Result<(), TraceError>) -> Result<(), TraceError> {
        if self.spilled.is_empty() {
            return self.memory.iter().try_for_each(visit);
        }
        let mut runs = Vec::new();
        for file in &self.spilled {
            let mut file = file.try_clone().map_err(TraceError::Spill)?;
            file.seek(SeekFrom::Start(0)).map_err(TraceError::Spill)?;
            runs.push(Run::File(BufReader::with_capacity(1 << 18, file)));
        }
        runs.push(Run::Memory(self.memory.iter()));
        let mut heads = Vec::with_capacity(runs.len());
        let mut heap = BinaryHeap::new();
        for (index, run) in runs.iter_mut().enumerate() {
            let head = run.next()?;
            heap.extend(head.map(|call| Reverse((call.at_us, index))));
            heads.push(head);
        }
        while let Some(Reverse((_, index))) = heap.pop() {
            if let Some(call) = heads[index] {
                visit(&call)?;
            }
            heads[index] = runs[index].next()?;
            heap.extend(heads[index].map(|call| Reverse((call.at_us, index))));
        }
        Ok(())
    }
}

enum Run<'a> {
    File(BufReader<File>),
    Memory(std::slice::Iter<'a, Invocation>),
}

impl Run<'_> {
    fn next(&mut self) -> Result<Option<Invocation>, TraceError> {
        match self {
            Self::Memory(calls) => Ok(calls.next().copied()),
            Self::File(file) => {
                let mut record = [0u8; RECORD_BYTES];
                match file.read_exact(&mut record) {
                    Ok(()) => Ok(Some(decode(&record))),
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(TraceError::Spill(error)),
                }
            }
        }
    }
}

fn write_run(run: &[Invocation]) -> std::io::Result<File> {
    let mut writer = BufWriter::with_capacity(1 << 18, tempfile::tempfile()?);
    for call in run {
        writer.write_all(&encode(call))?;
    }
    writer.into_inner().map_err(std::io::IntoInnerError::into_error)
}

fn encode(call: &Invocation) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&call.at_us.to_le_bytes());
    record[8..16].copy_from_slice(&call.session.to_le_bytes());
    let words = [call.function, call.scope, call.kind, call.caller, call.count, call.duration_us];
    for (place, word) in record[16..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Invocation {
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| record[at + byte]));
    let word = |index: usize| u32::from_le_bytes(std::array::from_fn(|byte| record[16 + index * 4 + byte]));
    Invocation {
        at_us: long(0),
        session: long(8),
        function: word(0),
        scope: word(1),
        kind: word(2),
        caller: word(3),
        count: word(4),
        duration_us: word(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spilling_changes_nothing(times in prop::collection::vec(0u64..50, 0..200)) {
            let calls: Vec<Invocation> = times.iter().enumerate().map(|(index, at_us)| Invocation {
                at_us: *at_us, function: index as u32, scope: 1, kind: 2, session: 3, caller: 4, count: 5, duration_us: 6,
            }).collect();
            let mut expected = calls.clone();
            expected.sort_by_key(|call| call.at_us);
            let mut sorter = Sorter::with_run_len(17);
            for call in calls {
                sorter.push(call).unwrap();
            }
            let sorted = sorter.finish();
            for _ in 0..2 {
                let mut seen = Vec::new();
                sorted.for_each(|call| { seen.push(*call); Ok(()) }).unwrap();
                prop_assert_eq!(&seen, &expected);
            }
        }
    }
}
