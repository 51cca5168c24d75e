//! What happens at every stage, whatever is computed there: where rows are read, what is gathered,
//! overwritten and kept.

use super::ActivationCache;
use super::basis::Bases;
use crate::backend::{Backend, Epilogue, Linear, Norm, Rows, Weight};
use crate::plan::phase::Phase;
use crate::plan::tables::{LayerTables, Ref, RowTable, Sum};
use crate::site::Stage;

/// The means of one pass: the device, the cache, the constants that writes read, and the bases in
/// which they act.
pub(super) struct Step<'a, B: Backend> {
    pub backend: &'a B,
    pub cache: &'a mut ActivationCache<B::Matrix>,
    pub constants: B::Constants,
    pub bases: &'a mut Bases<B::Matrix>,
}

/// What a layer norm reads.
pub(super) struct Input<'a, M> {
    pub own: &'a M,
    /// The stage and layer whose cache holds the other rows.
    pub cache: Option<(Stage, usize)>,
    pub refs: &'a [Ref],
}

/// A linear layer that writes to the residual stream.
pub(super) struct Branch<'a, M> {
    pub weight: Weight,
    pub input: &'a M,
    /// Rows of the input.
    pub rows: &'a [u32],
    /// The stage of its result, and the rows of that.
    pub stage: (Stage, usize),
    pub table: &'a RowTable,
    /// The residual stream that it is added to.
    pub residual: (&'a M, (Stage, usize)),
    pub sum: &'a Sum,
    /// Whether nobody touches what stands between the two.
    pub fused: bool,
}

/// Rows that are all the matrix's own.
pub(super) fn own<'a, M>(matrix: &'a M, refs: &'a [Ref]) -> Rows<'a, M> {
    Rows {
        own: matrix,
        cache: None,
        refs,
    }
}

impl<B: Backend> Step<'_, B> {
    /// Rows of a buffer and of the cache of a stage.
    pub fn rows<'b>(
        &'b self,
        own: &'b B::Matrix,
        cache: Option<(Stage, usize)>,
        refs: &'b [Ref],
    ) -> Rows<'b, B::Matrix> {
        Rows {
            own,
            cache: cache.and_then(|(stage, layer)| self.cache.get(stage, layer)),
            refs,
        }
    }

    /// Appends the clean rows that a patch at this stage acts on.
    pub fn gather(&self, rows: &RowTable, (stage, layer): (Stage, usize), out: &mut B::Matrix) {
        if rows.gathered.is_empty() {
            return;
        }
        let row = |r: &u32| Ref::own(*r as usize);
        let refs: Vec<Ref> = rows.gathered.iter().map(row).collect();
        if let Some(cache) = self.cache.get(stage, layer) {
            self.backend.gather(&own(cache, &refs), out, rows.computed);
        } else {
            debug_assert!(
                false,
                "rows of {stage:?} {layer} are gathered, and no cache is kept"
            );
        }
    }

    /// Applies writes, phase by phase.
    pub fn write(&mut self, phases: &[Phase], buffer: &mut B::Matrix) {
        let (backend, kept) = (self.backend, &self.cache.matrices[..]);
        for phase in phases {
            match phase {
                Phase::Overwrite(writes) => {
                    backend.overwrite(buffer, writes, kept, &self.constants);
                }
                Phase::Basis(basis, moves) => {
                    let on_device = self.bases.get(backend, basis);
                    on_device.act(backend, basis, moves, (kept, &self.constants), buffer);
                }
                Phase::Functions(calls) => backend.call(buffer, calls, kept),
            }
        }
    }

    /// Applies a stage's writes and keeps its rows.
    pub fn settle(&mut self, tables: &LayerTables, stage: Stage, buffer: &mut B::Matrix) {
        self.write(tables.writes(stage), buffer);
        if let Some(keep) = tables.keeps.get(&stage) {
            let kept = &mut self.cache.matrices[keep.slot];
            self.backend.keep(buffer, &keep.from, kept, &keep.to);
        }
    }

    /// A layer norm in one operation, or in three where its scale or its normalised row is touched.
    pub fn norm(
        &mut self,
        tables: &LayerTables,
        (norm, stages): (Norm, [Stage; 3]),
        input: Input<'_, B::Matrix>,
        [scale, normalized, out]: [&mut B::Matrix; 3],
    ) {
        let (backend, count) = (self.backend, input.refs.len());
        backend.resize(out, count);
        if tables.touches(stages[0]) || tables.touches(stages[1]) {
            backend.resize(scale, count);
            let rows = self.rows(input.own, input.cache, input.refs);
            backend.layer_norm_scale(&rows, scale);
            self.settle(tables, stages[0], scale);
            backend.resize(normalized, count);
            let rows = self.rows(input.own, input.cache, input.refs);
            backend.layer_norm_normalize(&rows, scale, normalized);
            self.settle(tables, stages[1], normalized);
            backend.layer_norm_affine(norm, normalized, count, out);
        } else {
            let rows = self.rows(input.own, input.cache, input.refs);
            backend.layer_norm(norm, &rows, out);
        }
        self.settle(tables, stages[2], out);
    }

    /// A branch and its sum with the residual stream: in one operation where nobody touches what the
    /// branch gives. `result` holds it otherwise.
    pub fn branch(
        &mut self,
        tables: &LayerTables,
        branch: &Branch<'_, B::Matrix>,
        result: &mut B::Matrix,
        out: &mut B::Matrix,
    ) {
        let (backend, (stage, layer)) = (self.backend, branch.stage);
        let linear = |epilogue| Linear {
            weight: branch.weight,
            columns: 0..backend.config().width,
            input: branch.input,
            rows: branch.rows,
            out_rows: None,
            epilogue,
        };
        let (residual, cache) = branch.residual;
        let sum = branch.sum;
        backend.resize(out, sum.rows.len());
        if branch.fused {
            let residual = self.rows(residual, Some(cache), &sum.residual);
            backend.linear(&linear(Epilogue::Residual(residual)), out);
        } else {
            backend.resize(result, branch.table.len());
            backend.linear(&linear(Epilogue::None), result);
            self.gather(branch.table, (stage, layer), result);
            self.settle(tables, stage, result);
            let a = self.rows(residual, Some(cache), &sum.residual);
            let b = self.rows(result, Some((stage, layer)), &sum.branch);
            backend.add(&a, &b, out, 0);
        }
    }
}
