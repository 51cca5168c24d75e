//! Prompt pairs, and the questions asked of their next-token distribution.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::model::{Checkpoint, ModelError};
use crate::patch::{Prompt, Run};

/// A prompt as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a prompt is text or a list of token ids, each 0 or more"
)]
pub enum PromptText {
    /// Text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl PromptText {
    /// Its token ids. No BOS is added.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for text, if the model has no tokenizer or it cannot encode it.
    pub fn tokens(&self, model: &Checkpoint) -> Result<Vec<u32>, ModelError> {
        match self {
            Self::Text(text) => model.text()?.encode(text),
            Self::Ids(ids) => Ok(ids.clone()),
        }
    }
}

/// A base prompt and, where operators read one, a source prompt, as token ids.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pair {
    /// The prompt that is patched. Never padded; no BOS is added.
    pub base: Vec<u32>,
    /// The prompt that activations are taken from.
    pub source: Option<Vec<u32>>,
    /// Further prompts that runs patch or read, by name.
    pub prompts: Vec<(String, Vec<u32>)>,
    /// Tokens whose probability is read: the right answers, where there are wrong ones.
    pub targets: Vec<u32>,
    /// Wrong answers, which metrics hold against the targets. They have no rows of their own.
    pub wrong: Vec<u32>,
    /// Of each of [`Pair::answers`], the tokens behind its first, which are read as one with it; empty where all answers
    /// are single tokens.
    pub further_tokens: Vec<Vec<u32>>,
    /// Positions of the base that are read out, ascending; empty is the last one.
    pub readouts: Vec<usize>,
    /// Position of the source that is read out beside them; `None` is the last one.
    pub source_readout: Option<usize>,
    /// The row of a data set that it is.
    pub row: Option<DataRow>,
    /// How the base goes on behind its prompt while an answer of several tokens is read; nothing in a pair that is asked.
    #[doc(hidden)]
    pub continuation: Continuation,
}

// What few pairs have is not said of others: a folder's identity is a hash of this text.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pair = f.debug_struct("Pair");
        pair.field("base", &self.base)
            .field("source", &self.source)
            .field("prompts", &self.prompts)
            .field("targets", &self.targets)
            .field("wrong", &self.wrong);
        if !self.further_tokens.is_empty() {
            pair.field("further_tokens", &self.further_tokens);
        }
        pair.field("readouts", &self.readouts)
            .field("source_readout", &self.source_readout)
            .field("row", &self.row)
            .finish()
    }
}

/// Tokens behind a prompt that stand in its pair's base.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Continuation {
    /// How many: those that an answer begins with.
    pub tokens: usize,
    /// Whether the same pair is asked elsewhere, and this is only to read what follows.
    pub aside: bool,
}

/// Which row of its data set a pair is, whatever rows were passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRow {
    /// From 0, rows that are wrong counted too.
    pub number: u32,
    /// The file's own name of it; empty where only other rows have one.
    pub id: Option<Arc<str>>,
}

impl Pair {
    /// Two prompts and the tokens asked for, each text one token.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoTokenizer`]; [`ModelError::Encode`] and [`ModelError::NotOneToken`] for text
    /// that the tokenizer has no token for.
    pub fn encode(
        model: &Checkpoint,
        base: &str,
        source: &str,
        targets: &[&str],
    ) -> Result<Self, ModelError> {
        let text = model.text()?;
        let target = |target: &&str| text.target(target);
        Ok(Self {
            base: text.encode(base)?,
            source: Some(text.encode(source)?),
            targets: targets.iter().map(target).collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// A prompt's tokens, if the pair has it.
    pub fn ids(&self, prompt: Prompt) -> Option<&[u32]> {
        match prompt {
            Prompt::Base => Some(&self.base),
            Prompt::Source => self.source.as_deref(),
            Prompt::Further(i) => self.prompts.get(i).map(|(_, ids)| ids.as_slice()),
        }
    }

    /// A prompt's name.
    pub fn prompt_name(&self, prompt: Prompt) -> &str {
        match prompt {
            Prompt::Base => "base",
            Prompt::Source => "source",
            Prompt::Further(i) => self.prompts.get(i).map_or("", |(name, _)| name),
        }
    }

    /// Tokens that are read out, targets first; of an answer of several, the first.
    pub fn answers(&self) -> Vec<u32> {
        [&self.targets[..], &self.wrong].concat()
    }

    /// The same pair with answers, each given by its tokens.
    #[must_use]
    pub fn answered(self, targets: &[Vec<u32>], wrong: &[Vec<u32>]) -> Self {
        let first = |of: &[Vec<u32>]| of.iter().filter_map(|a| a.first().copied()).collect();
        let answers = || targets.iter().chain(wrong).filter(|a| !a.is_empty());
        let further_tokens = match answers().any(|answer| answer.len() > 1) {
            true => answers().map(|answer| answer[1..].to_vec()).collect(),
            false => Vec::new(),
        };
        Self {
            targets: first(targets),
            wrong: first(wrong),
            further_tokens,
            ..self
        }
    }

    /// All tokens of the answer of this index among [`Pair::answers`]; none where there is none.
    pub fn answer_tokens(&self, index: usize) -> Vec<u32> {
        let wrong = index.checked_sub(self.targets.len());
        let first = match wrong {
            None => self.targets.get(index),
            Some(wrong) => self.wrong.get(wrong),
        };
        let further = self.further_tokens.get(index).into_iter().flatten();
        first.into_iter().chain(further).copied().collect()
    }

    /// Whether an answer, by its index among [`Pair::answers`], is of several tokens.
    pub fn is_of_several_tokens(&self, index: usize) -> bool {
        self.further_tokens
            .get(index)
            .is_some_and(|further| !further.is_empty())
    }

    /// The tokens of a prompt without what is read behind it.
    pub(crate) fn prompt_ids(&self, prompt: Prompt) -> &[u32] {
        let ids = self.ids(prompt).unwrap_or_default();
        match prompt {
            Prompt::Base => &ids[..ids.len() - self.continuation.tokens],
            _ => ids,
        }
    }

    /// The positions that are read out.
    pub fn readout_positions(&self) -> Vec<usize> {
        match (&self.readouts[..], self.base.len()) {
            ([], n) => vec![n.saturating_sub(1)],
            (positions, _) => positions.to_vec(),
        }
    }
}

impl Pair {
    /// The position of the source that is read out, where there is a source.
    pub fn source_position(&self) -> Option<usize> {
        let last = self.source.as_ref()?.len().saturating_sub(1);
        Some(self.source_readout.unwrap_or(last))
    }
}

impl PairRuns {
    /// The tokens of the prompt that a run patches.
    pub fn patched(&self, run: usize) -> &[u32] {
        let prompt = self.runs.get(run).map(|run| run.prompt);
        self.pair.prompt_ids(prompt.unwrap_or_default())
    }
}

impl From<PairRuns> for Vec<PairRuns> {
    fn from(pair: PairRuns) -> Self {
        vec![pair]
    }
}

/// A pair with its runs.
#[derive(Debug, Clone)]
pub struct PairRuns {
    /// The prompts.
    pub pair: Pair,
    /// What is run on them.
    pub runs: Arc<[Run]>,
}
