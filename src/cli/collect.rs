//! `--collect`: where what `collect` patches read goes.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::note;
use crate::engine::Engine;
use crate::error::Error;
use crate::patch::Op;
use crate::prompt::pair::PairRuns;
use crate::report::{Activations, check_activations};

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

    /// What is collected, if it goes somewhere.
    pub fn activations(&self) -> Option<Activations<'_>> {
        self.collect.as_deref().map(Activations::new)
    }

    /// Writes what was collected.
    pub fn write(&self, engine: &Engine, found: Activations<'_>) -> Result<(), Error> {
        write(engine, found, ("tensors", "pair.run.patch".to_owned()))
    }
}

/// Writes activations, with what they are of, and says so.
pub fn write(
    engine: &Engine,
    activations: Activations<'_>,
    (what, of): (&str, String),
) -> Result<(), Error> {
    let about = HashMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("model".to_owned(), engine.model().name.clone()),
        (what.to_owned(), of),
    ]);
    let (count, path) = (activations.count(), activations.path().to_owned());
    activations.write(about)?;
    note(format_args!("wrote {count} tensors to {}", path.display()));
    Ok(())
}
