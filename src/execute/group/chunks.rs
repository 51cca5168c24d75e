//! Runs that wait for a chunk to be full, and chunks.

use std::collections::HashMap;

use super::Group;
use super::cones::Drawn;
use crate::backend::{Backend, ReadoutSpec};
use crate::execute::{ExecuteError, Limits, Outcome};
use crate::forward::{Buffers, forward};
use crate::plan::chunk::{Builder, Packed};
use crate::plan::tables::Ref;

/// Runs that wait for a chunk to be full.
pub struct Chunks {
    waiting: Vec<Drawn>,
    bytes: u64,
    /// Bytes that a chunk may take.
    fits: u64,
}

impl Chunks {
    /// None yet, for chunks of so many bytes at most.
    pub fn of(fits: u64) -> Self {
        Self {
            waiting: Vec::new(),
            bytes: 0,
            fits,
        }
    }
}

impl<B: Backend> Group<'_, B> {
    /// Adds a run to the next chunk, after running what waits where both do not go together.
    pub(super) fn wait(
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
    pub(super) fn flush(
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
        let prompts = &self.cache.layout.prompts;
        let packed: Vec<Packed<'_>> = drawn
            .iter()
            .map(|d| {
                let place = &self.places[d.pair];
                let prompt = place.prompts[&self.pairs[d.pair].runs[d.run].prompt];
                Packed {
                    cone: &d.cone,
                    edits: &d.edits,
                    ids: &prompts[prompt].ids,
                    offset: prompts[prompt].offset,
                    prompts: &place.rows,
                    pair: d.pair,
                    kept_as: d.kept_as,
                }
            })
            .collect();
        let mut chunk =
            Builder::new(config, &self.cache.layout, &self.means, &self.patched).build(&packed);
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
            let mut rows = Vec::new();
            for (run, position) in &chunk.readout_of {
                let base = &prompts[self.places[drawn[*run as usize].pair].base()];
                let row = base.offset + *position as usize;
                let next = chunk.readouts + known.len();
                spec.base.push(*known.entry(row).or_insert_with(|| {
                    rows.push(Ref::cached(row));
                    next as u32
                }));
            }
            rows.into_iter().for_each(|row| chunk.compare(row));
        }
        let readouts = forward(
            self.backend,
            &chunk,
            buffers,
            &mut self.cache,
            &spec,
            limits.stop,
        )?;

        outcome.plan.compared += 2 * (chunk.compared() * config.vocab * config.width) as u64;
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
