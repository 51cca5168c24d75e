//! The light cone of one run: the (stage, row) edits that its patches can change *and* a readout
//! can see.
//!
//! Two passes over the operations of [`wiring`]. Forward, a row becomes *dirty* at a stage where its
//! value may differ from the clean base run's; it becomes clean again where the base's own value is
//! written over all of it (a freeze). Backward, a row is *needed* where a readout, through the rows
//! that are computed, can see it; a row that is overwritten whole is not needed before that. What is
//! computed is the intersection, and every value that a computed row reads is then either the
//! run's own (dirty) or the cache's (clean), never missing.
//!
//! A clean run, of which activations are kept, is the same thing with every row dirty from the
//! embedding on and with additional things that see it: the stages that are to be kept. So is a run
//! that other runs read: what they read of it is seen, and kept where it is dirty; where it is clean
//! the cache has it.
//!
//! A cone does not depend on heads, columns or values: an [`Outline`] is all that it depends on, so
//! runs of one outline share one cone.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use crate::model::Config;
use crate::plan::cost::Cost;
use crate::plan::edit::Edit;
use crate::plan::positions::Positions;
use crate::plan::rows::{ConeRows, Template};
use crate::site::wiring::{self, Operation, READ_OUT, STREAM, Sees};
use crate::site::{Stage, StageMap, Width};

/// What a run computes in one part of a pass: in the embedding, a layer, the final layer norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConePart {
    /// Rows of the residual stream that enter it.
    pub stream: ConeRows,
    /// Rows of what each of its operations gives.
    pub ops: Vec<ConeRows>,
    /// Which of the run's edits act in it.
    pub edits: Range<usize>,
    template: OnceLock<Template>,
}

impl ConePart {
    /// Whether another one of the same operations computes the same.
    fn is(&self, other: &Self) -> bool {
        (&self.edits, &self.stream, &self.ops) == (&other.edits, &other.stream, &other.ops)
    }

    /// Where its rows read, in whatever chunk; `ops` are its operations.
    pub(super) fn template(&self, ops: &[Operation]) -> &Template {
        self.template
            .get_or_init(|| Template::of(ops, &self.stream, &self.ops))
    }
}

/// What a run computes.
#[derive(Debug, Clone, Default)]
pub struct Cone {
    /// The first part that computes anything or takes a patch.
    pub first: usize,
    /// Parts from the first on, all to the final layer norm.
    pub parts: Vec<Arc<ConePart>>,
    /// For each edit, whether it is applied.
    pub live: Vec<bool>,
    /// Of what others read of the run, the rows that are its own, by layer and stage.
    pub kept: Wanted,
}

impl Cone {
    /// One part of the run.
    pub fn part(&self, part: usize) -> Option<&ConePart> {
        let index = part.checked_sub(self.first)?;
        self.parts.get(index).map(|part| &**part)
    }

    /// Rows of the operation that gives a stage of a layer, or that its rows pass there.
    pub fn rows(&self, stage: Stage, layer: usize) -> Option<&ConeRows> {
        let (part, op) = wiring::find(stage, layer);
        self.part(part)?.ops.get(op)
    }

    /// Readout rows that are the run's own; at the others the readout is the base's.
    pub fn readouts(&self) -> Option<&Positions> {
        let last = self.parts.last()?.ops.last()?;
        Some(&last.computed)
    }

    /// Whether nothing of the run is read out.
    pub fn is_unseen(&self) -> bool {
        self.readouts().is_none_or(Positions::is_empty)
    }

    /// Whether a stage's buffer has a row of this run for a position: where an edit can be applied.
    pub fn has_row(&self, stage: Stage, layer: usize, position: usize) -> bool {
        self.rows(stage, layer)
            .is_some_and(|rows| match wiring::is_inner(stage) {
                true => rows.computed.contains(position),
                false => rows.all.contains(position),
            })
    }
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

/// All that a run's cone depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outline {
    rows: Vec<EditedRow>,
    readouts: Positions,
    wanted: Wanted,
}

/// The edits of one row, of one head where a stage has heads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct EditedRow {
    layer: usize,
    stage: Stage,
    position: usize,
    /// How many edits.
    count: usize,
    /// The first of them that may write another value than the clean run's.
    differs: usize,
    /// Whether nothing is left of what stood there.
    covered: bool,
}

impl Outline {
    /// What of a run decides on its cone.
    pub fn of(input: &ConeInput<'_>) -> Self {
        let place = |edit: &Edit| (edit.layer, edit.stage, edit.position, edit.head);
        let mut first = 0;
        let rows = input.edits.chunk_by(|a, b| place(a) == place(b));
        let rows = rows.map(|edits| {
            let same = (first..first + edits.len()).map(input.same);
            first += edits.len();
            EditedRow {
                layer: edits[0].layer,
                stage: edits[0].stage,
                position: edits[0].position,
                count: edits.len(),
                differs: same.take_while(|same| *same).count(),
                covered: covers(edits, input.config),
            }
        });
        Self {
            rows: rows.collect(),
            readouts: input.readouts.clone(),
            wanted: input.wanted.clone(),
        }
    }

    /// The light cone.
    pub fn draw(&self, config: &Config) -> Cone {
        let last = config.layers + 1;
        let part = |row: &EditedRow| wiring::find(row.stage, row.layer).0;
        let alive = self.rows.iter().find(|row| row.differs < row.count);
        let first = alive.map_or(last, part);
        let mut walk = Walk {
            outline: self,
            row: 0,
            live: vec![false; self.rows.iter().map(|row| row.count).sum()],
            edit: 0,
            kept: Wanted::new(),
        };
        walk.skip_to(first);
        let mut dirt: Vec<Arc<PartDirt>> = Vec::new();
        let mut stream = Positions::none();
        for part in first..=last {
            let quiet = self.wanted.is_empty() && walk.is_quiet(part);
            let known = dirt.last().filter(|before| {
                let alike = part > 1 && part < last && before.edits.is_empty();
                quiet && alike && before.stream == stream
            });
            let found = match known {
                Some(before) => before.clone(),
                None => Arc::new(walk.part(wiring::ops(part, config.layers), part, stream)),
            };
            stream = found.leaves();
            dirt.push(found);
        }
        let Walk { live, kept, .. } = walk;
        let seen = |stage, layer| kept.get(&(layer, stage)).cloned();
        let parts = needed(&dirt, first, config, &self.readouts, &seen);
        Cone {
            first,
            parts,
            live,
            kept,
        }
    }

    /// Positions after the last that is read are not computed at all.
    fn length(&self) -> usize {
        let wanted = self.wanted.values().filter_map(Positions::last);
        wanted
            .chain(self.readouts.last())
            .max()
            .map_or(0, |p| p + 1)
    }
}

/// Cones that are drawn, by their outlines: runs of one outline, of whatever pair, share one cone and its
/// tables' templates.
#[derive(Default)]
pub struct Shapes {
    drawn: Mutex<HashMap<Outline, Arc<Shape>>>,
}

/// A cone that runs share, and what it costs them.
pub struct Shape {
    /// The cone.
    pub cone: Cone,
    /// What it costs but for bases.
    pub cost: Cost,
}

impl Shapes {
    /// How many are kept. So many have 36 MB in 48 layers at 100 tokens, and as many templates besides; a sweep of
    /// every head there has 9,600. When they are more all are let go, and drawn again where they are asked for.
    const MOST: usize = 8192;

    /// The shapes of some outlines, drawn where they are not known.
    pub fn of(&self, outlines: &[Outline], config: &Config) -> Vec<Arc<Shape>> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.len() > Self::MOST {
            drawn.clear();
        }
        let mut at: HashMap<&Outline, usize> = HashMap::new();
        let mut unknown: Vec<&Outline> = Vec::new();
        let found: Vec<Result<Arc<Shape>, usize>> = outlines
            .iter()
            .map(|outline| match drawn.get(outline) {
                Some(shape) => Ok(shape.clone()),
                None => Err(*at.entry(outline).or_insert_with(|| {
                    unknown.push(outline);
                    unknown.len() - 1
                })),
            })
            .collect();
        let draw = |outline: &Outline| {
            let cone = outline.draw(config);
            let cost = Cost::of_cone(&cone, config);
            Arc::new(Shape { cone, cost })
        };
        let new: Vec<Arc<Shape>> = unknown.par_iter().map(|outline| draw(outline)).collect();
        for (outline, shape) in unknown.iter().zip(&new) {
            drawn.insert((*outline).clone(), shape.clone());
        }
        let shapes = found.into_iter();
        shapes
            .map(|found| found.unwrap_or_else(|i| new[i].clone()))
            .collect()
    }
}

/// Whether edits of one row leave nothing of what stood there. Columns of a copy that a head reads, of
/// scores or of a scale do not make up a row that everything behind it goes through.
fn covers(edits: &[Edit], config: &Config) -> bool {
    let width = match edits[0].stage.width() {
        Width::Residual => config.width,
        Width::Inner => config.inner,
        _ => return false,
    };
    if !edits.iter().all(Edit::replaces) {
        return false;
    }
    let mut stretches: Vec<_> = edits.iter().map(|c| (c.column, c.length)).collect();
    stretches.sort_unstable();
    let end = stretches.iter().fold(0, |end, (first, length)| {
        if *first <= end {
            end.max(first + length)
        } else {
            end
        }
    });
    end >= width
}

/// The light cone of a patched run.
pub fn of_run(input: &ConeInput<'_>) -> Cone {
    Outline::of(input).draw(input.config)
}

/// The cone of a clean run of `length` rows: every row from the embedding on, as far as `readouts`
/// or the `kept` stages (as [`crate::site::kept`] names them) see it.
pub fn of_clean(
    config: &Config,
    length: usize,
    readouts: &Positions,
    kept: &dyn Fn(Stage, usize) -> bool,
) -> Cone {
    of_stem(config, &[], length, readouts, kept)
}

/// The same of a patched run that others differ from.
pub fn of_stem(
    config: &Config,
    edits: &[Edit],
    length: usize,
    readouts: &Positions,
    kept: &dyn Fn(Stage, usize) -> bool,
) -> Cone {
    let rows = Positions::range(0, length);
    let seen = |stage, layer| kept(stage, layer).then(|| rows.clone());
    edited_everywhere(config, edits, length, readouts, &seen)
}

/// A run of `length` rows with no light cone at all, for verification: every row is computed at
/// every stage of every layer and every edit is applied, so nothing is read from the base's cache
/// but what operators read. A run's readouts must be the same, bit for bit, as through [`of_run`].
pub fn of_whole(config: &Config, edits: &[Edit], length: usize, readouts: &Positions) -> Cone {
    let rows = Positions::range(0, length);
    // the final layer norm and the unembedding are wanted at readout rows only
    let seen = |stage, _: usize| (!wiring::is_final(stage)).then(|| rows.clone());
    edited_everywhere(config, edits, length, readouts, &seen)
}

/// A run of `length` rows that is computed from the embedding on as far as its readouts see it, so that
/// nothing of it is another run's: what a backward pass goes back through.
pub fn of_taped(config: &Config, edits: &[Edit], length: usize, readouts: &Positions) -> Cone {
    edited_everywhere(config, edits, length, readouts, &|_, _| None)
}

fn edited_everywhere(
    config: &Config,
    edits: &[Edit],
    length: usize,
    readouts: &Positions,
    seen: &dyn Fn(Stage, usize) -> Option<Positions>,
) -> Cone {
    let rows = Positions::range(0, length);
    let copies = |stage, layer| {
        let mut heads: Vec<(usize, usize)> = edits
            .iter()
            .filter(|c| (c.stage, c.layer) == (stage, layer) && c.position < length)
            .map(|c| (c.position, c.head))
            .collect();
        heads.dedup();
        heads.into_iter().map(|(position, _)| position).collect()
    };
    let mut cone = everywhere(config, &rows, readouts, seen, &copies);
    cone.live = vec![true; edits.len()];
    let mut end = 0;
    for (part, rows) in cone.parts.iter_mut().enumerate() {
        let here = |c: &&Edit| wiring::find(c.stage, c.layer).0 == part;
        let first = end;
        end += edits[first..].iter().take_while(here).count();
        Arc::make_mut(rows).edits = first..end;
    }
    cone
}

/// Dirtiness of one operation's result.
#[derive(Default, Clone)]
struct Dirt {
    /// What it reads makes dirty.
    reached: Positions,
    /// After patches.
    after: Positions,
    /// The rows that they overwrite whole.
    replaced: Positions,
    /// Rows at which a head reads a patched copy, once for each head.
    copies: Vec<usize>,
}

/// Dirtiness in one part of a pass.
struct PartDirt {
    /// Of what enters it.
    stream: Positions,
    ops: Vec<Dirt>,
    edits: Range<usize>,
}

impl PartDirt {
    /// Dirty rows that leave it.
    fn leaves(&self) -> Positions {
        self.ops
            .last()
            .map_or(Positions::none(), |op| op.after.clone())
    }
}

/// A cone with every row dirty. `copies` gives rows at which heads read a patched copy of a stage.
fn everywhere(
    config: &Config,
    rows: &Positions,
    readouts: &Positions,
    seen: &dyn Fn(Stage, usize) -> Option<Positions>,
    copies: &dyn Fn(Stage, usize) -> Vec<usize>,
) -> Cone {
    let part = |part: usize| {
        let ops = wiring::ops(part, config.layers).iter().map(|op| Dirt {
            reached: rows.clone(),
            after: rows.clone(),
            replaced: Positions::none(),
            copies: op
                .head_copy()
                .map_or(Vec::new(), |copy| copies(copy.stage, wiring::layer(part))),
        });
        Arc::new(PartDirt {
            stream: rows.clone(),
            ops: ops.collect(),
            edits: 0..0,
        })
    };
    let dirt: Vec<_> = (0..config.layers + 2).map(part).collect();
    Cone {
        parts: needed(&dirt, 0, config, readouts, seen),
        ..Cone::default()
    }
}

/// Walks through a run's edits in the order of computation: the first pass.
struct Walk<'a> {
    outline: &'a Outline,
    /// The next of the outline's rows.
    row: usize,
    /// The next edit.
    edit: usize,
    live: Vec<bool>,
    /// What is wanted and dirty.
    kept: Wanted,
}

impl Walk<'_> {
    /// Passes over rows in which nothing can differ.
    fn skip_to(&mut self, part: usize) {
        while !self.is_quiet_before(part) {
            self.edit += self.outline.rows[self.row].count;
            self.row += 1;
        }
    }

    fn is_quiet_before(&self, part: usize) -> bool {
        let next = self.outline.rows.get(self.row);
        next.is_none_or(|row| wiring::find(row.stage, row.layer).0 >= part)
    }

    /// Whether nothing is edited in a part.
    fn is_quiet(&self, part: usize) -> bool {
        self.is_quiet_before(part + 1)
    }

    /// What of a part is dirty if `stream` of what enters it is.
    fn part(&mut self, ops: &[Operation], part: usize, stream: Positions) -> PartDirt {
        let (layer, first) = (wiring::layer(part), self.edit);
        let mut after = StageMap::<Positions>::default();
        after[STREAM] = stream.clone();
        let mut all = Vec::with_capacity(ops.len());
        for op in ops {
            let mut found = Dirt::default();
            let mut dirty = Positions::none();
            self.reach(op, None, &after, &mut dirty);
            if let Some(copy) = op.head_copy() {
                found.reached = dirty.clone();
                let mut before = dirty.union(&after[copy.of]);
                let (_, live) = self.edits((copy.stage, layer), &mut before);
                dirty.join(&live.iter().copied().collect());
                found.copies = live;
            }
            for (stage, layer) in op.stages(layer) {
                self.reach(op, Some(stage), &after, &mut dirty);
                if stage == op.gives && op.head_copy().is_none() {
                    found.reached = dirty.clone();
                }
                let (replaced, _) = self.edits((stage, layer), &mut dirty);
                if stage == op.gives || Some(stage) == op.enters {
                    found.replaced.join(&replaced);
                    after[stage] = dirty.clone();
                }
            }
            found.after = dirty;
            all.push(found);
        }
        PartDirt {
            stream,
            ops: all,
            edits: first..self.edit,
        }
    }

    /// Adds the rows that an operation's inputs make dirty where they enter it.
    fn reach(
        &self,
        op: &Operation,
        at: Option<Stage>,
        after: &StageMap<Positions>,
        dirty: &mut Positions,
    ) {
        for input in op.reads.iter().filter(|input| input.at == at) {
            let rows = &after[input.stage];
            match (input.sees, rows.first()) {
                (Sees::Own, _) => dirty.join(rows),
                (Sees::UpTo, None) => {}
                (Sees::UpTo, Some(first)) => {
                    dirty.join(&Positions::range(first, self.outline.length()));
                }
            }
        }
    }

    /// Applies the edits of one stage to its `dirty` rows. Which rows they overwrite whole, and where
    /// edits are applied, a row once for each head that has some.
    fn edits(
        &mut self,
        (stage, layer): (Stage, usize),
        dirty: &mut Positions,
    ) -> (Positions, Vec<usize>) {
        let outline = self.outline;
        let (mut replaced, mut applied) = (Positions::none(), Vec::new());
        let rows = outline.rows[self.row..].iter();
        let mut rows = rows.take_while(|row| (row.stage, row.layer) == (stage, layer));
        let mut next = rows.next();
        let before = next.map(|_| dirty.clone()).unwrap_or_default();
        while let Some(row) = next {
            // an edit is live even where it is a freeze, from which on the row is the base's: a patch
            // after it in the same layer norm has the row computed, and then it must be written
            let reached = before.contains(row.position);
            let from = if reached { 0 } else { row.differs };
            self.live[self.edit..][from..row.count].fill(true);
            if from < row.count {
                applied.push(row.position);
            }
            match (reached, row.differs < row.count) {
                (true, false) if row.covered => dirty.remove(row.position),
                (false, true) => dirty.insert(row.position),
                _ => {}
            }
            if row.covered {
                replaced.insert(row.position);
            }
            self.edit += row.count;
            self.row += 1;
            next = rows.next();
        }
        if let Some(wanted) = outline.wanted.get(&(layer, stage)) {
            self.kept.insert((layer, stage), wanted.and(dirty));
        }
        (replaced, applied)
    }
}

/// The second pass: keeps of what is dirty the part that is needed. `seen` gives the rows that are
/// kept at a stage, if any are.
fn needed(
    dirt: &[Arc<PartDirt>],
    first: usize,
    config: &Config,
    readouts: &Positions,
    seen: &dyn Fn(Stage, usize) -> Option<Positions>,
) -> Vec<Arc<ConePart>> {
    let mut used = StageMap::<Positions>::default();
    used[READ_OUT] = dirt
        .last()
        .map_or(Positions::none(), |d| d.leaves().and(readouts));
    let mut parts: Vec<Vec<ConeRows>> = Vec::with_capacity(dirt.len());
    for (i, dirt) in dirt.iter().enumerate().rev() {
        let part = first + i;
        let ops = wiring::ops(part, config.layers).iter().zip(&dirt.ops);
        let mut all: Vec<ConeRows> = ops
            .rev()
            .map(|(op, dirt)| rows(op, dirt, wiring::layer(part), &mut used, seen))
            .collect();
        all.reverse();
        parts.push(all);
    }
    parts.reverse();
    let mut stream = ConeRows::default();
    let mut all: Vec<Arc<ConePart>> = Vec::with_capacity(parts.len());
    for (i, (ops, dirt)) in parts.into_iter().zip(dirt).enumerate() {
        let next = ops.last().cloned().unwrap_or_default();
        let part = ConePart {
            stream: std::mem::replace(&mut stream, next),
            ops,
            edits: dirt.edits.clone(),
            template: OnceLock::new(),
        };
        // most layers behind the last edit are alike, and so is where their rows read
        let layers = (2..=config.layers).contains(&(first + i));
        let alike = all.last().filter(|before| layers && before.is(&part));
        all.push(alike.cloned().unwrap_or_else(|| Arc::new(part)));
    }
    all
}

/// Rows of what an operation gives; what it reads is used then.
fn rows(
    op: &Operation,
    dirt: &Dirt,
    layer: usize,
    used: &mut StageMap<Positions>,
    seen: &dyn Fn(Stage, usize) -> Option<Positions>,
) -> ConeRows {
    let seen_at = |stages: &mut dyn Iterator<Item = (Stage, usize)>| {
        let mut rows = Positions::none();
        for (stage, layer) in stages {
            seen(stage, layer).iter().for_each(|seen| rows.join(seen));
        }
        rows
    };
    // a row that is overwritten at the end is still computed for whoever sees it on the way
    let before = seen_at(&mut op.passes.iter().map(|stage| (*stage, layer)));
    let outer = op
        .stages(layer)
        .filter(|(stage, _)| *stage == op.gives || Some(*stage) == op.enters);
    let mut wanted = std::mem::take(&mut used[op.gives]);
    if let Some(next) = op.enters {
        wanted.join(&std::mem::take(&mut used[next]));
    }
    if !op.kind.computes_clean_rows() {
        wanted = wanted.and(&dirt.after);
    }
    wanted.join(&seen_at(&mut { outer }));
    wanted.join(&before);
    let computed = match op.kind.computes_clean_rows() {
        true => wanted.clone(),
        false => wanted
            .and(&dirt.reached)
            .minus(&dirt.replaced)
            .union(&before),
    };
    for input in op.reads {
        let used = &mut used[input.stage];
        match (input.sees, computed.last()) {
            (Sees::Own, _) => used.join(&computed),
            (Sees::UpTo, None) => {}
            (Sees::UpTo, Some(last)) => used.join(&Positions::range(0, last + 1)),
        }
    }
    let copies = dirt.copies.iter().copied().filter(|p| wanted.contains(*p));
    if let Some(copy) = op.copy {
        used[copy.of].join(&copies.clone().collect());
    }
    ConeRows {
        copies: copies.count(),
        computed,
        all: wanted,
    }
}
