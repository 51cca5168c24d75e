//! The files' layout.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::model::Config;

/// What is published of a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Of which one.
    pub model: Subject,
    /// The figures.
    pub figures: Vec<Published>,
}

/// A model, known by its shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its name.
    pub name: String,
    layers: usize,
    width: usize,
    vocab: usize,
}

/// One question with its published answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Published {
    /// What of.
    pub what: String,
    /// Who published it.
    pub by: String,
    /// How far off it may be.
    pub within: f64,
    /// The question.
    #[serde(flatten)]
    pub inquiry: Inquiry,
}

/// What was asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs)] // of the fields that say what they are
pub enum Inquiry {
    /// Probabilities of the next token.
    Top {
        prompt: String,
        bos: bool,
        top: Vec<(String, f64)>,
    },
    /// The most probable token, again and again.
    Continuation {
        prompt: String,
        bos: bool,
        tokens: Vec<String>,
    },
    /// The logit lens: probabilities of the next token after residual streams behind layers.
    Lens {
        prompt: String,
        bos: bool,
        streams: Vec<ReadStream>,
    },
    /// Interchanges of head 0 of z and v, in every layer and position.
    Heads {
        base: String,
        source: String,
        targets: Vec<String>,
        /// Tokens that both prompts begin with, where a patch changes nothing.
        shared: usize,
        cells: Vec<HeadCell>,
    },
    /// An experiment, and the probabilities of its rows.
    Experiment { experiment: Value, prob: Vec<f64> },
    /// Denoising over pairs, by presets.
    Presets {
        bos: bool,
        /// As in a data set.
        rows: Vec<Value>,
        /// Logit difference of each clean prompt.
        clean: Vec<f64>,
        /// What these may be off, which were printed with fewer digits.
        clean_within: f64,
        /// Mean logit difference of the corrupted prompts.
        corrupted: f64,
        matrices: Vec<PublishedArray>,
    },
    /// The mean of a metric over a data set.
    DataSet {
        file: String,
        metric: String,
        /// Of the clean prompts.
        clean: f64,
        /// Of the corrupted ones.
        corrupted: f64,
    },
    /// Circuits chosen greedily by the mean scores over a data set, run alone on it.
    Circuits {
        file: String,
        metric: String,
        method: String,
        steps: Option<usize>,
        greedy: Vec<GreedyCircuit>,
    },
}

/// A residual stream of [`Inquiry::Lens`]: `block_output` of a layer, at a position, the BOS counted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the names say it
pub struct ReadStream {
    pub layer: u32,
    pub position: u32,
    /// Tokens with their probabilities.
    pub top: Vec<(String, f64)>,
}

/// A cell of [`Inquiry::Heads`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the names say it
pub struct HeadCell {
    pub component: String,
    pub layer: u32,
    pub position: u32,
    /// Of each target.
    pub prob: Vec<f64>,
}

/// An array of [`Inquiry::Presets`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedArray {
    /// Which preset.
    pub preset: String,
    /// Its array's shape.
    pub shape: Vec<usize>,
    /// (x − corrupted) / (clean − corrupted) of mean logit differences, in the array's order.
    pub values: Vec<f64>,
}

/// One of [`Inquiry::Circuits`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GreedyCircuit {
    /// Edges that were asked for.
    pub n: usize,
    /// Edges that were left.
    pub edges: usize,
    /// The metric of the circuit alone.
    pub value: f64,
}

impl Subject {
    pub(super) fn is(&self, config: &Config) -> bool {
        (self.layers, self.width, self.vocab) == (config.layers, config.width, config.vocab)
    }
}

impl Published {
    /// The data set that it is of.
    pub fn file(&self) -> Option<&str> {
        match &self.inquiry {
            Inquiry::DataSet { file, .. } | Inquiry::Circuits { file, .. } => Some(file),
            _ => None,
        }
    }
}

/// Reads a file.
///
/// # Errors
///
/// [`Error::Usage`] of one that is malformed.
pub fn read(text: &str) -> Result<Figures, Error> {
    serde_json::from_str(text)
        .map_err(|why| Error::Usage(format!("the published figures cannot be read: {why}")))
}
