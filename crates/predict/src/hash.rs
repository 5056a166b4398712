//! Hashing without secrets or randomness: the same events must give the same tables on every machine.
//!
//! Keys are mixed before they reach a table, and every table built on them is bounded, so a caller who finds colliding
//! keys can make one table slower up to its bound and no more.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Mixes a 64-bit number so that every input bit affects every output bit (finaliser of SplitMix64).
#[inline]
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Combines two numbers into one mixed key; not symmetric.
#[inline]
pub fn combine(first: u64, second: u64) -> u64 {
    mix(mix(first) ^ second.rotate_left(32).wrapping_mul(0x9fb2_1c65_1e98_df25))
}

/// Mixes bytes into a key (FNV-1a, then the finaliser).
pub fn bytes(input: &[u8]) -> u64 {
    parts([input])
}

/// As [`bytes`] of all parts one after the other, without putting them together.
pub fn parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
    let bytes = parts.into_iter().flatten();
    let folded =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    mix(folded)
}

/// Hasher of integer keys for [`KeyMap`].
#[derive(Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, input: &[u8]) {
        self.0 = combine(self.0, bytes(input));
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = combine(self.0, u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = combine(self.0, value);
    }
}

/// A hash map whose behaviour is a function of its content and history alone. Never iterate it where the order shows:
/// sort first.
pub type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// Hasher of keys that are mixed already, for [`MixedMap`].
#[derive(Default, Clone, Copy)]
pub struct MixedHasher(u64);

impl Hasher for MixedHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, input: &[u8]) {
        self.0 = combine(self.0, bytes(input));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// As [`KeyMap`], for keys made by [`mix`] or [`combine`]: to mix them again would only cost time.
pub type MixedMap<V> = HashMap<u64, V, BuildHasherDefault<MixedHasher>>;

/// Entries that a hash map of so many places, a power of two, holds before it doubles: seven in eight. A table that is
/// bounded by its places instead would double for its last eighth and stay half empty.
pub fn entries_of(places: usize) -> usize {
    places - places / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn small_numbers_do_not_collide() {
        let keys: BTreeSet<u64> = (0..100_000).map(mix).collect();
        assert_eq!(keys.len(), 100_000);
    }

    #[test]
    fn a_map_holds_its_entries_without_doubling() {
        let mut map = MixedMap::default();
        for places in [16, 1 << 10, 1 << 15] {
            (map.len() as u64..entries_of(places) as u64).for_each(|key| _ = map.insert(mix(key), ()));
            assert_eq!(map.capacity(), entries_of(places));
        }
    }

    #[test]
    fn order_matters() {
        assert_ne!(combine(1, 2), combine(2, 1));
        assert_ne!(bytes(b"ab"), bytes(b"ba"));
        assert_eq!(bytes(b"abc"), parts([&b"a"[..], b"", b"bc"]));
    }
}
