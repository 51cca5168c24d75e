//! GPT-2's forward pass, once, over any backend.
//!
//! The order of operations is that of Radford et al. 2019 as Hugging Face implements it
//! (`modeling_gpt2.py`, `GPT2Block.forward`): x += attention(ln_1(x)); x += mlp(ln_2(x)); then ln_f
//! and the unembedding. Which rows each step computes, and whether a row's operand is the run's own
//! or the trace's, stands in the chunk's tables.
//!
//! At every stage the same three things may happen to the buffer: clean rows are gathered behind
//! the computed ones (because a patch acts on them there), overwrites are applied, rows are kept.
//! Two operations are fused only where nobody touches what stands between them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{
    Attention, Backend, DeviceError, Embedding, Epilogue, KeepKeys, Linear, Norm, Readout,
    ReadoutSpec, Rows, Store, Weight,
};
use crate::plan::tables::{Chunk, LayerTables, Ref, RowTable, Sum};
use crate::plan::trace::TraceLayout;
use crate::site::Stage;

/// The kept activations of a group of clean runs: one matrix for each slot of the layout.
#[derive(Debug)]
pub struct Traces<M> {
    /// What stands where.
    pub layout: TraceLayout,
    /// One matrix a slot, `[layout.rows(), width]`.
    pub matrices: Vec<M>,
}

impl<M> Traces<M> {
    /// Empty traces of a layout, to be filled by [`forward`] over clean runs.
    pub fn new<B: Backend<Matrix = M>>(backend: &B, layout: TraceLayout) -> Self {
        let mut slots: Vec<_> = layout.slots.iter().map(|(k, slot)| (*slot, k.0)).collect();
        slots.sort_by_key(|(slot, _)| *slot);
        let width = |stage| layout.width(stage, backend.config());
        let matrices = slots
            .iter()
            .map(|(_, stage)| backend.matrix(layout.rows(), width(*stage), Store::of(*stage)))
            .collect();
        Self { layout, matrices }
    }

    /// The matrix of a stage and layer, if it is kept.
    pub fn get(&self, stage: Stage, layer: usize) -> Option<&M> {
        self.layout
            .slots
            .get(&(stage, layer))
            .map(|slot| &self.matrices[*slot])
    }
}

/// Buffers of the forward pass, allocated once and grown to the largest chunk.
#[derive(Debug)]
pub struct Buffers<M> {
    stream: M,
    normed: M,
    scale: M,
    normalized: M,
    query: M,
    key: M,
    value: M,
    z: M,
    attention_output: M,
    mid: M,
    mlp_pre: M,
    mlp_activation: M,
    mlp_output: M,
    out: M,
    own_input: M,
    own_normed: M,
}

impl<M> Buffers<M> {
    /// Empty buffers of a backend's shape.
    pub fn new<B: Backend<Matrix = M>>(backend: &B) -> Self {
        let config = backend.config();
        let wide = |store| backend.matrix(0, config.width, store);
        Self {
            stream: wide(Store::Residual),
            normed: wide(Store::Branch),
            scale: backend.matrix(0, 1, Store::Residual),
            normalized: wide(Store::Residual),
            query: wide(Store::Heads),
            key: wide(Store::Heads),
            value: wide(Store::Heads),
            z: wide(Store::Heads),
            attention_output: wide(Store::Residual),
            mid: wide(Store::Residual),
            mlp_pre: backend.matrix(0, config.inner, Store::Branch),
            mlp_activation: backend.matrix(0, config.inner, Store::Branch),
            mlp_output: wide(Store::Residual),
            out: wide(Store::Residual),
            own_input: wide(Store::Residual),
            own_normed: wide(Store::Branch),
        }
    }

    /// Grows every buffer to the most rows that it will have in a chunk, so that no layer has to.
    fn reserve<B: Backend<Matrix = M>>(&mut self, backend: &B, chunk: &Chunk) {
        let most =
            |rows: fn(&LayerTables) -> usize| chunk.layers.iter().map(rows).max().unwrap_or(0);
        let out = most(|t| t.out.rows.len()).max(chunk.input.len());
        for (buffer, rows) in [
            (&mut self.stream, out),
            (&mut self.out, out),
            (&mut self.normed, most(|t| t.ln_1.len().max(t.ln_2.len()))),
            (&mut self.query, most(|t| t.query.rows.len())),
            (&mut self.key, most(|t| t.key.rows.len())),
            (&mut self.value, most(|t| t.value.rows.len())),
            (&mut self.z, most(|t| t.z.len())),
            (&mut self.mid, most(|t| t.mid.rows.len())),
            (&mut self.mlp_activation, most(|t| t.mlp_activation.len())),
        ] {
            backend.resize(buffer, rows);
        }
    }
}

/// Why a pass did not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Somebody asked for the work to stop.
    #[error("interrupted")]
    Interrupted,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Runs one chunk and reads it out. Clean chunks write `traces`, others read them.
///
/// # Errors
///
/// [`ForwardError`]: `stop` is looked at between layers.
pub fn forward<B: Backend>(
    backend: &B,
    chunk: &Chunk,
    buffers: &mut Buffers<B::Matrix>,
    traces: &mut Traces<B::Matrix>,
    spec: &ReadoutSpec,
    stop: &AtomicBool,
) -> Result<Vec<Readout>, ForwardError> {
    buffers.reserve(backend, chunk);
    let constants = backend.constants(&chunk.constants);
    let mut pass = Pass {
        backend,
        buffers,
        traces,
        constants,
    };
    pass.input(chunk);
    for (i, tables) in chunk.layers.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(ForwardError::Interrupted);
        }
        pass.attention(chunk.start + i, tables);
        pass.mlp(chunk.start + i, tables);
        std::mem::swap(&mut pass.buffers.stream, &mut pass.buffers.out);
    }
    Ok(pass.readout(chunk, spec)?)
}

struct Pass<'a, B: Backend> {
    backend: &'a B,
    buffers: &'a mut Buffers<B::Matrix>,
    traces: &'a mut Traces<B::Matrix>,
    constants: B::Constants,
}

impl<B: Backend> Pass<'_, B> {
    fn input(&mut self, chunk: &Chunk) {
        let (backend, b, tables) = (self.backend, &mut *self.buffers, &chunk.input_tables);
        backend.resize(&mut b.stream, chunk.input.len());
        if chunk.input.computed > 0 {
            // out and mid hold the two embeddings until they are added
            backend.resize(&mut b.out, chunk.input.computed);
            backend.resize(&mut b.mid, chunk.input.computed);
            backend.embed(Embedding::Token, &chunk.tokens, &mut b.out);
            settle(
                backend,
                self.traces,
                &self.constants,
                tables,
                Stage::TokenEmbedding,
                &mut b.out,
            );
            backend.embed(Embedding::Position, &chunk.positions, &mut b.mid);
            settle(
                backend,
                self.traces,
                &self.constants,
                tables,
                Stage::PositionEmbedding,
                &mut b.mid,
            );
            let refs: Vec<Ref> = (0..chunk.input.computed).map(Ref::own).collect();
            let (token, position) = (own(&b.out, &refs), own(&b.mid, &refs));
            backend.add(&token, &position, &mut b.stream, 0);
        }
        gather(
            backend,
            self.traces,
            &chunk.input,
            (Stage::BlockInput, chunk.start),
            &mut b.stream,
        );
        settle(
            backend,
            self.traces,
            &self.constants,
            tables,
            Stage::BlockInput,
            &mut b.stream,
        );
    }

    fn attention(&mut self, layer: usize, tables: &LayerTables) {
        let (backend, constants) = (self.backend, &self.constants);
        let b = &mut *self.buffers;
        let input = Input {
            own: &b.stream,
            trace: Some((Stage::BlockInput, layer)),
            refs: &tables.ln_1,
        };
        let stages = [Stage::Ln1Scale, Stage::Ln1Normalized, Stage::AttentionInput];
        let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
        norm(
            backend,
            self.traces,
            constants,
            tables,
            (Norm::Ln1(layer), stages),
            input,
            out,
        );

        let width = backend.config().width;
        for (projection, weight, stage, own_stage, buffer) in [
            (
                &tables.query,
                Weight::Query(layer),
                Stage::Query,
                Stage::QueryInput,
                &mut b.query,
            ),
            (
                &tables.key,
                Weight::Key(layer),
                Stage::Key,
                Stage::KeyInput,
                &mut b.key,
            ),
            (
                &tables.value,
                Weight::Value(layer),
                Stage::Value,
                Stage::ValueInput,
                &mut b.value,
            ),
        ] {
            backend.resize(buffer, projection.rows.len());
            let linear = Linear {
                weight,
                columns: 0..width,
                input: &b.normed,
                rows: &projection.input,
                out_rows: None,
                epilogue: Epilogue::None,
            };
            backend.linear(&linear, buffer);
            gather(
                backend,
                self.traces,
                &projection.rows,
                (stage, layer),
                buffer,
            );
            for (_, head, input) in tables
                .head_inputs
                .iter()
                .filter(|(of, _, _)| *of == own_stage)
            {
                let count = input.input.len();
                backend.resize(&mut b.own_input, count);
                let trace = self.traces.get(Stage::BlockInput, layer);
                backend.gather(
                    &Rows {
                        own: &b.stream,
                        trace,
                        refs: &input.input,
                    },
                    &mut b.own_input,
                    0,
                );
                backend.overwrite(
                    &mut b.own_input,
                    &input.writes,
                    &self.traces.matrices,
                    constants,
                );
                let refs: Vec<Ref> = (0..count).map(Ref::own).collect();
                let rows: Vec<u32> = (0..count as u32).collect();
                backend.resize(&mut b.own_normed, count);
                let normed = &mut b.own_normed;
                backend.layer_norm(Norm::Ln1(layer), &own(&b.own_input, &refs), normed);
                let d = backend.config().head_width();
                let linear = Linear {
                    weight,
                    columns: head * d..(head + 1) * d,
                    input: &b.own_normed,
                    rows: &rows,
                    out_rows: Some(&input.output),
                    epilogue: Epilogue::None,
                };
                backend.linear(&linear, buffer);
            }
            settle(backend, self.traces, constants, tables, stage, buffer);
        }

        backend.resize(&mut b.z, tables.z.len());
        let stride = self.traces.layout.key_stride();
        let keeps = |stage| {
            tables.keeps.get(&stage).map(|k| KeepKeys {
                slot: k.slot,
                to: &k.to,
            })
        };
        let slot = |stage| self.traces.layout.slots.get(&(stage, layer)).copied();
        let attention = Attention {
            layer,
            query: (&b.query, slot(Stage::Query)),
            key: (&b.key, slot(Stage::Key)),
            value: (&b.value, slot(Stage::Value)),
            rows: &tables.attention,
            scores: tables.writes(Stage::Scores),
            weights: tables.writes(Stage::Weight),
            keep_scores: keeps(Stage::Scores),
            keep_weights: keeps(Stage::Weight),
            stride,
        };
        backend.attention(&attention, &mut self.traces.matrices, constants, &mut b.z);
        gather(backend, self.traces, &tables.z, (Stage::Z, layer), &mut b.z);
        settle(backend, self.traces, constants, tables, Stage::Z, &mut b.z);

        let c_proj = |epilogue| Linear {
            weight: Weight::AttentionOutput(layer),
            columns: 0..width,
            input: &b.z,
            rows: &tables.c_proj,
            out_rows: None,
            epilogue,
        };
        backend.resize(&mut b.mid, tables.mid.rows.len());
        if tables.mid.aligned && !tables.touches(Stage::AttentionOutput) {
            let trace = self.traces.get(Stage::BlockInput, layer);
            let residual = Rows {
                own: &b.stream,
                trace,
                refs: &tables.mid.residual,
            };
            backend.linear(&c_proj(Epilogue::Residual(residual)), &mut b.mid);
        } else {
            backend.resize(&mut b.attention_output, tables.attention_output.len());
            backend.linear(&c_proj(Epilogue::None), &mut b.attention_output);
            gather(
                backend,
                self.traces,
                &tables.attention_output,
                (Stage::AttentionOutput, layer),
                &mut b.attention_output,
            );
            settle(
                backend,
                self.traces,
                constants,
                tables,
                Stage::AttentionOutput,
                &mut b.attention_output,
            );
            let stages = [(Stage::BlockInput, layer), (Stage::AttentionOutput, layer)];
            add(
                backend,
                self.traces,
                &tables.mid,
                stages,
                &b.stream,
                &b.attention_output,
                &mut b.mid,
            );
        }
        gather(
            backend,
            self.traces,
            &tables.mid.rows,
            (Stage::BlockMid, layer),
            &mut b.mid,
        );
        settle(
            backend,
            self.traces,
            constants,
            tables,
            Stage::BlockMid,
            &mut b.mid,
        );
    }

    fn mlp(&mut self, layer: usize, tables: &LayerTables) {
        let (backend, constants) = (self.backend, &self.constants);
        let b = &mut *self.buffers;
        let config = backend.config();
        let stages = [Stage::Ln2Scale, Stage::Ln2Normalized, Stage::MlpInput];
        let read = tables.writes(Stage::MlpResidualInput);
        let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
        if read.is_empty() {
            let input = Input {
                own: &b.mid,
                trace: Some((Stage::BlockMid, layer)),
                refs: &tables.ln_2,
            };
            norm(
                backend,
                self.traces,
                constants,
                tables,
                (Norm::Ln2(layer), stages),
                input,
                out,
            );
        } else {
            // ln_2 reads a patched copy; the skip path keeps the original
            let copy = &mut b.own_input;
            backend.resize(copy, tables.ln_2.len());
            let trace = self.traces.get(Stage::BlockMid, layer);
            backend.gather(
                &Rows {
                    own: &b.mid,
                    trace,
                    refs: &tables.ln_2,
                },
                copy,
                0,
            );
            backend.overwrite(copy, read, &self.traces.matrices, constants);
            let refs: Vec<Ref> = (0..tables.ln_2.len()).map(Ref::own).collect();
            let input = Input {
                own: copy,
                trace: None,
                refs: &refs,
            };
            norm(
                backend,
                self.traces,
                constants,
                tables,
                (Norm::Ln2(layer), stages),
                input,
                out,
            );
        }

        let rows: Vec<u32> = (0..tables.mlp_pre.computed as u32).collect();
        let c_fc = |epilogue| Linear {
            weight: Weight::MlpPre(layer),
            columns: 0..config.inner,
            input: &b.normed,
            rows: &rows,
            out_rows: None,
            epilogue,
        };
        backend.resize(&mut b.mlp_activation, tables.mlp_activation.len());
        let straight = tables.mlp_pre.gathered.is_empty()
            && tables
                .activate
                .iter()
                .enumerate()
                .all(|(i, r)| i == *r as usize)
            && tables.activate.len() == tables.mlp_pre.computed;
        if straight && !tables.touches(Stage::MlpPre) {
            backend.linear(&c_fc(Epilogue::Activate), &mut b.mlp_activation);
        } else {
            backend.resize(&mut b.mlp_pre, tables.mlp_pre.len());
            backend.linear(&c_fc(Epilogue::None), &mut b.mlp_pre);
            gather(
                backend,
                self.traces,
                &tables.mlp_pre,
                (Stage::MlpPre, layer),
                &mut b.mlp_pre,
            );
            settle(
                backend,
                self.traces,
                constants,
                tables,
                Stage::MlpPre,
                &mut b.mlp_pre,
            );
            backend.activate(&b.mlp_pre, &tables.activate, &mut b.mlp_activation);
        }
        gather(
            backend,
            self.traces,
            &tables.mlp_activation,
            (Stage::MlpActivation, layer),
            &mut b.mlp_activation,
        );
        settle(
            backend,
            self.traces,
            constants,
            tables,
            Stage::MlpActivation,
            &mut b.mlp_activation,
        );

        let mlp_proj = |epilogue| Linear {
            weight: Weight::MlpOutput(layer),
            columns: 0..config.width,
            input: &b.mlp_activation,
            rows: &tables.mlp_proj,
            out_rows: None,
            epilogue,
        };
        backend.resize(&mut b.out, tables.out.rows.len());
        if tables.out.aligned && !tables.touches(Stage::MlpOutput) {
            let trace = self.traces.get(Stage::BlockMid, layer);
            let residual = Rows {
                own: &b.mid,
                trace,
                refs: &tables.out.residual,
            };
            backend.linear(&mlp_proj(Epilogue::Residual(residual)), &mut b.out);
        } else {
            backend.resize(&mut b.mlp_output, tables.mlp_output.len());
            backend.linear(&mlp_proj(Epilogue::None), &mut b.mlp_output);
            gather(
                backend,
                self.traces,
                &tables.mlp_output,
                (Stage::MlpOutput, layer),
                &mut b.mlp_output,
            );
            settle(
                backend,
                self.traces,
                constants,
                tables,
                Stage::MlpOutput,
                &mut b.mlp_output,
            );
            let stages = [(Stage::BlockMid, layer), (Stage::MlpOutput, layer)];
            add(
                backend,
                self.traces,
                &tables.out,
                stages,
                &b.mid,
                &b.mlp_output,
                &mut b.out,
            );
        }
        gather(
            backend,
            self.traces,
            &tables.out.rows,
            (Stage::BlockInput, layer + 1),
            &mut b.out,
        );
        for stage in [Stage::BlockOutput, Stage::BlockInput] {
            settle(backend, self.traces, constants, tables, stage, &mut b.out);
        }
    }

    fn readout(&mut self, chunk: &Chunk, spec: &ReadoutSpec) -> Result<Vec<Readout>, DeviceError> {
        let (backend, tables, b) = (self.backend, &chunk.final_tables, &mut *self.buffers);
        let layers = backend.config().layers;
        let refs = [&chunk.readout[..], &chunk.compared].concat();
        let input = Input {
            own: &b.stream,
            trace: Some((Stage::BlockInput, layers)),
            refs: &refs,
        };
        let stages = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput];
        let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
        norm(
            backend,
            self.traces,
            &self.constants,
            tables,
            (Norm::LnF, stages),
            input,
            out,
        );
        backend.readout(&b.normed, chunk.readout.len(), spec)
    }
}

fn own<'a, M>(matrix: &'a M, refs: &'a [Ref]) -> Rows<'a, M> {
    Rows {
        own: matrix,
        trace: None,
        refs,
    }
}

/// What a layer norm reads.
struct Input<'a, M> {
    own: &'a M,
    trace: Option<(Stage, usize)>,
    refs: &'a [Ref],
}

/// A layer norm in one operation, or in three where its scale or its normalised value is touched.
fn norm<B: Backend>(
    backend: &B,
    traces: &mut Traces<B::Matrix>,
    constants: &B::Constants,
    tables: &LayerTables,
    (norm, stages): (Norm, [Stage; 3]),
    input: Input<'_, B::Matrix>,
    [scale, normalized, out]: [&mut B::Matrix; 3],
) {
    fn rows<'a, M>(input: &Input<'a, M>, traces: &'a Traces<M>) -> Rows<'a, M> {
        let trace = input
            .trace
            .and_then(|(stage, layer)| traces.get(stage, layer));
        Rows {
            own: input.own,
            trace,
            refs: input.refs,
        }
    }
    backend.resize(out, input.refs.len());
    if tables.touches(stages[0]) || tables.touches(stages[1]) {
        backend.resize(scale, input.refs.len());
        backend.layer_norm_scale(&rows(&input, traces), scale);
        settle(backend, traces, constants, tables, stages[0], scale);
        backend.resize(normalized, input.refs.len());
        backend.layer_norm_normalize(&rows(&input, traces), scale, normalized);
        settle(backend, traces, constants, tables, stages[1], normalized);
        backend.layer_norm_affine(norm, normalized, input.refs.len(), out);
    } else {
        backend.layer_norm(norm, &rows(&input, traces), out);
    }
    settle(backend, traces, constants, tables, stages[2], out);
}

/// Appends the clean rows that a patch at this stage acts on.
fn gather<B: Backend>(
    backend: &B,
    traces: &Traces<B::Matrix>,
    rows: &RowTable,
    (stage, layer): (Stage, usize),
    out: &mut B::Matrix,
) {
    if rows.gathered.is_empty() {
        return;
    }
    let refs: Vec<Ref> = rows
        .gathered
        .iter()
        .map(|r| Ref::own(*r as usize))
        .collect();
    if let Some(trace) = traces.get(stage, layer) {
        backend.gather(&own(trace, &refs), out, rows.computed);
    } else {
        debug_assert!(
            false,
            "no trace of {stage:?} {layer} is kept, but rows of it are gathered"
        );
    }
}

/// Applies a stage's overwrites and keeps its rows.
fn settle<B: Backend>(
    backend: &B,
    traces: &mut Traces<B::Matrix>,
    constants: &B::Constants,
    tables: &LayerTables,
    stage: Stage,
    buffer: &mut B::Matrix,
) {
    if let Some(writes) = tables.writes.get(&stage) {
        backend.overwrite(buffer, writes, &traces.matrices, constants);
    }
    if let Some(keep) = tables.keeps.get(&stage) {
        backend.keep(
            buffer,
            &keep.from,
            &mut traces.matrices[keep.slot],
            &keep.to,
        );
    }
}

fn add<B: Backend>(
    backend: &B,
    traces: &Traces<B::Matrix>,
    sum: &Sum,
    [residual, branch]: [(Stage, usize); 2],
    own_residual: &B::Matrix,
    own_branch: &B::Matrix,
    out: &mut B::Matrix,
) {
    let a = Rows {
        own: own_residual,
        trace: traces.get(residual.0, residual.1),
        refs: &sum.residual,
    };
    let b = Rows {
        own: own_branch,
        trace: traces.get(branch.0, branch.1),
        refs: &sum.branch,
    };
    backend.add(&a, &b, out, 0);
}
