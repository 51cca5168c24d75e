//! Operators, and the patches that apply them at sites.
//!
//! A [`Patch`] is what a person writes: one operator over lists of heads and positions of one
//! site. Nothing here knows when a value is read or where it ends up; [`crate::plan`] turns a
//! run's patches into single cells and decides which of them can change anything.
//!
//! Operators follow pyvene's interventions (`models/interventions.py`, 0.1.8): with b the base's
//! activation and s the source's, interchange is s, zero is 0, addition b + s, subtraction b − s.

use std::path::Path;
use std::sync::Arc;

use crate::basis::Basis;
use crate::files::tensors::{VectorError, read_tensor};
use crate::function::Function;
use crate::site::Component;
use crate::text::shortest;

/// A constant that an operator writes or adds, with the text that named it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// How the user named it, such as `directions.safetensors#happy`.
    pub label: String,
    /// One row of the component, as wide as one head where the component has heads (in a basis, one
    /// number for each coordinate), or one such row for each of the patch's positions.
    pub values: Arc<[f64]>,
    /// How many rows: 1, which every position takes, or as many as the patch has positions.
    pub rows: usize,
}

impl Vector {
    /// Reads `F.safetensors#tensor`, flattened to one row, or `F.safetensors#tensor*2.5`, so many times it; a relative F
    /// is looked up in `folder`.
    ///
    /// # Errors
    ///
    /// [`VectorError`] where there is no such tensor, or one of other than finite floating-point numbers.
    pub fn read(text: &str, folder: &Path) -> Result<Self, VectorError> {
        let (tensor, factor) = coefficient(text);
        let mut values = read_tensor(tensor, folder)?;
        if let Some(factor) = factor {
            values.iter_mut().for_each(|x| *x *= factor);
            if !factor.is_finite() || values.iter().any(|x| !x.is_finite()) {
                return Err(VectorError::Coefficient {
                    text: text.to_owned(),
                });
            }
        }
        Ok(Self {
            label: text.to_owned(),
            values: values.into(),
            rows: 1,
        })
    }
}

/// A tensor's name, and the number that it is multiplied by.
fn coefficient(text: &str) -> (&str, Option<f64>) {
    let parts = text.rsplit_once('*');
    let number = parts.and_then(|(tensor, number)| Some((tensor, number.trim().parse().ok()?)));
    number.map_or((text, None), |(tensor, number)| (tensor, Some(number)))
}

/// Prompts over whose positions a mean activation is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanOver {
    /// How the user named them, such as `prompts.txt`.
    pub label: String,
    /// Token ids, one list a prompt.
    pub prompts: Arc<[Vec<u32>]>,
    /// Whether each position has a mean of its own, over the prompts that are as long as the one that is patched.
    pub by_position: bool,
}

impl MeanOver {
    /// What tells its means from others.
    pub fn key(&self) -> String {
        match self.by_position {
            true => format!("by position, {}", self.label),
            false => self.label.clone(),
        }
    }
}

/// What a patch does to the value b that stands at its site.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// s, the source's value.
    Interchange,
    /// s is what the site's module reads in the source: the module is skipped. See
    /// [`Component::skipped`].
    Skip,
    /// b is written to a file and stays as it is.
    Collect,
    /// 0.
    Zero,
    /// This number, wherever it stands.
    Fill(f64),
    /// −∞ in place of a score: the query does not see the key, and the softmax is of the keys that are left.
    Knockout,
    /// A constant.
    Set(Vector),
    /// The mean of the site's activation over all positions of the given prompts, or position by position.
    Mean(MeanOver),
    /// b + s, or b plus a constant.
    Add(Option<Vector>),
    /// b − s, or b minus a constant.
    Subtract(Option<Vector>),
    /// x · b.
    Scale(f64),
    /// b + α(s − b), exactly b at α = 0 and exactly s at α = 1.
    Interpolate(f64),
    /// b + level · N, with N standard normal: a function of the seed, the prompt, the site, the
    /// position, the column and the sample alone.
    Noise {
        /// Standard deviation added.
        level: f64,
        /// Seed of all noise of an experiment.
        seed: u64,
        /// Which of several independent draws, from 0.
        sample: u32,
    },
    /// Whatever the caller's function makes of b and s.
    Function(Function),
}

impl Op {
    /// Whether the operator reads a source prompt.
    pub fn reads_source(&self) -> bool {
        match self {
            Op::Function(function) => function.reads_source(),
            Op::Interchange
            | Op::Skip
            | Op::Add(None)
            | Op::Subtract(None)
            | Op::Interpolate(_) => true,
            _ => false,
        }
    }

    /// The operator as `--op` spells it.
    pub fn label(&self) -> String {
        match self {
            Op::Interchange => "interchange".into(),
            Op::Skip => "skip".into(),
            Op::Collect => "collect".into(),
            Op::Zero => "zero".into(),
            Op::Fill(x) => format!("set={}", shortest(*x)),
            Op::Knockout => "knockout".into(),
            Op::Set(v) => format!("set={}", v.label),
            Op::Mean(m) if m.by_position => format!("mean-by-position={}", m.label),
            Op::Mean(m) => format!("mean={}", m.label),
            Op::Add(None) => "add".into(),
            Op::Add(Some(v)) => format!("add={}", v.label),
            Op::Subtract(None) => "subtract".into(),
            Op::Subtract(Some(v)) => format!("subtract={}", v.label),
            Op::Scale(x) => format!("scale={}", shortest(*x)),
            Op::Interpolate(alpha) => format!("interpolate={}", shortest(*alpha)),
            Op::Noise { level, .. } => format!("noise={}", shortest(*level)),
            Op::Function(function) => format!("function={}", function.label()),
        }
    }
}

/// What an operator's number has to be.
pub(crate) const FINITE: &str = "a finite number";

/// What would be right in place of an operator's number, where no activation can have it: one that is none, one
/// beyond single precision, or a negative standard deviation.
pub(crate) fn unusable(number: f64, deviation: bool) -> Option<&'static str> {
    if !number.is_finite() {
        return Some(FINITE);
    }
    if number.abs() > f32::MAX.into() {
        return Some("a number up to 3.4e38, the most that single precision holds");
    }
    (deviation && number < 0.0).then_some("a number that is not negative")
}

/// One of a pair's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Prompt {
    /// The prompt that is read out.
    #[default]
    Base,
    /// The prompt that activations are taken from unless another is named.
    Source,
    /// One of [`crate::prompt::pair::Pair::prompts`].
    Further(usize),
}

/// Whose activations a source-reading operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A prompt's clean run. Writing the base's own value downstream of another patch is a *freeze*.
    Clean(Prompt),
    /// Another run of the same pair, by its index: its value after the patches at that very place.
    Run(usize),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Clean(Prompt::Source)
    }
}

/// One operator over lists of heads and positions of one site; lists mean one patch over all.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// What is overwritten.
    pub component: Component,
    /// Layer from 0; `None` exactly for components outside the layers.
    pub layer: Option<usize>,
    /// Heads from 0; empty exactly for components without heads.
    pub heads: Vec<usize>,
    /// Positions in the base prompt, from 0 (query positions for scores and pattern).
    pub positions: Vec<usize>,
    /// For scores and pattern: the keys to touch; `None` is every key not after the query.
    pub keys: Option<Vec<usize>>,
    /// Columns of the row (of one head where the component has heads), or coordinates of the basis;
    /// `None` is all of them.
    pub columns: Option<Vec<usize>>,
    /// In which coordinates the operator acts; `None` is the row's own numbers.
    pub basis: Option<Arc<Basis>>,
    /// What is done.
    pub op: Op,
    /// Whose activations are read.
    pub origin: Origin,
    /// Component that is read, whose rows are as wide; `None` is `component`.
    pub source_component: Option<Component>,
    /// Layer that is read; `None` is `layer`.
    pub source_layer: Option<usize>,
    /// Heads that are read, one for each of `heads`; `None` is `heads`.
    pub source_heads: Option<Vec<usize>>,
    /// Positions that are read, one for each of `positions`; `None` is `positions`.
    pub source_positions: Option<Vec<usize>>,
}

impl Patch {
    /// An interchange with the source prompt at the same place.
    pub fn interchange(
        component: Component,
        layer: Option<usize>,
        heads: Vec<usize>,
        positions: Vec<usize>,
    ) -> Self {
        Self {
            component,
            layer,
            heads,
            positions,
            keys: None,
            columns: None,
            basis: None,
            op: Op::Interchange,
            origin: Origin::default(),
            source_component: None,
            source_layer: None,
            source_heads: None,
            source_positions: None,
        }
    }

    /// The component that the patch reads: its own unless it names another, or what is skipped to.
    pub fn read_component(&self) -> Component {
        match self.op {
            Op::Skip => self.component.skipped().unwrap_or(self.component),
            _ => self.source_component.unwrap_or(self.component),
        }
    }

    /// The same patch with another operator.
    pub fn with_op(mut self, op: Op) -> Self {
        self.op = op;
        self
    }
}

impl FromIterator<Patch> for Run {
    fn from_iter<T: IntoIterator<Item = Patch>>(patches: T) -> Self {
        Self {
            patches: patches.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// One prompt's run with one or several patches acting together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// Name for the result table.
    pub name: Option<String>,
    /// Name of where it patches, if that goes by one which fits other prompts too: `end`, `subject.last`; of a
    /// query and the keys that it sees, `end<-subject`.
    pub position: Option<String>,
    /// The layer under which it is filed, if it patches a window of them.
    pub layer: Option<usize>,
    /// The prompt that is patched.
    pub prompt: Prompt,
    /// Position that its rows are of, one of those that the pair reads out; `None` is the last of them.
    pub at: Option<usize>,
    /// Whether the run is there for other runs to read: it is not read out and has no rows in the
    /// result table. A run of another prompt than the base must be.
    pub step: bool,
    /// Patches, in the order in which overlapping ones act.
    pub patches: Vec<Patch>,
}
