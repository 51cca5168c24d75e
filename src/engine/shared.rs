//! A stretch of runs shared out among several devices of one kind.
//!
//! Units of runs wait in one queue, from which a device that is free takes the next. What is read of them is
//! handed on unit by unit, in the order of the runs, so that whoever gathers it sees what one device would have
//! given; and since a run's bits do not depend on what it is run with, they are the same.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::lens::Work;
use crate::backend::Readout;
use crate::error::Error;
use crate::execute::collect::Collection;
use crate::execute::{ExecuteError, PairReadouts, Plan, Sink};
use crate::folder::cut::{Cursor, RunRange};
use crate::prompt::pair::PairRuns;

/// Takes pairs that are run together: where the first of their runs stands, whether the first pair has been announced
/// before, and how they are run.
pub type TakePart<'a> =
    dyn FnMut(Cursor, &[PairRuns], bool, &mut Work<'_>) -> Result<(), Error> + 'a;

/// Results of a unit that wait for those before them; a device that is further ahead than that waits itself.
const AHEAD: usize = 1 << 16;

/// What a device tells of its unit, in order.
enum Told {
    /// Pairs are run together: what [`TakePart`] takes.
    Part(Cursor, Vec<PairRuns>, bool),
    Pair(usize, PairReadouts),
    Run(usize, usize, Vec<Readout>),
    Collected(usize, Collection),
    /// The pairs that were run together are done.
    Executed(Plan),
    /// The unit is.
    Done(Result<(), Error>),
}

/// Units that nobody has taken, in order, each with where its results go.
type Waiting = Mutex<VecDeque<(RunRange, SyncSender<Told>)>>;

/// Runs units on devices, each by `run`, and hands their parts on in order. `waited` grows by the time in which there was
/// nothing to hand on, in nanoseconds.
///
/// # Errors
///
/// What the first unit that fails says, or `take`.
pub fn share<B: Sync>(
    backends: &[&B],
    units: Vec<RunRange>,
    run: &(impl Fn(&B, RunRange, &mut TakePart<'_>) -> Result<(), Error> + Sync),
    take: &mut TakePart<'_>,
    waited: &AtomicU64,
) -> Result<(), Error> {
    let channels = units.into_iter().map(|unit| {
        let (sender, receiver) = sync_channel(AHEAD);
        ((unit, sender), receiver)
    });
    let (waiting, told): (VecDeque<_>, Vec<Receiver<Told>>) = channels.unzip();
    let waiting: Waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for backend in backends {
            let waiting = &waiting;
            scope.spawn(move || serve(*backend, waiting, run));
        }
        let taken = told.iter().try_for_each(|told| {
            let mut next = || {
                let start = Instant::now();
                let told = told.recv();
                let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                waited.fetch_add(took, Ordering::Relaxed);
                // it ends early where a device's thread panicked, which the scope passes on
                told.unwrap_or_else(|_| Told::Done(Err(unwanted())))
            };
            take_unit(&mut next, take)
        });
        // after a failure nobody begins another unit, and whoever has one finds that it is not wanted
        lock(&waiting).clear();
        drop(told);
        taken
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // a panic elsewhere leaves the queue whole
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes units until none waits.
fn serve<B>(
    backend: &B,
    waiting: &Waiting,
    run: &impl Fn(&B, RunRange, &mut TakePart<'_>) -> Result<(), Error>,
) {
    let next = || lock(waiting).pop_front();
    while let Some((unit, to)) = next() {
        let mut take = |first: Cursor, pairs: &[PairRuns], told: bool, work: &mut Work<'_>| {
            let hand = |told| to.send(told).map_err(|_| unwanted());
            hand(Told::Part(first, pairs.to_vec(), told))?;
            let plan = work(&mut Remote(&to))?;
            hand(Told::Executed(plan))
        };
        let done = run(backend, unit, &mut take);
        // whoever has gone does not want to know
        let _ = to.send(Told::Done(done));
    }
}

/// Hands on what a device tells of a unit.
fn take_unit(next: &mut dyn FnMut() -> Told, take: &mut TakePart<'_>) -> Result<(), Error> {
    loop {
        match next() {
            Told::Part(first, pairs, announced) => {
                take(first, &pairs, announced, &mut |sink| replay(next, sink))?;
            }
            Told::Done(done) => return done,
            // between parts there are no results
            _ => return Err(unwanted()),
        }
    }
}

/// Passes results on as if they were read now.
fn replay(next: &mut dyn FnMut() -> Told, sink: &mut dyn Sink) -> Result<Plan, Error> {
    loop {
        let flow = match next() {
            Told::Pair(pair, clean) => sink.pair(pair, &clean),
            Told::Run(pair, run, readouts) => sink.run(pair, run, readouts),
            Told::Collected(pair, collection) => sink.collected(pair, collection),
            Told::Executed(plan) => return Ok(plan),
            Told::Done(Err(error)) => return Err(error),
            Told::Part(..) | Told::Done(Ok(())) => ControlFlow::Break(()),
        };
        if flow.is_break() {
            return Err(unwanted());
        }
    }
}

fn unwanted() -> Error {
    ExecuteError::Interrupted.into()
}

/// A sink on another thread.
struct Remote<'a>(&'a SyncSender<Told>);

impl Remote<'_> {
    fn tell(&self, told: Told) -> ControlFlow<()> {
        match self.0.send(told) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

impl Sink for Remote<'_> {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        self.tell(Told::Pair(pair, clean.clone()))
    }

    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        self.tell(Told::Run(pair, run, readouts))
    }

    fn collected(&mut self, pair: usize, collection: Collection) -> ControlFlow<()> {
        self.tell(Told::Collected(pair, collection))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::folder::error::FolderError;

    /// Runs that come, by their numbers.
    struct Came {
        runs: Vec<usize>,
        most: usize,
    }

    impl Sink for Came {
        fn pair(&mut self, _: usize, _: &PairReadouts) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn run(&mut self, _: usize, run: usize, _: Vec<Readout>) -> ControlFlow<()> {
            self.runs.push(run);
            match self.runs.len() < self.most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }
    }

    /// Units of as many runs, one after the other.
    fn units(count: usize, runs: usize) -> Vec<RunRange> {
        let from = |unit: usize| Cursor::new(0, unit * runs);
        (0..count).map(|unit| from(unit)..from(unit + 1)).collect()
    }

    /// Hands on each run of a unit.
    fn each(unit: &RunRange, take: &mut TakePart<'_>) -> Result<(), Error> {
        let runs = unit.start.run..unit.end.run;
        take(unit.start, &[], false, &mut |sink| {
            for run in runs.clone() {
                if sink.run(0, run, Vec::new()).is_break() {
                    return Err(unwanted());
                }
            }
            Ok(Plan::default())
        })
    }

    fn shared(
        devices: &[&usize],
        units: Vec<RunRange>,
        most: usize,
        run: &(impl Fn(&usize, RunRange, &mut TakePart<'_>) -> Result<(), Error> + Sync),
    ) -> (Vec<usize>, Result<(), Error>) {
        let runs = Vec::new();
        let mut came = Came { runs, most };
        let mut take =
            |_: Cursor, _: &[PairRuns], _, work: &mut Work<'_>| work(&mut came).map(|_| ());
        let done = share(devices, units, run, &mut take, &AtomicU64::new(0));
        (came.runs, done)
    }

    #[test]
    fn every_device_takes_units_and_results_come_in_order() {
        // no device ends its first unit before each has one
        let (all, first) = (Barrier::new(3), Mutex::new(vec![true; 3]));
        let run = |device: &usize, unit: RunRange, take: &mut TakePart<'_>| {
            if std::mem::take(&mut lock(&first)[*device]) {
                all.wait();
            }
            each(&unit, take)
        };
        let (came, done) = shared(&[&0, &1, &2], units(40, 7), usize::MAX, &run);
        assert!(done.is_ok());
        assert_eq!(came, (0..280).collect::<Vec<_>>());
        assert_eq!(*lock(&first), [false; 3]);
    }

    #[test]
    fn a_unit_that_fails_ends_the_others_behind_what_came_before() {
        let run = |_: &usize, unit: RunRange, take: &mut TakePart<'_>| match unit.start.run {
            21 => Err(FolderError::Foreign {
                path: "x".into(),
                problem: "seven".into(),
            }
            .into()),
            _ => each(&unit, take),
        };
        let (came, done) = shared(&[&0, &1], units(1000, 7), usize::MAX, &run);
        assert!(done.is_err_and(|error| error.to_string().contains("seven")));
        assert_eq!(came, (0..21).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_has_enough_ends_devices_that_wait_with_more() {
        let run = |_: &usize, unit: RunRange, take: &mut TakePart<'_>| each(&unit, take);
        let (came, done) = shared(&[&0, &1], units(4, 2 * AHEAD), 10, &run);
        assert!(done.is_err());
        assert_eq!(came.len(), 10);
        let (came, done) = shared(&[&0, &1], units(4, 2 * AHEAD), usize::MAX, &run);
        assert!(done.is_ok());
        assert_eq!(came.len(), 8 * AHEAD);
    }
}
