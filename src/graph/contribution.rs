//! What each sender writes into the residual stream of the source and not into the base's.
//!
//! A head contributes z · W_O, its rows of the attention's c_proj without the bias; an MLP its output;
//! the embeddings their sum. Biases are the same in both prompts and so no part of a difference. The
//! clean activations are those of the backend, in its precision; products and differences of them are
//! taken in double precision.

use std::sync::Arc;

use rayon::prelude::*;

use super::node::Sender;
use crate::backend::Backend;
use crate::execute::activations::{CleanRows, activations};
use crate::execute::{ExecuteError, Limits};
use crate::model::{Checkpoint, Config, Tensor};
use crate::site::{Component, Stage};

/// Source − base of what one sender contributes, where the two differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Positions at which any number differs, ascending.
    pub positions: Vec<usize>,
    /// One row of the residual stream's width for each position.
    pub values: Arc<[f64]>,
}

/// Source − base of what the senders of one pair compute, before heads are projected.
#[derive(Debug, Clone)]
pub struct Differences {
    length: usize,
    /// z of every head, `[heads, positions, d]`, by layer; empty where no head of it was asked for.
    z: Vec<Vec<f64>>,
    /// `[positions, width]`, by layer.
    mlp: Vec<Vec<f64>>,
    /// `[positions, width]`.
    input: Vec<f64>,
}

impl Difference {
    /// The part of it at one position, or all of it.
    pub fn at(&self, position: Option<usize>) -> Self {
        let Some(position) = position else {
            return self.clone();
        };
        match self.positions.binary_search(&position) {
            Ok(row) => {
                let width = self.values.len() / self.positions.len();
                Self {
                    positions: vec![position],
                    values: self.values[row * width..][..width].into(),
                }
            }
            Err(_) => Self {
                positions: Vec::new(),
                values: [].into(),
            },
        }
    }
}

impl Differences {
    /// Runs two prompts of one length clean and keeps what these senders compute.
    ///
    /// # Errors
    ///
    /// [`ExecuteError`], as [`activations`].
    pub fn new<B: Backend>(
        backend: &B,
        base: &[u32],
        source: &[u32],
        senders: &[Sender],
        limits: &Limits<'_>,
    ) -> Result<Self, ExecuteError> {
        let layers = backend.config().layers;
        let mut sites: Vec<(Component, Option<usize>)> = Vec::new();
        for sender in senders {
            let own: &[(Component, Option<usize>)] = match sender {
                Sender::Input => &[
                    (Component::TokenEmbedding, None),
                    (Component::PositionEmbedding, None),
                ],
                Sender::Head { layer, .. } => {
                    &[(Component::HeadAttentionValueOutput, Some(*layer))]
                }
                Sender::Mlp { layer } => &[(Component::MlpOutput, Some(*layer))],
            };
            sites.extend(own);
        }
        sites.sort_unstable();
        sites.dedup();
        let mut of_base = activations(backend, base, &sites, limits)?;
        let of_source = activations(backend, source, &sites, limits)?;
        let mut all = Self {
            length: base.len(),
            z: vec![Vec::new(); layers],
            mlp: vec![Vec::new(); layers],
            input: Vec::new(),
        };
        let places = sites.iter().zip(of_base.iter_mut().zip(&of_source));
        for ((component, layer), (base, source)) in places {
            let mut values = std::mem::take(&mut base.values);
            let theirs = source.values.iter();
            values.iter_mut().zip(theirs).for_each(|(b, s)| *b = s - *b);
            match (component, layer) {
                (Component::HeadAttentionValueOutput, Some(layer)) => all.z[*layer] = values,
                (Component::MlpOutput, Some(layer)) => all.mlp[*layer] = values,
                (Component::TokenEmbedding, _) => all.input = values,
                // every position's own, in both prompts the same
                _ => {}
            }
        }
        Ok(all)
    }

    /// Which clean rows a sender's contributions are made of.
    pub fn place(sender: Sender) -> (Stage, usize) {
        match sender {
            Sender::Input => (Stage::TokenEmbedding, 0),
            Sender::Head { layer, .. } => (Stage::Z, layer),
            Sender::Mlp { layer } => (Stage::MlpOutput, layer),
        }
    }

    /// The same of two prompts of one length whose clean rows are there already, the base's first.
    pub fn between(config: &Config, rows: &CleanRows, [base, source]: [usize; 2]) -> Self {
        let (length, d) = (rows.length(base), config.head_width());
        let of = |stage, layer| -> Vec<f64> {
            let each = (0..length).flat_map(|p| {
                let [b, s] = [base, source].map(|prompt| rows.row(prompt, stage, layer, p));
                b.iter().zip(s).map(|(b, s)| s - b)
            });
            each.collect()
        };
        let by_head = |z: Vec<f64>| -> Vec<f64> {
            let heads = 0..z.len() / (length * d).max(1);
            let row = |head: usize, p: usize| &z[p * config.width + head * d..][..d];
            let each = heads.flat_map(|head| (0..length).flat_map(move |p| row(head, p)));
            each.copied().collect()
        };
        let layers = 0..config.layers;
        Self {
            length,
            z: layers.clone().map(|l| by_head(of(Stage::Z, l))).collect(),
            mlp: layers.map(|l| of(Stage::MlpOutput, l)).collect(),
            input: of(Stage::TokenEmbedding, 0),
        }
    }

    /// The difference of one of the senders that were asked for.
    pub fn of(&self, sender: Sender, model: &Checkpoint) -> Difference {
        let width = model.config.width;
        let rows = self.rows(sender, model);
        let differs = |(_, row): &(usize, &[f64])| row.iter().any(|x| *x != 0.0);
        let (positions, kept): (Vec<usize>, Vec<&[f64]>) =
            rows.chunks_exact(width).enumerate().filter(differs).unzip();
        Difference {
            positions,
            values: kept.concat().into(),
        }
    }

    /// The same at every position, `[positions, width]`.
    pub fn rows(&self, sender: Sender, model: &Checkpoint) -> Vec<f64> {
        match sender {
            Sender::Input => self.input.clone(),
            Sender::Mlp { layer } => self.mlp[layer].clone(),
            Sender::Head { layer, head } => {
                let stretch = self.length * model.config.head_width();
                let z = &self.z[layer][head * stretch..][..stretch];
                of_head(model, layer, head, z)
            }
        }
    }
}

/// What each sender contributes in a clean run, `[positions, width]`.
pub fn contributions(
    model: &Checkpoint,
    rows: &CleanRows,
    prompt: usize,
    length: usize,
) -> Vec<Vec<f64>> {
    let config = &model.config;
    let of = |stage, layer| -> Vec<f64> {
        let each = (0..length).flat_map(|p| rows.row(prompt, stage, layer, p));
        each.copied().collect()
    };
    let senders = Sender::all(config);
    let sent = senders.into_iter().map(|sender| match sender {
        Sender::Input => of(Stage::BlockInput, 0),
        Sender::Mlp { layer } => of(Stage::MlpOutput, layer),
        Sender::Head { layer, head } => {
            let z = of(Stage::Z, layer);
            projected(model, (layer, head), &z)
        }
    });
    sent.collect()
}

/// A head's columns of z through its rows of c_proj, `[rows, width]`.
pub fn projected(model: &Checkpoint, (layer, head): (usize, usize), z: &[f64]) -> Vec<f64> {
    let (width, d) = (model.config.width, model.config.head_width());
    let own = z.chunks_exact(width).flat_map(|row| &row[head * d..][..d]);
    of_head(model, layer, head, &own.copied().collect::<Vec<f64>>())
}

/// What a head adds to the residual stream, `[positions, width]`, of its z, `[positions, d]`.
pub fn of_head(model: &Checkpoint, layer: usize, head: usize, z: &[f64]) -> Vec<f64> {
    let (d, width) = (model.config.head_width(), model.config.width);
    let c_proj = model.layer(layer).c_proj.weight;
    let rows = Tensor {
        shape: [d, width],
        data: c_proj.data.slice(head * d * width, d * width),
    };
    product(z, &rows.to_vec::<f64>(), d, width)
}

/// `[n, d]` · `[d, width]`; a row of zeros gives exactly zeros.
fn product(rows: &[f64], weight: &[f64], d: usize, width: usize) -> Vec<f64> {
    let mut out = vec![0.0; rows.len() / d * width];
    let each = out
        .par_chunks_exact_mut(width)
        .zip(rows.par_chunks_exact(d));
    each.for_each(|(out, row)| {
        for (x, weight) in row.iter().zip(weight.chunks_exact(width)) {
            out.iter_mut().zip(weight).for_each(|(o, w)| *o += x * w);
        }
    });
    out
}
