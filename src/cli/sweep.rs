//! `headlight sweep`: the reference job.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::Global;
use super::collect::CollectFile;
use super::components;
use super::data::DataFlags;
use super::files::{Files, before_name};
use super::output::{Also, OutputFlags};
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::ask::grid::{Grid, IndexRange};
use crate::ask::operator::OpText;
use crate::ask::preset::Preset;
use crate::basis::Basis;
use crate::basis::read::BasisFiles;
use crate::engine::{self, Engine, words};
use crate::error::Error;
use crate::patch::{Op, Patch, Run};
use crate::prompt::pair::PairRuns;
use crate::report::{self, plain, site_label, token_label};
use crate::results::strongest::Strongest;
use crate::site::Site;

/// Flags of `sweep`.
#[derive(Debug, Args)]
pub struct SweepFlags {
    #[command(flatten)]
    prompts: Prompts,
    /// Components, by pyvene's names or TransformerLens's hooks: `help` lists them; unless given
    /// head_attention_value_output,head_value_output
    #[arg(long, value_delimiter = ',', value_name = "NAMES|help")]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(long, default_value = "all", value_name = "RANGE")]
    layers: IndexRange,
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
    /// Keys of attention_scores or attention_weight, by ranges or names as positions, or all: one run each; without
    /// it a run touches every key that its queries see
    #[arg(long, value_name = "RANGE|NAMES", allow_negative_numbers = true)]
    keys: Option<String>,
    /// Layers that one run patches together, around the one that it is filed under
    #[arg(long, default_value_t = 1, value_name = "N")]
    window: usize,
    /// interchange, zero, knockout, add, subtract, skip, collect, set=F#T, set=x, add=F#T, subtract=F#T (or F#T*2.5),
    /// mean=FILE, mean-by-position=FILE, scale=x, interpolate=α, noise=level
    #[arg(long, default_value = "interchange", value_name = "OP")]
    op: OpText,
    /// Columns of the row, or coordinates of the basis: all, 3, 0,4 or 0-31, or one run each: each, each:0-31
    #[arg(long, default_value = "all", value_name = "RANGE|each[:RANGE]")]
    columns: String,
    /// The basis in which the operator acts: a rotation, mask, PCA or SAE in a safetensors file; the row's own numbers
    /// unless given
    #[arg(long, value_name = "F#NAME")]
    basis: Option<String>,
    /// Let rows become what an autoencoder or principal components make of them, without what these do not hold
    #[arg(long, requires = "basis")]
    no_error_term: bool,
    /// Seed of noise; 0 unless given
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    collect: CollectFile,
    #[command(flatten)]
    output: OutputFlags,
}

impl SweepFlags {
    pub fn table(&self) -> &TableFile {
        &self.output.table
    }

    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if components::asked(&self.component) {
            return components::run(global);
        }
        self.output.check(global)?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        if self.seed.is_some() && !matches!(self.op, OpText::Ready(Op::Noise { .. })) {
            return Err(Error::Usage(
                "--seed is for --op noise=level: leave it out".into(),
            ));
        }
        self.files().check(global)?;
        self.check_preset()?;
        let sites = self.sites()?;
        let (heads, heads_together) = words::heads(&self.heads)?;
        let places = words::place("positions", &self.positions)?;
        let keys = self.keys.as_deref().map(|keys| words::place("keys", keys));
        let keys = keys.transpose()?;
        let (columns, columns_apart) = words::columns(&self.columns)?;
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
                window: self.window,
                columns,
                columns_apart,
                basis: self.basis()?,
                op: engine.op(&self.op, self.seed)?,
            },
            preset: self.preset,
            places,
            keys,
        };
        let question = engine.sweep(&sweep, pairs)?;
        // a plan computes nothing
        let notes = match self.no_error_term && setup.plan.is_none() {
            true => vec![reconstructed(engine, &question.pairs)?],
            false => Vec::new(),
        };
        let also = Also {
            notes,
            arrays: self.arrays.as_deref(),
            collect: Some(&self.collect),
            averages: of_data,
            targets: true,
            ..Also::default()
        };
        self.output.answer(&setup, question, also)
    }

    /// Refuses flags that a preset leaves no place for.
    fn check_preset(&self) -> Result<(), Error> {
        let Some(preset) = &self.preset else {
            return match self.arrays {
                Some(_) => Err(Error::Usage(
                    "--arrays holds what a --preset runs: give one".into(),
                )),
                None => Ok(()),
            };
        };
        preset
            .check(&self.heads, &self.positions)
            .map_err(Error::Usage)
    }

    fn sites(&self) -> Result<Vec<Site>, Error> {
        if let Some(preset) = &self.preset {
            return Ok(preset.sites());
        }
        let op = match &self.op {
            OpText::Ready(op) => Some(op),
            _ => None,
        };
        words::sites(&self.component, op)
    }

    fn files(&self) -> Files {
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .reads("--basis", self.basis.as_deref().map(before_name))
            .reads("--op", self.op.file().map(before_name))
            .writes("--arrays", self.arrays.as_deref())
            .writes("--collect", self.collect.collect.as_deref());
        self.output.files(files)
    }

    fn basis(&self) -> Result<Option<Arc<Basis>>, Error> {
        let error_term = self.no_error_term.then_some(false);
        let read = |text: &String| BasisFiles::default().read(text, Path::new(""), error_term);
        Ok(self.basis.as_ref().map(read).transpose()?)
    }
}

/// What the basis alone does: rows become their reconstructions, and nothing else is changed.
fn reconstructed(engine: &Engine, pairs: &[PairRuns]) -> Result<String, Error> {
    let alone = |PairRuns { pair, runs }: &PairRuns| {
        let run = |run: &Run| Run {
            patches: run
                .patches
                .iter()
                .map(|patch| Patch {
                    columns: None,
                    ..patch.clone().with_op(Op::Scale(1.0))
                })
                .collect(),
            ..run.clone()
        };
        PairRuns {
            pair: pair.clone(),
            runs: runs.iter().map(run).collect(),
        }
    };
    let mut pairs: Vec<PairRuns> = pairs.iter().map(alone).collect();
    engine.default_targets(&mut pairs)?;
    let question = engine.runs(pairs);
    let mut strongest = Strongest::of(1, &[]);
    question.answer(&mut [&mut strongest], &|_| ())?;
    Ok(match strongest.places() {
        [] => "the basis holds its rows: reconstructed and not changed, they move no probability"
            .to_owned(),
        [place, ..] => format!(
            "rows as the basis makes them, with nothing changed, take {} from {} to {} at the furthest ({})",
            token_label(&place.row.target),
            plain(place.base),
            plain(place.value),
            place
                .row
                .component
                .as_deref()
                .map_or_else(String::new, |name| site_label(name, place.row.layer)),
        ),
    })
}
