//! `headlight circuit graph`: edges at positions as the graph that pages of attribution graphs show.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::files::Files;
use crate::cli::setup::Setup;
use crate::cli::{Global, print};
use crate::error::Error;
use crate::files::whole::WholeFile;
use crate::report::{self, GraphWish};
use crate::text::counted;

/// Flags of `circuit graph`.
#[derive(Debug, Args)]
pub struct GraphFlags {
    /// What `attribute edges` or `edges` wrote with --per-position: .csv, .jsonl or .parquet
    #[arg(value_name = "EDGES")]
    edges: PathBuf,
    /// The graph, as Neuronpedia's and circuit-tracer's JSON
    #[arg(long, value_name = "graph.json")]
    out: PathBuf,
    /// Keep the N largest links, whatever their signs
    #[arg(long, default_value_t = 1000, value_name = "N")]
    top_n: usize,
    /// The column that weighs links: score, exact or absolute, or a metric, of which it is the change from the base;
    /// the score, else the first metric, else prob unless given
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// The pair, by its number in EDGES; the first unless given
    #[arg(long, value_name = "N")]
    pair: Option<u32>,
    /// The target, by its text or its id; the first unless given
    #[arg(long, value_name = "TEXT|ID")]
    target: Option<String>,
}

impl GraphFlags {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        Files::default()
            .reads("EDGES", Some(&self.edges))
            .writes("--out", Some(&self.out))
            .check(global)?;
        let table = report::read(&self.edges)?;
        let setup = Setup::quiet(global)?;
        let wish = GraphWish {
            pair: self.pair,
            target: self.target.as_deref(),
            column: self.column.as_deref(),
            most: self.top_n,
        };
        let config = &setup.engine.model().config;
        let (graph, links) = report::attribution_graph(&table, &wish, config)?;
        WholeFile::write(&self.out, graph.as_bytes())?;
        print(&mut std::io::stdout().lock(), |out| {
            writeln!(
                out,
                "{} of {} by {}, between {}\nwrote {}",
                links.kept,
                counted(links.all, "edge"),
                links.column,
                counted(links.nodes, "node"),
                self.out.display()
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
