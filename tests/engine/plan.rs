//! What a run computes, row by row: DESIGN's figures, and small cases worked out by hand.

mod costs;
mod dirty;
mod freezes;
mod needed;
mod noise;
mod positions;

use crate::common::{self, runs};
use headlight::model::Config;
use headlight::patch::{Origin, Patch, Prompt};
use headlight::plan::cone::{self, Cone, ConeInput, Wanted};
use headlight::plan::cost::{Cost, Flops};
use headlight::plan::edit::{Edit, Read, Value, edits};
use headlight::plan::positions::Positions;
use headlight::plan::rows::ConeRows;
use headlight::site::{Component, Stage};

/// A model of `layers` layers and two heads.
fn tiny(layers: usize) -> Config {
    let json = format!(
        r#"{{"n_layer":{layers},"n_head":2,"n_embd":8,"n_inner":20,"vocab_size":30,"n_positions":200}}"#
    );
    Config::from_json(json.as_bytes(), "tiny").unwrap()
}

/// Nothing writes the base's value but what reads it from the base.
fn from_base(edit: &Edit) -> bool {
    matches!(
        &edit.value,
        Value::Read(Read {
            origin: Origin::Clean(Prompt::Base),
            ..
        })
    )
}

fn draw(config: &Config, patches: &[Patch], readouts: &[usize]) -> Cone {
    let edits = edits(patches, &[], config);
    let readouts = readouts.iter().copied().collect();
    cone::of_run(&ConeInput {
        config,
        edits: &edits,
        readouts: &readouts,
        same: &|i| from_base(&edits[i]),
        wanted: &Wanted::new(),
    })
}

fn patch(component: Component, layer: usize, positions: impl IntoIterator<Item = usize>) -> Patch {
    runs::interchange(component, layer, &[0], positions)
}

fn freeze(component: Component, layer: usize, positions: impl IntoIterator<Item = usize>) -> Patch {
    runs::freeze(runs::interchange(component, layer, &[0, 1], positions))
}

fn rows(positions: &Positions) -> Vec<usize> {
    positions.iter().collect()
}

/// Rows of what is given at a stage of a layer.
fn given(cone: &Cone, stage: Stage, layer: usize) -> ConeRows {
    cone.rows(stage, layer).cloned().unwrap_or_default()
}

/// The computed rows of a layer: q, k, v, z, attention output, mid, MLP (all four stages), out.
fn computed(cone: &Cone, layer: usize) -> [Vec<usize>; 8] {
    let at = |stage| rows(&given(cone, stage, layer).computed);
    let mlp = at(Stage::MlpPre);
    assert_eq!(mlp, at(Stage::MlpInput));
    assert_eq!(mlp, at(Stage::MlpActivation));
    assert_eq!(mlp, at(Stage::MlpOutput));
    [
        at(Stage::Query),
        at(Stage::Key),
        at(Stage::Value),
        at(Stage::Z),
        at(Stage::AttentionOutput),
        at(Stage::BlockMid),
        mlp,
        at(Stage::BlockOutput),
    ]
}

fn read_out(cone: &Cone) -> Vec<usize> {
    cone.readouts().map(rows).unwrap_or_default()
}

fn upward(from: usize, to: usize) -> Vec<usize> {
    (from..=to).collect()
}

fn nothing(cone: &Cone) -> bool {
    let mut all = cone.parts.iter().flat_map(|part| &part.ops);
    cone.is_unseen() && all.all(|rows| rows.all.is_empty())
}

fn flops(cone: &Cone, config: &Config) -> Flops {
    Cost::of(cone, &[], config).flops
}
