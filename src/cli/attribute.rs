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
use super::output::{Passing, check_plot};
use super::picture::Picture;
use super::progress::{Progress, ProgressFlags};
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::ask::grid::{Grid, IndexRange};
use crate::ask::preset::Preset;
use crate::attribution::{Attribution, GradientAt, Method, Rule};
use crate::circuit::Circuit;
use crate::circuit::json::{self, Convention};
use crate::circuit::scores::MeanScores;
use crate::data::Direction;
use crate::engine::words;
use crate::engine::{self, ABSOLUTE, Attributed, Question, SCORE, ScoreColumns, Verification};
use crate::error::Error;
use crate::graph::edge::select;
use crate::graph::extent::Extent;
use crate::patch::Op;
use crate::report::{self, CellPage, ReportError, agreement, share, write_scores};
use crate::results::array::{Quantified, Values};
use crate::results::averages::Averages;
use crate::results::metric::{Metric, Quantity};
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
    /// attribution (of edges: eap), clean-corrupted, eap-ig-inputs, eap-ig-activations, relp, of nodes atp-star, of
    /// edges ifr
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
    /// Also the size of each score, as the column `absolute`: over pairs its mean counts effects that cancel in
    /// the mean of `score`, and --graph holds it
    #[arg(long)]
    absolute: bool,
    /// Run the exact patches of the K largest scores of each pair, and of as many random others
    #[arg(long, value_name = "K")]
    verify_top: Option<usize>,
    /// Seed of that sample; 0 unless given
    #[arg(long, requires = "verify_top")]
    seed: Option<u64>,
    #[command(flatten)]
    progress: ProgressFlags,
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
    /// The scores as arrays: of edges senders × receivers (× positions), of nodes along a --preset's axes;
    /// .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
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
    /// A ready-made sweep by TransformerLens's name, such as attn_head_out_by_pos, or every-block,
    /// every-head, every-head-by-position
    #[arg(long, value_name = "NAME", conflicts_with = "component")]
    preset: Option<Preset>,
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
    #[command(flatten)]
    picture: Picture,
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
    /// Signs of scores in a JSON file for others: EAP-IG's (a metric as a loss, a clean base: the other way
    /// round) or TransformerLens's (a corrupted base: as here); as here unless given
    #[arg(long, value_enum)]
    convention: Option<Conventions>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Conventions {
    EapIg,
    TransformerLens,
}

impl ConventionFlag {
    /// Refuses a convention whose base is the other prompt of the data set: its scores are not these with
    /// another sign, but those of other runs.
    fn check(&self, direction: Option<Direction>) -> Result<(), Error> {
        let (name, base, wanted, other) = match self.convention {
            Some(Conventions::EapIg) => ("eap-ig", "clean", Direction::Noise, "noise"),
            Some(Conventions::TransformerLens) => (
                "transformer-lens",
                "corrupted",
                Direction::Denoise,
                "denoise",
            ),
            None => return Ok(()),
        };
        match direction {
            Some(direction) if direction != wanted => Err(Error::Usage(format!(
                "--convention {name} has the {base} prompt as base: with --data, add --direction {other}"
            ))),
            _ => Ok(()),
        }
    }

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
        self.attribution(Metric::plain(Quantity::Prob))?;
        let table = TableFile {
            out: self.out.clone(),
            ..TableFile::default()
        };
        table.check_one_file(global)?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = files.writes("--arrays", self.arrays.as_deref());
        table.files(files).check(global)?;
        Ok(table)
    }

    fn attribution(&self, metric: Metric) -> Result<Attribution, Error> {
        let wishes = (self.steps, self.rule, self.gradient_at);
        Ok(Attribution::with(self.method, metric, wishes)?)
    }
}

impl Nodes {
    fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--plot", self.picture.plot.as_deref());
        self.picture.check()?;
        if self.picture.look.value().change {
            return Err(Error::Usage(
                "--value change: a score is a change from the base already; leave it out".into(),
            ));
        }
        let table = self.method.check(files, global)?;
        let sites = match (&self.preset, &self.method.arrays) {
            (Some(preset), _) => {
                let fits = preset.check(&self.heads, &self.positions);
                fits.map_err(Error::Usage)?;
                preset.sites()
            }
            (None, Some(_)) => {
                return Err(Error::Usage(
                    "--arrays holds what a --preset runs: give one".into(),
                ));
            }
            (None, None) => words::sites(&self.component, None)?,
        };
        let (heads, heads_together) = words::heads(&self.heads)?;
        let places = words::place("positions", &self.positions)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
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
                window: 1,
                columns: self.columns.clone(),
                columns_apart: false,
                basis: None,
                op: Op::Interchange,
            },
            preset: self.preset,
            places,
            keys: None,
        };
        let question = engine.sweep(&sweep, pairs)?;
        let also = Besides {
            of_data,
            graph: None,
            picture: Some(&self.picture),
        };
        attribute(&setup, &self.method, &table, question, &also)
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
        self.convention.check(self.data.direction())?;
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
        let graph = self.graph.as_deref();
        let graph = graph.map(|path| (path, self.convention.get()));
        let also = Besides {
            of_data,
            graph,
            picture: None,
        };
        attribute(&setup, &self.method, &table, question, &also)
    }
}

/// What is made of scores beside the table.
struct Besides<'a> {
    of_data: bool,
    /// The mean scores as JSON.
    graph: Option<(&'a Path, Convention)>,
    /// How they are drawn, where there is a grid for them.
    picture: Option<&'a Picture>,
}

/// Attributes a question's runs, and writes and says what came of it.
fn attribute(
    setup: &Setup,
    flags: &MethodFlags,
    table: &TableFile,
    mut question: Question<'_>,
    also: &Besides<'_>,
) -> Result<ExitCode, Error> {
    let engine = &setup.engine;
    let clock = Clock::loaded(engine);
    if let Some(path) = table.path().filter(|_| also.of_data) {
        report::check_summary(path)?;
    }
    let attribution = flags.attribution(question.metric_or_default(flags.metric))?;
    question.check_attribution(&attribution)?;
    let axes = match &flags.arrays {
        Some(path) => question.axes()?.map(|axes| (axes, path)),
        None => None,
    };
    setup.announce();
    engine.default_targets(&mut question.pairs)?;
    let plot = also.picture.is_some_and(|picture| picture.plot.is_some());
    if plot {
        check_plot(&question)?;
    }
    let beside = ScoreColumns {
        verify: flags.verify_top.map(|top| Verification {
            top,
            seed: flags.seed.unwrap_or(0),
        }),
        absolute: flags.absolute,
    };
    let columns = beside.names();
    let names = [question.names(), columns.clone()].concat();
    let mut passing = Passing::of_rows(table, &names, clock)?;
    passing.alone = also.graph.is_none() && axes.is_none() && !plot;
    let mut strongest = Strongest::by_score(if also.of_data { 20 } else { 10 });
    let averages = also.of_data && table.path().is_some();
    let mut averages = averages.then(|| Averages::of_metrics(question.over(), &columns));
    let averaged = match flags.absolute {
        true => ABSOLUTE,
        false => SCORE,
    };
    let averaged = columns.iter().position(|name| name == averaged);
    let mut means = also
        .graph
        .map(|_| MeanScores::of_column(averaged.unwrap_or(0)));
    let page = also.picture.and_then(Picture::page);
    let mut page = page.map(|path| (CellPage::new(&columns), path));
    let drawing = also
        .picture
        .map(|picture| picture.drawing(&columns, Some(SCORE)));
    let mut drawing = drawing.transpose()?;
    let mut values = axes.as_ref().map(|(axes, path)| {
        let each = columns.iter().enumerate();
        let each = each.map(|(i, name)| Quantified::Column(name.clone(), i, attribution.metric));
        question.values_of(each.collect(), axes, path)
    });
    let mut gather: Vec<&mut dyn Gather> = passing.gathers();
    gather.push(&mut strongest);
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(means.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(drawing.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(page.iter_mut().map(|(g, _)| g as &mut dyn Gather));
    gather.extend(values.iter_mut().map(|g| g as &mut dyn Gather));
    let runs = question.attribution_runs(&attribution, beside.verify);
    let progress = Progress::count(&flags.progress, "runs", runs, engine.passed());
    let attributed = question.attribute(&attribution, beside, &mut gather)?;
    drop(progress);
    drop(gather);
    let made = passing.provenance(setup, table, &question);
    let mut written = Vec::new();
    let of = (setup, &question);
    passing.write(of, table, &made, averages.as_ref(), &mut written)?;
    if let (Some(means), Some((path, convention))) = (means, also.graph) {
        let config = &engine.model().config;
        let mut circuit = Circuit::new(config, &means.of_edges(config));
        circuit.kept.fill(true);
        json::write(&circuit, convention, config, path)?;
        written.push(path.to_owned());
    }
    let found = values.map(Values::finish).transpose()?;
    if let (Some(mut found), Some((axes, path))) = (found, axes) {
        found.extend(axes.about());
        found.extend(question.rows());
        let made = engine.provenance(&question.pairs, true);
        report::write_arrays(found, &made, path)?;
        written.push(path.to_owned());
    }
    let map = drawing.map(|drawing| drawing.finish(&made)).transpose();
    let map = match map {
        Ok(map) => map,
        // runs that have no place in a grid; only who asked for a plot minds
        Err(ReportError::NothingToPlot(_) | ReportError::Crowded { .. }) if !plot => None,
        Err(error) => return Err(error.into()),
    };
    let map = map.zip(also.picture);
    let map = map.map(|(map, picture)| map.styled(&picture.look.style()));
    if let (Some(picture), Some(map)) = (also.picture, &map) {
        picture.write(map, &mut written)?;
    }
    if let Some((page, path)) = page {
        page.finish(&made)?.showing(SCORE)?.write(path)?;
        written.push(path.to_owned());
    }
    let shown = 1 + usize::from(beside.verify.is_some());
    let rows = strongest.places().iter().map(|place| {
        let mut row = place.row.clone();
        row.metrics.truncate(shown);
        row
    });
    let rows: Vec<Row> = rows.collect();
    let patched = question.patched();
    passing.tell(setup, table, &question.pairs, |_, out| {
        let metric = attribution.metric;
        if let (Some(picture), Some(map)) = (also.picture, &map) {
            writeln!(out)?;
            picture.render(map, table, out)?;
        }
        match attribution.method {
            Method::Ifr => writeln!(out, "\nlargest scores, by {}", flags.method)?,
            _ => writeln!(out, "\nlargest scores of {metric}, by {}", flags.method)?,
        }
        write_scores(&rows, patched, out)?;
        if beside.verify.is_some() {
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
    let estimates = counted(attributed.estimated, "estimate");
    let runs = counted(attributed.plan.runs, "run");
    write!(out, "\n{estimates} in {seconds:.3} s, from {runs} ")?;
    match attributed.plan.flops() {
        0 => write!(out, "forward")?,
        flops => write!(
            out,
            "forward and back ({:.1} GFLOP/s)",
            flops as f64 / seconds / 1e9
        )?,
    }
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
