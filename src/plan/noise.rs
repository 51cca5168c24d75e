//! Seeded Gaussian noise that depends on where it is added and on nothing else.
//!
//! Drawing from one stream would tie a run's noise to how many runs came before it, and so to how
//! a sweep is chunked. Each vector gets a stream of its own instead, keyed by everything that
//! names it; within the vector, column i takes draw i. A run goes by the tokens of the prompt that it
//! patches and not by its pair's number, so that a part of a data set gives what the whole gives for it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use crate::site::Component;

/// Which prompt noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfPrompt([u8; 32]);

impl OfPrompt {
    /// The prompt of these token ids.
    pub fn of(ids: &[u32]) -> Self {
        let mut hash = Sha256::new();
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        Self(hash.finalize().into())
    }
}

/// Seed, prompt, component, layer, head, position, sample.
pub type Key = (u64, OfPrompt, Component, Option<usize>, usize, usize, u32);

/// `level` times standard normal, `columns` values.
pub fn noise(key: Key, level: f64, columns: usize) -> Vec<f64> {
    let (seed, prompt, component, layer, head, position, sample) = key;
    let text = format!("{seed} {component} {layer:?} {head} {position} {sample} ");
    let hash = Sha256::new().chain_update(text).chain_update(prompt.0);
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
        let prompt = OfPrompt::of(&[3, 1]);
        let key = |position, sample| {
            let component = Component::TokenEmbedding;
            (7, prompt, component, None, 0, position, sample)
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
