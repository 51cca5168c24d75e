//! The light cone of one run: the (stage, row) edits that its patches can change *and* a readout
//! can see.
//!
//! Two passes over the layers. Forward, a row becomes *dirty* at a stage where its value may
//! differ from the clean base run's; it becomes clean again where the base's own value is written
//! over all of it (a freeze). Backward, a row is *needed* where a readout, through the rows that
//! are computed, can see it; a row that is overwritten whole is not needed before that. What is
//! computed is the intersection, and every value that a computed row reads is then either the
//! run's own (dirty) or the cache's (clean), never missing.
//!
//! A clean run, of which activations are kept, is the same thing with every row dirty from the
//! embedding on and with additional things that see it: the stages that are to be kept. So is a run
//! that other runs read: what they read of it is seen, and kept where it is dirty; where it is clean
//! the cache has it.

//!
//! `dirty.rs` is the first pass and `needed.rs` the second; which runs there are to draw is said here.

mod dirty;
mod needed;

use std::collections::BTreeMap;

use self::dirty::Dirty;
use crate::model::Config;
use crate::plan::basis_work::BasisWork;
use crate::plan::edit::Edit;
use crate::plan::positions::Positions;
use crate::site::Stage;

/// Rows of one stage's buffer: first those that are computed, then those whose clean value is
/// gathered from the cache because a patch acts on it there.
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

    /// Rows whose clean value is gathered from the cache.
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
    /// For each edit, whether it is applied.
    pub live: Vec<bool>,
    /// Of what others read of the run, the rows that are its own, by layer and stage.
    pub kept: Wanted,
    /// What its moves in bases take.
    pub bases: BasisWork,
}

/// Rows that are read by layer and stage, the stage as [`crate::site::kept`] names it.
pub type Wanted = BTreeMap<(usize, Stage), Positions>;

/// What to plan for.
pub struct ConeInput<'a> {
    /// The model.
    pub config: &'a Config,
    /// The run's edits, in the order of [`crate::plan::edit::edits`].
    pub edits: &'a [Edit],
    /// Positions that are read out.
    pub readouts: &'a Positions,
    /// Whether edit i writes, bit for bit, the clean base run's value.
    pub same: &'a dyn Fn(usize) -> bool,
    /// What other runs read of this one.
    pub wanted: &'a Wanted,
}

/// The light cone of a patched run.
pub fn of_run(input: &ConeInput<'_>) -> Cone {
    let dirty::Walked {
        dirty,
        read,
        live,
        kept,
    } = dirty::of_run(input);
    let seen = |stage, layer| kept.get(&(layer, stage)).cloned().unwrap_or_default();
    let readouts = read.and(input.readouts);
    let cone = needed::of(&dirty, input.config, readouts, &seen);
    Cone { live, kept, ..cone }.with_bases(input.edits)
}

/// The cone of a clean run of `length` rows: every row from the embedding on, as far as `readouts`
/// or the `kept` stages (as [`crate::site::kept`] names them) see it.
pub fn of_clean(
    config: &Config,
    length: usize,
    readouts: &Positions,
    kept: &dyn Fn(Stage, usize) -> bool,
) -> Cone {
    let rows = Positions::range(0, length);
    let seen = |stage, layer| {
        if kept(stage, layer) {
            rows.clone()
        } else {
            Positions::none()
        }
    };
    let dirty = Dirty::everywhere(config, &rows);
    needed::of(&dirty, config, readouts.clone(), &seen)
}

/// A run of `length` rows with no light cone at all, for verification: every row is computed at
/// every stage of every layer and every edit is applied, so nothing is read from the base's cache
/// but what operators read. A run's readouts must be the same, bit for bit, as through [`of_run`].
pub fn of_whole(config: &Config, edits: &[Edit], length: usize, readouts: &Positions) -> Cone {
    let rows = Positions::range(0, length);
    // the final layer norm and the unembedding are wanted at readout rows only
    let finals = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput];
    let seen = |stage, _| {
        if finals.contains(&stage) {
            Positions::none()
        } else {
            rows.clone()
        }
    };
    let dirty = Dirty::everywhere(config, &rows).with_head_inputs(edits, length);
    let cone = needed::of(&dirty, config, readouts.clone(), &seen);
    Cone {
        live: vec![true; edits.len()],
        ..cone
    }
    .with_bases(edits)
}
