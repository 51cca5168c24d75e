//! Whole distributions: the logits of every token, for readouts that a program makes itself.

use std::ops::ControlFlow;

use super::{Engine, ReadoutOptions};
use crate::backend::Readout;
use crate::error::Error;
use crate::execute::{PairReadouts, Plan, Sink};
use crate::prompt::pair::{Pair, PairRuns};

/// Whose logits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsOf {
    /// The clean base's.
    Base,
    /// Those of the run of this index.
    Run(usize),
}

/// Takes logits: of which pair, of what, at which of its readout positions (from 0), and one number a token of
/// the vocabulary.
pub type EachLogits<'a> = dyn FnMut(usize, LogitsOf, usize, &[f64]) + 'a;

impl Engine {
    /// Runs pairs and hands on the logits of every token, after the last position alone or after all of them.
    /// Targets are not looked at.
    ///
    /// # Errors
    ///
    /// As [`Engine::execute`].
    pub fn logits(
        &self,
        mut pairs: Vec<PairRuns>,
        everywhere: bool,
        each: &mut EachLogits<'_>,
    ) -> Result<Plan, Error> {
        let vocab = u32::try_from(self.model().config.vocab).unwrap_or(u32::MAX);
        for PairRuns { pair, .. } in &mut pairs {
            pair.targets = (0..vocab).collect();
            pair.wrong = Vec::new();
            pair.readouts = match everywhere {
                true => (0..pair.base.len()).collect(),
                false => Vec::new(),
            };
        }
        self.execute(&pairs, ReadoutOptions::default(), &mut Handing(each))
    }
}

impl Engine {
    /// A prompt's logits after every position, `[positions, vocabulary]`.
    ///
    /// # Errors
    ///
    /// As [`Engine::execute`].
    pub fn logits_everywhere(&self, ids: &[u32]) -> Result<Vec<f64>, Error> {
        let pair = Pair {
            base: ids.to_vec(),
            ..Pair::default()
        };
        let runs = [].into();
        let mut all = Vec::with_capacity(ids.len() * self.model().config.vocab);
        self.logits(
            vec![PairRuns { pair, runs }],
            true,
            &mut |_, _, _, logits| {
                all.extend_from_slice(logits);
            },
        )?;
        Ok(all)
    }
}

struct Handing<'a, 'f>(&'a mut EachLogits<'f>);

impl Handing<'_, '_> {
    fn hand(&mut self, pair: usize, of: LogitsOf, readouts: &[Readout]) -> ControlFlow<()> {
        for (at, readout) in readouts.iter().enumerate() {
            (self.0)(pair, of, at, &readout.logits);
        }
        ControlFlow::Continue(())
    }
}

impl Sink for Handing<'_, '_> {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        self.hand(pair, LogitsOf::Base, &clean.base)
    }

    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        self.hand(pair, LogitsOf::Run(run), &readouts)
    }
}
