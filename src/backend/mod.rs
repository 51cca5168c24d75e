//! The contract between the forward pass and a device.
//!
//! [`crate::forward`] describes GPT-2 once, in the few fused operations below; a backend implements
//! them. Everything that can be decided without touching an activation — which rows exist, where
//! each reads — has been decided by [`crate::plan`], so the devices share it.
//!
//! Every operation obeys three rules, which together make results bit-identical however a sweep is
//! cut and ordered:
//!
//! 1. a row's result depends on that row's inputs alone, never on which other rows are there;
//! 2. the order of every sum depends on the weights' shape and the precision alone;
//! 3. a value that can be patched or kept is rounded to the backend's stored type where it stands,
//!    whether or not a patch is there, so that fusing operations changes no bit.

pub mod cpu;

use crate::model::Config;
use crate::plan::tables::{AttentionRows, Ref, Write};

/// Which row table an embedding reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// wte, indexed by token id.
    Token,
    /// wpe, indexed by position.
    Position,
}

/// A layer norm's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// ln_1 of a layer.
    Ln1(usize),
    /// ln_2 of a layer.
    Ln2(usize),
    /// The final layer norm.
    LnF,
}

/// A linear layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The query third of c_attn: D → D.
    Query(usize),
    /// The key third of c_attn: D → D.
    Key(usize),
    /// The value third of c_attn: D → D.
    Value(usize),
    /// The attention's c_proj: D → D.
    AttentionOutput(usize),
    /// c_fc: D → I.
    MlpPre(usize),
    /// The MLP's c_proj: I → D.
    MlpOutput(usize),
}

/// Rows of two matrices: the chunk's own and the trace's.
#[derive(Debug)]
pub struct Rows<'a, M> {
    /// The chunk's own buffer.
    pub own: &'a M,
    /// The trace's matrix; `None` where every row is the chunk's own.
    pub trace: Option<&'a M>,
    /// Which row is which.
    pub refs: &'a [Ref],
}

/// One linear layer over some rows: `out = epilogue(input · W + bias)`.
#[derive(Debug)]
pub struct Linear<'a, M> {
    /// The weights.
    pub weight: Weight,
    /// Columns of the weight that are computed: all of them, or one head's.
    pub columns: std::ops::Range<usize>,
    /// The input, `[_, K]`.
    pub input: &'a M,
    /// Rows of the input, in the order of the result's.
    pub rows: &'a [u32],
    /// Rows of `out` to write; `None` is 0, 1, 2 …
    pub out_rows: Option<&'a [u32]>,
    /// What follows the bias.
    pub epilogue: Epilogue<'a, M>,
}

/// What follows a linear layer's bias before the result is stored.
#[derive(Debug)]
pub enum Epilogue<'a, M> {
    /// Nothing.
    None,
    /// The checkpoint's activation function.
    Activate,
    /// Adds the residual stream.
    Residual(Rows<'a, M>),
}

/// Ragged causal attention over every head: `z = softmax(q kᵀ · scale) v`.
#[derive(Debug)]
pub struct Attention<'a, M> {
    /// Layer, which may set the scale of the scores.
    pub layer: usize,
    /// Queries: the chunk's own, and the trace's by index.
    pub query: (&'a M, Option<usize>),
    /// Keys, likewise.
    pub key: (&'a M, Option<usize>),
    /// Values, likewise.
    pub value: (&'a M, Option<usize>),
    /// Which rows are which.
    pub rows: &'a AttentionRows,
    /// Overwrites of the scores before the softmax, ordered by row.
    pub scores: &'a [Write],
    /// Overwrites of the pattern after it, ordered by row.
    pub weights: &'a [Write],
    /// Where scores and pattern are kept, if they are.
    pub keep_scores: Option<KeepKeys<'a>>,
    /// See `keep_scores`.
    pub keep_weights: Option<KeepKeys<'a>>,
    /// Columns from one head to the next in kept scores and pattern.
    pub stride: usize,
}

/// Rows of scores or pattern to keep.
#[derive(Debug, Clone, Copy)]
pub struct KeepKeys<'a> {
    /// Index of the trace's matrix, `[rows, heads · stride]`.
    pub slot: usize,
    /// For each computed row of z, the trace's row.
    pub to: &'a [u32],
}

/// What is read out at the last step.
#[derive(Debug, Clone, Default)]
pub struct ReadoutSpec {
    /// Token ids whose logits are wanted: those of row i are `ids[first[i]..first[i + 1]]`.
    pub ids: Vec<u32>,
    /// See `ids`; one longer than there are rows.
    pub first: Vec<usize>,
    /// How many of the most probable tokens are wanted, for every row.
    pub top: usize,
}

/// The next-token distribution of one row, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readout {
    /// Natural logarithm of Σ exp(logit) over the vocabulary.
    pub log_sum_exp: f64,
    /// Logits of the wanted ids, in the order asked.
    pub logits: Vec<f64>,
    /// The most probable ids with their logits, most probable first, ties by lower id.
    pub top: Vec<(u32, f64)>,
}

impl Readout {
    /// Natural logarithm of a logit's probability.
    pub fn log_probability(&self, logit: f64) -> f64 {
        logit - self.log_sum_exp
    }
}

/// A device that can run the forward pass.
///
/// Matrices are row-major `[rows, width]` in the backend's stored type. Contents of a fresh or
/// resized matrix are unspecified; the plan guarantees that every row is written before it is read.
pub trait Backend: Sync {
    /// A matrix on the device.
    type Matrix: Send + Sync;

    /// The model's shape.
    fn config(&self) -> &Config;

    /// A matrix of unspecified contents.
    fn matrix(&self, rows: usize, width: usize) -> Self::Matrix;

    /// Changes the number of rows, keeping the allocation where it is large enough.
    fn resize(&self, matrix: &mut Self::Matrix, rows: usize);

    /// Bytes of one number of a matrix.
    fn value_bytes(&self) -> usize;

    /// Bytes of activations beyond which a larger chunk wins nothing.
    fn chunk_bytes(&self) -> u64;

    /// A matrix of these values, row by row, rounded to the stored type.
    fn upload(&self, rows: usize, width: usize, values: &[f64]) -> Self::Matrix;

    /// The contents, row by row.
    fn read(&self, matrix: &Self::Matrix) -> Vec<f64>;

    /// Whether two stretches of rows are equal bit for bit: `(matrix, row, column)` each.
    fn same(
        &self,
        a: (&Self::Matrix, usize, usize),
        b: (&Self::Matrix, usize, usize),
        length: usize,
    ) -> bool;

    /// Rows `0..index.len()` of `out` become rows of a table.
    fn embed(&self, table: Embedding, index: &[u32], out: &mut Self::Matrix);

    /// Rows `at..` of `out` become rows of `from`.
    fn gather(&self, rows: &Rows<'_, Self::Matrix>, out: &mut Self::Matrix, at: usize);

    /// Rows `to` of `kept` become rows `from` of `matrix`.
    fn keep(&self, matrix: &Self::Matrix, from: &[u32], kept: &mut Self::Matrix, to: &[u32]);

    /// Rows `at..` of `out` become a + b.
    fn add(
        &self,
        a: &Rows<'_, Self::Matrix>,
        b: &Rows<'_, Self::Matrix>,
        out: &mut Self::Matrix,
        at: usize,
    );

    /// Layer norm with its weight and bias.
    fn layer_norm(&self, norm: Norm, input: &Rows<'_, Self::Matrix>, out: &mut Self::Matrix);

    /// sqrt(variance + ε), one a row: the first third of a layer norm that somebody patches.
    fn layer_norm_scale(&self, input: &Rows<'_, Self::Matrix>, scale: &mut Self::Matrix);

    /// (x − mean) / scale: the second third.
    fn layer_norm_normalize(
        &self,
        input: &Rows<'_, Self::Matrix>,
        scale: &Self::Matrix,
        out: &mut Self::Matrix,
    );

    /// x · weight + bias, in place: the last third.
    fn layer_norm_affine(&self, norm: Norm, out: &mut Self::Matrix);

    /// A linear layer. With `columns` narrower than the weight, those columns of `out`.
    fn linear(&self, linear: &Linear<'_, Self::Matrix>, out: &mut Self::Matrix);

    /// Rows `0..rows.len()` of `out` become the activation of rows of `pre`.
    fn activate(&self, pre: &Self::Matrix, rows: &[u32], out: &mut Self::Matrix);

    /// Attention; `kept` are the trace's matrices, which overwrites read and keeps write.
    fn attention(
        &self,
        attention: &Attention<'_, Self::Matrix>,
        kept: &mut [Self::Matrix],
        constants: &Self::Matrix,
        out: &mut Self::Matrix,
    );

    /// Applies operators in place, those of one row in listed order.
    fn overwrite(
        &self,
        matrix: &mut Self::Matrix,
        writes: &[Write],
        kept: &[Self::Matrix],
        constants: &Self::Matrix,
    );

    /// Unembedding, log-sum-exp, wanted logits and top-k; the logits are never stored.
    fn readout(&self, input: &Self::Matrix, rows: usize, spec: &ReadoutSpec) -> Vec<Readout>;

    /// Floating-point operations executed so far, counted where they are executed: multiply-adds
    /// of linear layers, attention and unembedding, two each.
    fn executed_flops(&self) -> u64;
}
