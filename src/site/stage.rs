//! Where in the computation a value stands.

use std::ops::{Index, IndexMut};

use crate::model::Config;

/// A point of the forward pass at which values can be overwritten, in the order of computation.
///
/// The order of the variants is the order in which one layer computes them, so sorting writes by
/// (layer, stage) sorts them by time. The two embeddings come before layer 0 and the final layer
/// norm after the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Row of the token embedding table. Width D.
    TokenEmbedding,
    /// Row of the position embedding table. Width D.
    PositionEmbedding,
    /// Residual stream entering the layer. Width D.
    BlockInput,
    /// sqrt(variance + ε) of ln_1. Width 1.
    Ln1Scale,
    /// (x − mean) / scale of ln_1, before its weight and bias. Width D.
    Ln1Normalized,
    /// Output of ln_1, which c_attn reads. Width D.
    AttentionInput,
    /// Residual that one head's query reads, before ln_1. Width D a head.
    QueryInput,
    /// Queries, heads side by side. Width D.
    Query,
    /// Residual that one head's key reads, before ln_1. Width D a head.
    KeyInput,
    /// Keys, heads side by side. Width D.
    Key,
    /// Residual that one head's value reads, before ln_1. Width D a head.
    ValueInput,
    /// Values, heads side by side. Width D.
    Value,
    /// Scaled scores before the softmax, one a key. Rows are query positions.
    Scores,
    /// Attention pattern after the softmax, one a key. Rows are query positions.
    Pattern,
    /// z: each head's weighted sum of values, heads side by side. Width D.
    Z,
    /// Output of the attention's c_proj with its bias. Width D.
    AttentionOutput,
    /// Residual stream between attention and MLP. Width D.
    BlockMid,
    /// Residual that ln_2 alone reads; the skip path keeps [`Stage::BlockMid`]. Width D.
    MlpResidualInput,
    /// sqrt(variance + ε) of ln_2. Width 1.
    Ln2Scale,
    /// (x − mean) / scale of ln_2, before its weight and bias. Width D.
    Ln2Normalized,
    /// Output of ln_2, which c_fc reads. Width D.
    MlpInput,
    /// Output of c_fc with its bias, before the activation. Width I.
    MlpPre,
    /// After the activation. Width I.
    MlpActivation,
    /// Output of the MLP's c_proj with its bias. Width D.
    MlpOutput,
    /// Residual stream leaving the layer. Width D.
    BlockOutput,
    /// sqrt(variance + ε) of ln_f. Width 1.
    LnFScale,
    /// (x − mean) / scale of ln_f. Width D.
    LnFNormalized,
    /// Output of ln_f, which the unembedding reads. Width D.
    FinalOutput,
}

/// How many numbers one row of a stage, or one (row, head) of a component, has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One.
    One,
    /// D, the residual stream's width.
    Residual,
    /// d = D / H.
    Head,
    /// I, the MLP's inner width.
    Inner,
    /// One for each key position not after the query; in a row of a stage, for every head.
    Keys,
}

impl Width {
    /// How many numbers that is, `keys` of them for the keys.
    pub fn numbers(self, config: &Config, keys: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Residual => config.width,
            Self::Head => config.head_width(),
            Self::Inner => config.inner,
            Self::Keys => keys,
        }
    }
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = Self::FinalOutput as usize + 1;

    /// Numbers in one row.
    pub const fn width(self) -> Width {
        match self {
            Self::Ln1Scale | Self::Ln2Scale | Self::LnFScale => Width::One,
            Self::Scores | Self::Pattern => Width::Keys,
            Self::MlpPre | Self::MlpActivation => Width::Inner,
            _ => Width::Residual,
        }
    }

    /// Whether rows are query positions whose cells are keys.
    pub const fn has_keys(self) -> bool {
        matches!(self.width(), Width::Keys)
    }
}

/// Something for each stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageMap<T>([T; Stage::COUNT]);

impl<T: Default> Default for StageMap<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T> Index<Stage> for StageMap<T> {
    type Output = T;

    fn index(&self, stage: Stage) -> &T {
        &self.0[stage as usize]
    }
}

impl<T> IndexMut<Stage> for StageMap<T> {
    fn index_mut(&mut self, stage: Stage) -> &mut T {
        &mut self.0[stage as usize]
    }
}
