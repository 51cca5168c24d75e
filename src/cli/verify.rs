//! `headlight verify`: every operation and whole runs against double precision.

use std::process::ExitCode;

use clap::Args;

use super::setup::Setup;
use super::{Global, print};
use crate::backend::Precision;
use crate::backend::cpu::Cpu;
use crate::error::Error;
use crate::verify::{Gates, operations, runs};

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
        let (reference, subject) = (Cpu::<f64>::new(&setup.model), Cpu::<f32>::new(&setup.model));
        let gates = Gates::of(Precision::F32);
        let mut all = operations(&reference, &subject, gates, self.seed)?;
        let limits = setup.limits();
        all.extend(runs(
            &reference,
            &subject,
            gates,
            self.seed,
            limits.memory,
            limits.stop,
        )?);
        let over = all.iter().filter(|c| !c.passes()).count();
        print(&mut std::io::stdout().lock(), |out| {
            writeln!(out, "cpu f32 against cpu f64 on {}", setup.model.name)?;
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
                "{:wide$}  {:>9}  {:>9}  {:>9}",
                "what", "error", "worst", "gate"
            )?;
            for c in &all {
                let verdict = if c.passes() { "" } else { "  OVER" };
                writeln!(
                    out,
                    "{:wide$}  {:>9.1e}  {:>9.1e}  {:>9.1e}{verdict}",
                    c.what, c.error, c.worst, c.gate
                )?;
            }
            writeln!(out, "\n{} comparisons, {over} over their gate", all.len())
        })?;
        Ok(ExitCode::from(u8::from(over > 0)))
    }
}
