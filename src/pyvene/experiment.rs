//! An experiment file, with its parameters, of a saved configuration.
//!
//! The file is written as text, so that it can say beside every patch where it came from. Locations and
//! prompts are not in pyvene's configuration: the caller gives them.

use std::fmt::{self, Write};
use std::path::Path;

use super::columns::{SubspacePart, columns};
use super::configuration::{Configuration, Mode, Representation};
use super::kind::InterventionKind;
use super::parameters::{self, Parameters};
use super::place::{Skip, Unit};
use super::state::{StateDict, StoredTensor};
use super::steps::{ImportedRun, PatchedPrompt, ReadsFrom};
use super::{PyveneError, printable};
use crate::model::Config;
use crate::prompt::pair::PromptText;
use crate::site::Component;

/// Where one representation acts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    /// Heads, where the component has them.
    pub heads: Vec<usize>,
    /// Positions of the prompt that is patched.
    pub positions: Vec<usize>,
    /// Positions of the one that is read, where they are others.
    pub source_positions: Option<Vec<usize>>,
    /// The part; `None` is what was saved.
    pub part: Option<SubspacePart>,
}

/// What pyvene's configuration does not say.
#[derive(Debug, Clone)]
pub struct ImportContext<'a> {
    /// The model as it was named.
    pub model: &'a str,
    /// Its sizes.
    pub config: &'a Config,
    /// Base prompt.
    pub base: PromptText,
    /// Source prompts, in the order of pyvene's `sources`.
    pub sources: Vec<PromptText>,
    /// Targets, with the text of each where it has one.
    pub targets: Vec<(u32, String)>,
    /// Wrong targets, likewise.
    pub wrong: Vec<(u32, String)>,
    /// Where each representation acts.
    pub located: Vec<Units>,
    /// Runs.
    pub steps: Vec<ImportedRun>,
    /// The file name of the parameters.
    pub file: &'a str,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The experiment file.
    pub toml: String,
    /// Its tensors; if there are any, they belong into the file that [`ImportContext::file`] names.
    pub tensors: Vec<(String, StoredTensor)>,
}

/// A patch as it is written: keys in order.
struct Patch {
    comments: Vec<String>,
    keys: Vec<(&'static str, String)>,
}

/// Writes the experiment of a configuration in `folder`.
///
/// # Errors
///
/// [`PyveneError`] for what does not fit the model, is not in the folder, or would not be what pyvene
/// does.
pub fn write(
    configuration: &Configuration,
    folder: &Path,
    asked: &ImportContext<'_>,
) -> Result<Written, PyveneError> {
    check_model(folder)?;
    let mut tensors = Vec::new();
    let mut patches = Vec::with_capacity(configuration.representations.len());
    for (made, located) in configuration.representations.iter().zip(&asked.located) {
        let reads = asked.steps.iter().flat_map(|step| &step.patches);
        let reads = reads.copied().find(|(index, _)| *index == made.index);
        let reads = reads.map_or(ReadsFrom::Nothing, |(_, reads)| reads);
        patches.push(of_representation(
            configuration,
            folder,
            asked,
            made,
            located,
            reads,
            &mut tensors,
        )?);
    }
    let mut toml = String::new();
    // writing to a String cannot fail
    let _ = whole(&mut toml, configuration, folder, asked, &patches);
    Ok(Written { toml, tensors })
}

/// Refuses a folder that also has parameters of the model itself.
fn check_model(folder: &Path) -> Result<(), PyveneError> {
    let path = folder.join("pytorch_model.bin");
    if !path.exists() {
        return Ok(());
    }
    let state = StateDict::open(&path)?;
    match state.names().count() {
        // what include_model = True writes of a model that was not trained
        0 => Ok(()),
        count => Err(state.wrong(format!(
            "it has {count} parameters of the model itself, trained with the interventions: save that model by \
             save_pretrained, name it with --model, and move this file away"
        ))),
    }
}

#[allow(clippy::too_many_arguments)] // one call
fn of_representation(
    configuration: &Configuration,
    folder: &Path,
    asked: &ImportContext<'_>,
    made: &Representation,
    located: &Units,
    reads: ReadsFrom,
    tensors: &mut Vec<(String, StoredTensor)>,
) -> Result<Vec<Patch>, PyveneError> {
    let config = asked.config;
    let wrong = |problem: String| configuration.wrong(made.index, problem);
    let place = &made.place;
    if let Some(layer) = place.layer.filter(|layer| *layer >= config.layers) {
        let last = config.layers - 1;
        return Err(wrong(format!(
            "layer {layer} is out of range: layers of this model are 0 to {last}"
        )));
    }
    let width = place.component.width().numbers(config, config.context);
    let keys = place.component.has_keys();
    if keys && (made.kind.has_basis() || made.constant || made.kind == InterventionKind::Noise) {
        let name = made.kind.name();
        return Err(wrong(format!(
            "{name} with parameters cannot act on the attention pattern, which has no width"
        )));
    }
    let read = parameters::read(made, folder, width)?;
    let coordinates = match &read {
        Parameters::Basis { coordinates, .. } => *coordinates,
        _ => width,
    };
    let columns = columns(made, located.part.as_ref(), coordinates).map_err(wrong)?;
    if keys && columns.is_some() {
        let problem = "columns of the attention pattern are keys: leave out --columns and edit keys in the file";
        return Err(wrong(problem.into()));
    }
    let mut comments = vec![format!(
        "representation {}: {}, unit {}, {}",
        made.index,
        made.component,
        made.unit,
        made.kind.name()
    )];
    if !matches!(read, Parameters::None) {
        comments.push(format!("parameters from {}", made.file));
    }
    if made.partition.is_some() && located.part.is_none() && made.kind.takes_subspaces() {
        comments.push(
            "it has a subspace_partition, of which no part was named, so all of it acts, as in pyvene without \
             subspaces; --subspaces names parts"
                .into(),
        );
    }
    if made.kind == InterventionKind::Autoencoder && located.part.is_none() {
        comments.push("pyvene swaps the latents that interchange_dim names, one by one; --columns names others".into());
    } else if made.kind == InterventionKind::JumpReluAutoencoder
        && columns.is_some()
        && located.part.is_none()
    {
        comments.push("pyvene swaps no more latents than interchange_dim says; --columns all swaps all of them".into());
    }
    let op = op(made, &mut comments).map_err(wrong)?;
    let name = format!("intervention_{}", made.index);
    let mut basis = None;
    let mut whole = false;
    // one patch, or one for each row of constants
    let mut values: Vec<Option<String>> = vec![None];
    match read {
        Parameters::None => {}
        Parameters::Basis { tensors: found, .. } => {
            basis = Some(format!("{}#{name}", asked.file));
            whole = found
                .iter()
                .any(|(part, _)| ["components", "W_dec"].contains(&&**part));
            tensors.extend(
                found
                    .into_iter()
                    .map(|(part, tensor)| (format!("{name}.{part}"), tensor)),
            );
        }
        Parameters::Rows(rows) => {
            check_rows(made, rows.len(), located).map_err(wrong)?;
            let one = rows.len() == 1;
            let label = |i: usize| match one {
                true => format!("{name}.value"),
                false => format!("{name}.value_{i}"),
            };
            values = (0..rows.len())
                .map(|i| Some(format!("{}#{}", asked.file, label(i))))
                .collect();
            tensors.extend(rows.into_iter().enumerate().map(|(i, values)| {
                let shape = vec![values.len()];
                (label(i), StoredTensor { shape, values })
            }));
        }
    }
    let each = values.len() > 1;
    let patch = |(row, value): (usize, Option<String>)| {
        let mut keys = vec![("component", text(place.component.name()))];
        keys.extend(place.layer.map(|layer| ("layer", layer.to_string())));
        if place.component.has_heads() {
            keys.push(("heads", format!("{:?}", located.heads)));
        }
        let positions = match each {
            true => format!("[{}]", located.positions[row]),
            false => format!("{:?}", located.positions),
        };
        keys.push(("positions", positions));
        keys.push(("op", text(op)));
        match reads {
            ReadsFrom::Nothing => {}
            ReadsFrom::Prompt(0) => {}
            ReadsFrom::Prompt(source) => keys.push(("source", text(&source_name(source)))),
            ReadsFrom::RunBefore(_) => {
                let before = asked
                    .steps
                    .iter()
                    .position(|step| step.patches.iter().any(|(i, _)| *i == made.index));
                let before = before.and_then(|at| asked.steps.get(at.checked_sub(1)?));
                keys.extend(before.map(|step| ("source_run", text(&step.name))));
            }
        }
        if let (Some(list), true) = (&located.source_positions, reads != ReadsFrom::Nothing) {
            keys.push(("source_positions", format!("{list:?}")));
        }
        keys.extend(value.map(|value| ("value", text(&value))));
        keys.extend(basis.as_ref().map(|basis| ("basis", text(basis))));
        // pyvene's rows become their reconstructions
        keys.extend(whole.then(|| ("error_term", "false".to_owned())));
        keys.extend(
            columns
                .as_ref()
                .map(|columns| ("columns", format!("{columns:?}"))),
        );
        Patch {
            comments: if row == 0 {
                comments.clone()
            } else {
                Vec::new()
            },
            keys,
        }
    };
    Ok(values.into_iter().enumerate().map(patch).collect())
}

/// Constants are one row for all positions, or one for each.
fn check_rows(made: &Representation, rows: usize, located: &Units) -> Result<(), String> {
    let positions = located.positions.len();
    let noise = made.kind == InterventionKind::Noise;
    if rows == positions && (noise || made.place.unit == Unit::Positions) || rows == 1 && !noise {
        return Ok(());
    }
    Err(format!(
        "its state dict has {rows} rows and it acts at {positions} positions: give --positions {rows} of them{}",
        if made.place.unit == Unit::Positions || noise {
            ""
        } else {
            ", at a component without heads"
        }
    ))
}

/// The operator, in the experiment's words.
fn op(made: &Representation, comments: &mut Vec<String>) -> Result<&'static str, String> {
    Ok(match made.kind {
        InterventionKind::Vanilla if made.constant => "set",
        InterventionKind::Zero => "zero",
        InterventionKind::Addition => "add",
        InterventionKind::Subtraction => "subtract",
        InterventionKind::Collect => {
            comments.push(
                "what it collects is written by headlight run --collect F.safetensors".into(),
            );
            "collect"
        }
        InterventionKind::Noise => {
            comments.push("the noise that pyvene drew, times its level, as constants".into());
            "add"
        }
        InterventionKind::Skip => match made.place.skip {
            Skip::Input => "skip",
            Skip::Same => {
                comments.push(
                    "the module's input is this activation itself, so a skip is an interchange"
                        .into(),
                );
                "interchange"
            }
            Skip::Unlike => {
                return Err(format!(
                    "the input of {}'s module is another activation, which pyvene would write here: use an \
                     interchange of the one that is meant",
                    made.component
                ));
            }
        },
        _ => "interchange",
    })
}

/// What a source is called in the file.
fn source_name(index: usize) -> String {
    match index {
        0 => "source".into(),
        more => format!("source_{more}"),
    }
}

/// A text as TOML.
fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn whole(
    to: &mut String,
    configuration: &Configuration,
    folder: &Path,
    asked: &ImportContext<'_>,
    patches: &[Vec<Patch>],
) -> fmt::Result {
    let mode = match configuration.mode {
        Mode::Parallel => "parallel: sources run clean, and all patches act in one run of the base",
        Mode::Serial => "serial: each source runs with the patch before it, and is read there",
    };
    let line = |text: String| printable(&text, usize::MAX);
    writeln!(
        to,
        "# From pyvene: {}",
        line(configuration.path.display().to_string())
    )?;
    writeln!(to, "# mode {mode}")?;
    writeln!(
        to,
        "# layers, components, units, kinds and parameters are pyvene's; prompts, targets, positions, heads and"
    )?;
    writeln!(
        to,
        "# columns come from the command line, for pyvene saves none of them"
    )?;
    writeln!(to, "# made for the model {}", line(asked.model.to_owned()))?;
    if configuration.sorted {
        writeln!(
            to,
            "# sorted_keys has another order than representations; pyvene goes by the latter when it loads, as here"
        )?;
    }
    if folder.join("pytorch_model.bin").exists() {
        writeln!(to, "# pytorch_model.bin has no parameters")?;
    }
    let answers = |tokens: &[(u32, String)]| {
        let (ids, names): (Vec<u32>, Vec<String>) = tokens
            .iter()
            .map(|(id, text)| (*id, format!("{text:?}")))
            .unzip();
        format!("{ids:?} # {}", names.join(", "))
    };
    writeln!(to, "\ntarget_ids = {}", answers(&asked.targets))?;
    writeln!(to, "\n[[pair]]")?;
    if !asked.wrong.is_empty() {
        writeln!(to, "wrong_target_ids = {}", answers(&asked.wrong))?;
    }
    prompt(to, "base", &asked.base)?;
    if let Some(source) = asked.sources.first() {
        prompt(to, "source", source)?;
    }
    if asked.sources.len() > 1 {
        writeln!(to, "# sources of later groups")?;
        let further = asked.sources.iter().enumerate().skip(1);
        let further = further.map(|(i, prompt)| match prompt {
            PromptText::Text(words) => format!("{} = {}", source_name(i), text(words)),
            PromptText::Ids(ids) => format!("{} = {ids:?}", source_name(i)),
        });
        let further: Vec<String> = further.collect();
        writeln!(to, "prompts = {{ {} }}", further.join(", "))?;
    }
    for step in &asked.steps {
        writeln!(to, "\n[[run]]")?;
        writeln!(to, "name = {}", text(&step.name))?;
        if let PatchedPrompt::Source(source) = step.prompt {
            writeln!(to, "prompt = {}", text(&source_name(source)))?;
        }
        for patch in step
            .patches
            .iter()
            .filter_map(|(i, _)| patches.get(*i))
            .flatten()
        {
            writeln!(to)?;
            for comment in &patch.comments {
                writeln!(to, "# {comment}")?;
            }
            writeln!(to, "[[run.patches]]")?;
            for (key, value) in &patch.keys {
                writeln!(to, "{key} = {value}")?;
            }
        }
    }
    Ok(())
}

fn prompt(to: &mut String, name: &str, prompt: &PromptText) -> fmt::Result {
    match prompt {
        PromptText::Text(words) => writeln!(to, "{name} = {}", text(words)),
        PromptText::Ids(ids) => writeln!(to, "{name}_ids = {ids:?}"),
    }
}

/// Whether all positions are meant, so that none can be named.
pub fn is_whole(component: Component, unit: Unit) -> bool {
    unit == Unit::Heads || component.has_keys()
}
