//! What `collect` patches read, for export.

use std::collections::HashMap;

use crate::backend::{Backend, DeviceError};
use crate::execute::levels::collected;
use crate::forward::ActivationCache;
use crate::patch::Patch;
use crate::plan::patched_cache::{PatchedCache, RunId};
use crate::prompt::pair::PairRuns;
use crate::site::{Stage, columns};

/// What one patch collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// Index of the run in its pair.
    pub run: usize,
    /// Index of the patch in its run.
    pub patch: usize,
    /// `[positions, width]`; `[heads, positions, width]` for sites with heads; `[heads, queries,
    /// keys]` for scores and pattern, where masked cells are −∞ and 0. In the order in which the patch
    /// lists heads, positions and keys; all keys up to the last query unless it lists some.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f64>,
}

/// Reads kept matrices, each once.
pub(super) struct Reader<'a, B: Backend> {
    pub backend: &'a B,
    pub cache: &'a ActivationCache<B::Matrix>,
    pub patched: &'a PatchedCache,
    pub known: HashMap<usize, Vec<f64>>,
}

impl<B: Backend> Reader<'_, B> {
    /// What the patches of a run collected, in listed order.
    pub fn collect(
        &mut self,
        pairs: &[PairRuns],
        pair: usize,
        run: usize,
    ) -> Result<Vec<Collection>, DeviceError> {
        let config = self.backend.config();
        let patches = &pairs[pair].runs[run].patches;
        let mut collections = Vec::new();
        for found in collected(patches, config) {
            let id = RunId {
                pair,
                run,
                before: Some(found.before),
            };
            let patch = &patches[found.patch];
            let mut rows = Vec::with_capacity(patch.positions.len());
            for position in &patch.positions {
                rows.push(self.row(id, found.place, *position)?);
            }
            let (shape, values) = self.values(patch, &rows);
            collections.push(Collection {
                run,
                patch: found.patch,
                shape,
                values,
            });
        }
        Ok(collections)
    }

    /// One kept row.
    fn row(
        &mut self,
        id: RunId,
        (layer, stage): (usize, Stage),
        position: usize,
    ) -> Result<Vec<f64>, DeviceError> {
        let layout = &self.cache.layout;
        let (slot, row) = self.patched.find(layout, id, stage, layer, position);
        if !self.known.contains_key(&slot) {
            let values = self.backend.read(&self.cache.matrices[slot])?;
            self.known.insert(slot, values);
        }
        let width = layout.width(stage, self.backend.config());
        Ok(self.known[&slot][row * width..][..width].to_vec())
    }

    fn values(&self, patch: &Patch, rows: &[Vec<f64>]) -> (Vec<usize>, Vec<f64>) {
        let config = self.backend.config();
        let (component, stage) = (patch.component, patch.component.stage());
        let width = columns(component, config);
        let n = rows.len();
        if component.has_keys() {
            let stride = self.cache.layout.key_stride();
            let last = patch.positions.iter().max().map_or(0, |p| p + 1);
            let keys = patch.keys.clone().unwrap_or_else(|| (0..last).collect());
            let masked = match stage {
                Stage::Scores => f64::NEG_INFINITY,
                _ => 0.0,
            };
            let mut values = Vec::with_capacity(patch.heads.len() * n * keys.len());
            for head in &patch.heads {
                for (row, query) in rows.iter().zip(&patch.positions) {
                    let cell = |key: &usize| match key <= query {
                        true => row[head * stride + key],
                        false => masked,
                    };
                    values.extend(keys.iter().map(cell));
                }
            }
            return (vec![patch.heads.len(), n, keys.len()], values);
        }
        if !component.has_heads() {
            return (vec![n, width], rows.concat());
        }
        // what every head reads of the residual stream is one row
        let own = matches!(
            stage,
            Stage::QueryInput | Stage::KeyInput | Stage::ValueInput
        );
        let of_head = |head: &usize| {
            let column = if own { 0 } else { head * width };
            rows.iter()
                .flat_map(move |row| row[column..][..width].to_vec())
        };
        let values = patch.heads.iter().flat_map(of_head).collect();
        (vec![patch.heads.len(), n, width], values)
    }
}
