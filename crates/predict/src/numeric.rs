//! Deterministic arithmetic: logarithm, exponential, sigmoid and friends written out in plain `f32` operations.
//!
//! The standard library's transcendental functions come from the platform's maths library and may differ in the last
//! bit between machines; these do not, because IEEE 754 fixes every operation used here and the compiler neither
//! reorders nor fuses them. They are also free of branches, so the compiler can vectorise loops over them.
//!
//! For the same reason wider vectors change nothing but the time: where a function is compiled once more for processors
//! that have them (`multiversion`, chosen when it is first called), both forms do the same operations in the same order.
//!
//! They do not handle NaN: every caller clamps its input to a finite range first.

use std::hint::black_box;

/// Smallest probability or hazard an expert may state; keeps every logarithm finite.
pub const PROBABILITY_MIN: f32 = 1e-6;
/// Largest hazard an expert may state. One in a thousand is left for "not now" because an expert that says "certainly"
/// and errs once would cost the mixture an unbounded loss.
pub const HAZARD_MAX: f32 = 1.0 - 1e-3;

/// Natural logarithm of a positive normal number (relative error below 2e-7).
///
/// The reduction and the polynomial are those of FreeBSD's `e_logf.c`.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * (0.400_009_72 + w * 0.242_790_79);
    let even = z * (0.666_666_6 + w * 0.284_987_87);
    let half_square = 0.5 * f * f;
    s * (half_square + odd + even) - half_square + f + exponent as f32 * std::f32::consts::LN_2
}

/// `e` to the power of `x`, with `x` clamped to ±87 so that the result is finite and never zero
/// (relative error below 2e-7; polynomial of the Cephes library).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a branch or SSE4.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    // The integer is in the low bits of the rounded number. To convert `n` would be to ask first, number by number,
    // whether it is one and in range.
    p * f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}

/// Logistic function, `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// Logit of a probability, the inverse of [`sigmoid`]; the input is clamped to what an expert may state.
#[inline(always)]
pub fn stretch(probability: f32) -> f32 {
    let p = probability.clamp(PROBABILITY_MIN, HAZARD_MAX);
    ln(p / (1.0 - p))
}

/// Dot product with eight running sums: a fixed order of additions that the compiler can still vectorise.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    // Kept from the compiler: it sees that they are added in pairs and would multiply two at a time, not eight.
    let sums = black_box(sums);
    // By halves: in order, the additions would wait for each other and take as long as the products.
    let four = [sums[0] + sums[4], sums[1] + sums[5], sums[2] + sums[6], sums[3] + sums[7]];
    (four[0] + four[2]) + (four[1] + four[3]) + tail
}

/// The larger of two numbers that are not NaN; `f32::max` spends most of a loop's time on the case that they are.
#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest of whole vectors of numbers, none of which is NaN.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut most = [f32::MIN; 8];
    for values in values.chunks_exact(8) {
        for lane in 0..8 {
            most[lane] = larger(values[lane], most[lane]);
        }
    }
    most.into_iter().fold(f32::MIN, larger)
}

/// `y += a * x`, element by element, for numbers that lie in memory: each vector is read whole before it is written, so
/// that the compiler need not know whether the two overlap.
#[inline(always)]
pub fn add_scaled_in_place<const N: usize>(y: &mut [f32; N], a: f32, x: &[f32; N]) {
    let mut sums = *y;
    for (sum, value) in sums.iter_mut().zip(x) {
        *sum += a * value;
    }
    *y = sums;
}

/// `y += a * x`, element by element.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (target, value) in y.iter_mut().zip(x) {
        *target += a * value;
    }
}

/// Packs a number into IEEE 754 half precision (round to nearest, saturating), for state kept per function.
#[inline(always)]
pub fn to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    // Both bounds are choices between numbers that are there, so that a loop can do several at a time.
    let magnitude = (bits & 0x7fff_ffff).min(0x477f_efff);
    let rounded = magnitude + 0x0fff + ((magnitude >> 13) & 1);
    let half = (rounded.wrapping_sub(0x3800_0000) >> 13) as u16;
    // Below the smallest normal half: treated as zero. Network states that small carry nothing.
    sign | if magnitude < 0x3880_0000 { 0 } else { half }
}

/// Unpacks a number made by [`to_half`].
#[inline(always)]
pub fn from_half(half: u16) -> f32 {
    let sign = (u32::from(half) & 0x8000) << 16;
    let magnitude = u32::from(half) & 0x7fff;
    let wide = (magnitude << 13) + 0x3800_0000;
    f32::from_bits(sign | if magnitude < 0x0400 { 0 } else { wide })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn logarithm_agrees_with_the_platform(x in 1e-30f32..1e30) {
            let expected = f64::from(x).ln();
            prop_assert!((f64::from(ln(x)) - expected).abs() <= 1e-6 * expected.abs().max(1.0));
        }

        #[test]
        fn exponential_agrees_with_the_platform(x in -86f32..86.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - expected).abs() <= 2e-6 * expected);
        }

        #[test]
        fn stretch_inverts_sigmoid(x in -6f32..6.0) {
            prop_assert!((stretch(sigmoid(x)) - x).abs() < 1e-3);
        }

        #[test]
        fn tanh_agrees_with_the_platform(x in -20f32..20.0) {
            prop_assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 1e-6);
        }

        #[test]
        fn half_precision_keeps_three_digits(x in -1000f32..1000.0) {
            let back = from_half(to_half(x));
            prop_assert!((back - x).abs() <= x.abs() * 1e-3 + 1e-4, "{x} came back as {back}");
        }
    }

    #[test]
    fn extremes_stay_finite() {
        for x in [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0] {
            assert!(exp(x).is_finite() && exp(x) > 0.0);
            assert!(sigmoid(x).is_finite());
            assert!(stretch(x).is_finite());
            assert!(from_half(to_half(x)).is_finite());
        }
    }

    #[test]
    fn dot_counts_every_element() {
        let ones = vec![1.0; 21];
        assert_eq!(dot(&ones, &ones), 21.0);
    }
}
