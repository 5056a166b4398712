//! Why a function's VMs are not rolled back, and why one VM was thrown away instead: closed lists, each with a stable
//! label for metrics and a line for people.

use std::fmt;

/// Why the VMs of a function are not rolled back although its policy asks for it. It is served by fresh VMs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RollbackRefusal {
    /// The kernel does not offer what is needed to find written pages.
    Kernel {
        /// What is missing.
        detail: String,
    },
    /// WASI 0.3: concurrent tasks have state of their own.
    Tasks,
    /// The component defines resource types: their handles are state that cannot be put back.
    OwnResources,
    /// An instruction changes state that cannot be put back: a table's entries, or a segment that is dropped.
    Instruction {
        /// The instruction, as the text format writes it.
        name: &'static str,
    },
    /// A memory that threads share.
    SharedMemory,
    /// The specializer has not prepared its code for it: it runs without one, or refused the component.
    Unprepared,
    /// Its memories are too large to keep a copy of.
    TooLarge {
        /// Bytes of all memories of a VM that has just been made.
        bytes: u64,
        /// Bytes accepted.
        max: u64,
    },
    /// It calls the host while a VM is made: what it got (time, randomness, environment) would be the same for all requests.
    HostCalledAtStart,
    /// Two VMs that had just been made were not alike.
    StartsDiffer,
    /// Its VMs had to be thrown away one after the other.
    AlwaysDiscarded {
        /// Why the last of them was.
        last: VmDiscard,
    },
    /// The check of a rolled-back VM against its just-instantiated state found a difference. A defect; please report it.
    CheckFailed,
    /// A VM's state could not be read.
    Unreadable {
        /// What happened.
        detail: String,
    },
}

impl RollbackRefusal {
    /// Stable label, for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Kernel { .. } => "kernel",
            Self::Tasks => "tasks",
            Self::OwnResources => "own-resources",
            Self::Instruction { .. } => "instruction",
            Self::SharedMemory => "shared-memory",
            Self::Unprepared => "unprepared",
            Self::TooLarge { .. } => "too-large",
            Self::HostCalledAtStart => "host-called-at-start",
            Self::StartsDiffer => "starts-differ",
            Self::AlwaysDiscarded { .. } => "always-discarded",
            Self::CheckFailed => "check-failed",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

impl fmt::Display for RollbackRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { detail } => write!(f, "this machine cannot track written pages: {detail}"),
            Self::Tasks => f.write_str("components of WASI 0.3 have concurrent tasks, which are not rolled back yet"),
            Self::OwnResources => f.write_str("the component defines resource types, whose handles cannot be put back"),
            Self::Instruction { name } => {
                write!(f, "the component contains `{name}`, which changes what cannot be put back")
            }
            Self::SharedMemory => f.write_str("the component has a memory that threads share"),
            Self::Unprepared => f.write_str("its machine code was made without what puts its globals back"),
            Self::TooLarge { bytes, max } => {
                write!(f, "a VM that has just been made has {bytes} bytes of memory, at most {max} are copied")
            }
            Self::HostCalledAtStart => {
                f.write_str("the component calls the host while a VM is made; the answer would be shared by all requests")
            }
            Self::StartsDiffer => f.write_str("two VMs that had just been made were not alike"),
            Self::AlwaysDiscarded { last } => {
                write!(f, "its VMs had to be thrown away one after the other, the last because {}", last.explanation())
            }
            Self::CheckFailed => f.write_str(
                "a rolled-back VM was not as it had been when it was made: this is a defect of Forerun, please report it",
            ),
            Self::Unreadable { detail } => write!(f, "the state of a VM could not be read: {detail}"),
        }
    }
}

/// Something that a VM got from outside of itself, and that would be the same for all requests if they all began behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Draw {
    /// Random bytes or numbers, or the seed of a hash table.
    Randomness = 1,
    /// The time, of either clock.
    Time = 1 << 1,
    /// Variables of the environment or of the configuration; having none draws nothing.
    Variables = 1 << 2,
    /// Anything of a key-value store.
    KeyValues = 1 << 3,
    /// An answer of another service or function.
    Answer = 1 << 4,
}

impl Draw {
    /// Every value, in order.
    pub const ALL: [Self; 5] = [Self::Randomness, Self::Time, Self::Variables, Self::KeyValues, Self::Answer];
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Randomness => "random numbers",
            Self::Time => "the time",
            Self::Variables => "variables of the environment or configuration, which may be secret",
            Self::KeyValues => "a key-value store",
            Self::Answer => "another service or function",
        })
    }
}

/// Why VMs are not put back to the state after the warm-up requests though the policy asks for it. They are put back to the
/// state in which they were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WarmRefusal {
    /// The warm-up requests asked for something that each request must get for itself.
    Drew {
        /// What.
        what: Draw,
    },
    /// A warm-up request was not answered.
    Failed {
        /// What happened.
        detail: String,
    },
    /// A VM in the warm state did not answer a warm-up request as a fresh one does.
    AnswersDiffer {
        /// The request, as `METHOD path`.
        request: String,
        /// How many requests warm VMs had answered before, the warm-up not counted.
        after: u32,
    },
    /// The guest held handles of the host's after the warm-up, other than streams to its log and their pollables: it would
    /// still know of them, and the host would not.
    HandlesKept,
    /// Two VMs that had been warmed up were not alike.
    StatesDiffer,
    /// A VM could not be put back after a warm-up request.
    Discarded {
        /// Why not.
        why: VmDiscard,
    },
    /// A rolled-back VM was not as it had been after the warm-up.
    CheckFailed,
    /// The test took too long.
    TookTooLong {
        /// Time there is, in milliseconds.
        max_ms: u64,
    },
    /// VMs cannot be put back to any state.
    NoState {
        /// Why not.
        why: Box<RollbackRefusal>,
    },
}

impl WarmRefusal {
    /// Stable label, for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Drew { .. } => "drew",
            Self::Failed { .. } => "warm-up-failed",
            Self::AnswersDiffer { .. } => "answers-differ",
            Self::HandlesKept => "handles-kept",
            Self::StatesDiffer => "states-differ",
            Self::Discarded { .. } => "not-put-back",
            Self::CheckFailed => "warm-check-failed",
            Self::TookTooLong { .. } => "took-too-long",
            Self::NoState { .. } => "no-state",
        }
    }
}

impl fmt::Display for WarmRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drew { what } => write!(f, "the warm-up asked for {what}: all requests would share what it got"),
            Self::Failed { detail } => write!(f, "a warm-up request failed: {detail}"),
            Self::AnswersDiffer { request, after } => write!(
                f,
                "a warmed-up VM did not answer {request} as a fresh one does, after {after} requests: the warm-up shows"
            ),
            Self::HandlesKept => f.write_str(
                "the guest held on to requests, headers or other things of the host after the warm-up, as runtimes do that give \
                 them back when they collect garbage",
            ),
            Self::StatesDiffer => f.write_str("two VMs that had been warmed up were not alike"),
            Self::Discarded { why } => {
                write!(f, "a VM could not be put back after a warm-up request because {}", why.explanation())
            }
            Self::CheckFailed => f.write_str("a rolled-back VM was not as it had been after the warm-up"),
            Self::TookTooLong { max_ms } => write!(f, "the test of the warm state took longer than {max_ms} ms"),
            Self::NoState { why } => write!(f, "VMs are not put back at all: {why}"),
        }
    }
}

/// Why a VM was thrown away after its request instead of being rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VmDiscard {
    /// The invocation failed: a trap, no response, an error.
    Failed,
    /// The invocation was stopped: out of time, or the client left.
    Stopped,
    /// The guest returned, and its response was not complete.
    BodyOpen,
    /// A memory grew; it cannot be made smaller again.
    MemoryGrew,
    /// A table grew; it cannot be made smaller again.
    TableGrew,
    /// The guest kept a handle to a resource of the host of which it is not known that it can be let go.
    HandlesLeft,
    /// The guest kept a handle to something that the host is still sending, or waits for an answer to.
    WorkPending,
    /// Its requests have kept as many handles as are told from those of later requests, or one had too many at once.
    StaleHandles,
    /// So many pages were written that a fresh VM is cheaper.
    TooManyPages,
    /// The kernel did not say which pages were written.
    ScanFailed,
    /// The guest's own code that puts its globals back trapped.
    RestoreTrapped,
    /// The VM's parts are not those of the first VM of its revision.
    Unlike,
    /// It has served as many requests as one VM may.
    WornOut,
    /// Enough others are idle, or it was for too long.
    Surplus,
    /// It was idle, and another function had no place for a VM.
    PlaceNeeded,
    /// It had been idle for longest, and idle VMs held more memory than they may.
    IdleMemory,
    /// It was idle, and the machine's memory was nearly exhausted.
    MemoryPressure,
    /// VMs are made with other room in their memory by now.
    RoomChanged,
    /// It was made for a request that found none, so without warm-up; one in the warm state has taken its place.
    NotWarm,
    /// The guest gave back a stream to its log that belongs to the warm state.
    StreamLost,
    /// The guest's own code that draws anew what requests must not share trapped.
    RenewTrapped,
    /// It has loaded code that its image leaves out, and cannot be entered any more.
    ColdCode,
}

/// Why VMs get no room in their memory, or no more, though requests have it grow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NoRoom {
    /// The component has no allocator that its host may ask, or more than one.
    NoAllocator,
    /// Its allocator trapped.
    Trapped,
    /// Its allocator called the host.
    HostCalled,
    /// Its allocator called code that the image leaves out, which spends a VM.
    ColdCode,
    /// Memory grew all the same.
    NotEnough,
    /// VMs are not rolled back any more, so that it would be of no use.
    NotRolledBack,
}

impl NoRoom {
    /// Stable label, for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoAllocator => "no-allocator",
            Self::Trapped => "trapped",
            Self::HostCalled => "host-called",
            Self::ColdCode => "cold-code",
            Self::NotEnough => "not-enough",
            Self::NotRolledBack => "not-rolled-back",
        }
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAllocator => "the component has no `cabi_realloc`, or more than one",
            Self::Trapped => "the component's allocator failed",
            Self::HostCalled => "the component's allocator called the host",
            Self::ColdCode => "the component's allocator called code that its image leaves out",
            Self::NotEnough => "memory grew all the same",
            Self::NotRolledBack => "its VMs are no longer rolled back",
        })
    }
}

/// Why new VMs get into the warm state by answering the warm-up requests, and not by a copy of that state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCopy {
    /// The guest holds streams to its log in it that are not its standard output or error, or pollables of such streams.
    StreamsOpen,
    /// The component calls its host when a VM is made, so that new VMs need not be alike.
    HostCalledAtStart,
    /// A VM into which the state was copied was not as one that was warmed up.
    NotAlike,
    /// A part of a VM could not be read or written.
    Failed {
        /// What happened.
        detail: String,
    },
}

impl NoCopy {
    /// Stable label, for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::StreamsOpen => "streams-open",
            Self::HostCalledAtStart => "host-called-at-start",
            Self::NotAlike => "not-alike",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for NoCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamsOpen => f.write_str(
                "after the warm-up the guest holds streams to its log that are not its standard output or error, or what waits for them",
            ),
            Self::HostCalledAtStart => f.write_str("the component calls its host when a VM is made"),
            Self::NotAlike => f.write_str("a VM with a copy of the state was not as one that was warmed up"),
            Self::Failed { detail } => write!(f, "a VM could not be read or written: {detail}"),
        }
    }
}

impl VmDiscard {
    /// Every value, in order.
    pub const ALL: [Self; 22] = [
        Self::Failed,
        Self::Stopped,
        Self::BodyOpen,
        Self::MemoryGrew,
        Self::TableGrew,
        Self::HandlesLeft,
        Self::WorkPending,
        Self::StaleHandles,
        Self::TooManyPages,
        Self::ScanFailed,
        Self::RestoreTrapped,
        Self::Unlike,
        Self::WornOut,
        Self::Surplus,
        Self::PlaceNeeded,
        Self::IdleMemory,
        Self::MemoryPressure,
        Self::RoomChanged,
        Self::NotWarm,
        Self::StreamLost,
        Self::RenewTrapped,
        Self::ColdCode,
    ];

    /// Stable label, for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::BodyOpen => "body-open",
            Self::MemoryGrew => "memory-grew",
            Self::TableGrew => "table-grew",
            Self::HandlesLeft => "handles-left",
            Self::WorkPending => "work-pending",
            Self::StaleHandles => "stale-handles",
            Self::TooManyPages => "too-many-pages",
            Self::ScanFailed => "scan-failed",
            Self::RestoreTrapped => "restore-trapped",
            Self::Unlike => "unlike",
            Self::WornOut => "worn-out",
            Self::Surplus => "surplus",
            Self::PlaceNeeded => "place-needed",
            Self::IdleMemory => "idle-memory",
            Self::MemoryPressure => "memory-pressure",
            Self::RoomChanged => "room-changed",
            Self::NotWarm => "not-warm",
            Self::StreamLost => "stream-lost",
            Self::RenewTrapped => "renew-trapped",
            Self::ColdCode => "cold-code",
        }
    }

    /// The end of a sentence that begins with "because".
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Failed => "the request failed",
            Self::Stopped => "the request was stopped before its end",
            Self::BodyOpen => "the guest returned before its response was complete",
            Self::MemoryGrew => "a memory grew, which cannot be undone",
            Self::TableGrew => "a table grew, which cannot be undone",
            Self::HandlesLeft => {
                "the guest kept a handle to something of the host, and it is not known whether that can be let go"
            }
            Self::WorkPending => "the guest left a request without its answer, or a body that was not finished",
            Self::StaleHandles => "its requests had kept as many handles as one VM may, or one had too many at once",
            Self::TooManyPages => "so much memory was written that a fresh VM is cheaper",
            Self::ScanFailed => "the kernel did not say which memory was written",
            Self::RestoreTrapped => "putting its globals back failed",
            Self::Unlike => "it was not made of the same parts as the first VM",
            Self::WornOut => "it had served as many requests as one VM may",
            Self::Surplus => "enough others were idle, or it was for too long",
            Self::PlaceNeeded => "it was idle and another function had no place for a VM",
            Self::IdleMemory => "it had been idle for longest and idle VMs held more memory than they may",
            Self::MemoryPressure => "it was idle and memory was nearly exhausted",
            Self::RoomChanged => "VMs are made with other room in their memory by now",
            Self::NotWarm => "a warmed-up VM has taken its place",
            Self::StreamLost => "the guest gave back a stream to its log that the warm state has",
            Self::RenewTrapped => "the guest's `renew` failed",
            Self::ColdCode => "it loaded code that its image leaves out",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = VmDiscard::ALL.map(VmDiscard::label).into();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), VmDiscard::ALL.len());
        let draws = Draw::ALL.iter().fold(0, |all, draw| all | *draw as u8);
        assert_eq!(draws.count_ones() as usize, Draw::ALL.len());
    }
}
