//! Where results go as they are finished.

use std::ops::ControlFlow;

use super::collect::Collection;
use super::outcome::PairReadouts;
use crate::backend::Readout;

/// Takes results in order, pair by pair and run by run, each as soon as its chunk is done, so that what
/// nobody keeps is gone. A sink that breaks ends the work.
pub trait Sink {
    /// A pair's clean prompts, before anything else of the pair.
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()>;

    /// A run, with one readout for each of the pair's readout positions. Runs that are there for others to
    /// read are left out.
    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()>;

    /// What a `collect` patch read, before its run and in the order of runs and patches.
    fn collected(&mut self, pair: usize, collection: Collection) -> ControlFlow<()> {
        let _ = (pair, collection);
        ControlFlow::Continue(())
    }
}

/// Hands results on, and sees to it that every pair is announced once and in order.
pub(super) struct Delivery<'s> {
    sink: &'s mut dyn Sink,
    /// The next pair that has not been announced.
    next: usize,
}

/// The sink wants no more.
pub(super) struct Stopped;

impl<'s> Delivery<'s> {
    pub fn new(sink: &'s mut dyn Sink) -> Self {
        Self { sink, next: 0 }
    }

    /// Announces pairs up to and with `last`; `clean` are those of a group whose first pair is `first`.
    pub fn pairs(
        &mut self,
        last: usize,
        first: usize,
        clean: &[PairReadouts],
    ) -> Result<(), Stopped> {
        while self.next <= last {
            let pair = self.next;
            self.next += 1;
            go_on(self.sink.pair(pair, &clean[pair - first]))?;
        }
        Ok(())
    }

    pub fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> Result<(), Stopped> {
        debug_assert!(pair < self.next, "a run comes before its pair");
        go_on(self.sink.run(pair, run, readouts))
    }

    pub fn collected(&mut self, pair: usize, collection: Collection) -> Result<(), Stopped> {
        go_on(self.sink.collected(pair, collection))
    }
}

fn go_on(flow: ControlFlow<()>) -> Result<(), Stopped> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stopped),
    }
}
