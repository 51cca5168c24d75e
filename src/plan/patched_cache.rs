//! What is kept of patched runs for other runs to read, and for files.
//!
//! A run that is read differs from its prompt's clean run in few rows only: those stand here, and
//! every other row is the cache's. Rows are handed out run by run, so a thousand runs that are read
//! in one row each cost a thousand rows, not a thousand cache.
//!
//! Runs that read such runs may be read themselves. Each *level* of such a chain has matrices of its
//! own, so that no pass writes what it reads.

use std::collections::{BTreeMap, HashMap};

use crate::model::Config;
use crate::patch::Origin;
use crate::plan::cache::{CacheLayout, PromptRows};
use crate::plan::cone::Wanted;
use crate::plan::edit::Read;
use crate::site::Stage;

/// A run that is read: all of it, or only the patches that act before some point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    /// Index of the pair in its group.
    pub pair: usize,
    /// Index of the run in its pair.
    pub run: usize,
    /// Only patches before this point act: layer, stage, index among the run's patches.
    pub before: Option<(usize, Stage, usize)>,
}

impl RunId {
    /// A run with all its patches.
    pub fn whole(pair: usize, run: usize) -> Self {
        Self {
            pair,
            run,
            before: None,
        }
    }
}

/// Matrix and row of each kept position.
type Kept = BTreeMap<usize, (usize, usize)>;

/// Rows kept of patched runs.
#[derive(Debug, Clone, Default)]
pub struct PatchedCache {
    /// Index of the first matrix, behind the cache's.
    first: usize,
    level: usize,
    /// By level, stage and layer: which matrix, and how many rows it has.
    slots: BTreeMap<(usize, Stage, usize), (usize, usize)>,
    /// Matrix and row of each kept row.
    rows: HashMap<(RunId, Stage, usize), Kept>,
    /// Row of the clean run's position 0 in the cache.
    clean: HashMap<RunId, usize>,
}

impl PatchedCache {
    /// An empty patched behind the matrices of a cache.
    pub fn new(layout: &CacheLayout) -> Self {
        Self {
            first: layout.slots.len(),
            ..Self::default()
        }
    }

    /// Whether nothing has been put on it.
    pub fn is_empty(&self) -> bool {
        self.clean.is_empty()
    }

    /// Begins the next level: runs that are added from here on do not read one another.
    pub fn begin_level(&mut self) {
        self.level += 1;
    }

    /// Makes room for what is kept of a run whose clean prompt begins at row `clean` of the cache.
    pub fn add(&mut self, id: RunId, clean: usize, kept: &Wanted) {
        self.clean.insert(id, clean);
        for ((layer, stage), positions) in kept {
            if positions.is_empty() {
                continue;
            }
            let next = self.first + self.slots.len();
            let place = (self.level, *stage, *layer);
            let (slot, rows) = self.slots.entry(place).or_insert((next, 0));
            let places = self.rows.entry((id, *stage, *layer)).or_default();
            for position in positions.iter() {
                places.insert(position, (*slot, *rows));
                *rows += 1;
            }
        }
    }

    /// Stage and rows of the current level's matrices, in the order of their indices.
    pub fn matrices(&self) -> Vec<(Stage, usize)> {
        let level = self.slots.range((self.level, Stage::TokenEmbedding, 0)..);
        let mut slots: Vec<_> = level.map(|((_, stage, _), slot)| (*slot, *stage)).collect();
        slots.sort_unstable_by_key(|((slot, _), _)| *slot);
        slots
            .iter()
            .map(|((_, rows), stage)| (*stage, *rows))
            .collect()
    }

    /// The matrix that keeps a stage of the current level's runs.
    pub fn slot(&self, stage: Stage, layer: usize) -> Option<usize> {
        let slot = self.slots.get(&(self.level, stage, layer));
        slot.map(|(slot, _)| *slot)
    }

    /// Rows kept of a run at a stage: position and row.
    pub fn rows(
        &self,
        id: RunId,
        stage: Stage,
        layer: usize,
    ) -> impl Iterator<Item = (usize, usize)> + '_ {
        let rows = self.rows.get(&(id, stage, layer)).into_iter().flatten();
        rows.map(|(position, (_, row))| (*position, *row))
    }

    /// Matrix, row and column at which what a run of `pair` reads begins.
    pub fn read(
        &self,
        layout: &CacheLayout,
        read: &Read,
        prompts: &PromptRows,
        pair: usize,
    ) -> (usize, usize, usize) {
        let (slot, row) = match &read.origin {
            Origin::Clean(prompt) => (
                layout.slots[&(read.stage, read.layer)],
                prompts[prompt] + read.position,
            ),
            Origin::Run(run) => {
                let id = RunId::whole(pair, *run);
                self.find(layout, id, read.stage, read.layer, read.position)
            }
        };
        (slot, row, read.head * layout.key_stride() + read.column)
    }

    /// Matrix and row of a run's value: its own, or the clean run's where it has none.
    pub fn find(
        &self,
        layout: &CacheLayout,
        id: RunId,
        stage: Stage,
        layer: usize,
        position: usize,
    ) -> (usize, usize) {
        let own = self.rows.get(&(id, stage, layer));
        match own.and_then(|rows| rows.get(&position)) {
            Some(place) => *place,
            None => (
                layout.slots[&(stage, layer)],
                self.clean.get(&id).map_or(0, |clean| clean + position),
            ),
        }
    }
}

/// Numbers that rows of these stages take at most.
pub fn values(wanted: &Wanted, layout: &CacheLayout, config: &Config) -> usize {
    let each = wanted.iter();
    each.map(|((_, stage), rows)| rows.len() * layout.width(*stage, config))
        .sum()
}
