//! The result table and its metrics: what every command that patches writes, and how it says so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::files::Files;
use super::setup::Setup;
use super::topk::candidates;
use crate::error::Error;
use crate::execute::{Outcome, Plan};
use crate::prompt::pair::PairRuns;
use crate::report;
use crate::report::{TopkFormat, one_line, write_topk};
use crate::results::metric;
use crate::results::metric::{Metric, Quantity};
use crate::results::summary::Summary;
use crate::results::table::{Provenance, Table};
use crate::text::counted;

/// Where the table goes, and what stands in it.
#[derive(Debug, Args)]
pub struct TableFile {
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    pub out: Option<PathBuf>,
    /// Metrics, each a column: rank, logit_diff, prob_diff, kl, top1, entropy, or recovery_ before
    /// one of these or prob, logprob, logit
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metric: Vec<Metric>,
}

impl TableFile {
    /// Refuses a file that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        match self.path() {
            Some(out) => Ok(report::check_writable(out)?),
            None => Ok(()),
        }
    }

    /// What is written: the table, and what may stand beside it.
    pub fn files(&self, files: Files) -> Files {
        let out = self.path();
        files
            .writes("--out", out)
            .writes("the provenance of --out", out.map(report::meta_path))
            .writes("the averages of --out", out.map(report::summary_path))
    }

    /// Refuses metrics that some pair has no answers for, and averages that could not be written.
    pub fn check_pairs(&self, pairs: &[PairRuns], averages: bool) -> Result<(), Error> {
        metric::check(&self.metric, pairs)?;
        if let Some(out) = self.path().filter(|_| averages) {
            report::check_summary(out)?;
        }
        Ok(())
    }

    /// What arrays hold where no metric is named: logit_diff if all pairs have wrong answers, else
    /// the targets' probability.
    pub fn arrays_metric(&mut self, pairs: &[PairRuns]) {
        if self.metric.is_empty() {
            let differ = pairs.iter().all(|p| !p.pair.wrong.is_empty());
            self.metric.push(Metric::plain(match differ {
                true => Quantity::LogitDiff,
                false => Quantity::Prob,
            }));
        }
    }

    /// The file that the table goes to, if it goes to one.
    pub fn path(&self) -> Option<&Path> {
        self.out.as_deref().filter(|out| *out != Path::new("-"))
    }

    /// Whether the table goes to standard output, and everything else past it.
    pub fn is_stdout(&self) -> bool {
        self.out.as_deref() == Some(Path::new("-"))
    }

    /// How the result was made; the hash reads every weight, so only a file has it.
    pub fn provenance(&self, setup: &Setup, pairs: &[PairRuns]) -> Provenance {
        match self.out {
            Some(_) => setup.provenance(pairs),
            None => setup.provenance_without_hash(pairs),
        }
    }

    /// Writes the table's file, and the averages beside it; which files these are.
    pub fn write(&self, table: &Table, averages: Option<&Summary>) -> Result<Vec<PathBuf>, Error> {
        let mut written = Vec::new();
        if let Some(path) = self.path() {
            report::write(table, path)?;
            written.push(path.to_owned());
            if let Some(averages) = averages {
                report::write_summary(averages, &table.provenance, path)?;
                written.push(report::summary_path(path));
            }
        }
        Ok(written)
    }

    /// Writes the table to standard output, if it goes there. The reader of a pipe may go away: files
    /// stand by then.
    pub fn write_stdout(&self, table: &Table) -> Result<(), Error> {
        if self.is_stdout() {
            report::write_csv(table, std::io::stdout().lock())?;
        }
        Ok(())
    }

    /// Where text for people goes: past the table.
    pub fn people(&self) -> Box<dyn Write> {
        match self.is_stdout() {
            true => Box::new(std::io::stderr().lock()),
            false => Box::new(std::io::stdout().lock()),
        }
    }
}

/// Both prompts' most probable tokens, as the reference tutorial prints them.
pub fn write_prompts(
    setup: &Setup,
    pairs: &[PairRuns],
    outcome: &Outcome,
    rows: usize,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    const SHOWN: usize = 3;
    let text = |ids: &[u32]| match &setup.model.tokenizer {
        Some(tokenizer) => one_line(&tokenizer.decode(ids)),
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
        let more = counted(pairs.len() - SHOWN, "more pair");
        writeln!(out, "\n… and {more}, {rows} rows in all")?;
    }
    Ok(())
}

/// How many rows say nothing, where some do.
pub fn write_lost(lost: usize, rows: usize, out: &mut dyn Write) -> std::io::Result<()> {
    match lost {
        0 => Ok(()),
        1 => writeln!(
            out,
            "\n1 of {} is not finite: what its patches wrote overflowed or divided by zero",
            counted(rows, "row")
        ),
        _ => writeln!(
            out,
            "\n{lost} of {rows} rows are not finite: what their patches wrote overflowed or divided by zero"
        ),
    }
}

/// How long it took, and which files were written.
pub fn write_done(
    plan: &Plan,
    time: Duration,
    written: &[PathBuf],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let (runs, copied, seconds) = (plan.count, plan.copied, time.as_secs_f64());
    let skipped = match copied {
        0 => String::new(),
        1 => "; 1 skipped: it writes what stands there already, or no readout sees it".to_owned(),
        _ => format!(
            "; {copied} skipped: they write what stands there already, or no readout sees them"
        ),
    };
    writeln!(
        out,
        "\n{} in {seconds:.3} s ({:.0} runs/s, {:.1} GFLOP/s{skipped})",
        counted(runs, "run"),
        runs as f64 / seconds,
        plan.flops() as f64 / seconds / 1e9,
    )?;
    for path in written {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
