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
use headlight::plan::cone::{self, Cone, ConeInput, LayerCone, Wanted};
use headlight::plan::edit::{Edit, Read, Value, edits};
use headlight::plan::positions::Positions;
use headlight::site::Component;

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
    let edits = edits(patches, 0, config);
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

/// The computed rows of a layer: q, k, v, z, attention output, mid, MLP (all four stages), out.
fn computed(layer: &LayerCone) -> [Vec<usize>; 8] {
    let mlp = rows(&layer.mlp_pre.computed);
    assert_eq!(mlp, rows(&layer.mlp_activation.computed));
    assert_eq!(mlp, rows(&layer.mlp_output.computed));
    let stages = [
        &layer.query,
        &layer.key,
        &layer.value,
        &layer.z,
        &layer.attention_output,
        &layer.mid,
    ];
    let [q, k, v, z, attention, mid] = stages.map(|s| rows(&s.computed));
    [q, k, v, z, attention, mid, mlp, rows(&layer.out.computed)]
}

fn upward(from: usize, to: usize) -> Vec<usize> {
    (from..=to).collect()
}

fn nothing(cone: &Cone) -> bool {
    cone.readouts.is_empty()
        && cone.input.all.is_empty()
        && cone
            .layers
            .iter()
            .all(|l| computed(l).iter().all(Vec::is_empty))
}
