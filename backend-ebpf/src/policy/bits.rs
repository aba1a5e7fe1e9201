//! A row of bits, one for each term of a program. Never longer or shorter than its program's others.

/// Which terms hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    pub(super) fn none(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)].into())
    }

    pub(super) fn assign(&mut self, index: usize, holds: bool) {
        let (word, bit) = (&mut self.0[index / 64], 1 << (index % 64));
        *word = if holds { *word | bit } else { *word & !bit };
    }

    /// The first bit that is set from one place on, before another.
    pub(super) fn first(&self, from: usize, before: usize) -> Option<usize> {
        let mut index = from;
        while index < before {
            let rest = self.0[index / 64] >> (index % 64);
            if rest != 0 {
                return Some(index + rest.trailing_zeros() as usize).filter(|found| *found < before);
            }
            index = (index / 64 + 1) * 64;
        }
        None
    }

    /// Where the predicate holds.
    pub(super) fn collect(length: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut bits = Self::none(length);
        (0..length).filter(|index| holds(*index)).for_each(|index| bits.assign(index, true));
        bits
    }

    /// What all three have.
    pub(super) fn and(&self, second: &Self, third: &Self) -> Self {
        let words = self.0.iter().zip(&second.0).zip(&third.0);
        Self(words.map(|((first, second), third)| first & second & third).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_is_the_one_that_a_search_one_by_one_finds() {
        let set = [0, 5, 63, 64, 130, 199];
        let bits = Bits::collect(200, |index| set.contains(&index));
        for from in 0..200 {
            for before in from..=200 {
                assert_eq!(bits.first(from, before), (from..before).find(|index| set.contains(index)));
            }
        }
    }
}
