//! Seeded Gaussian noise that depends on where it is added and on nothing else.
//!
//! Drawing from one stream would tie a run's noise to how many runs came before it, and so to how
//! a sweep is chunked. Each vector gets a stream of its own instead, keyed by everything that
//! names it; within the vector, column i takes draw i. A pair goes by its base prompt's tokens and not by
//! its number, so that a part of a data set gives what the whole gives for it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use crate::site::Component;

/// Which pair noise is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfPair([u8; 32]);

impl OfPair {
    /// The pair of this base prompt, as token ids.
    pub fn of(base: &[u32]) -> Self {
        let mut hash = Sha256::new();
        base.iter().for_each(|id| hash.update(id.to_le_bytes()));
        Self(hash.finalize().into())
    }
}

/// Seed, pair, component, layer, head, position, sample.
pub type Key = (u64, OfPair, Component, Option<usize>, usize, usize, u32);

/// `level` times standard normal, `columns` values.
pub fn noise(key: Key, level: f64, columns: usize) -> Vec<f64> {
    let (seed, pair, component, layer, head, position, sample) = key;
    let text = format!("{seed} {component} {layer:?} {head} {position} {sample} ");
    let hash = Sha256::new().chain_update(text).chain_update(pair.0);
    let mut stream = ChaCha8Rng::from_seed(hash.finalize().into());
    (0..columns)
        .map(|_| level * Distribution::<f64>::sample(&StandardNormal, &mut stream))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_standard_normal_and_a_function_of_its_key() {
        let pair = OfPair::of(&[3, 1]);
        let key = |position, sample| {
            let component = Component::TokenEmbedding;
            (7, pair, component, None, 0, position, sample)
        };
        let draws = noise(key(0, 0), 2.0, 20_000);
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.05 && (variance - 4.0).abs() < 0.15,
            "{mean} {variance}"
        );
        assert_eq!(draws[..5], noise(key(0, 0), 2.0, 5));
        assert_ne!(draws[..5], noise(key(1, 0), 2.0, 5));
        assert_ne!(draws[..5], noise(key(0, 1), 2.0, 5));
    }
}
