//! Means of gradients over the points of a path, as they arrive.
//!
//! Points are added in the order of the path, whichever chunk they are in, so that a mean has one order of
//! sums. Where all points of a pair are in one chunk, nothing is held beyond the stage that arrives.

use std::collections::HashMap;

use crate::backend::Readout;
use crate::execute::gradient::{GradientSink, LogitWeights, RunGradients};
use crate::prompt::pair::Pair;
use crate::results::metric::Metric;
use crate::site::Stage;

/// A layer, its stage, and the head that reads a copy of its own.
pub type Place = (usize, Stage, Option<usize>);

/// The mean gradient of one pair at one place.
#[derive(Debug)]
pub struct MeanGradient {
    /// Index of the pair, among those of the group.
    pub pair: usize,
    /// Which of the metric's values.
    pub which: usize,
    /// Where.
    pub place: Place,
    /// Numbers of a row.
    pub width: usize,
    /// `[positions, width]`.
    pub values: Vec<f64>,
}

/// Takes what has arrived at some stage for some pairs.
pub trait TakeMeans {
    /// Means that are whole now.
    fn take(&mut self, means: Vec<MeanGradient>);
}

/// A run of a path.
#[derive(Debug, Clone, Copy)]
pub struct PointOf {
    /// Of which pair of the group.
    pub pair: usize,
    /// What it counts.
    pub weight: f64,
}

/// Gathers the gradients of paths.
pub struct PathMeans<'a> {
    pairs: &'a [&'a Pair],
    metric: Metric,
    points: &'a [PointOf],
    /// How many points each pair has.
    counts: Vec<usize>,
    /// Layers that are dropped one after the other, beside the gradient itself.
    drops: usize,
    sums: HashMap<(usize, usize, Place), (usize, Vec<f64>)>,
    to: &'a mut dyn TakeMeans,
}

impl<'a> PathMeans<'a> {
    /// Of these runs, in this order.
    pub fn new(
        pairs: &'a [&'a Pair],
        metric: Metric,
        points: &'a [PointOf],
        to: &'a mut dyn TakeMeans,
    ) -> Self {
        let mut counts = vec![0; pairs.len()];
        points.iter().for_each(|point| counts[point.pair] += 1);
        Self {
            pairs,
            metric,
            points,
            counts,
            drops: 0,
            sums: HashMap::new(),
            to,
        }
    }

    /// With the gradients that do not go through one of so many layers behind the others: of `values` values
    /// a run has `values · (1 + layers)` gradients.
    pub fn dropping(mut self, layers: usize) -> Self {
        self.drops = layers;
        self
    }
}

impl GradientSink for PathMeans<'_> {
    fn logits(&mut self, run: usize, readout: &Readout) -> Vec<LogitWeights> {
        let pair = self.pairs[self.points[run].pair];
        // that there are some has been checked
        let own = self.metric.gradients(pair, readout).unwrap_or_default();
        let count = own.len() * (1 + self.drops);
        own.into_iter().cycle().take(count).collect()
    }

    fn dropped(&self, run: usize, which: usize) -> Option<usize> {
        let pair = self.pairs[self.points[run].pair];
        (which / self.metric.values(pair)).checked_sub(1)
    }

    fn gradients(&mut self, gradients: &RunGradients<'_>) {
        let place = (gradients.layer, gradients.stage, gradients.head);
        let mut whole = Vec::new();
        for (run, values) in gradients.runs() {
            let PointOf { pair, weight } = self.points[run];
            let key = (pair, gradients.which, place);
            let (count, sum) = self
                .sums
                .entry(key)
                .or_insert_with(|| (0, vec![0.0; values.len()]));
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, x)| *sum += weight * x);
            *count += 1;
            if *count == self.counts[pair]
                && let Some((_, values)) = self.sums.remove(&key)
            {
                whole.push(MeanGradient {
                    pair,
                    which: gradients.which,
                    place,
                    width: gradients.width,
                    values,
                });
            }
        }
        self.to.take(whole);
    }
}
