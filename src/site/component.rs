//! What a person names, and what is true of it.

use std::fmt;

use super::{Stage, Width};

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
    AttentionResidualInput,
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
    HeadAttentionOutput,
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

/// Component, canonical name, TransformerLens hook (within `blocks.L.` for layer components), and the
/// short name on an axis, where upper case is all heads at once.
pub(super) const NAMES: [(Component, &str, Option<&str>, &str); 34] = [
    (
        C::TokenEmbedding,
        "token_embedding",
        Some("hook_embed"),
        "embed",
    ),
    (
        C::PositionEmbedding,
        "position_embedding",
        Some("hook_pos_embed"),
        "pos_embed",
    ),
    (
        C::BlockInput,
        "block_input",
        Some("hook_resid_pre"),
        "resid_pre",
    ),
    (
        C::Ln1Scale,
        "ln_1_scale",
        Some("ln1.hook_scale"),
        "ln1_scale",
    ),
    (
        C::Ln1Normalized,
        "ln_1_normalized",
        Some("ln1.hook_normalized"),
        "ln1",
    ),
    (C::AttentionInput, "attention_input", None, "attn_in"),
    (
        C::AttentionResidualInput,
        "attention_residual_input",
        Some("hook_attn_in"),
        "attn_resid",
    ),
    (
        C::AttentionQueryInput,
        "attention_query_input",
        Some("hook_q_input"),
        "q_in",
    ),
    (
        C::AttentionKeyInput,
        "attention_key_input",
        Some("hook_k_input"),
        "k_in",
    ),
    (
        C::AttentionValueInput,
        "attention_value_input",
        Some("hook_v_input"),
        "v_in",
    ),
    (C::QueryOutput, "query_output", None, "Q"),
    (
        C::HeadQueryOutput,
        "head_query_output",
        Some("attn.hook_q"),
        "q",
    ),
    (C::KeyOutput, "key_output", None, "K"),
    (
        C::HeadKeyOutput,
        "head_key_output",
        Some("attn.hook_k"),
        "k",
    ),
    (C::ValueOutput, "value_output", None, "V"),
    (
        C::HeadValueOutput,
        "head_value_output",
        Some("attn.hook_v"),
        "v",
    ),
    (
        C::AttentionScores,
        "attention_scores",
        Some("attn.hook_attn_scores"),
        "scores",
    ),
    (
        C::AttentionWeight,
        "attention_weight",
        Some("attn.hook_pattern"),
        "pattern",
    ),
    (
        C::AttentionValueOutput,
        "attention_value_output",
        None,
        "OV",
    ),
    (
        C::HeadAttentionValueOutput,
        "head_attention_value_output",
        Some("attn.hook_z"),
        "ov",
    ),
    (
        C::HeadAttentionOutput,
        "head_attention_output",
        Some("attn.hook_result"),
        "result",
    ),
    (
        C::AttentionOutput,
        "attention_output",
        Some("hook_attn_out"),
        "attn",
    ),
    (
        C::BlockMid,
        "block_mid",
        Some("hook_resid_mid"),
        "resid_mid",
    ),
    (
        C::MlpResidualInput,
        "mlp_residual_input",
        Some("hook_mlp_in"),
        "mlp_resid",
    ),
    (
        C::Ln2Scale,
        "ln_2_scale",
        Some("ln2.hook_scale"),
        "ln2_scale",
    ),
    (
        C::Ln2Normalized,
        "ln_2_normalized",
        Some("ln2.hook_normalized"),
        "ln2",
    ),
    (C::MlpInput, "mlp_input", None, "mlp_in"),
    (C::MlpPre, "mlp_pre", Some("mlp.hook_pre"), "mlp_pre"),
    (
        C::MlpActivation,
        "mlp_activation",
        Some("mlp.hook_post"),
        "mlp_act",
    ),
    (C::MlpOutput, "mlp_output", Some("hook_mlp_out"), "mlp"),
    (
        C::BlockOutput,
        "block_output",
        Some("hook_resid_post"),
        "resid",
    ),
    (
        C::LnFScale,
        "ln_f_scale",
        Some("ln_final.hook_scale"),
        "lnf_scale",
    ),
    (
        C::LnFNormalized,
        "ln_f_normalized",
        Some("ln_final.hook_normalized"),
        "lnf",
    ),
    (C::FinalOutput, "final_output", None, "final"),
];

impl Component {
    /// Every component, in the order of computation.
    pub fn all() -> impl Iterator<Item = Component> {
        NAMES.iter().map(|(component, ..)| *component)
    }

    /// The canonical name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The TransformerLens hook of this component, within `blocks.L.` for layer components.
    pub fn hook(self) -> Option<&'static str> {
        NAMES[self as usize].2
    }

    /// Its short name, as axes and titles have it.
    pub fn short(self) -> &'static str {
        NAMES[self as usize].3
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
            C::AttentionResidualInput | C::AttentionQueryInput => Stage::QueryInput,
            C::AttentionKeyInput => Stage::KeyInput,
            C::AttentionValueInput => Stage::ValueInput,
            C::QueryOutput | C::HeadQueryOutput => Stage::Query,
            C::KeyOutput | C::HeadKeyOutput => Stage::Key,
            C::ValueOutput | C::HeadValueOutput => Stage::Value,
            C::AttentionScores => Stage::Scores,
            C::AttentionWeight => Stage::Pattern,
            C::AttentionValueOutput | C::HeadAttentionValueOutput | C::HeadAttentionOutput => {
                Stage::Z
            }
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
            C::AttentionResidualInput
                | C::AttentionQueryInput
                | C::AttentionKeyInput
                | C::AttentionValueInput
                | C::HeadQueryOutput
                | C::HeadKeyOutput
                | C::HeadValueOutput
                | C::AttentionScores
                | C::AttentionWeight
                | C::HeadAttentionValueOutput
                | C::HeadAttentionOutput
        )
    }

    /// Every stage that a patch of it writes: its own and, of the residual stream that a head reads for all three,
    /// those of its key and value too.
    pub fn written(self) -> impl Iterator<Item = Stage> + Clone {
        let others: &[Stage] = match self {
            C::AttentionResidualInput => &[Stage::KeyInput, Stage::ValueInput],
            _ => &[],
        };
        std::iter::once(self.stage()).chain(others.iter().copied())
    }

    /// Whether it is what a head's z makes of it, z · W_O: patched through z, of which it is a linear function.
    pub fn is_made_of_z(self) -> bool {
        self == C::HeadAttentionOutput
    }

    /// Numbers in one row (one row of one head where it has heads).
    pub fn width(self) -> Width {
        match self {
            C::HeadQueryOutput
            | C::HeadKeyOutput
            | C::HeadValueOutput
            | C::HeadAttentionValueOutput => Width::Head,
            _ => self.stage().width(),
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
        self.stage().has_keys()
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
        // but for what single heads read, which is named before all of q, k and v
        let inputs = [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput];
        let stages = Component::all().map(Component::stage);
        assert!(stages.filter(|s| !inputs.contains(s)).is_sorted());
    }
}
