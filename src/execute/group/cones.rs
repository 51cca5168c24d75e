//! Light cones of a group's runs.

use rayon::prelude::*;

use super::Group;
use crate::backend::Backend;
use crate::execute::ExecuteError;
use crate::execute::layout::readouts;
use crate::execute::no_op::{Asked, Kept, dead};
use crate::plan::cone::{self, Cone, ConeInput, Wanted};
use crate::plan::cost::{Cost, Flops};
use crate::plan::edit::{Edit, edits};
use crate::plan::patched_cache::RunId;
use crate::prompt::pair::PairRuns;

/// A run whose light cone is to be drawn.
pub struct Asking {
    pub pair: usize,
    pub run: usize,
    pub edits: Vec<Edit>,
    /// What others read of it, if it is run for their sake.
    pub kept_as: Option<(RunId, Wanted)>,
}

/// A run whose light cone is drawn.
pub struct Drawn {
    pub pair: usize,
    pub run: usize,
    pub cone: Cone,
    pub edits: Vec<Edit>,
    pub flops: Flops,
    /// What its rows take in a chunk.
    pub bytes: u64,
    pub kept_as: Option<RunId>,
}

impl<B: Backend> Group<'_, B> {
    /// A run for its own sake.
    pub(super) fn asking(&self, pair: usize, run: usize) -> Asking {
        let patches = &self.pairs[pair].runs[run].patches;
        Asking {
            pair,
            run,
            edits: edits(patches, (self.first + pair) as u32, self.backend.config()),
            kept_as: None,
        }
    }

    /// Draws the light cones of some runs.
    pub(super) fn draw(&self, runs: Vec<Asking>) -> Result<Vec<Drawn>, ExecuteError> {
        let asked: Vec<Asked<'_>> = runs
            .iter()
            .map(|run| Asked {
                pair: run.pair,
                place: &self.places[run.pair],
                prompt: self.pairs[run.pair].runs[run.run].prompt,
                edits: &run.edits,
            })
            .collect();
        let kept = Kept {
            cache: &self.cache,
            patched: &self.patched,
            means: &self.means,
        };
        let dead = dead(self.backend, &kept, &asked)?;
        let drawn = (runs, dead).into_par_iter();
        Ok(drawn.map(|(run, dead)| self.cone(run, &dead)).collect())
    }

    fn cone(&self, run: Asking, dead: &[bool]) -> Drawn {
        let config = self.backend.config();
        let PairRuns { pair, runs } = &self.pairs[run.pair];
        let nothing = Wanted::new();
        let (wanted, read_out) = match &run.kept_as {
            Some((_, wanted)) => (wanted, Vec::new()),
            None => (&nothing, readouts(pair, runs)),
        };
        let cone = cone::of_run(&ConeInput {
            config,
            edits: &run.edits,
            readouts: &read_out.into_iter().collect(),
            same: &|i| dead[i],
            wanted,
        });
        let cost = Cost::of(&cone, &run.edits, config);
        let slack = 512 + 64 * run.edits.len() + 8 * cone.parts.len() * 200;
        Drawn {
            pair: run.pair,
            run: run.run,
            flops: cost.flops,
            bytes: (cost.values * self.backend.value_bytes() + slack) as u64,
            cone,
            edits: run.edits,
            kept_as: run.kept_as.map(|(id, _)| id),
        }
    }
}
