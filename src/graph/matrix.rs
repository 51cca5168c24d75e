//! Edge patching's results as arrays, senders × receivers, and × positions where each is patched by itself.

use std::collections::HashSet;

use super::edge::Edge;
use super::extent::EdgeAt;
use super::node::{Receiver, Sender};
use super::patching::Batch;
use crate::sweep::metric::{Metric, Reading};

/// One metric of every edge of every pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The metric.
    pub metric: Metric,
    /// Values that a run has: one for each target where they differ between targets, else 1. The most
    /// of any pair.
    pub targets: usize,
    /// Each pair's values, `[targets, …]` with the axes of [`Matrices::shape`] behind; NaN where there is
    /// no such edge or position.
    pairs: Vec<Vec<Vec<f64>>>,
    /// The clean base's, by pair and target.
    base: Vec<Vec<f64>>,
    /// The clean source's, by pair and target.
    source: Vec<Vec<f64>>,
}

/// The matrices of some metrics, with the nodes that stand along them.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    /// Tokens of the longest prompt, where each position is patched by itself.
    positions: Option<usize>,
    /// One a metric, in the order given.
    pub of: Vec<Matrix>,
}

impl Matrices {
    /// Matrices over the nodes of these edges; where each position is patched by itself, over so many
    /// positions, those of the longest prompt.
    pub fn new(edges: &[Edge], positions: Option<usize>, metrics: &[Metric]) -> Self {
        let (mut from, mut to) = (HashSet::new(), HashSet::new());
        let senders = edges.iter().map(|edge| edge.sender);
        let receivers = edges.iter().map(|edge| edge.receiver);
        let empty = |metric: &Metric| Matrix {
            metric: *metric,
            targets: 0,
            pairs: Vec::new(),
            base: Vec::new(),
            source: Vec::new(),
        };
        Self {
            senders: senders.filter(|sender| from.insert(*sender)).collect(),
            receivers: receivers.filter(|receiver| to.insert(*receiver)).collect(),
            positions,
            of: metrics.iter().map(empty).collect(),
        }
    }

    /// How long each axis is: senders, receivers, and positions where each is patched by itself.
    pub fn shape(&self) -> Vec<usize> {
        let nodes = [self.senders.len(), self.receivers.len()];
        nodes.into_iter().chain(self.positions).collect()
    }

    /// Names of the senders, in order.
    pub fn senders(&self) -> Vec<String> {
        self.senders.iter().map(Sender::to_string).collect()
    }

    /// Names of the receivers, in order.
    pub fn receivers(&self) -> Vec<String> {
        self.receivers.iter().map(Receiver::to_string).collect()
    }

    /// Adds edges of the pair of this index; pairs come in order.
    pub fn add(&mut self, index: usize, batch: &Batch) {
        let size = self.shape().iter().product();
        let Some(read) = batch.outcome.pairs.first() else {
            return;
        };
        let Some(base) = read.base.last() else { return };
        let reading = |run| Reading {
            pair: &batch.pair.pair,
            base,
            source: read.source.as_ref(),
            run,
        };
        let places: Vec<Option<usize>> = batch.edges.iter().map(|e| self.place(e)).collect();
        for matrix in &mut self.of {
            let metric = matrix.metric;
            let targets = metric.values(&batch.pair.pair);
            let each = |run| (0..targets).map(move |i| metric.of(&reading(run), i));
            if matrix.pairs.len() == index {
                matrix.targets = matrix.targets.max(targets);
                matrix.pairs.push(vec![vec![f64::NAN; size]; targets]);
                matrix.base.push(each(base).collect());
                let source = read.source.as_ref();
                matrix
                    .source
                    .push(source.into_iter().flat_map(each).collect());
            }
            let Some(values) = matrix.pairs.get_mut(index) else {
                continue;
            };
            for (place, run) in places.iter().zip(&read.runs) {
                if let (Some(place), Some(run)) = (place, run.last()) {
                    values
                        .iter_mut()
                        .zip(each(run))
                        .for_each(|(v, x)| v[*place] = x);
                }
            }
        }
    }

    fn place(&self, EdgeAt { edge, position }: &EdgeAt) -> Option<usize> {
        let sender = self.senders.iter().position(|s| *s == edge.sender)?;
        let receiver = self.receivers.iter().position(|r| *r == edge.receiver)?;
        let place = sender * self.receivers.len() + receiver;
        match (self.positions, *position) {
            (None, None) => Some(place),
            (Some(count), Some(position)) => (position < count).then_some(place * count + position),
            _ => None,
        }
    }
}

impl Matrix {
    /// The mean over the pairs that have the place, and over their targets.
    pub fn mean(&self) -> Vec<f64> {
        let each: Vec<Vec<f64>> = self.pairs.iter().map(|pair| over(pair)).collect();
        over(&each)
    }

    /// The mean over each pair's targets, `[pairs, …]`.
    pub fn pairs(&self) -> Vec<f64> {
        self.pairs.iter().flat_map(|pair| over(pair)).collect()
    }

    /// Every value, `[pairs, targets, …]`; NaN where a pair has fewer targets.
    pub fn every(&self) -> Vec<f64> {
        let size = self.pairs.iter().flatten().map(Vec::len).max().unwrap_or(0);
        let nothing = vec![f64::NAN; size];
        let pair = |pair: &Vec<Vec<f64>>| -> Vec<f64> {
            let missing = std::iter::repeat_n(&nothing, self.targets - pair.len());
            pair.iter().chain(missing).flatten().copied().collect()
        };
        self.pairs.iter().flat_map(pair).collect()
    }

    /// The clean base's value of each pair, the mean over its targets.
    pub fn base(&self) -> Vec<f64> {
        self.base.iter().map(|x| mean(x.iter().copied())).collect()
    }

    /// The clean source's.
    pub fn source(&self) -> Vec<f64> {
        self.source
            .iter()
            .map(|x| mean(x.iter().copied()))
            .collect()
    }
}

/// Element by element, the mean of some arrays.
fn over(arrays: &[Vec<f64>]) -> Vec<f64> {
    let size = arrays.first().map_or(0, Vec::len);
    (0..size)
        .map(|i| mean(arrays.iter().map(|array| array[i])))
        .collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let known = values.filter(|x| !x.is_nan());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}
