//! Which buffer each stage stands in.
//!
//! A stage needs its buffer from the operation that gives it to the last that reads it; another may
//! have it then. So there are as many buffers of a kind as stages of that kind are needed at once. Which
//! they are follows from the wiring, and is the same in every layer.

use super::ActivationCache;
use super::basis::DeviceBases;
use crate::backend::{Backend, Rows, Store};
use crate::plan::tables::{Chunk, OpTable, PartTables, Ref};
use crate::site::wiring::{self, Operation, OperationKind, STREAM};
use crate::site::{Stage, StageMap, Width};

/// Buffers of the forward pass, allocated once and grown to the largest chunk, and the bases that
/// passes have brought to the device.
#[derive(Debug)]
pub struct Buffers<M> {
    homes: Homes,
    all: Vec<M>,
    pub(super) bases: DeviceBases<M>,
}

/// The buffers of a pass but those that are written.
pub(super) struct Others<'b, M> {
    homes: &'b Homes,
    all: Vec<Option<&'b M>>,
}

impl<'b, M> Others<'b, M> {
    /// The buffer of a stage.
    pub fn get(&self, stage: Stage) -> &'b M {
        self.at(self.homes.of[stage])
    }

    /// The buffer of the layer norm of copies that heads read.
    pub fn normed(&self) -> &'b M {
        self.at(self.homes.normed)
    }

    fn at(&self, buffer: usize) -> &'b M {
        self.all[buffer].expect("nothing reads what is being written")
    }

    /// Rows of a stage of a layer: the buffer's and the cache's.
    pub fn rows(
        &self,
        cache: &'b ActivationCache<M>,
        (stage, layer): (Stage, usize),
        refs: &'b [Ref],
    ) -> Rows<'b, M> {
        Rows {
            own: self.get(stage),
            cache: cache.of(stage, layer),
            refs,
        }
    }
}

impl<M> Buffers<M> {
    /// Empty buffers of a backend's shape.
    pub fn new<B: Backend<Matrix = M>>(backend: &B) -> Self {
        let homes = Homes::new();
        let width = |width: Width| width.numbers(backend.config(), 0);
        let buffer = |(store, w): &(Store, Width)| backend.matrix(0, width(*w), *store);
        Self {
            all: homes.kinds.iter().map(buffer).collect(),
            homes,
            bases: DeviceBases::default(),
        }
    }

    /// Grows every buffer to the most rows that it will have in a chunk, so that no layer has to.
    pub(super) fn reserve<B: Backend<Matrix = M>>(&mut self, backend: &B, chunk: &Chunk) {
        let mut most = vec![0; self.all.len()];
        for (i, tables) in chunk.parts.iter().enumerate() {
            let ops = wiring::ops(chunk.first + i, backend.config().layers);
            for (op, table) in ops.iter().zip(&tables.ops) {
                let mut need = |buffer: usize, rows: usize| most[buffer] = rows.max(most[buffer]);
                for (stage, rows) in standing(op, table, tables) {
                    need(self.homes.of[stage], rows);
                }
                need(self.homes.normed, table.copies.of.len());
            }
        }
        for (buffer, rows) in self.all.iter_mut().zip(most) {
            backend.resize(buffer, rows);
        }
    }

    /// Which buffer a stage stands in.
    pub(super) fn of(&self, stage: Stage) -> usize {
        self.homes.of[stage]
    }

    /// A buffer.
    pub(super) fn get(&mut self, buffer: usize) -> &mut M {
        &mut self.all[buffer]
    }

    /// The buffer of a stage, to be written while the others are read.
    pub(super) fn split(&mut self, stage: Stage) -> (&mut M, Others<'_, M>) {
        self.split_at(self.homes.of[stage])
    }

    /// The buffers of some stages, in order, to be written while the others are read.
    pub(super) fn split_all(&mut self, stages: &[Stage]) -> (Vec<&mut M>, Others<'_, M>) {
        let homes: Vec<usize> = stages.iter().map(|stage| self.homes.of[*stage]).collect();
        let mut written: Vec<_> = homes.iter().map(|_| None).collect();
        let mut all = Vec::with_capacity(self.all.len());
        for (i, buffer) in self.all.iter_mut().enumerate() {
            let at = homes.iter().position(|home| *home == i);
            let (read, write) = match at {
                Some(_) => (None, Some(buffer)),
                None => (Some(&*buffer), None),
            };
            all.push(read);
            if let Some(at) = at {
                written[at] = write;
            }
        }
        let others = Others {
            homes: &self.homes,
            all,
        };
        (written.into_iter().flatten().collect(), others)
    }

    /// The same of the layer norm of copies that heads read.
    pub(super) fn split_normed(&mut self) -> (&mut M, Others<'_, M>) {
        self.split_at(self.homes.normed)
    }

    fn split_at(&mut self, buffer: usize) -> (&mut M, Others<'_, M>) {
        let (before, rest) = self.all.split_at_mut(buffer);
        let (out, after) = rest.split_at_mut(1);
        let all = before
            .iter()
            .map(Some)
            .chain([None])
            .chain(after.iter().map(Some));
        let others = Others {
            homes: &self.homes,
            all: all.collect(),
        };
        (&mut out[0], others)
    }
}

/// Rows of the stages of an operation that stand in buffers.
fn standing(op: &Operation, table: &OpTable, tables: &PartTables) -> Vec<(Stage, usize)> {
    let rows = |stands: bool, rows: usize| if stands { rows } else { 0 };
    let mut all = vec![(op.gives, rows(!table.fused, table.rows.len()))];
    if let Some(copy) = op.copy {
        let whole = rows(!tables.writes[copy.stage].is_empty(), table.rows.computed);
        all.push((copy.stage, whole.max(table.copies.of.len())));
    }
    if let OperationKind::Norm(_) = op.kind {
        let split = op.passes.iter().any(|stage| tables.touches(*stage));
        let passed = op.passes.iter();
        all.extend(passed.map(|stage| (*stage, rows(split, table.rows.computed))));
    }
    all
}

/// Which buffer each stage stands in, and what the buffers hold.
#[derive(Debug)]
struct Homes {
    of: StageMap<usize>,
    /// The layer norm of copies that heads read.
    normed: usize,
    kinds: Vec<(Store, Width)>,
    taken: Vec<bool>,
}

impl Homes {
    fn new() -> Self {
        let mut homes = Self {
            of: StageMap::default(),
            normed: 0,
            kinds: Vec::new(),
            taken: Vec::new(),
        };
        // the stream stands from one part to the next, and nothing else may have its buffer
        homes.of[STREAM] = homes.take(STREAM);
        for part in 0..3 {
            let ops = wiring::ops(part, 1);
            for (i, op) in ops.iter().enumerate() {
                homes.of[op.gives] = match op.gives == STREAM || op.enters == Some(STREAM) {
                    true => homes.of[STREAM],
                    false => homes.take(op.gives),
                };
                let mut done: Vec<Stage> = Vec::new();
                done.extend(op.copy.map(|copy| copy.stage));
                if let OperationKind::Norm(_) = op.kind {
                    done.extend(op.passes);
                }
                for stage in &done {
                    homes.of[*stage] = homes.take(*stage);
                }
                if op.head_copy().is_some() {
                    homes.normed = homes.take(op.reads[0].stage);
                    homes.taken[homes.normed] = false;
                }
                // what is read for the last time, also by a linear layer that goes straight into this
                let given = ops[..=i].iter().map(|op| op.gives);
                done.extend(given.filter(|stage| last_use(ops, *stage) <= i && *stage != STREAM));
                for stage in done {
                    let home = homes.of[stage];
                    homes.taken[home] = home == homes.of[STREAM];
                }
            }
        }
        homes
    }

    fn take(&mut self, stage: Stage) -> usize {
        let kind = (Store::of(stage), stage.width());
        let free = |i: &usize| self.kinds[*i] == kind && !self.taken[*i];
        let found = (0..self.kinds.len()).find(free);
        let home = found.unwrap_or_else(|| {
            self.kinds.push(kind);
            self.taken.push(false);
            self.kinds.len() - 1
        });
        self.taken[home] = true;
        home
    }
}

/// The last of some operations at which a stage that they give is needed.
fn last_use(ops: &[Operation], stage: Stage) -> usize {
    let uses = ops.iter().enumerate().filter(|(_, op)| {
        let read = op.reads.iter().any(|input| input.stage == stage);
        read || op.copy.is_some_and(|copy| copy.of == stage)
    });
    let uses = uses.map(|(i, _)| i + usize::from(wiring::fuses(ops, i).is_some()));
    uses.max().unwrap_or(ops.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No operation writes a buffer that holds what it, or a later one, still reads.
    #[test]
    fn buffers_are_given_away_when_nobody_reads_them_any_more() {
        let homes = Homes::new();
        for part in 0..3 {
            let ops = wiring::ops(part, 1);
            for (i, op) in ops.iter().enumerate() {
                let mut written = vec![op.gives];
                written.extend(op.copy.map(|copy| copy.stage));
                if let OperationKind::Norm(_) = op.kind {
                    written.extend(op.passes);
                }
                let entered = (part > 0).then_some(STREAM);
                let standing = ops[..i].iter().map(|op| op.gives).chain(entered);
                for stage in standing.filter(|stage| last_use(ops, *stage) >= i) {
                    for w in &written {
                        let shared = homes.of[*w] == homes.of[stage];
                        assert!(!shared, "{w:?} is written over {stage:?} in part {part}");
                    }
                }
                // linear layers that go together are computed before what the first of them copies is
                let next = ops[i + 1..].iter().take_while(|next| {
                    let linear = |op: &Operation| matches!(op.kind, OperationKind::Linear(_));
                    linear(op) && linear(next) && next.reads[0].stage == op.reads[0].stage
                });
                for next in next {
                    let shared = |buffer: usize| homes.of[next.gives] == buffer;
                    assert!(!written.iter().any(|w| shared(homes.of[*w])));
                    assert!(!shared(homes.normed), "{:?}", next.gives);
                }
                let apart: std::collections::BTreeSet<_> =
                    written.iter().map(|stage| homes.of[*stage]).collect();
                assert_eq!(apart.len(), written.len(), "{:?}", op.gives);
            }
        }
        let wide = homes
            .kinds
            .iter()
            .filter(|kind| **kind == (Store::Residual, Width::Residual));
        assert!(wide.count() <= 4);
    }
}
