//! Scores of runs that patch sites, as sweeps make them: Σ (what the patch writes − what stood there) · gradient.

use std::collections::{BTreeMap, BTreeSet};

use super::mean::{MeanGradient, PathMeans, Place, PointOf, TakeMeans};
use super::path::{Ends, Granularity, places, points};
use super::star::{CleanScores, inside, is_exact, over_drops};
use super::{Attribution, AttributionError, Method, PairScores};
use crate::backend::adjoint::Adjoints;
use crate::execute::Limits;
use crate::execute::activations::CleanRows;
use crate::execute::gradient::{GradientPlan, GradientRun, gradients};
use crate::model::Config;
use crate::patch::{Origin, Prompt};
use crate::plan::edit::{Edit, EditOp, Read, Space, Value, edits};
use crate::plan::tape::AskedGradients;
use crate::prompt::pair::{Pair, PairRuns};
use crate::site::Stage;

/// Pairs whose clean rows are held together, unless they are fewer.
const PAIRS: usize = 32;

/// Estimates the runs of some pairs, each by itself.
///
/// # Errors
///
/// [`AttributionError`]: pairs without what the method needs, runs of which there is no estimate, a budget
/// too small, or an interruption.
pub fn scores<B: Adjoints>(
    backend: &B,
    pairs: &[PairRuns],
    attribution: &Attribution,
    limits: &Limits<'_>,
) -> Result<(Vec<PairScores>, GradientPlan), AttributionError> {
    attribution.check()?;
    of_nodes(backend.config(), attribution)?;
    let (mut all, mut plan) = (Vec::with_capacity(pairs.len()), GradientPlan::default());
    for (i, group) in pairs.chunks(PAIRS).enumerate() {
        let group = Group::new(backend.config(), group, PAIRS * i, attribution)?;
        let (scores, executed) = group.scores(backend, attribution, limits)?;
        all.extend(scores);
        plan += executed;
    }
    Ok((all, plan))
}

/// Refuses pairs and runs of which there is no estimate.
///
/// # Errors
///
/// [`AttributionError`], as [`scores`].
pub fn check(
    config: &Config,
    pairs: &[PairRuns],
    attribution: &Attribution,
) -> Result<(), AttributionError> {
    of_nodes(config, attribution)?;
    let mut groups = pairs.chunks(PAIRS).enumerate();
    groups.try_for_each(|(i, group)| Group::new(config, group, PAIRS * i, attribution).map(|_| ()))
}

/// Refuses a method that is of edges, or that a model is too small for.
fn of_nodes(config: &Config, attribution: &Attribution) -> Result<(), AttributionError> {
    match attribution.method {
        Method::Ifr => Err(AttributionError::NotOf {
            method: Method::Ifr,
            of: "edges",
        }),
        Method::AtpStar if config.layers < 2 => Err(AttributionError::OneLayer),
        _ => Ok(()),
    }
}

/// Pairs that are estimated together.
struct Group<'a> {
    pairs: Vec<&'a Pair>,
    /// Positions of each that are computed: up to the last that is read out.
    lengths: Vec<usize>,
    /// Of each pair's runs, in their order.
    edits: Vec<Vec<Vec<Edit>>>,
    first: usize,
}

/// The last position that is read out, and those before.
pub(super) fn length(pair: &Pair) -> usize {
    pair.readout_positions()
        .last()
        .map_or(pair.base.len(), |last| last + 1)
}

impl<'a> Group<'a> {
    fn new(
        config: &Config,
        group: &'a [PairRuns],
        first: usize,
        attribution: &Attribution,
    ) -> Result<Self, AttributionError> {
        let mut all = Vec::with_capacity(group.len());
        for (p, pair_runs) in group.iter().enumerate() {
            let PairRuns { pair, runs } = pair_runs;
            attribution.source(first + p, pair, false)?;
            let mut of = Vec::with_capacity(runs.len());
            for (r, run) in runs.iter().enumerate() {
                let edits = edits(&run.patches, pair_runs.patched(r), config);
                let estimated = match run.step || run.prompt != Prompt::Base {
                    true => Err("a run of another prompt than the base, or one that others read,"),
                    false => edits.iter().try_for_each(can_be_estimated),
                };
                estimated.map_err(|what| AttributionError::Run {
                    pair: first + p,
                    run: r,
                    what,
                })?;
                of.push(edits);
            }
            all.push(of);
        }
        Ok(Self {
            pairs: group.iter().map(|of| &of.pair).collect(),
            lengths: group.iter().map(|of| length(&of.pair)).collect(),
            edits: all,
            first,
        })
    }

    fn scores<B: Adjoints>(
        &self,
        backend: &B,
        attribution: &Attribution,
        limits: &Limits<'_>,
    ) -> Result<(Vec<PairScores>, GradientPlan), AttributionError> {
        let config = backend.config();
        let star = attribution.method == Method::AtpStar;
        let each = self.edits.iter().flatten().flatten();
        let arrives = |edit: &Edit| match star && is_exact(edit) {
            true => (edit.layer, Stage::Pattern),
            false => (edit.layer, edit.stage),
        };
        let asked: AskedGradients = each.map(arrives).collect();
        let mut kept = places(attribution.method, config);
        for edit in self.edits.iter().flatten().flatten() {
            kept.push((edit.stage, edit.layer));
            if star && is_exact(edit) {
                kept.extend([(Stage::Query, edit.layer), (Stage::Key, edit.layer)]);
            }
            if let Value::Read(read) = &edit.value {
                kept.push((read.stage, read.layer));
            }
        }
        kept.sort_unstable();
        kept.dedup();
        let mut prompts: Vec<&[u32]> = Vec::new();
        for (pair, length) in self.pairs.iter().zip(&self.lengths) {
            prompts.push(&pair.base[..*length]);
            prompts.push(pair.source.as_deref().unwrap_or(&pair.base[..*length]));
        }
        let (rows, at) = CleanRows::new(backend, &prompts, &kept, limits)?;
        let (mut runs, mut point_of) = (Vec::new(), Vec::new());
        for (p, pair) in self.pairs.iter().enumerate() {
            let base = &pair.base[..self.lengths[p]];
            let source = attribution.source(self.first + p, pair, false)?;
            let ends = source
                .filter(|_| attribution.needs_source_run())
                .map(|source| Ends {
                    base,
                    source: &source[..self.lengths[p]],
                    rows: &rows,
                    base_at: at[2 * p],
                    source_at: at[2 * p + 1],
                });
            for point in points(attribution, Granularity::Nodes, base, ends, config) {
                point_of.push(PointOf {
                    pair: p,
                    weight: point.weight,
                });
                runs.push(gradient_run(point.run, pair, base, attribution));
            }
        }
        let drops = if star { config.layers } else { 0 };
        let mut scores = empty(&self.pairs, attribution, |p| {
            (1 + drops) * self.edits[p].len()
        });
        scores.iter_mut().for_each(|of| of.values *= 1 + drops);
        let mut taking = Taking {
            scores,
            by_place: by_place(&self.edits, star),
            by_pattern: match star {
                true => by_pattern(&self.edits),
                false => BTreeMap::new(),
            },
            group: self,
            rows: &rows,
            at: &at,
            config,
        };
        let mut sink = PathMeans::new(&self.pairs, attribution.metric, &point_of, &mut taking);
        sink = sink.dropping(drops);
        let of = (&asked, attribution.frozen());
        let plan = gradients(backend, &runs, of, limits, &mut sink)?;
        let mut scores = taking.scores;
        if star {
            for (of, runs) in scores.iter_mut().zip(&self.edits) {
                let inside: Vec<_> = runs.iter().map(|edits| inside(edits.iter())).collect();
                *of = over_drops(of, config.layers, &inside);
            }
        }
        Ok((scores, plan))
    }
}

/// Scores of nothing yet; `count` is how many runs a pair has.
pub(super) fn empty(
    pairs: &[&Pair],
    attribution: &Attribution,
    count: impl Fn(usize) -> usize,
) -> Vec<PairScores> {
    let each = pairs.iter().enumerate();
    each.map(|(p, pair)| {
        let values = attribution.metric.values(pair);
        PairScores {
            values,
            scores: vec![0.0; values * count(p)],
        }
    })
    .collect()
}

/// A point as the backward pass takes it.
pub(super) fn gradient_run(
    run: crate::plan::tape::TapedRun,
    pair: &Pair,
    base: &[u32],
    attribution: &Attribution,
) -> GradientRun {
    GradientRun {
        run,
        answers: pair.answers().into(),
        compared: attribution.metric.needs_kl().then(|| base.into()),
    }
}

/// What of an edit stands in the way of an estimate.
fn can_be_estimated(edit: &Edit) -> Result<(), &'static str> {
    if edit.space != Space::Row {
        return Err("a patch in a basis, or by a function,");
    }
    if edit.op == EditOp::Fill(f64::NEG_INFINITY) {
        // the score's own gradient is finite, and what it would be multiplied by is not
        return Err("a knockout");
    }
    match &edit.value {
        Value::Mean { .. } => Err("a mean"),
        Value::Read(Read {
            origin: Origin::Run(_),
            ..
        }) => Err("what is read of another run"),
        Value::Read(Read {
            origin: Origin::Clean(Prompt::Further(_)),
            ..
        }) => Err("what is read of a further prompt"),
        _ => Ok(()),
    }
}

/// Runs that patch queries or keys, by pair and layer.
fn by_pattern(edits: &[Vec<Vec<Edit>>]) -> BTreeMap<(usize, usize), Vec<usize>> {
    let mut all: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (p, runs) in edits.iter().enumerate() {
        for (r, run) in runs.iter().enumerate() {
            let layers = run.iter().filter(|edit| is_exact(edit)).map(|e| e.layer);
            for layer in layers.collect::<BTreeSet<usize>>() {
                all.entry((p, layer)).or_default().push(r);
            }
        }
    }
    all
}

/// Edits by what is patched: pair, run, edit; without those of queries and keys where these go `exactly`.
fn by_place(
    edits: &[Vec<Vec<Edit>>],
    exactly: bool,
) -> BTreeMap<(usize, usize, Stage), Vec<(usize, usize)>> {
    let mut all: BTreeMap<_, Vec<(usize, usize)>> = BTreeMap::new();
    for (p, runs) in edits.iter().enumerate() {
        for (r, run) in runs.iter().enumerate() {
            let each = run.iter().enumerate();
            for (e, edit) in each.filter(|(_, edit)| !(exactly && is_exact(edit))) {
                let place = (p, edit.layer, edit.stage);
                all.entry(place).or_default().push((r, e));
            }
        }
    }
    all
}

struct Taking<'a> {
    scores: Vec<PairScores>,
    by_place: BTreeMap<(usize, usize, Stage), Vec<(usize, usize)>>,
    by_pattern: BTreeMap<(usize, usize), Vec<usize>>,
    group: &'a Group<'a>,
    rows: &'a CleanRows,
    at: &'a [usize],
    config: &'a Config,
}

impl TakeMeans for Taking<'_> {
    fn take(&mut self, means: Vec<MeanGradient>) {
        for mean in &means {
            let (layer, stage, head) = mean.place;
            if stage == Stage::Pattern {
                self.take_pattern(mean);
            }
            let Some(edits) = self.by_place.get(&(mean.pair, layer, stage)) else {
                continue;
            };
            let of = &mut self.scores[mean.pair];
            for (run, edit) in edits {
                let edit = &self.group.edits[mean.pair][*run][*edit];
                let theirs = head.is_none_or(|head| head == edit.head);
                if theirs && edit.position < self.group.lengths[mean.pair] {
                    let ends = [self.at[2 * mean.pair], self.at[2 * mean.pair + 1]];
                    let score = estimate(edit, ends, mean, self.rows, self.config);
                    of.scores[run * of.values + mean.which] += score;
                }
            }
        }
    }
}

impl Taking<'_> {
    /// Runs that patch queries or keys of the layer whose pattern's gradient this is.
    fn take_pattern(&mut self, mean: &MeanGradient) {
        let (pair, layer) = (mean.pair, mean.place.0);
        let Some(runs) = self.by_pattern.get(&(pair, layer)) else {
            return;
        };
        let ends = [self.at[2 * pair], self.at[2 * pair + 1]];
        let length = self.group.lengths[pair];
        let mut clean = CleanScores::new(self.config, self.rows, ends[0], layer, length);
        let of = &mut self.scores[pair];
        for run in runs {
            let edits = self.group.edits[pair][*run].iter();
            let here = edits.filter(|e| is_exact(e) && e.layer == layer && e.position < length);
            let here: Vec<(&Edit, Vec<f64>)> = here
                .map(|edit| (edit, added(edit, ends, self.rows)))
                .collect();
            of.scores[run * of.values + mean.which] += clean.estimate(&here, mean);
        }
    }
}

/// Σ (what an edit writes − what stood there) · gradient.
fn estimate(
    edit: &Edit,
    ends: [usize; 2],
    mean: &MeanGradient,
    rows: &CleanRows,
    config: &Config,
) -> f64 {
    let (_, stage, _): Place = mean.place;
    let stride = mean.width / config.heads;
    let gradient = &mean.values[edit.position * mean.width..][..mean.width];
    let gradient = &gradient[start(stage, stride, edit.head) + edit.column..][..edit.length];
    let added = added(edit, ends, rows);
    gradient.iter().zip(added).map(|(g, x)| x * g).sum()
}

/// Where a head's part of a row begins: scores and pattern stand head by head, in each matrix as far apart as its
/// longest prompt is long.
fn start(stage: Stage, stride: usize, head: usize) -> usize {
    if stage.has_keys() { head * stride } else { 0 }
}

/// What an edit writes less what stood there.
fn added(edit: &Edit, [base, source]: [usize; 2], rows: &CleanRows) -> Vec<f64> {
    let start = |head| start(edit.stage, rows.key_stride(), head);
    let row = rows.row(base, edit.stage, edit.layer, edit.position);
    let stood = &row[start(edit.head) + edit.column..][..edit.length];
    let operand: &[f64] = match &edit.value {
        Value::Read(read) => {
            let prompt = match read.origin {
                Origin::Clean(Prompt::Base) => base,
                _ => source,
            };
            let row = rows.row(prompt, read.stage, read.layer, read.position);
            &row[start(read.head) + read.column..][..edit.length]
        }
        Value::Constant(values, offset) => &values[*offset..][..edit.length],
        Value::None | Value::Mean { .. } => &[],
    };
    let delta = |i: usize| {
        let b = stood[i];
        let s = operand.get(i).copied().unwrap_or(0.0);
        match edit.op {
            EditOp::Set => s - b,
            EditOp::Fill(x) => x - b,
            EditOp::Add => s,
            EditOp::Subtract => -s,
            EditOp::Scale(x) => (x - 1.0) * b,
            EditOp::Interpolate(alpha) => alpha * (s - b),
        }
    };
    (0..edit.length).map(delta).collect()
}
