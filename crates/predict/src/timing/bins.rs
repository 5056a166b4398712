//! Time bins: the idle time of a function, cut into intervals on which a hazard is constant.
//!
//! Two grids. *Seconds* grow by 12 % from 1 s to 40 days: a plan that is off by half a bin then wastes at most 6 % of
//! the time it waits. *Minutes* are for sources that know only the minute (the Azure 2019 format): one bin a minute to
//! one hour, because timers fire on whole minutes, then 5 % growth to five days. In the minute grid the edges lie on
//! half minutes so that a difference of whole minutes falls in the middle of its bin.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Number of bins processed together by the vector loops.
pub const LANES: usize = 16;
/// Bins worked on at a time within a block: as many as a vector register of today's processors holds, so that what an
/// expert computes stays in registers.
pub const HALF: usize = LANES / 2;
/// Bound on the number of bins of any grid, so that a bin index fits a byte with a code to spare.
pub const BINS_MAX: usize = 192;
/// Number of segments of any grid; see [`TimeBins::segment_start`].
pub const SEGMENTS_MAX: usize = 3 + BINS_MAX / LANES;

/// Silence shorter than this is not worth a check of its own: it teaches no less when it is looked at with the segments
/// behind it, seconds later, and most idle times get past it.
const CHECK_US_MIN: u64 = 10_000_000;
const MINUTE_S: f32 = 60.0;
const DAY_S: f32 = 86_400.0;
/// Forty days: one more than a monthly schedule needs.
const SECOND_GRID_END_S: f32 = 40.0 * DAY_S;
const SECOND_GRID_RATIO: f32 = 1.12;
const MINUTE_GRID_END_S: f32 = 5.0 * DAY_S;
const MINUTE_GRID_RATIO: f32 = 1.05;

/// How finely the source of the events knows the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// Seconds or better.
    Second,
    /// Whole minutes.
    Minute,
}

/// A grid of idle times.
#[derive(Debug, Clone)]
pub struct TimeBins {
    edges_s: Vec<f32>,
    widths_s: Vec<f32>,
    segments: Vec<usize>,
    segments_us: Vec<u64>,
    segment_of: Vec<u8>,
    first_checked: usize,
}

impl TimeBins {
    /// The grid for a resolution.
    pub fn new(resolution: Resolution) -> Self {
        let edges_s = match resolution {
            Resolution::Second => second_edges(),
            Resolution::Minute => minute_edges(),
        };
        assert!(edges_s.len() <= BINS_MAX, "a bin index must fit its type");
        let segments = segment_starts(edges_s.len());
        let mut segment_of = vec![0; edges_s.len()];
        for (index, bounds) in segments.windows(2).enumerate() {
            segment_of[bounds[0]..bounds[1]].fill(index as u8);
        }
        let end_s = |bin: usize| edges_s.get(bin + 1).copied().unwrap_or(edges_s[bin] * 1.5);
        let widths_s = (0..edges_s.len()).map(|bin| end_s(bin) - edges_s[bin]).collect();
        let segments_us: Vec<u64> =
            segments[..segments.len() - 1].iter().map(|start| (edges_s[*start] * 1e6) as u64).collect();
        let first_checked = segments_us.partition_point(|start_us| *start_us < CHECK_US_MIN);
        Self { edges_s, widths_s, segments, segments_us, segment_of, first_checked }
    }

    /// Number of bins.
    pub fn len(&self) -> usize {
        self.edges_s.len()
    }

    /// Always false; a grid has bins.
    pub fn is_empty(&self) -> bool {
        self.edges_s.is_empty()
    }

    /// Bin that an idle time in seconds falls into; the last bin has no upper end.
    pub fn bin_of(&self, idle_s: f32) -> usize {
        self.edges_s.partition_point(|edge| *edge <= idle_s).saturating_sub(1)
    }

    /// Lower edge of a bin, in seconds.
    pub fn start_s(&self, bin: usize) -> f32 {
        self.edges_s[bin]
    }

    /// Upper edge of a bin, in seconds. The last bin is given half its start as width, for planning only.
    pub fn end_s(&self, bin: usize) -> f32 {
        self.edges_s.get(bin + 1).copied().unwrap_or(self.edges_s[bin] * 1.5)
    }

    /// Width of a bin, in seconds.
    pub fn width_s(&self, bin: usize) -> f32 {
        self.widths_s[bin]
    }

    /// Widths of all bins, in seconds.
    pub fn widths_s(&self) -> &[f32] {
        &self.widths_s
    }

    /// Number of segments. Segments group bins that share mixing weights and are learnt together; they are narrow at
    /// the short end, where the shape of the hazard changes fastest.
    pub fn segments(&self) -> usize {
        self.segments.len() - 1
    }

    /// First bin of a segment; `segment_start(segments())` is the number of bins.
    pub fn segment_start(&self, segment: usize) -> usize {
        self.segments[segment]
    }

    /// Idle time in microseconds at which a segment starts.
    pub fn segment_start_us(&self, segment: usize) -> u64 {
        self.segments_us[segment]
    }

    /// The last segment that an idle time has reached.
    pub fn segment_reached(&self, idle_us: u64) -> usize {
        self.segments_us.partition_point(|start_us| *start_us <= idle_us).saturating_sub(1)
    }

    /// The first segment behind a bin whose start is worth a check that nothing has come; [`None`] behind the last.
    pub fn next_checked(&self, bin: usize) -> Option<usize> {
        let next = (self.segment_of(bin) + 1).max(self.first_checked);
        (next < self.segments()).then_some(next)
    }

    /// The last segment worth a check that an idle time has reached.
    pub fn checked_reached(&self, idle_us: u64) -> Option<usize> {
        Some(self.segment_reached(idle_us)).filter(|segment| *segment >= self.first_checked)
    }

    /// Segment that a bin belongs to.
    pub fn segment_of(&self, bin: usize) -> usize {
        usize::from(self.segment_of[bin])
    }
}

/// One for the lanes from `lanes.start` to before `lanes.end`, zero for the others: every lane of a block can then be
/// computed alike, several at a time, where a loop over some of them could not.
#[inline(always)]
pub fn lane_mask(lanes: Range<usize>) -> [f32; LANES] {
    const FROM: [f32; 2 * LANES] = steps(0.0, 1.0);
    const UNTIL: [f32; 2 * LANES] = steps(1.0, 0.0);
    let (start, end) = (LANES - lanes.start.min(LANES), LANES - lanes.end.min(LANES));
    let (from, until) = (&FROM[start..start + LANES], &UNTIL[end..end + LANES]);
    let mut mask = [0.0; LANES];
    for lane in 0..LANES {
        mask[lane] = from[lane] * until[lane];
    }
    mask
}

/// A block of one number and a block of another.
const fn steps(first: f32, second: f32) -> [f32; 2 * LANES] {
    let mut steps = [first; 2 * LANES];
    let mut lane = LANES;
    while lane < 2 * LANES {
        steps[lane] = second;
        lane += 1;
    }
    steps
}

fn second_edges() -> Vec<f32> {
    let mut edges_s = vec![0.0];
    let mut edge_s = 1.0f32;
    while edge_s < SECOND_GRID_END_S {
        edges_s.push(edge_s);
        edge_s *= SECOND_GRID_RATIO;
    }
    edges_s
}

fn minute_edges() -> Vec<f32> {
    let mut edges_s = vec![0.0];
    edges_s.extend((1..=60).map(|minute| (minute as f32 + 0.5) * MINUTE_S));
    let mut edge_s = 60.5 * MINUTE_S;
    while edge_s < MINUTE_GRID_END_S {
        edge_s *= MINUTE_GRID_RATIO;
        edges_s.push(((edge_s / MINUTE_S).round() + 0.5) * MINUTE_S);
    }
    edges_s
}

fn segment_starts(bins: usize) -> Vec<usize> {
    let mut starts = vec![0, 2, 6];
    starts.extend((LANES..bins).step_by(LANES));
    starts.push(bins);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grids_grow_and_fit() {
        for resolution in [Resolution::Second, Resolution::Minute] {
            let bins = TimeBins::new(resolution);
            assert!((0..bins.len()).all(|bin| bins.start_s(bin) < bins.end_s(bin)));
            assert!(bins.segments() <= SEGMENTS_MAX);
            for segment in 0..bins.segments() {
                let width = bins.segment_start(segment + 1) - bins.segment_start(segment);
                assert!((1..=LANES).contains(&width));
                assert_eq!(bins.segment_of(bins.segment_start(segment)), segment);
            }
        }
    }

    #[test]
    fn whole_minutes_fall_in_the_middle_of_their_bin() {
        let bins = TimeBins::new(Resolution::Minute);
        assert_eq!(bins.bin_of(60.0), 0);
        assert_eq!(bins.bin_of(120.0), 1);
        assert_eq!(bins.bin_of(3600.0), 59);
    }

    #[test]
    fn a_mask_has_its_lanes_and_no_others() {
        for (start, end) in (0..=LANES).flat_map(|start| (start..=LANES).map(move |end| (start, end))) {
            let mask = lane_mask(start..end);
            assert!((0..LANES).all(|lane| mask[lane] == f32::from(u8::from((start..end).contains(&lane)))));
        }
    }

    proptest! {
        #[test]
        fn every_time_is_inside_its_bin(idle_s in 0f32..1e9) {
            let bins = TimeBins::new(Resolution::Second);
            let bin = bins.bin_of(idle_s);
            prop_assert!(bins.start_s(bin) <= idle_s);
            prop_assert!(bin + 1 == bins.len() || idle_s < bins.end_s(bin));
        }
    }
}
