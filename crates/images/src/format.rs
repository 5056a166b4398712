//! The image file, byte by byte, and its name.
//!
//! ```text
//! offset  bytes  all numbers little-endian
//!      0      8  magic "FORERUNI"
//!      8      4  format version, 2
//!     12      4  length of the meta
//!     16      8  length of the whole file
//!     24     32  component digest
//!     56     32  profile digest
//!     88     32  engine fingerprint
//!    120      m  meta, JSON (see `meta.rs`)
//!  120+m      p  payload: machine code, at least one byte
//!    end     32  keyed BLAKE3 over everything before it
//! ```
//!
//! A file is named `<component>-<profile>-<engine>.image`, each in hexadecimal, so that even a file of zero bytes
//! tells whose image is lost. Reading and judging a file is `load.rs`.

use forerun_types::{ComponentDigest, EngineFingerprint, ImageKey, ProfileDigest};

use crate::flaw::Flaw;
use crate::meta::ImageMeta;

pub(crate) const MAGIC: [u8; 8] = *b"FORERUNI";
/// Goes up with every change of the layout, of the meta's fields or of what is authenticated.
pub(crate) const VERSION: u32 = 2;
pub(crate) const HEADER_BYTES: usize = 120;
pub(crate) const CODE_BYTES: usize = 32;
/// The meta has three short fields and some notes; a reader never takes more than this into memory for it.
pub(crate) const META_BYTES_MAX: usize = 8192;
const ENDING: &str = ".image";
/// Hexadecimal digits of each part of a file name.
const DIGITS: usize = 64;

/// The fixed part of a file, read and found to be consistent with the file's length and the key asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) meta_bytes: usize,
    pub(crate) payload_bytes: u64,
}

/// Length of the file for a payload and a meta of these lengths.
pub(crate) fn file_bytes(meta_bytes: usize, payload_bytes: u64) -> u64 {
    payload_bytes.saturating_add((HEADER_BYTES + meta_bytes + CODE_BYTES) as u64)
}

/// Header and meta as they stand in the file. Both are bounded by construction of [`ImageMeta`].
pub(crate) fn head(key: &ImageKey, meta: &ImageMeta, payload_bytes: u64) -> Vec<u8> {
    let meta = serde_json::to_vec(meta).expect("numbers and texts can be written as JSON");
    assert!(meta.len() <= META_BYTES_MAX, "a label is short, and so are notes");
    let mut head = Vec::with_capacity(HEADER_BYTES + meta.len());
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((meta.len() as u32).to_le_bytes());
    head.extend(file_bytes(meta.len(), payload_bytes).to_le_bytes());
    head.extend(key.component.as_bytes());
    head.extend(key.profile.as_bytes());
    head.extend(key.engine.as_bytes());
    assert_eq!(head.len(), HEADER_BYTES, "the layout is fixed");
    head.extend(meta);
    head
}

/// Reads the fixed part of a file of `file_bytes` bytes that should hold the image of `key`. Nothing it says is
/// believed before the whole file is authenticated; what contradicts itself need not be read any further.
pub(crate) fn parse(head: &[u8; HEADER_BYTES], file_bytes: u64, key: &ImageKey) -> Result<Header, Flaw> {
    if head[..8] != MAGIC {
        return Err(Flaw::ForeignFormat);
    }
    let version = u32_at(head, 8);
    if version > VERSION {
        return Err(Flaw::NewerFormat { found: version });
    }
    if version < VERSION {
        return Err(Flaw::ForeignFormat);
    }
    if u64_at(head, 16) != file_bytes {
        return Err(Flaw::Torn);
    }
    if head[88..120] != *key.engine.as_bytes() {
        return Err(Flaw::ForeignEngine);
    }
    if head[24..56] != *key.component.as_bytes() || head[56..88] != *key.profile.as_bytes() {
        return Err(Flaw::OtherKey);
    }
    let meta_bytes = u32_at(head, 12) as usize;
    let around = (HEADER_BYTES + meta_bytes.min(META_BYTES_MAX) + CODE_BYTES) as u64;
    let payload_bytes = file_bytes.saturating_sub(around);
    // We never wrote such a file, so somebody changed it.
    if meta_bytes > META_BYTES_MAX || payload_bytes == 0 {
        return Err(Flaw::Tampered);
    }
    Ok(Header { meta_bytes, payload_bytes })
}

/// The name of the file that holds the image of `key`.
pub(crate) fn file_name(key: &ImageKey) -> String {
    format!("{}-{}-{}{ENDING}", key.component.hex(), key.profile.hex(), key.engine.hex())
}

/// Whose image the file of that name should hold; `None` if it is not named as we name images.
pub(crate) fn key_of_file_name(name: &str) -> Option<ImageKey> {
    let digits = name.strip_suffix(ENDING)?;
    let mut parts = digits.split('-');
    let mut part = || parts.next().filter(|part| part.len() == DIGITS).map(|part| format!("sha256:{part}"));
    let (component, profile, engine) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return None;
    }
    Some(ImageKey {
        component: component.parse::<ComponentDigest>().ok()?,
        profile: profile.parse::<ProfileDigest>().ok()?,
        engine: engine.parse::<EngineFingerprint>().ok()?,
    })
}

fn u32_at(head: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(head: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meta::{ImageLabel, PassNotes};

    fn key() -> ImageKey {
        ImageKey {
            component: ComponentDigest::of(b"component"),
            profile: ProfileDigest::from_bytes([0x11; 32]),
            engine: EngineFingerprint::from_bytes([0x22; 32]),
        }
    }

    fn meta() -> ImageMeta {
        let label = ImageLabel::new("t0").unwrap();
        ImageMeta { created_unix_ms: 1_700_000_000_000, build_ms: 1500, label, passes: PassNotes::default() }
    }

    fn parsed(head: &[u8], file_bytes: u64) -> Result<Header, Flaw> {
        parse(head[..HEADER_BYTES].try_into().unwrap(), file_bytes, &key())
    }

    /// Files in the field look like this. If it fails, raise `VERSION`; do not edit the bytes.
    #[test]
    fn golden_head() {
        let mut expected = b"FORERUNI\x02\0\0\0\x4a\0\0\0\xea\0\0\0\0\0\0\0".to_vec();
        expected.extend(ComponentDigest::of(b"component").as_bytes());
        expected.extend([0x11; 32]);
        expected.extend([0x22; 32]);
        expected.extend(br#"{"created_unix_ms":1700000000000,"build_ms":1500,"label":"t0","passes":[]}"#);
        let head = head(&key(), &meta(), 8);
        assert_eq!(head, expected, "{}", String::from_utf8_lossy(&head));
    }

    #[test]
    fn reads_what_it_writes() {
        let head = head(&key(), &meta(), 100);
        let file_bytes = head.len() as u64 + 100 + CODE_BYTES as u64;
        let header = Header { meta_bytes: head.len() - HEADER_BYTES, payload_bytes: 100 };
        assert_eq!(parsed(&head, file_bytes), Ok(header));
    }

    #[test]
    fn each_contradiction_has_its_name() {
        let good = head(&key(), &meta(), 100);
        let file_bytes = good.len() as u64 + 100 + CODE_BYTES as u64;
        let changed = |offset: usize, byte: u8| {
            let mut head = good.clone();
            head[offset] = byte;
            parsed(&head, file_bytes)
        };
        assert_eq!(changed(0, b'f'), Err(Flaw::ForeignFormat));
        assert_eq!(changed(8, 0), Err(Flaw::ForeignFormat));
        assert_eq!(changed(8, 1), Err(Flaw::ForeignFormat));
        assert_eq!(changed(8, 3), Err(Flaw::NewerFormat { found: 3 }));
        assert_eq!(changed(13, 0xff), Err(Flaw::Tampered));
        assert_eq!(changed(24, 0), Err(Flaw::OtherKey));
        assert_eq!(changed(56, 0), Err(Flaw::OtherKey));
        assert_eq!(changed(88, 0), Err(Flaw::ForeignEngine));
        assert_eq!(parsed(&good, file_bytes - 1), Err(Flaw::Torn));
        let empty = head(&key(), &meta(), 0);
        assert_eq!(parsed(&empty, empty.len() as u64 + CODE_BYTES as u64), Err(Flaw::Tampered));
    }

    #[test]
    fn names_lead_back_to_keys() {
        let name = file_name(&key());
        assert_eq!(key_of_file_name(&name), Some(key()));
        // With the ending of an unfinished file it still fits what file systems allow.
        assert!(name.len() + crate::files::UNFINISHED.len() <= 255);
        for other in ["", ".image", "index", "a-b-c.image", &name.to_uppercase(), &name.replace('-', "_")] {
            assert_eq!(key_of_file_name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_head_is_answered(head in proptest::collection::vec(any::<u8>(), HEADER_BYTES), length in any::<u64>()) {
            prop_assert!(parsed(&head, length).is_err());
        }

        #[test]
        fn any_name_is_answered(name in "[0-9a-f-]{0,220}(\\.image)?") {
            if let Some(key) = key_of_file_name(&name) {
                prop_assert_eq!(file_name(&key), name);
            }
        }
    }
}
