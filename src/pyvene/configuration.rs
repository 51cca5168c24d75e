//! `config.json` as `IntervenableModel.save` of pyvene 0.1.8 writes it
//! (`models/configuration_intervenable_model.py`, `models/intervenable_base.py`).
//!
//! A representation is a list of the 14 fields of `RepresentationConfig`, in their order; the kinds of
//! intervention, their dimensions and whether their sources are constant stand beside them in lists of
//! their own. Older files have fewer fields and lists; what is not there is null, as in pyvene.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::kind::InterventionKind;
use super::place::{UnitPlace, place};
use super::{PyveneError, quoted, read_file};

/// The largest `config.json`, in bytes.
const LARGEST: u64 = 16 << 20;
/// How many representations one may have.
const MOST: usize = 100_000;

/// How representations act together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sources run clean; all interventions act in one run of the base.
    Parallel,
    /// Each source runs with the intervention before it, and the last of them feeds the base.
    Serial,
}

/// `interchange_dim`: how much of a row an intervention may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// Not said.
    Whole,
    /// A number: the first that many columns, except in an autoencoder, where it is one column.
    Number(usize),
    /// Columns, one by one; only an autoencoder takes them.
    List(Vec<usize>),
}

/// One entry of `representations`.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// Which, from 0.
    pub index: usize,
    /// Where.
    pub place: UnitPlace,
    /// The component as written.
    pub component: String,
    /// The unit as written.
    pub unit: String,
    /// `max_number_of_units`.
    pub units: usize,
    /// What it does.
    pub kind: InterventionKind,
    /// Parts that subspaces name: their columns.
    pub partition: Option<Vec<Vec<usize>>>,
    /// Sources are per group.
    pub group: Option<usize>,
    /// Whether it reads a vector that was saved instead of a source.
    pub constant: bool,
    /// How much of a row it touches.
    pub dimension: Dimension,
    /// The file of its state dict, if it has one.
    pub file: String,
}

impl Representation {
    /// Whether it reads a source prompt.
    pub fn reads_source(&self) -> bool {
        !self.constant
            && !matches!(
                self.kind,
                InterventionKind::Zero | InterventionKind::Collect | InterventionKind::Noise
            )
    }
}

/// A saved configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The file.
    pub path: PathBuf,
    /// How representations act together.
    pub mode: Mode,
    /// In order.
    pub representations: Vec<Representation>,
    /// Whether pyvene was told to sort them by something else when they were saved.
    pub sorted: bool,
}

#[derive(Deserialize)]
struct Text {
    representations: Vec<Vec<Value>>,
    intervention_types: Value,
    #[serde(default)]
    intervention_dimensions: Option<Vec<Value>>,
    #[serde(default)]
    intervention_constant_sources: Option<Vec<bool>>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    sorted_keys: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
}

const FIELDS: [&str; 14] = [
    "layer",
    "component",
    "unit",
    "max_number_of_units",
    "low_rank_dimension",
    "intervention_type",
    "intervention",
    "subspace_partition",
    "group_key",
    "intervention_link_key",
    "moe_key",
    "source_representation",
    "hidden_source_representation",
    "latent_dim",
];

impl Configuration {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    ///
    /// [`PyveneError`] for what is malformed, not GPT-2's, or silently wrong in pyvene.
    pub fn open(folder: &Path) -> Result<Self, PyveneError> {
        let path = folder.join("config.json");
        let bytes = read_file(&path, LARGEST)?;
        Self::parse(&bytes, &path)
    }

    /// The configuration in a file's bytes; `path` is for errors.
    ///
    /// # Errors
    ///
    /// As [`Configuration::open`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, PyveneError> {
        let wrong = |problem: String| PyveneError::Configuration {
            path: path.into(),
            problem,
        };
        let text: Text = serde_json::from_slice(bytes).map_err(|e| {
            wrong(format!(
                "it is no configuration that pyvene's save writes: {e}"
            ))
        })?;
        if let Some(model) = text
            .model_type
            .filter(|m| !m.is_empty() && !m.to_lowercase().contains("gpt2"))
        {
            return Err(wrong(format!(
                "it was made for {}: only GPT-2's can be imported",
                quoted(&model)
            )));
        }
        let mode = match text.mode.as_deref() {
            None | Some("parallel") => Mode::Parallel,
            Some("serial") => Mode::Serial,
            Some(other) => {
                let mode = quoted(other);
                return Err(wrong(format!("mode {mode} is neither parallel nor serial")));
            }
        };
        let count = text.representations.len();
        if count == 0 || count > MOST {
            return Err(wrong(format!(
                "it has {count} representations: it must have 1 to {MOST}"
            )));
        }
        let kinds = kinds(&text.intervention_types, count).map_err(wrong)?;
        let of_each = |name: &str, length: Option<usize>| match length {
            Some(n) if n != count => Err(wrong(format!(
                "{name} has {n} entries for {count} representations: it must have one for each"
            ))),
            _ => Ok(()),
        };
        let (dimensions, constants) = (
            text.intervention_dimensions,
            text.intervention_constant_sources,
        );
        of_each("intervention_dimensions", dimensions.as_ref().map(Vec::len))?;
        of_each(
            "intervention_constant_sources",
            constants.as_ref().map(Vec::len),
        )?;
        let mut counter: HashMap<String, usize> = HashMap::new();
        let mut representations = Vec::with_capacity(count);
        for (index, (fields, kind)) in text.representations.iter().zip(kinds).enumerate() {
            let dimension = dimensions.as_ref().map_or(&Value::Null, |all| &all[index]);
            let constant = constants.as_ref().is_some_and(|all| all[index]);
            let made = kind
                .and_then(|kind| Fields(fields).representation(index, kind, dimension, constant));
            let mut made = made.map_err(|problem| PyveneError::Representation {
                path: path.into(),
                index,
                problem,
            })?;
            // pyvene's own key, counted where it would stand twice
            let times = counter.entry(made.file.clone()).or_default();
            made.file = format!("{}#{times}", made.file);
            *times += 1;
            representations.push(made);
        }
        let keys = representations.iter().map(|r| &r.file);
        let sorted = text
            .sorted_keys
            .is_some_and(|sorted| !sorted.iter().eq(keys));
        for made in &mut representations {
            made.file = format!("intkey_{}.bin", made.file);
        }
        let made = Self {
            path: path.into(),
            mode,
            representations,
            sorted,
        };
        made.check_links(&text.representations)?;
        made.check_order()?;
        Ok(made)
    }

    /// An error of one representation.
    pub fn wrong(&self, index: usize, problem: impl Into<String>) -> PyveneError {
        PyveneError::Representation {
            path: self.path.clone(),
            index,
            problem: problem.into(),
        }
    }

    fn check_links(&self, fields: &[Vec<Value>]) -> Result<(), PyveneError> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, fields) in fields.iter().enumerate() {
            let fields = Fields(fields);
            let key = fields.get("intervention_link_key");
            if key.is_null() {
                continue;
            }
            if let Some(first) = seen.insert(key.to_string(), index) {
                return Err(self.wrong(
                    index,
                    format!(
                        "its link key is representation {first}'s too, and pyvene writes into linked \
                         representations what it made of the first of them: give each its own"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses two hooks on one activation whose order is not that of the file.
    fn check_order(&self) -> Result<(), PyveneError> {
        let mut seen: HashMap<_, &Representation> = HashMap::new();
        for made in &self.representations {
            let here = (made.place.component.stage(), made.place.layer);
            let first = *seen.entry(here).or_insert(made);
            if first.place.hook != made.place.hook {
                return Err(self.wrong(
                    made.index,
                    format!(
                        "{} is the activation of representation {} by another module, and pyvene patches \
                         them in the order of modules: name it the same way in both",
                        quoted(&made.component),
                        first.index
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The kind of each representation, or why it has none.
fn kinds(value: &Value, count: usize) -> Result<Vec<Result<InterventionKind, String>>, String> {
    let kind = |value: &Value| {
        let class = value.as_str().ok_or("its intervention type is no text")?;
        InterventionKind::of(class).ok_or_else(|| {
            format!(
                "{} is none of pyvene's own interventions that can be imported: {}",
                quoted(class),
                InterventionKind::names().join(", ")
            )
        })
    };
    match value {
        Value::Array(all) if all.len() == count => Ok(all.iter().map(kind).collect()),
        Value::Array(all) => Err(format!(
            "intervention_types has {} entries for {count} representations: it must have one for each",
            all.len()
        )),
        one => Ok(vec![kind(one); count]),
    }
}

/// A representation as a list.
struct Fields<'a>(&'a [Value]);

impl Fields<'_> {
    fn get(&self, name: &str) -> &Value {
        let at = FIELDS.iter().position(|field| *field == name);
        at.and_then(|at| self.0.get(at)).unwrap_or(&Value::Null)
    }

    fn number(&self, name: &str) -> Result<Option<usize>, String> {
        match self.get(name) {
            Value::Null => Ok(None),
            value => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(format!(
                    "{name} is {}: it must be an integer from 0",
                    quoted(&value.to_string())
                )),
            },
        }
    }

    fn text(&self, name: &str, default: &str) -> Result<String, String> {
        match self.get(name) {
            // a list that ends before the field
            Value::Null if self.0.len() < FIELDS.len() => Ok(default.to_owned()),
            Value::String(text) => Ok(text.clone()),
            other => Err(format!(
                "{name} is {}: it must be a text",
                quoted(&other.to_string())
            )),
        }
    }

    fn representation(
        &self,
        index: usize,
        kind: InterventionKind,
        dimension: &Value,
        constant: bool,
    ) -> Result<Representation, String> {
        if self.0.len() > FIELDS.len() {
            let length = self.0.len();
            return Err(format!(
                "it has {length} fields: pyvene 0.1.8 has {}",
                FIELDS.len()
            ));
        }
        let component = self.text("component", "block_output")?;
        let unit = self.text("unit", "pos")?;
        let layer = self.number("layer")?;
        let place = place(&component, layer, &unit)?;
        if !self.get("moe_key").is_null() {
            return Err("it has a moe_key: GPT-2 has no experts; leave it null".into());
        }
        let units = self.number("max_number_of_units")?.unwrap_or(1);
        if units != 1 && kind.has_basis() {
            return Err(format!(
                "max_number_of_units is {units}: its parameters are of {units} units side by side, and \
                 here they act on each by itself; train one with max_number_of_units = 1"
            ));
        }
        let hidden = self.get("hidden_source_representation").as_bool() == Some(true);
        let fixed = hidden || constant;
        if hidden
            && !kind.takes_constant()
            && kind != InterventionKind::Zero
            && kind != InterventionKind::Collect
        {
            return Err(format!(
                "it was given a source_representation, which {} ignores: leave it out, or use Vanilla, \
                 Addition or SubtractionIntervention",
                kind.name()
            ));
        }
        let key = match component.contains('.') {
            true => format!("comp_{}", component.replace('.', "_")),
            false => format!("layer_{}_comp_{component}", layer.unwrap_or(0)),
        };
        Ok(Representation {
            index,
            file: format!("{key}_unit_{}_nunit_{units}", unit.replace('.', "_")),
            place,
            component,
            unit,
            units,
            kind,
            partition: partition(self.get("subspace_partition"))?,
            group: self.number("group_key")?,
            constant: fixed && kind.takes_constant(),
            dimension: match dimension {
                Value::Null => Dimension::Whole,
                Value::Array(list) => Dimension::List(numbers(list, "intervention_dimensions")?),
                one => match one.as_u64().and_then(|n| usize::try_from(n).ok()) {
                    Some(n) => Dimension::Number(n),
                    None => {
                        return Err(
                            "its entry of intervention_dimensions is no integer from 0".into()
                        );
                    }
                },
            },
        })
    }
}

fn numbers(list: &[Value], what: &str) -> Result<Vec<usize>, String> {
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let all: Option<Vec<usize>> = list.iter().map(number).collect();
    all.ok_or_else(|| format!("{what} has something that is no integer from 0"))
}

/// The most columns that the parts of a partition may have, together.
const MOST_COLUMNS: usize = 1 << 20;

/// Parts as columns: `[first, end]` is a range, any other list its members.
fn partition(value: &Value) -> Result<Option<Vec<Vec<usize>>>, String> {
    let parts = match value {
        Value::Null => return Ok(None),
        Value::Array(parts) => parts,
        _ => return Err("subspace_partition is no list".into()),
    };
    let mut left = MOST_COLUMNS;
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        let Some(list) = part.as_array() else {
            return Err("subspace_partition has something that is no list".into());
        };
        let ends = numbers(list, "subspace_partition")?;
        let (length, range) = match ends[..] {
            [first, end] => (end.saturating_sub(first), Some(first..end)),
            _ => (ends.len(), None),
        };
        left = left.checked_sub(length).ok_or_else(|| {
            format!("subspace_partition has more than {MOST_COLUMNS} columns in all")
        })?;
        all.push(range.map_or(ends, Iterator::collect));
    }
    Ok(Some(all))
}
