//! Packs the light cones of many runs into one ragged batch.
//!
//! Stage by stage, every run's rows get their places in the chunk's buffers, and every operand is
//! looked up where it stands: the run's own row if it has one there, else the cache's. No two runs
//! ever meet in a number.
//!
//! [`Builder::build`] goes from the embedding to the readouts, `layer.rs` through one layer. Where rows
//! stand is said in `row_map.rs`, what is overwritten and kept of them in `touch.rs`.

mod layer;
mod row_map;
mod touch;

use std::collections::HashMap;

use self::row_map::Runs;
use crate::model::Config;
use crate::plan::cache::{CacheLayout, PromptRows};
use crate::plan::cone::{Cone, Rows};
use crate::plan::edit::Edit;
use crate::plan::patched_cache::{PatchedCache, RunId};
use crate::plan::tables::{Chunk, LayerTables};
use crate::site::Stage;

/// Mean activations, by the text that names the prompts, stage and layer: one row each.
pub type Means = HashMap<(String, Stage, usize), Vec<f64>>;

/// A run that is packed.
pub struct Packed<'a> {
    /// Its light cone.
    pub cone: &'a Cone,
    /// Its edits.
    pub edits: &'a [Edit],
    /// Token ids of the prompt that it patches.
    pub ids: &'a [u32],
    /// Row of that prompt's position 0 in the cache; for a clean run, its own rows there.
    pub offset: usize,
    /// Rows of its pair's prompts' first positions in the cache.
    pub prompts: &'a PromptRows,
    /// Its pair, whose runs it may read.
    pub pair: usize,
    /// Under which name its rows are put on the patched, if others read them.
    pub kept_as: Option<RunId>,
}

/// Builds a chunk's tables.
pub struct Builder<'a> {
    config: &'a Config,
    layout: &'a CacheLayout,
    means: &'a Means,
    /// What is kept of patched runs.
    patched: &'a PatchedCache,
    /// Whether the runs are clean runs whose rows are kept.
    clean: bool,
    chunk: Chunk,
    constant_offsets: HashMap<(*const f64, usize), usize>,
}

impl<'a> Builder<'a> {
    /// A builder of patched runs over a cache.
    pub fn new(
        config: &'a Config,
        layout: &'a CacheLayout,
        means: &'a Means,
        patched: &'a PatchedCache,
    ) -> Self {
        Self {
            config,
            layout,
            means,
            patched,
            clean: false,
            chunk: Chunk::default(),
            constant_offsets: HashMap::new(),
        }
    }

    /// The same of clean runs, which fill the cache.
    pub fn clean(mut self) -> Self {
        self.clean = true;
        self
    }

    /// Packs runs into one chunk.
    pub fn build(mut self, runs: &[Packed<'_>]) -> Chunk {
        let config = self.config;
        let runs = Runs::new(runs);
        let start = runs
            .all
            .iter()
            .map(|r| r.cone.start)
            .min()
            .unwrap_or(config.layers);
        self.chunk.start = start;

        // what enters the first layer of the chunk
        let none = Rows::default();
        let runs_input: Vec<&Rows> = runs
            .all
            .iter()
            .map(|r| {
                if r.cone.start == start {
                    &r.cone.input
                } else {
                    &none
                }
            })
            .collect();
        let (table, mut stream) = runs.assign(|i| runs_input[i]);
        runs.each(
            |i| runs_input[i].computed.clone(),
            |i, p| {
                self.chunk.tokens.push(runs.all[i].ids[p]);
                self.chunk.positions.push(p as u32);
            },
        );
        self.chunk.input = table;
        let mut tables = LayerTables::default();
        for stage in [
            Stage::TokenEmbedding,
            Stage::PositionEmbedding,
            Stage::BlockInput,
        ] {
            let rows = if stage == Stage::BlockInput {
                self.chunk.input.len()
            } else {
                self.chunk.input.computed
            };
            self.touch(&mut tables, runs, stage, start, (&stream, rows));
        }
        self.chunk.input_tables = tables;

        for layer in start..config.layers {
            let tables;
            (tables, stream) = self.layer(layer, runs, &stream);
            self.chunk.layers.push(tables);
        }

        let mut tables = LayerTables::default();
        let mut read = runs.no_rows();
        runs.each(
            |i| runs.all[i].cone.readouts.clone(),
            |i, p| {
                read.set(i, p, self.chunk.readout.len());
                self.chunk.readout.push(runs.reference(&stream, i, p));
                self.chunk.readout_of.push((i as u32, p as u32));
            },
        );
        for stage in [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput] {
            self.touch(
                &mut tables,
                runs,
                stage,
                config.layers,
                (&read, self.chunk.readout.len()),
            );
        }
        self.chunk.final_tables = tables;
        self.chunk
    }
}
