//! Chunks one after the other, and what was read of them to whoever takes it.
//!
//! The results of a chunk are fetched when the next one has been handed to the device, which so never
//! waits for them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::planner::{Planned, Planner, Runner};
use crate::backend::{Backend, Readout};
use crate::execute::no_op::Questions;
use crate::execute::passes::Passes;
use crate::execute::sink::Delivery;
use crate::execute::{ExecuteError, PairReadouts};
use crate::forward::ActivationCache;

/// Runs chunks of one group.
pub struct Executor<'e, 'p, 's, B: Backend> {
    pub passes: &'e mut Passes<'p, B>,
    pub cache: &'e mut ActivationCache<B::Matrix>,
    pub delivery: &'e mut Delivery<'s>,
    pub planner: Planner<'e>,
    /// What was read of the group's clean prompts.
    pub clean: &'e [PairReadouts],
    /// What was read of each pair's stems.
    pub stems: &'e [Vec<Vec<Readout>>],
    /// The chunk that is on the device.
    running: Option<Running<B>>,
    /// Answers that nobody has fetched.
    answers: VecDeque<Vec<bool>>,
}

/// A chunk on the device.
struct Running<B: Backend> {
    /// Pair and run of what is read out, in order.
    runs: Vec<(usize, usize)>,
    /// Index of the run among `runs` and position of each row.
    rows: Vec<(usize, usize)>,
    readouts: B::Readouts,
}

impl<'e, 'p, 's, B: Backend> Executor<'e, 'p, 's, B> {
    pub fn new(
        passes: &'e mut Passes<'p, B>,
        cache: &'e mut ActivationCache<B::Matrix>,
        delivery: &'e mut Delivery<'s>,
        planner: Planner<'e>,
        (clean, stems): (&'e [PairReadouts], &'e [Vec<Vec<Readout>>]),
    ) -> Self {
        Self {
            passes,
            cache,
            delivery,
            planner,
            clean,
            stems,
            running: None,
            answers: VecDeque::new(),
        }
    }

    /// Plans and runs: a chunk is planned while the one before it runs, where there is a thread for that.
    pub fn stream(
        mut self,
        runs: impl Iterator<Item = (usize, usize)> + Send,
    ) -> Result<(), ExecuteError> {
        let planner = self.planner;
        let plan = match rayon::current_num_threads() {
            1 => planner.stream(runs, &mut self)?,
            _ => thread::scope(|scope| {
                let (work, of_planner) = sync_channel(1);
                let (to_planner, answers) = channel();
                let mut remote = Remote { work, answers };
                let planning = scope.spawn(move || planner.stream(runs, &mut remote));
                let served = self.serve(&of_planner, &to_planner);
                // a planner that still has something to hand on learns that nobody takes it
                drop((of_planner, to_planner));
                let planned = planning.join();
                served?;
                planned.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?,
        };
        self.passes.plan += plan;
        self.finish()
    }

    /// Does what a planner asks for until it has no more.
    fn serve(
        &mut self,
        work: &Receiver<Work>,
        answers: &Sender<Vec<bool>>,
    ) -> Result<(), ExecuteError> {
        for work in work {
            match work {
                Work::Questions(questions) => {
                    let answered = self.passes.ask(&questions, self.cache)?;
                    // a planner that has gone says why itself
                    let _ = answers.send(answered);
                }
                Work::Chunk(planned) => self.run(*planned)?,
            }
        }
        Ok(())
    }

    /// Hands a chunk to the device, and fetches what the one before it gave.
    fn hand_on(&mut self, planned: &Planned) -> Result<(), ExecuteError> {
        let Planned { drawn, chunk, spec } = planned;
        let readouts = self.passes.forward(chunk, self.cache, spec)?;
        let config = self.passes.backend.config();
        self.passes.plan.compared += 2 * (chunk.compared() * config.vocab * config.width) as u64;
        self.finish()?;
        // runs that are kept for others are not read out
        let mut index = vec![0; drawn.len()];
        let mut runs = Vec::with_capacity(drawn.len());
        for (i, d) in drawn.iter().enumerate() {
            index[i] = runs.len();
            if d.kept_as.is_none() {
                runs.push((d.pair, d.run));
            }
        }
        let rows = chunk.readout_of.iter();
        self.running = Some(Running {
            rows: rows
                .map(|(run, position)| (index[*run as usize], *position as usize))
                .collect(),
            runs,
            readouts,
        });
        Ok(())
    }

    /// Waits for the chunk that is on the device and delivers what was read.
    pub fn finish(&mut self) -> Result<(), ExecuteError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let read = self.passes.finish(running.readouts)?;
        let mut read = running.rows.iter().zip(read).peekable();
        let first = self.planner.first;
        for (i, (p, r)) in running.runs.iter().enumerate() {
            self.delivery.pairs(first + p, first, self.clean)?;
            let pair = &self.planner.pairs[*p].pair;
            // what no patch reached is the base's, or the stem's, of which more tokens may have been read
            let top = self.planner.limits.top_of_runs;
            let of_base = |base: &Readout, top: usize| {
                let mut readout = base.clone();
                readout.top.truncate(top);
                readout
            };
            let base = match self.planner.places[*p].stems.of(*r) {
                Some(stem) => self.stems[*p][stem].iter(),
                None => self.clean[*p].base.iter(),
            };
            let readouts: Vec<Readout> = pair
                .readout_positions()
                .into_iter()
                .zip(base)
                .map(|(position, base)| {
                    let own = read.next_if(|(row, _)| **row == (i, position));
                    own.map_or_else(|| of_base(base, top), |(_, readout)| readout)
                })
                .collect();
            self.delivery.run(first + p, *r, readouts)?;
        }
        Ok(())
    }
}

impl<B: Backend> Runner for Executor<'_, '_, '_, B> {
    fn ask(&mut self, questions: Questions) -> Result<(), ExecuteError> {
        let answers = self.passes.ask(&questions, self.cache)?;
        self.answers.push_back(answers);
        Ok(())
    }

    fn answers(&mut self) -> Result<Vec<bool>, ExecuteError> {
        Ok(self.answers.pop_front().unwrap_or_default())
    }

    /// Runs a chunk; where the device has no room for it, its halves.
    fn run(&mut self, planned: Planned) -> Result<(), ExecuteError> {
        match self.hand_on(&planned) {
            Err(error) if error.is_out_of_memory() && planned.drawn.len() > 1 => {
                self.finish()?;
                self.passes.shrink();
                let fits = self.planner.fits;
                fits.store(fits.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
                let mut first = planned.drawn;
                let second = first.split_off(first.len() / 2);
                self.run(self.planner.pack(first))?;
                self.run(self.planner.pack(second))
            }
            done => done,
        }
    }
}

/// What a planner on another thread wants.
enum Work {
    Questions(Questions),
    Chunk(Box<Planned>),
}

/// The device as a planner on another thread sees it.
struct Remote {
    work: SyncSender<Work>,
    answers: Receiver<Vec<bool>>,
}

/// Whoever has the device has gone, and says why itself.
fn gone<E>(_: E) -> ExecuteError {
    ExecuteError::Interrupted
}

impl Runner for Remote {
    fn ask(&mut self, questions: Questions) -> Result<(), ExecuteError> {
        self.work.send(Work::Questions(questions)).map_err(gone)
    }

    fn answers(&mut self) -> Result<Vec<bool>, ExecuteError> {
        self.answers.recv().map_err(gone)
    }

    fn run(&mut self, planned: Planned) -> Result<(), ExecuteError> {
        self.work.send(Work::Chunk(Box::new(planned))).map_err(gone)
    }
}
