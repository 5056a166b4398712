//! Which group fills which slot of the table of cold functions.

/// The groups of a split program by their slots. Slot 0 is the loader's; each group fills the slots from its first to
/// the one before the next group's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdLayout {
    first_slots: Vec<u32>,
    slots: u32,
}

/// Why numbers are no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the first slots of groups ascend from 1, and none is behind the last slot")]
pub struct ColdLayoutError;

impl ColdLayout {
    /// A layout of groups that begin at `first_slots`; there are `slots` slots, the loader's included.
    ///
    /// # Errors
    /// Slots that no group fills, or groups that begin before others end. A group may have no slot.
    pub fn new(first_slots: Vec<u32>, slots: u32) -> Result<Self, ColdLayoutError> {
        let begins = first_slots.first().is_none_or(|first| *first == 1);
        let ends = first_slots.last().map_or(slots == 1, |last| *last <= slots);
        if begins && ends && first_slots.is_sorted() { Ok(Self { first_slots, slots }) } else { Err(ColdLayoutError) }
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.first_slots.len()
    }

    /// The group that fills `slot`.
    pub fn group_of(&self, slot: u32) -> Option<u32> {
        if slot == 0 || slot >= self.slots {
            return None;
        }
        let next = self.first_slots.partition_point(|first| *first <= slot);
        u32::try_from(next.checked_sub(1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_group() {
        let layout = ColdLayout::new(vec![1, 4, 4, 5], 9).unwrap();
        let groups: Vec<_> = (0..11).map(|slot| layout.group_of(slot)).collect();
        let expected = [None, Some(0), Some(0), Some(0), Some(2), Some(3), Some(3), Some(3), Some(3), None, None];
        assert_eq!(groups, expected);
        assert_eq!(layout.groups(), 4);
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for (first_slots, slots) in [(vec![0, 2], 4), (vec![2], 4), (vec![1, 5, 3], 9), (vec![1, 9], 4), (vec![], 2)] {
            assert_eq!(ColdLayout::new(first_slots, slots), Err(ColdLayoutError));
        }
        assert_eq!(ColdLayout::new(vec![], 1).unwrap().group_of(1), None);
    }
}
