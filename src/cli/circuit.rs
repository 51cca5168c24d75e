//! `headlight circuit`: edges chosen by their scores, and how well they alone do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::attribute::ConventionFlag;
use super::clock::Clock;
use super::data::DataFlags;
use super::files::Files;
use super::output::Passing;
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use super::{Global, print};
use crate::circuit::Circuit;
use crate::circuit::evaluate::Ablation;
use crate::circuit::json;
use crate::circuit::scores::MeanScores;
use crate::circuit::select::Selection;
use crate::engine::{Evaluated, SCORE};
use crate::error::Error;
use crate::report;
use crate::results::averages::{Averages, Over};
use crate::results::metric::Metric;
use crate::results::rows::Gather;
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
    /// Keep the N largest scores, whatever their signs
    #[arg(long, value_name = "N", group = "choice")]
    top_n: Option<usize>,
    /// Keep all scores from T on, whatever their signs
    #[arg(long, value_name = "T", group = "choice")]
    threshold: Option<f64>,
    /// From the logits on, keep the largest of the edges that reach what is kept, N times
    #[arg(long, value_name = "N", group = "choice")]
    greedy: Option<usize>,
    /// The column that is taken: score, or exact
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
    /// Run a circuit with everything outside of it ablated
    Evaluate(Box<Evaluate>),
}

/// Flags of `circuit evaluate`.
#[derive(Debug, Args)]
struct Evaluate {
    /// Circuits, as EAP-IG's JSON
    #[arg(value_name = "circuit.json", required = true)]
    circuits: Vec<PathBuf>,
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// What is measured: as in attribute; logit_diff where all pairs have wrong answers, else prob, unless given
    #[arg(long, value_name = "NAME")]
    metric: Option<Metric>,
    /// What edges outside carry: patch (the source's), zero, mean or mean-by-position
    #[arg(
        long,
        default_value = "patch",
        value_name = "patch|zero|mean|mean-by-position"
    )]
    ablation: Ablation,
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

impl CircuitFlags {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        match self.what {
            Some(What::Evaluate(evaluate)) => evaluate.run(global),
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
        let table = report::read(scores)?;
        let column = table.metrics.iter().position(|name| *name == self.column);
        let Some(column) = column else {
            return Err(Error::Usage(format!(
                "{} has no column {}: give what attribute edges --out wrote",
                scores.display(),
                self.column
            )));
        };
        let mut means = MeanScores::of_column(column);
        table.rows.iter().for_each(|row| means.add(row));
        let setup = Setup::quiet(global)?;
        let config = &setup.engine.model().config;
        let known = means.of_edges(config);
        if known.is_empty() || known.len() < means.len() {
            return Err(Error::Usage(format!(
                "{} has {} that are no whole edges of this model: give what attribute edges --out wrote, with the same --model",
                scores.display(),
                counted(means.len() - known.len(), "name")
            )));
        }
        let mut circuit = Circuit::new(config, &known);
        circuit.choose(choice);
        json::write(&circuit, self.convention.get(), config, out)?;
        print(&mut std::io::stdout().lock(), |text| {
            writeln!(
                text,
                "{} of {}, {} of {}\nwrote {}",
                circuit.count(),
                counted(circuit.edges.len(), "edge"),
                circuit.nodes().len() - 1,
                counted(1 + config.layers * (config.heads + 1), "node"),
                out.display()
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Evaluate {
    fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let table = TableFile {
            out: self.out.clone(),
            metric: Vec::new(),
        };
        table.check()?;
        let mut files = Files::default().reads("--data", self.data.data.as_deref());
        for circuit in &self.circuits {
            files = files.reads("circuit.json", Some(circuit));
        }
        table.files(files).check(global)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let config = &engine.model().config;
        let read = |path: &PathBuf| Ok((path.display().to_string(), json::read(path, config)?));
        let circuits: Result<Vec<(String, Circuit)>, Error> =
            self.circuits.iter().map(read).collect();
        let circuits = circuits?;
        let of_data = rows.is_some();
        if let Some(path) = table.path().filter(|_| of_data) {
            report::check_summary(path)?;
        }
        let pairs = self.prompts.pairs(rows, engine, &self.data)?;
        let mut question = engine.without_runs(pairs)?;
        let clock = Clock::loaded(engine);
        let metric = question.metric_or_default(self.metric);
        crate::results::metric::check(&[metric], &question.pairs)?;
        setup.announce();
        engine.default_targets(&mut question.pairs)?;
        let names = [question.names(), Evaluated::columns()].concat();
        let mut passing = Passing::new(&table, &names, clock)?;
        passing.alone = true;
        let averages = of_data && table.path().is_some();
        let mut averages =
            averages.then(|| Averages::of_metrics(Over::Pairs, &Evaluated::columns()));
        let mut gather: Vec<&mut dyn Gather> = passing.gathers();
        gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
        let found = question.evaluate(&circuits, metric, self.ablation, &mut gather)?;
        drop(gather);
        let made = passing.provenance(&setup, &table, &question);
        let mut written = Vec::new();
        passing.write(&table, &made, averages.as_ref(), &mut written)?;
        passing.tell(&setup, &table, &question.pairs, |_, out| {
            writeln!(out, "\nmean {metric} over {}", counted(found.rows, "row"))?;
            let number = report::plain;
            writeln!(out, "  whole model    {}", number(found.whole))?;
            writeln!(out, "  nothing of it  {}", number(found.nothing))?;
            for ((name, circuit), mean) in circuits.iter().zip(&found.circuits) {
                writeln!(
                    out,
                    "  {name}: {} of {}: {}, faithfulness {}",
                    circuit.count(),
                    counted(circuit.edges.len(), "edge"),
                    number(*mean),
                    number(found.faithfulness(*mean)),
                )?;
            }
            for path in &written {
                writeln!(out, "wrote {}", path.display())?;
            }
            Ok(())
        })
    }
}
