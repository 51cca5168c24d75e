//! A group of pairs whose clean activations stand in memory together: its clean runs, then its patched ones.
//!
//! What is read and kept of which runs is decided here. `planner.rs` draws light cones and packs them into
//! chunks, `executor.rs` runs those and delivers what was read; `compare.rs` holds the pairs' own prompts
//! together.

mod compare;
mod executor;
mod planner;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use self::compare::compare;
use self::executor::Executor;
use self::planner::{Asking, Planner, Waiting};
use super::clean::{KeptPairs, clean, means};
use super::collect::Reader;
use super::layout::{Known, PromptPlaces, layout, readouts};
use super::levels::{Step, reads_runs, steps};
use super::no_op::Kept;
use super::passes::Passes;
use super::sink::Delivery;
use super::{ExecuteError, PairReadouts};
use crate::backend::{Backend, Readout};
use crate::forward::ActivationCache;
use crate::patch::{Op, Run};
use crate::plan::edit::Means;
use crate::plan::patched_cache::{self, PatchedCache, RunId};
use crate::prompt::pair::PairRuns;

/// Pairs whose clean activations are held together.
pub(super) struct PairGroup<'a, B: Backend> {
    pairs: &'a [PairRuns],
    first: usize,
    places: Vec<PromptPlaces>,
    clean: Vec<PairReadouts>,
    /// What was read of each pair's stems, as of its base.
    stems: Vec<Vec<Vec<Readout>>>,
    cache: ActivationCache<B::Matrix>,
    means: Means,
    patched: PatchedCache,
    /// Runs that have been run for others before: what is kept of them is dropped with their readers, and
    /// they are run again for the next.
    known: HashSet<RunId>,
}

impl<'a, B: Backend> PairGroup<'a, B> {
    /// Runs the group's prompts clean.
    pub fn new(
        pairs: &'a [PairRuns],
        first: usize,
        passes: &mut Passes<'_, B>,
        known: &mut Known,
    ) -> Result<Self, ExecuteError> {
        let (backend, limits) = (passes.backend, passes.limits);
        let means = means(passes, pairs)?;
        let (layout, places) = layout(pairs, backend.config(), known);
        // a prompt's tokens are wanted by every pair that has it as base or source
        let mut ids: Vec<Vec<u32>> = vec![Vec::new(); layout.prompts.len()];
        for (pair, place) in pairs.iter().zip(&places) {
            let both = std::iter::once(place.base()).chain(place.source());
            for prompt in both.chain(place.stem_prompts.iter().copied()) {
                let mut missing = pair.pair.answers();
                missing.retain(|t| !ids[prompt].contains(t));
                ids[prompt].extend(missing);
            }
        }
        let mut cache = ActivationCache::new(backend, layout);
        let of = KeptPairs {
            pairs,
            places: &places,
            means: &means,
        };
        let read = clean(passes, &mut cache, &ids, &of)?;
        let compared = match limits.kl {
            true => compare(passes, &mut cache, pairs, &places)?,
            false => vec![0.0; pairs.len()],
        };
        let mut clean = Vec::with_capacity(pairs.len());
        let mut stems = Vec::with_capacity(pairs.len());
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
            let source_last = pair.pair.source_position().unwrap_or(0);
            let base: Vec<Readout> = readouts(&pair.pair, &pair.runs)
                .iter()
                .map(|p| wanted(place.base(), *p))
                .collect();
            let of_stem = |prompt: &usize| -> Vec<Readout> {
                let readouts = readouts(&pair.pair, &pair.runs);
                readouts.iter().map(|p| wanted(*prompt, *p)).collect()
            };
            stems.push(place.stem_prompts.iter().map(of_stem).collect());
            let source = place.source().filter(|_| !base.is_empty());
            clean.push(PairReadouts {
                source: source.map(|s| Readout {
                    kl,
                    ..wanted(s, source_last)
                }),
                base,
            });
        }
        Ok(Self {
            pairs,
            first,
            places,
            clean,
            stems,
            patched: PatchedCache::new(&cache.layout),
            known: HashSet::new(),
            cache,
            means,
        })
    }

    /// Runs the group's patched runs, chunk by chunk.
    pub fn run(
        mut self,
        passes: &mut Passes<'_, B>,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), ExecuteError> {
        // steps are run for their readers' sake, or because they collect something
        let wanted = |run: &Run| !run.step || collects(run);
        // never listed: there may be millions
        let pairs = self.pairs;
        let mut all = pairs
            .iter()
            .enumerate()
            .flat_map(|(p, pair)| (0..pair.runs.len()).map(move |r| (p, r)))
            .filter(|(p, r)| wanted(&pairs[*p].runs[*r]));
        let read = |(p, r): (usize, usize)| {
            let run = &pairs[p].runs[r];
            reads_runs(&run.patches) || collects(run)
        };
        let fits = AtomicU64::new((passes.limits.memory / 2).min(passes.backend.chunk_bytes()));
        if !all.clone().any(read) {
            self.stream(all, &fits, passes, delivery)?;
        } else {
            // readers go batch by batch, so that what they read of others fits into memory
            const BATCH: usize = 4096;
            loop {
                let batch: Vec<(usize, usize)> = all.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                let mut rest = &batch[..];
                while !rest.is_empty() {
                    let (count, steps) = self.batch(rest, passes)?;
                    let (runs, later) = rest.split_at(count);
                    rest = later;
                    self.steps(&steps, passes, delivery)?;
                    self.collect(runs, passes, delivery)?;
                    let read_out = |(p, r): &(usize, usize)| !pairs[*p].runs[*r].step;
                    let runs = runs.iter().copied().filter(read_out);
                    self.stream(runs, &fits, passes, delivery)?;
                    self.patched = PatchedCache::new(&self.cache.layout);
                    self.cache.clear_patched();
                }
            }
        }
        let last = self.first + self.pairs.len() - 1;
        Ok(delivery.pairs(last, self.first, &self.clean)?)
    }

    /// Runs what is read out and reads none but what is kept by now.
    fn stream(
        &mut self,
        runs: impl Iterator<Item = (usize, usize)> + Send,
        fits: &AtomicU64,
        passes: &mut Passes<'_, B>,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), ExecuteError> {
        let layout = self.cache.layout.clone();
        let kept = Kept {
            layout: &layout,
            patched: &self.patched,
            means: &self.means,
        };
        let planner = Planner::new(passes, self.pairs, self.first, &self.places, kept, fits);
        let unseen = (&self.clean[..], &self.stems[..]);
        Executor::new(passes, &mut self.cache, delivery, planner, unseen).stream(runs)
    }

    /// How many of the runs go together, so that what they read of others fits into memory, and
    /// which others those are.
    fn batch(
        &self,
        runs: &[(usize, usize)],
        passes: &Passes<'_, B>,
    ) -> Result<(usize, Vec<Step>), ExecuteError> {
        let (backend, limits) = (passes.backend, passes.limits);
        let config = backend.config();
        let budget = limits.memory / 4;
        let mut count = runs.len();
        loop {
            let steps = steps(self.pairs, &runs[..count], config);
            let values = steps
                .iter()
                .map(|s| patched_cache::values(&s.wanted, &self.cache.layout, config));
            let bytes = (values.sum::<usize>() * backend.value_bytes()) as u64;
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
        passes: &mut Passes<'_, B>,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), ExecuteError> {
        for level in steps.chunk_by(|a, b| a.level == b.level) {
            self.patched.begin_level();
            let layout = self.cache.layout.clone();
            let fits = (passes.limits.memory / 4).min(passes.backend.chunk_bytes());
            let fits = AtomicU64::new(fits);
            let kept = Kept {
                layout: &layout,
                patched: &self.patched,
                means: &self.means,
            };
            let planner = Planner::new(passes, self.pairs, self.first, &self.places, kept, &fits);
            let asking = level.iter().map(|step| Asking {
                pair: step.id.pair,
                run: step.id.run,
                edits: step.edits.clone(),
                kept_as: Some((step.id, step.wanted.clone())),
            });
            let asking: Vec<Asking> = asking.collect();
            let questions = planner.questions(&asking);
            let no_op = passes.ask(&questions, &self.cache)?;
            let drawn = planner.draw(asking, &no_op);

            for (step, drawn) in level.iter().zip(&drawn) {
                let place = &self.places[step.id.pair];
                let clean = place.rows[&self.pairs[step.id.pair].runs[step.id.run].prompt];
                self.patched.add(step.id, clean, &drawn.shape.cone.kept);
            }
            self.cache.extend(passes.backend, &self.patched.matrices());
            for drawn in &drawn {
                match drawn.kept_as.is_none_or(|id| self.known.insert(id)) {
                    true => passes.plan.runs += drawn.flops,
                    false => passes.plan.again += drawn.flops.total(),
                }
            }
            let kept = Kept {
                layout: &layout,
                patched: &self.patched,
                means: &self.means,
            };
            let planner = Planner::new(passes, self.pairs, self.first, &self.places, kept, &fits);
            let unseen = (&self.clean[..], &self.stems[..]);
            let mut executor = Executor::new(passes, &mut self.cache, delivery, planner, unseen);
            let mut waiting = Waiting::default();
            for drawn in drawn {
                // what differs nowhere from the clean run stands in the cache
                if drawn.shape.cone.kept.values().any(|rows| !rows.is_empty()) {
                    planner.wait(drawn, &mut waiting, &mut executor)?;
                }
            }
            planner.flush(&mut waiting, &mut executor)?;
            executor.finish()?;
        }
        Ok(())
    }

    /// Reads what the runs collect.
    fn collect(
        &self,
        runs: &[(usize, usize)],
        passes: &Passes<'_, B>,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), ExecuteError> {
        let mut reader = Reader {
            backend: passes.backend,
            cache: &self.cache,
            patched: &self.patched,
            known: HashMap::new(),
        };
        for (p, r) in runs {
            for collection in reader.collect(self.pairs, *p, *r)? {
                let pair = self.first + p;
                delivery.pairs(pair, self.first, &self.clean)?;
                delivery.collected(pair, collection)?;
            }
        }
        Ok(())
    }
}

fn collects(run: &Run) -> bool {
    run.patches.iter().any(|p| p.op == Op::Collect)
}
