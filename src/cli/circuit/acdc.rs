//! `headlight circuit acdc`: a circuit found by exact runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;

use super::sizes;
use crate::circuit::evaluate::Ablation;
use crate::circuit::json;
use crate::cli::attribute::ConventionFlag;
use crate::cli::data::DataFlags;
use crate::cli::files::Files;
use crate::cli::progress::{Progress, ProgressFlags};
use crate::cli::prompts::Prompts;
use crate::cli::setup::Setup;
use crate::cli::{Global, print};
use crate::engine::Searched;
use crate::error::Error;
use crate::report;
use crate::results::metric::{Metric, Quantity};
use crate::text::counted;

/// Flags of `circuit acdc`.
#[derive(Debug, Args)]
pub struct Acdc {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// Drop an edge if without it the metric is less than T further from the whole model's
    #[arg(long, value_name = "T")]
    threshold: f64,
    /// What is measured, a mean over pairs and targets: as in attribute; kl unless given
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
    /// The circuit, as EAP-IG's JSON; scores are how much further it was without each edge
    #[arg(long, value_name = "circuit.json")]
    out: PathBuf,
    #[command(flatten)]
    convention: ConventionFlag,
}

impl Acdc {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        Searched::check(self.threshold)?;
        Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--out", Some(&self.out))
            .check(global)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let config = &engine.model().config;
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let mut question = engine.without_runs(pairs)?;
        let metric = self.metric.unwrap_or(Metric::plain(Quantity::Kl));
        crate::results::metric::check(&[metric], &question.pairs)?;
        setup.announce();
        engine.default_targets(&mut question.pairs)?;
        let edges = crate::graph::edge::edges(config).len();
        let done = Arc::new(AtomicU64::new(0));
        let progress = Progress::count(&self.progress, "edges", edges as u64, done.clone());
        let start = std::time::Instant::now();
        let tell = |edges: usize| done.store(edges as u64, Ordering::Relaxed);
        let found = question.acdc(metric, self.ablation, self.threshold, &tell)?;
        drop(progress);
        json::write(&found.circuit, self.convention.get(), config, &self.out)?;
        print(&mut std::io::stdout().lock(), |text| {
            writeln!(
                text,
                "{}: the others take {metric} from {} by less than {} each\n{} tried by {} of {} in {:.3} s\nwrote {}",
                sizes(&found.circuit, config),
                report::plain(found.whole),
                self.threshold,
                counted(found.search.tried, "edge"),
                counted(found.search.runs, "run"),
                counted(question.pairs.len(), "pair"),
                start.elapsed().as_secs_f64(),
                self.out.display()
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
