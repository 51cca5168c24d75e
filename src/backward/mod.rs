//! GPT-2's backward pass with respect to activations, once, over any backend that has adjoints.
//!
//! The wiring ([`crate::site::wiring`]) is gone through from its end: an operation hands the gradient of
//! what it gave to what it read, by its adjoint ([`crate::backend::adjoint`]), and what several operations read
//! gets the sum. The forward pass has left the rows that adjoints need on a tape ([`crate::plan::tape`]). A
//! gradient that is asked for is handed over when all of it has arrived: it is that of the value that stands
//! at the stage, after any patch there. Then the patches there are gone back through, and what an
//! overwritten value would have passed on is dropped.

mod pass;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use self::pass::{Gradients, Reverse};
use crate::backend::adjoint::{Adjoints, Frozen, LogitGradient};
use crate::forward::{ActivationCache, ForwardError};
use crate::plan::tape::{AskedGradients, Passed, TapePlan};
use crate::site::Stage;
use crate::site::wiring::READ_OUT;

/// A gradient on the device, in the rows of the tape; rows that no readout sees are zero.
#[derive(Debug)]
pub struct Arrived<'a, M> {
    /// Layer, as edits count.
    pub layer: usize,
    /// Of which stage.
    pub stage: Stage,
    /// Of which head's copy, for stages that single heads read.
    pub head: Option<usize>,
    /// ∂m/∂(the stage's rows).
    pub gradient: &'a M,
}

/// Takes gradients as they arrive, the last layer's first.
pub type Take<'a, M> = dyn FnMut(Arrived<'_, M>) -> Result<(), ForwardError> + 'a;

/// Buffers of the backward pass, which grow to the largest tape.
#[derive(Debug)]
pub struct GradientBuffers<M>(Gradients<M>);

impl<M> Default for GradientBuffers<M> {
    fn default() -> Self {
        Self(Gradients::default())
    }
}

/// What a backward pass is of.
#[derive(Debug)]
pub struct WayBack<'a, M> {
    /// The runs.
    pub plan: &'a TapePlan,
    /// What the forward pass kept of them.
    pub tape: &'a ActivationCache<M>,
    /// Which gradients are handed over.
    pub asked: &'a AskedGradients,
    /// What is held constant.
    pub frozen: Frozen,
    /// Rows of what a layer adds to the residual stream, by attention and by its MLP, whose gradient is dropped
    /// before it is handed over.
    pub dropped: &'a BTreeMap<usize, Vec<Passed>>,
}

/// Runs a tape backwards from gradients of its logits.
///
/// # Errors
///
/// [`ForwardError`]: `stop` is looked at between layers, and `take` may fail.
pub fn backward<B: Adjoints>(
    backend: &B,
    task: &WayBack<'_, B::Matrix>,
    logits: &[LogitGradient],
    buffers: &mut GradientBuffers<B::Matrix>,
    take: &mut Take<'_, B::Matrix>,
    stop: &AtomicBool,
) -> Result<(), ForwardError> {
    let layers = backend.config().layers;
    let mut reverse = Reverse {
        backend,
        task,
        gradients: &mut buffers.0,
        take,
        rows: task.plan.layout.rows(),
    };
    let mut read_out = reverse.cleared(READ_OUT);
    if let Some(output) = task.tape.get(READ_OUT, layers) {
        backend.readout_adjoint(output, logits, &mut read_out);
    }
    reverse.put(READ_OUT, read_out);
    for part in (task.plan.first.0..=layers + 1).rev() {
        if stop.load(Ordering::Relaxed) {
            return Err(ForwardError::Interrupted);
        }
        reverse.part(part)?;
    }
    Ok(())
}
