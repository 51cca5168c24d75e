//! `--collect`: where what `collect` patches read goes.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::note;
use super::setup::Setup;
use crate::error::Error;
use crate::execute::Outcome;
use crate::patch::Op;
use crate::prompt::pair::PairRuns;
use crate::report::{check_activations, write_activations};

/// Where collected activations go.
#[derive(Debug, Args)]
pub struct CollectFile {
    /// Collected activations, f32, tensor PAIR.RUN.PATCH: safetensors
    #[arg(long, value_name = "F.safetensors")]
    pub collect: Option<PathBuf>,
}

impl CollectFile {
    /// Refuses a file that nothing would go to, and collecting without one, before anything is
    /// computed.
    pub fn check(&self, pairs: &[PairRuns]) -> Result<(), Error> {
        let mut patches = pairs
            .iter()
            .flat_map(|p| p.runs.iter())
            .flat_map(|r| &r.patches);
        let collects = patches.any(|p| p.op == Op::Collect);
        match &self.collect {
            None if collects => Err(Error::Usage(
                "the runs collect activations, but nothing says where they go: give --collect \
                 F.safetensors"
                    .into(),
            )),
            Some(_) if !collects => Err(Error::Usage(
                "--collect is for runs with op = \"collect\", and there is none: leave it out"
                    .into(),
            )),
            Some(path) => Ok(check_activations(path)?),
            None => Ok(()),
        }
    }

    /// Writes what was collected.
    pub fn write(&self, setup: &Setup, outcome: &Outcome) -> Result<(), Error> {
        let Some(path) = &self.collect else {
            return Ok(());
        };
        let mut named = Vec::new();
        for (p, pair) in outcome.pairs.iter().enumerate() {
            for found in &pair.collected {
                let name = format!("{p}.{}.{}", found.run, found.patch);
                named.push((name, &found.shape[..], &found.values[..]));
            }
        }
        let about = HashMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("model".to_owned(), setup.model.name.clone()),
            ("tensors".to_owned(), "pair.run.patch".to_owned()),
        ]);
        write_activations(path, &named, about)?;
        note(format_args!(
            "wrote {} tensors to {}",
            named.len(),
            path.display()
        ));
        Ok(())
    }
}
