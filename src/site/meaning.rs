//! What each component is, in a line for people.

use super::{Component, Width};

use Component as C;

impl Component {
    /// What it is.
    pub fn meaning(self) -> &'static str {
        match self {
            C::TokenEmbedding => "row of the token embedding table",
            C::PositionEmbedding => "row of the position embedding table",
            C::BlockInput => "residual stream that enters the layer",
            C::Ln1Scale => "√(variance + ε) by which ln_1 divides",
            C::Ln1Normalized => "(x − mean) / scale of ln_1, before its weight and bias",
            C::AttentionInput => "output of ln_1, which queries, keys and values are made of",
            C::AttentionResidualInput => {
                "residual stream that a head alone reads, for query, key and value, before ln_1"
            }
            C::AttentionQueryInput => {
                "residual stream that a head's query alone reads, before ln_1"
            }
            C::AttentionKeyInput => "residual stream that a head's key alone reads, before ln_1",
            C::AttentionValueInput => {
                "residual stream that a head's value alone reads, before ln_1"
            }
            C::QueryOutput => "queries, all heads side by side",
            C::HeadQueryOutput => "a head's query",
            C::KeyOutput => "keys, all heads side by side",
            C::HeadKeyOutput => "a head's key",
            C::ValueOutput => "values, all heads side by side",
            C::HeadValueOutput => "a head's value",
            C::AttentionScores => {
                "a head's scaled scores before the softmax, a query's of each key"
            }
            C::AttentionWeight => {
                "a head's attention pattern after the softmax, a query's of each key"
            }
            C::AttentionValueOutput => "z, the weighted sums of values, all heads side by side",
            C::HeadAttentionValueOutput => "z, a head's weighted sum of values",
            C::HeadAttentionOutput => {
                "what a head adds to the residual stream: its z times its rows of W_O"
            }
            C::AttentionOutput => "what attention adds to the residual stream",
            C::BlockMid => "residual stream between attention and MLP",
            C::MlpResidualInput => "residual stream that the MLP alone reads, before ln_2",
            C::Ln2Scale => "√(variance + ε) by which ln_2 divides",
            C::Ln2Normalized => "(x − mean) / scale of ln_2, before its weight and bias",
            C::MlpInput => "output of ln_2, which the MLP reads",
            C::MlpPre => "the MLP's inner numbers before the activation function",
            C::MlpActivation => "the MLP's inner numbers after the activation function",
            C::MlpOutput => "what the MLP adds to the residual stream",
            C::BlockOutput => "residual stream that leaves the layer",
            C::LnFScale => "√(variance + ε) by which the final layer norm divides",
            C::LnFNormalized => {
                "(x − mean) / scale of the final layer norm, before its weight and bias"
            }
            C::FinalOutput => "output of the final layer norm, which the unembedding reads",
        }
    }

    /// The names that are taken for it besides its own: TransformerLens's hook, and that hook's last part.
    pub fn aliases(self) -> Vec<String> {
        let Some(hook) = self.hook() else {
            return Vec::new();
        };
        let full = match self.is_global() {
            true => hook.to_owned(),
            false => format!("blocks.L.{hook}"),
        };
        let last = super::last_part(hook).filter(|last| *last != full);
        std::iter::once(full)
            .chain(last.map(str::to_owned))
            .collect()
    }

    /// The axes of its activation in a model of so many heads: `[P, H, d]` with the numbers that are known.
    pub fn shape(self, config: &crate::model::Config) -> String {
        let width = match self.width() {
            Width::Keys => "keys".to_owned(),
            width => width.numbers(config, 0).to_string(),
        };
        match self.has_heads() {
            true => format!("[positions, {}, {width}]", config.heads),
            false => format!("[positions, {width}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::site::{Component, Site};

    #[test]
    fn every_alias_is_a_name_of_its_component_and_meanings_differ() {
        let mut meanings = std::collections::HashSet::new();
        for component in Component::all() {
            for alias in component.aliases() {
                let site: Site = alias.replace("blocks.L", "blocks.3").parse().unwrap();
                assert_eq!(site.component, component, "{alias}");
            }
            assert!(meanings.insert(component.meaning()), "{component}");
        }
    }
}
