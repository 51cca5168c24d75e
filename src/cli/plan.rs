//! `headlight plan`: what a command would run, and no run of it.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::kept::PlannedRows;
use super::progress::duration;
use super::setup::Setup;
use super::table_file::TableFile;
use super::{Command, edges, lens, path, print, run, sweep, trace};
use crate::engine::Question;
use crate::error::Error;
use crate::folder::cut::{Weighed, cut};
use crate::results::kept::MOST_ROWS;

/// Flags of `plan`.
#[derive(Debug, Args)]
pub struct PlanCommand {
    #[command(subcommand)]
    pub command: PlannedCommand,
    /// A table for people or one JSON object
    #[arg(
        long = "format",
        global = true,
        value_enum,
        default_value = "table",
        value_name = "table|json"
    )]
    pub format: PlanFormat,
}

/// How a plan is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Commands that can be planned, with their own flags.
#[derive(Debug, Subcommand)]
pub enum PlannedCommand {
    /// A sweep
    Sweep(Box<sweep::SweepFlags>),
    /// Edges
    Edges(Box<edges::Edges>),
    /// Paths
    Path(Box<path::Path>),
    /// A causal tracing
    Trace(Box<trace::Trace>),
    /// A lens
    Lens(Box<lens::LensFlags>),
    /// An experiment file
    Run(Box<run::RunFile>),
}

impl From<PlannedCommand> for Command {
    fn from(planned: PlannedCommand) -> Self {
        match planned {
            PlannedCommand::Sweep(command) => Self::Sweep(command),
            PlannedCommand::Edges(command) => Self::Edges(command),
            PlannedCommand::Path(command) => Self::Path(command),
            PlannedCommand::Trace(command) => Self::Trace(command),
            PlannedCommand::Lens(command) => Self::Lens(command),
            PlannedCommand::Run(command) => Self::Run(command),
        }
    }
}

/// What is planned; the names are those of `--format json`.
#[derive(Debug, Serialize)]
struct Said {
    /// Pairs of prompts.
    pairs: usize,
    /// Runs that are read out.
    runs: u64,
    /// Of them those that no readout sees, as far as tokens tell, so that nothing is computed for them.
    skipped: u64,
    /// Rows that runs have.
    rows: u64,
    /// What is written: `rows`, or `means` over pairs alone.
    written: &'static str,
    /// Of more rows than these, means alone are written, unless --rows says otherwise.
    most_rows: u64,
    /// Floating-point operations, at most.
    flops: u64,
    /// Bytes of what is written as Parquet, about.
    bytes: u64,
    /// Bytes that activations may take beside the weights.
    memory: u64,
    /// Bytes of the weights.
    weights: u64,
    /// Seconds, about, on this machine.
    seconds: f64,
    /// Floating-point operations a second that this goes by.
    flops_per_second: f64,
    /// Parts of a folder, and shards.
    parts: usize,
    /// Shards of it.
    shards: usize,
    /// Seconds of the longest shard.
    shard_seconds: f64,
}

/// Bytes of a row as Parquet: three numbers that hardly repeat and what repeats, and each metric (docs/scale.md).
const ROW: u64 = 16;
const METRIC: u64 = 6;

/// Bytes of an average, and of each metric's moments.
const AVERAGE: u64 = 16;
const MOMENTS: u64 = 28;

/// What a run takes beside its operations, in seconds: its tables, its readout, its row.
const RUN: f64 = 12e-6;

/// Says what a question would run.
pub fn write(
    setup: &Setup,
    file: &TableFile,
    (question, planned): (&Question<'_>, &PlannedRows),
    format: PlanFormat,
) -> Result<ExitCode, Error> {
    let PlannedRows {
        costs,
        weighed,
        kept,
        ..
    } = planned;
    let (_, shards) = file.parts.shard()?;
    let limit = file
        .parts
        .limit(setup.engine.device().is_gpu(), planned.kept);
    let cut = cut(weighed, shards, limit);
    let parts = || cut.iter().flatten();
    let speed = setup.engine.speed()?;
    let seconds = |flops: u64, runs: u64| flops as f64 / speed + runs as f64 * RUN;
    let (runs, flops) = (
        parts().map(|part| part.runs).sum(),
        parts().map(|part| part.flops).sum(),
    );
    let rows: u64 = parts().map(|part| part.rows).sum();
    let of_shard = cut.iter().map(|parts| {
        let flops = parts.iter().map(|part| part.flops).sum();
        seconds(flops, parts.iter().map(|part| part.runs).sum())
    });
    let metrics = question.columns().len() as u64;
    let bytes = match planned.is_means() {
        false => rows * (ROW + METRIC * metrics),
        // of pairs that are alike, as many places as one has rows
        true => {
            let places = weighed.iter().map(Weighed::all_rows).max();
            places.unwrap_or(0) * (AVERAGE + MOMENTS * (3 + metrics))
        }
    };
    let said = Said {
        pairs: costs.len(),
        runs,
        skipped: costs.iter().map(|cost| cost.copied as u64).sum(),
        rows,
        flops,
        written: kept.name(),
        most_rows: MOST_ROWS,
        bytes,
        memory: setup.engine.budget()?,
        weights: setup.engine.model().bytes(),
        seconds: seconds(flops, runs),
        flops_per_second: speed,
        parts: parts().count(),
        shards,
        shard_seconds: of_shard.fold(0.0, f64::max),
    };
    print(&mut std::io::stdout().lock(), |out| {
        if format == PlanFormat::Json {
            return writeln!(out, "{}", serde_json::to_string_pretty(&said)?);
        }
        let mega = |bytes: u64| bytes as f64 / 1e6;
        writeln!(out, "pairs    {}", said.pairs)?;
        writeln!(
            out,
            "runs     {}, of which {} change nothing that is read",
            said.runs, said.skipped
        )?;
        writeln!(out, "flops    {:.3e}", said.flops as f64)?;
        match planned.is_means() {
            false => writeln!(out, "rows     {}", said.rows)?,
            true => writeln!(
                out,
                "rows     {}, of which means over pairs are written (unless --rows says otherwise, of more than {MOST_ROWS})",
                said.rows
            )?,
        }
        writeln!(out, "bytes    about {:.1} MB as Parquet", mega(said.bytes))?;
        writeln!(
            out,
            "memory   {:.0} MB for activations, {:.1} MB of weights",
            mega(said.memory),
            mega(said.weights)
        )?;
        writeln!(
            out,
            "time     about {} at {:.1} GFLOP/s",
            duration(said.seconds),
            said.flops_per_second / 1e9
        )?;
        match said.shards {
            1 => writeln!(out, "parts    {} in a folder", said.parts),
            shards => writeln!(
                out,
                "parts    {} in {shards} shards, the longest about {}",
                said.parts,
                duration(said.shard_seconds)
            ),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
