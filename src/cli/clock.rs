//! Where a command's time goes, by the clock on the wall: from its start to the last byte that it writes.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::execute::collect::Collection;
use crate::files::error::FileError;
use crate::results::blocks::BlockAverage;
use crate::results::rows::{Gather, PairResult, RunResult};

static START: OnceLock<Instant> = OnceLock::new();

/// Begins to count.
pub fn start() {
    START.get_or_init(Instant::now);
}

fn since_start() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// The time of a command that asks one question.
pub struct Clock {
    /// Until the question stood: program, model, data, tokens.
    loading: Duration,
    writing: Cell<Duration>,
    /// When the last run was there.
    computed: Cell<Option<Instant>>,
}

/// What all of it was spent on; what is none of the others is planning.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// From the start until now.
    pub whole: Duration,
    pub loading: Duration,
    pub planning: Duration,
    pub computing: Duration,
    pub writing: Duration,
}

impl Clock {
    /// The question stands: what was done until now, but for the device's part, was loading.
    pub fn loaded(engine: &Engine) -> Self {
        Self {
            loading: since_start().saturating_sub(engine.computing()),
            writing: Cell::default(),
            computed: Cell::default(),
        }
    }

    /// The last run is there: what comes now is writing.
    pub fn computed(&self) {
        self.computed.set(Some(Instant::now()));
    }

    /// What was spent until now.
    pub fn spent(&self, engine: &Engine) -> Spent {
        let since = self
            .computed
            .get()
            .map_or(Duration::ZERO, |then| then.elapsed());
        let (whole, writing) = (since_start(), self.writing.get() + since);
        let (loading, computing) = (self.loading, engine.computing());
        Spent {
            whole,
            loading,
            planning: whole.saturating_sub(loading + computing + writing),
            computing,
            writing,
        }
    }

    fn writing<T>(&self, write: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let written = write();
        self.writing.set(self.writing.get() + start.elapsed());
        written
    }
}

/// Somebody who gathers, and whose time is writing.
pub struct Timed<'a, 'g> {
    pub gather: &'a mut (dyn Gather + 'g),
    pub clock: &'a Clock,
}

impl Gather for Timed<'_, '_> {
    fn pair(&mut self, pair: &PairResult<'_>) -> Result<(), FileError> {
        self.clock.writing(|| self.gather.pair(pair))
    }

    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        self.clock.writing(|| self.gather.run(result))
    }

    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        self.clock.writing(|| self.gather.block(block))
    }

    fn collected(&mut self, pair: usize, collection: &Collection) -> Result<(), FileError> {
        self.clock
            .writing(|| self.gather.collected(pair, collection))
    }
}
