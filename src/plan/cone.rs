//! The light cone of one run: the (stage, row) cells that its patches can change *and* a readout
//! can see.
//!
//! Two passes over the layers. Forward, a row becomes *dirty* at a stage where its value may
//! differ from the clean base run's; it becomes clean again where the base's own value is written
//! over all of it (a freeze). Backward, a row is *needed* where a readout, through the rows that
//! are computed, can see it; a row that is overwritten whole is not needed before that. What is
//! computed is the intersection, and every value that a computed row reads is then either the
//! run's own (dirty) or the trace's (clean), never missing.
//!
//! A clean run, from which traces are kept, is the same thing with every row dirty from the
//! embedding on and with additional things that see it: the stages that are to be kept. So is a run
//! that other runs read: what they read of it is seen, and kept where it is dirty; where it is clean
//! the trace has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Config;
use crate::plan::basis_work::BasisWork;
use crate::plan::cell::Cell;
use crate::plan::positions::Positions;
use crate::site::Stage;

/// Rows of one stage's buffer: first those that are computed, then those whose clean value is
/// gathered from the trace because a patch acts on it there.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Computed from the stage before.
    pub computed: Positions,
    /// Computed or gathered.
    pub all: Positions,
}

impl Rows {
    fn new(wanted: Positions, computable: &Positions, replaced: &Positions) -> Self {
        Self {
            computed: wanted.and(computable).minus(replaced),
            all: wanted,
        }
    }

    /// Rows whose clean value is gathered from the trace.
    pub fn gathered(&self) -> Positions {
        self.all.minus(&self.computed)
    }
}

/// What one layer computes for one run.
#[derive(Debug, Clone, Default)]
pub struct LayerCone {
    /// Rows of ln_1.
    pub ln_1: Positions,
    /// Rows of queries, keys and values that are the run's own.
    pub query: Rows,
    /// See `query`.
    pub key: Rows,
    /// See `query`.
    pub value: Rows,
    /// Rows of z.
    pub z: Rows,
    /// Rows of the attention's output.
    pub attention_output: Rows,
    /// Rows of the residual stream between attention and MLP.
    pub mid: Rows,
    /// Rows before the activation; the computed ones are also the rows of ln_2.
    pub mlp_pre: Rows,
    /// Rows after the activation.
    pub mlp_activation: Rows,
    /// Rows of the MLP's output.
    pub mlp_output: Rows,
    /// Rows of the residual stream that enters the next layer.
    pub out: Rows,
    /// Rows at which one head's query, key or value reads a patched residual of its own: how many
    /// (row, head) pairs.
    pub head_inputs: usize,
}

/// What a run computes.
#[derive(Debug, Clone, Default)]
pub struct Cone {
    /// The first layer that computes anything or takes a patch.
    pub start: usize,
    /// Rows of the residual stream that enters `start`; computed only by the embedding.
    pub input: Rows,
    /// Layers from `start` on.
    pub layers: Vec<LayerCone>,
    /// Readout rows that are the run's own; at the others the readout is the base's.
    pub readouts: Positions,
    /// For each cell, whether it is applied.
    pub live: Vec<bool>,
    /// Of what others read of the run, the rows that are its own, by layer and stage.
    pub kept: Wanted,
    /// What its moves in bases take.
    pub bases: BasisWork,
}

/// Rows that are read by layer and stage, the stage as [`crate::plan::cell::kept`] names it.
pub type Wanted = BTreeMap<(usize, Stage), Positions>;

/// What to plan for.
pub struct Question<'a> {
    /// The model.
    pub config: &'a Config,
    /// The run's cells, in the order of [`crate::plan::cell::cells`].
    pub cells: &'a [Cell],
    /// Positions that are read out.
    pub readouts: &'a Positions,
    /// Whether cell i writes, bit for bit, the clean base run's value.
    pub same: &'a dyn Fn(usize) -> bool,
    /// What other runs read of this one.
    pub wanted: &'a Wanted,
}

/// Dirtiness at one stage: before and after its patches, and the rows that they overwrite whole.
#[derive(Default)]
struct Dirt {
    before: Positions,
    after: Positions,
    replaced: Positions,
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

#[derive(Default)]
struct LayerDirt {
    input: Positions,
    ln_1: Positions,
    query: Dirt,
    key: Dirt,
    value: Dirt,
    z: Dirt,
    attention_output: Dirt,
    mid: Dirt,
    ln_2: Positions,
    pre: Dirt,
    activation: Dirt,
    mlp_output: Dirt,
    /// After the layer's output and the next layer's input were patched.
    out: Dirt,
    /// Rows that read a residual of their own: which projection, position, head.
    head_inputs: BTreeSet<(Stage, usize, usize)>,
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

/// Walks a run's cells in the order of computation.
struct Walk<'a> {
    question: &'a Question<'a>,
    next: usize,
    live: Vec<bool>,
    /// What is wanted and dirty.
    kept: Wanted,
}

impl<'a> Walk<'a> {
    /// Applies the cells of one stage to rows that are `before` dirty. `whole` is the width at
    /// which a row counts as overwritten; 0 where overwriting cannot make a row clean.
    fn stage(&mut self, layer: usize, stage: Stage, before: Positions, whole: usize) -> Dirt {
        let cells = self.question.cells;
        let (mut after, mut replaced) = (before.clone(), Positions::none());
        while self.next < cells.len()
            && (cells[self.next].layer, cells[self.next].stage) == (layer, stage)
        {
            let first = self.next;
            let position = cells[first].position;
            while self.next < cells.len()
                && (
                    cells[self.next].layer,
                    cells[self.next].stage,
                    cells[self.next].position,
                ) == (layer, stage, position)
            {
                self.next += 1;
            }
            let row = &cells[first..self.next];
            let same: Vec<bool> = (first..self.next).map(self.question.same).collect();
            let covered = whole > 0
                && row.iter().all(Cell::replaces)
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
        if let Some(wanted) = self.question.wanted.get(&(layer, stage)) {
            self.kept.insert((layer, stage), wanted.and(&after));
        }
        Dirt {
            before,
            after,
            replaced,
        }
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

/// The light cone of a patched run.
pub fn of_run(question: &Question<'_>) -> Cone {
    let layers = question.config.layers;
    let start = question
        .cells
        .first()
        .map_or(layers, |c| c.layer.min(layers));
    let mut walk = Walk {
        question,
        next: 0,
        live: vec![false; question.cells.len()],
        kept: Wanted::new(),
    };

    let width = question.config.width;
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
        dirt.push(forward(&mut walk, layer, entering));
    }
    let last = dirt.last().map_or(&input, |d| &d.out).after.clone();
    // what leaves the last layer is kept as what would enter the next
    let out = (layers, Stage::BlockInput);
    if let Some(wanted) = question.wanted.get(&out).filter(|_| start < layers) {
        walk.kept.insert(out, wanted.and(&last));
    }
    let scale = walk.stage(layers, Stage::LnFScale, last, 0).after;
    let normalized = walk.stage(layers, Stage::LnFNormalized, scale, width).after;
    let read = walk
        .stage(layers, Stage::FinalOutput, normalized, width)
        .after;

    let kept = walk.kept;
    let seen = |stage, layer| kept.get(&(layer, stage)).cloned().unwrap_or_default();
    let cone = backward(
        question.config,
        start,
        input,
        dirt,
        read.and(question.readouts),
        &seen,
    );
    Cone {
        live: walk.live,
        kept,
        ..cone
    }
    .with_bases(question.cells)
}

/// The cone of a clean run of `length` rows: every row from the embedding on, as far as `readouts`
/// or the `kept` stages (as [`crate::plan::cell::kept`] names them) see it.
pub fn of_clean(
    config: &Config,
    length: usize,
    readouts: &Positions,
    kept: &dyn Fn(Stage, usize) -> bool,
) -> Cone {
    let rows = Positions::range(0, length);
    let dirt = (0..config.layers).map(|_| LayerDirt::everywhere(&rows));
    let seen = |stage, layer| {
        if kept(stage, layer) {
            rows.clone()
        } else {
            Positions::none()
        }
    };
    backward(
        config,
        0,
        Dirt::everywhere(&rows),
        dirt.collect(),
        readouts.clone(),
        &seen,
    )
}

/// A run of `length` rows with no light cone at all, for verification: every row is computed at
/// every stage of every layer and every cell is applied, so nothing is read from the base's trace
/// but what operators read. A run's readouts must be the same, bit for bit, as through [`of_run`].
pub fn of_whole(config: &Config, cells: &[Cell], length: usize, readouts: &Positions) -> Cone {
    let rows = Positions::range(0, length);
    let dirt = (0..config.layers).map(|layer| LayerDirt {
        head_inputs: head_inputs(
            cells
                .iter()
                .filter(|c| c.layer == layer && c.position < length),
        ),
        ..LayerDirt::everywhere(&rows)
    });
    // the final layer norm and the unembedding are wanted at readout rows only
    let finals = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput];
    let seen = |stage, _| {
        if finals.contains(&stage) {
            Positions::none()
        } else {
            rows.clone()
        }
    };
    let cone = backward(
        config,
        0,
        Dirt::everywhere(&rows),
        dirt.collect(),
        readouts.clone(),
        &seen,
    );
    Cone {
        live: vec![true; cells.len()],
        ..cone
    }
    .with_bases(cells)
}

/// The rows at which some cells give a head an input of its own, once each however many cells meet
/// there: which projection, position, head.
fn head_inputs<'c>(cells: impl Iterator<Item = &'c Cell>) -> BTreeSet<(Stage, usize, usize)> {
    let own = [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput];
    cells
        .filter(|c| own.contains(&c.stage))
        .map(|c| (c.stage, c.position, c.head))
        .collect()
}

fn forward(walk: &mut Walk<'_>, layer: usize, input: Positions) -> LayerDirt {
    let (width, inner) = (walk.question.config.width, walk.question.config.inner);
    let mut at = |stage, before, whole| walk.stage(layer, stage, before, whole);
    let scale = at(Stage::Ln1Scale, input.clone(), 0).after;
    let normalized = at(Stage::Ln1Normalized, scale, width).after;
    let ln_1 = at(Stage::AttentionInput, normalized, width).after;

    // where a head has an input of its own, that is the residual, not what ln_1 made of it
    for stage in [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput] {
        walk.stage(layer, stage, input.union(&ln_1), 0);
    }
    let cells = walk.question.cells.iter().zip(&walk.live).take(walk.next);
    let live = cells.filter(|(cell, live)| cell.layer == layer && **live);
    let head_inputs = head_inputs(live.map(|(cell, _)| cell));
    let read = |own| {
        let rows = head_inputs.iter().filter(|(stage, _, _)| *stage == own);
        rows.map(|(_, position, _)| *position)
            .collect::<Positions>()
            .union(&ln_1)
    };
    let [q, k, v] = [Stage::QueryInput, Stage::KeyInput, Stage::ValueInput].map(read);
    let mut at = |stage, before, whole| walk.stage(layer, stage, before, whole);
    let query = at(Stage::Query, q, width);
    let key = at(Stage::Key, k, width);
    let value = at(Stage::Value, v, width);

    // z of a row sees the keys and values of every row up to itself
    let rows = |from: Option<usize>| {
        from.map_or(Positions::none(), |f| {
            Positions::range(f, walk_length(walk.question))
        })
    };
    let scored = query.after.union(&rows(key.after.first()));
    let mut at = |stage, before, whole| walk.stage(layer, stage, before, whole);
    let scores = at(Stage::Scores, scored, 0).after;
    let pattern = at(Stage::Weight, scores, 0).after;
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
    if layer + 1 < walk.question.config.layers {
        // the next layer's input is the same buffer, patched once more
        let next = walk.stage(layer + 1, Stage::BlockInput, out.after, width);
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
fn walk_length(question: &Question<'_>) -> usize {
    let wanted = question.wanted.values().filter_map(Positions::last);
    let last = wanted.chain(question.readouts.last()).max();
    last.map_or(0, |p| p + 1)
}

/// Keeps of what is dirty the part that is needed. `seen` gives the rows that are kept at a stage.
fn backward(
    config: &Config,
    start: usize,
    input: Dirt,
    dirt: Vec<LayerDirt>,
    readouts: Positions,
    seen: &dyn Fn(Stage, usize) -> Positions,
) -> Cone {
    let last = config.layers;
    let finals = [
        Stage::LnFScale,
        Stage::LnFNormalized,
        Stage::FinalOutput,
        Stage::BlockInput,
    ];
    let mut needed = finals
        .iter()
        .fold(readouts.clone(), |n, s| n.union(&seen(*s, last)));
    let readouts = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput]
        .iter()
        .fold(readouts, |n, s| n.union(&seen(*s, last)));
    let mut layers = Vec::with_capacity(dirt.len());
    for (i, d) in dirt.iter().enumerate().rev() {
        let layer = start + i;
        let see = |stage| seen(stage, layer);
        let out = Rows::new(
            needed.and(&d.out.after),
            &d.mid.after.union(&d.mlp_output.after),
            &d.out.replaced,
        );

        let wanted = out
            .computed
            .and(&d.mlp_output.after)
            .union(&see(Stage::MlpOutput));
        let mlp_output = Rows::new(wanted, &d.activation.after, &d.mlp_output.replaced);
        let wanted = mlp_output
            .computed
            .and(&d.activation.after)
            .union(&see(Stage::MlpActivation));
        let mlp_activation = Rows::new(wanted, &d.pre.after, &d.activation.replaced);
        let wanted = [
            Stage::MlpPre,
            Stage::MlpInput,
            Stage::Ln2Normalized,
            Stage::Ln2Scale,
        ]
        .iter()
        .fold(mlp_activation.computed.and(&d.pre.after), |w, s| {
            w.union(&see(*s))
        });
        // a row that is overwritten behind ln_2 is still computed for whoever sees it before that
        let before = [Stage::MlpInput, Stage::Ln2Normalized, Stage::Ln2Scale]
            .iter()
            .fold(Positions::none(), |w, s| w.union(&see(*s)));
        let mlp_pre = Rows::new(
            wanted,
            &d.ln_2.union(&before),
            &d.pre.replaced.minus(&before),
        );

        let wanted = out
            .computed
            .union(&mlp_pre.computed)
            .and(&d.mid.after)
            .union(&see(Stage::BlockMid));
        let mid = Rows::new(
            wanted,
            &d.input.union(&d.attention_output.after),
            &d.mid.replaced,
        );
        let wanted = mid
            .computed
            .and(&d.attention_output.after)
            .union(&see(Stage::AttentionOutput));
        let attention_output = Rows::new(wanted, &d.z.after, &d.attention_output.replaced);
        let wanted = [Stage::Z, Stage::Scores, Stage::Weight]
            .iter()
            .fold(attention_output.computed.and(&d.z.after), |w, s| {
                w.union(&see(*s))
            });
        // likewise a row of z whose scores or pattern somebody sees
        let before = see(Stage::Scores).union(&see(Stage::Weight));
        let z = Rows::new(
            wanted,
            &d.z.before.union(&before),
            &d.z.replaced.minus(&before),
        );

        let visible = z
            .computed
            .last()
            .map_or(Positions::none(), |p| Positions::range(0, p + 1));
        let projected = |dirt: &Dirt, used: &Positions, stage| {
            Rows::new(
                used.and(&dirt.after).union(&see(stage)),
                &d.ln_1,
                &dirt.replaced,
            )
        };
        let query = projected(&d.query, &z.computed, Stage::Query);
        let key = projected(&d.key, &visible, Stage::Key);
        let value = projected(&d.value, &visible, Stage::Value);
        let ln_1 = [Stage::Ln1Scale, Stage::Ln1Normalized, Stage::AttentionInput]
            .iter()
            .fold(
                query.computed.union(&key.computed).union(&value.computed),
                |w, s| w.union(&see(*s)),
            );
        let with_own_input = |(stage, position, _): &&(Stage, usize, usize)| match stage {
            Stage::QueryInput => query.all.contains(*position),
            Stage::KeyInput => key.all.contains(*position),
            _ => value.all.contains(*position),
        };
        let own: Vec<_> = d.head_inputs.iter().filter(with_own_input).collect();
        let head_inputs = own.len();
        let own: Positions = own.iter().map(|(_, position, _)| *position).collect();
        needed = ln_1
            .union(&mid.computed)
            .union(&own)
            .union(&see(Stage::BlockInput));
        layers.push(LayerCone {
            ln_1,
            query,
            key,
            value,
            z,
            attention_output,
            mid,
            mlp_pre,
            mlp_activation,
            mlp_output,
            out,
            head_inputs,
        });
    }
    layers.reverse();
    let embeddings = seen(Stage::TokenEmbedding, 0).union(&seen(Stage::PositionEmbedding, 0));
    let wanted = needed.and(&input.after).union(&embeddings);
    let input = Rows::new(wanted, &input.before, &input.replaced.minus(&embeddings));
    Cone {
        start,
        input,
        layers,
        readouts,
        live: Vec::new(),
        kept: Wanted::new(),
        bases: BasisWork::default(),
    }
}
