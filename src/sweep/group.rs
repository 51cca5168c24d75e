//! A group of pairs whose traces stand in memory together: its clean runs, then its patched ones.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use crate::backend::{Backend, Readout, ReadoutSpec};
use crate::forward::{Buffers, Traces, forward};
use crate::patch::{Op, Run};
use crate::plan::cell::{Cell, cells};
use crate::plan::chunk::{Builder, Means, Packed};
use crate::plan::cone::{self, Cone, Question, Wanted};
use crate::plan::cost::{Flops, flops, layer_values};
use crate::plan::shelf::{self, RunId, Shelf};
use crate::plan::tables::Ref;
use crate::site::Stage;
use crate::sweep::clean::{clean, means};
use crate::sweep::collect::Reader;
use crate::sweep::dead::{Asked, Kept, dead};
use crate::sweep::execute::{ExecuteError, Limits, Outcome, PairOutcome};
use crate::sweep::layout::{Place, layout, readouts};
use crate::sweep::pair::PairRuns;
use crate::sweep::steps::{Step, steps};

/// Pairs whose traces are held together.
pub(super) struct Group<'a, B: Backend> {
    backend: &'a B,
    pairs: &'a [PairRuns],
    first: usize,
    places: Vec<Place>,
    traces: Traces<B::Matrix>,
    means: Means,
    shelf: Shelf,
    known: Known,
}

impl<'a, B: Backend> Group<'a, B> {
    /// Runs the group's prompts clean.
    pub fn new(
        backend: &'a B,
        pairs: &'a [PairRuns],
        first: usize,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<Self, ExecuteError> {
        let config = backend.config();
        let means = means(backend, pairs, buffers, limits, &mut outcome.plan.clean)?;
        let (layout, places) = layout(pairs, first, config);
        // a prompt's tokens are wanted by every pair that has it as base or source
        let mut ids: Vec<Vec<u32>> = vec![Vec::new(); layout.prompts.len()];
        for (pair, place) in pairs.iter().zip(&places) {
            for prompt in [Some(place.base()), place.source()].into_iter().flatten() {
                let mut missing = pair.pair.answers();
                missing.retain(|t| !ids[prompt].contains(t));
                ids[prompt].extend(missing);
            }
        }
        let mut traces = Traces::new(backend, layout);
        let read = clean(
            backend,
            &mut traces,
            buffers,
            &ids,
            limits,
            &mut outcome.plan.clean,
        )?;

        let compared = match limits.kl {
            true => compare(
                backend,
                &mut traces,
                buffers,
                (pairs, &places),
                limits,
                outcome,
            )?,
            false => vec![0.0; pairs.len()],
        };
        for ((pair, place), kl) in pairs.iter().zip(&places).zip(compared) {
            let wanted = |prompt: usize, position: usize| -> Readout {
                let readout = &read[&(prompt, position)];
                let logit = |t: &u32| {
                    ids[prompt]
                        .iter()
                        .position(|i| i == t)
                        .map(|i| readout.logits[i])
                };
                let rank = |t: &u32| {
                    let i = ids[prompt].iter().position(|i| i == t)?;
                    readout.ranks.get(i).copied()
                };
                let answers = pair.pair.answers();
                Readout {
                    logits: answers.iter().filter_map(logit).collect(),
                    ranks: answers.iter().filter_map(rank).collect(),
                    ..readout.clone()
                }
            };
            let source_last = pair.pair.source.as_ref().map_or(0, |s| s.len() - 1);
            let base: Vec<Readout> = readouts(&pair.pair, &pair.runs)
                .iter()
                .map(|p| wanted(place.base(), *p))
                .collect();
            let source = place.source().filter(|_| !base.is_empty());
            outcome.pairs.push(PairOutcome {
                source: source.map(|s| Readout {
                    kl,
                    ..wanted(s, source_last)
                }),
                base,
                runs: vec![Vec::new(); pair.runs.len()],
                collected: Vec::new(),
            });
        }
        Ok(Self {
            backend,
            pairs,
            first,
            places,
            shelf: Shelf::new(&traces.layout),
            known: Known::default(),
            traces,
            means,
        })
    }

    /// Runs the group's patched runs, chunk by chunk.
    pub fn run(
        mut self,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        // steps are run for their readers' sake, or because they collect something
        let wanted = |run: &Run| !run.step || run.patches.iter().any(|p| p.op == Op::Collect);
        let all: Vec<(usize, usize)> = self
            .pairs
            .iter()
            .enumerate()
            .flat_map(|(p, pair)| (0..pair.runs.len()).map(move |r| (p, r)))
            .filter(|(p, r)| wanted(&self.pairs[*p].runs[*r]))
            .collect();
        // cones are drawn in parallel, a batch at a time so that they do not pile up
        const BATCH: usize = 4096;
        let mut queue = Chunks {
            fits: (limits.memory / 2).min(self.backend.chunk_bytes()),
            ..Chunks::default()
        };
        for batch in all.chunks(BATCH) {
            let mut rest = batch;
            while !rest.is_empty() {
                let (count, steps) = self.batch(rest, limits)?;
                let (runs, later) = rest.split_at(count);
                rest = later;
                self.steps(&steps, buffers, limits, outcome)?;
                self.collect(runs, outcome)?;
                let runs = runs.iter().filter(|(p, r)| !self.pairs[*p].runs[*r].step);
                let runs: Vec<Asking> = runs.map(|(p, r)| self.asking(*p, *r)).collect();
                for drawn in self.draw(runs)? {
                    outcome.plan.count += 1;
                    outcome.plan.copied += usize::from(drawn.cone.readouts.is_empty());
                    outcome.plan.runs += drawn.flops;
                    self.wait(drawn, &mut queue, buffers, limits, outcome)?;
                }
                if !steps.is_empty() {
                    self.flush(&mut queue, buffers, limits, outcome)?;
                    self.shelf = Shelf::new(&self.traces.layout);
                    self.traces.clear_shelf();
                }
            }
        }
        self.flush(&mut queue, buffers, limits, outcome)
    }

    /// How many of the runs go together, so that what they read of others fits into memory, and
    /// which others those are.
    fn batch(
        &self,
        runs: &[(usize, usize)],
        limits: &Limits<'_>,
    ) -> Result<(usize, Vec<Step>), ExecuteError> {
        let config = self.backend.config();
        let budget = limits.memory / 4;
        let mut count = runs.len();
        loop {
            let steps = steps(self.pairs, self.first, &runs[..count], config);
            let values = steps
                .iter()
                .map(|s| shelf::values(&s.wanted, &self.traces.layout, config));
            let bytes = (values.sum::<usize>() * self.backend.value_bytes()) as u64;
            if bytes <= budget {
                return Ok((count, steps));
            }
            if count == 1 {
                return Err(ExecuteError::Memory {
                    needed: 4 * bytes,
                    budget: limits.memory,
                });
            }
            count = count.div_ceil(2);
        }
    }

    /// Runs what others read, level by level, and keeps what they read of it.
    fn steps(
        &mut self,
        steps: &[Step],
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        for level in steps.chunk_by(|a, b| a.level == b.level) {
            self.shelf.begin_level();
            let asking = level.iter().map(|step| Asking {
                pair: step.id.pair,
                run: step.id.run,
                cells: step.cells.clone(),
                kept_as: Some((step.id, step.wanted.clone())),
            });
            let drawn = self.draw(asking.collect())?;
            for (step, drawn) in level.iter().zip(&drawn) {
                let place = &self.places[step.id.pair];
                let clean = place.rows[&self.pairs[step.id.pair].runs[step.id.run].prompt];
                self.shelf.add(step.id, clean, &drawn.cone.kept);
            }
            self.traces.extend(self.backend, &self.shelf.matrices());
            let mut queue = Chunks {
                fits: (limits.memory / 4).min(self.backend.chunk_bytes()),
                ..Chunks::default()
            };
            for drawn in drawn {
                match self.known.insert(drawn.kept_as) {
                    true => outcome.plan.runs += drawn.flops,
                    false => outcome.plan.again += drawn.flops.total(),
                }
                // what differs nowhere from the clean run stands in the trace
                if drawn.cone.kept.values().any(|rows| !rows.is_empty()) {
                    self.wait(drawn, &mut queue, buffers, limits, outcome)?;
                }
            }
            self.flush(&mut queue, buffers, limits, outcome)?;
        }
        Ok(())
    }

    /// Reads what the runs collect.
    fn collect(&self, runs: &[(usize, usize)], outcome: &mut Outcome) -> Result<(), ExecuteError> {
        let mut reader = Reader {
            backend: self.backend,
            traces: &self.traces,
            shelf: &self.shelf,
            known: HashMap::new(),
        };
        for (p, r) in runs {
            let collected = reader.collect(self.pairs, *p, *r)?;
            outcome.pairs[self.first + p].collected.extend(collected);
        }
        Ok(())
    }

    fn asking(&self, pair: usize, run: usize) -> Asking {
        let patches = &self.pairs[pair].runs[run].patches;
        Asking {
            pair,
            run,
            cells: cells(patches, (self.first + pair) as u32, self.backend.config()),
            kept_as: None,
        }
    }

    /// Draws the light cones of some runs.
    fn draw(&self, runs: Vec<Asking>) -> Result<Vec<Drawn>, ExecuteError> {
        let asked: Vec<Asked<'_>> = runs
            .iter()
            .map(|run| Asked {
                pair: run.pair,
                place: &self.places[run.pair],
                prompt: self.pairs[run.pair].runs[run.run].prompt,
                cells: &run.cells,
            })
            .collect();
        let kept = Kept {
            traces: &self.traces,
            shelf: &self.shelf,
            means: &self.means,
        };
        let dead = dead(self.backend, &kept, &asked)?;
        let drawn = (runs, dead).into_par_iter();
        Ok(drawn.map(|(run, dead)| self.cone(run, &dead)).collect())
    }

    fn cone(&self, run: Asking, dead: &[bool]) -> Drawn {
        let config = self.backend.config();
        let PairRuns { pair, runs } = &self.pairs[run.pair];
        let nothing = Wanted::new();
        let (wanted, read_out) = match &run.kept_as {
            Some((_, wanted)) => (wanted, Vec::new()),
            None => (&nothing, readouts(pair, runs)),
        };
        let cone = cone::of_run(&Question {
            config,
            cells: &run.cells,
            readouts: &read_out.into_iter().collect(),
            same: &|i| dead[i],
            wanted,
        });
        let widest = cone
            .layers
            .iter()
            .map(|l| layer_values(l, config))
            .max()
            .unwrap_or(0);
        let slack = 512 + 64 * run.cells.len() + 8 * cone.layers.len() * 200;
        Drawn {
            pair: run.pair,
            run: run.run,
            flops: flops(&cone, config),
            bytes: ((widest + cone.bases.values) * self.backend.value_bytes() + slack) as u64,
            cone,
            cells: run.cells,
            kept_as: run.kept_as.map(|(id, _)| id),
        }
    }

    /// Adds a run to the next chunk, after running what waits where both do not go together.
    fn wait(
        &mut self,
        drawn: Drawn,
        queue: &mut Chunks,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        let budget = limits.memory / 2;
        if drawn.bytes > budget {
            return Err(ExecuteError::Memory {
                needed: 2 * drawn.bytes,
                budget: limits.memory,
            });
        }
        if queue.bytes + drawn.bytes > queue.fits && !queue.waiting.is_empty() {
            self.flush(queue, buffers, limits, outcome)?;
        }
        queue.bytes += drawn.bytes;
        queue.waiting.push(drawn);
        Ok(())
    }

    /// Runs what waits.
    fn flush(
        &mut self,
        queue: &mut Chunks,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        let waiting = std::mem::take(&mut queue.waiting);
        queue.bytes = 0;
        if waiting.is_empty() {
            return Ok(());
        }
        let fitted = self.chunk_or_halves(&waiting, buffers, limits, outcome)?;
        queue.fits = queue
            .fits
            .min(queue.fits * fitted as u64 / waiting.len() as u64);
        Ok(())
    }

    /// Runs a chunk; where the device has no room for it, its halves. How many runs fitted at once.
    fn chunk_or_halves(
        &mut self,
        drawn: &[Drawn],
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<usize, ExecuteError> {
        match self.chunk(drawn, buffers, limits, outcome) {
            Err(error) if error.is_out_of_memory() && drawn.len() > 1 => {
                *buffers = Buffers::new(self.backend);
                let (first, second) = drawn.split_at(drawn.len() / 2);
                let fitted = self.chunk_or_halves(first, buffers, limits, outcome)?;
                Ok(fitted.min(self.chunk_or_halves(second, buffers, limits, outcome)?))
            }
            done => done.map(|()| drawn.len()),
        }
    }

    fn chunk(
        &mut self,
        drawn: &[Drawn],
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        let config = self.backend.config();
        let prompts = &self.traces.layout.prompts;
        let packed: Vec<Packed<'_>> = drawn
            .iter()
            .map(|d| {
                let place = &self.places[d.pair];
                let prompt = place.prompts[&self.pairs[d.pair].runs[d.run].prompt];
                Packed {
                    cone: &d.cone,
                    cells: &d.cells,
                    ids: &prompts[prompt].ids,
                    offset: prompts[prompt].offset,
                    prompts: &place.rows,
                    pair: d.pair,
                    kept_as: d.kept_as,
                }
            })
            .collect();
        let mut chunk =
            Builder::new(config, &self.traces.layout, &self.means, &self.shelf).build(&packed);
        let mut spec = ReadoutSpec {
            first: vec![0],
            top: limits.top_of_runs,
            ranks: limits.ranks,
            ..ReadoutSpec::default()
        };
        for (run, _) in &chunk.readout_of {
            spec.ids
                .extend(self.pairs[drawn[*run as usize].pair].pair.answers());
            spec.first.push(spec.ids.len());
        }
        if limits.kl {
            let mut known = HashMap::new();
            for (run, position) in &chunk.readout_of {
                let base = &prompts[self.places[drawn[*run as usize].pair].base()];
                let row = base.offset + *position as usize;
                let next = chunk.readout.len() + known.len();
                spec.base.push(*known.entry(row).or_insert_with(|| {
                    chunk.compared.push(Ref::trace(row));
                    next as u32
                }));
            }
        }
        let readouts = forward(
            self.backend,
            &chunk,
            buffers,
            &mut self.traces,
            &spec,
            limits.stop,
        )?;

        outcome.plan.compared += 2 * (chunk.compared.len() * config.vocab * config.width) as u64;
        // what no patch reached is the base's
        for d in drawn.iter().filter(|d| d.kept_as.is_none()) {
            let pair = &mut outcome.pairs[self.first + d.pair];
            pair.runs[d.run] = pair.base.clone();
        }
        for ((run, position), readout) in chunk.readout_of.iter().zip(readouts) {
            let d = &drawn[*run as usize];
            if d.kept_as.is_some() {
                continue;
            }
            let positions = self.pairs[d.pair].pair.readout_positions();
            if let Some(i) = positions.iter().position(|p| *p == *position as usize) {
                outcome.pairs[self.first + d.pair].runs[d.run][i] = readout;
            }
        }
        Ok(())
    }
}

/// KL(base‖source) of every pair, 0 without a source. Both stand in the trace, so this is a chunk of
/// no runs that is only read out.
fn compare<B: Backend>(
    backend: &B,
    traces: &mut Traces<B::Matrix>,
    buffers: &mut Buffers<B::Matrix>,
    (pairs, places): (&[PairRuns], &[Place]),
    limits: &Limits<'_>,
    outcome: &mut Outcome,
) -> Result<Vec<f64>, ExecuteError> {
    let config = backend.config();
    let mut kls = vec![0.0; pairs.len()];
    let last_stream = (Stage::BlockInput, config.layers);
    // without runs nothing is kept, and nothing is asked
    if !traces.layout.slots.contains_key(&last_stream) {
        return Ok(kls);
    }
    let (none, empty) = (Means::new(), Shelf::default());
    let mut chunk = Builder::new(config, &traces.layout, &none, &empty).build(&[]);
    let mut of = Vec::new();
    for (p, (PairRuns { pair, runs }, place)) in pairs.iter().zip(places).enumerate() {
        // by itself such a pair keeps nothing, and what stands beside it must not matter
        if runs
            .iter()
            .all(|run| cells(&run.patches, 0, config).is_empty())
        {
            continue;
        }
        let (Some(source), Some(ids)) = (place.source(), &pair.source) else {
            continue;
        };
        let Some(base_last) = pair.readout_positions().last().copied() else {
            continue;
        };
        let offset = |prompt: usize| traces.layout.prompts[prompt].offset;
        chunk
            .readout
            .push(Ref::trace(offset(source) + ids.len() - 1));
        chunk
            .compared
            .push(Ref::trace(offset(place.base()) + base_last));
        of.push(p);
    }
    let rows = of.len();
    if rows == 0 {
        return Ok(kls);
    }
    let spec = ReadoutSpec {
        first: vec![0; rows + 1],
        base: (rows..2 * rows).map(|row| row as u32).collect(),
        ..ReadoutSpec::default()
    };
    let readouts = forward(backend, &chunk, buffers, traces, &spec, limits.stop)?;
    outcome.plan.compared += 2 * (2 * rows * config.vocab * config.width) as u64;
    for (p, readout) in of.into_iter().zip(readouts) {
        kls[p] = readout.kl;
    }
    Ok(kls)
}

/// A run whose light cone is to be drawn.
struct Asking {
    pair: usize,
    run: usize,
    cells: Vec<Cell>,
    /// What others read of it, if it is run for their sake.
    kept_as: Option<(RunId, Wanted)>,
}

/// A run whose light cone is drawn.
struct Drawn {
    pair: usize,
    run: usize,
    cone: Cone,
    cells: Vec<Cell>,
    flops: Flops,
    bytes: u64,
    kept_as: Option<RunId>,
}

/// Runs that wait for a chunk to be full.
#[derive(Default)]
struct Chunks {
    waiting: Vec<Drawn>,
    bytes: u64,
    /// Bytes that a chunk may take.
    fits: u64,
}

/// Runs that have been run for others before: what is kept of them is dropped with their readers, and
/// they are run again for the next.
#[derive(Default)]
struct Known(HashSet<RunId>);

impl Known {
    fn insert(&mut self, id: Option<RunId>) -> bool {
        id.is_none_or(|id| self.0.insert(id))
    }
}
