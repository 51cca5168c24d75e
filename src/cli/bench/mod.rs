//! `headlight bench`: how fast, and how near to what the machine can do.

mod cpu;
#[cfg(feature = "cuda")]
mod gpu;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::setup::Setup;
use super::{Global, print};
use crate::backend::{Backend, Precision};
use crate::bench::{sweep, time_sweep};
use crate::engine::{Engine, Task};
use crate::error::Error;

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Operations one by one, or whole sweeps; both unless given
    #[arg(value_enum)]
    what: Option<What>,
    /// The smallest shapes, few repeats and caches as they are: whether it runs, and roughly how fast
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Kernels,
    Sweep,
}

impl Bench {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let (setup, quick) = (Setup::new(global)?, self.quick);
        if self.what != Some(What::Sweep) {
            kernels(&setup.engine, quick)?;
        }
        if self.what != Some(What::Kernels) {
            let engine = &setup.engine;
            engine.on_device(Sweeps { engine, quick })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Operations one by one, where things run.
fn kernels(engine: &Engine, quick: bool) -> Result<(), Error> {
    #[cfg(feature = "cuda")]
    if let Some(cuda) = engine.on_gpu()? {
        return gpu::kernels(cuda, engine, quick);
    }
    match engine.precision() {
        Precision::F64 => cpu::kernels::<f64>(engine, quick),
        _ => cpu::kernels::<f32>(engine, quick),
    }
}

/// Whole sweeps, by the wall clock.
struct Sweeps<'a> {
    engine: &'a Engine,
    quick: bool,
}

impl Task for Sweeps<'_> {
    type Output = ();

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<(), Error> {
        let out = &mut std::io::stdout().lock();
        print(out, |out| {
            writeln!(
                out,
                "{:<30} {:>6} {:>9} {:>10} {:>9} {:>14} {:>14} {:>14}",
                "sweep (z and v, all heads)",
                "runs",
                "seconds",
                "runs/s",
                "GFLOP/s",
                "planned before",
                "planned exact",
                "executed"
            )
        })?;
        let limits = self.engine.limits(memory);
        let (lengths, most, enough): (&[_], _, _) = if self.quick {
            (&[5], 50, 0.0)
        } else {
            (&[5, 15, 64], 1440, 2.0)
        };
        let context = backend.config().context;
        for length in lengths.iter().copied().filter(|n| *n <= context) {
            let time = |most| {
                let runs = sweep(backend, length, most);
                let timed = time_sweep(backend, &runs, limits.memory, limits.stop)?;
                Ok::<_, Error>((runs.runs.len(), timed))
            };
            time(50)?;
            // a sweep that is over in no time is run more than once, and the median counts
            let mut all: Vec<f64> = Vec::new();
            let (runs, (plan, outcome, executed, _)) = loop {
                let (runs, timed) = time(most)?;
                all.push(timed.3);
                if all.len() >= 20 || all.iter().sum::<f64>() >= enough {
                    break (runs, timed);
                }
            };
            all.sort_unstable_by(f64::total_cmp);
            let seconds = all[all.len() / 2];
            print(out, |out| {
                writeln!(
                    out,
                    "{:<30} {:>6} {:>9.3} {:>10.0} {:>9.1} {:>14} {:>14} {:>14}",
                    format!("{length} tokens"),
                    runs,
                    seconds,
                    runs as f64 / seconds,
                    executed as f64 / seconds / 1e9,
                    plan.flops(),
                    outcome.plan.flops(),
                    executed,
                )
            })?;
        }
        Ok(())
    }
}
