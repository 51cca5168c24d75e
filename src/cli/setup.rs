//! What every computing command sets up: the model, the device, the memory, and a way to stop.

#[cfg(feature = "cuda")]
use std::cell::OnceCell;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::device::Choice;
use super::{Global, note};
use crate::backend::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::cuda::{Cuda, Device};
use crate::backend::{Backend, Precision};
use crate::error::Error;
use crate::execute;
use crate::execute::{ExecuteError, Limits, Outcome};
use crate::model::Checkpoint;
use crate::prompt::pair::PairRuns;
use crate::results::metric::Metric;
use crate::results::rows::pairs_provenance;
use crate::results::table::Provenance;

/// A size in bytes, as `512M`, `2G` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: write 512M, 2G or a number of bytes");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(1 << shift)
            .filter(|n| *n > 0)
            .map(Bytes)
            .ok_or_else(wrong)
    }
}

/// The model and the means to run it.
pub struct Setup {
    pub model: Checkpoint,
    pub precision: Precision,
    memory: Option<u64>,
    stop: Arc<AtomicBool>,
    interactive: bool,
    threads: usize,
    device: Choice,
    /// The model on the GPU, once something runs there.
    #[cfg(feature = "cuda")]
    cuda: OnceCell<Cuda>,
}

/// Something to do on a backend.
pub trait Task {
    /// What comes of it.
    type Output;

    /// Does it; `memory` is the budget for activations, in bytes.
    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Self::Output, Error>;
}

/// How many threads are used, after `--threads` has been honoured.
pub fn threads(global: &Global) -> usize {
    if let Some(threads) = global.threads {
        // fails only if a pool exists already, which then keeps its size
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global();
    }
    rayon::current_num_threads()
}

impl Setup {
    /// Opens the model and says on standard error where it will run.
    pub fn new(global: &Global) -> Result<Self, Error> {
        let setup = Self::quiet(global)?;
        setup.announce();
        Ok(setup)
    }

    /// Says on standard error where it will run. Called once everything typed has been checked.
    pub fn announce(&self) {
        note(format_args!(
            "device: {}",
            self.device.describe(self.threads)
        ));
    }

    /// Opens the model.
    pub fn quiet(global: &Global) -> Result<Self, Error> {
        let threads = threads(global);
        let model = Checkpoint::resolve(&global.model)?;
        let device = Choice::of(global, &model.config)?;
        let memory = global.memory.map(|bytes| bytes.0);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // a second Ctrl-C does not wait for the layer that is running
        let handler = move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        // fails only if a handler exists already, as in a test that sets up twice
        let _ = ctrlc::set_handler(handler);
        let interactive = std::io::stderr().is_terminal();
        Ok(Self {
            model,
            precision: global.precision,
            memory,
            stop,
            interactive,
            threads,
            device,
            #[cfg(feature = "cuda")]
            cuda: OnceCell::new(),
        })
    }

    /// Does something on the chosen device.
    pub fn on_device<T: Task>(&self, task: T) -> Result<T::Output, Error> {
        match (&self.device, self.precision) {
            (Choice::Cpu(_), Precision::F64) => {
                task.run(&Cpu::<f64>::new(&self.model), self.memory(None))
            }
            (Choice::Cpu(_), _) => task.run(&Cpu::<f32>::new(&self.model), self.memory(None)),
            #[cfg(feature = "cuda")]
            (Choice::Cuda(device, _), _) => {
                let cuda = self.cuda(device)?;
                let (free, _) = device.memory()?;
                task.run(cuda, self.memory(Some(free)))
            }
        }
    }

    /// The budget for activations, in bytes: what was asked for, or a share of what is free, on the
    /// GPU if `free` says how much that is.
    pub fn memory(&self, free: Option<u64>) -> u64 {
        // a tenth is left for what the driver itself takes
        let share = || free.map_or_else(free_memory, |free| free / 10 * 9);
        self.memory.unwrap_or_else(share)
    }

    /// The model on the GPU if that is where things run, uploaded the first time it is asked for.
    #[cfg(feature = "cuda")]
    pub fn on_gpu(&self) -> Result<Option<&Cuda>, Error> {
        match &self.device {
            Choice::Cpu(_) => Ok(None),
            Choice::Cuda(device, _) => self.cuda(device).map(Some),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, device: &Arc<Device>) -> Result<&Cuda, Error> {
        if let Some(cuda) = self.cuda.get() {
            return Ok(cuda);
        }
        let bytes = Cuda::weight_bytes(&self.model.config, self.precision);
        let bar = self.bar(
            bytes,
            "{bar:40} {bytes} of {total_bytes} of weights uploaded",
        );
        let cuda = Cuda::new(device.clone(), &self.model, self.precision, &mut |done| {
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let cuda = cuda.map_err(|why| {
            Error::Usage(format!("the GPU cannot be used: {why}; use --device cpu"))
        })?;
        Ok(self.cuda.get_or_init(|| cuda))
    }

    /// A progress bar that is seen where somebody watches.
    pub fn bar(&self, length: u64, template: &str) -> ProgressBar {
        let target = if self.interactive {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(length.max(1)), target);
        // templates are constants, and well-formed
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    /// Runs pairs with a progress bar, reading what the metrics need, and says how long it took.
    pub fn execute(
        &self,
        pairs: &[PairRuns],
        top: usize,
        metrics: &[Metric],
    ) -> Result<(Outcome, Duration), Error> {
        self.on_device(Execution {
            setup: self,
            pairs,
            top,
            metrics,
        })
    }

    /// Stops what looks for itself whether it should.
    ///
    /// # Errors
    ///
    /// [`ExecuteError::Interrupted`].
    pub fn go_on(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ExecuteError::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Limits for library calls that take them directly.
    pub fn limits(&self, memory: u64) -> Limits<'_> {
        Limits::new(memory).until(&self.stop)
    }

    /// How a result is made, for a file.
    pub fn provenance(&self, pairs: &[PairRuns]) -> Provenance {
        Provenance {
            model_hash: self.model.hash(),
            ..self.provenance_without_hash(pairs)
        }
    }

    /// How a result is made, for the eye: the hash would read every weight.
    pub fn provenance_without_hash(&self, pairs: &[PairRuns]) -> Provenance {
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.name.clone(),
            model_hash: String::new(),
            device: self.device.name(),
            precision: self.precision.name().to_owned(),
            // a path need not be UTF-8
            command: std::env::args_os()
                .map(|a| a.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
            pairs: pairs_provenance(&self.model, pairs),
        }
    }
}

struct Execution<'a> {
    setup: &'a Setup,
    pairs: &'a [PairRuns],
    top: usize,
    metrics: &'a [Metric],
}

impl Task for Execution<'_> {
    type Output = (Outcome, Duration);

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<(Outcome, Duration), Error> {
        let Self {
            setup,
            pairs,
            top,
            metrics,
        } = self;
        execute::check(pairs, backend.config())?;
        let plan = execute::plan(backend, pairs);
        let limits = Limits {
            top,
            ranks: metrics.iter().any(Metric::needs_ranks),
            kl: metrics.iter().any(Metric::needs_kl),
            ..setup.limits(memory)
        };
        let bar = setup.bar(plan.flops(), "{bar:40} {percent:>3}%  {msg}  {eta} left");
        let interactive = setup.interactive;
        let (start, before) = (Instant::now(), backend.executed_flops());
        // the bar is drawn until the sender goes away, which wakes the thread that draws it
        let (running, done) = std::sync::mpsc::channel::<()>();
        let outcome = std::thread::scope(|scope| {
            let bar = &bar;
            scope.spawn(move || {
                while done.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout)
                {
                    let seconds = start.elapsed().as_secs_f64();
                    if seconds > 1.0 && interactive {
                        let executed = (backend.executed_flops() - before).min(plan.flops());
                        let share = executed as f64 / plan.flops().max(1) as f64;
                        bar.set_message(format!(
                            "{:.0} runs/s",
                            share * plan.count as f64 / seconds
                        ));
                        bar.set_position(executed);
                    }
                }
            });
            let outcome = Outcome::of(backend, pairs, &limits);
            drop(running);
            outcome
        });
        bar.finish_and_clear();
        Ok((outcome.map_err(Error::from)?, start.elapsed()))
    }
}

/// A quarter of the memory that is free now.
fn free_memory() -> u64 {
    let free = sysinfo::System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.available_memory()
    });
    (free / 4).max(64 << 20)
}

/// Columns of the terminal that standard output or error is, or 100.
pub fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}
