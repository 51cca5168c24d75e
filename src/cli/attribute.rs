//! `headlight attribute`: estimates by gradients, and the exact answer beside them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::Global;
use super::clock::Clock;
use super::data::DataFlags;
use super::edges::EdgeEnds;
use super::files::Files;
use super::output::Passing;
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::ask::grid::{Grid, IndexRange};
use crate::attribution::{Attribution, GradientAt, Method, Rule};
use crate::circuit::Circuit;
use crate::circuit::json::{self, Convention};
use crate::circuit::scores::MeanScores;
use crate::engine::words;
use crate::engine::{self, Attributed, EXACT, Question, SCORE, Verification};
use crate::error::Error;
use crate::graph::edge::select;
use crate::graph::extent::Extent;
use crate::patch::Op;
use crate::report::{self, agreement, share, write_scores};
use crate::results::averages::Averages;
use crate::results::metric::Metric;
use crate::results::rows::Gather;
use crate::results::strongest::Strongest;
use crate::results::table::Row;
use crate::text::counted;

/// `headlight attribute`.
#[derive(Debug, Args)]
pub struct Attribute {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Estimate what a sweep measures: patches of sites, one at a time
    Nodes(Box<Nodes>),
    /// Estimate what `edges` measures: every edge between heads and MLPs, one at a time
    Edges(Box<EdgeFlags>),
}

/// Flags of both.
#[derive(Debug, Args)]
struct MethodFlags {
    /// attribution (of edges: eap), clean-corrupted, eap-ig-inputs, eap-ig-activations or relp
    #[arg(long, default_value = "attribution", value_name = "METHOD")]
    method: Method,
    /// Steps of eap-ig-inputs and eap-ig-activations; 5 unless given
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Where the steps stand: left (EAP-IG's own), midpoint or trapezoid; midpoint unless given
    #[arg(long, value_name = "left|midpoint|trapezoid")]
    rule: Option<Rule>,
    /// The prompt at which the gradient is taken, where that is not the method's own: base, source or both
    #[arg(long, value_name = "base|source|both")]
    gradient_at: Option<GradientAt>,
    /// What is attributed: logit, logprob, prob, logit_diff, prob_diff, kl, entropy, or recovery_ before one
    /// of them; logit_diff where all pairs have wrong answers, else prob, unless given
    #[arg(long, value_name = "NAME")]
    metric: Option<Metric>,
    /// Run the exact patches of the K largest scores of each pair, and of as many random others
    #[arg(long, value_name = "K")]
    verify_top: Option<usize>,
    /// Seed of that sample; 0 unless given
    #[arg(long, requires = "verify_top")]
    seed: Option<u64>,
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

/// Flags of `attribute nodes`.
#[derive(Debug, Args)]
struct Nodes {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// Components, by pyvene's names or TransformerLens's hooks
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(long, default_value = "all", value_name = "RANGE")]
    layers: IndexRange,
    /// Heads, or `together`: one run patches them all
    #[arg(long, default_value = "all", value_name = "RANGE|together")]
    heads: String,
    /// Positions by numbers or names (end, -1, subject.last, a word), or `together`: one run patches
    /// them all
    #[arg(
        long,
        default_value = "all",
        value_name = "RANGE|NAMES|together",
        allow_negative_numbers = true
    )]
    positions: String,
    /// Columns of the row: all, 3, 0,4 or 0-31
    #[arg(long, default_value = "all", value_name = "RANGE")]
    columns: IndexRange,
    #[command(flatten)]
    method: MethodFlags,
}

/// Flags of `attribute edges`.
#[derive(Debug, Args)]
struct EdgeFlags {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    ends: EdgeEnds,
    /// Each edge at one position after the other
    #[arg(long, conflicts_with = "graph")]
    per_position: bool,
    #[command(flatten)]
    method: MethodFlags,
    /// The mean scores as EAP-IG's JSON, every edge in it
    #[arg(long, value_name = "F.json")]
    graph: Option<PathBuf>,
    #[command(flatten)]
    convention: ConventionFlag,
}

/// Whose signs a file for others has.
#[derive(Debug, Args)]
pub struct ConventionFlag {
    /// Signs of scores in a JSON file for others: EAP-IG's (a metric as a loss, clean base: the other way
    /// round) or TransformerLens's (corrupted base: as here); as here unless given
    #[arg(long, value_enum)]
    convention: Option<Conventions>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Conventions {
    EapIg,
    TransformerLens,
}

impl ConventionFlag {
    /// As the file is written.
    pub fn get(&self) -> Convention {
        match self.convention {
            None => Convention::Headlight,
            Some(Conventions::EapIg) => Convention::EapIg,
            Some(Conventions::TransformerLens) => Convention::TransformerLens,
        }
    }
}

impl Attribute {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        match self.what {
            What::Nodes(nodes) => nodes.run(global),
            What::Edges(edges) => edges.run(global),
        }
    }
}

impl MethodFlags {
    /// Refuses flags that the method has no use for, and files that could not be written.
    fn check(&self, files: Files, global: &Global) -> Result<TableFile, Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let method = self.method;
        let along = Attribution::is_along_a_path(method);
        for (flag, given) in [
            ("--steps", self.steps.is_some()),
            ("--rule", self.rule.is_some()),
        ] {
            if given && !along {
                return usage(format!(
                    "{flag} is for eap-ig-inputs and eap-ig-activations: leave it out with {method}"
                ));
            }
        }
        if self.gradient_at.is_some() && (along || method == Method::CleanCorrupted) {
            return usage(format!(
                "--gradient-at: {method} says itself where gradients are taken; leave it out"
            ));
        }
        let table = TableFile {
            out: self.out.clone(),
            ..TableFile::default()
        };
        table.check_one_file(global)?;
        table.files(files).check(global)?;
        Ok(table)
    }

    fn attribution(&self, question: &mut Question<'_>) -> Attribution {
        let metric = question.metric_or_default(self.metric);
        let mut attribution = Attribution::of(self.method, metric);
        attribution.steps = self.steps.unwrap_or(attribution.steps);
        attribution.rule = self.rule.unwrap_or_default();
        attribution.at = self.gradient_at.unwrap_or_default();
        attribution
    }
}

impl Nodes {
    fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let files = Files::default().reads("--data", self.data.data.as_deref());
        let table = self.method.check(files, global)?;
        let sites = words::sites(&self.component)?;
        let (heads, heads_together) = words::heads(&self.heads)?;
        let places = words::place("positions", &self.positions)?;
        let rows = self.data.read()?;
        let setup = Setup::for_gradients(global)?;
        let engine = &setup.engine;
        let of_data = rows.is_some();
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let sweep = engine::Sweep {
            grid: Grid {
                sites,
                layers: self.layers.clone(),
                heads,
                positions: IndexRange::All,
                heads_together,
                positions_together: false,
                columns: self.columns.clone(),
                basis: None,
                op: Op::Interchange,
            },
            preset: None,
            places,
        };
        let question = engine.sweep(&sweep, pairs)?;
        attribute(&setup, &self.method, &table, question, (of_data, None))
    }
}

impl EdgeFlags {
    fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--graph", self.graph.as_deref());
        let table = self.method.check(files, global)?;
        if self.graph.is_none() && self.convention.convention.is_some() {
            return Err(Error::Usage(
                "--convention is for the JSON of --graph: give one, or leave it out".into(),
            ));
        }
        let (from, to) = self.ends.named()?;
        let rows = self.data.read()?;
        let setup = Setup::for_gradients(global)?;
        let engine = &setup.engine;
        let edges = select(&from, &to, &engine.model().config)?;
        let extent = match self.per_position {
            true => Extent::PerPosition,
            false => Extent::Whole,
        };
        let of_data = rows.is_some();
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let question = engine.edges(edges, extent, pairs)?;
        let graph = self.graph.as_deref();
        let graph = graph.map(|path| (path, self.convention.get()));
        attribute(&setup, &self.method, &table, question, (of_data, graph))
    }
}

/// Attributes a question's runs, and writes and says what came of it.
fn attribute(
    setup: &Setup,
    flags: &MethodFlags,
    table: &TableFile,
    mut question: Question<'_>,
    (of_data, graph): (bool, Option<(&Path, Convention)>),
) -> Result<ExitCode, Error> {
    let engine = &setup.engine;
    let clock = Clock::loaded(engine);
    if let Some(path) = table.path().filter(|_| of_data) {
        report::check_summary(path)?;
    }
    let attribution = flags.attribution(&mut question);
    question.check_attribution(&attribution)?;
    setup.announce();
    engine.default_targets(&mut question.pairs)?;
    let verify = flags.verify_top.map(|top| Verification {
        top,
        seed: flags.seed.unwrap_or(0),
    });
    let mut columns = vec![SCORE.to_owned()];
    columns.extend(verify.map(|_| EXACT.to_owned()));
    let names = [question.names(), columns.clone()].concat();
    let mut passing = Passing::of_rows(table, &names, clock)?;
    passing.alone = graph.is_none();
    let mut strongest = Strongest::by_score(if of_data { 20 } else { 10 });
    let averages = of_data && table.path().is_some();
    let mut averages = averages.then(|| Averages::of_metrics(question.over(), &columns));
    let mut means = graph.map(|_| MeanScores::default());
    let mut gather: Vec<&mut dyn Gather> = passing.gathers();
    gather.push(&mut strongest);
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(means.iter_mut().map(|g| g as &mut dyn Gather));
    let attributed = question.attribute(&attribution, verify, &mut gather)?;
    drop(gather);
    let made = passing.provenance(setup, table, &question);
    let mut written = Vec::new();
    let of = (setup, &question);
    passing.write(of, table, &made, averages.as_ref(), &mut written)?;
    if let (Some(means), Some((path, convention))) = (means, graph) {
        let config = &engine.model().config;
        let mut circuit = Circuit::new(config, &means.of_edges(config));
        circuit.kept.fill(true);
        json::write(&circuit, convention, config, path)?;
        written.push(path.to_owned());
    }
    let rows: Vec<Row> = strongest
        .places()
        .iter()
        .map(|place| place.row.clone())
        .collect();
    let patched = question.patched();
    passing.tell(setup, table, &question.pairs, |_, out| {
        let metric = attribution.metric;
        writeln!(out, "\nlargest scores of {metric}, by {}", flags.method)?;
        write_scores(&rows, patched, out)?;
        if verify.is_some() {
            write_agreement(&attributed, out)?;
        }
        write_done(&attributed, &written, out)
    })
}

/// How good the estimates are, as far as they were verified.
fn write_agreement(attributed: &Attributed, out: &mut dyn Write) -> std::io::Result<()> {
    let [top, sample] = attributed.agreements();
    let of = |a: engine::Agreement| agreement(a.rows, a.pearson, a.spearman);
    writeln!(
        out,
        "\nscore and exact: {} with the largest scores",
        of(top)
    )?;
    if sample.rows > 0 {
        writeln!(out, "  of a random sample of the others: {}", of(sample))?;
    }
    if let Some((median, more, bound)) = attributed.missed() {
        writeln!(
            out,
            "  {more} of {} in the sample move it by more than {}, half of the largest do: of all others at most {} (95 % confidence)",
            counted(attributed.sample_moved.len(), "run"),
            report::plain(median),
            share(bound)
        )?;
    }
    Ok(())
}

fn write_done(
    attributed: &Attributed,
    written: &[PathBuf],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let seconds = attributed.time.as_secs_f64();
    write!(
        out,
        "\n{} in {seconds:.3} s, from {} forward and back ({:.1} GFLOP/s)",
        counted(attributed.estimated, "estimate"),
        counted(attributed.plan.runs, "run"),
        attributed.plan.flops() as f64 / seconds / 1e9,
    )?;
    if attributed.verified > 0 {
        let exact = attributed.exact_time.as_secs_f64();
        let runs = counted(attributed.verified, "exact run");
        write!(out, "; {runs} in {exact:.3} s")?;
    }
    writeln!(out)?;
    for path in written {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
