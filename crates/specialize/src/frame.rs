//! The two frames of the protocol: a job on a worker's stdin, a result on its stdout.
//!
//! Both sides are the same binary, so there is one version and no negotiation; it is checked all the
//! same. All numbers are little-endian. Pure encoding and decoding; no I/O here.
//!
//! ```text
//! job      magic 8 | version 4 | kind 4 | parameters 8 | component 8 | memory 8 | cpu_ms 8 | output 8
//!          | threads 4 | scheduling 1 | required 1 | 0 2 | supervisor's pid 4 | 0 4 | parameters… component…
//! result   magic 8 | version 4 | status 4 | payload's length 8 | payload's BLAKE3 32 | payload…
//! ```

use crate::failure::{MalformedOutput, WorkerFailure};
use crate::job::JobKind;
use crate::limits::{COMPONENT_BYTES_MAX, PARAMETERS_BYTES_MAX, Scheduling, WorkerLimits};

/// Changes with either frame.
const VERSION: u32 = 1;
const JOB_MAGIC: &[u8; 8] = b"FRNJOB\r\n";
const RESULT_MAGIC: &[u8; 8] = b"FRNRES\r\n";
/// Bytes of a job's frame before the parameters.
pub(crate) const JOB_HEADER_BYTES: usize = 72;
/// Bytes of a result's frame before the payload.
pub(crate) const RESULT_HEADER_BYTES: usize = 56;

/// The head of a job's frame: written by the supervisor, so trusted, and read before the sandbox is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobHeader {
    pub(crate) kind: JobKind,
    pub(crate) parameters_bytes: u64,
    pub(crate) component_bytes: u64,
    pub(crate) limits: WorkerLimits,
    /// Process id of the supervisor, to notice that it died before the worker asked to be told.
    pub(crate) supervisor_pid: u32,
}

/// Why a job's frame is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JobFrameError {
    #[error("not the input of a worker")]
    Magic,
    #[error("version {0} of the protocol")]
    Version(u32),
    #[error("unknown scheduling {0}")]
    Scheduling(u8),
    #[error("lengths {parameters_bytes} and {component_bytes} do not fit {file_bytes} bytes or the bounds")]
    Lengths { parameters_bytes: u64, component_bytes: u64, file_bytes: u64 },
}

/// What a result's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The artifact.
    Artifact,
    /// A `JobError` as JSON.
    Failed,
    /// A panic's message.
    Panicked,
    /// Nothing: the artifact was too large to be written.
    TooLarge,
}

/// A result, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResultFrame {
    pub(crate) status: Status,
    pub(crate) checksum: [u8; 32],
    /// Where in the bytes the payload begins; it goes to the end.
    pub(crate) payload_start: usize,
}

impl JobHeader {
    pub(crate) fn encode(&self) -> [u8; JOB_HEADER_BYTES] {
        let scheduling = match self.limits.scheduling {
            Scheduling::Idle => 0,
            Scheduling::Nice => 1,
            Scheduling::Normal => 2,
        };
        let mut writer = Writer::<JOB_HEADER_BYTES>::new(JOB_MAGIC);
        writer.u32(VERSION).u32(self.kind.0);
        writer.u64(self.parameters_bytes).u64(self.component_bytes);
        writer.u64(self.limits.memory_bytes_max).u64(self.limits.cpu_ms_max).u64(self.limits.output_bytes_max);
        writer.u32(self.limits.threads_max);
        writer.bytes(&[scheduling, u8::from(self.limits.sandbox_required), 0, 0]);
        writer.u32(self.supervisor_pid).u32(0);
        writer.finish()
    }

    /// Reads a header and checks that parameters and component fill the file of `file_bytes` exactly.
    pub(crate) fn decode(bytes: &[u8; JOB_HEADER_BYTES], file_bytes: u64) -> Result<Self, JobFrameError> {
        let mut reader = Reader(bytes);
        if reader.take::<8>() != *JOB_MAGIC {
            return Err(JobFrameError::Magic);
        }
        let version = reader.u32();
        if version != VERSION {
            return Err(JobFrameError::Version(version));
        }
        let kind = JobKind(reader.u32());
        let (parameters_bytes, component_bytes) = (reader.u64(), reader.u64());
        let (memory_bytes_max, cpu_ms_max, output_bytes_max) = (reader.u64(), reader.u64(), reader.u64());
        let threads_max = reader.u32();
        let [scheduling, required, _, _] = reader.take::<4>();
        let scheduling = match scheduling {
            0 => Scheduling::Idle,
            1 => Scheduling::Nice,
            2 => Scheduling::Normal,
            other => return Err(JobFrameError::Scheduling(other)),
        };
        let sandbox_required = required != 0;
        let supervisor_pid = reader.u32();
        let in_bounds = parameters_bytes <= PARAMETERS_BYTES_MAX && component_bytes <= COMPONENT_BYTES_MAX;
        if !in_bounds || file_bytes != JOB_HEADER_BYTES as u64 + parameters_bytes + component_bytes {
            return Err(JobFrameError::Lengths { parameters_bytes, component_bytes, file_bytes });
        }
        let limits =
            WorkerLimits { memory_bytes_max, cpu_ms_max, output_bytes_max, threads_max, scheduling, sandbox_required };
        Ok(Self { kind, parameters_bytes, component_bytes, limits, supervisor_pid })
    }
}

/// The head of a result's frame.
pub(crate) fn encode_result(status: Status, payload: &[u8]) -> [u8; RESULT_HEADER_BYTES] {
    let status = match status {
        Status::Artifact => 0,
        Status::Failed => 1,
        Status::Panicked => 2,
        Status::TooLarge => 3,
    };
    let mut writer = Writer::<RESULT_HEADER_BYTES>::new(RESULT_MAGIC);
    writer.u32(VERSION).u32(status).u64(payload.len() as u64).bytes(blake3::hash(payload).as_bytes());
    writer.finish()
}

/// Checks all of a result: mark, version, lengths, checksum. Its bytes come from a process that is not
/// trusted; how many they are, was checked before they were read.
pub(crate) fn decode_result(bytes: &[u8]) -> Result<ResultFrame, WorkerFailure> {
    let found = bytes.len() as u64;
    let Some((header, payload)) = bytes.split_first_chunk::<RESULT_HEADER_BYTES>() else {
        let is_start = RESULT_MAGIC.starts_with(&bytes[..bytes.len().min(RESULT_MAGIC.len())]);
        let torn = WorkerFailure::Torn { expected: RESULT_HEADER_BYTES as u64, found };
        return Err(if is_start { torn } else { WorkerFailure::Malformed(MalformedOutput::Magic) });
    };
    let mut reader = Reader(header);
    if reader.take::<8>() != *RESULT_MAGIC {
        return Err(WorkerFailure::Malformed(MalformedOutput::Magic));
    }
    let version = reader.u32();
    if version != VERSION {
        return Err(WorkerFailure::Malformed(MalformedOutput::Version(version)));
    }
    let status = match reader.u32() {
        0 => Status::Artifact,
        1 => Status::Failed,
        2 => Status::Panicked,
        3 => Status::TooLarge,
        other => return Err(WorkerFailure::Malformed(MalformedOutput::Status(other))),
    };
    let expected = (RESULT_HEADER_BYTES as u64).saturating_add(reader.u64());
    let checksum = reader.take::<32>();
    if found > expected {
        return Err(WorkerFailure::Malformed(MalformedOutput::Trailing));
    }
    if found < expected || *blake3::hash(payload).as_bytes() != checksum {
        return Err(WorkerFailure::Torn { expected, found });
    }
    Ok(ResultFrame { status, checksum, payload_start: RESULT_HEADER_BYTES })
}

/// Puts numbers one after the other into a header of `N` bytes.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn new(magic: &[u8; 8]) -> Self {
        let mut writer = Self { bytes: [0; N], at: 0 };
        writer.bytes(magic);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn finish(self) -> [u8; N] {
        assert_eq!(self.at, N, "a header is filled to its end");
        self.bytes
    }
}

/// Takes numbers one after the other from a header whose length was checked.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk::<N>().expect("a header is as long as its fields");
        self.0 = rest;
        *taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> JobHeader {
        let limits = WorkerLimits {
            memory_bytes_max: 1 << 30,
            cpu_ms_max: 1500,
            output_bytes_max: 77,
            threads_max: 5,
            scheduling: Scheduling::Nice,
            sandbox_required: true,
        };
        JobHeader { kind: JobKind(9), parameters_bytes: 3, component_bytes: 4, limits, supervisor_pid: 12 }
    }

    fn result(payload: &[u8]) -> Vec<u8> {
        [&encode_result(Status::Artifact, payload)[..], payload].concat()
    }

    #[test]
    fn a_job_reads_as_it_was_written() {
        let file_bytes = JOB_HEADER_BYTES as u64 + 7;
        assert_eq!(JobHeader::decode(&header().encode(), file_bytes), Ok(header()));
    }

    #[test]
    fn a_job_of_another_size_or_kind_is_refused_by_name() {
        let encoded = header().encode();
        for file_bytes in [0, JOB_HEADER_BYTES as u64 + 6, JOB_HEADER_BYTES as u64 + 8, u64::MAX] {
            assert!(matches!(JobHeader::decode(&encoded, file_bytes), Err(JobFrameError::Lengths { .. })));
        }
        let huge = JobHeader { component_bytes: COMPONENT_BYTES_MAX + 1, ..header() };
        let file_bytes = JOB_HEADER_BYTES as u64 + 3 + COMPONENT_BYTES_MAX + 1;
        assert!(matches!(JobHeader::decode(&huge.encode(), file_bytes), Err(JobFrameError::Lengths { .. })));
        let mut other = encoded;
        other[0] ^= 1;
        assert_eq!(JobHeader::decode(&other, 0), Err(JobFrameError::Magic));
        let mut other = encoded;
        other[8] = 2;
        assert_eq!(JobHeader::decode(&other, 0), Err(JobFrameError::Version(2)));
    }

    #[test]
    fn a_result_with_something_behind_it_is_refused() {
        let mut bytes = result(b"abc");
        bytes.push(0);
        assert_eq!(decode_result(&bytes), Err(WorkerFailure::Malformed(MalformedOutput::Trailing)));
    }

    proptest! {
        #[test]
        fn a_result_reads_as_it_was_written(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = result(&payload);
            let frame = decode_result(&bytes).unwrap();
            prop_assert_eq!(frame.status, Status::Artifact);
            prop_assert_eq!(&bytes[frame.payload_start..], &payload[..]);
        }

        #[test]
        fn a_shortened_result_is_torn(payload in proptest::collection::vec(any::<u8>(), 0..100), cut in any::<usize>()) {
            let bytes = result(&payload);
            let cut = cut % bytes.len();
            let torn = matches!(decode_result(&bytes[..cut]), Err(WorkerFailure::Torn { .. }));
            prop_assert!(torn, "cut at {}", cut);
        }

        #[test]
        fn a_changed_bit_is_found(payload in proptest::collection::vec(any::<u8>(), 1..100), at in any::<usize>(), bit in 0u8..8) {
            let mut bytes = result(&payload);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            // Only the status is outside of the checksum: another one is another meaning, which the
            // exit code must confirm.
            let status = 12..16;
            prop_assert!(decode_result(&bytes).is_err() || status.contains(&at));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_result(&bytes).is_err());
        }
    }
}
