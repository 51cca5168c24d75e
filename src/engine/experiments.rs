//! Experiments, of their own pairs or of others, and pairs that nothing is swept over.

use std::path::Path;

use super::{Engine, Pairs, Question};
use crate::ask::experiment::Experiment;
use crate::check::CheckError;
use crate::data::{Example, Reading, Resolved};
use crate::error::Error;
use crate::execute;
use crate::model::SeveralTokens;
use crate::prompt::pair::Pair;

impl Engine {
    /// An experiment's pairs and runs; files that it names are looked up in `folder`.
    ///
    /// # Errors
    ///
    /// [`Error::Experiment`] for what it means nothing by, [`Error::Execute`] or [`Error::Usage`] for runs that
    /// do not fit the model.
    pub fn experiment(
        &self,
        experiment: &Experiment,
        folder: &Path,
        several: SeveralTokens,
    ) -> Result<Question<'_>, Error> {
        let pairs = experiment.own_pairs(&self.model, several)?;
        self.experiment_of(experiment, folder, pairs)
    }

    /// An experiment's runs of these pairs instead of its own.
    ///
    /// # Errors
    ///
    /// As [`Engine::experiment`].
    pub fn experiment_of(
        &self,
        experiment: &Experiment,
        folder: &Path,
        pairs: Vec<Pair>,
    ) -> Result<Question<'_>, Error> {
        let pairs = experiment.of_pairs(pairs, &self.model, folder)?;
        // with what a file may say of it and flags may not
        let of_file = |error| match error {
            execute::ExecuteError::Check {
                error: CheckError::SourceTooShort { .. },
                ..
            } => Error::Usage(format!("{error}, or name source_positions")),
            _ => error.into(),
        };
        execute::check(&pairs, &self.model.config).map_err(of_file)?;
        Ok(self.runs(pairs))
    }

    /// Pairs as they are, or those of a data set's rows; rows without targets are taken.
    ///
    /// # Errors
    ///
    /// [`Error::Data`]: rows that do not fit the model.
    pub fn plain(&self, pairs: Pairs) -> Result<Vec<Pair>, Error> {
        match pairs {
            Pairs::Listed(pairs) => Ok(pairs),
            Pairs::Rows(rows, options, fallback) => {
                let reading = Reading {
                    // what is not patched is patched nowhere
                    positions: Some(&[]),
                    targets_optional: true,
                    ..self.reading(&options, &fallback)?
                };
                let visit = |_: &Example, resolved: Resolved| Ok(Ok(resolved.pair));
                self.each_row(rows, &reading, &options, visit)
            }
        }
    }
}
