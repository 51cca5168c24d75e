//! Results of a pair as arrays: a value of each metric at each place along some named axes.

use std::collections::HashSet;

use super::edge::Edge;
use super::extent::EdgeAt;
use super::node::{Receiver, Sender};
use crate::execute::PairOutcome;
use crate::prompt::pair::Pair;
use crate::results::array::{Array, Arrays};
use crate::results::metric::{Metric, Reading};

/// One metric of every place of every pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The metric.
    pub metric: Metric,
    /// Values that a run has: one for each target where they differ between targets, else 1. The most
    /// of any pair.
    pub targets: usize,
    /// Each pair's values, `[targets, …]` with the axes of [`Matrices`] behind; NaN where nothing was
    /// run.
    pairs: Vec<Vec<Vec<f64>>>,
    /// The clean base's, by pair and target.
    base: Vec<Vec<f64>>,
    /// The clean source's, by pair and target.
    source: Vec<Vec<f64>>,
}

/// An axis: its name, and how many coordinates it has, and what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Such as `sender`.
    pub name: &'static str,
    /// Its coordinates' number.
    pub length: usize,
    /// Their names or numbers.
    pub coordinates: Array,
}

/// The matrices of some metrics, with what stands along them.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    axes: Vec<Axis>,
    /// One a metric, in the order given.
    pub of: Vec<Matrix>,
}

/// What stands along the matrices of edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeAxes {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    /// Tokens of the longest prompt, where each position is patched by itself.
    positions: Option<usize>,
}

impl Axis {
    /// An axis of things that have names.
    pub fn named(name: &'static str, names: Vec<String>) -> Self {
        Self {
            name,
            length: names.len(),
            coordinates: Array::Texts(names),
        }
    }

    /// An axis of so many numbers, from 0.
    pub fn numbered(name: &'static str, length: usize) -> Self {
        Self {
            name,
            length,
            coordinates: Array::indices((0..length).collect()),
        }
    }
}

impl EdgeAxes {
    /// The nodes of these edges; where each position is patched by itself, so many positions, those of
    /// the longest prompt.
    pub fn new(edges: &[Edge], positions: Option<usize>) -> Self {
        let (mut from, mut to) = (HashSet::new(), HashSet::new());
        let senders = edges.iter().map(|edge| edge.sender);
        let receivers = edges.iter().map(|edge| edge.receiver);
        Self {
            senders: senders.filter(|sender| from.insert(*sender)).collect(),
            receivers: receivers.filter(|receiver| to.insert(*receiver)).collect(),
            positions,
        }
    }

    /// As axes.
    pub fn axes(&self) -> Vec<Axis> {
        let senders = self.senders.iter().map(Sender::to_string);
        let receivers = self.receivers.iter().map(Receiver::to_string);
        let nodes = [
            Axis::named("sender", senders.collect()),
            Axis::named("receiver", receivers.collect()),
        ];
        let positions = self
            .positions
            .map(|count| Axis::numbered("position", count));
        nodes.into_iter().chain(positions).collect()
    }

    /// Where an edge's value stands, if it has a place here.
    pub fn place(&self, EdgeAt { edge, position }: &EdgeAt) -> Option<usize> {
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

impl Matrices {
    /// Matrices over these axes, without pairs yet.
    pub fn new(axes: Vec<Axis>, metrics: &[Metric]) -> Self {
        let empty = |metric: &Metric| Matrix {
            metric: *metric,
            targets: 0,
            pairs: Vec::new(),
            base: Vec::new(),
            source: Vec::new(),
        };
        Self {
            axes,
            of: metrics.iter().map(empty).collect(),
        }
    }

    /// Adds what was read of the pair of this index, where each run's value stands at one of `places`;
    /// pairs come in order.
    pub fn add(&mut self, index: usize, pair: &Pair, read: &PairOutcome, places: &[Option<usize>]) {
        let size = self.axes.iter().map(|axis| axis.length).product();
        let Some(base) = read.base.last() else { return };
        let reading = |run| Reading {
            pair,
            base,
            source: read.source.as_ref(),
            run,
        };
        for matrix in &mut self.of {
            let metric = matrix.metric;
            let targets = metric.values(pair);
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

    /// Of each metric `m`: `m`, the mean over pairs; `m_pairs`, `m_base` and `m_source`, of each pair;
    /// and `m_targets`, of each pair and target, where targets differ. Then the names of the axes, and
    /// what stands along each.
    pub fn arrays(&self) -> Arrays {
        let shape: Vec<usize> = self.axes.iter().map(|axis| axis.length).collect();
        let with = |first: &[usize]| [first, &shape].concat();
        let mut arrays = Arrays::new();
        for matrix in &self.of {
            let base = matrix.base();
            let pairs = base.len();
            let mut add = |name: &str, shape, values| {
                let name = format!("{}{name}", matrix.metric);
                arrays.push((name, Array::Floats(shape, values)));
            };
            add("", with(&[]), matrix.mean());
            add("_pairs", with(&[pairs]), matrix.pairs());
            if matrix.targets > 1 {
                let every = with(&[pairs, matrix.targets]);
                add("_targets", every, matrix.every());
            }
            add("_base", vec![pairs], base);
            add("_source", vec![pairs], matrix.source());
        }
        let names = self.axes.iter().map(|axis| axis.name.to_owned());
        arrays.push(("axes".into(), Array::Texts(names.collect())));
        let along = self.axes.iter();
        arrays.extend(along.map(|axis| (axis.name.to_owned(), axis.coordinates.clone())));
        arrays
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
