//! `headlight edges`: every edge of the residual graph, patched by itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::data::DataFlags;
use super::files::Files;
use super::output::{Also, answer};
use super::picture::Look;
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::engine::words::named;
use crate::error::Error;
use crate::graph::edge::{NamedNodes, select};
use crate::graph::extent::Extent;
use crate::report::{self, PlotFormat};

/// Which edges, by what they join.
#[derive(Debug, Args)]
pub struct EdgeEnds {
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
}

impl EdgeEnds {
    /// Both ends, each as typed.
    pub fn named(&self) -> Result<(NamedNodes, NamedNodes), Error> {
        Ok((
            named("senders", &self.senders)?,
            named("receivers", &self.receivers)?,
        ))
    }
}

/// Flags of `edges`.
#[derive(Debug, Args)]
pub struct Edges {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    ends: EdgeEnds,
    /// Patch each edge at one position after the other: a run, a row and a place in the arrays for each
    #[arg(long)]
    per_position: bool,
    #[command(flatten)]
    table: TableFile,
    /// The results as matrices, senders × receivers (× positions): .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
    /// Effects as a matrix, senders × receivers, .svg, .png or .pdf by its ending; or the graph as a page, .html
    #[arg(long, value_name = "F")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    look: Look,
}

impl Edges {
    pub fn table(&self) -> &TableFile {
        &self.table
    }

    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.table.check(global)?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        if let Some(plot) = &self.plot {
            let format = report::check_plot(plot)?;
            if self.per_position && format != PlotFormat::Page {
                let usage = "--plot: a matrix has no place for positions: name a page, .html, or leave out --per-position";
                return Err(Error::Usage(usage.into()));
            }
        }
        self.look.check(self.plot.as_deref())?;
        let shard = self.table.parts.is_shard();
        self.table
            .check_folder(&[("--plot", shard && self.plot.is_some())])?;
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref())
            .writes("--plot", self.plot.as_deref());
        self.table.files(files).check(global)?;
        let (from, to) = self.ends.named()?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let edges = select(&from, &to, &engine.model().config)?;
        let extent = match self.per_position {
            true => Extent::PerPosition,
            false => Extent::Whole,
        };
        let of_data = rows.is_some();
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let question = engine.edges(edges, extent, pairs)?;
        let also = Also {
            arrays: self.arrays.as_deref(),
            averages: of_data,
            targets: true,
            edges: self.plot.as_deref().map(|plot| (plot, &self.look)),
            ..Also::default()
        };
        answer(&setup, &self.table, None, question, also)
    }
}
