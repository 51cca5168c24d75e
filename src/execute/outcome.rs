//! What goes into an execution beside its runs, and what comes out of it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::collect::Collection;
use super::sink::{Sink, Stopped};
use crate::backend::{DeviceError, Readout};
use crate::check::CheckError;
use crate::forward::ForwardError;
use crate::plan::cost::Flops;
use crate::prompt::pair::Pair;

/// What can go wrong between a question and its readouts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// A prompt or a patch does not fit the model.
    #[error("pair {pair}{}: {error}", run.as_ref().map_or(String::new(), |r| format!(", run {r}")))]
    Check {
        /// Index of the pair.
        pair: usize,
        /// Name or index of the run, where it is a run's patch.
        run: Option<String>,
        /// What does not fit.
        error: CheckError,
    },
    /// Not even one run fits.
    #[error("one run needs {needed} bytes, but the memory budget is {budget}: give --memory more")]
    Memory {
        /// Bytes that the largest run or clean prompt needs.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<ForwardError> for ExecuteError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Interrupted => Self::Interrupted,
            ForwardError::Device(error) => Self::Device(error),
        }
    }
}

impl From<Stopped> for ExecuteError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}

impl ExecuteError {
    /// Whether less at a time might do.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Device(DeviceError::OutOfMemory { .. }))
    }
}

/// Limits and wishes of an execution.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Bytes for caches and buffers together, beside the weights.
    pub memory: u64,
    /// How many of the most probable tokens are read of each *clean* prompt.
    pub top: usize,
    /// How many of the most probable tokens are read of each run.
    pub top_of_runs: usize,
    /// Whether the targets' ranks are read, of clean prompts and of runs.
    pub ranks: bool,
    /// Whether each run's distribution is compared with its base's.
    pub kl: bool,
    /// Whether the loss of each prompt's own tokens is read, of clean prompts and of runs.
    pub loss: bool,
    /// Set to stop between two layers.
    pub stop: &'a AtomicBool,
    /// Grows by the time that the device is waited for, in nanoseconds.
    pub computing: &'a AtomicU64,
    /// Grows by the runs that are done, of gradients and circuits, whose results come all at once.
    pub passed: &'a AtomicU64,
}

/// What nobody sets.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Time, or runs, that nobody asks for.
static UNSEEN: AtomicU64 = AtomicU64::new(0);

impl Limits<'static> {
    /// This many bytes, and nothing read but the answers' logits.
    pub fn new(memory: u64) -> Self {
        Self {
            memory,
            top: 0,
            top_of_runs: 0,
            ranks: false,
            kl: false,
            loss: false,
            stop: &NEVER,
            computing: &UNSEEN,
            passed: &UNSEEN,
        }
    }
}

impl<'a> Limits<'a> {
    /// The same, and the work ends between two layers once `stop` is set.
    pub fn until(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }

    /// The same, and the time that the device is waited for is added to `computing`, in nanoseconds.
    pub fn timed(self, computing: &'a AtomicU64) -> Self {
        Self { computing, ..self }
    }

    /// The same, and runs whose results come all at once are added to `passed` as they are done.
    pub fn counted(self, passed: &'a AtomicU64) -> Self {
        Self { passed, ..self }
    }

    /// So many more runs are done.
    pub(crate) fn pass(&self, runs: usize) {
        self.passed.fetch_add(runs as u64, Ordering::Relaxed);
    }

    /// Does something on the device, and adds how long it took.
    pub(super) fn computing<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.computing.fetch_add(took, Ordering::Relaxed);
        done
    }
}

/// What a plan says before or after the clean runs are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Operations of the clean runs.
    pub clean: Flops,
    /// Operations of the patched runs.
    pub runs: Flops,
    /// Operations of reading the base's distributions again, chunk by chunk, to compare runs with
    /// them: it depends on how many chunks there are, and is not in the bound.
    pub compared: u64,
    /// Operations of runs that others read and that were run again, since what was kept of them had
    /// to make room: it depends on the memory, and is not in the bound.
    pub again: u64,
    /// Runs that are read out.
    pub count: usize,
    /// Runs whose readout is the base's, because all their patches are dead or unseen.
    pub copied: usize,
}

impl std::ops::AddAssign for Plan {
    fn add_assign(&mut self, other: Self) {
        self.clean += other.clean;
        self.runs += other.runs;
        self.compared += other.compared;
        self.again += other.again;
        self.count += other.count;
        self.copied += other.copied;
    }
}

impl Plan {
    /// Counts a run of a pair, and whether it is the base's; the same run aside is none.
    pub(super) fn add(&mut self, copied: bool, pair: &Pair) {
        if !pair.continuation.aside {
            self.count += 1;
            self.copied += usize::from(copied);
        }
    }

    /// Operations of everything.
    pub fn flops(&self) -> u64 {
        self.clean.total() + self.runs.total() + self.compared + self.again
    }
}

/// What was read of a pair's clean prompts.
#[derive(Debug, Clone, Default)]
pub struct PairReadouts {
    /// Of the base, one for each readout position.
    pub base: Vec<Readout>,
    /// Of the source at its last position.
    pub source: Option<Readout>,
}

/// What was read of one pair.
#[derive(Debug, Clone, Default)]
pub struct PairOutcome {
    /// Of the clean base prompt, one for each readout position.
    pub base: Vec<Readout>,
    /// Of the clean source prompt at its last position.
    pub source: Option<Readout>,
    /// Of each run, one for each readout position; nothing of a step.
    pub runs: Vec<Vec<Readout>>,
    /// What `collect` patches read, by run and patch.
    pub collected: Vec<Collection>,
}

/// What was read of all pairs: the sink of those who want everything at once.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// In the order given.
    pub pairs: Vec<PairOutcome>,
    /// Exactly what was planned once the clean runs were there.
    pub plan: Plan,
}

impl Sink for Outcome {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        debug_assert_eq!(pair, self.pairs.len());
        let PairReadouts { base, source } = clean.clone();
        self.pairs.push(PairOutcome {
            base,
            source,
            ..PairOutcome::default()
        });
        ControlFlow::Continue(())
    }

    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        let runs = &mut self.pairs[pair].runs;
        // steps before it have no readouts
        runs.resize(run, Vec::new());
        runs.push(readouts);
        ControlFlow::Continue(())
    }

    fn collected(&mut self, pair: usize, collection: Collection) -> ControlFlow<()> {
        self.pairs[pair].collected.push(collection);
        ControlFlow::Continue(())
    }
}
