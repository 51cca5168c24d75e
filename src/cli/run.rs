//! `headlight run`: an experiment file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::collect::CollectFile;
use super::data::DataFlags;
use super::files::{Files, before_name};
use super::output::{Also, OutputFlags};
use super::prompts::Several;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::ask::experiment::Experiment;
use crate::engine::{Engine, Fallback};
use crate::error::Error;
use crate::prompt::position::Position;

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunFile {
    /// The experiment, .toml or .json
    file: PathBuf,
    #[command(flatten)]
    several: Several,
    /// Where prompts are read out, by number or name (3, -2, subject.last, a word), in each prompt by itself; the end
    /// unless given
    #[arg(long, value_name = "POSITION", allow_negative_numbers = true)]
    at: Option<String>,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    collect: CollectFile,
    #[command(flatten)]
    output: OutputFlags,
}

impl RunFile {
    pub fn table(&self) -> &TableFile {
        &self.output.table
    }

    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.output.check(global)?;
        let experiment = Experiment::open(&self.file)?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let files = Files::default()
            .reads("the experiment", Some(&self.file))
            .reads("--data", self.data.data.as_deref())
            .writes("--collect", self.collect.collect.as_deref());
        let named = experiment
            .files()
            .map(|text| folder.join(before_name(text)));
        let files = named.fold(files, |files, file| {
            files.reads("the experiment", Some(file))
        });
        self.output.files(files).check(global)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let at = self.at.as_deref().map(Position::named);
        let pairs = match rows {
            Some(_) if !experiment.pairs.is_empty() => {
                return Err(Error::Usage(
                    "--data: the experiment has pairs of its own; leave out either".into(),
                ));
            }
            Some(rows) => {
                let fallback = self.fallback(&experiment, engine)?;
                engine.plain(self.data.rows(rows, fallback, at, global))?
            }
            None => {
                let own = experiment.own_pairs(engine.model(), self.several.tokens())?;
                let begun = own.into_iter().map(|pair| {
                    let pair = self.data.begin(pair, engine)?;
                    match &at {
                        Some(at) => engine.read_at(pair, at),
                        None => Ok(pair),
                    }
                });
                begun.collect::<Result<_, _>>()?
            }
        };
        let question = engine.experiment_of(&experiment, folder, pairs)?;
        let also = Also {
            collect: Some(&self.collect),
            averages: question.pairs.len() > 1,
            tops: true,
            ..Also::default()
        };
        self.output.answer(&setup, question, also)
    }

    /// The experiment's targets are those of rows that have none.
    fn fallback(&self, experiment: &Experiment, engine: &Engine) -> Result<Fallback, Error> {
        Ok(Fallback {
            targets: experiment.targets(engine.model(), self.several.tokens())?,
            wrong: Vec::new(),
            several: self.several.tokens(),
        })
    }
}
