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

pub mod adjoint;
mod basis;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

pub use self::basis::{BasisOn, Probe, RowColumn};
use crate::model::Config;
use crate::plan::tables::{AttentionRows, Ref};
use crate::plan::writes::{Call, Write};
use crate::site::Stage;
pub use crate::site::wiring::{Embedding, Norm, Weight};

/// In what numbers activations are computed. The residual stream is f32 in all but [`Self::F64`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision throughout: on a GPU, tensor cores by splitting where that is faster.
    F32,
    /// Double precision: CPU only, the reference.
    F64,
    /// Linear layers on operands rounded to TensorFloat-32: GPU only.
    Tf32,
    /// What linear layers and attention read is bfloat16: GPU only.
    Bf16,
    /// What linear layers and attention read is half precision: GPU only.
    F16,
}

impl Precision {
    /// How it is written: `f32`, `f64`, `tf32`, `bf16`, `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Whether the CPU backend has it.
    pub fn on_cpu(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// What a matrix holds, from which a backend chooses the type of its numbers and how it lies in
/// memory. Whatever the choice, matrices are addressed as `[row, column]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// The residual stream and what is added to it, layer-norm scales and normalised rows: full
    /// precision everywhere.
    Residual,
    /// What a linear layer reads, or the MLP's inner rows: the type that the precision names.
    Branch,
    /// Queries, keys, values and z: as `Branch`, and a backend may lay them out head by head.
    Heads,
    /// Kept scores and pattern: as `Residual`, and zero where nobody writes, beyond the mask.
    Keys,
}

impl Store {
    /// What holds a stage.
    pub fn of(stage: Stage) -> Self {
        match stage {
            Stage::Query | Stage::Key | Stage::Value | Stage::Z => Self::Heads,
            Stage::Scores | Stage::Pattern => Self::Keys,
            Stage::AttentionInput
            | Stage::MlpInput
            | Stage::MlpPre
            | Stage::MlpActivation
            | Stage::FinalOutput => Self::Branch,
            _ => Self::Residual,
        }
    }
}

/// What can go wrong on a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// An allocation did not fit.
    #[error("the device has no room for {needed} bytes more: give --memory less")]
    OutOfMemory {
        /// Bytes asked for.
        needed: u64,
    },
    /// The driver refused or broke off something.
    #[error("the device failed while {doing}: {why}")]
    Failed {
        /// What was under way.
        doing: &'static str,
        /// The driver's word for it.
        why: String,
    },
}

/// A stretch of one row of a matrix.
#[derive(Debug)]
pub struct Stretch<'a, M> {
    /// The matrix.
    pub matrix: &'a M,
    /// Row.
    pub row: usize,
    /// First column.
    pub column: usize,
}

/// Two stretches of one length, of matrices that hold numbers of one type.
#[derive(Debug)]
pub struct Same<'a, M> {
    /// One.
    pub a: Stretch<'a, M>,
    /// The other.
    pub b: Stretch<'a, M>,
    /// How many columns.
    pub length: usize,
}

/// Rows of two matrices: the chunk's own and the cache's.
#[derive(Debug)]
pub struct Rows<'a, M> {
    /// The chunk's own buffer.
    pub own: &'a M,
    /// The cache's matrix; `None` where every row is the chunk's own.
    pub cache: Option<&'a M>,
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
    /// Queries: the chunk's own, and the cache's by index.
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
    pub keep_pattern: Option<KeepKeys<'a>>,
    /// Columns from one head to the next in kept scores and pattern.
    pub stride: usize,
}

/// Rows of scores or pattern to keep.
#[derive(Debug, Clone, Copy)]
pub struct KeepKeys<'a> {
    /// Index of the cache's matrix, `[rows, heads · stride]`.
    pub slot: usize,
    /// For each computed row of z, the cache's row; [`crate::plan::tables::Keep::NOWHERE`] is none.
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
    /// Whether the rank of each wanted id is wanted.
    pub ranks: bool,
    /// For each row, the row of the input that its distribution is compared with; empty if none is.
    /// Rows that are compared with and not read out themselves follow the others in the input.
    pub base: Vec<u32>,
}

impl ReadoutSpec {
    /// How many rows behind the `rows` that are read out are only compared with.
    pub fn compared(&self, rows: usize) -> usize {
        let last = self.base.iter().max();
        last.map_or(0, |last| (*last as usize + 1).saturating_sub(rows))
    }
}

/// The next-token distribution of one row, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readout {
    /// Natural logarithm of Σ exp(logit) over the vocabulary.
    pub log_sum_exp: f64,
    /// −Σ p ln p, in nats.
    pub entropy: f64,
    /// KL(base‖row) = Σ p_base (ln p_base − ln p), in nats; 0 where nothing was compared.
    pub kl: f64,
    /// Logits of the wanted ids, in the order asked.
    pub logits: Vec<f64>,
    /// Ranks of the wanted ids, if they were asked for: how many tokens are more probable, ties by
    /// lower id.
    pub ranks: Vec<u32>,
    /// The most probable ids with their logits, most probable first, ties by lower id.
    pub top: Vec<(u32, f64)>,
    /// Natural logarithms of the probabilities of whole answers, in the order asked, where one is of several tokens. No
    /// backend knows of these and of `loss`: they are made of other readouts of the same run.
    pub joint: Vec<f64>,
    /// Mean −ln p of the prompt's own tokens up to here, each after those before it, in nats, if it was asked for.
    pub loss: Option<f64>,
}

impl Readout {
    /// Natural logarithm of the probability of the answer of this index; not a number where there is none.
    pub fn log_probability_of(&self, answer: usize) -> f64 {
        let first = |logit: &f64| self.log_probability(*logit);
        let joint = self.joint.get(answer).copied();
        joint.unwrap_or_else(|| self.logits.get(answer).map_or(f64::NAN, first))
    }

    /// Natural logarithm of a logit's probability.
    pub fn log_probability(&self, logit: f64) -> f64 {
        logit - self.log_sum_exp
    }
}

/// A device that can run the forward pass.
///
/// Matrices are `[rows, width]`, their numbers of the type that [`Store`] and the precision give.
/// Contents of a fresh or resized matrix are unspecified; the plan guarantees that every row is
/// written before it is read.
///
/// Operations may be queued: what went wrong in one is reported by the next of [`Backend::read`],
/// [`Backend::same`] and [`Backend::readout`], which wait for everything before them. After an error
/// the contents of the matrices that were being written are unspecified.
pub trait Backend: Sync {
    /// A matrix on the device.
    type Matrix: Send + Sync;
    /// Numbers that overwrites read, on the device.
    type Constants: Send + Sync;

    /// Readouts that are on their way.
    type Readouts;

    /// The model's shape.
    fn config(&self) -> &Config;

    /// A matrix of unspecified contents.
    fn matrix(&self, rows: usize, width: usize, store: Store) -> Self::Matrix;

    /// Changes the number of rows, keeping the allocation where it is large enough.
    fn resize(&self, matrix: &mut Self::Matrix, rows: usize);

    /// Bytes of the largest number that a matrix holds.
    fn value_bytes(&self) -> usize;

    /// Whether both stores hold numbers of one type, so that a row of one can be written over another's.
    fn same_type(&self, a: Store, b: Store) -> bool;

    /// Bytes of activations beyond which a larger chunk wins nothing.
    fn chunk_bytes(&self) -> u64;

    /// A matrix of these values, row by row, rounded to the stored type.
    fn upload(&self, rows: usize, width: usize, store: Store, values: &[f64]) -> Self::Matrix;

    /// Constants of these values.
    fn constants(&self, values: &[f64]) -> Self::Constants;

    /// The contents, row by row.
    ///
    /// # Errors
    ///
    /// [`DeviceError`], its own or of what was queued before.
    fn read(&self, matrix: &Self::Matrix) -> Result<Vec<f64>, DeviceError>;

    /// For each pair of stretches, whether they are equal bit for bit.
    ///
    /// # Errors
    ///
    /// [`DeviceError`], its own or of what was queued before.
    fn same(&self, pairs: &[Same<'_, Self::Matrix>]) -> Result<Vec<bool>, DeviceError>;

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

    /// Rows `0..rows` of `out` become x · weight + bias of those of `normalized`: the last third.
    fn layer_norm_affine(
        &self,
        norm: Norm,
        normalized: &Self::Matrix,
        rows: usize,
        out: &mut Self::Matrix,
    );

    /// A linear layer. With `columns` narrower than the weight, those columns of `out`.
    fn linear(&self, linear: &Linear<'_, Self::Matrix>, out: &mut Self::Matrix);

    /// Linear layers of which none reads what another writes, each into its matrix: query, key and value. A
    /// device may launch them together.
    fn linears(&self, linears: &mut [(Linear<'_, Self::Matrix>, &mut Self::Matrix)]) {
        for (linear, out) in linears {
            self.linear(linear, out);
        }
    }

    /// Rows `0..rows.len()` of `out` become the activation of rows of `pre`.
    fn activate(&self, pre: &Self::Matrix, rows: &[u32], out: &mut Self::Matrix);

    /// Attention; `kept` are the cache's matrices, which overwrites read and keeps write.
    fn attention(
        &self,
        attention: &Attention<'_, Self::Matrix>,
        kept: &mut [Self::Matrix],
        constants: &Self::Constants,
        out: &mut Self::Matrix,
    );

    /// Applies operators in place, those of one row in listed order.
    fn overwrite(
        &self,
        matrix: &mut Self::Matrix,
        writes: &[Write],
        kept: &[Self::Matrix],
        constants: &Self::Constants,
    );

    /// Rows `0..probes.len()` of `out`, which is as wide as the basis has coordinates, become the
    /// coordinates of stretches: of `matrix`, of what is read (`kept` and `constants`, as in
    /// [`Backend::overwrite`]), or of their difference.
    fn encode(
        &self,
        basis: &BasisOn<Self::Matrix>,
        probes: &[Probe],
        matrix: &Self::Matrix,
        kept: &[Self::Matrix],
        constants: &Self::Constants,
        out: &mut Self::Matrix,
    );

    /// Stretch i of `matrix`, which overlaps no other, becomes what row i of `coordinates` decodes to,
    /// or that is added to it; by difference a number to which 0 is added keeps its bits.
    fn decode(
        &self,
        basis: &BasisOn<Self::Matrix>,
        coordinates: &Self::Matrix,
        places: &[RowColumn],
        matrix: &mut Self::Matrix,
    );

    /// Calls functions of stretches and of what they read, those of one row in listed order.
    fn call(&self, matrix: &mut Self::Matrix, calls: &[Call], kept: &[Self::Matrix]);

    /// Unembedding, log-sum-exp, entropy, divergence from other rows, wanted logits with their ranks,
    /// and top-k; the logits are never stored. Wanted logits that are computed once more for their
    /// ranks are no part of [`Backend::executed_flops`].
    ///
    /// The device may still be at work when this returns: [`Backend::finish`] waits.
    ///
    /// # Errors
    ///
    /// [`DeviceError`], its own or of what was queued before.
    fn readout(
        &self,
        input: &Self::Matrix,
        rows: usize,
        spec: &ReadoutSpec,
    ) -> Result<Self::Readouts, DeviceError>;

    /// Waits for readouts, one for each row that was read out.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the work that they came from.
    fn finish(&self, readouts: Self::Readouts) -> Result<Vec<Readout>, DeviceError>;

    /// Floating-point operations executed so far, counted where they are executed: multiply-adds
    /// of linear layers, bases, attention and unembedding, two each.
    fn executed_flops(&self) -> u64;
}
