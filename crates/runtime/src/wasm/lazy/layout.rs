//! Which group fills which slot of the table of cold functions, and which position of the module's own table.

/// The groups of a split program by what they fill. Each group fills the slots from its first to
/// the one before the next group's. What is behind the last slot are positions of the module's own table: `slots` is
/// position 0, `slots + 1` position 1, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdLayout {
    first_slots: Vec<u32>,
    slots: u32,
    /// Position and group, ascending.
    positions: Vec<(u32, u32)>,
}

/// What one group fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdFills<'a> {
    /// Its first slot.
    pub first_slot: u32,
    /// Positions of the module's own table.
    pub positions: &'a [u32],
}

/// Why numbers are no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the first slots of groups ascend from 0, none is behind the last slot, and no position is filled by two groups"
)]
pub struct ColdLayoutError;

impl ColdLayout {
    /// A layout of groups that fill `groups`; there are `slots` slots.
    ///
    /// # Errors
    /// Slots that no group fills, groups that begin before others end, or a position that two of them fill. A group may
    /// have neither slots nor positions.
    pub fn new<'a>(groups: impl IntoIterator<Item = ColdFills<'a>>, slots: u32) -> Result<Self, ColdLayoutError> {
        let (mut first_slots, mut positions) = (Vec::new(), Vec::new());
        for (number, group) in (0..).zip(groups) {
            first_slots.push(group.first_slot);
            positions.extend(group.positions.iter().map(|position| (*position, number)));
        }
        positions.sort_unstable();
        let begins = first_slots.first().is_none_or(|first| *first == 0);
        let ends = first_slots.last().map_or(slots == 0, |last| *last <= slots);
        let once = positions.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if begins && ends && once && first_slots.is_sorted() {
            Ok(Self { first_slots, slots, positions })
        } else {
            Err(ColdLayoutError)
        }
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.first_slots.len()
    }

    /// The group that fills `slot`, or the position behind the slots that it stands for.
    pub fn group_of(&self, slot: u32) -> Option<u32> {
        if let Some(position) = slot.checked_sub(self.slots) {
            let found = self.positions.binary_search_by_key(&position, |(position, _)| *position).ok()?;
            return self.positions.get(found).map(|(_, group)| *group);
        }
        let next = self.first_slots.partition_point(|first| *first <= slot);
        u32::try_from(next.checked_sub(1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fills(first_slots: &[u32]) -> Vec<ColdFills<'static>> {
        first_slots.iter().map(|first_slot| ColdFills { first_slot: *first_slot, positions: &[] }).collect()
    }

    #[test]
    fn each_slot_has_its_group() {
        let layout = ColdLayout::new(fills(&[0, 3, 3, 4]), 8).unwrap();
        let groups: Vec<_> = (0..10).map(|slot| layout.group_of(slot)).collect();
        let expected = [Some(0), Some(0), Some(0), Some(2), Some(3), Some(3), Some(3), Some(3), None, None];
        assert_eq!(groups, expected);
        assert_eq!(layout.groups(), 4);
    }

    #[test]
    fn behind_the_slots_each_position_has_its_group() {
        let of = |positions| ColdFills { first_slot: 0, positions };
        let layout = ColdLayout::new([of(&[7, 0]), of(&[3])], 0).unwrap();
        let groups: Vec<_> = (0..9).map(|slot| layout.group_of(slot)).collect();
        let none = None;
        assert_eq!(groups, [Some(0), none, none, Some(1), none, none, none, Some(0), none]);
        assert_eq!(layout.group_of(u32::MAX), None);
        assert_eq!(ColdLayout::new([of(&[7, 0]), of(&[7])], 0), Err(ColdLayoutError));
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let wrong: [(&[u32], u32); 5] = [(&[2], 4), (&[0, 5, 3], 9), (&[0, 9], 4), (&[], 2), (&[1, 2], 4)];
        for (first_slots, slots) in wrong {
            assert_eq!(ColdLayout::new(fills(first_slots), slots), Err(ColdLayoutError));
        }
        assert_eq!(ColdLayout::new(fills(&[]), 0).unwrap().group_of(0), None);
    }
}
