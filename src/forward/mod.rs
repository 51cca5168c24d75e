//! GPT-2's forward pass, once, over any backend.
//!
//! The order of operations is that of Radford et al. 2019 as Hugging Face implements it
//! (`modeling_gpt2.py`, `GPT2Block.forward`): x += attention(ln_1(x)); x += mlp(ln_2(x)); then ln_f
//! and the unembedding. Which rows each step computes, and whether a row's operand is the run's own
//! or the cache's, stands in the chunk's tables.
//!
//! At every stage the same three things may happen to the buffer: clean rows are gathered behind
//! the computed ones (because a patch acts on them there), overwrites are applied, rows are kept.
//! Two operations are fused only where nobody touches what stands between them.

mod attention;
mod basis;
mod mlp;
mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::basis::Bases;
use self::step::{Input, Step};
use crate::backend::{Backend, DeviceError, Embedding, Norm, ReadoutSpec, Store};
use crate::plan::cache::CacheLayout;
use crate::plan::tables::{Chunk, LayerTables, Ref};
use crate::site::Stage;

/// The kept activations of a group of clean runs: one matrix for each slot of the layout; behind them
/// those of patched runs.
#[derive(Debug)]
pub struct ActivationCache<M> {
    /// What stands where; whoever plans shares it.
    pub layout: Arc<CacheLayout>,
    /// One matrix a slot, `[layout.rows(), width]`.
    pub matrices: Vec<M>,
}

impl<M> ActivationCache<M> {
    /// An empty cache of a layout, to be filled by [`forward`] over clean runs.
    pub fn new<B: Backend<Matrix = M>>(backend: &B, layout: CacheLayout) -> Self {
        let mut slots: Vec<_> = layout.slots.iter().map(|(k, slot)| (*slot, k.0)).collect();
        slots.sort_by_key(|(slot, _)| *slot);
        let width = |stage| layout.width(stage, backend.config());
        let matrices = slots
            .iter()
            .map(|(_, stage)| backend.matrix(layout.rows(), width(*stage), Store::of(*stage)))
            .collect();
        Self {
            layout: Arc::new(layout),
            matrices,
        }
    }

    /// Adds matrices of patched runs, by stage and rows.
    pub fn extend<B: Backend<Matrix = M>>(&mut self, backend: &B, patched: &[(Stage, usize)]) {
        let matrices = patched.iter().map(|(stage, rows)| {
            let width = self.layout.width(*stage, backend.config());
            backend.matrix(*rows, width, Store::of(*stage))
        });
        self.matrices.extend(matrices);
    }

    /// Drops every matrix of patched runs.
    pub fn clear_patched(&mut self) {
        self.matrices.truncate(self.layout.slots.len());
    }

    /// The matrix of a stage and layer, if it is kept.
    pub fn get(&self, stage: Stage, layer: usize) -> Option<&M> {
        self.layout
            .slots
            .get(&(stage, layer))
            .map(|slot| &self.matrices[*slot])
    }
}

/// Buffers of the forward pass, allocated once and grown to the largest chunk, and the bases that
/// passes have brought to the device.
#[derive(Debug)]
pub struct Buffers<M> {
    stream: M,
    normed: M,
    scale: M,
    normalized: M,
    query: M,
    key: M,
    value: M,
    z: M,
    attention_output: M,
    mid: M,
    mlp_pre: M,
    mlp_activation: M,
    mlp_output: M,
    out: M,
    own_input: M,
    own_normed: M,
    bases: Bases<M>,
}

impl<M> Buffers<M> {
    /// Empty buffers of a backend's shape.
    pub fn new<B: Backend<Matrix = M>>(backend: &B) -> Self {
        let config = backend.config();
        let wide = |store| backend.matrix(0, config.width, store);
        Self {
            stream: wide(Store::Residual),
            normed: wide(Store::Branch),
            scale: backend.matrix(0, 1, Store::Residual),
            normalized: wide(Store::Residual),
            query: wide(Store::Heads),
            key: wide(Store::Heads),
            value: wide(Store::Heads),
            z: wide(Store::Heads),
            attention_output: wide(Store::Residual),
            mid: wide(Store::Residual),
            mlp_pre: backend.matrix(0, config.inner, Store::Branch),
            mlp_activation: backend.matrix(0, config.inner, Store::Branch),
            mlp_output: wide(Store::Residual),
            out: wide(Store::Residual),
            own_input: wide(Store::Residual),
            own_normed: wide(Store::Branch),
            bases: Bases::default(),
        }
    }

    /// Grows every buffer to the most rows that it will have in a chunk, so that no layer has to.
    fn reserve<B: Backend<Matrix = M>>(&mut self, backend: &B, chunk: &Chunk) {
        let most =
            |rows: fn(&LayerTables) -> usize| chunk.layers.iter().map(rows).max().unwrap_or(0);
        let out = most(|t| t.out.rows.len()).max(chunk.input.len());
        for (buffer, rows) in [
            (&mut self.stream, out),
            (&mut self.out, out),
            (&mut self.normed, most(|t| t.ln_1.len().max(t.ln_2.len()))),
            (&mut self.query, most(|t| t.query.rows.len())),
            (&mut self.key, most(|t| t.key.rows.len())),
            (&mut self.value, most(|t| t.value.rows.len())),
            (&mut self.z, most(|t| t.z.len())),
            (&mut self.mid, most(|t| t.mid.rows.len())),
            (&mut self.mlp_activation, most(|t| t.mlp_activation.len())),
            (
                &mut self.attention_output,
                most(LayerTables::attention_output_rows),
            ),
            (&mut self.mlp_pre, most(LayerTables::mlp_pre_rows)),
            (&mut self.mlp_output, most(LayerTables::mlp_output_rows)),
            (&mut self.scale, most(LayerTables::split_norm_rows)),
            (&mut self.normalized, most(LayerTables::split_norm_rows)),
            (&mut self.own_input, most(LayerTables::own_input_rows)),
            (&mut self.own_normed, most(LayerTables::own_input_rows)),
        ] {
            backend.resize(buffer, rows);
        }
    }
}

/// Why a pass did not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Somebody asked for the work to stop.
    #[error("interrupted")]
    Interrupted,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Runs one chunk and reads it out; [`Backend::finish`] waits for what was read. Clean chunks write `cache`, others read them.
///
/// # Errors
///
/// [`ForwardError`]: `stop` is looked at between layers.
pub fn forward<B: Backend>(
    backend: &B,
    chunk: &Chunk,
    buffers: &mut Buffers<B::Matrix>,
    cache: &mut ActivationCache<B::Matrix>,
    spec: &ReadoutSpec,
    stop: &AtomicBool,
) -> Result<B::Readouts, ForwardError> {
    buffers.reserve(backend, chunk);
    // they stay with the buffers, and are read while the buffers are written
    let mut bases = std::mem::take(&mut buffers.bases);
    let mut step = Step {
        backend,
        cache,
        constants: backend.constants(&chunk.constants),
        bases: &mut bases,
    };
    let read = run(&mut step, buffers, chunk, spec, stop);
    buffers.bases = bases;
    read
}

fn run<B: Backend>(
    step: &mut Step<'_, B>,
    buffers: &mut Buffers<B::Matrix>,
    chunk: &Chunk,
    spec: &ReadoutSpec,
    stop: &AtomicBool,
) -> Result<B::Readouts, ForwardError> {
    input(step, buffers, chunk);
    for (i, tables) in chunk.layers.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(ForwardError::Interrupted);
        }
        attention::attention(step, buffers, chunk.start + i, tables);
        mlp::mlp(step, buffers, chunk.start + i, tables);
        std::mem::swap(&mut buffers.stream, &mut buffers.out);
    }
    Ok(readout(step, buffers, chunk, spec)?)
}

/// The residual stream that enters the chunk's first layer: both embeddings' sum, or the cache's.
fn input<B: Backend>(step: &mut Step<'_, B>, b: &mut Buffers<B::Matrix>, chunk: &Chunk) {
    let (backend, tables, computed) = (step.backend, &chunk.input_tables, chunk.input.computed);
    backend.resize(&mut b.stream, chunk.input.len());
    if computed > 0 {
        // out and mid hold the two embeddings until they are added
        backend.resize(&mut b.out, computed);
        backend.resize(&mut b.mid, computed);
        backend.embed(Embedding::Token, &chunk.tokens, &mut b.out);
        step.settle(tables, Stage::TokenEmbedding, &mut b.out);
        backend.embed(Embedding::Position, &chunk.positions, &mut b.mid);
        step.settle(tables, Stage::PositionEmbedding, &mut b.mid);
        let refs: Vec<Ref> = (0..computed).map(Ref::own).collect();
        let (token, position) = (step::own(&b.out, &refs), step::own(&b.mid, &refs));
        backend.add(&token, &position, &mut b.stream, 0);
    }
    let place = (Stage::BlockInput, chunk.start);
    step.gather(&chunk.input, place, &mut b.stream);
    step.settle(tables, Stage::BlockInput, &mut b.stream);
}

/// The final layer norm of the rows that are read out and of those that they are compared with, then
/// the unembedding.
fn readout<B: Backend>(
    step: &mut Step<'_, B>,
    b: &mut Buffers<B::Matrix>,
    chunk: &Chunk,
    spec: &ReadoutSpec,
) -> Result<B::Readouts, DeviceError> {
    let refs = [&chunk.readout[..], &chunk.compared].concat();
    let input = Input {
        own: &b.stream,
        cache: Some((Stage::BlockInput, step.backend.config().layers)),
        refs: &refs,
    };
    let stages = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput];
    let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
    step.norm(&chunk.final_tables, (Norm::LnF, stages), input, out);
    step.backend.readout(&b.normed, chunk.readout.len(), spec)
}
