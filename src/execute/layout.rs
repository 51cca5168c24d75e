//! Which clean runs a group of pairs needs, how far, and which of their activations are kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Config;
use crate::patch::{Op, Origin, Prompt, Run};
use crate::plan::cache::{CacheLayout, PromptRows};
use crate::plan::edit::{Read, Value, edits};
use crate::plan::positions::Positions;
use crate::prompt::pair::{Pair, PairRuns};
use crate::site::{Stage, kept, layer_of};

/// Where a pair's prompts stand in a cache.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Index of each prompt among the layout's.
    pub prompts: BTreeMap<Prompt, usize>,
    /// Row of each prompt's position 0.
    pub rows: PromptRows,
}

impl Place {
    fn add(&mut self, prompt: Prompt, index: usize, layout: &CacheLayout) {
        self.prompts.insert(prompt, index);
        self.rows.insert(prompt, layout.prompts[index].offset);
    }

    /// Index of the base.
    pub fn base(&self) -> usize {
        self.prompts[&Prompt::Base]
    }

    /// Index of the source, if there is one.
    pub fn source(&self) -> Option<usize> {
        self.prompts.get(&Prompt::Source).copied()
    }
}

/// Positions of a pair's base that are read out: none where nobody asks for an answer and every run
/// only collects.
pub(super) fn readouts(pair: &Pair, runs: &[Run]) -> Vec<usize> {
    let collects = |run: &Run| run.patches.iter().all(|p| p.op == Op::Collect);
    match pair.answers().is_empty() && runs.iter().all(collects) && !runs.is_empty() {
        true => Vec::new(),
        false => pair.readout_positions(),
    }
}

/// The clean runs that pairs need: which prompts, how far, and which stages are kept.
pub(super) fn layout(
    pairs: &[PairRuns],
    first: usize,
    config: &Config,
) -> (CacheLayout, Vec<Place>) {
    let mut layout = CacheLayout::default();
    let mut places = Vec::with_capacity(pairs.len());
    let mut sites: BTreeSet<(usize, Stage)> = BTreeSet::new();
    for (p, PairRuns { pair, runs }) in pairs.iter().enumerate() {
        let readouts: Positions = readouts(pair, runs).into_iter().collect();
        let mut base_length = readouts.last().map_or(0, |r| r + 1);
        for run in runs.iter() {
            let run_edits = edits(&run.patches, (first + p) as u32, config);
            let start = run_edits.first().map(|c| (c.layer, c.stage));
            let mut read = |prompt: Prompt, position: usize| {
                if prompt == Prompt::Base {
                    base_length = base_length.max(position + 1);
                }
            };
            for edit in &run_edits {
                sites.insert((edit.layer, edit.stage));
                if let Value::Read(Read {
                    origin,
                    stage,
                    layer,
                    position,
                    ..
                }) = &edit.value
                {
                    layout.keep(*stage, *layer);
                    match origin {
                        Origin::Clean(prompt) => read(*prompt, *position),
                        Origin::Run(run) => read(runs[*run].prompt, *position),
                    }
                }
                // a freeze can leave a branch clean under a dirty residual stream
                if start < Some((edit.layer, edit.stage))
                    && edit.stage <= Stage::Z
                    && edit.layer < config.layers
                {
                    layout.keep(Stage::AttentionOutput, edit.layer);
                }
            }
            for patch in run.patches.iter().filter(|p| p.op == Op::Collect) {
                let layer = layer_of(patch.component, patch.layer, config);
                let (stage, layer) = kept(patch.component.stage(), layer);
                layout.keep(stage, layer);
                patch.positions.iter().for_each(|p| read(run.prompt, *p));
            }
            if let Some((start, _)) = start {
                for layer in start..config.layers {
                    [Stage::BlockInput, Stage::Query, Stage::Key, Stage::Value]
                        .iter()
                        .for_each(|stage| layout.keep(*stage, layer));
                }
                layout.keep(Stage::BlockInput, config.layers);
            }
        }
        let mut place = Place::default();
        let base = layout.prompt(&pair.base[..base_length], &readouts);
        place.add(Prompt::Base, base, &layout);
        if let Some(ids) = &pair.source {
            let last = match readouts.is_empty() {
                true => Positions::none(),
                false => std::iter::once(ids.len() - 1).collect(),
            };
            let source = layout.prompt(ids, &last);
            place.add(Prompt::Source, source, &layout);
        }
        for (i, (_, ids)) in pair.prompts.iter().enumerate() {
            let further = layout.prompt(ids, &Positions::none());
            place.add(Prompt::Further(i), further, &layout);
        }
        places.push(place);
    }
    for (layer, stage) in sites {
        let (stage_kept, layer_kept) = kept(stage, layer);
        layout.keep(stage_kept, layer_kept);
        if (Stage::AttentionOutput..=Stage::MlpOutput).contains(&stage) {
            [Stage::AttentionOutput, Stage::BlockMid, Stage::MlpOutput]
                .iter()
                .for_each(|stage| layout.keep(*stage, layer));
        }
    }
    (layout, places)
}
