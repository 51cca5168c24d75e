//! AtP* (Kramár et al. 2024): two corrections of attribution patching for what it misses.
//!
//! **Saturated attention.** What a query or a key changes is not taken through the slope of the softmax: the pattern
//! with the patched query or key is computed, and the change of the pattern is what the gradient is multiplied
//! with: Σ (P′ − P) · ∂m/∂P. Of one key among the others the softmax is not computed again: with
//! e = exp(s′ − s) − 1, what the row gives moves by P e (g − Σ P g) / (1 + P e).
//!
//! **Effects that cancel.** GradDrop: the estimate is made once more for each layer, with a gradient that does not
//! go through what that layer's attention and MLP add; the mean of these estimates' sizes is the size of the
//! score, which has the sign of the estimate with the whole gradient.

use std::collections::HashMap;

use super::PairScores;
use super::mean::MeanGradient;
use crate::execute::activations::CleanRows;
use crate::model::Config;
use crate::plan::edit::Edit;
use crate::site::Stage;

/// Below this share of the softmax's denominator what is left of it is summed up again.
const CANCELS: f64 = 1e-3;

/// Whether an edit goes through the softmax exactly.
pub fn is_exact(edit: &Edit) -> bool {
    matches!(edit.stage, Stage::Query | Stage::Key)
}

/// Scores of a pair's clean attention in one layer, head by head, as far as they were asked for.
pub struct CleanScores<'a> {
    config: &'a Config,
    rows: &'a CleanRows,
    /// The base.
    prompt: usize,
    layer: usize,
    length: usize,
    /// Of each head: row by row up to the diagonal.
    of: HashMap<usize, Vec<Vec<f64>>>,
}

/// What stands in place of a head's query or key, by position.
type Written = HashMap<usize, Vec<f64>>;

impl<'a> CleanScores<'a> {
    /// Of one layer of the prompt of this index, up to `length`.
    pub fn new(
        config: &'a Config,
        rows: &'a CleanRows,
        prompt: usize,
        layer: usize,
        length: usize,
    ) -> Self {
        Self {
            config,
            rows,
            prompt,
            layer,
            length,
            of: HashMap::new(),
        }
    }

    fn clean(&self, stage: Stage, head: usize, position: usize) -> &'a [f64] {
        let d = self.config.head_width();
        &self.rows.row(self.prompt, stage, self.layer, position)[head * d..][..d]
    }

    /// q · k, as attention scales it.
    fn score(&self, query: &[f64], key: &[f64]) -> f64 {
        let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
        dot * self.config.score_scale(self.layer)
    }

    fn make(&mut self, head: usize) {
        if !self.of.contains_key(&head) {
            let row = |query: usize| {
                let q = self.clean(Stage::Query, head, query);
                let keys = (0..=query).map(|key| self.clean(Stage::Key, head, key));
                keys.map(|k| self.score(q, k)).collect()
            };
            let rows = (0..self.length).map(row).collect();
            self.of.insert(head, rows);
        }
    }

    /// Σ (P′ − P) · ∂m/∂P over every head and query, P′ being the pattern with what some edits of queries and
    /// keys write: each is told with what it adds to what stood there.
    pub fn estimate(&mut self, edits: &[(&Edit, Vec<f64>)], gradient: &MeanGradient) -> f64 {
        let d = self.config.head_width();
        let heads = edits.iter().flat_map(|(edit, added)| {
            let last = edit.column + added.len().max(1) - 1;
            edit.column / d..=last / d
        });
        let mut heads: Vec<usize> = heads.collect();
        heads.sort_unstable();
        heads.dedup();
        let mut sum = 0.0;
        for head in heads {
            self.make(head);
            let [queries, keys] = [Stage::Query, Stage::Key].map(|stage| {
                let own = edits.iter().filter(|(edit, _)| edit.stage == stage);
                self.written(own, stage, head)
            });
            sum += self.head(head, &queries, &keys, gradient);
        }
        sum
    }

    /// What stands in one head's rows after edits.
    fn written<'e>(
        &self,
        edits: impl Iterator<Item = &'e (&'e Edit, Vec<f64>)>,
        stage: Stage,
        head: usize,
    ) -> Written {
        let d = self.config.head_width();
        let mut written = Written::new();
        for (edit, added) in edits {
            for (column, x) in (edit.column..).zip(added) {
                if column / d == head {
                    let row = written
                        .entry(edit.position)
                        .or_insert_with(|| self.clean(stage, head, edit.position).to_vec());
                    row[column % d] += x;
                }
            }
        }
        written
    }

    fn head(&self, head: usize, queries: &Written, keys: &Written, of: &MeanGradient) -> f64 {
        let stride = of.width / self.config.heads;
        let first = keys.keys().chain(queries.keys()).min();
        let first = first.copied().unwrap_or(self.length);
        let mut changed: Vec<usize> = keys.keys().copied().collect();
        changed.sort_unstable();
        let mut sum = 0.0;
        for query in first..self.length {
            let scores = &self.of[&head][query];
            let gradient = &of.values[query * of.width + head * stride..][..scores.len()];
            let seen = changed.partition_point(|key| *key <= query);
            let new = queries.get(&query);
            sum += match (new, &changed[..seen]) {
                (None, []) => 0.0,
                (None, [key]) => {
                    let own = self.clean(Stage::Query, head, query);
                    let moved = self.score(own, &keys[key]) - scores[*key];
                    one_key(scores, *key, moved, gradient)
                }
                (new, changed) => {
                    let own = new.map_or(self.clean(Stage::Query, head, query), Vec::as_slice);
                    let mut after = scores.clone();
                    for (key, score) in after.iter_mut().enumerate() {
                        let is_written = changed.binary_search(&key).is_ok();
                        if new.is_some() || is_written {
                            let key = match is_written {
                                true => &keys[&key],
                                false => self.clean(Stage::Key, head, key),
                            };
                            *score = self.score(own, key);
                        }
                    }
                    softmax_mean(&after, gradient) - softmax_mean(scores, gradient)
                }
            };
        }
        sum
    }
}

/// Σ softmax(s) g.
fn softmax_mean(scores: &[f64], gradient: &[f64]) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut weights, mut sum) = (0.0, 0.0);
    for (s, g) in scores.iter().zip(gradient) {
        let weight = (s - most).exp();
        weights += weight;
        sum += weight * g;
    }
    sum / weights
}

/// How far Σ softmax(s) g moves where the score of one key does.
fn one_key(scores: &[f64], key: usize, moved: f64, gradient: &[f64]) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = scores.iter().map(|s| (s - most).exp());
    let p = (scores[key] - most).exp() / weights.sum::<f64>();
    // both numerator and denominator by exp(moved) where that is large
    let (change, whole) = match moved > 0.0 {
        true => (-(-moved).exp_m1(), (-moved).exp()),
        false => (moved.exp_m1(), 1.0),
    };
    let denominator = whole + p * change;
    if denominator < CANCELS * whole.max(p * change.abs()) {
        let mut after = scores.to_vec();
        after[key] += moved;
        return softmax_mean(&after, gradient) - softmax_mean(scores, gradient);
    }
    p * change * (gradient[key] - softmax_mean(scores, gradient)) / denominator
}

/// Scores out of estimates, which are of each run first those with the whole gradient and then layer by layer those
/// without one: the mean size over the layers that a run does not stand in, with the sign of the first.
pub fn over_drops(estimates: &PairScores, layers: usize, inside: &[Option<usize>]) -> PairScores {
    let values = estimates.values / (1 + layers);
    let mut scores = Vec::with_capacity(values * inside.len());
    let each = estimates.scores.chunks_exact(estimates.values.max(1));
    for (of, own) in each.zip(inside) {
        for value in 0..values {
            let others = (0..layers).filter(|layer| Some(*layer) != *own);
            let sizes = others.map(|layer| of[(1 + layer) * values + value].abs());
            let size = sizes.sum::<f64>() / (layers - usize::from(own.is_some())) as f64;
            scores.push(if size == 0.0 {
                0.0
            } else {
                size.copysign(of[value])
            });
        }
    }
    PairScores { values, scores }
}

/// The layer inside of which a run patches, if it is one: what it changes goes into the residual stream by that layer's
/// attention or MLP alone.
pub fn inside<'e>(mut edits: impl Iterator<Item = &'e Edit>) -> Option<usize> {
    let of = |edit: &Edit| match edit.stage {
        Stage::TokenEmbedding
        | Stage::PositionEmbedding
        | Stage::BlockInput
        | Stage::BlockMid
        | Stage::BlockOutput
        | Stage::LnFScale
        | Stage::LnFNormalized
        | Stage::FinalOutput => None,
        _ => Some(edit.layer),
    };
    let first = of(edits.next()?)?;
    edits.all(|edit| of(edit) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However far one score moves, the short form is the softmax's.
    #[test]
    fn one_key_is_the_softmax_again() {
        let scores = [0.3, -1.2, 2.0, 40.0, 0.1];
        let gradient = [1.0, -2.0, 0.5, 3.0, -0.7];
        for key in 0..scores.len() {
            for moved in [0.0, 1e-9, 0.4, -3.0, 35.0, -39.9, -60.0, 800.0, -800.0] {
                let mut after = scores;
                after[key] += moved;
                let want = softmax_mean(&after, &gradient) - softmax_mean(&scores, &gradient);
                let got = one_key(&scores, key, moved, &gradient);
                assert!((got - want).abs() < 1e-12, "{key} {moved}: {got} {want}");
            }
        }
    }
}
