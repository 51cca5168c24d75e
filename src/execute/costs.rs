//! What each run is planned to take before anything is run, by which work is cut and predicted.
//!
//! The same bound as [`plan`](super::plan), run by run; pairs of one shape that share their runs are counted once.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::clean::{kept_cone, stem_edits};
use super::continuation::Continued;
use super::layout::{Known, PromptPlaces, layout};
use super::levels::steps;
use super::no_op::same_by_tokens;
use crate::model::Config;
use crate::patch::{Op, Patch, Prompt, Run};
use crate::plan::cone::{self, ConeInput, Outline, Wanted};
use crate::plan::cost::Cost;
use crate::plan::edit::{Edit, edits};
use crate::plan::positions::Positions;
use crate::prompt::pair::{Pair, PairRuns};

/// What a pair is planned to take, in floating-point operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairCost {
    /// Of its clean runs.
    pub clean: u64,
    /// Of its runs up to and with each.
    pub flops: Arc<[u64]>,
    /// How many of its runs up to and with each are read out.
    pub read_out: Arc<[u32]>,
    /// How many runs have the base's readout because no readout sees them.
    pub copied: usize,
}

/// What of a pair decides on its cost, where it has no further prompts.
type Shape = (usize, usize, usize, Option<usize>, usize, Vec<usize>);

/// Counts what pairs take, and remembers it by their shapes.
pub struct Costing<'a> {
    config: &'a Config,
    /// Whether losses are asked for.
    loss: bool,
    known: HashMap<Shape, PairCost>,
}

impl<'a> Costing<'a> {
    /// Nothing is known yet of this model's runs; `loss` is whether the loss of prompts is asked for.
    pub fn new(config: &'a Config, loss: bool) -> Self {
        Self {
            config,
            loss,
            known: HashMap::new(),
        }
    }

    /// What a pair takes. The runs of equal `key` must be the same; a key is where they stand, or anything else
    /// that tells them apart.
    pub fn pair(&mut self, pair: &PairRuns, key: usize) -> PairCost {
        match Continued::of(std::slice::from_ref(pair), self.loss) {
            None => self.one(pair, key),
            Some(continued) => {
                let all: Vec<PairCost> = continued.pairs.iter().map(|p| self.one(p, key)).collect();
                let runs = pair.runs.len();
                let mut flops = vec![0; runs];
                for part in all.iter().filter(|part| part.flops.len() == runs) {
                    flops
                        .iter_mut()
                        .zip(&*part.flops)
                        .for_each(|(sum, f)| *sum += f);
                }
                // the pair's own stands last
                let own = all.last().cloned();
                PairCost {
                    clean: all.iter().map(|part| part.clean).sum(),
                    flops: flops.into(),
                    read_out: own.as_ref().map_or([].into(), |own| own.read_out.clone()),
                    copied: own.map_or(0, |own| own.copied),
                }
            }
        }
    }

    fn one(&mut self, pair: &PairRuns, key: usize) -> PairCost {
        let prompts = &pair.pair;
        if !prompts.prompts.is_empty() {
            return self.count(pair);
        }
        let source = prompts.source.as_deref();
        let same = source.map_or(0, |source| {
            let both = prompts.base.iter().zip(source);
            both.take_while(|(base, source)| base == source).count()
        });
        let shape = (
            key,
            pair.runs.len(),
            prompts.base.len(),
            source.map(<[u32]>::len),
            same,
            prompts.readouts.clone(),
        );
        if let Some(known) = self.known.get(&shape) {
            return known.clone();
        }
        let cost = self.count(pair);
        self.known.insert(shape, cost.clone());
        cost
    }

    fn count(&self, of: &PairRuns) -> PairCost {
        let (config, PairRuns { pair, runs }) = (self.config, of);
        let pairs = std::slice::from_ref(of);
        let (layout, places) = layout(pairs, config, &mut Known::new());
        let kept = |stage, layer| layout.slots.contains_key(&(stage, layer));
        let clean = layout.prompts.iter().map(|prompt| {
            let edits = stem_edits(prompt, pairs, &places, config);
            let cone = kept_cone(prompt, &edits, &kept, config);
            Cost::of(&cone, &edits, config).flops.total()
        });
        let PromptPlaces {
            readouts, stems, ..
        } = &places[0];
        let each = runs
            .par_chunks(1024)
            .enumerate()
            .flat_map_iter(|(chunk, runs)| {
                let mut drawn = Drawn::default();
                let of = |(r, run): (usize, &Run)| {
                    let (stem, rest) = (stems.of(r).is_some(), stems.rest(r, &run.patches));
                    match run.step {
                        true => (0, false),
                        false => drawn.run((run, rest, stem), pair, readouts, config),
                    }
                };
                let runs = (chunk * 1024..).zip(runs);
                runs.map(of).collect::<Vec<_>>()
            });
        let mut each: Vec<(u64, bool)> = each.collect();
        let read: Vec<(usize, usize)> = (0..runs.len())
            .filter(|r| !runs[*r].step || runs[*r].patches.iter().any(|p| p.op == Op::Collect))
            .map(|r| (0, r))
            .collect();
        for step in steps(pairs, &read, config) {
            let run = &runs[step.id.run];
            let none = Positions::none();
            let cone = draw(
                &step.edits,
                (pair, run.prompt),
                (&none, &step.wanted),
                config,
            );
            each[step.id.run].0 += Cost::of(&cone, &step.edits, config).flops.total();
        }
        let (mut flops, mut read_out, mut copied) = (0, 0, 0);
        let summed = each.iter().zip(runs.iter()).map(|((cost, unseen), run)| {
            flops += cost;
            read_out += u32::from(!run.step);
            copied += usize::from(*unseen);
            (flops, read_out)
        });
        let (flops, read_out): (Vec<u64>, Vec<u32>) = summed.unzip();
        PairCost {
            clean: clean.sum(),
            flops: flops.into(),
            read_out: read_out.into(),
            copied,
        }
    }
}

/// What runs of an outline take, and whether no readout sees them.
#[derive(Default)]
struct Drawn(HashMap<Outline, (u64, bool)>);

impl Drawn {
    fn run(
        &mut self,
        (run, patches, stem): (&Run, &[Patch], bool),
        pair: &Pair,
        readouts: &Positions,
        config: &Config,
    ) -> (u64, bool) {
        let edits = edits(patches, pair.prompt_ids(Prompt::Base), config);
        let wanted = Wanted::new();
        // what a stem leaves is nobody's clean value
        let same = |i: usize| !stem && same_by_tokens(&edits[i], pair, run.prompt);
        let count = || {
            let cone = cone::of_run(&ConeInput {
                config,
                edits: &edits,
                readouts,
                same: &same,
                wanted: &wanted,
            });
            let flops = Cost::of(&cone, &edits, config).flops.total();
            (flops, cone.is_unseen())
        };
        // what a basis takes is no part of an outline
        if patches.iter().any(|patch| patch.basis.is_some()) {
            return count();
        }
        let outline = Outline::of(&ConeInput {
            config,
            edits: &edits,
            readouts,
            same: &same,
            wanted: &wanted,
        });
        *self.0.entry(outline).or_insert_with(count)
    }
}

fn draw(
    edits: &[Edit],
    (pair, prompt): (&Pair, Prompt),
    (readouts, wanted): (&Positions, &Wanted),
    config: &Config,
) -> cone::Cone {
    cone::of_run(&ConeInput {
        config,
        edits,
        readouts,
        same: &|i| same_by_tokens(&edits[i], pair, prompt),
        wanted,
    })
}
