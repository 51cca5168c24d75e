//! Which runs other runs read, what they read of them, and in which order they must run.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::execute::layout::readouts;
use crate::execute::no_op::same_by_tokens;
use crate::model::Config;
use crate::patch::{Op, Origin, Patch};
use crate::plan::cone::{self, ConeInput, Wanted};
use crate::plan::edit::{Edit, Read, Value, edits};
use crate::plan::patched_cache::RunId;
use crate::plan::positions::Positions;
use crate::prompt::pair::PairRuns;
use crate::site::{Stage, kept, layer_of};

/// A run that is read.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub id: RunId,
    /// What is read of it.
    pub wanted: Wanted,
    /// 0 where it reads clean runs only, else one more than what it reads.
    pub level: usize,
    pub edits: Vec<Edit>,
}

/// The runs that some runs, given as (pair, run), read directly or through others, in an order in
/// which each stands behind what it reads.
///
/// Of a run is wanted what its readers can see: a value that goes where no readout sees it is not asked
/// for, and so not computed.
pub(super) fn steps(pairs: &[PairRuns], runs: &[(usize, usize)], config: &Config) -> Vec<Step> {
    let mut steps = read_by(pairs, runs, config);
    let ids: Vec<RunId> = steps.keys().copied().collect();
    let mut levels = BTreeMap::new();
    for id in &ids {
        level(*id, &steps, &mut levels);
    }
    let seen = |pair: usize, run: usize, edits: &[Edit], readouts: Vec<usize>, wanted: &Wanted| {
        let PairRuns { pair, runs } = &pairs[pair];
        let cone = cone::of_run(&ConeInput {
            config,
            edits,
            readouts: &readouts.into_iter().collect(),
            same: &|i| same_by_tokens(&edits[i], pair, runs[run].prompt),
            wanted,
        });
        let seen = |edit: &&Edit| cone.has_row(edit.stage, edit.layer, edit.position);
        edits
            .iter()
            .filter(seen)
            .filter_map(reads)
            .collect::<Vec<Reads>>()
    };
    let of_reader = |&(pair, run): &(usize, usize)| {
        let PairRuns {
            pair: prompts,
            runs,
        } = &pairs[pair];
        let patches = &runs[run].patches;
        if runs[run].step || !reads_runs(patches) {
            return Vec::new();
        }
        let edits = edits(patches, pairs[pair].patched(run), config);
        seen(pair, run, &edits, readouts(prompts, runs), &Wanted::new())
    };
    let of_readers: Vec<Vec<Reads>> = runs.par_iter().map(of_reader).collect();
    let mut wanted: BTreeMap<RunId, Wanted> = BTreeMap::new();
    for (&(pair, run), places) in runs.iter().zip(of_readers) {
        for place in places {
            want(pair, place, &mut wanted);
        }
        let patches = &pairs[pair].runs[run].patches;
        for collected in collected(patches, config) {
            let before = Some(collected.before);
            let rows = wanted.entry(RunId { pair, run, before }).or_default();
            let rows = rows.entry(collected.place).or_insert_with(Positions::none);
            collected.positions.iter().for_each(|p| rows.insert(*p));
        }
    }
    // readers first
    let mut order = ids;
    order.sort_by_key(|id| std::cmp::Reverse((levels[id], *id)));
    for id in &order {
        if let (Some(step), Some(rows)) = (steps.get_mut(id), wanted.remove(id)) {
            for place in seen(id.pair, id.run, &step.edits, Vec::new(), &rows) {
                want(id.pair, place, &mut wanted);
            }
            step.wanted = rows;
        }
    }
    let mut steps: Vec<Step> = steps.into_values().collect();
    steps.retain(|step| !step.wanted.is_empty());
    for step in &mut steps {
        step.level = levels[&step.id];
    }
    steps.sort_by_key(|step| (step.level, step.id));
    steps
}

/// Every run that some runs read, seen or not.
fn read_by(pairs: &[PairRuns], runs: &[(usize, usize)], config: &Config) -> BTreeMap<RunId, Step> {
    let mut steps: BTreeMap<RunId, Step> = BTreeMap::new();
    let mut open: Vec<RunId> = Vec::new();
    for &(pair, run) in runs {
        let patches = &pairs[pair].runs[run].patches;
        open.extend(runs_read(patches).map(|run| RunId::whole(pair, run)));
        open.extend(collected(patches, config).iter().map(|c| RunId {
            pair,
            run,
            before: Some(c.before),
        }));
    }
    while let Some(id) = open.pop() {
        if steps.contains_key(&id) {
            continue;
        }
        let patches = acting(&pairs[id.pair].runs[id.run].patches, id.before, config);
        open.extend(runs_read(&patches).map(|run| RunId::whole(id.pair, run)));
        let step = Step {
            id,
            wanted: Wanted::new(),
            level: 0,
            edits: edits(&patches, pairs[id.pair].patched(id.run), config),
        };
        steps.insert(id, step);
    }
    steps
}

/// What of another run an edit reads.
type Reads = (usize, (usize, Stage), usize);

fn reads(edit: &Edit) -> Option<Reads> {
    match edit.value {
        Value::Read(Read {
            origin: Origin::Run(run),
            stage,
            layer,
            position,
            ..
        }) => Some((run, (layer, stage), position)),
        _ => None,
    }
}

fn want(pair: usize, (run, place, position): Reads, wanted: &mut BTreeMap<RunId, Wanted>) {
    let rows = wanted.entry(RunId::whole(pair, run)).or_default();
    let rows = rows.entry(place).or_insert_with(Positions::none);
    rows.insert(position);
}

/// The runs that patches read.
fn runs_read(patches: &[Patch]) -> impl Iterator<Item = usize> {
    patches.iter().filter_map(|patch| match patch.origin {
        Origin::Run(run) if patch.op.reads_source() => Some(run),
        _ => None,
    })
}

pub(super) fn reads_runs(patches: &[Patch]) -> bool {
    runs_read(patches).next().is_some()
}

/// How far a run stands from clean ones. Checked runs do not read one another in a ring.
fn level(id: RunId, steps: &BTreeMap<RunId, Step>, known: &mut BTreeMap<RunId, usize>) -> usize {
    if let Some(level) = known.get(&id) {
        return *level;
    }
    let origins = steps[&id].edits.iter().filter_map(reads);
    let origins = origins.map(|(run, _, _)| RunId::whole(id.pair, run));
    let below = origins.map(|id| level(id, steps, known)).max();
    let level = below.map_or(0, |below| below + 1);
    known.insert(id, level);
    level
}

/// A collecting patch.
pub(super) struct Collected {
    /// Its index among the run's patches.
    pub patch: usize,
    /// Layer and stage under which its value is kept.
    pub place: (usize, Stage),
    /// Rows that are collected.
    pub positions: Vec<usize>,
    /// The patches before this point have acted on the value.
    pub before: (usize, Stage, usize),
}

/// The collecting patches of a run. A value is that of the run without the patches that act later;
/// those that cannot reach it are left in, so that one run serves as many of them as possible.
pub(super) fn collected(patches: &[Patch], config: &Config) -> Vec<Collected> {
    let point = |(i, p): (usize, &Patch)| {
        let layer = layer_of(p.component, p.layer, config);
        (layer, p.component.stage(), i)
    };
    let collecting = patches
        .iter()
        .enumerate()
        .filter(|(_, p)| p.op == Op::Collect);
    let mut found: Vec<Collected> = collecting
        .map(|(i, patch)| {
            let before = point((i, patch));
            let (stage, layer) = kept(before.1, before.0);
            Collected {
                patch: i,
                place: (layer, stage),
                positions: patch.positions.clone(),
                before,
            }
        })
        .collect();
    // from the last on: an earlier one takes a later one's run where nothing in between touches it
    let mut by_point: Vec<usize> = (0..found.len()).collect();
    by_point.sort_by_key(|i| std::cmp::Reverse(found[*i].before));
    let mut last: Option<(usize, Stage, usize)> = None;
    for i in by_point {
        let (own, place) = (found[i].before, found[i].place);
        let untouched = |later: (usize, Stage, usize)| {
            let between = patches
                .iter()
                .enumerate()
                .filter(|(_, p)| p.op != Op::Collect);
            let mut between = between.map(point).filter(|at| own < *at && *at < later);
            between.all(|(layer, stage, _)| (layer, stage) > place)
        };
        match last {
            Some(later) if untouched(later) => found[i].before = later,
            _ => last = Some(own),
        }
    }
    found
}

/// The patches of a run that act before a point, without those that only collect.
fn acting(patches: &[Patch], before: Option<(usize, Stage, usize)>, config: &Config) -> Vec<Patch> {
    let acts = |(i, p): &(usize, &Patch)| {
        let at = (
            layer_of(p.component, p.layer, config),
            p.component.stage(),
            *i,
        );
        p.op != Op::Collect && before.is_none_or(|before| at < before)
    };
    let acting = patches.iter().enumerate().filter(acts);
    acting.map(|(_, patch)| patch.clone()).collect()
}
