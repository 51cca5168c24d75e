//! `headlight run`: an experiment file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::collect::CollectFile;
use super::files::{Files, before_name};
use super::output::Output;
use super::setup::Setup;
use crate::ask::experiment::Experiment;
use crate::check::CheckError;
use crate::error::Error;
use crate::execute;
use crate::execute::ExecuteError;

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
    output: Output,
}

impl RunFile {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.output.check()?;
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
        let pairs = experiment.resolve(&setup.model, folder, self.first_token)?;
        execute::check(&pairs, &setup.model.config).map_err(of_file)?;
        self.collect.check(&pairs)?;
        self.output.table.check_pairs(&pairs, pairs.len() > 1)?;
        self.output.check_plot(&setup, &pairs, |_| ())?;
        setup.announce();
        let (outcome, time) = setup.execute(&pairs, 10, &self.output.table.metric)?;
        self.collect.write(&setup, &outcome)?;
        let results = self.output.tabulate(&setup, &pairs, (&outcome, time));
        self.output.write(&setup, &results, pairs.len() > 1)
    }
}

/// What does not fit, with what a file may say of it and flags may not.
fn of_file(error: ExecuteError) -> Error {
    match &error {
        ExecuteError::Check {
            error: CheckError::SourceTooShort { .. },
            ..
        } => Error::Usage(format!("{error}, or name source_positions")),
        _ => error.into(),
    }
}
