//! `headlight edges`: every edge of the residual graph, patched by itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::data::{DataFlags, Fallback};
use super::files::Files;
use super::prompts::{Prompts, default_targets};
use super::setup::{Setup, Task};
use super::table_file::{TableFile, write_done, write_lost, write_prompts};
use super::{Global, print};
use crate::backend::Backend;
use crate::data::{Resolved, RowError};
use crate::error::Error;
use crate::execute::{Limits, Outcome, PairOutcome};
use crate::graph::edge::{Edge, Named, select};
use crate::graph::extent::Extent;
use crate::graph::matrix::{EdgeAxes, Matrices};
use crate::graph::patching::{Batch, check, patch_edges};
use crate::prompt::pair::PairRuns;
use crate::report::{Patched, strongest, write_strongest};
use crate::results::metric::Metric;
use crate::results::summary::Averages;
use crate::results::table::Table;
use crate::{data, report};

/// Flags of `edges`.
#[derive(Debug, Args)]
pub struct Edges {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// What contributes: all, heads, mlps, input, a3, a3.h5 or m2
    #[arg(
        long,
        default_value = "all",
        value_name = "NODES",
        value_delimiter = ','
    )]
    senders: Vec<String>,
    /// What reads: all, heads, mlps, logits, q, k, v, a9, a9.h6, a9.h6<q> (or a9.h6.q) or m5
    #[arg(
        long,
        default_value = "all",
        value_name = "NODES",
        value_delimiter = ','
    )]
    receivers: Vec<String>,
    /// Patch each edge at one position after the other: a run, a row and a place in the arrays for each
    #[arg(long)]
    per_position: bool,
    #[command(flatten)]
    table: TableFile,
    /// The results as matrices, senders × receivers (× positions): .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
}

/// Edges that are named for people.
const STRONGEST: usize = 20;

impl Edges {
    pub fn run(mut self, global: &Global) -> Result<ExitCode, Error> {
        self.table.check()?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref());
        self.table.files(files).check(global)?;
        let (from, to) = (
            named("senders", &self.senders)?,
            named("receivers", &self.receivers)?,
        );
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let edges = select(&from, &to, &setup.model.config)?;
        let averages = rows.is_some();
        let mut pairs = match rows {
            Some(rows) => self.rows(rows, &setup)?,
            None => {
                let pair = self.prompts.pair(global, &setup, &self.data)?;
                check(&pair, &setup.model.config)?;
                let runs = [].into();
                vec![PairRuns { pair, runs }]
            }
        };
        self.table.check_pairs(&pairs, averages)?;
        setup.announce();
        default_targets(&setup, &mut pairs)?;
        if self.arrays.is_some() {
            self.table.arrays_metric(&pairs);
        }
        let metrics = &self.table.metric;
        let extent = self.extent();
        let longest = pairs.iter().map(|p| p.pair.base.len()).max();
        let positions = longest.filter(|_| extent == Extent::PerPosition);
        let axes = EdgeAxes::new(&edges, positions);
        let mut results = Results {
            setup: &setup,
            metrics,
            table: Table {
                metrics: metrics
                    .iter()
                    .filter(|m| !m.is_column())
                    .map(Metric::to_string)
                    .collect(),
                provenance: self.table.provenance(&setup, &pairs),
                ..Table::default()
            },
            keep: self.table.out.is_some(),
            averages: averages.then(|| Averages::new(metrics)),
            matrices: self
                .arrays
                .is_some()
                .then(|| Matrices::new(axes.axes(), metrics)),
            axes: &axes,
            strongest: Table::default(),
            outcome: Outcome::default(),
            rows: 0,
            lost: 0,
        };
        let time = setup.on_device(Patching {
            pairs: &pairs,
            edges: &edges,
            extent,
            results: &mut results,
        })?;
        let Results {
            table,
            matrices,
            averages,
            strongest: top,
            outcome,
            rows,
            lost,
            ..
        } = results;
        let patched = match extent {
            Extent::Whole => Patched::Edge,
            Extent::PerPosition => Patched::EdgeAt,
        };
        let averages = averages.map(Averages::finish);
        let mut written = self.table.write(&table, averages.as_ref())?;
        if let (Some(path), Some(matrices)) = (&self.arrays, matrices) {
            report::write_arrays(&matrices.arrays(), &setup.provenance(&pairs), path)?;
            written.push(path.clone());
        }
        self.table.write_stdout(&table)?;
        print(&mut self.table.people(), |out| {
            write_prompts(&setup, &pairs, &outcome, rows, out)?;
            writeln!(out, "\nstrongest edges")?;
            write_strongest(&strongest(&top, None, STRONGEST), patched, out)?;
            write_lost(lost, rows, out)?;
            write_done(&outcome.plan, time, &written, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn extent(&self) -> Extent {
        match self.per_position {
            true => Extent::PerPosition,
            false => Extent::Whole,
        }
    }

    /// The pairs of a data set; a row whose prompts differ in length is a bad one.
    fn rows(&self, rows: data::Rows, setup: &Setup) -> Result<Vec<PairRuns>, Error> {
        let fallback = Fallback::of(&self.prompts.answers, setup)?;
        let reading = self.data.reading(setup, &fallback)?;
        self.data
            .each(rows, &reading, setup, |example, Resolved { pair, .. }| {
                if let Err(error) = check(&pair, &setup.model.config) {
                    let problem = error.to_string();
                    return Ok(Err(RowError::new(
                        &example.path,
                        &example.place,
                        None,
                        problem,
                    )));
                }
                let runs = [].into();
                Ok(Ok(PairRuns { pair, runs }))
            })
    }
}

/// Nodes by name, each as typed.
pub fn named(flag: &str, names: &[String]) -> Result<Named, Error> {
    let pattern = |name: &String| match name.parse() {
        Ok(pattern) => Ok((name.clone(), pattern)),
        Err(error) => Err(Error::Usage(format!("--{flag}: {error}"))),
    };
    names.iter().map(pattern).collect()
}

/// What is kept of the batches.
struct Results<'a> {
    setup: &'a Setup,
    metrics: &'a [Metric],
    /// The result table; without rows where nobody asked for it.
    table: Table,
    keep: bool,
    averages: Option<Averages>,
    matrices: Option<Matrices>,
    axes: &'a EdgeAxes,
    /// The strongest rows so far.
    strongest: Table,
    /// The clean prompts' readouts, and what was executed.
    outcome: Outcome,
    rows: usize,
    lost: usize,
}

impl Results<'_> {
    /// Adds edges of the pair of this index.
    fn add(&mut self, pair: usize, batch: &Batch) {
        let Some(read) = batch.outcome.pairs.first() else {
            return;
        };
        if self.outcome.pairs.len() == pair {
            self.outcome.pairs.push(PairOutcome {
                base: read.base.clone(),
                source: read.source.clone(),
                ..PairOutcome::default()
            });
        }
        self.outcome.plan += batch.outcome.plan;
        if let Some(matrices) = &mut self.matrices {
            let places = batch.edges.iter().map(|edge| self.axes.place(edge));
            let places: Vec<Option<usize>> = places.collect();
            matrices.add(pair, &batch.pair.pair, read, &places);
        }
        let rows = batch.rows(&self.setup.model, self.metrics, pair);
        if let Some(averages) = &mut self.averages {
            averages.add(&mut rows.iter(), &batch.pair.pair, read);
        }
        self.rows += rows.len();
        self.lost += rows.iter().filter(|row| !row.logprob.is_finite()).count();
        let batch = Table {
            rows,
            ..Table::default()
        };
        let best = strongest(&batch, None, STRONGEST).into_iter().cloned();
        self.strongest.rows.extend(best);
        let best = strongest(&self.strongest, None, STRONGEST).into_iter();
        self.strongest.rows = best.cloned().collect();
        if self.keep {
            self.table.rows.extend(batch.rows);
        }
    }
}

struct Patching<'a, 'b> {
    pairs: &'a [PairRuns],
    edges: &'a [Edge],
    extent: Extent,
    results: &'a mut Results<'b>,
}

impl Task for Patching<'_, '_> {
    type Output = Duration;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Duration, Error> {
        let Self {
            pairs,
            edges,
            extent,
            results,
        } = self;
        let setup = results.setup;
        let limits = Limits {
            top: 10,
            ranks: results.metrics.iter().any(Metric::needs_ranks),
            kl: results.metrics.iter().any(Metric::needs_kl),
            ..setup.limits(memory)
        };
        let each = |p: &PairRuns| edges.len() * extent.positions(p.pair.base.len()).len();
        let bar: ProgressBar = setup.bar(
            pairs.iter().map(each).sum::<usize>() as u64,
            "{bar:40} {percent:>3}%  {per_sec} edges  {eta} left",
        );
        let start = Instant::now();
        for (p, PairRuns { pair, .. }) in pairs.iter().enumerate() {
            patch_edges(
                backend,
                &setup.model,
                pair,
                edges,
                extent,
                &limits,
                |batch| {
                    results.add(p, &batch);
                    bar.inc(batch.edges.len() as u64);
                },
            )?;
        }
        bar.finish_and_clear();
        Ok(start.elapsed())
    }
}
