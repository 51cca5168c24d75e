//! `headlight sweep`: the reference job.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::pairs::{Ask, DataFlags, Planned, Where};
use super::setup::{Setup, columns};
use super::topk::candidates;
use super::{Global, Prompts, note, print};
use crate::backend::Readout;
use crate::data;
use crate::error::Error;
use crate::patch::Op;
use crate::report::{
    self, Coordinates, HeatMap, ReportError, TopkFormat, strongest, write_strongest, write_topk,
};
use crate::site::Site;
use crate::sweep::check::check_pair;
use crate::sweep::dense::dense;
use crate::sweep::execute::{Outcome, PairOutcome};
use crate::sweep::experiment::mean_over;
use crate::sweep::grid::{Grid, OpText, Span};
use crate::sweep::metric::{self, Metric, Quantity};
use crate::sweep::pair::{Pair, PairRuns};
use crate::sweep::preset::{Axis, Preset};
use crate::sweep::results::table;
use crate::sweep::summary::summary;
use crate::sweep::table::{Provenance, Table};
use crate::sweep::vector::read_vector;

/// Flags of `sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    prompts: Prompts,
    /// Components, by pyvene's names or TransformerLens's hooks
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(long, default_value = "all", value_name = "RANGE")]
    layers: Span,
    /// A ready-made sweep by TransformerLens's name, such as attn_head_out_by_pos, or every-block,
    /// every-head, every-head-by-position
    #[arg(long, value_name = "NAME", conflicts_with = "component")]
    preset: Option<Preset>,
    /// The preset's results as dense arrays with named axes: .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
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
    /// interchange, zero, add, subtract, set=F#T, add=F#T, mean=FILE, scale=x, interpolate=α, noise=level
    #[arg(long, default_value = "interchange", value_name = "OP")]
    op: OpText,
    /// Seed of noise; 0 unless given
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// Where results go.
#[derive(Debug, Args)]
pub struct Output {
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
    /// Heat map: .svg or .png by its ending
    #[arg(long, value_name = "F")]
    plot: Option<PathBuf>,
    /// Metrics, each a column: rank, logit_diff, prob_diff, kl, top1, entropy, or recovery_ before
    /// one of these or prob, logprob, logit
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metric: Vec<Metric>,
    /// Colour in the terminal
    #[arg(long, value_enum, default_value = "auto")]
    colour: Colour,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

const REFERENCE: [&str; 2] = ["The capital of Spain is", "The capital of Italy is"];

impl Sweep {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.output.check()?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        if self.seed.is_some() && !matches!(self.op, OpText::Ready(Op::Noise { .. })) {
            return Err(Error::Usage(
                "--seed is for --op noise=level: leave it out".into(),
            ));
        }
        self.check_preset()?;
        let sites = self.sites()?;
        let (heads, heads_together) = self.heads()?;
        let places = self.places()?;
        let rows = self.data.data.as_deref().map(data::read).transpose()?;
        let setup = Setup::quiet(global)?;
        let typed = match rows {
            Some(_) => None,
            None => Some(self.typed(global, &setup)?),
        };
        let grid = Grid {
            sites,
            layers: self.layers.clone(),
            heads,
            positions: Span::All,
            heads_together,
            positions_together: false,
            op: self.op(&setup)?,
        };
        let ask = Ask {
            setup: &setup,
            grid: &grid,
            preset: self.preset.as_ref(),
            places: &places,
            targets: &setup.targets(&self.prompts)?,
            wrong: &setup.wrong(&self.prompts)?,
            first_token: self.prompts.first_token,
            of_data: rows.is_some(),
        };
        let mut planned = match (rows, typed) {
            (Some(rows), _) => self.data.pairs(rows, &ask)?,
            (None, Some(pair)) => {
                if pair.source.is_none() && grid.op.reads_source() {
                    let op = grid.op.label();
                    return Err(Error::Usage(format!(
                        "`{op}` reads a source prompt: give --source too"
                    )));
                }
                ask.pair(pair)?
            }
            (None, None) => Planned::default(),
        };
        let averages = self.data.data.is_some();
        self.output.check_pairs(&planned.pairs, averages)?;
        setup.announce();
        for PairRuns { pair, .. } in &mut planned.pairs {
            if pair.targets.is_empty() {
                pair.targets = default_targets(&setup, pair)?;
            }
        }
        let mut metrics = self.output.metric.clone();
        if self.preset.is_some() && metrics.is_empty() {
            let differ = planned.pairs.iter().all(|p| !p.pair.wrong.is_empty());
            metrics.push(Metric::plain(if differ {
                Quantity::LogitDiff
            } else {
                Quantity::Prob
            }));
        }
        let output = Output {
            metric: metrics,
            ..self.output
        };
        let pairs = &planned.pairs;
        output.check_plot(&setup, pairs)?;
        let (outcome, time) = setup.execute(pairs, 10, &output.metric)?;
        if let (Some(path), Some(preset)) = (&self.arrays, &self.preset) {
            let arrays = dense(preset, &planned.cells, pairs, &outcome, &output.metric);
            let along = Coordinates {
                components: preset
                    .components
                    .iter()
                    .map(|c| c.name().to_owned())
                    .collect(),
                layers: grid.layers.of(setup.model.config.layers, "layer")?,
                heads: match preset.axes.contains(&Axis::Head) {
                    true => grid.heads.of(setup.model.config.heads, "head")?,
                    false => Vec::new(),
                },
                positions: match preset.is_of_all_positions() {
                    true => Vec::new(),
                    false => planned.positions,
                },
            };
            report::write_arrays(&arrays, &along, &setup.provenance(pairs), path)?;
            note(format_args!("wrote {}", path.display()));
        }
        output.write(&setup, pairs, &outcome, time, averages)
    }

    /// The one pair that the flags give, or the demo's.
    fn typed(&self, global: &Global, setup: &Setup) -> Result<Pair, Error> {
        let pair = match setup.pair(&self.prompts)? {
            Some(pair) => pair,
            None if global.model == "demo" => {
                let text = setup.model.text()?;
                let [base, source] = REFERENCE.map(|prompt| text.encode(prompt));
                Pair {
                    base: base?,
                    source: Some(source?),
                    targets: setup.targets(&self.prompts)?,
                    wrong: setup.wrong(&self.prompts)?,
                    readouts: Vec::new(),
                }
            }
            None => {
                return Err(Error::Usage(
                    "no prompts: give --base and --source, or --data".into(),
                ));
            }
        };
        let pair = self.data.begin(pair, &setup.model.config)?;
        check_pair(&pair, &setup.model.config)?;
        Ok(pair)
    }

    /// Refuses flags that a preset leaves no place for.
    fn check_preset(&self) -> Result<(), Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let Some(preset) = &self.preset else {
            return match self.arrays {
                Some(_) => usage("--arrays holds what a --preset runs: give one".into()),
                None => Ok(()),
            };
        };
        if self.heads == "together" {
            return usage(
                "--heads together: a preset patches one head at a time; leave it out".into(),
            );
        }
        if self.positions == "together" || preset.is_of_all_positions() && self.positions != "all" {
            let name = preset.name;
            return usage(format!(
                "--positions {}: the preset {name} says itself which positions go together; leave it out",
                self.positions
            ));
        }
        Ok(())
    }

    fn sites(&self) -> Result<Vec<Site>, Error> {
        if let Some(preset) = &self.preset {
            return Ok(preset.sites());
        }
        if self.component.is_empty() {
            return Ok(Grid::default_sites());
        }
        Ok(self
            .component
            .iter()
            .map(|name| name.trim().parse::<Site>())
            .collect::<Result<_, _>>()?)
    }

    /// Heads, and whether together.
    fn heads(&self) -> Result<(Span, bool), Error> {
        match self.heads.as_str() {
            "together" => Ok((Span::All, true)),
            range => range
                .parse()
                .map(|span| (span, false))
                .map_err(|e| Error::Usage(format!("--heads: {e}, or together"))),
        }
    }

    fn places(&self) -> Result<Where, Error> {
        let parsed = self.positions.parse();
        parsed.map_err(|e| Error::Usage(format!("--positions: {e}")))
    }

    fn op(&self, setup: &Setup) -> Result<Op, Error> {
        let folder = Path::new("");
        Ok(match &self.op {
            OpText::Ready(Op::Noise { level, .. }) => Op::Noise {
                level: *level,
                seed: self.seed.unwrap_or(0),
                sample: 0,
            },
            OpText::Ready(op) => op.clone(),
            OpText::Set(file) => Op::Set(read_vector(file, folder)?),
            OpText::Add(file) => Op::Add(Some(read_vector(file, folder)?)),
            OpText::Subtract(file) => Op::Subtract(Some(read_vector(file, folder)?)),
            OpText::Mean(file) => Op::Mean(mean_over(file, &setup.model, folder)?),
        })
    }
}

/// The top token of either prompt.
fn default_targets(setup: &Setup, pair: &Pair) -> Result<Vec<u32>, Error> {
    let mut targets = Vec::new();
    for base in std::iter::once(&pair.base).chain(&pair.source) {
        let clean = Pair {
            base: base.clone(),
            ..Pair::default()
        };
        let (outcome, _) = setup.execute(
            &[PairRuns {
                pair: clean,
                runs: [].into(),
            }],
            1,
            &[],
        )?;
        let top = outcome
            .pairs
            .first()
            .and_then(|p| p.base.first())
            .and_then(|r| r.top.first());
        targets.extend(top.map(|(id, _)| *id).filter(|id| !targets.contains(id)));
    }
    Ok(targets)
}

impl Output {
    /// Refuses files that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(out) = self.out.as_deref().filter(|out| *out != Path::new("-")) {
            report::check_writable(out)?;
        }
        if let Some(plot) = &self.plot {
            report::check_plot(plot)?;
        }
        Ok(())
    }

    /// Refuses metrics that some pair has no answers for, and averages that could not be written.
    pub fn check_pairs(&self, pairs: &[PairRuns], averages: bool) -> Result<(), Error> {
        metric::check(&self.metric, pairs)?;
        if let Some(out) = self.table_file().filter(|_| averages) {
            report::check_summary(out)?;
        }
        Ok(())
    }

    /// The file that the table goes to, if it goes to one.
    fn table_file(&self) -> Option<&Path> {
        self.out.as_deref().filter(|out| *out != Path::new("-"))
    }

    /// The column that is drawn: the first metric, else the probability.
    fn drawn(&self) -> String {
        let first = self.metric.first();
        first.map_or_else(|| "prob".to_owned(), Metric::to_string)
    }

    /// Refuses a plot of runs that have no place in one, before anything is computed.
    pub fn check_plot(&self, setup: &Setup, pairs: &[PairRuns]) -> Result<(), Error> {
        if self.plot.is_none() {
            return Ok(());
        }
        let nothing = |pair: &Pair| {
            vec![Readout {
                logits: vec![0.0; pair.answers().len()],
                ..Readout::default()
            }]
        };
        let read = |PairRuns { pair, runs }: &PairRuns| PairOutcome {
            base: nothing(pair),
            source: None,
            runs: vec![nothing(pair); runs.len()],
        };
        let outcome = Outcome {
            pairs: pairs.iter().map(read).collect(),
            ..Outcome::default()
        };
        HeatMap::new(
            &table(&setup.model, pairs, &outcome, &[], Provenance::default()),
            "prob",
        )?;
        Ok(())
    }

    /// Writes files, and the same for people.
    pub fn write(
        &self,
        setup: &Setup,
        pairs: &[PairRuns],
        outcome: &Outcome,
        time: Duration,
        averages: bool,
    ) -> Result<ExitCode, Error> {
        let to_stdout = self.out.as_deref() == Some(Path::new("-"));
        // the hash reads every weight: only a file needs it
        let provenance = if self.out.is_some() {
            setup.provenance(pairs)
        } else {
            setup.provenance_without_hash(pairs)
        };
        let table = table(&setup.model, pairs, outcome, &self.metric, provenance);
        let mut written = Vec::new();
        if let Some(path) = self.table_file() {
            report::write(&table, path)?;
            written.push(path.to_owned());
            if averages {
                let summary = summary(&table, pairs, outcome, &self.metric);
                report::write_summary(&summary, &table.provenance, path)?;
                written.push(report::summary_path(path));
            }
        }
        let map = match HeatMap::new(&table, &self.drawn()) {
            Ok(map) => Some(map),
            // runs of several patches have no place in a grid; only who asked for a plot minds
            Err(ReportError::NothingToPlot(_)) if self.plot.is_none() => None,
            Err(error) => return Err(error.into()),
        };
        if let (Some(path), Some(map)) = (&self.plot, &map) {
            report::plot(map, path)?;
            written.push(path.clone());
        }
        // the reader of a pipe may go away; files stand by then
        if to_stdout {
            report::write_csv(&table, std::io::stdout().lock())?;
        }
        let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
        let terminal = if to_stdout {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        let out: &mut dyn Write = if to_stdout { &mut stderr } else { &mut stdout };
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        print(out, |out| {
            say(setup, pairs, outcome, &table, out)?;
            if let Some(map) = &map {
                writeln!(out)?;
                report::render(map, columns(), colour, out)?;
                writeln!(out, "\nstrongest")?;
                write_strongest(&strongest(&table, None, 10), out)?;
            }
            let lost = table
                .rows
                .iter()
                .filter(|row| !row.logprob.is_finite())
                .count();
            if lost > 0 {
                let all = table.rows.len();
                writeln!(
                    out,
                    "\n{lost} of {all} rows are not finite: what their patches wrote overflowed or divided by zero"
                )?;
            }
            writeln!(out)?;
            let (runs, copied) = (outcome.plan.count, outcome.plan.copied);
            writeln!(
                out,
                "{runs} runs in {:.3} s ({:.0} runs/s, {:.1} GFLOP/s; {copied} could change nothing)",
                time.as_secs_f64(),
                runs as f64 / time.as_secs_f64(),
                outcome.plan.flops() as f64 / time.as_secs_f64() / 1e9,
            )?;
            for path in &written {
                writeln!(out, "wrote {}", path.display())?;
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Both prompts' most probable tokens, as the reference tutorial prints them.
fn say(
    setup: &Setup,
    pairs: &[PairRuns],
    outcome: &Outcome,
    table: &Table,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    const SHOWN: usize = 3;
    let text = |ids: &[u32]| match &setup.model.tokenizer {
        Some(tokenizer) => ids
            .iter()
            .map(|id| tokenizer.decode_raw(*id))
            .collect::<String>(),
        None => format!("{ids:?}"),
    };
    for (i, (PairRuns { pair, .. }, read)) in
        pairs.iter().zip(&outcome.pairs).take(SHOWN).enumerate()
    {
        if i > 0 {
            writeln!(out)?;
        }
        if let Some(base) = read.base.last() {
            writeln!(out, "base:   {}", text(&pair.base))?;
            write_topk(&candidates(&setup.model, base), TopkFormat::Table, out)?;
        }
        if let (Some(source), Some(ids)) = (&read.source, &pair.source) {
            writeln!(out, "\nsource: {}", text(ids))?;
            write_topk(&candidates(&setup.model, source), TopkFormat::Table, out)?;
        }
    }
    if pairs.len() > SHOWN {
        writeln!(
            out,
            "\n… and {} more pairs, {} rows in all",
            pairs.len() - SHOWN,
            table.rows.len()
        )?;
    }
    Ok(())
}
