//! Whether a piece of memory is as it was, without a look at how it was: its fingerprint under a secret random key.
//!
//! A VM is put back after each request, and most of what was written then is as it was. To compare it with a copy reads
//! twice as much memory as is compared, and pushes that much out of the processor's cache that the next request needs
//! (measured with a Python function: .45 ms a request with copies, .39 so). A fingerprint takes a thirty-second.
//!
//! A piece is 64 words m₀ … m₆₃ of 64 bits, and so is the key k. With ⊗ for the product of polynomials over GF(2), which is a
//! multiplication without carries, the fingerprint is the sum (exclusive or) over the pairs of words
//!
//! ```text
//! H(m) = ⊕ (m₂ᵢ ⊕ k₂ᵢ) ⊗ (m₂ᵢ₊₁ ⊕ k₂ᵢ₊₁)      i = 0 … 31, 128 bits
//! ```
//!
//! *For any two different pieces, at most one of 2⁶⁴ keys gives both the same.* They differ in a pair of words, let it be in
//! the second of it. Whatever the other words of the key are, the two fingerprints are equal only if k₂ᵢ ⊗ (m₂ᵢ₊₁ ⊕ m′₂ᵢ₊₁)
//! is some fixed value, and since the second factor is not 0 one k₂ᵢ at most does that. So a guest that does not know the key,
//! which is never where it can read it, cannot do better than chance. (NH of UMAC, Black and others 1999, with the
//! multiplication of CLHASH, Lemire and Kaser 2015. It is no fingerprint for those who know the key.)

use std::arch::x86_64::{
    __m128i, _MM_HINT_T0, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_prefetch, _mm_set_epi64x, _mm_setzero_si128,
    _mm_unpackhi_epi64, _mm_xor_si128,
};

/// Bytes of a piece.
pub(crate) const PIECE_BYTES: usize = 512;
const WORDS: usize = PIECE_BYTES / 8;
const CACHE_LINE_BYTES: usize = 64;

/// A piece of memory.
pub(crate) type Piece = [u8; PIECE_BYTES];

/// What is known of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint([u64; 2]);

/// Takes fingerprints. There is one only where the processor multiplies without carries.
pub(crate) struct Fingerprinter {
    key: [u64; WORDS],
}

impl Fingerprinter {
    /// With a key that nobody knows; `None` where the processor has no such multiplication, or the system no randomness.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = [0; PIECE_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Self::with_key(words(&bytes))
    }

    fn with_key(key: [u64; WORDS]) -> Option<Self> {
        std::arch::is_x86_feature_detected!("pclmulqdq").then_some(Self { key })
    }

    /// The fingerprint of a piece.
    pub(crate) fn of(&self, piece: &Piece) -> Fingerprint {
        // SAFETY: `with_key` makes the only values of this type, and only where the processor has the instruction; it
        // does not lose it. The function does nothing else that is not safe.
        unsafe { of(&self.key, piece) }
    }
}

/// Has a piece come into the processor's cache while something else is done.
pub(crate) fn fetch_ahead(piece: &[u8]) {
    for line in piece.chunks(CACHE_LINE_BYTES) {
        // SAFETY: a hint, for an address within a slice that is borrowed; it changes nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[target_feature(enable = "pclmulqdq")]
fn of(key: &[u64; WORDS], piece: &Piece) -> Fingerprint {
    let (pairs, keys) = (piece.as_chunks::<16>().0, key.as_chunks::<2>().0);
    let mut sum = _mm_setzero_si128();
    for (pair, [first, second]) in pairs.iter().zip(keys) {
        let [low, high] = halves(pair);
        let masked = _mm_xor_si128(vector(low, high), vector(*first, *second));
        // The product of the vector's two halves.
        sum = _mm_xor_si128(sum, _mm_clmulepi64_si128::<1>(masked, masked));
    }
    Fingerprint([_mm_cvtsi128_si64(sum), _mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum))].map(i64::cast_unsigned))
}

#[target_feature(enable = "sse2")]
fn vector(low: u64, high: u64) -> __m128i {
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}

fn halves(pair: &[u8; 16]) -> [u64; 2] {
    let pair = u128::from_le_bytes(*pair);
    [pair as u64, (pair >> 64) as u64]
}

fn words(bytes: &Piece) -> [u64; WORDS] {
    let words = bytes.as_chunks::<8>().0;
    std::array::from_fn(|number| u64::from_le_bytes(words[number]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The product of two polynomials over GF(2), bit by bit.
    fn product(a: u64, b: u64) -> u128 {
        (0..64).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (u128::from(a) << bit))
    }

    /// The formula, as it stands above.
    fn plain(key: &[u64; WORDS], piece: &Piece) -> Fingerprint {
        let m = words(piece);
        let sum = (0..WORDS / 2).fold(0, |sum, i| sum ^ product(m[2 * i] ^ key[2 * i], m[2 * i + 1] ^ key[2 * i + 1]));
        Fingerprint([sum as u64, (sum >> 64) as u64])
    }

    fn piece() -> impl Strategy<Value = Piece> {
        proptest::collection::vec(any::<u8>(), PIECE_BYTES).prop_map(|bytes| bytes.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn a_fingerprint_is_what_the_formula_says(key in piece(), piece in piece()) {
            let fingerprinter = Fingerprinter::with_key(words(&key)).expect("every processor of today multiplies so");
            prop_assert_eq!(fingerprinter.of(&piece), plain(&words(&key), &piece));
        }

        #[test]
        fn pieces_that_differ_in_one_bit_have_different_fingerprints(key in piece(), before in piece(), bit in 0..PIECE_BYTES * 8) {
            let fingerprinter = Fingerprinter::with_key(words(&key)).unwrap();
            let mut after = before;
            after[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(fingerprinter.of(&before), fingerprinter.of(&after));
        }
    }

    #[test]
    fn two_keys_are_not_the_same_and_zeroes_do_not_give_zero() {
        let [a, b] = [(); 2].map(|()| Fingerprinter::new().unwrap());
        let zeroes = [0; PIECE_BYTES];
        assert_ne!(a.of(&zeroes), b.of(&zeroes));
        assert_ne!(a.of(&zeroes), Fingerprint([0; 2]));
    }
}
