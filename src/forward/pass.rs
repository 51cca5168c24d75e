//! One part of a pass: its operations one after the other, whatever they compute.
//!
//! Of each the same is said: where its rows are read, what is computed, which clean rows are gathered
//! behind, what is overwritten and kept.

use std::ops::Range;

use super::ActivationCache;
use super::basis::DeviceBases;
use super::buffers::{Buffers, Others};
use crate::backend::{Attention, Backend, Epilogue, KeepKeys, Linear, Norm, Rows};
use crate::plan::tables::{AttentionRows, HeadCopies, OpTable, PartTables, Reads, Ref};
use crate::plan::writes::Phase;
use crate::site::wiring::{Copied, Operation, OperationKind};
use crate::site::{Stage, kept};

/// One part of a pass over a chunk, and the means of it.
pub(super) struct Pass<'a, B: Backend> {
    pub backend: &'a B,
    pub cache: &'a mut ActivationCache<B::Matrix>,
    /// The constants that writes read.
    pub constants: &'a B::Constants,
    /// The bases in which they act.
    pub bases: &'a mut DeviceBases<B::Matrix>,
    pub buffers: &'a mut Buffers<B::Matrix>,
    pub tables: &'a PartTables,
    pub ops: &'static [Operation],
    pub layer: usize,
}

/// Rows that are all the matrix's own.
fn own<'a, M>(matrix: &'a M, refs: &'a [Ref]) -> Rows<'a, M> {
    Rows {
        own: matrix,
        cache: None,
        refs,
    }
}

/// A linear layer over the rows that its table names, if an operation is one.
fn linear<'b, B: Backend>(
    backend: &B,
    others: &Others<'b, B::Matrix>,
    (op, table): (&Operation, &'b OpTable),
    layer: usize,
    epilogue: Epilogue<'b, B::Matrix>,
) -> Option<Linear<'b, B::Matrix>> {
    let OperationKind::Linear(weight) = op.kind else {
        return None;
    };
    Some(Linear {
        weight: weight(layer),
        columns: 0..op.gives.width().numbers(backend.config(), 0),
        input: others.get(op.reads[0].stage),
        rows: table.own_rows(),
        out_rows: None,
        epilogue,
    })
}

impl<'a, B: Backend> Pass<'a, B> {
    /// Runs every operation.
    pub fn run(&mut self) {
        let tables = self.tables;
        let mut computed = 0;
        for (i, (op, table)) in self.ops.iter().zip(&tables.ops).enumerate() {
            if i == computed {
                computed = self.compute(i);
            }
            if table.fused || table.rows.is_empty() {
                continue;
            }
            self.gather(op, table);
            if let Some(copy) = op.head_copy() {
                self.heads(op, &table.copies, copy);
            }
            self.settle(op.gives, op.gives);
            if let Some(next) = op.enters {
                self.settle(next, op.gives);
            }
        }
    }

    /// Computes the rows of an operation, or of several that go together; the first that is left.
    fn compute(&mut self, i: usize) -> usize {
        let tables = self.tables;
        let end = i + self.together(i);
        for (op, table) in self.ops[i..end].iter().zip(&tables.ops[i..end]) {
            if !table.fused && !table.rows.is_empty() {
                let out = self.buffers.of(op.gives);
                self.backend.resize(self.buffers.get(out), table.rows.len());
            }
        }
        let (op, table) = (&self.ops[i], &tables.ops[i]);
        match (op.kind, &table.reads) {
            _ if end > i + 1 => self.linears(i..end),
            _ if table.fused || table.rows.computed == 0 => {}
            (OperationKind::Norm(norm), Reads::Rows(refs)) => {
                self.norm(norm(self.layer), op, &refs[0])
            }
            (OperationKind::Attend, Reads::Attention(rows)) => self.attend(op, rows),
            _ => self.row_by_row(i),
        }
        end
    }

    /// How many operations from one on go together: linear layers that stand by themselves and read one
    /// stage, or else that one alone.
    fn together(&self, i: usize) -> usize {
        let first = &self.ops[i];
        let alike = |(op, table): &(&Operation, &OpTable)| {
            matches!(op.kind, OperationKind::Linear(_))
                && !table.fused
                && op.reads[0].stage == first.reads[0].stage
        };
        let from = self.ops[i..].iter().zip(&self.tables.ops[i..]);
        from.take_while(alike).count().max(1)
    }

    /// Linear layers that go together.
    fn linears(&mut self, ops: Range<usize>) {
        let (backend, layer, tables) = (self.backend, self.layer, self.tables);
        let some = ops.filter(|i| tables.ops[*i].rows.computed > 0);
        let of: Vec<_> = some.map(|i| (&self.ops[i], &tables.ops[i])).collect();
        let stages: Vec<Stage> = of.iter().map(|(op, _)| op.gives).collect();
        let (outs, others) = self.buffers.split_all(&stages);
        let linears = of.iter().zip(outs).filter_map(|((op, table), out)| {
            let linear = linear(backend, &others, (op, table), layer, Epilogue::None);
            Some((linear?, out))
        });
        backend.linears(&mut linears.collect::<Vec<_>>());
    }

    /// An operation whose rows read rows of their own position, or that one and the linear layer that
    /// goes straight into it.
    fn row_by_row(&mut self, i: usize) {
        let (backend, layer, cache, tables) = (self.backend, self.layer, &*self.cache, self.tables);
        let (op, table) = (&self.ops[i], &tables.ops[i]);
        let (out, others) = self.buffers.split(op.gives);
        let rows = |input: usize| Rows {
            own: others.get(op.reads[input].stage),
            cache: cache.of(op.reads[input].stage, layer),
            refs: &table.refs()[input],
        };
        let linear = |i: usize, epilogue| {
            let of = (&self.ops[i], &tables.ops[i]);
            linear(backend, &others, of, layer, epilogue)
        };
        let straight = |epilogue| {
            let before = i.checked_sub(1).filter(|i| tables.ops[*i].fused)?;
            linear(before, epilogue)
        };
        let fused = match op.kind {
            OperationKind::Linear(_) => linear(i, Epilogue::None),
            OperationKind::Activate => straight(Epilogue::Activate),
            OperationKind::Add => straight(Epilogue::Residual(rows(0))),
            _ => None,
        };
        match (op.kind, fused, &table.reads) {
            (_, Some(linear), _) => backend.linear(&linear, out),
            (OperationKind::Embed(embedding), _, Reads::Table(index)) => {
                backend.embed(embedding, index, out)
            }
            (OperationKind::Activate, ..) => {
                backend.activate(others.get(op.reads[0].stage), table.own_rows(), out);
            }
            (OperationKind::Add, ..) => backend.add(&rows(0), &rows(1), out, 0),
            _ => {}
        }
    }

    /// A layer norm in one operation, or in three where its scale or its normalised row is touched; of
    /// a patched copy of what it reads, if somebody patches that.
    fn norm(&mut self, norm: Norm, op: &Operation, refs: &[Ref]) {
        let (backend, layer, tables) = (self.backend, self.layer, self.tables);
        let copy = op.whole_copy();
        let copy = copy.filter(|copy| !tables.writes[copy.stage].is_empty());
        let copies = copy.map(|_| Ref::first(refs.len()));
        let (input, refs) = match (copy, &copies) {
            (Some(copy), Some(copies)) => {
                self.copy(copy, refs);
                self.write(&tables.writes[copy.stage], copy.stage);
                (copy.stage, &copies[..])
            }
            _ => (op.reads[0].stage, refs),
        };
        if let [scale, normalized] = *op.passes
            && (tables.touches(scale) || tables.touches(normalized))
        {
            let (out, others) = self.buffers.split(scale);
            let rows = others.rows(self.cache, (input, layer), refs);
            backend.resize(out, refs.len());
            backend.layer_norm_scale(&rows, out);
            self.settle(scale, scale);
            let (out, others) = self.buffers.split(normalized);
            let rows = others.rows(self.cache, (input, layer), refs);
            backend.resize(out, refs.len());
            backend.layer_norm_normalize(&rows, others.get(scale), out);
            self.settle(normalized, normalized);
            let (out, others) = self.buffers.split(op.gives);
            backend.layer_norm_affine(norm, others.get(normalized), refs.len(), out);
        } else {
            let (out, others) = self.buffers.split(op.gives);
            let rows = others.rows(self.cache, (input, layer), refs);
            backend.layer_norm(norm, &rows, out);
        }
    }

    /// Attention over every head. Scores and pattern are overwritten and kept on the way.
    fn attend(&mut self, op: &Operation, rows: &AttentionRows) {
        let (layer, layout, tables) = (self.layer, &self.cache.layout, self.tables);
        let (out, others) = self.buffers.split(op.gives);
        let operand = |i: usize| {
            let stage = op.reads[i].stage;
            let slot = layout.slots.get(&kept(stage, layer)).copied();
            (others.get(stage), slot)
        };
        let keep = |stage: Stage| {
            tables.keeps[stage].as_ref().map(|keep| KeepKeys {
                slot: keep.slot,
                to: &keep.to,
            })
        };
        let [scores, pattern] = [op.passes[0], op.passes[1]];
        let attention = Attention {
            layer,
            query: operand(0),
            key: operand(1),
            value: operand(2),
            rows,
            scores: tables.overwrites(scores),
            weights: tables.overwrites(pattern),
            keep_scores: keep(scores),
            keep_pattern: keep(pattern),
            stride: layout.key_stride(),
        };
        let kept = &mut self.cache.matrices;
        self.backend
            .attention(&attention, kept, self.constants, out);
    }

    /// Heads that read a patched copy of the residual stream, through the layer norm before.
    fn heads(&mut self, op: &Operation, copies: &HeadCopies, copy: Copied) {
        let norm = self.ops.iter().find(|norm| norm.gives == op.reads[0].stage);
        let norm = norm.map(|norm| norm.kind);
        let (OperationKind::Linear(weight), Some(OperationKind::Norm(norm)), false) =
            (op.kind, norm, copies.of.is_empty())
        else {
            return;
        };
        let (backend, count) = (self.backend, copies.of.len());
        self.copy(copy, &copies.of);
        self.write(&copies.writes, copy.stage);
        let (normed, others) = self.buffers.split_normed();
        backend.resize(normed, count);
        let rows = Ref::first(count);
        backend.layer_norm(
            norm(self.layer),
            &own(others.get(copy.stage), &rows),
            normed,
        );
        let d = backend.config().head_width();
        let (out, others) = self.buffers.split(op.gives);
        for rows in &copies.heads {
            let linear = Linear {
                weight: weight(self.layer),
                columns: rows.head * d..(rows.head + 1) * d,
                input: others.normed(),
                rows: &rows.copies,
                out_rows: Some(&rows.to),
                epilogue: Epilogue::None,
            };
            backend.linear(&linear, out);
        }
    }

    /// Copies rows to the buffer of a copy.
    fn copy(&mut self, copy: Copied, refs: &[Ref]) {
        let (out, others) = self.buffers.split(copy.stage);
        self.backend.resize(out, refs.len());
        let rows = others.rows(self.cache, (copy.of, self.layer), refs);
        self.backend.gather(&rows, out, 0);
    }

    /// Appends the clean rows on which a patch acts.
    fn gather(&mut self, op: &Operation, table: &OpTable) {
        if table.rows.gathered.is_empty() {
            return;
        }
        // a row of the cache, as the matrix's own
        let refs: &[Ref] = bytemuck::cast_slice(&table.rows.gathered);
        let out = self.buffers.get(self.buffers.of(op.gives));
        match self.cache.of(op.gives, self.layer) {
            Some(cache) => self
                .backend
                .gather(&own(cache, refs), out, table.rows.computed),
            None => debug_assert!(
                false,
                "rows of {:?} are gathered, and no cache is kept",
                op.gives
            ),
        }
    }

    /// Applies a stage's writes to the buffer of another that it shares, and keeps its rows.
    fn settle(&mut self, stage: Stage, buffer: Stage) {
        let tables = self.tables;
        self.write(&tables.writes[stage], buffer);
        if let Some(keep) = &tables.keeps[stage] {
            let kept = &mut self.cache.matrices[keep.slot];
            let buffer = self.buffers.of(buffer);
            self.backend
                .keep(self.buffers.get(buffer), &keep.from, kept, &keep.to);
        }
    }

    /// Applies writes to a stage's buffer, phase by phase.
    fn write(&mut self, phases: &[Phase], stage: Stage) {
        let (backend, kept) = (self.backend, &self.cache.matrices[..]);
        let buffer = self.buffers.of(stage);
        let buffer = self.buffers.get(buffer);
        for phase in phases {
            match phase {
                Phase::Overwrite(writes) => {
                    backend.overwrite(buffer, writes, kept, self.constants);
                }
                Phase::Basis(basis, writes) => {
                    let on_device = self.bases.get(backend, basis);
                    on_device.act(backend, basis, writes, (kept, self.constants), buffer);
                }
                Phase::Functions(calls) => backend.call(buffer, calls, kept),
            }
        }
    }
}
