//! Which images give way to a new one. A pure function over what is stored; the files are removed elsewhere.
//!
//! Least valuable first (milliseconds saved per byte), among equals the least recently used, then by key, so that
//! the choice depends on nothing else. Never one that is leased, pinned or being loaded, and never one that is
//! worth more than the newcomer: two images would else take turns in throwing each other out.

use std::cmp::Ordering;

use forerun_types::ImageKey;

/// A stored image that could give way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Candidate {
    pub(crate) key: ImageKey,
    pub(crate) bytes: u64,
    pub(crate) value: f64,
    pub(crate) last_use: u64,
}

/// What must become free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) images: usize,
}

/// There are not enough images that may give way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotEnough {
    /// What giving up all of them would make free, in bytes.
    pub(crate) evictable_bytes: u64,
}

/// The images to remove, in order, none if nothing is needed; or none at all if that is not enough.
pub(crate) fn choose(
    mut candidates: Vec<Candidate>,
    need: Need,
    newcomer_value: f64,
) -> Result<Vec<ImageKey>, NotEnough> {
    candidates.retain(|candidate| candidate.value.total_cmp(&newcomer_value) != Ordering::Greater);
    candidates.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.last_use.cmp(&b.last_use)).then(a.key.cmp(&b.key)));
    let mut victims = Vec::new();
    let mut bytes = 0u64;
    for candidate in candidates {
        if bytes >= need.bytes && victims.len() >= need.images {
            break;
        }
        bytes = bytes.saturating_add(candidate.bytes);
        victims.push(candidate.key);
    }
    if bytes >= need.bytes && victims.len() >= need.images {
        Ok(victims)
    } else {
        Err(NotEnough { evictable_bytes: bytes })
    }
}

#[cfg(test)]
mod tests {
    use forerun_types::{ComponentDigest, EngineFingerprint, ProfileDigest};
    use proptest::prelude::*;

    use super::*;

    fn candidate(number: u8, bytes: u64, value: f64, last_use: u64) -> Candidate {
        let key = ImageKey {
            component: ComponentDigest::of(&[number]),
            profile: ProfileDigest::of(b""),
            engine: EngineFingerprint::of(b""),
        };
        Candidate { key, bytes, value, last_use }
    }

    #[test]
    fn least_value_first_then_least_recent() {
        let all = vec![candidate(0, 10, 2.0, 1), candidate(1, 10, 1.0, 9), candidate(2, 10, 1.0, 3)];
        let keys = |numbers: &[usize]| numbers.iter().map(|number| all[*number].key).collect::<Vec<_>>();
        let choice = |bytes, value| choose(all.clone(), Need { bytes, images: 0 }, value);
        assert_eq!(choice(0, 5.0), Ok(vec![]));
        assert_eq!(choice(10, 5.0), Ok(keys(&[2])));
        assert_eq!(choice(11, 5.0), Ok(keys(&[2, 1])));
        assert_eq!(choice(30, 5.0), Ok(keys(&[2, 1, 0])));
        assert_eq!(choice(31, 5.0), Err(NotEnough { evictable_bytes: 30 }));
        assert_eq!(choice(21, 1.5), Err(NotEnough { evictable_bytes: 20 }));
    }

    proptest! {
        #[test]
        fn takes_enough_and_no_more(
            images in proptest::collection::vec((1..50u64, 0..4u8, 0..9u64), 0..12),
            bytes in 0..300u64, count in 0..5usize, newcomer in 0..4u8,
        ) {
            let all: Vec<_> = images.iter().enumerate()
                .map(|(number, (bytes, value, last_use))| candidate(number as u8, *bytes, f64::from(*value), *last_use))
                .collect();
            let size = |key: &ImageKey| all.iter().find(|candidate| candidate.key == *key).unwrap().bytes;
            let allowed = all.iter().filter(|candidate| candidate.value <= f64::from(newcomer));
            let (most, number) = allowed.fold((0, 0), |(most, number), candidate| (most + candidate.bytes, number + 1));
            match choose(all.clone(), Need { bytes, images: count }, f64::from(newcomer)) {
                Ok(victims) => {
                    let freed: u64 = victims.iter().map(size).sum();
                    prop_assert!(freed >= bytes && victims.len() >= count);
                    if let Some(last) = victims.last() {
                        prop_assert!(freed - size(last) < bytes || victims.len() - 1 < count);
                    }
                }
                Err(NotEnough { evictable_bytes }) => {
                    prop_assert_eq!(evictable_bytes, most);
                    prop_assert!(most < bytes || number < count);
                }
            }
        }
    }
}
