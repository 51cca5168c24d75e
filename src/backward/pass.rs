//! One part of a pass backwards: its operations from the last to the first, whatever they compute.

use super::{Arrived, Take, WayBack};
use crate::backend::adjoint::{
    Adjoints, AttentionAdjoint, AttentionGradients, LinearAdjoint, NormAdjoint,
};
use crate::backend::{Norm, Weight};
use crate::forward::ForwardError;
use crate::plan::tape::ReversedRows;
use crate::site::wiring::{self, Copied, Operation, OperationKind, STREAM};
use crate::site::{Stage, StageMap, Width, kept};

/// A matrix for each stage whose gradient is on its way.
#[derive(Debug)]
pub(super) struct Gradients<M> {
    of: StageMap<Option<M>>,
    /// Of what the layer norm before a head's copy gave.
    normed: Option<M>,
}

impl<M> Default for Gradients<M> {
    fn default() -> Self {
        Self {
            of: StageMap::default(),
            normed: None,
        }
    }
}

/// A pass backwards, and the means of it.
pub(super) struct Reverse<'a, 't, B: Adjoints> {
    pub backend: &'a B,
    pub task: &'a WayBack<'a, B::Matrix>,
    pub gradients: &'a mut Gradients<B::Matrix>,
    pub take: &'a mut Take<'t, B::Matrix>,
    pub rows: usize,
}

type Done = Result<(), ForwardError>;

impl<B: Adjoints> Reverse<'_, '_, B> {
    /// A stage's matrix, all zeros, to be put back.
    pub fn cleared(&mut self, stage: Stage) -> B::Matrix {
        let known = self.gradients.of[stage].take();
        self.zeros(known, stage)
    }

    fn zeros(&self, known: Option<B::Matrix>, stage: Stage) -> B::Matrix {
        let config = self.backend.config();
        let keys = config.heads * self.task.plan.layout.key_stride();
        let width = stage.width().numbers(config, keys);
        let known = match (known, stage.width()) {
            // as wide as the longest of other prompts
            (_, Width::Keys) | (None, _) => self.backend.zeros(self.rows, width, stage),
            (Some(known), _) => known,
        };
        let mut matrix = known;
        self.backend.clear(&mut matrix, self.rows);
        matrix
    }

    pub fn put(&mut self, stage: Stage, matrix: B::Matrix) {
        self.gradients.of[stage] = Some(matrix);
    }

    /// A stage's matrix as it is, to be put back; zeros where nothing arrived.
    fn lift(&mut self, stage: Stage) -> B::Matrix {
        let known = self.gradients.of[stage].take();
        known.unwrap_or_else(|| self.zeros(None, stage))
    }

    fn asks(&self, stage: Stage, layer: usize) -> bool {
        self.task.asked.contains(&(layer, stage))
    }

    /// Hands a gradient over, if it is asked for.
    fn arrived(
        &mut self,
        (layer, stage, head): (usize, Stage, Option<usize>),
        gradient: &B::Matrix,
    ) -> Done {
        match self.asks(stage, layer) {
            true => (self.take)(Arrived {
                layer,
                stage,
                head,
                gradient,
            }),
            false => Ok(()),
        }
    }

    /// Hands over a stage's gradient, and goes back through what is patched there.
    fn settle(&mut self, stage: Stage, layer: usize, gradient: &mut B::Matrix) -> Done {
        let adds = matches!(stage, Stage::AttentionOutput | Stage::MlpOutput);
        if let Some(rows) = self.task.dropped.get(&layer).filter(|_| adds) {
            self.backend.pass(gradient, rows);
        }
        self.arrived((layer, stage, None), gradient)?;
        if let Some(passed) = self.task.plan.passed.get(&(layer, stage)) {
            self.backend.pass(gradient, passed);
        }
        Ok(())
    }

    /// The operations of one part of a pass, from the last to the earliest that is needed.
    pub fn part(&mut self, part: usize) -> Done {
        let plan = self.task.plan;
        let ops = wiring::ops(part, self.backend.config().layers);
        let layer = wiring::layer(part);
        let first = match part == plan.first.0 {
            true => plan.first.1,
            false => 0,
        };
        // what comes in from behind stands under the stream's name until this part's end takes it
        let mut entered = self.lift(STREAM);
        match ops.last() {
            Some(op) if op.gives == STREAM || op.enters == Some(STREAM) => {
                if op.enters == Some(STREAM) {
                    self.settle(STREAM, layer + 1, &mut entered)?;
                    let spare = self.gradients.of[op.gives].take();
                    let spare = self.zeros(spare, STREAM);
                    self.put(STREAM, spare);
                }
                self.put(op.gives, entered);
            }
            // nothing is behind the last layer norm but the readout
            _ => {
                let zeros = self.zeros(Some(entered), STREAM);
                self.put(STREAM, zeros);
            }
        }
        for op in &ops[..ops.len() - 1] {
            let zeros = self.cleared(op.gives);
            self.put(op.gives, zeros);
        }
        for (i, (op, rows)) in ops.iter().zip(&plan.reversed[part]).enumerate().rev() {
            if i < first {
                break;
            }
            let mut gradient = self.lift(op.gives);
            self.settle(op.gives, layer, &mut gradient)?;
            let last = (part, i) == plan.first;
            if !last || self.asks_within(op, layer) {
                self.reverse(op, (layer, rows), &gradient)?;
            }
            self.put(op.gives, gradient);
        }
        Ok(())
    }

    /// Whether anything is asked for that arrives while an operation is gone back through.
    fn asks_within(&self, op: &Operation, layer: usize) -> bool {
        let copy = op.copy.iter().map(|copy| copy.stage);
        let mut within = op.passes.iter().copied().chain(copy);
        within.any(|stage| self.asks(stage, layer))
    }

    fn reverse(
        &mut self,
        op: &Operation,
        (layer, rows): (usize, &ReversedRows),
        gradient: &B::Matrix,
    ) -> Done {
        let (backend, tape, frozen) = (self.backend, self.task.tape, self.task.frozen);
        let kept = |stage: Stage| {
            let (stage, layer) = kept(stage, layer);
            tape.get(stage, layer)
        };
        match op.kind {
            OperationKind::Embed(_) => {}
            OperationKind::Add => {
                for input in op.reads {
                    let mut into = self.lift(input.stage);
                    backend.accumulate(gradient, &rows.rows, &mut into);
                    self.put(input.stage, into);
                }
            }
            OperationKind::Linear(weight) => {
                let adjoint = LinearAdjoint {
                    weight: weight(layer),
                    columns: 0..op.gives.width().numbers(backend.config(), 0),
                    gradient,
                    rows: &rows.rows,
                };
                let mut into = self.lift(op.reads[0].stage);
                backend.linear_adjoint(&adjoint, &mut into);
                self.put(op.reads[0].stage, into);
                if let Some(copy) = op.head_copy()
                    && self.asks(copy.stage, layer)
                {
                    let ops = wiring::ops(layer + 1, backend.config().layers);
                    let before = ops.iter().find(|norm| norm.gives == op.reads[0].stage);
                    if let Some(OperationKind::Norm(norm)) = before.map(|norm| norm.kind) {
                        let weights = (weight(layer), norm(layer));
                        self.heads(weights, copy, (layer, rows), gradient)?;
                    }
                }
            }
            OperationKind::Activate => {
                let mut into = self.lift(op.reads[0].stage);
                if let Some(pre) = kept(op.reads[0].stage) {
                    backend.activate_adjoint(pre, gradient, &rows.rows, frozen, &mut into);
                }
                self.put(op.reads[0].stage, into);
            }
            OperationKind::Norm(norm) => {
                if let Some(input) = kept(op.reads[0].stage) {
                    let adjoint = NormAdjoint {
                        norm: norm(layer),
                        input,
                        gradient,
                        rows: &rows.rows,
                        frozen,
                    };
                    self.norm(op, layer, &adjoint)?;
                }
            }
            OperationKind::Attend => {
                let [query, key, value] = [0, 1, 2].map(|i| kept(op.reads[i].stage));
                if let (Some(query), Some(key), Some(value)) = (query, key, value) {
                    let adjoint = AttentionAdjoint {
                        layer,
                        query,
                        key,
                        value,
                        gradient,
                        runs: &rows.attended,
                        frozen,
                        stride: self.task.plan.layout.key_stride(),
                    };
                    self.attention(op, layer, &adjoint)?;
                }
            }
        }
        Ok(())
    }

    /// A layer norm: what it read, and on the way a copy that it alone reads, its normalised row and its
    /// scale.
    fn norm(&mut self, op: &Operation, layer: usize, adjoint: &NormAdjoint<'_, B::Matrix>) -> Done {
        let backend = self.backend;
        if let [scale, normalized] = *op.passes {
            for (stage, is_scale) in [(normalized, false), (scale, true)] {
                if self.asks(stage, layer) {
                    let mut out = self.cleared(stage);
                    match is_scale {
                        true => backend.scale_adjoint(adjoint, &mut out),
                        false => backend.normalized_adjoint(adjoint, &mut out),
                    }
                    self.arrived((layer, stage, None), &out)?;
                    self.put(stage, out);
                }
            }
        }
        let read = op.reads[0].stage;
        let mut into = self.lift(read);
        match op.whole_copy() {
            Some(copy) if self.asks(copy.stage, layer) => {
                let mut own = self.cleared(copy.stage);
                backend.norm_adjoint(adjoint, &mut own);
                self.arrived((layer, copy.stage, None), &own)?;
                backend.accumulate(&own, adjoint.rows, &mut into);
                self.put(copy.stage, own);
            }
            _ => backend.norm_adjoint(adjoint, &mut into),
        }
        self.put(read, into);
        Ok(())
    }

    /// What single heads read of the residual stream, through the layer norm before.
    fn heads(
        &mut self,
        (weight, norm): (Weight, Norm),
        copy: Copied,
        (layer, rows): (usize, &ReversedRows),
        gradient: &B::Matrix,
    ) -> Done {
        let (backend, frozen) = (self.backend, self.task.frozen);
        let (stage, of) = kept(copy.of, layer);
        let Some(input) = self.task.tape.get(stage, of) else {
            return Ok(());
        };
        let d = backend.config().head_width();
        for head in 0..backend.config().heads {
            let known = self.gradients.normed.take();
            let mut normed = self.zeros(known, Stage::AttentionInput);
            let adjoint = LinearAdjoint {
                weight,
                columns: head * d..(head + 1) * d,
                gradient,
                rows: &rows.rows,
            };
            backend.linear_adjoint(&adjoint, &mut normed);
            let adjoint = NormAdjoint {
                norm,
                input,
                gradient: &normed,
                rows: &rows.rows,
                frozen,
            };
            let mut out = self.cleared(copy.stage);
            backend.norm_adjoint(&adjoint, &mut out);
            self.arrived((layer, copy.stage, Some(head)), &out)?;
            self.put(copy.stage, out);
            self.gradients.normed = Some(normed);
        }
        Ok(())
    }

    fn attention(
        &mut self,
        op: &Operation,
        layer: usize,
        adjoint: &AttentionAdjoint<'_, B::Matrix>,
    ) -> Done {
        let [scores_at, pattern_at] = [op.passes[0], op.passes[1]];
        let [mut query, mut key, mut value] = [0, 1, 2].map(|i| self.lift(op.reads[i].stage));
        let asked = |this: &mut Self, stage| this.asks(stage, layer).then(|| this.cleared(stage));
        let (mut scores, mut pattern) = (asked(self, scores_at), asked(self, pattern_at));
        let into = AttentionGradients {
            query: &mut query,
            key: &mut key,
            value: &mut value,
            scores: scores.as_mut(),
            pattern: pattern.as_mut(),
        };
        self.backend.attention_adjoint(adjoint, into);
        for (stage, matrix) in [(pattern_at, pattern), (scores_at, scores)] {
            if let Some(matrix) = matrix {
                self.arrived((layer, stage, None), &matrix)?;
            }
        }
        for (input, matrix) in op.reads.iter().zip([query, key, value]) {
            self.put(input.stage, matrix);
        }
        Ok(())
    }
}
