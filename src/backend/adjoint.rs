//! Adjoints of the forward pass's operations: what a backend needs to run the pass backwards.
//!
//! An adjoint takes the gradient of a number m with respect to what an operation gave and adds to the
//! gradient with respect to what it read. All matrices are `[rows, width]` and of one set of rows, those
//! of a tape ([`crate::plan::tape`]): what a row holds of one stage, its gradient holds of ∂m/∂(that). Rows
//! that are not listed are not touched. Weights get no gradient.
//!
//! The rules of [`crate::backend`] hold: a row's gradient depends on its own run alone, and every sum has
//! one order.

use super::{Backend, Norm, Weight};
use crate::plan::tape::{AttendedRun, Passed};
use crate::site::Stage;

/// Factors that a backward pass takes in place of derivatives (layer-wise relevance propagation's rules,
/// Jafari et al. 2025): each holds one part of the model constant, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Frozen {
    /// Layer norms' scales.
    pub scales: bool,
    /// Attention patterns.
    pub patterns: bool,
    /// φ(x)/x instead of φ′(x), where x is moved away from zero by 10⁻⁶.
    pub slopes: bool,
}

impl Frozen {
    /// RelP's rules for GPT-2: scales and slopes, patterns left as they are.
    pub const RELP: Self = Self {
        scales: true,
        patterns: false,
        slopes: true,
    };
}

/// A linear layer backwards: `into[row] += gradient[row][columns] · W[:, columns]ᵀ`.
#[derive(Debug)]
pub struct LinearAdjoint<'a, M> {
    /// The weights.
    pub weight: Weight,
    /// Columns of the weight whose gradient arrives: all of them, or one head's.
    pub columns: std::ops::Range<usize>,
    /// ∂m of what it gave, `[_, N]`.
    pub gradient: &'a M,
    /// Rows, ascending.
    pub rows: &'a [u32],
}

/// A layer norm backwards.
#[derive(Debug)]
pub struct NormAdjoint<'a, M> {
    /// The weights.
    pub norm: Norm,
    /// What it read.
    pub input: &'a M,
    /// ∂m of what it gave.
    pub gradient: &'a M,
    /// Rows, ascending.
    pub rows: &'a [u32],
    /// What is held constant.
    pub frozen: Frozen,
}

/// Attention backwards, over every head.
#[derive(Debug)]
pub struct AttentionAdjoint<'a, M> {
    /// Layer, which may set the scale of the scores.
    pub layer: usize,
    /// Queries that it read.
    pub query: &'a M,
    /// Keys.
    pub key: &'a M,
    /// Values.
    pub value: &'a M,
    /// ∂m of z.
    pub gradient: &'a M,
    /// Which rows.
    pub runs: &'a [AttendedRun],
    /// What is held constant.
    pub frozen: Frozen,
    /// Columns from one head to the next in gradients of scores and pattern.
    pub stride: usize,
}

/// Where attention's gradients are written: in rows of queries that were computed, and of all keys and
/// values that they see. Nothing but attention reads queries, keys and values.
#[derive(Debug)]
pub struct AttentionGradients<'a, M> {
    /// Of queries.
    pub query: &'a mut M,
    /// Of keys.
    pub key: &'a mut M,
    /// Of values.
    pub value: &'a mut M,
    /// Of scores, `[_, heads · stride]`.
    pub scores: Option<&'a mut M>,
    /// Of the pattern, likewise.
    pub pattern: Option<&'a mut M>,
}

/// ∂m/∂logits of one row, where p is the row's distribution over the vocabulary and H its entropy:
/// `Σ weights + spread · p + surprise · p (ln p + H) + other · p′`, p′ being another row's distribution.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogitGradient {
    /// Row of the last layer norm's output.
    pub row: u32,
    /// Natural logarithm of Σ exp(logit) of that row.
    pub log_sum_exp: f64,
    /// Its entropy, in nats.
    pub entropy: f64,
    /// Token ids with what their logits count.
    pub weights: Vec<(u32, f64)>,
    /// Coefficient of p.
    pub spread: f64,
    /// Coefficient of p (ln p + H).
    pub surprise: f64,
    /// Coefficient of another row's p, with that row and its log-sum-exp.
    pub other: Option<(f64, u32, f64)>,
}

impl LogitGradient {
    /// Whether single logits are all that counts, so that the vocabulary need not be gone through.
    pub fn is_of_single_logits(&self) -> bool {
        self.spread == 0.0 && self.surprise == 0.0 && self.other.is_none()
    }
}

/// A backend that can run the pass backwards.
pub trait Adjoints: Backend {
    /// A gradient's matrix of a stage's width, all zeros.
    fn zeros(&self, rows: usize, width: usize, stage: Stage) -> Self::Matrix;

    /// Zeros everywhere, in so many rows.
    fn clear(&self, matrix: &mut Self::Matrix, rows: usize);

    /// `into[row] += from[row]`, which is the adjoint of an addition.
    fn accumulate(&self, from: &Self::Matrix, rows: &[u32], into: &mut Self::Matrix);

    /// Multiplies stretches by factors.
    fn pass(&self, matrix: &mut Self::Matrix, passed: &[Passed]);

    /// A linear layer's adjoint.
    fn linear_adjoint(&self, linear: &LinearAdjoint<'_, Self::Matrix>, into: &mut Self::Matrix);

    /// A layer norm's adjoint, with respect to what it read: added.
    fn norm_adjoint(&self, norm: &NormAdjoint<'_, Self::Matrix>, into: &mut Self::Matrix);

    /// A layer norm's adjoint with respect to its normalised row: written.
    fn normalized_adjoint(&self, norm: &NormAdjoint<'_, Self::Matrix>, out: &mut Self::Matrix);

    /// A layer norm's adjoint with respect to its scale, one number a row: written.
    fn scale_adjoint(&self, norm: &NormAdjoint<'_, Self::Matrix>, out: &mut Self::Matrix);

    /// The activation function's adjoint at `pre`: added.
    fn activate_adjoint(
        &self,
        pre: &Self::Matrix,
        gradient: &Self::Matrix,
        rows: &[u32],
        frozen: Frozen,
        into: &mut Self::Matrix,
    );

    /// Attention's adjoint.
    fn attention_adjoint(
        &self,
        attention: &AttentionAdjoint<'_, Self::Matrix>,
        into: AttentionGradients<'_, Self::Matrix>,
    );

    /// The adjoint of unembedding and readout at `input`, the last layer norm's output: added, to no row twice. Logits
    /// are computed again and never stored.
    fn readout_adjoint(
        &self,
        input: &Self::Matrix,
        gradients: &[LogitGradient],
        into: &mut Self::Matrix,
    );
}
