//! `headlight lens`: what residual streams say, and what parts of the model add to a logit.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::data::DataFlags;
use super::files::Files;
use super::output::{Also, OutputFlags};
use super::prompts::{Answers, token_id, tokens};
use super::setup::Setup;
use super::table_file::TableFile;
use super::{Global, components};
use crate::ask::grid::IndexRange;
use crate::engine::{Form, Pairs, Question, words};
use crate::error::Error;
use crate::files::error::FileError;
use crate::lens::contributions::By;
use crate::model::Checkpoint;
use crate::prompt::pair::Pair;
use crate::report::{self, LensLine, write_lens};
use crate::results::candidate::Candidate;
use crate::results::metric::{Metric, Quantity, RunReadouts};
use crate::results::rows::{Gather, RunResult};

/// How many of the most probable tokens stand in a lens's rows unless it is said.
const TOP: u32 = 5;

/// Flags of `lens`.
#[derive(Debug, Args)]
pub struct LensFlags {
    /// The prompt
    #[arg(conflicts_with_all = ["ids", "data"])]
    prompt: Option<String>,
    /// The prompt as token ids
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "IDS",
        value_parser = token_id,
        allow_negative_numbers = true,
        conflicts_with = "data"
    )]
    ids: Option<Vec<u32>>,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    answers: Answers,
    /// What parts of the model add to the answers' logits, with the final layer norm's scale held at the run's own
    /// (direct logit attribution), instead of what streams say
    #[arg(long, value_name = "layer|component|head")]
    by: Option<By>,
    /// Residual streams: block_input, block_mid, block_output; block_input.0,block_output unless given
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES|help",
        conflicts_with = "by"
    )]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(
        long,
        default_value = "all",
        value_name = "RANGE",
        conflicts_with = "by"
    )]
    layers: IndexRange,
    /// Positions by numbers or names (end, -1, subject.last, a word), each by itself, or all
    #[arg(
        long,
        default_value = "end",
        value_name = "RANGE|NAMES",
        allow_negative_numbers = true
    )]
    positions: String,
    /// The results as arrays, parts × positions: .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
}

impl LensFlags {
    pub fn table(&self) -> &TableFile {
        &self.output.table
    }

    pub fn run(mut self, global: &Global) -> Result<ExitCode, Error> {
        if components::asked(&self.component) {
            return components::run(global);
        }
        self.output.check(global)?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref());
        self.output.files(files).check(global)?;
        if self.answers.at.is_some() {
            let usage = "--at: a lens is read where --positions says: give that, or leave it out";
            return Err(Error::Usage(usage.into()));
        }
        let positions = words::place("positions", &self.positions)?;
        if self.component.is_empty() {
            self.component = ["block_input.0", "block_output"].map(str::to_owned).into();
        }
        let sites = words::sites(&self.component, None)?;
        let table = &mut self.output.table;
        match self.by {
            None => {
                table.top.get_or_insert(TOP);
                if table.metric.is_empty() {
                    table.metric = [Quantity::Prob, Quantity::Rank].map(Metric::plain).into();
                }
            }
            Some(_) if table.top.is_some() => {
                let usage =
                    "--top: what a part adds to logits is no distribution: leave it out with --by";
                return Err(Error::Usage(usage.into()));
            }
            Some(_) => {}
        }
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let of_data = rows.is_some();
        let pairs = match rows {
            Some(rows) => self.data.pairs(rows, &self.answers, engine, global)?,
            None => {
                let base = tokens(engine, &self.prompt, &self.ids)?;
                let base =
                    base.ok_or_else(|| Error::Usage("give a prompt, --ids or --data".into()))?;
                let pair = Pair {
                    base,
                    ..Pair::default()
                };
                let pair = self.answers.answered(pair, engine)?;
                Pairs::Listed(vec![self.data.begin(pair, engine)?])
            }
        };
        let mut question = match self.by {
            None => engine.lens(&sites, &self.layers, &positions, pairs)?,
            Some(by) => engine.direct_logit_attribution(by, &positions, pairs)?,
        };
        if self.by.is_some() && self.output.table.metric.is_empty() {
            question.default_metric();
        }
        let also = Also {
            arrays: self.arrays.as_deref(),
            averages: of_data,
            targets: true,
            ..Also::default()
        };
        self.output.answer(&setup, question, also)
    }
}

/// What is said of the first pair.
pub struct LensLines<'a> {
    model: &'a Checkpoint,
    by: Option<By>,
    lines: Vec<LensLine>,
    pair: Option<usize>,
}

impl<'a> LensLines<'a> {
    /// Those of a question, if it is a lens.
    pub fn of(question: &Question<'_>, model: &'a Checkpoint) -> Option<Self> {
        let Form::Lens { by, .. } = question.form else {
            return None;
        };
        Some(Self {
            model,
            by,
            lines: Vec::new(),
            pair: None,
        })
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_lens(&self.lines, self.by.is_some(), out)
    }
}

impl Gather for LensLines<'_> {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        if *self.pair.get_or_insert(result.pair) != result.pair {
            return Ok(());
        }
        let difference = Metric::plain(Quantity::LogitDiff);
        let differs = !result.read.pair.wrong.is_empty();
        self.lines.push(LensLine {
            rows: result.rows.to_vec(),
            ranks: result.read.run.ranks.clone(),
            top: Candidate::all(self.model, result.read.run),
            difference: differs.then(|| difference.of(&result.read, 0)),
            logits: result.read.base.logits.clone(),
            base_difference: differs.then(|| {
                let read = RunReadouts {
                    run: result.read.base,
                    ..result.read
                };
                difference.of(&read, 0)
            }),
        });
        Ok(())
    }
}
