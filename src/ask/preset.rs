//! Ready-made sweeps: TransformerLens's `get_act_patch_*` family, with its shapes and axis order.
//!
//! | preset | patches | array |
//! |---|---|---|
//! | `resid_pre`, `resid_mid`, `attn_out`, `mlp_out` | one position | layer, position |
//! | `block_every` | the same of resid_pre, attn_out, mlp_out | component, layer, position |
//! | `attn_head_out_by_pos`, `…_q_…`, `…_k_…`, `…_v_…` | one head at one position | layer, position, head |
//! | `attn_head_pattern_by_pos` | one head's pattern at one query | layer, head, destination |
//! | `attn_head_pattern_dest_src_pos` | one cell of one head's pattern | layer, head, destination, source |
//! | `attn_head_out_all_pos`, `…_q_…`, `…_k_…`, `…_v_…`, `…_pattern_…` | one head at all positions | layer, head |
//! | `attn_head_by_pos_every` | out, q, k, v, pattern of one head at one position | component, layer, position, head |
//! | `attn_head_all_pos_every` | the same at all positions | component, layer, head |
//!
//! `every-block`, `every-head` and `every-head-by-position` are other names of the three `…_every`.

use std::str::FromStr;

use crate::ask::grid::{Grid, GridError};
use crate::model::Config;
use crate::patch::{Patch, Run};
use crate::prompt::position::Spot;
use crate::site::{Component, Site};
use crate::text::slip_of;

use Component as C;

/// A ready-made sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// TransformerLens's name, without `get_act_patch_`.
    pub name: &'static str,
    /// What is patched, in the order of the array.
    pub components: &'static [Component],
    /// Axes of the array, the slowest first.
    pub axes: &'static [PresetAxis],
}

/// What an axis of a preset's array runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the documentation
pub enum PresetAxis {
    Component,
    Layer,
    Position,
    Head,
    /// Query position of a pattern.
    Destination,
    /// Key position of a pattern.
    Source,
}

use PresetAxis as A;

impl PresetAxis {
    /// As files spell it.
    pub fn name(self) -> &'static str {
        match self {
            A::Component => "component",
            A::Layer => "layer",
            A::Position => "position",
            A::Head => "head",
            A::Destination => "destination",
            A::Source => "source",
        }
    }
}

const LAYER_POSITION: &[PresetAxis] = &[A::Layer, A::Position];
const BY_POSITION: &[PresetAxis] = &[A::Layer, A::Position, A::Head];
const ALL_POSITIONS: &[PresetAxis] = &[A::Layer, A::Head];
const HEAD: [Component; 5] = [
    C::HeadAttentionValueOutput,
    C::HeadQueryOutput,
    C::HeadKeyOutput,
    C::HeadValueOutput,
    C::AttentionWeight,
];

/// Every preset: name, components, axes.
const PRESETS: [Preset; 18] = {
    const fn preset(
        name: &'static str,
        components: &'static [Component],
        axes: &'static [PresetAxis],
    ) -> Preset {
        Preset {
            name,
            components,
            axes,
        }
    }
    [
        preset("resid_pre", &[C::BlockInput], LAYER_POSITION),
        preset("resid_mid", &[C::BlockMid], LAYER_POSITION),
        preset("attn_out", &[C::AttentionOutput], LAYER_POSITION),
        preset("mlp_out", &[C::MlpOutput], LAYER_POSITION),
        preset(
            "block_every",
            &[C::BlockInput, C::AttentionOutput, C::MlpOutput],
            &[A::Component, A::Layer, A::Position],
        ),
        preset(
            "attn_head_out_by_pos",
            &[C::HeadAttentionValueOutput],
            BY_POSITION,
        ),
        preset("attn_head_q_by_pos", &[C::HeadQueryOutput], BY_POSITION),
        preset("attn_head_k_by_pos", &[C::HeadKeyOutput], BY_POSITION),
        preset("attn_head_v_by_pos", &[C::HeadValueOutput], BY_POSITION),
        preset(
            "attn_head_pattern_by_pos",
            &[C::AttentionWeight],
            &[A::Layer, A::Head, A::Destination],
        ),
        preset(
            "attn_head_pattern_dest_src_pos",
            &[C::AttentionWeight],
            &[A::Layer, A::Head, A::Destination, A::Source],
        ),
        preset(
            "attn_head_out_all_pos",
            &[C::HeadAttentionValueOutput],
            ALL_POSITIONS,
        ),
        preset("attn_head_q_all_pos", &[C::HeadQueryOutput], ALL_POSITIONS),
        preset("attn_head_k_all_pos", &[C::HeadKeyOutput], ALL_POSITIONS),
        preset("attn_head_v_all_pos", &[C::HeadValueOutput], ALL_POSITIONS),
        preset(
            "attn_head_pattern_all_pos",
            &[C::AttentionWeight],
            ALL_POSITIONS,
        ),
        preset(
            "attn_head_by_pos_every",
            &HEAD,
            &[A::Component, A::Layer, A::Position, A::Head],
        ),
        preset(
            "attn_head_all_pos_every",
            &HEAD,
            &[A::Component, A::Layer, A::Head],
        ),
    ]
};

/// Other names.
const ALIASES: [(&str, &str); 4] = [
    ("every_block", "block_every"),
    ("every_head", "attn_head_all_pos_every"),
    ("every_head_by_pos", "attn_head_by_pos_every"),
    ("every_head_by_position", "attn_head_by_pos_every"),
];

/// A name that is no preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset `{name}`: {}use one of {known}", nearest.map_or(String::new(), |nearest| format!("did you mean {nearest}? Or ")))]
pub struct UnknownPreset {
    name: String,
    nearest: Option<&'static str>,
    known: String,
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let plain = name.trim().replace('-', "_");
        let plain = plain.strip_prefix("get_act_patch_").unwrap_or(&plain);
        let meant = ALIASES.iter().find(|(alias, _)| *alias == plain);
        let meant = meant.map_or(plain, |(_, name)| *name);
        if let Some(preset) = PRESETS.iter().find(|preset| preset.name == meant) {
            return Ok(*preset);
        }
        let names = || PRESETS.iter().map(|preset| preset.name);
        let all = names().chain(ALIASES.iter().map(|(alias, _)| *alias));
        Err(UnknownPreset {
            name: name.to_owned(),
            nearest: slip_of(meant, all),
            known: names().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Where a run stands in a preset's array, along each of the preset's axes: an index into what was
/// asked for (layer 3 of `--layers 2,3` is 1).
pub type GridIndex = Vec<usize>;

impl Preset {
    /// Refuses ranges as typed that a preset leaves no place for.
    ///
    /// # Errors
    ///
    /// A sentence that names the range.
    pub fn check(&self, heads: &str, positions: &str) -> Result<(), String> {
        if heads == "together" {
            return Err(
                "--heads together: a preset patches one head at a time; leave it out".to_owned(),
            );
        }
        if positions == "together" || self.is_of_all_positions() && positions != "all" {
            let name = self.name;
            return Err(format!(
                "--positions {positions}: the preset {name} says itself which positions go together; leave it out"
            ));
        }
        Ok(())
    }

    /// Whether each run patches all positions.
    pub fn is_of_all_positions(&self) -> bool {
        !self.axes.contains(&A::Position) && !self.axes.contains(&A::Destination)
    }

    /// The components, as the sites of a grid.
    pub fn sites(&self) -> Vec<Site> {
        let site = |component: &Component| Site {
            component: *component,
            layer: None,
        };
        self.components.iter().map(site).collect()
    }

    /// The runs of one pair, and where each stands in the array. `grid` says which layers, which
    /// heads and what is done; a preset of all positions patches those of all spots together.
    ///
    /// # Errors
    ///
    /// [`GridError`] for layers or heads that do not exist.
    pub fn runs(
        &self,
        grid: &Grid,
        config: &Config,
        spots: &[Spot],
    ) -> Result<(Vec<Run>, Vec<GridIndex>), GridError> {
        let together = [together(spots)];
        let spots = match self.is_of_all_positions() {
            true => &together,
            false => spots,
        };
        let layers = grid.layers.of(config.layers, "layer")?.len();
        let heads = match self.axes.contains(&A::Head) {
            true => grid.heads.of(config.heads, "head")?.len(),
            false => 1,
        };
        let runs = grid.runs_at(config, spots)?;
        let mut cells = Vec::with_capacity(runs.len());
        for component in 0..self.components.len() {
            for layer in 0..layers {
                for head in 0..heads {
                    for spot in 0..spots.len() {
                        cells.push((component, layer, head, spot));
                    }
                }
            }
        }
        let (mut all, mut places) = (Vec::with_capacity(runs.len()), Vec::new());
        for (run, (component, layer, head, spot)) in runs.into_iter().zip(cells) {
            let place = |key: usize| -> GridIndex {
                let along = |axis: &PresetAxis| match axis {
                    A::Component => component,
                    A::Layer => layer,
                    A::Head => head,
                    A::Position | A::Destination => spot,
                    A::Source => key,
                };
                self.axes.iter().map(along).collect()
            };
            if !self.axes.contains(&A::Source) {
                places.push(place(0));
                all.push(run);
                continue;
            }
            // later keys are masked: nothing stands there that could be patched
            let query = spots[spot].positions.iter().min().copied().unwrap_or(0);
            for key in 0..=query {
                places.push(place(key));
                all.push(run_of_key(&run, key));
            }
        }
        Ok((all, places))
    }
}

/// The same run at one key.
fn run_of_key(run: &Run, key: usize) -> Run {
    let patches = run.patches.iter().map(|patch| Patch {
        keys: Some(vec![key]),
        ..patch.clone()
    });
    Run {
        name: run.name.as_ref().map(|name| format!("{name},{key}")),
        position: run.position.clone(),
        layer: run.layer,
        patches: patches.collect(),
        ..Run::default()
    }
}

/// Every position of some spots as one, called `all`: a name that fits prompts of every length.
pub fn together(spots: &[Spot]) -> Spot {
    let mut all = Spot::same(Some(Spot::ALL.to_owned()), Vec::new());
    let mut read = Vec::new();
    for spot in spots {
        let source = spot.source_positions.as_ref().unwrap_or(&spot.positions);
        for (here, there) in spot.positions.iter().zip(source) {
            if !all.positions.contains(here) {
                all.positions.push(*here);
                read.push(*there);
            }
        }
    }
    all.source_positions = (read != all.positions).then_some(read);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_transformer_lens_names_and_ours() {
        for preset in PRESETS {
            assert_eq!(preset.name.parse(), Ok(preset));
            assert_eq!(format!("get_act_patch_{}", preset.name).parse(), Ok(preset));
            assert_eq!(preset.name.replace('_', "-").parse(), Ok(preset));
        }
        for (alias, name) in ALIASES {
            assert_eq!(alias.parse::<Preset>().unwrap().name, name);
        }
        let said = |name: &str| name.parse::<Preset>().unwrap_err().to_string();
        let slip = said("attn_head_q_by_ops");
        assert!(slip.contains("did you mean attn_head_q_by_pos?"), "{slip}");
        for name in ["foo", "attn_head_result_by_pos", "attn_head", "resid"] {
            let other = said(name);
            assert!(!other.contains("did you mean"), "{other}");
            assert!(other.contains("use one of resid_pre, resid_mid"), "{other}");
        }
    }
}
