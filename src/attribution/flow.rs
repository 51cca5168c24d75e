//! Information-flow routes (Ferrando and Voita 2024), as EAP-IG's code has them: how much of what a receiver reads
//! comes from each sender.
//!
//! With x what the receiver reads of the residual stream at a position and c what the sender contributed to it, the
//! sender's proximity is max(0, ‖x‖₁ − ‖x − c‖₁), and its share what that is of the sum over all senders
//! before the receiver. An edge's score is its mean share over positions. Only the base is run, once: there is
//! no metric, no source and no sign, and so no estimate of what a patch would do.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::nodes::length;
use super::{Attribution, AttributionError, PairScores};
use crate::backend::Backend;
use crate::execute::Limits;
use crate::execute::activations::CleanRows;
use crate::graph::contribution::contributions;
use crate::graph::edge::Edge;
use crate::graph::extent::Extent;
use crate::graph::node::Receiver;
use crate::model::{Checkpoint, Config};
use crate::prompt::pair::Pair;
use crate::site::Stage;

/// The residual stream that a receiver reads, before its layer norm.
fn stream(receiver: Receiver, config: &Config) -> (Stage, usize) {
    match receiver {
        Receiver::Head { layer, .. } => (Stage::BlockInput, layer),
        Receiver::Mlp { layer } => (Stage::BlockMid, layer),
        Receiver::Logits => (Stage::BlockInput, config.layers),
    }
}

/// Scores of edges of some pairs, in the order of [`Extent::edge`]; position by position they add up to those of
/// the whole.
///
/// # Errors
///
/// [`AttributionError::Execute`]: a budget too small, or an interruption.
pub fn scores<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pairs: &[&Pair],
    (edges, extent): (&[Edge], Extent),
    attribution: &Attribution,
    limits: &Limits<'_>,
) -> Result<Vec<PairScores>, AttributionError> {
    let config = backend.config();
    let mut kept: Vec<(Stage, usize)> = (0..config.layers)
        .flat_map(|l| [(Stage::Z, l), (Stage::MlpOutput, l), (Stage::BlockMid, l)])
        .chain((0..=config.layers).map(|l| (Stage::BlockInput, l)))
        .collect();
    kept.sort_unstable();
    // receivers that read one stream have the same shares: those of the most senders are all of them
    let mut streams: BTreeMap<(Stage, usize), usize> = BTreeMap::new();
    for edge in edges {
        let upstream = edge.receiver.upstream(config);
        streams.insert(stream(edge.receiver, config), upstream);
    }
    let streams: Vec<_> = streams.into_iter().collect();
    let mut all = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let length = length(pair);
        let (rows, at) = CleanRows::new(backend, &[&pair.base[..length]], &kept, limits)?;
        let sent = contributions(model, &rows, at[0], length);
        let of = |((stage, layer), upstream): &((Stage, usize), usize)| {
            let shares = (0..length).map(|position| {
                let x = rows.row(at[0], *stage, *layer, position);
                let sent = sent[..*upstream].iter();
                let each: Vec<&[f64]> = sent
                    .map(|rows| &rows[position * config.width..][..config.width])
                    .collect();
                shares(x, &each)
            });
            ((*stage, *layer), shares.collect::<Vec<Vec<f64>>>())
        };
        let shares: BTreeMap<(Stage, usize), Vec<Vec<f64>>> = streams.par_iter().map(of).collect();
        let values = attribution.metric.values(pair);
        let positions = extent.positions(pair.base.len());
        let mut scores = Vec::with_capacity(values * edges.len() * positions.len());
        for edge in edges {
            let of = &shares[&stream(edge.receiver, config)];
            let sender = edge.sender.index(config);
            let share = |position: usize| of.get(position).map_or(0.0, |of| of[sender]);
            for position in &positions {
                let sum = match position {
                    Some(position) => share(*position),
                    None => (0..length).map(share).sum(),
                };
                // of every target the same
                scores.extend(std::iter::repeat_n(sum / length as f64, values));
            }
        }
        all.push(PairScores { values, scores });
        limits.pass(1);
    }
    Ok(all)
}

/// What of a row comes from each of some contributions to it; nothing where it comes from none.
fn shares(x: &[f64], sent: &[&[f64]]) -> Vec<f64> {
    let whole: f64 = x.iter().map(|x| x.abs()).sum();
    let proximity = |c: &&[f64]| {
        let rest: f64 = x.iter().zip(*c).map(|(x, c)| (x - c).abs()).sum();
        (whole - rest).max(0.0)
    };
    let proximities: Vec<f64> = sent.iter().map(proximity).collect();
    let sum: f64 = proximities.iter().sum();
    let share = |p: f64| if sum > 0.0 { p / sum } else { 0.0 };
    proximities.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one_and_what_points_away_has_none() {
        let found = shares(&[2.0, -1.0], &[&[1.0, 0.0], &[0.0, -1.0], &[-3.0, 0.0]]);
        assert_eq!(found, [0.5, 0.5, 0.0]);
        assert_eq!(shares(&[1.0], &[&[-1.0]]), [0.0]);
    }
}
