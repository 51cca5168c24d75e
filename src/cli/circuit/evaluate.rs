//! `headlight circuit evaluate`: circuits run alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::circuit::Circuit;
use crate::circuit::evaluate::Ablation;
use crate::circuit::json;
use crate::cli::Global;
use crate::cli::clock::Clock;
use crate::cli::data::DataFlags;
use crate::cli::files::Files;
use crate::cli::output::Passing;
use crate::cli::progress::{Progress, ProgressFlags};
use crate::cli::prompts::Prompts;
use crate::cli::setup::Setup;
use crate::cli::table_file::TableFile;
use crate::engine::Evaluated;
use crate::error::Error;
use crate::report;
use crate::results::averages::{Averages, Over};
use crate::results::metric::Metric;
use crate::results::rows::Gather;
use crate::text::counted;

/// Flags of `circuit evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
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
    #[command(flatten)]
    progress: ProgressFlags,
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

impl Evaluate {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let table = TableFile {
            out: self.out.clone(),
            ..TableFile::default()
        };
        table.check_one_file(global)?;
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
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let mut question = engine.without_runs(pairs)?;
        let clock = Clock::loaded(engine);
        let metric = question.metric_or_default(self.metric);
        crate::results::metric::check(&[metric], &question.pairs)?;
        setup.announce();
        engine.default_targets(&mut question.pairs)?;
        let names = [question.names(), Evaluated::columns()].concat();
        let mut passing = Passing::of_rows(&table, &names, clock)?;
        passing.alone = true;
        let averages = of_data && table.path().is_some();
        let mut averages =
            averages.then(|| Averages::of_metrics(Over::Pairs, &Evaluated::columns()));
        let mut gather: Vec<&mut dyn Gather> = passing.gathers();
        gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
        let runs = question.circuit_runs(circuits.len());
        let progress = Progress::count(&self.progress, "runs", runs, engine.passed());
        let found = question.evaluate(&circuits, metric, self.ablation, &mut gather)?;
        drop(progress);
        drop(gather);
        let made = passing.provenance(&setup, &table, &question);
        let mut written = Vec::new();
        let of = (&setup, &question);
        passing.write(of, &table, &made, averages.as_ref(), &mut written)?;
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
