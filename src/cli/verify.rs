//! `headlight verify`: every operation, forward and back, and whole runs against double precision; or what others have published of
//! a model.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::setup::Setup;
use super::{Global, note, print};
use crate::backend::Precision;
use crate::backend::adjoint::Adjoints;
use crate::backend::cpu::Cpu;
use crate::error::Error;
use crate::published::{self, Compared, Figures};
use crate::text::counted;
use crate::verify::{Comparison, Gates, adjoints, operations, runs};

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0, conflicts_with = "published")]
    seed: u64,
    /// Instead compute what others have published of this model, OpenAI's GPT-2 small or XL or the demo, and say
    /// how far off it is
    #[arg(long, value_name = "DIR|HUB_ID|demo")]
    published: Option<String>,
    /// The folder `data` of hannamw/EAP-IG-faithfulness, fetched by you: figures of its data sets are computed too
    #[arg(long, value_name = "DIR", requires = "published")]
    data_sets: Option<PathBuf>,
}

impl Verify {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if let Some(model) = &self.published {
            return self.published(model, global);
        }
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

    fn published(&self, model: &str, global: &Global) -> Result<ExitCode, Error> {
        if global.model != super::DEMO && global.model != model {
            return Err(Error::Usage(format!(
                "--published {model} names the model, and --model {} another: give one of them",
                global.model
            )));
        }
        let global = Global {
            model: model.to_owned(),
            ..global.clone()
        };
        let setup = Setup::quiet(&global)?;
        let figures = Figures::of(&setup.engine.model().config)?;
        setup.announce();
        let bar = setup.bar(1, "{spinner} {pos} figures, {elapsed}: {msg}");
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut each = |line: &Compared| {
            bar.inc(1);
            bar.set_message(line.what.clone());
        };
        let folder = self.data_sets.as_deref();
        let found = published::compare(&setup.engine, &figures, folder, &mut each)?;
        bar.finish_and_clear();
        let over = found.lines.iter().filter(|line| !line.passes()).count();
        print(&mut std::io::stdout().lock(), |out| {
            let engine = &setup.engine;
            writeln!(
                out,
                "{} beside what is published of {}, {} on {}\n",
                engine.model().name,
                figures.model.name,
                engine.precision().name(),
                engine.device().name(),
            )?;
            write_lines(&found.lines, out)
        })?;
        if !found.left_out.is_empty() {
            note(format_args!(
                "left out: figures of {}, which are at github.com/hannamw/EAP-IG-faithfulness; --data-sets DIR names its folder data",
                counted(found.left_out.len(), "data set"),
            ));
        }
        Ok(ExitCode::from(u8::from(over > 0)))
    }

    fn compare<S: Adjoints>(
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
        all.extend(adjoints(reference, subject, gates, self.seed, &mut each)?);
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

/// A line a figure, under the name of who published it.
fn write_lines(lines: &[Compared], out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let wide = |of: &dyn Fn(&Compared) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let what = wide(&|line| line.what.chars().count() + 2).max("what".len());
    writeln!(
        out,
        "{:what$}  numbers   published        here  {:>8}  {:>8}  verdict",
        "what", "off", "gate"
    )?;
    let mut by = "";
    for line in lines {
        if line.by != by {
            by = &line.by;
            writeln!(out, "{by}")?;
        }
        let verdict = if line.passes() { "ok" } else { "OVER" };
        writeln!(
            out,
            "  {:rest$}  {:>7}  {:>10.5}  {:>10.5}  {:>8.1e}  {:>8.1e}  {verdict}",
            line.what,
            line.count,
            line.published,
            line.here,
            line.off(),
            line.within,
            rest = what - 2
        )?;
    }
    let numbers: usize = lines.iter().map(|line| line.count).sum();
    let over = lines.iter().filter(|line| !line.passes()).count();
    writeln!(
        out,
        "\n{}, of which the worst of each line is shown; {} of {} over their gate",
        counted(numbers, "number"),
        over,
        counted(lines.len(), "line")
    )
}
