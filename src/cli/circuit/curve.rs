//! `headlight circuit curve`: how faithful circuits of ten sizes are.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::scored;
use crate::circuit::curve::{SIZES, count};
use crate::circuit::evaluate::Ablation;
use crate::circuit::select::Selection;
use crate::cli::Global;
use crate::cli::clock::Clock;
use crate::cli::data::DataFlags;
use crate::cli::files::Files;
use crate::cli::output::Passing;
use crate::cli::progress::{Progress, ProgressFlags};
use crate::cli::prompts::Prompts;
use crate::cli::setup::Setup;
use crate::cli::table_file::TableFile;
use crate::engine::{Evaluated, SCORE};
use crate::error::Error;
use crate::report;
use crate::results::averages::{Averages, Over};
use crate::results::metric::Metric;
use crate::results::rows::Gather;
use crate::text::counted;

/// Flags of `circuit curve`.
#[derive(Debug, Args)]
pub struct CurveFlags {
    /// What `attribute edges --out` wrote: .csv, .jsonl or .parquet
    #[arg(value_name = "SCORES")]
    scores: PathBuf,
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// Choose edges from the logits on, as --greedy of circuit, instead of the largest scores
    #[arg(long)]
    greedy: bool,
    /// The column that is taken: score, exact or absolute
    #[arg(long, default_value = SCORE, value_name = "NAME")]
    column: String,
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
    /// Result table, a row a circuit, pair and target: .csv, .jsonl or .parquet; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

impl CurveFlags {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let table = TableFile {
            out: self.out.clone(),
            ..TableFile::default()
        };
        table.check_one_file(global)?;
        let files = Files::default()
            .reads("SCORES", Some(&self.scores))
            .reads("--data", self.data.data.as_deref());
        table.files(files).check(global)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let of = scored(&self.scores, &self.column, &engine.model().config)?;
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
        let choice = match self.greedy {
            true => Selection::Greedy,
            false => Selection::Top,
        };
        let runs = question.curve_runs();
        let progress = Progress::count(&self.progress, "runs", runs, engine.passed());
        let curve = question.curve(&of, choice, (metric, self.ablation), &mut gather)?;
        drop(progress);
        drop(gather);
        let made = passing.provenance(&setup, &table, &question);
        let mut written = Vec::new();
        passing.write(
            (&setup, &question),
            &table,
            &made,
            averages.as_ref(),
            &mut written,
        )?;
        passing.tell(&setup, &table, &question.pairs, |_, out| {
            let (found, number) = (&curve.evaluated, report::plain);
            writeln!(out, "\nmean {metric} over {}", counted(found.rows, "row"))?;
            writeln!(out, "  whole model    {}", number(found.whole))?;
            writeln!(out, "  nothing of it  {}", number(found.nothing))?;
            writeln!(
                out,
                "\n{:<6} {:>6}  {:<22} {:<22}",
                "share", "edges", "by size: kept, faithful", "by sign: kept, faithful"
            )?;
            let [by_size, by_sign] = curve.faithfulness();
            for (i, share) in SIZES.into_iter().enumerate() {
                let kept = |at: usize| curve.circuits[at].1.count();
                writeln!(
                    out,
                    "{share:<6} {:>6}  {:>8}  {:>12.4}  {:>8}  {:>12.4}",
                    count(share, of.edges.len()),
                    kept(i),
                    by_size[i],
                    kept(i + SIZES.len()),
                    by_sign[i],
                )?;
            }
            let [cmd, cpr] = curve.areas();
            writeln!(
                out,
                "CMD {cmd:.4} (by size; 0 is best), CPR {cpr:.4} (by sign)"
            )?;
            for path in &written {
                writeln!(out, "wrote {}", path.display())?;
            }
            Ok(())
        })
    }
}
