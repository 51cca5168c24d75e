//! What a person names, and what is true of it.

use std::fmt;

use super::Stage;

/// How many numbers one (row, head) of a component has.
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
    /// One for each key position not after the query.
    Keys,
}

/// An activation that can be read and patched, under its canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are the documentation; see `Stage` for what each is
pub enum Component {
    TokenEmbedding,
    PositionEmbedding,
    BlockInput,
    Ln1Scale,
    Ln1Normalized,
    AttentionInput,
    AttentionQueryInput,
    AttentionKeyInput,
    AttentionValueInput,
    QueryOutput,
    HeadQueryOutput,
    KeyOutput,
    HeadKeyOutput,
    ValueOutput,
    HeadValueOutput,
    AttentionScores,
    AttentionWeight,
    AttentionValueOutput,
    HeadAttentionValueOutput,
    AttentionOutput,
    BlockMid,
    MlpResidualInput,
    Ln2Scale,
    Ln2Normalized,
    MlpInput,
    MlpPre,
    MlpActivation,
    MlpOutput,
    BlockOutput,
    LnFScale,
    LnFNormalized,
    FinalOutput,
}

use Component as C;

/// Component, canonical name, TransformerLens hook (within `blocks.L.` for layer components).
pub(super) const NAMES: [(Component, &str, Option<&str>); 32] = [
    (C::TokenEmbedding, "token_embedding", Some("hook_embed")),
    (
        C::PositionEmbedding,
        "position_embedding",
        Some("hook_pos_embed"),
    ),
    (C::BlockInput, "block_input", Some("hook_resid_pre")),
    (C::Ln1Scale, "ln_1_scale", Some("ln1.hook_scale")),
    (
        C::Ln1Normalized,
        "ln_1_normalized",
        Some("ln1.hook_normalized"),
    ),
    (C::AttentionInput, "attention_input", None),
    (
        C::AttentionQueryInput,
        "attention_query_input",
        Some("hook_q_input"),
    ),
    (
        C::AttentionKeyInput,
        "attention_key_input",
        Some("hook_k_input"),
    ),
    (
        C::AttentionValueInput,
        "attention_value_input",
        Some("hook_v_input"),
    ),
    (C::QueryOutput, "query_output", None),
    (C::HeadQueryOutput, "head_query_output", Some("attn.hook_q")),
    (C::KeyOutput, "key_output", None),
    (C::HeadKeyOutput, "head_key_output", Some("attn.hook_k")),
    (C::ValueOutput, "value_output", None),
    (C::HeadValueOutput, "head_value_output", Some("attn.hook_v")),
    (
        C::AttentionScores,
        "attention_scores",
        Some("attn.hook_attn_scores"),
    ),
    (
        C::AttentionWeight,
        "attention_weight",
        Some("attn.hook_pattern"),
    ),
    (C::AttentionValueOutput, "attention_value_output", None),
    (
        C::HeadAttentionValueOutput,
        "head_attention_value_output",
        Some("attn.hook_z"),
    ),
    (
        C::AttentionOutput,
        "attention_output",
        Some("hook_attn_out"),
    ),
    (C::BlockMid, "block_mid", Some("hook_resid_mid")),
    (
        C::MlpResidualInput,
        "mlp_residual_input",
        Some("hook_mlp_in"),
    ),
    (C::Ln2Scale, "ln_2_scale", Some("ln2.hook_scale")),
    (
        C::Ln2Normalized,
        "ln_2_normalized",
        Some("ln2.hook_normalized"),
    ),
    (C::MlpInput, "mlp_input", None),
    (C::MlpPre, "mlp_pre", Some("mlp.hook_pre")),
    (C::MlpActivation, "mlp_activation", Some("mlp.hook_post")),
    (C::MlpOutput, "mlp_output", Some("hook_mlp_out")),
    (C::BlockOutput, "block_output", Some("hook_resid_post")),
    (C::LnFScale, "ln_f_scale", Some("ln_final.hook_scale")),
    (
        C::LnFNormalized,
        "ln_f_normalized",
        Some("ln_final.hook_normalized"),
    ),
    (C::FinalOutput, "final_output", None),
];

impl Component {
    /// Every component, in the order of computation.
    pub fn all() -> impl Iterator<Item = Component> {
        NAMES.iter().map(|(component, _, _)| *component)
    }

    /// The canonical name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The TransformerLens hook of this component, within `blocks.L.` for layer components.
    pub fn hook(self) -> Option<&'static str> {
        NAMES[self as usize].2
    }

    /// Where in the computation it stands.
    pub fn stage(self) -> Stage {
        match self {
            C::TokenEmbedding => Stage::TokenEmbedding,
            C::PositionEmbedding => Stage::PositionEmbedding,
            C::BlockInput => Stage::BlockInput,
            C::Ln1Scale => Stage::Ln1Scale,
            C::Ln1Normalized => Stage::Ln1Normalized,
            C::AttentionInput => Stage::AttentionInput,
            C::AttentionQueryInput => Stage::QueryInput,
            C::AttentionKeyInput => Stage::KeyInput,
            C::AttentionValueInput => Stage::ValueInput,
            C::QueryOutput | C::HeadQueryOutput => Stage::Query,
            C::KeyOutput | C::HeadKeyOutput => Stage::Key,
            C::ValueOutput | C::HeadValueOutput => Stage::Value,
            C::AttentionScores => Stage::Scores,
            C::AttentionWeight => Stage::Weight,
            C::AttentionValueOutput | C::HeadAttentionValueOutput => Stage::Z,
            C::AttentionOutput => Stage::AttentionOutput,
            C::BlockMid => Stage::BlockMid,
            C::MlpResidualInput => Stage::MlpResidualInput,
            C::Ln2Scale => Stage::Ln2Scale,
            C::Ln2Normalized => Stage::Ln2Normalized,
            C::MlpInput => Stage::MlpInput,
            C::MlpPre => Stage::MlpPre,
            C::MlpActivation => Stage::MlpActivation,
            C::MlpOutput => Stage::MlpOutput,
            C::BlockOutput => Stage::BlockOutput,
            C::LnFScale => Stage::LnFScale,
            C::LnFNormalized => Stage::LnFNormalized,
            C::FinalOutput => Stage::FinalOutput,
        }
    }

    /// Whether the component stands outside the layers and so takes no layer.
    pub fn is_global(self) -> bool {
        matches!(
            self,
            C::TokenEmbedding
                | C::PositionEmbedding
                | C::LnFScale
                | C::LnFNormalized
                | C::FinalOutput
        )
    }

    /// Whether the component is addressed head by head.
    pub fn has_heads(self) -> bool {
        matches!(
            self,
            C::AttentionQueryInput
                | C::AttentionKeyInput
                | C::AttentionValueInput
                | C::HeadQueryOutput
                | C::HeadKeyOutput
                | C::HeadValueOutput
                | C::AttentionScores
                | C::AttentionWeight
                | C::HeadAttentionValueOutput
        )
    }

    /// Numbers in one row (one row of one head where it has heads).
    pub fn width(self) -> Width {
        match self {
            C::Ln1Scale | C::Ln2Scale | C::LnFScale => Width::One,
            C::MlpPre | C::MlpActivation => Width::Inner,
            C::AttentionScores | C::AttentionWeight => Width::Keys,
            C::HeadQueryOutput
            | C::HeadKeyOutput
            | C::HeadValueOutput
            | C::HeadAttentionValueOutput => Width::Head,
            _ => Width::Residual,
        }
    }

    /// What the component's module reads, as wide as what it gives: what [`crate::patch::Op::Skip`]
    /// writes. A component that is its module's input, or stands behind a dropout, gives itself;
    /// c_attn's and c_fc's results have no input of their width.
    ///
    /// pyvene hooks modules (`models/gpt2/modelings_intervenable_gpt2.py`): the block, the MLP and
    /// its activation read block_input, mlp_input and mlp_pre.
    pub fn skipped(self) -> Option<Component> {
        match self {
            C::BlockOutput => Some(C::BlockInput),
            C::MlpOutput => Some(C::MlpInput),
            C::MlpActivation => Some(C::MlpPre),
            C::BlockInput
            | C::AttentionInput
            | C::AttentionWeight
            | C::AttentionValueOutput
            | C::HeadAttentionValueOutput
            | C::AttentionOutput
            | C::MlpInput => Some(self),
            _ => None,
        }
    }

    /// Whether rows are query positions whose cells are keys.
    pub fn has_keys(self) -> bool {
        self.width() == Width::Keys
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_table_stands_in_the_order_of_the_variants() {
        for (i, component) in Component::all().enumerate() {
            assert_eq!(component as usize, i, "{component}");
        }
        assert!(Component::all().map(|c| c.stage()).is_sorted());
    }
}
