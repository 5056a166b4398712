//! The symbols one prediction considers: at most sixty-four, found in constant time.

/// Most candidates of one prediction. With it an event costs the same however many functions there are.
pub const CANDIDATES_MAX: usize = 64;
const TABLE_LEN: usize = 256;
const FREE: u8 = NO_PLACE;

/// What [`Candidates::add`] returns for a symbol that found no room.
pub const NO_PLACE: u8 = u8::MAX;

/// An ordered set of symbols.
#[derive(Debug, Clone)]
pub struct Candidates {
    symbols: [u32; CANDIDATES_MAX],
    len: usize,
    table: [u8; TABLE_LEN],
}

impl Default for Candidates {
    fn default() -> Self {
        Self { symbols: [0; CANDIDATES_MAX], len: 0, table: [FREE; TABLE_LEN] }
    }
}

impl Candidates {
    /// Forgets all symbols.
    pub fn clear(&mut self) {
        self.len = 0;
        self.table.fill(FREE);
    }

    /// Adds a symbol unless it is known or there is no room; returns its index, or [`NO_PLACE`].
    pub fn add(&mut self, symbol: u32) -> u8 {
        let place = self.place(symbol);
        if self.table[place] == FREE && self.len < CANDIDATES_MAX {
            self.table[place] = self.len as u8;
            self.symbols[self.len] = symbol;
            self.len += 1;
        }
        self.table[place]
    }

    /// Whether there is no room for another symbol.
    pub fn is_full(&self) -> bool {
        self.len == CANDIDATES_MAX
    }

    /// Index of a symbol.
    pub fn index(&self, symbol: u32) -> Option<usize> {
        let index = self.table[self.place(symbol)];
        (index != FREE).then_some(usize::from(index))
    }

    /// The symbols in order of addition.
    pub fn symbols(&self) -> &[u32] {
        &self.symbols[..self.len]
    }

    /// Where a symbol is or would be; the table is never more than a quarter full, so a place is found.
    fn place(&self, symbol: u32) -> usize {
        let mut place = symbol.wrapping_mul(0x9e37_79b1) as usize >> 24;
        // The remainder is for the compiler: an index in the table is below the number of symbols.
        while self.table[place] != FREE && self.symbols[usize::from(self.table[place]) % CANDIDATES_MAX] != symbol {
            place = (place + 1) % TABLE_LEN;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_an_ordered_set_with_a_bound(symbols in prop::collection::vec(any::<u32>(), 0..200)) {
            let mut candidates = Candidates::default();
            let mut model: Vec<u32> = Vec::new();
            for symbol in symbols {
                let added = candidates.add(symbol);
                if !model.contains(&symbol) && model.len() < CANDIDATES_MAX {
                    model.push(symbol);
                }
                let place = model.iter().position(|known| *known == symbol);
                prop_assert_eq!(candidates.index(symbol), place);
                prop_assert_eq!((added != NO_PLACE).then_some(usize::from(added)), place);
            }
            prop_assert_eq!(candidates.symbols(), &model[..]);
        }
    }
}
