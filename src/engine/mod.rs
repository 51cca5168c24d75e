//! A model on a device, and what can be asked of it: what the command line does, for programs.
//!
//! [`Engine::open`] takes a model by name, folder or hub id and [`Engine::of`] one that is open already; device,
//! precision, threads and memory are chosen before it is built. A question ([`Question`]) is some pairs with
//! their runs, in the command line's own words; its results stream to whatever gathers them, or are collected.

mod answer;
mod attribution;
mod circuit;
mod data;
mod device;
mod experiments;
mod identity;
mod lens;
mod logits;
mod operator;
mod pair;
mod pairs;
mod question;
mod shared;
mod spaces;
mod speed;
mod sweep;
pub mod words;

#[cfg(feature = "cuda")]
use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use self::answer::Answer;
pub use self::attribution::{
    ABSOLUTE, Agreement, Attributed, EXACT, SCORE, ScoreColumns, Verification,
};
pub use self::circuit::{Curve, Evaluated, Searched};
pub use self::data::{Fallback, RowOptions};
pub use self::device::{Choice, DeviceWish};
pub use self::logits::{EachLogits, LogitsOf};
pub use self::pair::{PairBuilder, PatchBuilder};
pub use self::pairs::Pairs;
pub use self::question::{ArrayAxes, Form, Question};
pub use self::sweep::{Sweep, Where};
use crate::ask::grid::IndexRange;
use crate::backend::adjoint::Adjoints;
use crate::backend::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::cuda::{Cuda, Device};
use crate::backend::{Backend, Precision};
use crate::check::CheckError;
use crate::data::{Example, Reading};
use crate::error::Error;
use crate::execute::activations::{Activation, activations};
use crate::execute::{ExecuteError, Limits, Outcome, Sink, execute};
use crate::graph::contribution::of_head;
use crate::model::Checkpoint;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::Position;
use crate::results::candidate::Candidate;
use crate::results::metric::Metric;
use crate::results::rows::{pairs_provenance, raw};
use crate::results::table::Provenance;
use crate::site::Component;
use crate::text::command_line;

/// A model on a device.
pub struct Engine {
    model: Checkpoint,
    precision: Precision,
    memory: Option<u64>,
    threads: usize,
    device: Choice,
    stop: Arc<AtomicBool>,
    /// How long the device was waited for, in nanoseconds.
    computing: AtomicU64,
    /// How many runs are done of those whose results come all at once.
    passed: Arc<AtomicU64>,
    #[cfg(feature = "cuda")]
    uploading: Box<Uploading>,
    /// The model on each GPU, once something runs there.
    #[cfg(feature = "cuda")]
    cuda: Vec<OnceCell<Cuda>>,
}

/// Told how many bytes of weights, of how many, are on the GPU.
type Uploading = dyn Fn(u64, u64);

/// How a model is put on a device.
pub struct EngineBuilder {
    model: Model,
    device: DeviceWish,
    precision: Precision,
    threads: Option<NonZeroUsize>,
    memory: Option<u64>,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))] // nothing is uploaded
    uploading: Box<Uploading>,
}

/// A model that is open, or will be.
enum Model {
    Named(String),
    Open(Checkpoint),
}

/// Something to do on a backend.
pub(crate) trait Task {
    /// What comes of it.
    type Output;

    /// Does it; `memory` is the budget for activations, in bytes.
    fn run<B: Adjoints>(self, backend: &B, memory: u64) -> Result<Self::Output, Error>;
}

/// Something to do on one backend or several of one kind.
pub(crate) trait SharedTask {
    /// What comes of it.
    type Output;

    /// Does it; `memory` is the budget for activations on each, in bytes.
    fn run<B: Adjoints>(self, backends: &[&B], memory: u64) -> Result<Self::Output, Error>;
}

/// What is not shared out.
struct OnFirst<T>(T);

impl<T: Task> SharedTask for OnFirst<T> {
    type Output = T::Output;

    fn run<B: Adjoints>(self, backends: &[&B], memory: u64) -> Result<Self::Output, Error> {
        self.0.run(backends[0], memory)
    }
}

impl EngineBuilder {
    /// Where to compute; the GPU if there is one unless said.
    #[must_use]
    pub fn device(self, device: DeviceWish) -> Self {
        Self { device, ..self }
    }

    /// In what numbers; single precision unless said.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How many threads; all cores unless said. They are the process's, and the first engine that says
    /// how many has its way.
    #[must_use]
    pub fn threads(self, threads: Option<NonZeroUsize>) -> Self {
        Self { threads, ..self }
    }

    /// Bytes for activations; a quarter of the memory that is free (nine tenths on a GPU) unless said.
    #[must_use]
    pub fn memory(self, memory: Option<u64>) -> Self {
        Self { memory, ..self }
    }

    /// Tells how many bytes of weights, of how many, are on the GPU while they are uploaded.
    #[must_use]
    pub fn uploading(self, uploading: impl Fn(u64, u64) + 'static) -> Self {
        Self {
            uploading: Box::new(uploading),
            ..self
        }
    }

    /// Opens the model and chooses the device.
    ///
    /// # Errors
    ///
    /// [`Error::Model`]; [`Error::Usage`]: a GPU was asked for, or a precision that only GPUs have, and something that
    /// it needs is missing.
    pub fn build(self) -> Result<Engine, Error> {
        if let Some(threads) = self.threads {
            // fails only if a pool exists already, which then keeps its size
            let _ = rayon::ThreadPoolBuilder::new()
                .num_threads(threads.get())
                .build_global();
        }
        let model = match self.model {
            Model::Named(name) => Checkpoint::resolve(&name)?,
            Model::Open(model) => model,
        };
        let device = Choice::of(&self.device, self.precision, &model.config)?;
        Ok(Engine {
            #[cfg(feature = "cuda")]
            cuda: match &device {
                Choice::Cpu(_) => Vec::new(),
                Choice::Cuda(devices, _) => devices.iter().map(|_| OnceCell::new()).collect(),
            },
            device,
            model,
            precision: self.precision,
            memory: self.memory,
            threads: rayon::current_num_threads(),
            stop: Arc::default(),
            computing: AtomicU64::default(),
            passed: Arc::default(),
            #[cfg(feature = "cuda")]
            uploading: self.uploading,
        })
    }
}

impl Engine {
    /// A model by its name: `demo`, a folder, or a hub id.
    pub fn open(name: &str) -> EngineBuilder {
        Self::with(Model::Named(name.to_owned()))
    }

    /// A model that is open, such as one of tensors in memory ([`Checkpoint::from_bytes`]).
    pub fn of(model: Checkpoint) -> EngineBuilder {
        Self::with(Model::Open(model))
    }

    fn with(model: Model) -> EngineBuilder {
        EngineBuilder {
            model,
            device: DeviceWish::Auto,
            precision: Precision::F32,
            threads: None,
            memory: None,
            uploading: Box::new(|_, _| ()),
        }
    }

    /// The model.
    pub fn model(&self) -> &Checkpoint {
        &self.model
    }

    /// In what numbers things run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// How many threads the CPU uses.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Where things run.
    pub fn device(&self) -> &Choice {
        &self.device
    }

    /// Ends whatever is running between two layers, from another thread, once it is set; what was asked then
    /// fails with [`ExecuteError::Interrupted`].
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Ends what looks for itself whether it should.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ExecuteError::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Limits for library calls that take them directly.
    pub(crate) fn limits(&self, memory: u64) -> Limits<'_> {
        Limits::new(memory)
            .until(&self.stop)
            .timed(&self.computing)
            .counted(&self.passed)
    }

    /// Grows by the runs that are done of an attribution or of circuits, whose results come all at once; they are
    /// as many as [`Question::attribution_runs`] and [`Question::circuit_runs`] say.
    pub fn passed(&self) -> Arc<AtomicU64> {
        self.passed.clone()
    }

    /// How long the device was waited for since the engine was built.
    pub fn computing(&self) -> Duration {
        Duration::from_nanos(self.computing.load(Ordering::Relaxed))
    }

    /// Does something on the chosen device, of several the first.
    pub(crate) fn on_device<T: Task>(&self, task: T) -> Result<T::Output, Error> {
        self.on(1, OnFirst(task))
    }

    /// Does something on all devices that were chosen.
    pub(crate) fn on_devices<T: SharedTask>(&self, task: T) -> Result<T::Output, Error> {
        self.on(usize::MAX, task)
    }

    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] // a CPU is one device
    fn on<T: SharedTask>(&self, most: usize, task: T) -> Result<T::Output, Error> {
        match (&self.device, self.precision) {
            (Choice::Cpu(_), Precision::F64) => {
                task.run(&[&Cpu::<f64>::new(&self.model)], self.memory(None))
            }
            (Choice::Cpu(_), _) => task.run(&[&Cpu::<f32>::new(&self.model)], self.memory(None)),
            #[cfg(feature = "cuda")]
            (Choice::Cuda(devices, _), _) => {
                let devices = &devices[..most.min(devices.len())];
                let cuda = devices.iter().zip(&self.cuda);
                let cuda = cuda.map(|(device, cell)| self.cuda(device, cell));
                let cuda: Vec<&Cuda> = cuda.collect::<Result<_, _>>()?;
                let mut least = u64::MAX;
                for device in devices {
                    least = least.min(device.memory()?.0);
                }
                task.run(&cuda, self.memory(Some(least)))
            }
        }
    }

    /// The budget for activations, in bytes: what was asked for, or a share of what is free, on the
    /// GPU if `free` says how much that is.
    pub(crate) fn memory(&self, free: Option<u64>) -> u64 {
        // a tenth is left for what the driver itself takes
        let share = || free.map_or_else(free_memory, |free| free / 10 * 9);
        self.memory.unwrap_or_else(share)
    }

    /// The budget for activations on the chosen device, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] of a GPU that does not say how much memory is free.
    pub fn budget(&self) -> Result<u64, Error> {
        match &self.device {
            Choice::Cpu(_) => Ok(self.memory(None)),
            #[cfg(feature = "cuda")]
            Choice::Cuda(devices, _) => Ok(self.memory(Some(devices[0].memory()?.0))),
        }
    }

    /// The model on the GPU if that is where things run, uploaded the first time it is asked for.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(&self) -> Result<Option<&Cuda>, Error> {
        match &self.device {
            Choice::Cpu(_) => Ok(None),
            Choice::Cuda(devices, _) => self.cuda(&devices[0], &self.cuda[0]).map(Some),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda<'c>(&self, device: &Arc<Device>, cell: &'c OnceCell<Cuda>) -> Result<&'c Cuda, Error> {
        if let Some(cuda) = cell.get() {
            return Ok(cuda);
        }
        let all = Cuda::weight_bytes(&self.model.config, self.precision);
        let cuda = Cuda::new(device.clone(), &self.model, self.precision, &mut |done| {
            (self.uploading)(done, all);
        });
        (self.uploading)(all, all);
        let cuda = cuda.map_err(|why| {
            Error::Usage(format!("the GPU cannot be used: {why}; use --device cpu"))
        })?;
        Ok(cell.get_or_init(|| cuda))
    }

    /// Runs pairs, and hands what is read to a sink: what the metrics need, and the `top` most probable tokens
    /// of each clean prompt.
    ///
    /// # Errors
    ///
    /// [`Error::Execute`]: pairs that do not fit the model, a budget too small, or an interruption.
    pub fn execute(
        &self,
        pairs: &[PairRuns],
        reads: ReadoutOptions<'_>,
        sink: &mut dyn Sink,
    ) -> Result<crate::execute::Plan, Error> {
        struct Execution<'a>(
            &'a Engine,
            &'a [PairRuns],
            ReadoutOptions<'a>,
            &'a mut dyn Sink,
        );
        impl Task for Execution<'_> {
            type Output = crate::execute::Plan;

            fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Self::Output, Error> {
                let Self(engine, pairs, reads, sink) = self;
                Ok(execute(
                    backend,
                    pairs,
                    &reads.limits(engine.limits(memory)),
                    sink,
                )?)
            }
        }
        self.on_device(Execution(self, pairs, reads, sink))
    }

    /// The same, collected: about a kilobyte a run.
    ///
    /// # Errors
    ///
    /// As [`Engine::execute`].
    pub fn outcome(&self, pairs: &[PairRuns], reads: ReadoutOptions<'_>) -> Result<Outcome, Error> {
        struct Collecting<'a>(&'a Engine, &'a [PairRuns], ReadoutOptions<'a>);
        impl Task for Collecting<'_> {
            type Output = Outcome;

            fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Outcome, Error> {
                let Self(engine, pairs, reads) = self;
                Ok(Outcome::of(
                    backend,
                    pairs,
                    &reads.limits(engine.limits(memory)),
                )?)
            }
        }
        self.on_device(Collecting(self, pairs, reads))
    }

    /// The most probable next tokens of a prompt, at most so many.
    ///
    /// # Errors
    ///
    /// [`Error::Check`] for a prompt that does not fit the model; as [`Engine::execute`].
    pub fn topk(&self, ids: &[u32], number: usize) -> Result<Vec<Candidate>, Error> {
        Ok(self.topk_of(&[ids], number)?.pop().unwrap_or_default())
    }

    /// The same of several prompts.
    ///
    /// # Errors
    ///
    /// As [`Engine::topk`].
    pub fn topk_of(&self, prompts: &[&[u32]], number: usize) -> Result<Vec<Vec<Candidate>>, Error> {
        let mut pairs = Vec::with_capacity(prompts.len());
        for ids in prompts {
            let pair = Pair {
                base: ids.to_vec(),
                ..Pair::default()
            };
            crate::check::check_pair(&pair, &self.model.config)?;
            let runs = [].into();
            pairs.push(PairRuns { pair, runs });
        }
        let reads = ReadoutOptions::top(number.min(self.model.config.vocab));
        let outcome = self.outcome(&pairs, reads)?;
        let top = outcome.pairs.iter().map(|pair| {
            let read = pair.base.first();
            read.map_or(Vec::new(), |read| Candidate::all(&self.model, read))
        });
        Ok(top.collect())
    }

    /// A prompt's clean activations at some sites, a component and its layer each (none outside the layers).
    ///
    /// # Errors
    ///
    /// [`Error::Grid`] and [`Error::Check`] for a layer that the model has not, or that is missing or too many; as
    /// [`Engine::execute`].
    pub fn cache(
        &self,
        ids: &[u32],
        sites: &[(Component, Option<usize>)],
    ) -> Result<Vec<Activation>, Error> {
        struct Export<'a>(&'a Engine, &'a [u32], &'a [(Component, Option<usize>)]);
        impl Task for Export<'_> {
            type Output = Vec<Activation>;

            fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Self::Output, Error> {
                let Self(engine, ids, sites) = self;
                Ok(activations(backend, ids, sites, &engine.limits(memory))?)
            }
        }
        let layers = self.model.config.layers;
        for (component, layer) in sites {
            let problem = match layer {
                Some(_) if component.is_global() => {
                    "stands outside the layers: give no layer".into()
                }
                None if !component.is_global() => {
                    format!("needs a layer: layers are 0 to {}", layers - 1)
                }
                Some(layer) => {
                    IndexRange::Some(vec![*layer]).of(layers, "layer")?;
                    continue;
                }
                None => continue,
            };
            let site = component.name();
            return Err(CheckError::Shape { site, problem }.into());
        }
        let mut found = self.on_device(Export(self, ids, sites))?;
        for (activation, (component, layer)) in found.iter_mut().zip(sites) {
            if let (true, Some(layer)) = (component.is_made_of_z(), layer) {
                let [heads, positions, d] = activation.shape[..] else {
                    continue;
                };
                let z = activation.values.chunks_exact(positions * d).enumerate();
                let each = z.flat_map(|(head, z)| of_head(&self.model, *layer, head, z));
                activation.values = each.collect();
                activation.shape = vec![heads, positions, self.model.config.width];
            }
        }
        Ok(found)
    }

    /// How a result of some pairs is made; with the hash of the model, for which every weight is read, or
    /// without.
    pub fn provenance(&self, pairs: &[PairRuns], hash: bool) -> Provenance {
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.name.clone(),
            model_hash: if hash {
                self.model.hash()
            } else {
                String::new()
            },
            device: self.device.name(),
            precision: self.precision.name().to_owned(),
            // a path need not be UTF-8
            command: command_line(
                std::env::args_os().map(|word| word.to_string_lossy().into_owned()),
            ),
            pairs: pairs_provenance(&self.model, pairs),
            part: None,
        }
    }

    /// The most probable token after a position of each prompt, the last one unless said.
    pub(crate) fn tops<'p>(
        &self,
        prompts: impl Iterator<Item = (&'p Vec<u32>, Option<usize>)>,
    ) -> Result<Vec<Option<u32>>, Error> {
        let clean = |(base, at): (&Vec<u32>, Option<usize>)| PairRuns {
            pair: Pair {
                base: base.clone(),
                readouts: at.into_iter().collect(),
                ..Pair::default()
            },
            runs: [].into(),
        };
        let prompts: Vec<PairRuns> = prompts.map(clean).collect();
        let outcome = self.outcome(&prompts, ReadoutOptions::top(1))?;
        let top = outcome.pairs.iter().map(|read| {
            let base = read.base.last();
            base.and_then(|read| read.top.first()).map(|(id, _)| *id)
        });
        Ok(top.collect())
    }

    /// A pair that was typed, read out at a position by number or name instead of the last one, in each of its
    /// prompts.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where that is nowhere, or several tokens.
    pub fn read_at(&self, pair: Pair, at: &Position) -> Result<Pair, Error> {
        let reading = Reading {
            at: Some(at),
            ..Reading::of_positions(&self.model, Some(&[]), false)
        };
        let example = Example::of_ids(pair.base.clone(), pair.source.clone());
        let resolved = reading.resolve(&example);
        let found = resolved.map_err(|error| Error::Usage(format!("--at: {}", error.problem)))?;
        Ok(Pair {
            readouts: found.pair.readouts,
            source_readout: found.pair.source_readout,
            ..pair
        })
    }

    /// Gives pairs without targets the most probable token after either prompt.
    ///
    /// # Errors
    ///
    /// As [`Engine::execute`].
    pub fn default_targets(&self, pairs: &mut [PairRuns]) -> Result<(), Error> {
        let without = pairs.iter_mut().filter(|p| p.pair.targets.is_empty());
        let mut without: Vec<&mut Pair> = without.map(|p| &mut p.pair).collect();
        if without.is_empty() {
            return Ok(());
        }
        let prompts = without.iter().flat_map(|pair| {
            let source = pair.source.as_ref().map(|ids| (ids, pair.source_readout));
            std::iter::once((&pair.base, pair.readouts.last().copied())).chain(source)
        });
        let mut tops = self.tops(prompts)?.into_iter();
        for pair in &mut without {
            let count = 1 + usize::from(pair.source.is_some());
            for top in tops.by_ref().take(count).flatten() {
                if !pair.targets.contains(&top) {
                    pair.targets.push(top);
                }
            }
        }
        Ok(())
    }

    /// A token's text, or its id in brackets without a tokenizer.
    pub fn token(&self, id: u32) -> String {
        raw(&self.model, id)
    }
}

/// What is read of runs beyond their targets.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadoutOptions<'a> {
    /// How many of the most probable tokens of each clean prompt.
    pub top: usize,
    /// How many of each run.
    pub top_of_runs: usize,
    /// What will be computed of them.
    pub metrics: &'a [Metric],
}

impl ReadoutOptions<'_> {
    /// So many tokens of each clean prompt.
    pub fn top(top: usize) -> Self {
        Self {
            top,
            ..Self::default()
        }
    }

    fn limits<'l>(&self, limits: Limits<'l>) -> Limits<'l> {
        Limits {
            // a run that no patch reaches says what its base does
            top: self.top.max(self.top_of_runs),
            top_of_runs: self.top_of_runs,
            ranks: self.metrics.iter().any(Metric::needs_ranks),
            kl: self.metrics.iter().any(Metric::needs_kl),
            loss: self.metrics.iter().any(Metric::needs_loss),
            ..limits
        }
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
