//! `headlight circuit`: edges chosen by their scores or by exact runs, how well they alone do, and how they look.

mod acdc;
mod curve;
mod evaluate;
mod graph;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::acdc::Acdc;
use self::curve::CurveFlags;
use self::evaluate::Evaluate;
use self::graph::GraphFlags;
use self::show::Show;
use super::attribute::ConventionFlag;
use super::files::Files;
use super::setup::Setup;
use super::{Global, print};
use crate::circuit::Circuit;
use crate::circuit::json;
use crate::circuit::select::{Selection, Worth};
use crate::engine::SCORE;
use crate::error::Error;
use crate::model::Config;
use crate::report;
use crate::text::counted;

/// Flags of `circuit`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CircuitFlags {
    #[command(subcommand)]
    what: Option<What>,
    /// What `attribute edges --out` wrote: .csv, .jsonl or .parquet
    #[arg(value_name = "SCORES", required = true)]
    scores: Option<PathBuf>,
    /// Keep the N largest scores, whatever their signs unless --signed
    #[arg(long, value_name = "N", group = "choice")]
    top_n: Option<usize>,
    /// Keep all scores from T on, likewise
    #[arg(long, value_name = "T", group = "choice")]
    threshold: Option<f64>,
    /// From the logits on, keep the largest of the edges that reach what is kept, N times
    #[arg(long, value_name = "N", group = "choice")]
    greedy: Option<usize>,
    /// Go by scores with their signs, as EAP-IG does with absolute=False
    #[arg(long)]
    signed: bool,
    /// The column that is taken: score, exact or absolute
    #[arg(long, default_value = SCORE, value_name = "NAME")]
    column: String,
    /// The circuit, as EAP-IG's JSON
    #[arg(long, value_name = "circuit.json", required = true)]
    out: Option<PathBuf>,
    #[command(flatten)]
    convention: ConventionFlag,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run circuits with everything outside of them ablated
    Evaluate(Box<Evaluate>),
    /// Find a circuit by exact runs: drop edge after edge that the metric does not miss (ACDC)
    Acdc(Box<Acdc>),
    /// How faithful circuits of ten sizes are, and MIB's CPR and CMD
    Curve(Box<CurveFlags>),
    /// A circuit layer by layer, as text, as a picture, as matrices
    Show(Box<Show>),
    /// Edges position by position as an attribution graph, for Neuronpedia's and circuit-tracer's pages
    Graph(GraphFlags),
}

impl CircuitFlags {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        match self.what {
            Some(What::Evaluate(evaluate)) => evaluate.run(global),
            Some(What::Acdc(acdc)) => acdc.run(global),
            Some(What::Curve(curve)) => curve.run(global),
            Some(What::Show(show)) => show.run(global),
            Some(What::Graph(graph)) => graph.run(global),
            None => self.choose(global),
        }
    }

    fn choose(self, global: &Global) -> Result<ExitCode, Error> {
        let (Some(scores), Some(out)) = (&self.scores, &self.out) else {
            return Err(Error::Usage("give SCORES and --out".into()));
        };
        let choice = match (self.top_n, self.threshold, self.greedy) {
            (Some(n), ..) => Selection::Top(n),
            (_, Some(t), _) if t.is_finite() => Selection::Threshold(t),
            (_, Some(t), _) => {
                return Err(Error::Usage(format!("--threshold {t}: give a number")));
            }
            (_, _, Some(n)) => Selection::Greedy(n),
            _ => {
                return Err(Error::Usage(
                    "which edges? give --top-n, --threshold or --greedy".into(),
                ));
            }
        };
        Files::default()
            .reads("SCORES", Some(scores))
            .writes("--out", Some(out))
            .check(global)?;
        let setup = Setup::quiet(global)?;
        let config = &setup.engine.model().config;
        let mut circuit = scored(scores, &self.column, config)?;
        let worth = match self.signed {
            true => Worth::Signed,
            false => Worth::Size,
        };
        circuit.choose(choice, worth);
        json::write(&circuit, self.convention.get(), config, out)?;
        print(&mut std::io::stdout().lock(), |text| {
            writeln!(text, "{}\nwrote {}", sizes(&circuit, config), out.display())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How many edges and nodes are kept, in words.
fn sizes(circuit: &Circuit, config: &Config) -> String {
    format!(
        "{} of {}, {} of {}",
        circuit.count(),
        counted(circuit.edges.len(), "edge"),
        circuit.nodes().len() - 1,
        counted(1 + config.layers * (config.heads + 1), "node"),
    )
}

/// No circuit yet, with the mean scores of a table that `attribute edges --out` wrote.
fn scored(scores: &Path, column: &str, config: &Config) -> Result<Circuit, Error> {
    let table = report::read(scores)?;
    let name = scores.display().to_string();
    Ok(Circuit::of_table(&table, &name, column, config)?)
}
