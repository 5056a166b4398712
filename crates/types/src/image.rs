//! What names an image and how one stands: the words that builders, the cache and the command line share.
//!
//! What is inside an image, and how it is made and kept, is known elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::{ComponentDigest, DigestError, hex, unhex};

const PREFIX: &str = "sha256:";

/// What an image is made of and for. The same key means the same machine code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageKey {
    /// The base it was made from.
    pub component: ComponentDigest,
    /// What was to be specialized, and how.
    pub profile: ProfileDigest,
    /// What can run it.
    pub engine: EngineFingerprint,
}

impl fmt::Display for ImageKey {
    /// The first digits of each part, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.component.short(), self.profile.short(), self.engine.short())
    }
}

/// A 32-byte newtype that is written and read as [`ComponentDigest`] is.
macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }

            /// The digest that was written down as these 32 bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the hash.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 hexadecimal digits without the `sha256:` prefix; usable in a file name.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// The first 12 digits, for people.
            pub fn short(&self) -> String {
                hex(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{PREFIX}{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let digits = text.strip_prefix(PREFIX).ok_or(DigestError::UnknownAlgorithm)?;
                let mut bytes = [0; 32];
                if unhex(digits.as_bytes(), &mut bytes) { Ok(Self(bytes)) } else { Err(DigestError::BadHex) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = DigestError;

            fn try_from(text: String) -> Result<Self, DigestError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> Self {
                digest.to_string()
            }
        }
    };
}

digest! {
    /// SHA-256 of a specialization profile in its canonical bytes, written `sha256:<64 hex digits>`.
    ProfileDigest
}

digest! {
    /// SHA-256 of everything that decides whether machine code can run here: the engine's name, version and settings
    /// and the features of the CPU, in an order the engine's driver fixes. Written `sha256:<64 hex digits>`.
    EngineFingerprint
}

/// How an image stands in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// On disk; it is authenticated when it is next loaded.
    Stored,
    /// Authenticated and in memory.
    Loaded,
    /// Being built.
    Building,
    /// A build failed a short time ago; the next one waits.
    BackingOff,
    /// Builds failed repeatedly, or the image did harm; no build before its time is up.
    Quarantined,
    /// Not here: never built, evicted, refused or discarded.
    Absent,
}

impl ImageState {
    /// Every value, in order; for metrics that must exist before the first image.
    pub const ALL: [Self; 6] =
        [Self::Stored, Self::Loaded, Self::Building, Self::BackingOff, Self::Quarantined, Self::Absent];

    /// Stable label: metrics, the admin API, the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Loaded => "loaded",
            Self::Building => "building",
            Self::BackingOff => "backing_off",
            Self::Quarantined => "quarantined",
            Self::Absent => "absent",
        }
    }
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_what_they_write() {
        let profile = ProfileDigest::of(b"abc");
        assert_eq!(profile.to_string(), ComponentDigest::of(b"abc").to_string());
        assert_eq!(profile.to_string().parse(), Ok(profile));
        assert_eq!(EngineFingerprint::from_bytes(*profile.as_bytes()).hex(), profile.hex());
        assert_eq!("md5:00".parse::<ProfileDigest>(), Err(DigestError::UnknownAlgorithm));
        assert_eq!("sha256:00".parse::<EngineFingerprint>(), Err(DigestError::BadHex));
    }

    #[test]
    fn a_key_shows_the_start_of_each_part() {
        let key = ImageKey {
            component: ComponentDigest::of(b"abc"),
            profile: ProfileDigest::of(b"abc"),
            engine: EngineFingerprint::of(b""),
        };
        assert_eq!(key.to_string(), "ba7816bf8f01/ba7816bf8f01/e3b0c44298fc");
    }

    #[test]
    fn state_labels_are_distinct() {
        let mut labels = ImageState::ALL.map(ImageState::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ImageState::ALL.len());
    }
}
