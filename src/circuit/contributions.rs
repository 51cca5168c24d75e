//! What senders contribute to the residual stream, in a clean run and in the mean over some.

use super::evaluate::{Ablation, EvaluateError};
use crate::backend::Backend;
use crate::execute::Limits;
use crate::execute::activations::CleanRows;
use crate::graph::contribution::contributions;
use crate::graph::node::Sender;
use crate::model::{Checkpoint, Config};
use crate::prompt::pair::Pair;
use crate::site::Stage;

/// Mean contributions over prompts: of each sender `[positions, width]`, or one row for every position.
#[derive(Debug, Clone)]
pub struct MeanContributions(pub(super) Vec<Vec<f64>>);

/// Clean rows that contributions are made of.
pub(super) fn places(config: &Config) -> Vec<(Stage, usize)> {
    let layers = 0..config.layers;
    let each = layers.flat_map(|l| [(Stage::Z, l), (Stage::MlpOutput, l), (Stage::BlockInput, l)]);
    each.chain([(Stage::BlockInput, config.layers), (Stage::BlockMid, 0)])
        .chain((1..config.layers).map(|l| (Stage::BlockMid, l)))
        .collect()
}

/// As far as a pair is read out.
pub(super) fn length(pair: &Pair) -> usize {
    let last = pair.readout_positions().last().copied();
    last.map_or(pair.base.len(), |last| last + 1)
}

/// The mean contributions over the bases and sources of pairs.
///
/// # Errors
///
/// [`EvaluateError::Lengths`] where positions are kept apart and prompts are not of one length.
pub fn mean_contributions<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pairs: &[&Pair],
    by_position: bool,
    limits: &Limits<'_>,
) -> Result<MeanContributions, EvaluateError> {
    let config = backend.config();
    let longest = pairs.first().map_or(0, |pair| length(pair));
    let rows = if by_position { longest } else { 1 };
    let mut sums = vec![vec![0.0; rows * config.width]; Sender::all(config).len()];
    let mut count = 0.0;
    for (p, pair) in pairs.iter().enumerate() {
        for ids in std::iter::once(&pair.base).chain(&pair.source) {
            let ids = match by_position {
                true => &ids[..length(pair).min(ids.len())],
                false => ids,
            };
            if by_position && ids.len() != longest {
                return Err(EvaluateError::Lengths {
                    pair: p,
                    base: longest,
                    other: ids.len(),
                    ablation: Ablation::MeanByPosition,
                });
            }
            let (clean, at) = CleanRows::new(backend, &[ids], &places(config), limits)?;
            let all = contributions(model, &clean, at[0], ids.len());
            for (sum, sent) in sums.iter_mut().zip(all) {
                let each = sent.chunks_exact(config.width).enumerate();
                for (position, row) in each {
                    let at = if by_position { position } else { 0 };
                    let sum = &mut sum[at * config.width..][..config.width];
                    sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
                }
            }
            count += if by_position { 1.0 } else { ids.len() as f64 };
        }
    }
    let all = sums.iter_mut().flatten();
    all.for_each(|x| *x /= count);
    Ok(MeanContributions(sums))
}
