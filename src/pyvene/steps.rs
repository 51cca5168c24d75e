//! Groups and mode → runs: which prompt each patches, and what each intervention reads.

use super::PyveneError;
use super::configuration::{Configuration, Mode, Representation};

/// The prompt that a run patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchedPrompt {
    /// The base.
    Base,
    /// One of the sources, in the order of pyvene's `sources`.
    Source(usize),
}

/// Where an intervention's source comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadsFrom {
    /// It reads none.
    Nothing,
    /// A prompt's clean run.
    Prompt(usize),
    /// The run before, which patched this prompt.
    RunBefore(usize),
}

/// One run: a prompt and what acts in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRun {
    /// Its name; pyvene's own, in serial mode.
    pub name: String,
    /// The prompt that is patched.
    pub prompt: PatchedPrompt,
    /// Representations by their index, in the order in which they act.
    pub patches: Vec<(usize, ReadsFrom)>,
}

/// How many sources a configuration can be given: one, which serves for all, or this many.
///
/// # Errors
///
/// [`PyveneError`] for groups that pyvene would not run as they read.
pub fn sources(configuration: &Configuration) -> Result<usize, PyveneError> {
    let groups = groups(configuration)?;
    Ok(match configuration.mode {
        Mode::Serial => groups.len(),
        Mode::Parallel => groups.iter().filter(|group| reads(group)).count(),
    })
}

/// The runs of a configuration that was given so many sources: as many as [`sources`] says, or one.
///
/// # Errors
///
/// [`PyveneError`] for groups that pyvene would not run as they read.
pub fn steps(configuration: &Configuration, given: usize) -> Result<Vec<ImportedRun>, PyveneError> {
    let groups = groups(configuration)?;
    let source = |index: usize| if given == 1 { 0 } else { index };
    if configuration.mode == Mode::Parallel {
        let mut patches = Vec::new();
        let mut next = 0;
        for group in &groups {
            for made in group {
                let from = match made.reads_source() {
                    true => ReadsFrom::Prompt(source(next)),
                    false => ReadsFrom::Nothing,
                };
                patches.push((made.index, from));
            }
            next += usize::from(reads(group));
        }
        return Ok(vec![ImportedRun {
            name: "parallel".into(),
            prompt: PatchedPrompt::Base,
            patches,
        }]);
    }
    let last = groups.len() - 1;
    let mut steps = Vec::with_capacity(groups.len());
    for (index, group) in groups.iter().enumerate() {
        let &[made] = &group[..] else {
            let second = group.get(1).map_or(0, |made| made.index);
            return Err(configuration.wrong(
                second,
                "it shares its group in serial mode, where pyvene takes the last location of a group for all \
                 of it: give each a group of its own",
            ));
        };
        let from = match (made.reads_source(), index) {
            (false, _) => ReadsFrom::Nothing,
            (true, 0) => ReadsFrom::Prompt(source(0)),
            (true, _) => ReadsFrom::RunBefore(source(index)),
        };
        steps.push(ImportedRun {
            name: match index == last {
                true => format!("source_{index}->base"),
                false => format!("source_{index}->source_{}", index + 1),
            },
            prompt: match index == last {
                true => PatchedPrompt::Base,
                false => PatchedPrompt::Source(source(index + 1)),
            },
            patches: vec![(made.index, from)],
        });
    }
    Ok(steps)
}

fn reads(group: &[&Representation]) -> bool {
    group.iter().any(|made| made.reads_source())
}

/// Representations by their groups, or each its own.
fn groups(configuration: &Configuration) -> Result<Vec<Vec<&Representation>>, PyveneError> {
    let all = &configuration.representations;
    if all.iter().all(|made| made.group.is_none()) {
        return Ok(all.iter().map(|made| vec![made]).collect());
    }
    let mut groups: Vec<Vec<&Representation>> = Vec::new();
    for made in all {
        match made.group {
            // groups count their sources from 0
            Some(group) if group.checked_add(1) == Some(groups.len()) => groups[group].push(made),
            Some(group) if group == groups.len() => groups.push(vec![made]),
            Some(group) => {
                return Err(configuration.wrong(
                    made.index,
                    format!(
                        "its group_key is {group}: pyvene takes group keys as indices of its sources, so they \
                         must go up from 0 by ones"
                    ),
                ));
            }
            None => {
                let problem = "it has no group_key and others have: give all of them one, or none";
                return Err(configuration.wrong(made.index, problem));
            }
        }
    }
    Ok(groups)
}
