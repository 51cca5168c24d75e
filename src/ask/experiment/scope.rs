//! What the names in a patch mean: prompts, runs, and positions of one pair.

use std::collections::BTreeMap;

use super::RunText;
use super::error::ExperimentError;
use super::positions::PositionsText;
use crate::model::Checkpoint;
use crate::patch::{Origin, Prompt};
use crate::prompt::pair::Pair;
use crate::prompt::position::Words;

/// A pair's prompts as words, and the runs that stand before a patch's own.
pub(super) struct Scope<'a> {
    pub pair: &'a Pair,
    /// Runs of the file that apply to this pair and come before the patch's own.
    pub runs: Vec<(&'a RunText, Prompt)>,
    words: BTreeMap<Prompt, Words>,
}

impl<'a> Scope<'a> {
    pub fn new(pair: &'a Pair, model: &Checkpoint) -> Self {
        let further = (0..pair.prompts.len()).map(Prompt::Further);
        let prompts = [Prompt::Base, Prompt::Source].into_iter().chain(further);
        let words = prompts.filter_map(|prompt| {
            let tokenizer = model.tokenizer.as_ref();
            let bytes = |id: &u32| tokenizer.and_then(|t| t.bytes(*id));
            let words = Words::new(pair.ids(prompt)?.iter().map(bytes));
            Some((prompt, words))
        });
        Self {
            pair,
            runs: Vec::new(),
            words: words.collect(),
        }
    }

    /// The prompt of a name.
    pub fn prompt(&self, name: &str) -> Result<Prompt, String> {
        let further = || {
            let named = self.pair.prompts.iter().position(|(n, _)| n == name);
            named.map(Prompt::Further)
        };
        match name {
            "base" => Ok(Prompt::Base),
            "source" => Ok(Prompt::Source),
            _ => further().ok_or_else(|| {
                let others = self.pair.prompts.iter().map(|(n, _)| n.as_str());
                let known: Vec<&str> = ["base", "source"].into_iter().chain(others).collect();
                format!(
                    "names a prompt {name:?} that the pair does not have: it has {}",
                    known.join(", ")
                )
            }),
        }
    }

    /// The index of an earlier run.
    pub fn run(&self, name: &str) -> Result<usize, String> {
        let named = |(run, _): &(&RunText, Prompt)| run.name.as_deref() == Some(name);
        if self.runs.iter().filter(|run| named(run)).count() > 1 {
            return Err(format!(
                "reads the run {name:?}, but several runs before it are called that: give each a name of \
                 its own"
            ));
        }
        self.runs.iter().position(named).ok_or_else(|| {
            let known: Vec<&str> = self
                .runs
                .iter()
                .filter_map(|(r, _)| r.name.as_deref())
                .collect();
            let known = match known.is_empty() {
                true => "no earlier run of this pair has a name".to_owned(),
                false => format!("earlier runs of this pair are {}", known.join(", ")),
            };
            format!("reads the run {name:?}, which does not stand before it: {known}")
        })
    }

    /// The prompt whose positions a patch reads.
    pub fn prompt_of(&self, origin: Origin) -> Prompt {
        match origin {
            Origin::Clean(prompt) => prompt,
            Origin::Run(run) => self
                .runs
                .get(run)
                .map_or(Prompt::Base, |(_, prompt)| *prompt),
        }
    }

    /// The positions that a text means in a prompt.
    pub fn positions(
        &self,
        text: &PositionsText,
        prompt: Prompt,
        at: &str,
    ) -> Result<Vec<usize>, ExperimentError> {
        // numbers are checked with the rest of the patch
        if let Some(numbers) = text.as_numbers() {
            return Ok(numbers);
        }
        let Some(words) = self.words.get(&prompt) else {
            return Err(ExperimentError::Meaning {
                at: at.to_owned(),
                problem: format!(
                    "reads the {} prompt, which the pair does not have: give one",
                    self.pair.prompt_name(prompt)
                ),
            });
        };
        text.resolve(words)
            .map_err(|error| ExperimentError::Position {
                at: at.to_owned(),
                prompt: self.pair.prompt_name(prompt).to_owned(),
                error,
            })
    }
}
