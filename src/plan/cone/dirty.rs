//! The first pass, forward: which rows differ at which stage from the clean base run's.

use std::collections::BTreeSet;

use super::{ConeInput, Wanted};
use crate::model::Config;
use crate::plan::edit::Edit;
use crate::plan::positions::Positions;
use crate::site::Stage;

/// Dirtiness at one stage.
pub struct Dirt {
    /// Before the stage's patches.
    pub before: Positions,
    /// After them.
    pub after: Positions,
    /// The rows that they overwrite whole.
    pub replaced: Positions,
}

impl Dirt {
    fn everywhere(rows: &Positions) -> Self {
        Self {
            before: rows.clone(),
            after: rows.clone(),
            replaced: Positions::none(),
        }
    }
}

/// Dirtiness in one layer.
pub struct LayerDirt {
    pub input: Positions,
    pub ln_1: Positions,
    pub query: Dirt,
    pub key: Dirt,
    pub value: Dirt,
    pub z: Dirt,
    pub attention_output: Dirt,
    pub mid: Dirt,
    pub ln_2: Positions,
    pub pre: Dirt,
    pub activation: Dirt,
    pub mlp_output: Dirt,
    /// After the layer's output and the next layer's input were patched.
    pub out: Dirt,
    /// Rows that read a residual of their own: which projection, position, head.
    pub head_inputs: BTreeSet<(Stage, usize, usize)>,
}

impl LayerDirt {
    fn everywhere(rows: &Positions) -> Self {
        let all = || Dirt::everywhere(rows);
        Self {
            input: rows.clone(),
            ln_1: rows.clone(),
            query: all(),
            key: all(),
            value: all(),
            z: all(),
            attention_output: all(),
            mid: all(),
            ln_2: rows.clone(),
            pre: all(),
            activation: all(),
            mlp_output: all(),
            out: all(),
            head_inputs: BTreeSet::new(),
        }
    }
}

/// Dirtiness in a whole run.
pub struct Dirty {
    /// The first layer of those below.
    pub start: usize,
    /// Of what enters it.
    pub input: Dirt,
    /// Layers from `start` on.
    pub layers: Vec<LayerDirt>,
}

impl Dirty {
    /// All of `rows` at every stage, from the embedding on.
    pub fn everywhere(config: &Config, rows: &Positions) -> Self {
        Self {
            start: 0,
            input: Dirt::everywhere(rows),
            layers: (0..config.layers)
                .map(|_| LayerDirt::everywhere(rows))
                .collect(),
        }
    }

    /// The same with the inputs that edits at the first `length` positions give to heads alone.
    pub fn with_head_inputs(mut self, edits: &[Edit], length: usize) -> Self {
        for (layer, dirt) in self.layers.iter_mut().enumerate() {
            let at = |c: &&Edit| c.layer == layer && c.position < length;
            dirt.head_inputs = head_inputs(edits.iter().filter(at));
        }
        self
    }
}

/// What the walk through a run's edits finds.
pub struct Walked {
    /// What may differ from the base's.
    pub dirty: Dirty,
    /// Of what is read out, the rows that may.
    pub read: Positions,
    /// For each edit, whether it is applied.
    pub live: Vec<bool>,
    /// Of what others read of the run, the rows that may differ.
    pub kept: Wanted,
}

/// What a run's patches make dirty.
pub fn of_run(asked: &ConeInput<'_>) -> Walked {
    let layers = asked.config.layers;
    let start = asked.edits.first().map_or(layers, |c| c.layer.min(layers));
    let mut walk = Walk {
        asked,
        next: 0,
        live: vec![false; asked.edits.len()],
        kept: Wanted::new(),
    };

    let width = asked.config.width;
    let mut embedded = Positions::none();
    if start == 0 {
        let token = walk
            .stage(0, Stage::TokenEmbedding, Positions::none(), 0)
            .after;
        let position = walk
            .stage(0, Stage::PositionEmbedding, Positions::none(), 0)
            .after;
        embedded = token.union(&position);
    }
    let input = walk.stage(start, Stage::BlockInput, embedded, width);
    let mut dirt: Vec<LayerDirt> = Vec::with_capacity(layers - start);
    for layer in start..layers {
        let entering = dirt.last().map_or(&input, |d| &d.out).after.clone();
        dirt.push(walk.layer(layer, entering));
    }
    let last = dirt.last().map_or(&input, |d| &d.out).after.clone();
    // what leaves the last layer is kept as what would enter the next
    let out = (layers, Stage::BlockInput);
    if let Some(wanted) = asked.wanted.get(&out).filter(|_| start < layers) {
        walk.kept.insert(out, wanted.and(&last));
    }
    let scale = walk.stage(layers, Stage::LnFScale, last, 0).after;
    let normalized = walk.stage(layers, Stage::LnFNormalized, scale, width).after;
    let read = walk
        .stage(layers, Stage::FinalOutput, normalized, width)
        .after;
    Walked {
        dirty: Dirty {
            start,
            input,
            layers: dirt,
        },
        read,
        live: walk.live,
        kept: walk.kept,
    }
}

/// Walks a run's edits in the order of computation.
struct Walk<'a> {
    asked: &'a ConeInput<'a>,
    next: usize,
    live: Vec<bool>,
    /// What is wanted and dirty.
    kept: Wanted,
}

impl<'a> Walk<'a> {
    /// Applies the edits of one stage to rows that are `before` dirty. `whole` is the width at
    /// which a row counts as overwritten; 0 where overwriting cannot make a row clean.
    fn stage(&mut self, layer: usize, stage: Stage, before: Positions, whole: usize) -> Dirt {
        let edits = self.asked.edits;
        let (mut after, mut replaced) = (before.clone(), Positions::none());
        while self.next < edits.len()
            && (edits[self.next].layer, edits[self.next].stage) == (layer, stage)
        {
            let first = self.next;
            let position = edits[first].position;
            while self.next < edits.len()
                && (
                    edits[self.next].layer,
                    edits[self.next].stage,
                    edits[self.next].position,
                ) == (layer, stage, position)
            {
                self.next += 1;
            }
            let row = &edits[first..self.next];
            let same: Vec<bool> = (first..self.next).map(self.asked.same).collect();
            let covered = whole > 0
                && row.iter().all(Edit::replaces)
                && covers(row.iter().map(|c| (c.column, c.length)), whole);
            if before.contains(position) {
                // live even where it is a freeze, from which on the row is the base's: a patch after
                // it in the same layer norm has the row computed, and then it must be written
                self.live[first..self.next].fill(true);
                if covered && same.iter().all(|s| *s) {
                    after.remove(position);
                }
            } else if let Some(live) = same.iter().position(|s| !s) {
                self.live[first + live..self.next].fill(true);
                after.insert(position);
            }
            if covered {
                replaced.insert(position);
            }
        }
        if let Some(wanted) = self.asked.wanted.get(&(layer, stage)) {
            self.kept.insert((layer, stage), wanted.and(&after));
        }
        Dirt {
            before,
            after,
            replaced,
        }
    }

    /// What of a layer is dirty if `input` of what enters it is.
    fn layer(&mut self, layer: usize, input: Positions) -> LayerDirt {
        let (width, inner) = (self.asked.config.width, self.asked.config.inner);
        let mut at = |stage, before, whole| self.stage(layer, stage, before, whole);
        let scale = at(Stage::Ln1Scale, input.clone(), 0).after;
        let normalized = at(Stage::Ln1Normalized, scale, width).after;
        let ln_1 = at(Stage::AttentionInput, normalized, width).after;

        // where a head has an input of its own, that is the residual, not what ln_1 made of it
        for stage in [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput] {
            self.stage(layer, stage, input.union(&ln_1), 0);
        }
        let edits = self.asked.edits.iter().zip(&self.live).take(self.next);
        let live = edits.filter(|(edit, live)| edit.layer == layer && **live);
        let head_inputs = head_inputs(live.map(|(edit, _)| edit));
        let read = |own| {
            let rows = head_inputs.iter().filter(|(stage, _, _)| *stage == own);
            rows.map(|(_, position, _)| *position)
                .collect::<Positions>()
                .union(&ln_1)
        };
        let [q, k, v] = [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput].map(read);
        let mut at = |stage, before, whole| self.stage(layer, stage, before, whole);
        let query = at(Stage::Query, q, width);
        let key = at(Stage::Key, k, width);
        let value = at(Stage::Value, v, width);

        // z of a row sees the keys and values of every row up to itself
        let length = self.length();
        let rows =
            |from: Option<usize>| from.map_or(Positions::none(), |f| Positions::range(f, length));
        let scored = query.after.union(&rows(key.after.first()));
        let mut at = |stage, before, whole| self.stage(layer, stage, before, whole);
        let scores = at(Stage::Scores, scored, 0).after;
        let pattern = at(Stage::Pattern, scores, 0).after;
        let z = at(Stage::Z, pattern.union(&rows(value.after.first())), width);
        let attention_output = at(Stage::AttentionOutput, z.after.clone(), width);
        let mid = at(Stage::BlockMid, input.union(&attention_output.after), width);
        let read = at(Stage::MlpResidualInput, mid.after.clone(), width).after;
        let scale = at(Stage::Ln2Scale, read, 0).after;
        let normalized = at(Stage::Ln2Normalized, scale, width).after;
        let ln_2 = at(Stage::MlpInput, normalized, width).after;
        let pre = at(Stage::MlpPre, ln_2.clone(), inner);
        let activation = at(Stage::MlpActivation, pre.after.clone(), inner);
        let mlp_output = at(Stage::MlpOutput, activation.after.clone(), width);
        let mut out = at(
            Stage::BlockOutput,
            mid.after.union(&mlp_output.after),
            width,
        );
        if layer + 1 < self.asked.config.layers {
            // the next layer's input is the same buffer, patched once more
            let next = self.stage(layer + 1, Stage::BlockInput, out.after, width);
            out.after = next.after;
            out.replaced = out.replaced.union(&next.replaced);
        }
        LayerDirt {
            input,
            ln_1,
            query,
            key,
            value,
            z,
            attention_output,
            mid,
            ln_2,
            pre,
            activation,
            mlp_output,
            out,
            head_inputs,
        }
    }

    /// Positions after the last that is read are not computed at all.
    fn length(&self) -> usize {
        let asked = self.asked;
        let wanted = asked.wanted.values().filter_map(Positions::last);
        let last = wanted.chain(asked.readouts.last()).max();
        last.map_or(0, |p| p + 1)
    }
}

/// Whether the stretches together cover columns `0..width`.
fn covers(stretches: impl Iterator<Item = (usize, usize)>, width: usize) -> bool {
    let mut sorted: Vec<_> = stretches.collect();
    sorted.sort_unstable();
    sorted.iter().fold(0, |end, (first, length)| {
        if *first <= end {
            end.max(first + length)
        } else {
            end
        }
    }) >= width
}

/// The rows at which some edits give a head an input of its own, once each however many edits meet
/// there: which projection, position, head.
fn head_inputs<'c>(edits: impl Iterator<Item = &'c Edit>) -> BTreeSet<(Stage, usize, usize)> {
    let own = [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput];
    edits
        .filter(|c| own.contains(&c.stage))
        .map(|c| (c.stage, c.position, c.head))
        .collect()
}
