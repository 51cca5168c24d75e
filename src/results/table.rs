//! The result table: one row for each (pair, run, target), in that order.
//!
//! Every file format writes the same columns under the same names, so a row is defined once, here,
//! and [`crate::report`] only decides how it is spelt.

use std::sync::Arc;

use crate::results::clean::CleanMetrics;

/// Text that many rows share.
pub type Text = Arc<str>;

/// One target of one run.
///
/// A single-valued field (`component` … `sample`) is `Some` where all patches of the run agree on
/// it and `None` otherwise: null in Parquet, empty in CSV.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Number of the prompt pair, from 0: of a data set the number of its row, rows that are wrong or left out
    /// counted too.
    pub pair: u32,
    /// Index of the run within its pair, from 0.
    pub run: u32,
    /// The run's name, where the experiment gave one.
    pub name: Option<Text>,
    /// Canonical component name, such as `head_value_output`.
    pub component: Option<Text>,
    /// Layer of the patched site; `None` for global sites too.
    pub layer: Option<u32>,
    /// Head of the patched site; `None` for sites without heads too.
    pub head: Option<u32>,
    /// Position in the base prompt, from 0.
    pub position: Option<u32>,
    /// Name of `position`, or of several together, where the run goes by one that fits other prompts too, such
    /// as `end`; empty where only other runs do.
    pub position_name: Option<Text>,
    /// The base prompt's token at `position`, decoded raw; invalid UTF-8 as `\xNN`.
    pub token: Option<Text>,
    /// Operator, as `--op` spells it.
    pub op: Option<Text>,
    /// Layer that the value was read from, for operators that read a source.
    pub source_layer: Option<u32>,
    /// Head that the value was read from.
    pub source_head: Option<u32>,
    /// Position in the source prompt that the value was read from.
    pub source_position: Option<u32>,
    /// Noise sample, from 0.
    pub sample: Option<u32>,
    /// The target token, decoded raw.
    pub target: Text,
    /// The target token's id.
    pub target_id: u32,
    /// Probability of the target after the patch, at the readout position.
    pub prob: f64,
    /// Natural logarithm of `prob`.
    pub logprob: f64,
    /// Logit of the target after the patch.
    pub logit: f64,
    /// Probability of the target in the clean base prompt.
    pub base_prob: f64,
    /// Probability of the target in the clean source prompt, where the pair has one.
    pub source_prob: Option<f64>,
    /// All patches of the run, as a JSON array in the experiment file's spelling.
    pub patches: Text,
    /// The data set's own name of the pair, where it has names; empty where only other rows have one.
    pub id: Option<Text>,
    /// The most probable next tokens after the run, where they were asked for: a JSON array of objects with the
    /// fields of [`crate::results::candidate::Candidate`].
    pub top_tokens: Option<Text>,
    /// Metric values, in the order of [`Table::metrics`].
    pub metrics: Vec<f64>,
}

/// How a result was made: written to the Parquet metadata, or to `F.meta.json` beside CSV and JSONL.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Provenance {
    /// headlight's version.
    pub version: String,
    /// Model as the user named it.
    pub model: String,
    /// SHA-256 of the checkpoint's weights, lower-case hexadecimal.
    pub model_hash: String,
    /// `cpu` or the GPU's name.
    pub device: String,
    /// `f32`, `f64`, …
    pub precision: String,
    /// The command line or experiment that was run.
    pub command: String,
    /// Every pair: its prompts' token ids and, where there is a tokenizer, their tokens.
    pub pairs: Vec<PairProvenance>,
    /// Which part of a run's folder the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartStamp>,
}

/// What a part of a run's folder is a part of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartStamp {
    /// The run's identity, as its manifest has it.
    pub identity: String,
    /// Index of the pair and of the run in it at which the part begins ...
    pub from: (usize, usize),
    /// ... and before which it ends.
    pub to: (usize, usize),
    /// Of a part that keeps averages, how far it is while it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<PartDone>,
    /// Whether its rows are averages over pairs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub means: bool,
}

impl PartStamp {
    /// Whether it is the same part, however far.
    pub fn is_of(&self, other: &Self) -> bool {
        let here = Self {
            done: other.done,
            ..self.clone()
        };
        here == *other
    }
}

/// How far a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartDone {
    /// Index of the pair and of the run in it that are to be done next.
    pub next: (usize, usize),
    /// How many of its runs are done.
    pub runs: u64,
}

fn is_false(said: &bool) -> bool {
    !said
}

/// One prompt pair of a result.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct PairProvenance {
    /// Which row of its data set it is, from 0, as the column `pair` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// What the data set calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The metrics that were asked for, in the clean prompts.
    #[serde(default, skip_serializing_if = "CleanMetrics::is_empty")]
    pub clean: CleanMetrics,
    /// Token ids of the base prompt.
    pub base_ids: Vec<u32>,
    /// Tokens of the base prompt, decoded raw; empty without a tokenizer.
    pub base_tokens: Vec<String>,
    /// The base prompt decoded as a whole, where there is a tokenizer: its tokens apart need not be
    /// whole characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_text: Option<String>,
    /// Position of the base that is read out, where that is not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<usize>,
    /// Position of the source that is read out, where that is not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_readout: Option<usize>,
    /// Token ids of the wrong answers that metrics hold against the targets; of answers of several tokens their first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_ids: Vec<u32>,
    /// Whether answers of several tokens are read whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joint: bool,
    /// Whether a prompt's text, taken apart again, is other tokens: then its ids alone say what was run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ids_alone: bool,
    /// Token ids of the source prompt, where there is one.
    pub source_ids: Option<Vec<u32>>,
    /// Tokens of the source prompt, decoded raw; empty without a tokenizer or a source.
    pub source_tokens: Vec<String>,
    /// The source prompt decoded as a whole, where there is one and a tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_text: Option<String>,
}

/// A finished sweep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Names of the metric columns, after the fixed ones.
    pub metrics: Vec<String>,
    /// Rows ordered by pair, run, target.
    pub rows: Vec<Row>,
    /// How it was made.
    pub provenance: Provenance,
}
