//! How a request was served and how it ended: closed lists, each with a stable label for metrics and a line for people.

use std::fmt;

/// Which rung of the ladder of readiness served a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServePath {
    /// A VM made ready before the request came, because it was expected.
    Ready,
    /// A VM that had served earlier requests of this function and was put back to the state in which it was made.
    RolledBack,
    /// A VM already at work on earlier requests of this function served it (reuse policy).
    Reused,
    /// A new VM into which the function's warm state was copied when the request came.
    Specialized,
    /// Standard initialization.
    Generic(GenericReason),
}

/// Why a request was served by standard initialization.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GenericReason {
    /// No specialized image of this revision exists.
    NoImage,
    /// No VM was held ready: the request was not expected with enough probability to pay for one.
    BelowThreshold,
    /// VMs were held ready, and other requests had taken them all.
    AllTaken,
    /// A VM was held ready and left alone: this request shows what it would have cost without one.
    Control,
    /// A VM that had been put back was left alone: this request shows what it would have cost without one.
    ControlRolledBack,
    /// The warm state could have been copied into a new VM: this request shows what it would have cost without.
    ControlSpecialized,
    /// A VM made ready failed before it had done anything that counts; a new one served the request again.
    RetriedReady,
    /// A VM that had been put back failed before it had done anything that counts; a new one served the request again.
    RetriedRolledBack,
    /// A VM with a copy of the warm state failed before it had done anything that counts; a new one served the request again.
    RetriedSpecialized,
    /// VMs prepared earlier had turned out to serve worse than new ones, so they are left alone for a while.
    Quarantined,
    /// Served by the instrumented twin: this request shows which code of the function runs.
    Sampled,
    /// Making VMs ready is switched off by the operator, for the node or for this function.
    Disabled,
}

impl ServePath {
    /// Every value, in order; for metrics that must exist before the first request.
    pub const ALL: [Self; 16] = [
        Self::Ready,
        Self::RolledBack,
        Self::Reused,
        Self::Specialized,
        Self::Generic(GenericReason::NoImage),
        Self::Generic(GenericReason::BelowThreshold),
        Self::Generic(GenericReason::AllTaken),
        Self::Generic(GenericReason::Control),
        Self::Generic(GenericReason::ControlRolledBack),
        Self::Generic(GenericReason::ControlSpecialized),
        Self::Generic(GenericReason::RetriedReady),
        Self::Generic(GenericReason::RetriedRolledBack),
        Self::Generic(GenericReason::RetriedSpecialized),
        Self::Generic(GenericReason::Quarantined),
        Self::Generic(GenericReason::Sampled),
        Self::Generic(GenericReason::Disabled),
    ];

    /// Stable label: metrics, `Server-Timing`, logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::RolledBack => "rolled-back",
            Self::Reused => "reused",
            Self::Specialized => "specialized",
            Self::Generic(GenericReason::NoImage) => "generic-no-image",
            Self::Generic(GenericReason::BelowThreshold) => "generic-below-threshold",
            Self::Generic(GenericReason::AllTaken) => "generic-all-taken",
            Self::Generic(GenericReason::Control) => "generic-control",
            Self::Generic(GenericReason::ControlRolledBack) => "generic-control-rolled-back",
            Self::Generic(GenericReason::ControlSpecialized) => "generic-control-specialized",
            Self::Generic(GenericReason::RetriedReady) => "generic-retried-ready",
            Self::Generic(GenericReason::RetriedRolledBack) => "generic-retried-rolled-back",
            Self::Generic(GenericReason::RetriedSpecialized) => "generic-retried-specialized",
            Self::Generic(GenericReason::Quarantined) => "generic-quarantined",
            Self::Generic(GenericReason::Sampled) => "generic-sampled",
            Self::Generic(GenericReason::Disabled) => "generic-disabled",
        }
    }

    /// One line for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Ready => "served by a VM that had been made ready because this request was expected",
            Self::RolledBack => {
                "served by a VM of an earlier request that had been put back to the state in which it was made"
            }
            Self::Reused => "served by a VM kept from an earlier request, as the function's reuse policy asks",
            Self::Specialized => {
                "served by a new VM that began with a copy of the state after the function's warm-up requests"
            }
            Self::Generic(GenericReason::NoImage) => {
                "standard initialization: no specialized image of this revision exists"
            }
            Self::Generic(GenericReason::BelowThreshold) => {
                "standard initialization: the request was not expected with enough probability to hold a VM ready"
            }
            Self::Generic(GenericReason::AllTaken) => {
                "standard initialization: every VM held ready had been taken by other requests"
            }
            Self::Generic(GenericReason::Control) => {
                "standard initialization: held out as control, so that the benefit of a ready VM is measured"
            }
            Self::Generic(GenericReason::ControlRolledBack) => {
                "standard initialization: held out as control, so that the benefit of VMs that are put back is measured"
            }
            Self::Generic(GenericReason::ControlSpecialized) => {
                "standard initialization: held out as control, so that the benefit of a copy of the warm state is measured"
            }
            Self::Generic(GenericReason::RetriedReady) => {
                "standard initialization, second attempt: the VM made ready for it had failed before it did or sent anything"
            }
            Self::Generic(GenericReason::RetriedRolledBack) => {
                "standard initialization, second attempt: the VM put back for it had failed before it did or sent anything"
            }
            Self::Generic(GenericReason::RetriedSpecialized) => {
                "standard initialization, second attempt: the VM with a copy of the warm state had failed before it did or sent \
                 anything"
            }
            Self::Generic(GenericReason::Quarantined) => {
                "standard initialization: VMs prepared for this function served worse than new ones and are left alone for \
                 a while"
            }
            Self::Generic(GenericReason::Sampled) => {
                "standard initialization of the instrumented twin: this request shows which code of the function runs"
            }
            Self::Generic(GenericReason::Disabled) => {
                "standard initialization: the operator has switched off making VMs ready, for the node or for this function"
            }
        }
    }
}

impl fmt::Display for ServePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How an invocation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The response was delivered whole.
    Ok,
    /// The guest trapped: unreachable, out of bounds, stack overflow, or an exit before a response.
    Trap,
    /// The guest used more time than allowed.
    Timeout,
    /// The guest wanted more memory than allowed and failed.
    OutOfMemory,
    /// The guest returned without setting a response.
    NoResponse,
    /// The guest answered with a `wasi:http` error code or an invalid response.
    GuestError,
    /// The response body was longer than allowed.
    ResponseTooLarge,
    /// The client left before the end; the guest was stopped.
    ClientGone,
    /// The VM could not be made: no free slot, or instantiation failed.
    NoVm,
    /// Refused before any VM: queue full or waited too long.
    Rejected,
}

impl Outcome {
    /// Every value, in order; for metrics that must exist before the first request.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Trap,
        Self::Timeout,
        Self::OutOfMemory,
        Self::NoResponse,
        Self::GuestError,
        Self::ResponseTooLarge,
        Self::ClientGone,
        Self::NoVm,
        Self::Rejected,
    ];

    /// Stable label: metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::NoResponse => "no_response",
            Self::GuestError => "guest_error",
            Self::ResponseTooLarge => "response_too_large",
            Self::ClientGone => "client_gone",
            Self::NoVm => "no_vm",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = Outcome::ALL.map(Outcome::label).into();
        labels.extend(ServePath::ALL.map(ServePath::label));
        let count = labels.len();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), count);
    }
}
