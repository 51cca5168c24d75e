//! Forward passes one after the other, and what they share.

use super::no_op::Questions;
use super::{ExecuteError, Limits, Plan};
use crate::backend::{Backend, Readout, ReadoutSpec};
use crate::forward::{ActivationCache, Buffers, forward};
use crate::plan::cone::Shapes;
use crate::plan::tables::Chunk;

/// The device, what may be taken of it, and what has been done on it.
pub(super) struct Passes<'a, B: Backend> {
    pub backend: &'a B,
    pub limits: &'a Limits<'a>,
    /// Cones that are drawn by now.
    pub shapes: &'a Shapes,
    pub buffers: Buffers<B::Matrix>,
    pub plan: Plan,
}

impl<'a, B: Backend> Passes<'a, B> {
    pub fn new(backend: &'a B, limits: &'a Limits<'a>, shapes: &'a Shapes) -> Self {
        Self {
            backend,
            limits,
            shapes,
            buffers: Buffers::new(backend),
            plan: Plan::default(),
        }
    }

    /// Lets go of the buffers, which have grown to what the device has no room for.
    pub fn shrink(&mut self) {
        self.buffers = Buffers::new(self.backend);
    }

    /// Runs a chunk; [`Backend::finish`] waits for what is read of it.
    pub fn forward(
        &mut self,
        chunk: &Chunk,
        cache: &mut ActivationCache<B::Matrix>,
        spec: &ReadoutSpec,
    ) -> Result<B::Readouts, ExecuteError> {
        let (backend, buffers, limits) = (self.backend, &mut self.buffers, self.limits);
        let pass = || forward(backend, chunk, buffers, cache, spec, limits.stop);
        Ok(limits.computing(pass)?)
    }

    /// Waits for what is read of a chunk.
    pub fn finish(&self, readouts: B::Readouts) -> Result<Vec<Readout>, ExecuteError> {
        let finish = || self.backend.finish(readouts);
        Ok(self.limits.computing(finish)?)
    }

    /// Asks which patches write what stands there already.
    pub fn ask(
        &self,
        questions: &Questions,
        cache: &ActivationCache<B::Matrix>,
    ) -> Result<Vec<bool>, ExecuteError> {
        let ask = || questions.ask(self.backend, &cache.matrices);
        Ok(self.limits.computing(ask)?)
    }
}
