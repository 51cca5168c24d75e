//! Which clean activations are kept, and where.
//!
//! All prompts of a group stand in one set of matrices, prompt after prompt, so that "row 3 of
//! prompt 7" is one number everywhere. A matrix exists for each (stage, layer) that somebody will
//! read, and only for those.

use std::collections::{BTreeMap, HashMap};

use crate::model::Config;
use crate::patch::Prompt;
use crate::plan::positions::Positions;
use crate::site::Stage;

/// A prompt that is run clean.
#[derive(Debug, Clone)]
pub struct CleanPrompt {
    /// Token ids, as many as are computed: nothing after the last row that is read.
    pub ids: Vec<u32>,
    /// Row of position 0 in every kept matrix.
    pub offset: usize,
    /// Positions that are read out.
    pub readouts: Positions,
    /// The pair, by its index in its group, and the index of its stem, if it is not clean but that.
    pub stem: Option<(usize, usize)>,
}

/// The row of position 0 of each of a pair's prompts in a cache.
pub type PromptRows = BTreeMap<Prompt, usize>;

/// The clean runs of a group of pairs, and the stages that are kept of them.
#[derive(Debug, Clone, Default)]
pub struct CacheLayout {
    /// Prompts in the order of their rows.
    pub prompts: Vec<CleanPrompt>,
    /// Index of the matrix that holds a (stage, layer).
    pub slots: BTreeMap<(Stage, usize), usize>,
    known: HashMap<Vec<u32>, usize>,
}

impl CacheLayout {
    /// Adds a prompt, or finds it: equal prompts are run once. Positions in `readouts` are read.
    pub fn prompt(&mut self, ids: &[u32], readouts: &Positions) -> usize {
        if let Some(&known) = self.known.get(ids) {
            self.prompts[known].readouts = self.prompts[known].readouts.union(readouts);
            return known;
        }
        let offset = self.rows();
        self.known.insert(ids.to_vec(), self.prompts.len());
        self.prompts.push(CleanPrompt {
            ids: ids.to_vec(),
            offset,
            readouts: readouts.clone(),
            stem: None,
        });
        self.prompts.len() - 1
    }

    /// Adds a prompt with the patches of a pair's stem.
    pub fn stem(&mut self, ids: &[u32], readouts: &Positions, stem: (usize, usize)) -> usize {
        let offset = self.rows();
        self.prompts.push(CleanPrompt {
            ids: ids.to_vec(),
            offset,
            readouts: readouts.clone(),
            stem: Some(stem),
        });
        self.prompts.len() - 1
    }

    /// Marks a (stage, layer), as [`crate::site::kept`] names it, to be kept.
    pub fn keep(&mut self, stage: Stage, layer: usize) {
        let next = self.slots.len();
        self.slots.entry((stage, layer)).or_insert(next);
    }

    /// Rows of every kept matrix.
    pub fn rows(&self) -> usize {
        self.prompts.last().map_or(0, |p| p.offset + p.ids.len())
    }

    /// The longest prompt: the stride between heads in kept scores and patterns.
    pub fn key_stride(&self) -> usize {
        self.prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0)
    }

    /// Columns of the matrix that keeps a stage.
    pub fn width(&self, stage: Stage, config: &Config) -> usize {
        stage
            .width()
            .numbers(config, config.heads * self.key_stride())
    }

    /// Numbers kept in all.
    pub fn values(&self, config: &Config) -> usize {
        self.rows()
            * self
                .slots
                .keys()
                .map(|(s, _)| self.width(*s, config))
                .sum::<usize>()
    }
}
