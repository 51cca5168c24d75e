//! Patches that many runs of a pair begin with, done once.
//!
//! A tracing restores one state after the other in one corrupted run, and a prompt that is patched in one place is swept in
//! another: such runs share their first patches, the *stem*. Run by itself and kept like a clean prompt, the stem is
//! what its runs differ from, so that each computes no more than what its other patches change. A row's bits depend on what it
//! reads alone, so nothing else changes.
//!
//! That holds where the stem's patches act in earlier operations than all others of its runs, which then never
//! compute again what the stem has patched.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::no_op::same_by_tokens;
use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::plan::cone::{self, ConeInput, Wanted};
use crate::plan::cost::Cost;
use crate::plan::edit::{Edit, edits};
use crate::plan::positions::Positions;
use crate::prompt::pair::{Pair, PairRuns};
use crate::site::{layer_of, wiring};

/// What many runs of a pair begin with.
#[derive(Debug, Default)]
pub(super) struct Stems {
    /// Patches of each.
    pub patches: Vec<Vec<Patch>>,
    /// The stem of each run, if it has one.
    of: Vec<Option<u32>>,
}

/// Fewer runs make no stem.
const MANY: usize = 8;

/// Of so many runs of a stem is counted what it saves.
const COUNTED: usize = 8;

/// Longer runs are looked at up to here: a path holds thousands of patches.
const LONGEST: usize = 64;

impl Stems {
    /// The stem of a run, by its index.
    pub fn of(&self, run: usize) -> Option<usize> {
        self.of
            .get(run)
            .copied()
            .flatten()
            .map(|stem| stem as usize)
    }

    /// What a run does beyond its stem.
    pub fn rest<'r>(&self, run: usize, patches: &'r [Patch]) -> &'r [Patch] {
        let stem = self.of(run).map_or(0, |stem| self.patches[stem].len());
        &patches[stem..]
    }

    /// The stems of a pair's runs that save more than they take.
    pub fn find(of: &PairRuns, readouts: &Positions, config: &Config) -> Self {
        let PairRuns { pair, runs } = of;
        let mut groups = Groups::default();
        for (index, run) in runs.iter().enumerate() {
            let cuts = cuts(run, config);
            // most runs have none
            let Some(longest) = cuts.last() else {
                continue;
            };
            let hashes = hashes(&run.patches[..*longest]);
            for length in cuts {
                groups.add(runs, index, (length, hashes[length - 1]));
            }
        }
        let mut stems = Self::default();
        for Group { runs: own, length } in groups.longest() {
            let first = &runs[own[0]].patches[..length];
            let each = own.iter().step_by(own.len().div_ceil(COUNTED));
            let (mut counted, mut saved) = (0, 0);
            for index in each {
                let patches = &runs[*index].patches;
                let whole = flops(
                    patches,
                    &|edit| same_by_tokens(edit, pair, Prompt::Base),
                    (pair, readouts),
                    config,
                );
                let rest = flops(&patches[length..], &|_| false, (pair, readouts), config);
                counted += 1;
                saved += whole.saturating_sub(rest);
            }
            let saved = saved / counted * own.len() as u64;
            let edits = edits(first, pair.prompt_ids(Prompt::Base), config);
            let cone = cone::of_stem(config, &edits, pair.base.len(), readouts, &|_, _| true);
            let taken = Cost::of(&cone, &edits, config).flops.total();
            if saved > 2 * taken {
                stems.of.resize(runs.len(), None);
                let stem = stems.patches.len() as u32;
                own.iter().for_each(|run| stems.of[*run] = Some(stem));
                stems.patches.push(first.to_vec());
            }
        }
        stems
    }
}

fn flops(
    patches: &[Patch],
    same: &dyn Fn(&Edit) -> bool,
    (pair, readouts): (&Pair, &Positions),
    config: &Config,
) -> u64 {
    let edits = edits(patches, pair.prompt_ids(Prompt::Base), config);
    let cone = cone::of_run(&ConeInput {
        config,
        edits: &edits,
        readouts,
        same: &|i| same(&edits[i]),
        wanted: &Wanted::new(),
    });
    Cost::of(&cone, &edits, config).flops.total()
}

/// Where a run's patches can be cut in two, so that those before act in earlier operations than those behind.
fn cuts(run: &Run, config: &Config) -> Vec<usize> {
    let patches = &run.patches[..];
    let plain = |patch: &Patch| {
        // what a pass keeps of scores stands where a patch of them reads
        patch.op != Op::Collect
            && !matches!(patch.origin, Origin::Run(_))
            && !(patch.component.has_keys() && patch.op.reads_source())
    };
    let fits = (2..=LONGEST).contains(&patches.len());
    if !fits || run.step || run.prompt != Prompt::Base || !patches.iter().all(plain) {
        return Vec::new();
    }
    let places = |patch: &Patch| {
        let layer = layer_of(patch.component, patch.layer, config);
        let stages = patch.component.written();
        let places: Vec<(usize, usize)> = stages.map(|stage| wiring::find(stage, layer)).collect();
        (places.iter().min().copied(), places.iter().max().copied())
    };
    let places: Vec<_> = patches.iter().map(places).collect();
    let cut = |at: &usize| {
        let before = places[..*at].iter().filter_map(|(_, last)| *last).max();
        let behind = places[*at..].iter().filter_map(|(first, _)| *first).min();
        before < behind
    };
    (1..patches.len()).filter(cut).collect()
}

/// Runs with the same first patches.
struct Group {
    runs: Vec<usize>,
    /// How many patches.
    length: usize,
}

#[derive(Default)]
struct Groups {
    all: Vec<Group>,
    /// Groups by how many patches they share, and a hash of these.
    known: HashMap<(usize, u64), Vec<usize>>,
}

impl Groups {
    fn add(&mut self, runs: &[Run], run: usize, (length, hash): (usize, u64)) {
        let first = |run: usize| &runs[run].patches[..length];
        let alike = self.known.entry((length, hash)).or_default();
        let all = &mut self.all;
        let known = alike
            .iter()
            .find(|group| first(all[**group].runs[0]) == first(run));
        match known.copied() {
            Some(group) => all[group].runs.push(run),
            None => {
                alike.push(all.len());
                all.push(Group {
                    runs: vec![run],
                    length,
                });
            }
        }
    }

    /// Groups of many runs, each run in the one with which it shares most.
    fn longest(mut self) -> Vec<Group> {
        self.all.retain(|group| group.runs.len() >= MANY);
        self.all
            .sort_by_key(|group| std::cmp::Reverse(group.length));
        let mut taken: HashSet<usize> = HashSet::new();
        for group in &mut self.all {
            group.runs.retain(|run| !taken.contains(run));
            if group.runs.len() >= MANY {
                taken.extend(&group.runs);
            }
        }
        self.all.retain(|group| group.runs.len() >= MANY);
        self.all
    }
}

/// Of each patch one of itself and those before; few lists that differ have the same.
fn hashes(patches: &[Patch]) -> Vec<u64> {
    let mut hasher = DefaultHasher::new();
    let hash = |patch: &Patch| {
        (patch.component, patch.layer).hash(&mut hasher);
        (&patch.heads, &patch.positions, &patch.keys).hash(&mut hasher);
        match patch.op {
            Op::Noise { sample, .. } => sample.hash(&mut hasher),
            _ => patch.op.label().hash(&mut hasher),
        }
        hasher.finish()
    };
    patches.iter().map(hash).collect()
}
