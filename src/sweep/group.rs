//! A group of pairs whose traces stand in memory together: its clean runs, then its patched ones.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::backend::{Backend, Readout, ReadoutSpec};
use crate::forward::{Buffers, Traces, forward};
use crate::plan::cell::{Cell, cells};
use crate::plan::chunk::{Builder, Means, Packed};
use crate::plan::cone::{self, Cone, Question};
use crate::plan::cost::{Flops, flops, layer_values};
use crate::plan::tables::Ref;
use crate::site::Stage;
use crate::sweep::clean::{clean, means};
use crate::sweep::dead::dead;
use crate::sweep::execute::{ExecuteError, Limits, Outcome, PairOutcome};
use crate::sweep::layout::{Place, layout};
use crate::sweep::pair::PairRuns;

/// Pairs whose traces are held together.
pub(super) struct Group<'a, B: Backend> {
    backend: &'a B,
    pairs: &'a [PairRuns],
    first: usize,
    places: Vec<Place>,
    traces: Traces<B::Matrix>,
    means: Means,
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
            for prompt in [Some(place.base), place.source].into_iter().flatten() {
                let mut missing = pair.pair.answers();
                missing.retain(|t| !ids[prompt].contains(t));
                ids[prompt].extend(missing);
            }
        }
        let mut traces = Traces::new(backend, layout);
        let readouts = clean(
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
                let readout = &readouts[&(prompt, position)];
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
            outcome.pairs.push(PairOutcome {
                base: pair
                    .pair
                    .readout_positions()
                    .iter()
                    .map(|p| wanted(place.base, *p))
                    .collect(),
                source: place.source.map(|s| Readout {
                    kl,
                    ..wanted(s, source_last)
                }),
                runs: Vec::with_capacity(pair.runs.len()),
            });
        }
        Ok(Self {
            backend,
            pairs,
            first,
            places,
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
        let all: Vec<(usize, usize)> = self
            .pairs
            .iter()
            .enumerate()
            .flat_map(|(p, pair)| (0..pair.runs.len()).map(move |r| (p, r)))
            .collect();
        // cones are drawn in parallel, a batch at a time so that they do not pile up
        const BATCH: usize = 4096;
        let budget = limits.memory / 2;
        let mut chunk = budget.min(self.backend.chunk_bytes());
        let mut waiting: Vec<Drawn> = Vec::new();
        let mut bytes = 0;
        for batch in all.chunks(BATCH) {
            let drawn = self.draw(batch)?;
            for drawn in drawn {
                outcome.plan.count += 1;
                outcome.plan.copied += usize::from(drawn.cone.readouts.is_empty());
                outcome.plan.runs += drawn.flops;
                if drawn.bytes > budget {
                    return Err(ExecuteError::Memory {
                        needed: 2 * drawn.bytes,
                        budget: limits.memory,
                    });
                }
                if bytes + drawn.bytes > chunk && !waiting.is_empty() {
                    let fitted = self.chunk_or_halves(&waiting, buffers, limits, outcome)?;
                    chunk = chunk.min(chunk * fitted as u64 / waiting.len() as u64);
                    waiting.clear();
                    bytes = 0;
                }
                bytes += drawn.bytes;
                waiting.push(drawn);
            }
        }
        self.chunk_or_halves(&waiting, buffers, limits, outcome)?;
        Ok(())
    }

    /// Draws the light cones of some runs, given as (pair, run).
    fn draw(&self, runs: &[(usize, usize)]) -> Result<Vec<Drawn>, ExecuteError> {
        let config = self.backend.config();
        let cells: Vec<Vec<Cell>> = runs
            .par_iter()
            .map(|(p, r)| {
                let patches = &self.pairs[*p].runs[*r].patches;
                cells(patches, (self.first + p) as u32, config)
            })
            .collect();
        let places = runs.iter().map(|(p, _)| self.places[*p]);
        let asked: Vec<_> = places.zip(cells.iter().map(Vec::as_slice)).collect();
        let dead = dead(self.backend, &self.traces, &self.means, &asked)?;
        let drawn = (runs, cells, dead).into_par_iter();
        Ok(drawn
            .map(|((p, _), cells, dead)| self.cone(*p, cells, &dead))
            .collect())
    }

    fn cone(&self, p: usize, cells: Vec<Cell>, dead: &[bool]) -> Drawn {
        let config = self.backend.config();
        let readouts = self.pairs[p].pair.readout_positions();
        let cone = cone::of_run(&Question {
            config,
            cells: &cells,
            readouts: &readouts.into_iter().collect(),
            same: &|i| dead[i],
        });
        let widest = cone
            .layers
            .iter()
            .map(|l| layer_values(l, config))
            .max()
            .unwrap_or(0);
        let slack = 512 + 64 * cells.len() + 8 * cone.layers.len() * 200;
        Drawn {
            pair: p,
            flops: flops(&cone, config),
            bytes: ((widest + cone.bases.values) * self.backend.value_bytes() + slack) as u64,
            cone,
            cells,
        }
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
            .map(|d| Packed {
                cone: &d.cone,
                cells: &d.cells,
                ids: &prompts[self.places[d.pair].base].ids,
                offset: prompts[self.places[d.pair].base].offset,
                source_offset: self.places[d.pair].source.map_or(0, |s| prompts[s].offset),
            })
            .collect();
        let mut chunk =
            Builder::new(config, &self.traces.layout, &self.means, false).build(&packed);
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
                let base = &prompts[self.places[drawn[*run as usize].pair].base];
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
        let firsts: Vec<usize> = drawn
            .iter()
            .map(|d| {
                let pair = &mut outcome.pairs[self.first + d.pair];
                pair.runs.push(pair.base.clone());
                pair.runs.len() - 1
            })
            .collect();
        for ((run, position), readout) in chunk.readout_of.iter().zip(readouts) {
            let d = &drawn[*run as usize];
            let positions = self.pairs[d.pair].pair.readout_positions();
            if let Some(i) = positions.iter().position(|p| *p == *position as usize) {
                outcome.pairs[self.first + d.pair].runs[firsts[*run as usize]][i] = readout;
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
    let none = Means::new();
    let mut chunk = Builder::new(config, &traces.layout, &none, false).build(&[]);
    let mut of = Vec::new();
    for (p, (PairRuns { pair, runs }, place)) in pairs.iter().zip(places).enumerate() {
        // by itself such a pair keeps nothing, and what stands beside it must not matter
        if runs
            .iter()
            .all(|run| cells(&run.patches, 0, config).is_empty())
        {
            continue;
        }
        let (Some(source), Some(ids)) = (place.source, &pair.source) else {
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
            .push(Ref::trace(offset(place.base) + base_last));
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

/// A run whose light cone is drawn.
struct Drawn {
    pair: usize,
    cone: Cone,
    cells: Vec<Cell>,
    flops: Flops,
    bytes: u64,
}
