//! What `sweep`, `path` and `run` read of their runs, and where it goes: files, and text for people.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::files::Files;
use super::picture::Picture;
use super::print;
use super::setup::Setup;
use super::table_file::{TableFile, write_done, write_lost, write_prompts};
use crate::backend::Readout;
use crate::error::Error;
use crate::execute::{Outcome, PairOutcome};
use crate::prompt::pair::{Pair, PairRuns};
use crate::report::{HeatMap, Patched, ReportError, strongest, write_strongest};
use crate::results::metric::Metric;
use crate::results::rows::table;
use crate::results::summary::summary;
use crate::results::table::{Provenance, Table};

/// Where results go.
#[derive(Debug, Args)]
pub struct Output {
    #[command(flatten)]
    pub table: TableFile,
    #[command(flatten)]
    picture: Picture,
}

/// What was read of some pairs' runs.
pub struct Results<'a> {
    pub pairs: &'a [PairRuns],
    pub outcome: &'a Outcome,
    pub time: Duration,
    pub table: Table,
    /// What a row patches.
    pub what: Patched,
    /// What stands under the heat map.
    pub notes: Vec<String>,
}

impl Output {
    /// Refuses files that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        self.table.check()?;
        self.picture.check()
    }

    /// What is written.
    pub fn files(&self, files: Files) -> Files {
        let files = self.table.files(files);
        files.writes("--plot", self.picture.plot.as_deref())
    }

    /// The column that is drawn: the first metric, else the probability.
    fn drawn(&self) -> String {
        let first = self.table.metric.first();
        first.map_or_else(|| "prob".to_owned(), Metric::to_string)
    }

    /// Refuses a plot of runs that have no place in one, before anything is computed. `say` is what
    /// becomes of their rows before they are drawn.
    pub fn check_plot(
        &self,
        setup: &Setup,
        pairs: &[PairRuns],
        say: impl Fn(&mut Table),
    ) -> Result<(), Error> {
        if self.picture.plot.is_none() {
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
            runs: runs
                .iter()
                .map(|run| match run.step {
                    true => Vec::new(),
                    false => nothing(pair),
                })
                .collect(),
            collected: Vec::new(),
        };
        let outcome = Outcome {
            pairs: pairs.iter().map(read).collect(),
            ..Outcome::default()
        };
        let mut table = table(&setup.model, pairs, &outcome, &[], Provenance::default());
        say(&mut table);
        HeatMap::new(&table, "prob")?;
        Ok(())
    }

    /// What was read of runs, as a table.
    pub fn tabulate<'a>(
        &self,
        setup: &Setup,
        pairs: &'a [PairRuns],
        (outcome, time): (&'a Outcome, Duration),
    ) -> Results<'a> {
        let provenance = self.table.provenance(setup, pairs);
        Results {
            pairs,
            outcome,
            time,
            table: table(&setup.model, pairs, outcome, &self.table.metric, provenance),
            what: Patched::Site,
            notes: Vec::new(),
        }
    }

    /// Writes files, and the same for people.
    pub fn write(
        &self,
        setup: &Setup,
        results: &Results<'_>,
        averages: bool,
    ) -> Result<ExitCode, Error> {
        let Results {
            pairs,
            outcome,
            time,
            table,
            what,
            notes,
        } = results;
        let metrics = &self.table.metric;
        let averages = averages && self.table.path().is_some();
        let averages = averages.then(|| summary(table, pairs, outcome, metrics));
        let mut written = self.table.write(table, averages.as_ref())?;
        let mut map = HeatMap::new(table, &self.drawn());
        if let Ok(map) = &mut map {
            map.notes.extend(notes.iter().cloned());
        }
        // runs of several patches have no place in a grid, and several runs none in one cell; only who
        // asked for a plot minds
        let map = match map {
            Ok(map) => Some(map),
            Err(ReportError::NothingToPlot(_) | ReportError::Crowded { .. })
                if self.picture.plot.is_none() =>
            {
                None
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(map) = &map {
            self.picture.write(map, &mut written)?;
        }
        self.table.write_stdout(table)?;
        print(&mut self.table.people(), |out| {
            write_prompts(setup, pairs, outcome, table.rows.len(), out)?;
            if let Some(map) = &map {
                writeln!(out)?;
                self.picture.render(map, &self.table, out)?;
            }
            if !table.rows.is_empty() {
                writeln!(out, "\nstrongest")?;
                write_strongest(&strongest(table, None, 10), *what, out)?;
            }
            let lost = table.rows.iter().filter(|row| !row.logprob.is_finite());
            write_lost(lost.count(), table.rows.len(), out)?;
            write_done(&outcome.plan, *time, &written, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
