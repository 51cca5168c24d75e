//! `headlight run`: an experiment file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::collect::CollectFile;
use super::files::{Files, before_name};
use super::output::{Also, OutputFlags};
use super::setup::Setup;
use super::table_file::TableFile;
use crate::ask::experiment::Experiment;
use crate::error::Error;

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunFile {
    /// The experiment, .toml or .json
    file: PathBuf,
    /// Let a target of several tokens count as its first
    #[arg(long)]
    first_token: bool,
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
            .writes("--collect", self.collect.collect.as_deref());
        let named = experiment
            .files()
            .map(|text| folder.join(before_name(text)));
        let files = named.fold(files, |files, file| {
            files.reads("the experiment", Some(file))
        });
        self.output.files(files).check(global)?;
        let setup = Setup::quiet(global)?;
        let question = setup
            .engine
            .experiment(&experiment, folder, self.first_token)?;
        let also = Also {
            collect: Some(&self.collect),
            averages: question.pairs.len() > 1,
            ..Also::default()
        };
        self.output.answer(&setup, question, also)
    }
}
