//! The image cache: files of machine code that are authenticated before they are used, leased while they are used,
//! and bounded in size.
//!
//! ```text
//! images.secret                                beside the folder, made at first start (`CacheSecret`)
//! images/<component>-<profile>-<engine>.image  one image each, written once (`format.rs`)
//! images/index                                 statistics, quarantine, what went and why (`index.rs`)
//! ```
//!
//! An image is native code that will be run in this process, so a file is believed only after its keyed BLAKE3 code
//! was found to fit, and what is handed out is a sealed copy in memory of exactly the bytes that were authenticated
//! (`load.rs`). The files are the truth: whatever is lost or damaged costs speed, never an answer, and every miss
//! has a name ([`Miss`]).
//!
//! What the code is for is not known here: no VM kind is. Which image to build, and whether it does any good, is
//! decided elsewhere. Calls wait for the disk: none belongs on the request path.

mod cache;
mod claim;
mod clock;
mod counters;
mod discard;
mod evict;
mod files;
mod flaw;
mod format;
mod index;
mod list;
mod load;
mod meta;
mod miss;
mod publish;
mod record;
mod secret;
mod stock;
mod trouble;

pub use cache::{ImageCache, ImageCacheSettings, ImageLease, OpenError};
pub use claim::{BUILDS_MAX, BuildTicket, Claim, Forgiven};
pub use clock::{Clock, SystemClock};
pub use counters::ImageCounters;
pub use discard::Discarded;
pub use flaw::Flaw;
pub use list::ImageRow;
pub use meta::{ImageLabel, ImageMeta, LABEL_BYTES_MAX, LabelError, NoteText, PassNote, PassNotes};
pub use miss::{DiscardReason, Gone, GoneReason, Miss};
pub use publish::{PublishError, Published, VerifiedPayload};
pub use secret::{CacheSecret, SecretError};
pub use trouble::QUARANTINE_FAILURES;
