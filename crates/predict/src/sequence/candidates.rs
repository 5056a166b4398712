//! The symbols one prediction considers: at most sixty-four, found in constant time.

/// Most candidates of one prediction. With it an event costs the same however many functions there are.
pub const CANDIDATES_MAX: usize = 64;
const TABLE_LEN: usize = 256;
const FREE: u8 = u8::MAX;

/// An ordered set of symbols.
#[derive(Debug, Clone)]
pub struct Candidates {
    symbols: Vec<u32>,
    table: [u8; TABLE_LEN],
}

impl Default for Candidates {
    fn default() -> Self {
        Self { symbols: Vec::with_capacity(CANDIDATES_MAX), table: [FREE; TABLE_LEN] }
    }
}

impl Candidates {
    /// Forgets all symbols.
    pub fn clear(&mut self) {
        self.symbols.clear();
        self.table.fill(FREE);
    }

    /// Adds a symbol unless it is known or there is no room.
    pub fn add(&mut self, symbol: u32) {
        if self.symbols.len() == CANDIDATES_MAX {
            return;
        }
        let place = self.place(symbol);
        if self.table[place] == FREE {
            self.table[place] = self.symbols.len() as u8;
            self.symbols.push(symbol);
        }
    }

    /// Index of a symbol.
    pub fn index(&self, symbol: u32) -> Option<usize> {
        let index = self.table[self.place(symbol)];
        (index != FREE).then_some(usize::from(index))
    }

    /// The symbols in order of addition.
    pub fn symbols(&self) -> &[u32] {
        &self.symbols
    }

    /// Where a symbol is or would be; the table is never more than a quarter full, so a place is found.
    fn place(&self, symbol: u32) -> usize {
        let mut place = symbol.wrapping_mul(0x9e37_79b1) as usize >> 24;
        while self.table[place] != FREE && self.symbols[usize::from(self.table[place])] != symbol {
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
                candidates.add(symbol);
                if !model.contains(&symbol) && model.len() < CANDIDATES_MAX {
                    model.push(symbol);
                }
                prop_assert_eq!(candidates.index(symbol), model.iter().position(|known| *known == symbol));
            }
            prop_assert_eq!(candidates.symbols(), &model[..]);
        }
    }
}
