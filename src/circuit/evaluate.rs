//! Circuits run alone: edges outside carry what an ablation says, edges inside what the run itself computes.
//!
//! Every receiver reads x + Σ (instead − now) over the senders before it whose edges to it are outside, x being the
//! run's own residual stream, `now` what the sender contributes in this very run and `instead` what the
//! ablation puts there (Hanna et al. 2024). So one forward pass is enough for a circuit, whatever its size, and
//! circuits of one pair are rows of one batch. A receiver of which every edge is inside reads the run's stream as it
//! stands, one of which none is the ablation's own, so that the whole graph is the clean run and the empty
//! one, patched, the source's, bit for bit. Contributions are summed up in double precision.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rayon::prelude::*;

use super::Circuit;
use super::contributions::{MeanContributions, length, places};
use crate::backend::{
    Attention, Backend, Epilogue, Linear, Norm, Readout, ReadoutSpec, Rows, Store, Weight,
};
use crate::execute::activations::CleanRows;
use crate::execute::{ExecuteError, Limits};
use crate::graph::contribution::{contributions, projected};
use crate::graph::edge::edges;
use crate::graph::node::{Projection, Receiver, Sender};
use crate::model::Checkpoint;
use crate::plan::tables::{AttentionRows, Ref};
use crate::prompt::pair::Pair;
use crate::site::Stage;

/// What edges outside of a circuit carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ablation {
    /// The source's contribution.
    #[default]
    Patch,
    /// Nothing.
    Zero,
    /// The mean contribution over all prompts and positions.
    Mean,
    /// The mean over all prompts, position by position.
    MeanByPosition,
}

const ABLATIONS: [(&str, Ablation); 4] = [
    ("patch", Ablation::Patch),
    ("zero", Ablation::Zero),
    ("mean", Ablation::Mean),
    ("mean-by-position", Ablation::MeanByPosition),
];

impl FromStr for Ablation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ABLATIONS.iter().find(|(name, _)| *name == text);
        found.map(|(_, ablation)| *ablation).ok_or_else(|| {
            format!("`{text}` is no ablation: write patch, zero, mean or mean-by-position")
        })
    }
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ABLATIONS[*self as usize].0)
    }
}

/// Why circuits cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Nothing to take contributions from.
    #[error(
        "edges outside a circuit carry a source prompt's contributions: give --source, or --ablation zero"
    )]
    NoSource,
    /// Positions of one prompt that another does not have.
    #[error(
        "pair {pair}: its prompts have {base} and {other} tokens, and {ablation} puts a contribution where it was taken: give prompts of equal length, or --ablation mean or zero"
    )]
    Lengths {
        /// Index of the pair.
        pair: usize,
        /// Tokens of its base.
        base: usize,
        /// Tokens of the other prompt.
        other: usize,
        /// Which ablation.
        ablation: Ablation,
    },
    /// Runs that do not fit the memory, or an interruption.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// What edges outside of circuits carry, of one pair.
#[derive(Debug, Clone, Copy)]
pub enum Instead<'a> {
    /// What the source contributes.
    Source,
    /// Nothing.
    Nothing,
    /// Means.
    Means(&'a MeanContributions),
}

/// Runs circuits of one pair; their readouts, in their order.
///
/// # Errors
///
/// [`EvaluateError`] where the pair lacks what the ablation needs, or the memory does not suffice.
pub fn evaluate<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: (usize, &Pair),
    circuits: &[&Circuit],
    instead: Instead<'_>,
    limits: &Limits<'_>,
) -> Result<Vec<Readout>, EvaluateError> {
    let prepared = PreparedPair::new(backend, model, pair, instead, limits)?;
    prepared.run(backend, model, circuits, limits)
}

/// A pair, and what every circuit of it needs.
#[derive(Debug)]
pub struct PreparedPair<'a> {
    pair: &'a Pair,
    length: usize,
    rows: CleanRows,
    /// Of the base, and with the source's contributions instead of the source.
    at: Vec<usize>,
    /// What edges outside carry, by sender.
    ablated: Vec<Vec<f64>>,
    /// What the base contributes, by sender.
    own: Vec<Vec<f64>>,
    /// Edges by what they go to, each list by sender.
    into: HashMap<Receiver, Vec<usize>>,
}

impl<'a> PreparedPair<'a> {
    /// Runs the pair's prompts clean.
    ///
    /// # Errors
    ///
    /// As [`evaluate`].
    pub fn new<B: Backend>(
        backend: &B,
        model: &Checkpoint,
        (index, pair): (usize, &'a Pair),
        instead: Instead<'_>,
        limits: &Limits<'_>,
    ) -> Result<Self, EvaluateError> {
        let config = backend.config();
        let length = length(pair);
        let base = &pair.base[..length];
        let mut prompts = vec![base];
        if let Instead::Source = instead {
            let source = pair.source.as_deref().ok_or(EvaluateError::NoSource)?;
            if source.len() != pair.base.len() {
                return Err(EvaluateError::Lengths {
                    pair: index,
                    base: pair.base.len(),
                    other: source.len(),
                    ablation: Ablation::Patch,
                });
            }
            prompts.push(&source[..length]);
        }
        let (rows, at) = CleanRows::new(backend, &prompts, &places(config), limits)?;
        let ablated = match instead {
            Instead::Source => contributions(model, &rows, at[1], length),
            Instead::Nothing => {
                vec![vec![0.0; length * config.width]; Sender::all(config).len()]
            }
            Instead::Means(MeanContributions(means)) => {
                let each = means.iter().map(|mean| match mean.len() == config.width {
                    true => mean.repeat(length),
                    false => mean.clone(),
                });
                each.collect()
            }
        };
        let own = contributions(model, &rows, at[0], length);
        let mut into: HashMap<Receiver, Vec<usize>> = HashMap::new();
        for (e, edge) in edges(config).iter().enumerate() {
            into.entry(edge.receiver).or_default().push(e);
        }
        Ok(Self {
            pair,
            length,
            rows,
            at,
            ablated,
            own,
            into,
        })
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        let contributions = self.ablated.iter().chain(&self.own).map(Vec::len);
        (contributions.sum::<usize>() * size_of::<f64>()) as u64 + self.rows.bytes()
    }

    /// Readouts of circuits, in their order.
    ///
    /// # Errors
    ///
    /// [`EvaluateError::Execute`] where the memory does not suffice, or somebody interrupts.
    pub fn run<B: Backend>(
        &self,
        backend: &B,
        model: &Checkpoint,
        circuits: &[&Circuit],
        limits: &Limits<'_>,
    ) -> Result<Vec<Readout>, EvaluateError> {
        let senders = self.own.len();
        let bytes = (senders + 8) * self.length * backend.config().width * size_of::<f64>();
        let most = (limits.memory as usize / 2 / bytes.max(1)).max(1);
        if bytes as u64 > limits.memory {
            return Err(EvaluateError::Execute(ExecuteError::Memory {
                needed: bytes as u64,
                budget: limits.memory,
            }));
        }
        let mut readouts = Vec::with_capacity(circuits.len());
        for circuits in circuits.chunks(most) {
            let batch = Batch::new(backend, model, self, circuits);
            readouts.extend(batch.run(limits)?);
            limits.pass(circuits.len());
        }
        Ok(readouts)
    }
}

/// Circuits of one pair, each some rows.
struct Batch<'a, B: Backend> {
    backend: &'a B,
    model: &'a Checkpoint,
    pair: &'a Pair,
    length: usize,
    circuits: Vec<Arc<[bool]>>,
    /// Contributions outside of circuits, by sender.
    instead: &'a [Vec<f64>],
    /// Those of the base.
    own: &'a [Vec<f64>],
    into: &'a HashMap<Receiver, Vec<usize>>,
    clean: (&'a CleanRows, &'a [usize]),
    /// Contributions of the runs themselves, by sender, as far as they are computed.
    now: Vec<Vec<f64>>,
}

impl<'a, B: Backend> Batch<'a, B> {
    fn new(
        backend: &'a B,
        model: &'a Checkpoint,
        of: &'a PreparedPair<'a>,
        circuits: &[&Circuit],
    ) -> Self {
        Self {
            backend,
            model,
            pair: of.pair,
            length: of.length,
            circuits: circuits.iter().map(|c| c.kept.clone().into()).collect(),
            instead: &of.ablated,
            own: &of.own,
            into: &of.into,
            clean: (&of.rows, &of.at),
            now: Vec::new(),
        }
    }

    /// The first layer that reads anything from outside of a circuit: before it, every circuit is the clean base.
    fn first_layer(&self) -> usize {
        let layers = self.model.config.layers;
        let reads = |layer: usize| {
            let mut of = Receiver::all(&self.model.config).into_iter();
            of.any(|receiver| {
                let own = match receiver {
                    Receiver::Head { layer: own, .. } | Receiver::Mlp { layer: own } => own,
                    Receiver::Logits => layers,
                };
                own == layer && {
                    let edges = self.edges_into(receiver);
                    let mut circuits = self.circuits.iter();
                    circuits.any(|kept| edges.iter().any(|edge| !kept[*edge]))
                }
            })
        };
        (0..layers).find(|layer| reads(*layer)).unwrap_or(layers)
    }

    fn rows(&self) -> usize {
        self.circuits.len() * self.length
    }

    /// Index of each edge into a receiver, by sender.
    fn edges_into(&self, receiver: Receiver) -> &'a [usize] {
        self.into.get(&receiver).map_or(&[], Vec::as_slice)
    }

    /// What a receiver reads, of every row.
    fn read(&self, stream: &[f64], receiver: Receiver, edges: &[usize]) -> Vec<f64> {
        let width = self.model.config.width;
        let stretch = self.length * width;
        let mut x = stream.to_vec();
        x.par_chunks_mut(stretch)
            .zip(&self.circuits)
            .enumerate()
            .for_each(|(c, (x, kept))| {
                let outside = edges.iter().enumerate();
                let outside = outside.filter(|(_, edge)| !kept[**edge]);
                let outside: Vec<usize> = outside.map(|(sender, _)| sender).collect();
                if outside.len() == edges.len() && self.whole_source(receiver, x) {
                    return;
                }
                for sender in outside {
                    let now = &self.now[sender][c * stretch..][..stretch];
                    let pairs = self.instead[sender].iter().zip(now);
                    x.iter_mut().zip(pairs).for_each(|(x, (i, n))| *x += i - n);
                }
            });
        x
    }

    /// The source's own stream, where all of it stands in for what a receiver reads.
    fn whole_source(&self, receiver: Receiver, x: &mut [f64]) -> bool {
        let (rows, prompts) = self.clean;
        let (Some(source), layers) = (prompts.get(1), self.model.config.layers) else {
            return false;
        };
        let (stage, layer) = match receiver {
            Receiver::Head { layer, .. } => (Stage::BlockInput, layer),
            Receiver::Mlp { layer } => (Stage::BlockMid, layer),
            Receiver::Logits => (Stage::BlockInput, layers),
        };
        let width = self.model.config.width;
        for (position, x) in x.chunks_exact_mut(width).enumerate() {
            x.copy_from_slice(rows.row(*source, stage, layer, position));
        }
        true
    }

    fn upload(&self, values: &[f64]) -> B::Matrix {
        let width = self.model.config.width;
        let rows = values.len() / width.max(1);
        self.backend.upload(rows, width, Store::Residual, values)
    }

    fn normed(&self, norm: Norm, values: &[f64]) -> B::Matrix {
        let (input, rows) = (self.upload(values), values.len() / self.model.config.width);
        let refs = Ref::first(rows);
        let mut out = self
            .backend
            .matrix(rows, self.model.config.width, Store::Branch);
        self.backend.layer_norm(norm, &own(&input, &refs), &mut out);
        out
    }

    fn run(mut self, limits: &Limits<'_>) -> Result<Vec<Readout>, ExecuteError> {
        let (backend, config) = (self.backend, &self.model.config);
        let (rows, width, heads) = (self.rows(), config.width, config.heads);
        let all: Vec<u32> = (0..rows as u32).collect();
        let refs = Ref::first(rows);
        let (clean, prompts) = self.clean;
        let begin = self.first_layer();
        let first = 0..self.length;
        let first = first.flat_map(|p| clean.row(prompts[0], Stage::BlockInput, begin, p));
        let first: Vec<f64> = first.copied().collect();
        let mut stream = first.repeat(self.circuits.len());
        // the input, and the heads and the MLP of each layer before
        let before = self.own[..1 + begin * (heads + 1)].iter();
        self.now = before
            .map(|sent| sent.repeat(self.circuits.len()))
            .collect();
        for layer in begin..config.layers {
            if limits.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(ExecuteError::Interrupted);
            }
            let weights = [
                Weight::Query(layer),
                Weight::Key(layer),
                Weight::Value(layer),
            ];
            let mut parts = weights.map(|_| backend.matrix(rows, width, Store::Heads));
            let d = config.head_width();
            for head in 0..heads {
                for (i, projection) in Projection::ALL.into_iter().enumerate() {
                    let receiver = Receiver::Head {
                        layer,
                        head,
                        projection,
                    };
                    let x = self.read(&stream, receiver, self.edges_into(receiver));
                    let normed = self.normed(Norm::Ln1(layer), &x);
                    let linear = Linear {
                        weight: weights[i],
                        columns: head * d..(head + 1) * d,
                        input: &normed,
                        rows: &all,
                        out_rows: Some(&all),
                        epilogue: Epilogue::None,
                    };
                    backend.linear(&linear, &mut parts[i]);
                }
            }
            let z = self.attend(layer, &parts);
            let standing = self.upload(&stream);
            let mut mid = backend.matrix(rows, width, Store::Residual);
            let linear = Linear {
                weight: Weight::AttentionOutput(layer),
                columns: 0..width,
                input: &z,
                rows: &all,
                out_rows: None,
                epilogue: Epilogue::Residual(own(&standing, &refs)),
            };
            backend.linear(&linear, &mut mid);
            let z = backend.read(&z)?;
            for head in 0..heads {
                self.now.push(projected(self.model, (layer, head), &z));
            }
            let after_attention = backend.read(&mid)?;
            let receiver = Receiver::Mlp { layer };
            let x = self.read(&after_attention, receiver, self.edges_into(receiver));
            let normed = self.normed(Norm::Ln2(layer), &x);
            let mut inner = backend.matrix(rows, config.inner, Store::Branch);
            let linear = Linear {
                weight: Weight::MlpPre(layer),
                columns: 0..config.inner,
                input: &normed,
                rows: &all,
                out_rows: None,
                epilogue: Epilogue::Activate,
            };
            backend.linear(&linear, &mut inner);
            let mut mlp = backend.matrix(rows, width, Store::Residual);
            let linear = Linear {
                weight: Weight::MlpOutput(layer),
                columns: 0..width,
                input: &inner,
                rows: &all,
                out_rows: None,
                epilogue: Epilogue::None,
            };
            backend.linear(&linear, &mut mlp);
            let mut out = backend.matrix(rows, width, Store::Residual);
            backend.add(&own(&mid, &refs), &own(&mlp, &refs), &mut out, 0);
            self.now.push(backend.read(&mlp)?);
            stream = backend.read(&out)?;
        }
        let x = self.read(&stream, Receiver::Logits, self.edges_into(Receiver::Logits));
        self.read_out(&x)
    }

    fn attend(&self, layer: usize, [query, key, value]: &[B::Matrix; 3]) -> B::Matrix {
        let (backend, length) = (self.backend, self.length);
        let mut table = AttentionRows::default();
        for circuit in 0..self.circuits.len() {
            let rows = circuit * length..(circuit + 1) * length;
            let refs = rows.clone().map(Ref::own);
            table.first.extend(rows.clone().map(|_| rows.start as u32));
            table.count.extend((0..length).map(|p| p as u32 + 1));
            for list in [&mut table.query, &mut table.key, &mut table.value] {
                list.extend(refs.clone());
            }
        }
        let attention = Attention {
            layer,
            query: (query, None),
            key: (key, None),
            value: (value, None),
            rows: &table,
            scores: &[],
            weights: &[],
            keep_scores: None,
            keep_pattern: None,
            stride: length,
        };
        let (rows, width) = (self.rows(), self.model.config.width);
        let mut z = backend.matrix(rows, width, Store::Heads);
        backend.attention(&attention, &mut [], &backend.constants(&[]), &mut z);
        z
    }

    /// Readouts at the last position, each compared with the clean base.
    fn read_out(&self, x: &[f64]) -> Result<Vec<Readout>, ExecuteError> {
        let (width, count) = (self.model.config.width, self.circuits.len());
        let (clean, prompts) = self.clean;
        let layers = self.model.config.layers;
        let lasts = (0..count).map(|c| &x[((c + 1) * self.length - 1) * width..][..width]);
        let base = clean.row(prompts[0], Stage::BlockInput, layers, self.length - 1);
        let values: Vec<f64> = lasts.chain([base]).flatten().copied().collect();
        let normed = self.normed(Norm::LnF, &values);
        let answers = self.pair.answers();
        let spec = ReadoutSpec {
            ids: answers.repeat(count),
            first: (0..=count).map(|c| c * answers.len()).collect(),
            base: vec![count as u32; count],
            ..ReadoutSpec::default()
        };
        let read = self.backend.readout(&normed, count, &spec)?;
        Ok(self.backend.finish(read)?)
    }
}

fn own<'a, M>(matrix: &'a M, refs: &'a [Ref]) -> Rows<'a, M> {
    Rows {
        own: matrix,
        cache: None,
        refs,
    }
}
