//! Which clean runs a group of pairs needs, how far, and which of their activations are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::stems::Stems;
use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::plan::cache::{CacheLayout, PromptRows};
use crate::plan::edit::acts;
use crate::plan::positions::Positions;
use crate::prompt::pair::{Pair, PairRuns};
use crate::site::{Stage, kept, layer_of};

/// Where a pair's prompts stand in a cache.
#[derive(Debug, Clone, Default)]
pub(super) struct PromptPlaces {
    /// Index of each prompt among the layout's.
    pub prompts: BTreeMap<Prompt, usize>,
    /// Row of each prompt's position 0.
    pub rows: PromptRows,
    /// Positions of the base that are read out.
    pub readouts: Positions,
    /// What many of the pair's runs begin with.
    pub stems: Arc<Stems>,
    /// Index of each stem among the layout's prompts.
    pub stem_prompts: Vec<usize>,
}

impl PromptPlaces {
    fn add(&mut self, prompt: Prompt, index: usize, layout: &CacheLayout) {
        self.prompts.insert(prompt, index);
        self.rows.insert(prompt, layout.prompts[index].offset);
    }

    /// Index of the base.
    pub fn base(&self) -> usize {
        self.prompts[&Prompt::Base]
    }

    /// Index of what a run differs from: its stem, or the prompt that it patches.
    pub fn stands(&self, run: usize, prompt: Prompt) -> usize {
        match self.stems.of(run) {
            Some(stem) => self.stem_prompts[stem],
            None => self.prompts[&prompt],
        }
    }

    /// Index of the source, if there is one.
    pub fn source(&self) -> Option<usize> {
        self.prompts.get(&Prompt::Source).copied()
    }
}

/// Positions of a pair's base that are read out, in the order that it gives: none where nobody asks for an answer and every run
/// only collects.
pub(super) fn readouts(pair: &Pair, runs: &[Run]) -> Vec<usize> {
    let collects = |run: &Run| run.patches.iter().all(|p| p.op == Op::Collect);
    match pair.answers().is_empty() && runs.iter().all(collects) && !runs.is_empty() {
        true => Vec::new(),
        false => pair.readout_positions(),
    }
}

/// The clean runs that pairs need: which prompts, how far, and which stages are kept.
///
/// `known` is what runs were found to need by now: pairs often share their runs, and are laid out again
/// for groups of other sizes.
pub(super) fn layout(
    pairs: &[PairRuns],
    config: &Config,
    known: &mut Known,
) -> (CacheLayout, Vec<PromptPlaces>) {
    let mut layout = CacheLayout::default();
    let mut places = Vec::with_capacity(pairs.len());
    let mut keep: BTreeSet<(usize, Stage)> = BTreeSet::new();
    let mut last = std::ptr::null();
    for (index, of) in pairs.iter().enumerate() {
        let PairRuns { pair, runs } = of;
        let shared = (runs.as_ptr(), runs.len());
        let needs = known.entry(shared).or_insert_with(|| Needs {
            stems: Stems::find(of, &readouts(pair, runs).into_iter().collect(), config).into(),
            ..needs(runs, config)
        });
        if std::mem::replace(&mut last, runs.as_ptr()) != runs.as_ptr() {
            keep.extend(&needs.keep);
        }
        let readouts: Positions = readouts(pair, runs).into_iter().collect();
        let last_read = readouts.last().map_or(0, |r| r + 1);
        let base_length = last_read.max(needs.base_length);
        let mut place = PromptPlaces::default();
        let base = layout.prompt(&pair.base[..base_length], &readouts);
        place.add(Prompt::Base, base, &layout);
        if let Some(ids) = &pair.source {
            let last = match readouts.is_empty() {
                true => Positions::none(),
                false => pair.source_position().into_iter().collect(),
            };
            let source = layout.prompt(ids, &last);
            place.add(Prompt::Source, source, &layout);
        }
        for (i, (_, ids)) in pair.prompts.iter().enumerate() {
            let further = layout.prompt(ids, &Positions::none());
            place.add(Prompt::Further(i), further, &layout);
        }
        for stem in 0..needs.stems.patches.len() {
            let ids = &pair.base[..base_length];
            place
                .stem_prompts
                .push(layout.stem(ids, &readouts, (index, stem)));
        }
        place.stems = needs.stems.clone();
        place.readouts = readouts;
        places.push(place);
    }
    keep.into_iter()
        .for_each(|(layer, stage)| layout.keep(stage, layer));
    (layout, places)
}

/// What lists of runs need, by where they stand and their length.
pub(super) type Known = HashMap<(*const Run, usize), Needs>;

/// What runs need of clean ones, whichever pair's they are.
#[derive(Default)]
pub(super) struct Needs {
    /// Stages that are kept, by layer.
    keep: BTreeSet<(usize, Stage)>,
    /// Positions of the base prompt, from its first, that are computed clean whatever is read out.
    base_length: usize,
    /// What many of the runs begin with.
    stems: Arc<Stems>,
}

fn needs(runs: &[Run], config: &Config) -> Needs {
    let mut needs = Needs::default();
    let mut sites: BTreeSet<(usize, Stage)> = BTreeSet::new();
    let place = |stage: Stage, layer: usize| {
        let (stage, layer) = kept(stage, layer);
        (layer, stage)
    };
    for run in runs {
        let acting = || run.patches.iter().filter(|patch| acts(patch));
        let at = |patch: &Patch| {
            let layer = layer_of(patch.component, patch.layer, config);
            (layer, patch.component.stage())
        };
        let start = acting().map(at).min();
        for patch in acting() {
            let (layer, stage) = at(patch);
            sites.insert((layer, stage));
            if patch.op.reads_source() {
                let source_layer = patch.source_layer.or(patch.layer);
                let component = patch.read_component();
                let layer = layer_of(patch.component, source_layer, config);
                needs.keep.insert(place(component.stage(), layer));
                let prompt = match patch.origin {
                    Origin::Clean(prompt) => prompt,
                    Origin::Run(run) => runs[run].prompt,
                };
                if prompt == Prompt::Base {
                    let read = patch.source_positions.as_ref().unwrap_or(&patch.positions);
                    let last = read.iter().max().map_or(0, |last| last + 1);
                    needs.base_length = needs.base_length.max(last);
                }
            }
            // a freeze can leave a branch clean under a dirty residual stream
            if start < Some((layer, stage)) && stage <= Stage::Z && layer < config.layers {
                needs.keep.insert((layer, Stage::AttentionOutput));
            }
        }
        for patch in run.patches.iter().filter(|p| p.op == Op::Collect) {
            let (layer, stage) = at(patch);
            needs.keep.insert(place(stage, layer));
            if run.prompt == Prompt::Base {
                let last = patch.positions.iter().max().map_or(0, |last| last + 1);
                needs.base_length = needs.base_length.max(last);
            }
        }
        if let Some((start, _)) = start {
            for layer in start..config.layers {
                let stages = [Stage::BlockInput, Stage::Query, Stage::Key, Stage::Value];
                needs.keep.extend(stages.map(|stage| (layer, stage)));
            }
            needs.keep.insert((config.layers, Stage::BlockInput));
        }
    }
    for (layer, stage) in sites {
        needs.keep.insert(place(stage, layer));
        if (Stage::AttentionOutput..=Stage::MlpOutput).contains(&stage) {
            let stages = [Stage::AttentionOutput, Stage::BlockMid, Stage::MlpOutput];
            needs.keep.extend(stages.map(|stage| (layer, stage)));
        }
    }
    needs
}
