//! What one compilation leaves to the next: the machine code of function bodies, by a hash of what each was made of.
//!
//! A component that is deployed again differs little from the one before it, and what its compiler would make of a body
//! that is the same is the same. The code in here is taken as it is: whoever gives it vouches for it, and that it is of
//! this build. What cannot be read counts as nothing.
//!
//! ```text
//!  hash of the body and of everything that its code depends on, 32 bytes │ length, 4 bytes, little-endian │ code │ ...
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use wasmtime::CacheStore;

const KEY_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

type Key = [u8; KEY_BYTES];

/// The bodies of one compilation.
#[derive(Debug)]
pub(super) struct Bodies {
    before: Vec<u8>,
    known: HashMap<Key, Known>,
    made: Mutex<BTreeMap<Key, Vec<u8>>>,
}

/// Where the code of a body is in `before`, and whether the compilation wanted it.
#[derive(Debug)]
struct Known {
    place: Range<usize>,
    is_used: AtomicBool,
}

impl Bodies {
    /// Those that an earlier compilation left; none, if that is not what `before` holds.
    pub(super) fn of(before: Vec<u8>) -> Self {
        let known = places(&before).unwrap_or_default();
        Self { before, known, made: Mutex::default() }
    }

    /// How many bodies were taken from before, and how many were made.
    pub(super) fn counts(&self) -> (usize, usize) {
        let reused = self.known.values().filter(|known| known.is_used.load(Ordering::Relaxed)).count();
        (reused, self.made.lock().len())
    }

    /// Those of this compilation, for the next one: the same bytes for the same bodies.
    pub(super) fn leave(&self) -> Vec<u8> {
        let made = self.made.lock();
        let used = self.known.iter().filter(|(_, known)| known.is_used.load(Ordering::Relaxed));
        let used = used.map(|(key, known)| (key, &self.before[known.place.clone()]));
        let all: BTreeMap<&Key, &[u8]> = made.iter().map(|(key, code)| (key, code.as_slice())).chain(used).collect();
        let mut left = Vec::with_capacity(all.values().map(|code| KEY_BYTES + LENGTH_BYTES + code.len()).sum());
        for (key, code) in all {
            let Ok(length) = u32::try_from(code.len()) else { continue };
            left.extend_from_slice(key);
            left.extend_from_slice(&length.to_le_bytes());
            left.extend_from_slice(code);
        }
        left
    }
}

impl CacheStore for Bodies {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let known = self.known.get(key)?;
        known.is_used.store(true, Ordering::Relaxed);
        Some(Cow::Borrowed(&self.before[known.place.clone()]))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let Ok(key) = Key::try_from(key) else { return false };
        self.made.lock().insert(key, value);
        true
    }
}

/// Where each body is; `None` if the bytes are anything else.
fn places(bytes: &[u8]) -> Option<HashMap<Key, Known>> {
    let mut places = HashMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let (key, rest) = bytes[at..].split_first_chunk::<KEY_BYTES>()?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > rest.len() {
            return None;
        }
        let start = at + KEY_BYTES + LENGTH_BYTES;
        places.insert(*key, Known { place: start..start + length, is_used: AtomicBool::new(false) });
        at = start + length;
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_or_made_is_left_and_nothing_else() {
        let (one, two, three) = ([1; KEY_BYTES], [2; KEY_BYTES], [3; KEY_BYTES]);
        let first = Bodies::of(Vec::new());
        assert!(first.get(&one).is_none() && first.insert(&two, vec![2; 5]) && first.insert(&one, vec![]));
        assert!(!first.insert(b"short", vec![]));
        let second = Bodies::of(first.leave());
        assert_eq!(second.get(&two).as_deref(), Some(&[2; 5][..]));
        assert!(second.insert(&three, vec![3]));
        assert_eq!(second.counts(), (1, 1));
        let third = Bodies::of(second.leave());
        assert!(third.get(&one).is_none(), "of a body that is gone");
        assert_eq!(third.get(&three).as_deref(), Some(&[3][..]));
    }

    #[test]
    fn any_other_bytes_are_none() {
        let mut whole = [&[7; KEY_BYTES][..], &3u32.to_le_bytes(), b"abc"].concat();
        assert_eq!(places(&whole).map(|places| places.len()), Some(1));
        for cut in 1..whole.len() {
            assert!(places(&whole[..cut]).is_none(), "{cut}");
        }
        whole[KEY_BYTES..][..LENGTH_BYTES].fill(0xff);
        assert!(places(&whole).is_none() && Bodies::of(whole).leave().is_empty());
    }
}
