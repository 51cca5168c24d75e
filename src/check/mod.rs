//! Whether a pair and its patches fit the model, before anything runs.
//!
//! Everything behind this may index without looking again. Each error is one sentence that names
//! what was wrong and what would be right, because a sweep is usually typed by hand.

mod chain;
mod error;
mod knockout;
mod patch;
mod subspace;

use std::collections::{HashMap, HashSet};

pub use self::error::CheckError;
use crate::model::Config;
use crate::patch::{Op, Prompt, Run};
use crate::prompt::pair::Pair;

/// Checks a pair against the model.
///
/// # Errors
///
/// [`CheckError`] for an empty or too long prompt, ids outside the vocabulary, a target given
/// twice, and readout positions beyond the base prompt.
pub fn check_pair(pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let further = (0..pair.prompts.len()).map(Prompt::Further);
    for prompt in [Prompt::Base, Prompt::Source].into_iter().chain(further) {
        let Some(ids) = pair.ids(prompt) else {
            continue;
        };
        let which = pair.prompt_name(prompt).to_owned();
        if ids.is_empty() {
            return Err(CheckError::EmptyPrompt { which });
        }
        if ids.len() > config.context {
            return Err(CheckError::PromptTooLong {
                which,
                tokens: ids.len(),
                context: config.context,
            });
        }
        check_ids(ids, config)?;
    }
    check_answers(pair, config)?;
    let of_source = pair.source_readout.as_slice();
    let length = pair.source.as_ref().map_or(0, Vec::len);
    in_range("position", of_source, length, "the source's readout")?;
    in_range("position", &pair.readouts, pair.base.len(), "the readout")
}

fn check_answers(pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let ids = pair.answers();
    check_ids(&ids, config)?;
    let answers: Vec<Vec<u32>> = (0..ids.len()).map(|i| pair.answer_tokens(i)).collect();
    let mut seen = HashMap::with_capacity(answers.len());
    for (i, answer) in answers.iter().enumerate() {
        check_ids(answer, config)?;
        if let Some(before) = seen.insert(answer, i) {
            let (id, right) = (answer[0], pair.targets.len());
            return Err(match before < right && right <= i {
                true => CheckError::RightAndWrong { id },
                false => CheckError::TargetTwice { id },
            });
        }
    }
    if pair.further_tokens.is_empty() {
        return Ok(());
    }
    let longest = answers.iter().map(Vec::len).max().unwrap_or(1);
    for prompt in [Prompt::Base, Prompt::Source] {
        let Some(ids) = pair.ids(prompt) else {
            continue;
        };
        // the last token of an answer is read and not run
        if ids.len() + longest - 1 > config.context {
            return Err(CheckError::NoRoomForAnswer {
                which: pair.prompt_name(prompt).to_owned(),
                tokens: ids.len(),
                answer: longest,
                context: config.context,
            });
        }
    }
    let end = |readouts: &[usize], length: usize| readouts.iter().all(|at| at + 1 == length);
    let source = pair.source.as_ref().map_or(0, Vec::len);
    if !end(&pair.readouts, pair.base.len()) || !end(pair.source_readout.as_slice(), source) {
        return Err(CheckError::AnswerElsewhere);
    }
    Ok(())
}

fn check_ids(ids: &[u32], config: &Config) -> Result<(), CheckError> {
    match ids.iter().find(|id| **id as usize >= config.vocab) {
        Some(&id) => Err(CheckError::TokenId {
            id,
            vocab: config.vocab,
        }),
        None => Ok(()),
    }
}

/// Checks one of a pair's runs against the others and the model.
///
/// # Errors
///
/// [`CheckError`] naming the component and what would be right.
pub fn check_run(run: &Run, runs: &[Run], pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let Some(ids) = pair.ids(run.prompt) else {
        let prompt = match run.prompt {
            Prompt::Base => "base",
            Prompt::Source => "source",
            Prompt::Further(_) => "further",
        };
        return Err(CheckError::NoPrompt { prompt });
    };
    if run.prompt != Prompt::Base && !run.step {
        let prompt = pair.prompt_name(run.prompt).to_owned();
        return Err(CheckError::NotABase { prompt });
    }
    if let Some(at) = run.at
        && !pair.readout_positions().contains(&at)
    {
        return Err(CheckError::Shape {
            site: "the readout",
            problem: format!(
                "is of position {at}, which the pair does not read out: give one that it does"
            ),
        });
    }
    run.patches.iter().try_for_each(|patch| {
        patch::place(patch, ids.len(), config)?;
        patch::operand(patch, ids.len(), runs, pair, config)?;
        match patch.op {
            Op::Collect => chain::readable(patch, &run.patches, config, "collects"),
            _ => Ok(()),
        }
    })?;
    knockout::check(&run.patches)
}

/// The first value that stands a second time.
fn repeated<T: Copy + Eq + std::hash::Hash>(values: &[T]) -> Option<&T> {
    // nearly every patch of a sweep names one head and one position
    if values.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(values.len());
    values.iter().find(|v| !seen.insert(**v))
}

fn once(what: &'static str, values: &[usize], site: &'static str) -> Result<(), CheckError> {
    match repeated(values) {
        Some(&value) => Err(CheckError::Twice { what, value, site }),
        None => Ok(()),
    }
}

fn in_range(
    what: &'static str,
    values: &[usize],
    end: usize,
    site: &'static str,
) -> Result<(), CheckError> {
    match values.iter().find(|v| **v >= end) {
        Some(&value) => Err(CheckError::OutOfRange {
            what,
            value,
            site,
            last: end.saturating_sub(1),
        }),
        None => Ok(()),
    }
}
