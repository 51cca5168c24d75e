//! Every addressable activation of GPT-2, and its names.
//!
//! Two views of the same thing, kept apart because they change for different reasons:
//!
//! - a [`Component`] is what a person names: pyvene's names are canonical, TransformerLens's hook
//!   names are accepted as aliases;
//! - a [`Stage`] is where in the computation the value stands. `value_output` and
//!   `head_value_output` are two components of one stage: they overwrite the same buffer, so
//!   patches at both act on each other in listed order.
//!
//! [`Site`] is a component with its layer, as parsed from a name such as `blocks.3.attn.hook_z`.

use std::fmt;
use std::str::FromStr;

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
    Weight,
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
const NAMES: [(Component, &str, Option<&str>); 32] = [
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

/// A component with its layer, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// What is addressed.
    pub component: Component,
    /// Layer from 0; `None` for components outside the layers, and where a name leaves it open.
    pub layer: Option<usize>,
}

/// A name that is no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown component `{name}`: did you mean `{nearest}`?")]
pub struct UnknownComponent {
    /// The name as given.
    pub name: String,
    /// The known name that is nearest to it.
    pub nearest: String,
}

impl FromStr for Site {
    type Err = UnknownComponent;

    /// Accepts `head_value_output`, `head_value_output.3`, `hook_v`'s full form
    /// `blocks.3.attn.hook_v`, and the hook without its block (`attn.hook_v`, `hook_v`).
    fn from_str(name: &str) -> Result<Self, UnknownComponent> {
        let (layer, local) = match name.strip_prefix("blocks.").and_then(|r| r.split_once('.')) {
            Some((layer, rest)) => match layer.parse() {
                Ok(layer) => (Some(layer), rest),
                // not a block: nothing matches, and the suggestion is made from the whole name
                Err(_) => (None, name),
            },
            None => match name.rsplit_once('.') {
                Some((rest, layer)) if layer.parse::<usize>().is_ok() => (layer.parse().ok(), rest),
                _ => (None, name),
            },
        };
        let found = NAMES.iter().find(|(_, canonical, hook)| {
            *canonical == local
                || hook.is_some_and(|h| {
                    h == local
                        || h.rsplit('.').next() == Some(local) && {
                            // `hook_scale` and `hook_normalized` alone name three layer norms: not one.
                            !matches!(local, "hook_scale" | "hook_normalized")
                        }
                })
        });
        match found {
            Some((component, _, _)) if !(component.is_global() && layer.is_some()) => Ok(Site {
                component: *component,
                layer,
            }),
            _ => Err(UnknownComponent {
                name: name.to_owned(),
                nearest: nearest(&local.to_lowercase()),
            }),
        }
    }
}

fn nearest(name: &str) -> String {
    // a hook's last part is a name too, except where three layer norms share it
    let short = |hook: &'static str| {
        hook.rsplit('.')
            .next()
            .filter(|h| !matches!(*h, "hook_scale" | "hook_normalized"))
    };
    let known = NAMES
        .iter()
        .flat_map(|(_, canonical, hook)| [Some(*canonical), *hook, hook.and_then(short)])
        .flatten();
    known
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .unwrap_or("head_value_output")
        .to_owned()
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

    #[test]
    fn canonical_names_and_hooks_parse() {
        for (component, name, hook) in NAMES {
            assert_eq!(
                name.parse(),
                Ok(Site {
                    component,
                    layer: None
                })
            );
            if let Some(hook) = hook {
                let full = if component.is_global() {
                    hook.to_owned()
                } else {
                    format!("blocks.7.{hook}")
                };
                let layer = (!component.is_global()).then_some(7);
                assert_eq!(full.parse(), Ok(Site { component, layer }), "{full}");
            }
        }
        let z = Component::HeadAttentionValueOutput;
        assert_eq!(
            "hook_z".parse(),
            Ok(Site {
                component: z,
                layer: None
            })
        );
        assert_eq!(
            "head_attention_value_output.3".parse(),
            Ok(Site {
                component: z,
                layer: Some(3)
            })
        );
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let error = "head_value_ouput".parse::<Site>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown component `head_value_ouput`: did you mean `head_value_output`?"
        );
        assert!("hook_scale".parse::<Site>().is_err());
        assert!("blocks.3.hook_embed".parse::<Site>().is_err());
        assert!("blocks.x.attn.hook_z".parse::<Site>().is_err());
    }
}
