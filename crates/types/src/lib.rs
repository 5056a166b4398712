//! The words every other crate shares: ids, routes, specifications, limits, serve paths and trace context.
//!
//! Plain data and parsing of small strings. There is no I/O, no async and no clock here, and no
//! dependency on any other crate of the workspace.

pub mod digest;
pub mod function;
pub mod image;
pub mod learning;
pub mod limits;
pub mod name;
pub mod outbound;
pub mod profile;
pub mod rollback;
pub mod route;
pub mod serve_path;
pub mod session;
pub mod trace;
pub mod warm_up;

pub use digest::{ComponentDigest, DigestError};
pub use function::{FunctionSpec, ReusePolicy, RevisionNumber, SpecError};
pub use image::{EngineFingerprint, ImageKey, ImageState, ProfileDigest};
pub use learning::{LEARNING_MODES, LearningMode, LearningModeError};
pub use limits::FunctionLimits;
pub use name::{FunctionName, NameError};
pub use outbound::{OutboundHost, OutboundHostError};
pub use profile::{
    BodyHash, BuildPlan, CodePath, Coverage, LIBRARIES_MAX, Library, Optimisation, PROFILE_TEXT_BYTES_MAX,
    PROFILE_VERSION, Permille, ProfileError, ProfileSource, SpecializationProfile, VmParameters,
};
pub use rollback::{Draw, NoCopy, NoRoom, RollbackRefusal, VmDiscard, WarmRefusal};
pub use route::{PathPattern, RouteError, RoutePattern};
pub use serve_path::{GenericReason, Outcome, ServePath};
pub use session::{SessionKey, SessionSource, SessionSourceError};
pub use trace::{InvocationId, SpanId, TraceContext, TraceId, TraceParentError};
pub use warm_up::{CallAnswer, WarmUpFault, WarmUpRequest};
