//! `headlight bench`: how fast, and how near to what the machine can do.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::setup::Setup;
use super::{Global, print};
use crate::backend::cpu::{Cpu, Real, limits};
use crate::backend::{Backend, Precision};
use crate::bench::{kernels, median, sweep, time_sweep};
use crate::error::Error;

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Operations one by one, or whole sweeps; both unless given
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Kernels,
    Sweep,
}

impl Bench {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let setup = Setup::new(global)?;
        match setup.precision {
            Precision::F64 => self.on::<f64>(&setup),
            _ => self.on::<f32>(&setup),
        }
    }

    fn on<T: Real>(self, setup: &Setup) -> Result<ExitCode, Error> {
        let cpu = Cpu::<T>::new(&setup.model);
        if self.what != Some(What::Sweep) {
            self.kernels::<T>(&cpu)?;
        }
        if self.what != Some(What::Kernels) {
            self.sweeps(&cpu, setup)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn kernels<T: Real>(&self, cpu: &Cpu<'_, T>) -> Result<(), Error> {
        let (peak, copy) = (limits::multiply_add_peak::<T>(), limits::copy_bandwidth());
        let out = &mut std::io::stdout().lock();
        print(out, |out| {
            writeln!(
                out,
                "limits of this machine, measured: {:.0} GFLOP/s fused multiply-add in registers, {:.1} GB/s copy\n",
                peak / 1e9,
                copy / 1e9
            )?;
            writeln!(
                out,
                "{:<48} {:>10} {:>9} {:>8} {:>7}",
                "operation", "µs", "GFLOP/s", "GB/s", "share"
            )
        })?;
        for rows in [16, 512, 4096] {
            for mut kernel in kernels(cpu, rows, 16) {
                let seconds = median(&mut kernel.run).as_secs_f64();
                // attention over short prompts moves more than it multiplies
                let (flops, bytes) = (kernel.flops / seconds, kernel.bytes / seconds);
                let share = (flops / peak).max(if kernel.flops > 0.0 {
                    0.0
                } else {
                    bytes / copy
                });
                let flops = if kernel.flops > 0.0 {
                    format!("{:.1}", flops / 1e9)
                } else {
                    "-".into()
                };
                print(out, |out| {
                    writeln!(
                        out,
                        "{:<48} {:>10.1} {:>9} {:>8.1} {:>6.0}%",
                        kernel.name,
                        seconds * 1e6,
                        flops,
                        bytes / 1e9,
                        share * 100.0
                    )
                })?;
            }
        }
        print(out, |out| writeln!(out))
    }

    fn sweeps<T: Real>(&self, cpu: &Cpu<'_, T>, setup: &Setup) -> Result<(), Error> {
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
        let limits = setup.limits(setup.memory(None));
        for length in [5, 15, 64]
            .into_iter()
            .filter(|n| *n <= cpu.config().context)
        {
            let runs = sweep(cpu, length, 1440);
            time_sweep(
                cpu,
                &crate::bench::sweep(cpu, length, 50),
                limits.memory,
                limits.stop,
            )?;
            let (plan, outcome, executed, seconds) =
                time_sweep(cpu, &runs, limits.memory, limits.stop)?;
            print(out, |out| {
                writeln!(
                    out,
                    "{:<30} {:>6} {:>9.3} {:>10.0} {:>9.1} {:>14} {:>14} {:>14}",
                    format!("{length} tokens"),
                    runs.runs.len(),
                    seconds,
                    runs.runs.len() as f64 / seconds,
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
