//! A group of pairs whose clean activations stand in memory together: its clean runs, then its patched ones.
//!
//! What is read and kept of which runs is decided here; `cones.rs` draws the light cones of some, and
//! `chunks.rs` runs them once enough of them wait. `compare.rs` holds the pairs' own prompts together.

mod chunks;
mod compare;
mod cones;

use std::collections::{HashMap, HashSet};

use self::chunks::Chunks;
use self::compare::compare;
use self::cones::Asking;
use crate::backend::{Backend, Readout};
use crate::execute::clean::{clean, means};
use crate::execute::collect::Reader;
use crate::execute::layout::{Place, layout, readouts};
use crate::execute::levels::{Step, steps};
use crate::execute::{ExecuteError, Limits, Outcome, PairOutcome};
use crate::forward::{ActivationCache, Buffers};
use crate::patch::{Op, Run};
use crate::plan::chunk::Means;
use crate::plan::patched_cache::{self, PatchedCache, RunId};
use crate::prompt::pair::PairRuns;

/// Pairs whose clean activations are held together.
pub(super) struct Group<'a, B: Backend> {
    backend: &'a B,
    pairs: &'a [PairRuns],
    first: usize,
    places: Vec<Place>,
    cache: ActivationCache<B::Matrix>,
    means: Means,
    patched: PatchedCache,
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
        let mut cache = ActivationCache::new(backend, layout);
        let read = clean(
            backend,
            &mut cache,
            buffers,
            &ids,
            limits,
            &mut outcome.plan.clean,
        )?;

        let compared = match limits.kl {
            true => compare(
                backend,
                &mut cache,
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
            patched: PatchedCache::new(&cache.layout),
            known: Known::default(),
            cache,
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
        let mut queue = Chunks::of((limits.memory / 2).min(self.backend.chunk_bytes()));
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
                    outcome.plan.copied += usize::from(drawn.cone.is_unseen());
                    outcome.plan.runs += drawn.flops;
                    self.wait(drawn, &mut queue, buffers, limits, outcome)?;
                }
                if !steps.is_empty() {
                    self.flush(&mut queue, buffers, limits, outcome)?;
                    self.patched = PatchedCache::new(&self.cache.layout);
                    self.cache.clear_patched();
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
                .map(|s| patched_cache::values(&s.wanted, &self.cache.layout, config));
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
            self.patched.begin_level();
            let asking = level.iter().map(|step| Asking {
                pair: step.id.pair,
                run: step.id.run,
                edits: step.edits.clone(),
                kept_as: Some((step.id, step.wanted.clone())),
            });
            let drawn = self.draw(asking.collect())?;
            for (step, drawn) in level.iter().zip(&drawn) {
                let place = &self.places[step.id.pair];
                let clean = place.rows[&self.pairs[step.id.pair].runs[step.id.run].prompt];
                self.patched.add(step.id, clean, &drawn.cone.kept);
            }
            self.cache.extend(self.backend, &self.patched.matrices());
            let mut queue = Chunks::of((limits.memory / 4).min(self.backend.chunk_bytes()));
            for drawn in drawn {
                match self.known.insert(drawn.kept_as) {
                    true => outcome.plan.runs += drawn.flops,
                    false => outcome.plan.again += drawn.flops.total(),
                }
                // what differs nowhere from the clean run stands in the cache
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
            cache: &self.cache,
            patched: &self.patched,
            known: HashMap::new(),
        };
        for (p, r) in runs {
            let collected = reader.collect(self.pairs, *p, *r)?;
            outcome.pairs[self.first + p].collected.extend(collected);
        }
        Ok(())
    }
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
