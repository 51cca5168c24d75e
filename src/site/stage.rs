//! Where in the computation a value stands.

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
    /// Residual that one head's key reads, before ln_1. Width D a head.
    KeyInput,
    /// Residual that one head's value reads, before ln_1. Width D a head.
    ValueInput,
    /// Queries, heads side by side. Width D.
    Query,
    /// Keys, heads side by side. Width D.
    Key,
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
