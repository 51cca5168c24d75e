//! Which runs other runs read, what they read of them, and in which order they must run.

use std::collections::BTreeMap;

use crate::model::Config;
use crate::patch::{Op, Origin, Patch};
use crate::plan::cell::{Cell, Value, cells, kept, layer_of};
use crate::plan::cone::Wanted;
use crate::plan::positions::Positions;
use crate::plan::shelf::RunId;
use crate::site::Stage;
use crate::sweep::pair::PairRuns;

/// A run that is read.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub id: RunId,
    /// What is read of it.
    pub wanted: Wanted,
    /// 0 where it reads clean runs only, else one more than what it reads.
    pub level: usize,
    pub cells: Vec<Cell>,
}

/// The runs that some runs, given as (pair, run), read directly or through others, in an order in
/// which each stands behind what it reads. `first` is the index of the first pair.
pub(super) fn steps(
    pairs: &[PairRuns],
    first: usize,
    runs: &[(usize, usize)],
    config: &Config,
) -> Vec<Step> {
    let mut steps: BTreeMap<RunId, Step> = BTreeMap::new();
    let mut open: Vec<RunId> = Vec::new();
    for &(pair, run) in runs {
        let patches = &pairs[pair].runs[run].patches;
        if reads_runs(patches) {
            let cells = cells(patches, (first + pair) as u32, config);
            read(pair, &cells, &mut steps, &mut open);
        }
        for collected in collected(patches, config) {
            let id = RunId {
                pair,
                run,
                before: Some(collected.before),
            };
            want(
                id,
                collected.place,
                &collected.positions,
                &mut steps,
                &mut open,
            );
        }
    }
    while let Some(id) = open.pop() {
        let patches = acting(&pairs[id.pair].runs[id.run].patches, id.before, config);
        let own = cells(&patches, (first + id.pair) as u32, config);
        read(id.pair, &own, &mut steps, &mut open);
        if let Some(step) = steps.get_mut(&id) {
            step.cells = own;
        }
    }
    let ids: Vec<RunId> = steps.keys().copied().collect();
    let mut levels = BTreeMap::new();
    for id in ids {
        level(id, &steps, &mut levels);
    }
    let mut steps: Vec<Step> = steps.into_values().collect();
    for step in &mut steps {
        step.level = levels[&step.id];
    }
    steps.sort_by_key(|step| (step.level, step.id));
    steps
}

fn reads_runs(patches: &[Patch]) -> bool {
    patches
        .iter()
        .any(|p| p.op.reads_source() && matches!(p.origin, Origin::Run(_)))
}

/// Notes what cells read of other runs.
fn read(pair: usize, cells: &[Cell], steps: &mut BTreeMap<RunId, Step>, open: &mut Vec<RunId>) {
    for cell in cells {
        if let Value::Read {
            origin: Origin::Run(run),
            stage,
            layer,
            position,
            ..
        } = cell.value
        {
            let id = RunId::whole(pair, run);
            want(id, (layer, stage), &[position], steps, open);
        }
    }
}

fn want(
    id: RunId,
    place: (usize, Stage),
    positions: &[usize],
    steps: &mut BTreeMap<RunId, Step>,
    open: &mut Vec<RunId>,
) {
    let step = steps.entry(id).or_insert_with(|| {
        open.push(id);
        Step {
            id,
            wanted: Wanted::new(),
            level: 0,
            cells: Vec::new(),
        }
    });
    let wanted = step.wanted.entry(place).or_insert_with(Positions::none);
    positions.iter().for_each(|p| wanted.insert(*p));
}

/// How far a run stands from clean ones. Checked runs do not read one another in a ring.
fn level(id: RunId, steps: &BTreeMap<RunId, Step>, known: &mut BTreeMap<RunId, usize>) -> usize {
    if let Some(level) = known.get(&id) {
        return *level;
    }
    let origins = steps[&id].cells.iter().filter_map(|cell| match cell.value {
        Value::Read {
            origin: Origin::Run(run),
            ..
        } => Some(RunId::whole(id.pair, run)),
        _ => None,
    });
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
