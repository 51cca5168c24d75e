//! What `sweep` and `run` read of their runs, and where it goes: files, and text for people.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::print;
use super::setup::{Setup, columns};
use super::topk::candidates;
use crate::backend::Readout;
use crate::error::Error;
use crate::report::{
    self, HeatMap, ReportError, TopkFormat, strongest, write_strongest, write_topk,
};
use crate::sweep::execute::{Outcome, PairOutcome};
use crate::sweep::metric::{self, Metric};
use crate::sweep::pair::{Pair, PairRuns};
use crate::sweep::results::table;
use crate::sweep::summary::summary;
use crate::sweep::table::{Provenance, Table};

/// Where results go.
#[derive(Debug, Args)]
pub struct Output {
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
    /// Heat map: .svg or .png by its ending
    #[arg(long, value_name = "F")]
    plot: Option<PathBuf>,
    /// Metrics, each a column: rank, logit_diff, prob_diff, kl, top1, entropy, or recovery_ before
    /// one of these or prob, logprob, logit
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metric: Vec<Metric>,
    /// Colour in the terminal
    #[arg(long, value_enum, default_value = "auto")]
    colour: Colour,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Output {
    /// Refuses files that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(out) = self.out.as_deref().filter(|out| *out != Path::new("-")) {
            report::check_writable(out)?;
        }
        if let Some(plot) = &self.plot {
            report::check_plot(plot)?;
        }
        Ok(())
    }

    /// Refuses metrics that some pair has no answers for, and averages that could not be written.
    pub fn check_pairs(&self, pairs: &[PairRuns], averages: bool) -> Result<(), Error> {
        metric::check(&self.metric, pairs)?;
        if let Some(out) = self.table_file().filter(|_| averages) {
            report::check_summary(out)?;
        }
        Ok(())
    }

    /// The file that the table goes to, if it goes to one.
    fn table_file(&self) -> Option<&Path> {
        self.out.as_deref().filter(|out| *out != Path::new("-"))
    }

    /// The column that is drawn: the first metric, else the probability.
    fn drawn(&self) -> String {
        let first = self.metric.first();
        first.map_or_else(|| "prob".to_owned(), Metric::to_string)
    }

    /// Refuses a plot of runs that have no place in one, before anything is computed.
    pub fn check_plot(&self, setup: &Setup, pairs: &[PairRuns]) -> Result<(), Error> {
        if self.plot.is_none() {
            return Ok(());
        }
        let nothing = |pair: &Pair| {
            vec![Readout {
                logits: vec![0.0; pair.answers().len()],
                ..Readout::default()
            }]
        };
        let read = |PairRuns { pair, runs }: &PairRuns| PairOutcome {
            base: nothing(pair),
            source: None,
            runs: vec![nothing(pair); runs.len()],
            collected: Vec::new(),
        };
        let outcome = Outcome {
            pairs: pairs.iter().map(read).collect(),
            ..Outcome::default()
        };
        HeatMap::new(
            &table(&setup.model, pairs, &outcome, &[], Provenance::default()),
            "prob",
        )?;
        Ok(())
    }

    /// Writes files, and the same for people.
    pub fn write(
        &self,
        setup: &Setup,
        pairs: &[PairRuns],
        outcome: &Outcome,
        time: Duration,
        averages: bool,
    ) -> Result<ExitCode, Error> {
        let to_stdout = self.out.as_deref() == Some(Path::new("-"));
        // the hash reads every weight: only a file needs it
        let provenance = if self.out.is_some() {
            setup.provenance(pairs)
        } else {
            setup.provenance_without_hash(pairs)
        };
        let table = table(&setup.model, pairs, outcome, &self.metric, provenance);
        let mut written = Vec::new();
        if let Some(path) = self.table_file() {
            report::write(&table, path)?;
            written.push(path.to_owned());
            if averages {
                let summary = summary(&table, pairs, outcome, &self.metric);
                report::write_summary(&summary, &table.provenance, path)?;
                written.push(report::summary_path(path));
            }
        }
        let map = match HeatMap::new(&table, &self.drawn()) {
            Ok(map) => Some(map),
            // runs of several patches have no place in a grid; only who asked for a plot minds
            Err(ReportError::NothingToPlot(_)) if self.plot.is_none() => None,
            Err(error) => return Err(error.into()),
        };
        if let (Some(path), Some(map)) = (&self.plot, &map) {
            report::plot(map, path)?;
            written.push(path.clone());
        }
        // the reader of a pipe may go away; files stand by then
        if to_stdout {
            report::write_csv(&table, std::io::stdout().lock())?;
        }
        let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
        let terminal = if to_stdout {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        let out: &mut dyn Write = if to_stdout { &mut stderr } else { &mut stdout };
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        print(out, |out| {
            say(setup, pairs, outcome, &table, out)?;
            if let Some(map) = &map {
                writeln!(out)?;
                report::render(map, columns(), colour, out)?;
                writeln!(out, "\nstrongest")?;
                write_strongest(&strongest(&table, None, 10), out)?;
            }
            let lost = table
                .rows
                .iter()
                .filter(|row| !row.logprob.is_finite())
                .count();
            if lost > 0 {
                let all = table.rows.len();
                writeln!(
                    out,
                    "\n{lost} of {all} rows are not finite: what their patches wrote overflowed or divided by zero"
                )?;
            }
            writeln!(out)?;
            let (runs, copied) = (outcome.plan.count, outcome.plan.copied);
            writeln!(
                out,
                "{runs} runs in {:.3} s ({:.0} runs/s, {:.1} GFLOP/s; {copied} could change nothing)",
                time.as_secs_f64(),
                runs as f64 / time.as_secs_f64(),
                outcome.plan.flops() as f64 / time.as_secs_f64() / 1e9,
            )?;
            for path in &written {
                writeln!(out, "wrote {}", path.display())?;
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Both prompts' most probable tokens, as the reference tutorial prints them.
fn say(
    setup: &Setup,
    pairs: &[PairRuns],
    outcome: &Outcome,
    table: &Table,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    const SHOWN: usize = 3;
    let text = |ids: &[u32]| match &setup.model.tokenizer {
        Some(tokenizer) => ids
            .iter()
            .map(|id| tokenizer.decode_raw(*id))
            .collect::<String>(),
        None => format!("{ids:?}"),
    };
    for (i, (PairRuns { pair, .. }, read)) in
        pairs.iter().zip(&outcome.pairs).take(SHOWN).enumerate()
    {
        if i > 0 {
            writeln!(out)?;
        }
        if let Some(base) = read.base.last() {
            writeln!(out, "base:   {}", text(&pair.base))?;
            write_topk(&candidates(&setup.model, base), TopkFormat::Table, out)?;
        }
        if let (Some(source), Some(ids)) = (&read.source, &pair.source) {
            writeln!(out, "\nsource: {}", text(ids))?;
            write_topk(&candidates(&setup.model, source), TopkFormat::Table, out)?;
        }
    }
    if pairs.len() > SHOWN {
        writeln!(
            out,
            "\n… and {} more pairs, {} rows in all",
            pairs.len() - SHOWN,
            table.rows.len()
        )?;
    }
    Ok(())
}
