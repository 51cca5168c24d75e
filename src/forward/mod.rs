//! GPT-2's forward pass, once, over any backend.
//!
//! What is computed stands in the wiring ([`crate::site::wiring`]); which rows, and whether a row's
//! operand is the run's own or the cache's, in the chunk's tables. So a pass is a loop over operations,
//! and at every stage the same three things may happen to the buffer: clean rows are gathered behind
//! the computed ones (because a patch acts on them there), overwrites are applied, rows are kept.
//! Two operations are fused only where nobody touches what stands between them.

mod basis;
mod buffers;
mod pass;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::buffers::Buffers;
use self::pass::Pass;
use crate::backend::{Backend, DeviceError, ReadoutSpec, Store};
use crate::plan::cache::CacheLayout;
use crate::plan::tables::Chunk;
use crate::site::wiring::{self, READ_OUT};
use crate::site::{Stage, kept};

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

    /// The matrix that holds a stage's clean rows, if there is one.
    pub fn of(&self, stage: Stage, layer: usize) -> Option<&M> {
        let (stage, layer) = kept(stage, layer);
        self.get(stage, layer)
    }

    /// The matrix of a stage and layer, if it is kept.
    pub fn get(&self, stage: Stage, layer: usize) -> Option<&M> {
        self.layout
            .slots
            .get(&(stage, layer))
            .map(|slot| &self.matrices[*slot])
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
    let layers = backend.config().layers;
    let constants = backend.constants(&chunk.constants);
    // they stay with the buffers, and are read while the buffers are written
    let mut bases = std::mem::take(&mut buffers.bases);
    let mut stopped = false;
    for (i, tables) in chunk.parts.iter().enumerate() {
        stopped = stop.load(Ordering::Relaxed);
        if stopped {
            break;
        }
        let part = chunk.first + i;
        let mut pass = Pass {
            backend,
            cache,
            constants: &constants,
            bases: &mut bases,
            buffers,
            tables,
            ops: wiring::ops(part, layers),
            layer: wiring::layer(part),
        };
        pass.run();
    }
    buffers.bases = bases;
    if stopped {
        return Err(ForwardError::Interrupted);
    }
    let last = buffers.of(READ_OUT);
    Ok(backend.readout(buffers.get(last), chunk.readouts, spec)?)
}
