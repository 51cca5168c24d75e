//! A set of positions of one prompt, as bits.
//!
//! Planning is nothing but unions and intersections of such sets, a dozen for each layer of each
//! run, so a set of up to 128 positions lives without a heap allocation.

use smallvec::{SmallVec, smallvec};

/// A set of positions below a fixed length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Positions {
    words: SmallVec<[u64; 2]>,
}

impl Positions {
    /// The empty set.
    pub fn none() -> Self {
        Self::default()
    }

    /// Positions `from..to`.
    pub fn range(from: usize, to: usize) -> Self {
        let mut set = Self {
            words: smallvec![0; to.div_ceil(64)],
        };
        for (i, word) in set.words.iter_mut().enumerate() {
            let (low, high) = (
                from.clamp(i * 64, i * 64 + 64),
                to.clamp(i * 64, i * 64 + 64),
            );
            let count = high.saturating_sub(low);
            if count > 0 {
                *word = (u64::MAX >> (64 - count)) << (low - i * 64);
            }
        }
        set
    }

    /// Adds one position.
    pub fn insert(&mut self, position: usize) {
        if self.words.len() <= position / 64 {
            self.words.resize(position / 64 + 1, 0);
        }
        self.words[position / 64] |= 1 << (position % 64);
    }

    /// Removes one position.
    pub fn remove(&mut self, position: usize) {
        if let Some(word) = self.words.get_mut(position / 64) {
            *word &= !(1 << (position % 64));
        }
    }

    /// Whether the position is in the set.
    pub fn contains(&self, position: usize) -> bool {
        self.words
            .get(position / 64)
            .is_some_and(|w| w >> (position % 64) & 1 == 1)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// How many positions are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The smallest position.
    pub fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// The largest position.
    pub fn last(&self) -> Option<usize> {
        let (i, word) = self.words.iter().enumerate().rfind(|(_, w)| **w != 0)?;
        Some(i * 64 + 63 - word.leading_zeros() as usize)
    }

    /// Positions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(i * 64 + bit)
            })
        })
    }

    /// How many positions of the set stand before one.
    pub fn rank(&self, position: usize) -> usize {
        let (word, bit) = (position / 64, position % 64);
        let before = self.words.iter().take(word).map(|w| w.count_ones());
        let within = self.words.get(word).map(|w| w & ((1 << bit) - 1));
        (before.sum::<u32>() + within.map_or(0, u64::count_ones)) as usize
    }

    /// Adds another set's positions.
    pub fn join(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a |= b);
    }

    /// Positions in either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.join(other);
        both
    }

    /// Positions in both sets.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            words: self
                .words
                .iter()
                .zip(&other.words)
                .map(|(a, b)| a & b)
                .collect(),
        }
    }

    /// Positions in this set and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a &= !b);
        left
    }

    /// Positions of this set that are not after `last`.
    pub fn up_to(&self, last: usize) -> Self {
        self.and(&Self::range(0, last + 1))
    }
}

impl FromIterator<usize> for Positions {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut set = Self::none();
        positions.into_iter().for_each(|p| set.insert(p));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_tree_of_positions(
            a in proptest::collection::btree_set(0usize..300, 0..40),
            b in proptest::collection::btree_set(0usize..300, 0..40),
            from in 0usize..300, to in 0usize..300,
        ) {
            let set = |s: &BTreeSet<usize>| s.iter().copied().collect::<Positions>();
            let back = |p: &Positions| p.iter().collect::<BTreeSet<usize>>();
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(back(&x.union(&y)), &a | &b);
            prop_assert_eq!(back(&x.and(&y)), &a & &b);
            prop_assert_eq!(back(&x.minus(&y)), &a - &b);
            prop_assert_eq!((x.first(), x.last()), (a.first().copied(), a.last().copied()));
            prop_assert_eq!((x.len(), x.is_empty()), (a.len(), a.is_empty()));
            prop_assert_eq!(back(&Positions::range(from, to)), (from..to).collect());
            prop_assert_eq!(back(&x.up_to(to)), a.range(..=to).copied().collect());
            prop_assert_eq!(x.rank(to), a.range(..to).count());
            let mut z = x.clone();
            z.remove(from);
            prop_assert!(!z.contains(from));
        }
    }
}
