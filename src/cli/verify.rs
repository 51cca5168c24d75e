//! `headlight verify`: every operation and whole runs against double precision.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::setup::Setup;
use super::{Global, print};
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Precision};
use crate::error::Error;
use crate::verify::{Comparison, Gates, operations, runs};

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Verify {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let setup = Setup::new(global)?;
        let mut over = 0;
        // the CPU in single precision is checked whatever runs the rest
        if setup.engine.precision().on_cpu() {
            let (model, f32) = (setup.engine.model(), Gates::of(Precision::F32));
            let all = self.compare(
                &Cpu::<f64>::new(model),
                &Cpu::<f32>::new(model),
                f32,
                &setup,
            )?;
            over += report("cpu f32", &setup, &all)?;
        }
        #[cfg(feature = "cuda")]
        if let Some(gpu) = setup.engine.on_gpu()? {
            let precision = setup.engine.precision();
            let reference = Cpu::<f64>::rounded(setup.engine.model(), precision);
            let all = self.compare(&reference, gpu, Gates::of(precision), &setup)?;
            let who = format!("{} {}", gpu.device().name, precision.name());
            over += report(&who, &setup, &all)?;
        }
        Ok(ExitCode::from(u8::from(over > 0)))
    }

    fn compare<S: Backend>(
        &self,
        reference: &Cpu<f64>,
        subject: &S,
        gates: Gates,
        setup: &Setup,
    ) -> Result<Vec<Comparison>, Error> {
        let bar = setup.bar(1, "{spinner} {pos} comparisons, {elapsed}: {msg}");
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut each = |comparison: &Comparison| {
            bar.inc(1);
            bar.set_message(comparison.what.clone());
        };
        let mut all = operations(reference, subject, gates, self.seed, &mut each)?;
        let limits = setup.engine.limits(setup.engine.memory(None));
        let seed = self.seed;
        all.extend(runs(
            reference,
            subject,
            gates,
            seed,
            limits.memory,
            limits.stop,
            &mut each,
        )?);
        bar.finish_and_clear();
        Ok(all)
    }
}

/// Prints a table; how many comparisons are over their gates.
fn report(who: &str, setup: &Setup, all: &[Comparison]) -> Result<usize, Error> {
    let over = all.iter().filter(|c| !c.passes()).count();
    print(&mut std::io::stdout().lock(), |out| {
        writeln!(
            out,
            "{who} against cpu f64 on {}",
            setup.engine.model().name
        )?;
        writeln!(
            out,
            "operations: relative error of the whole result and of its worst row"
        )?;
        writeln!(out, "runs: |Δ log-probability|, mean and worst\n")?;
        let wide = all
            .iter()
            .map(|c| c.what.chars().count())
            .max()
            .unwrap_or(0);
        writeln!(
            out,
            "{:wide$}  {:>9}  {:>9}  {:>9}  verdict",
            "what", "error", "worst", "gate"
        )?;
        for c in all {
            let verdict = if c.passes() { "ok" } else { "OVER" };
            writeln!(
                out,
                "{:wide$}  {:>9.1e}  {:>9.1e}  {:>9.1e}  {verdict}",
                c.what, c.error, c.worst, c.gate
            )?;
        }
        writeln!(out, "\n{} comparisons, {over} over their gate\n", all.len())
    })?;
    Ok(over)
}
