//! A thread that owns an engine, and how others ask it.
//!
//! One question at a time runs; others wait for their turn. Whoever asks gives up the interpreter meanwhile and
//! looks every few hundredths of a second whether a signal came, upon which the engine is stopped and the exception
//! goes on: at once, even where what is under way takes longer to end. Whoever asks next waits for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use headlight::{Engine, Error};
use pyo3::prelude::*;

use crate::fault::Fault;

/// How long a signal may wait to be seen.
const GLANCE: Duration = Duration::from_millis(40);

/// How long an exception waits for the engine to stop.
const GRACE: Duration = Duration::from_millis(80);

/// How often progress is told of at most.
const TELL: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce(&Engine) + Send>;

/// The other end of an engine's thread.
pub struct Worker {
    jobs: Mutex<Sender<(Arc<Ticket>, Job)>>,
    stop: Arc<AtomicBool>,
    running: Arc<Mutex<Option<Arc<Ticket>>>>,
    process: u32,
}

/// One question's place in the queue.
#[derive(Default)]
struct Ticket(Mutex<Turn>);

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    #[default]
    Waits,
    Runs,
    /// Done, or not to be begun.
    Over,
}

/// How far a question is.
#[derive(Default)]
pub struct Progress {
    /// Runs that were read out.
    pub done: AtomicU64,
    /// Of how many; 0 until that is known.
    pub total: AtomicU64,
    /// The engine's own count, and what it was, where results come all at once.
    counted: OnceLock<(Arc<AtomicU64>, u64)>,
}

impl Progress {
    /// Counts what the engine does from here on, of so many runs.
    pub fn follow(&self, engine: &Engine, total: u64) {
        let passed = engine.passed();
        let before = passed.load(Ordering::Relaxed);
        drop(self.counted.set((passed, before)));
        self.total.store(total, Ordering::Relaxed);
    }

    /// What is done, and of how much.
    fn so_far(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        let done = match self.counted.get() {
            Some((passed, before)) => passed.load(Ordering::Relaxed) - before,
            None => self.done.load(Ordering::Relaxed),
        };
        (done.min(total), total)
    }
}

/// A callback of Python's with what it is told of.
pub struct Watched {
    /// Called with done, total and seconds.
    pub call: Option<Py<PyAny>>,
    /// Of the question.
    pub progress: Arc<Progress>,
}

impl Watched {
    /// Progress that this is told of, if it is something.
    pub fn by(call: Option<Py<PyAny>>) -> Self {
        Self {
            call,
            progress: Arc::default(),
        }
    }

    /// Progress that nobody asks for.
    pub fn nobody() -> Self {
        Self::by(None)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // what is kept in them is whole at any time
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something whose panic is no more than an error.
fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
        Err(Fault::Panic(
            text.unwrap_or_else(|| "no reason given".into()),
        ))
    })
}

impl Worker {
    /// Starts a thread, on which the engine is made; `describe` reads off it what others want to know.
    pub fn start<T: Send + 'static>(
        py: Python<'_>,
        make: impl FnOnce() -> Result<Engine, Error> + Send + 'static,
        describe: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> PyResult<(Self, T)> {
        let (jobs, queue) = channel::<(Arc<Ticket>, Job)>();
        let (made, ready) = channel();
        let running: Arc<Mutex<Option<Arc<Ticket>>>> = Arc::default();
        let at = running.clone();
        let work = move || {
            let engine = caught(|| {
                make().map_err(|error| match error {
                    // of a model that is there, only its device can be in the way
                    Error::Usage(said) => Fault::Device(said),
                    error => error.into(),
                })
            });
            let engine = match engine {
                Ok(engine) => engine,
                Err(fault) => return drop(made.send(Err(fault))),
            };
            let stop = engine.stop();
            drop(made.send(Ok((stop.clone(), describe(&engine)))));
            for (ticket, job) in queue {
                {
                    let mut turn = lock(&ticket.0);
                    if *turn == Turn::Over {
                        continue;
                    }
                    *turn = Turn::Runs;
                    stop.store(false, Ordering::Relaxed);
                }
                *lock(&at) = Some(ticket.clone());
                job(&engine);
                *lock(&at) = None;
                *lock(&ticket.0) = Turn::Over;
                stop.store(false, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new()
            .name("headlight".into())
            .spawn(work)?;
        let (stop, described) = beside(py, ready)?;
        let worker = Self {
            jobs: Mutex::new(jobs),
            stop,
            running,
            process: std::process::id(),
        };
        Ok((worker, described))
    }

    /// Has something done by the engine, and waits for it.
    pub fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        watched: &Watched,
        job: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
    ) -> PyResult<T> {
        if std::process::id() != self.process {
            let why = "this model was opened before the process forked, and its threads did not come along: \
                       open it in the worker, or start workers by spawn or forkserver";
            return Err(Fault::Gone(why).raise(py));
        }
        let (done, answer) = channel();
        let ticket = Arc::new(Ticket::default());
        let job: Job = Box::new(move |engine| {
            drop(done.send(caught(|| job(engine))));
        });
        let sent = lock(&self.jobs).send((ticket.clone(), job));
        sent.map_err(|_| Fault::Gone("the engine's thread has ended").raise(py))?;
        wait(py, answer, watched, || self.cancel_one(&ticket))
    }

    /// Stops what runs, if something does.
    pub fn cancel(&self) {
        let running = lock(&self.running).clone();
        if let Some(ticket) = running {
            self.cancel_one(&ticket);
        }
    }

    fn cancel_one(&self, ticket: &Ticket) {
        let mut turn = lock(&ticket.0);
        match *turn {
            Turn::Waits => *turn = Turn::Over,
            // the engine cannot go on to another question meanwhile
            Turn::Runs => self.stop.store(true, Ordering::Relaxed),
            Turn::Over => {}
        }
    }
}

/// Has something done on a thread of its own.
pub fn aside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (done, answer) = channel();
    let work = move || drop(done.send(caught(|| Ok(work()))));
    std::thread::Builder::new().spawn(work)?;
    beside(py, answer)
}

/// Waits for what owns all that it reads, with the interpreter given up: a signal's exception leaves it behind.
fn beside<T: Send>(py: Python<'_>, answer: Receiver<Result<T, Fault>>) -> PyResult<T> {
    let answer = Mutex::new(answer);
    loop {
        match py.detach(|| lock(&answer).recv_timeout(GLANCE)) {
            Ok(answer) => return answer.map_err(|fault| fault.raise(py)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::Gone("the engine's thread has ended").raise(py));
            }
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
        }
    }
}

/// Waits with the interpreter given up; a signal's exception calls `cancel`, and goes on once the work is over, or
/// soon.
fn wait<T: Send>(
    py: Python<'_>,
    answer: Receiver<Result<T, Fault>>,
    watched: &Watched,
    cancel: impl Fn(),
) -> PyResult<T> {
    let gone = || Fault::Gone("the engine's thread has ended").raise(py);
    let answer = Mutex::new(answer);
    let (start, mut told) = (Instant::now(), Instant::now());
    loop {
        match py.detach(|| lock(&answer).recv_timeout(GLANCE)) {
            Ok(answer) => return answer.map_err(|fault| fault.raise(py)),
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut looked = py.check_signals();
        if let (Ok(()), Some(call)) = (&looked, &watched.call)
            && told.elapsed() >= TELL
        {
            told = Instant::now();
            let (done, total) = watched.progress.so_far();
            let called = call.call1(py, (done, total, start.elapsed().as_secs_f64()));
            looked = called.map(drop);
        }
        if let Err(error) = looked {
            cancel();
            // what still runs keeps all that it reads
            let _ = py.detach(|| lock(&answer).recv_timeout(GRACE));
            return Err(error);
        }
    }
}
