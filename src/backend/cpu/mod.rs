//! The CPU backend: the specification that kernels are verified against, and the fallback.
//!
//! Generic over f32 and f64. Each operation is a loop over rows, spread over threads by rayon, whose
//! body is compiled for AVX-512, AVX2 and the baseline and chosen at run time by `pulp`. All three
//! round alike: every sum has one order and every multiply-add is fused, so a result does not depend
//! on the machine either. (Without FMA hardware the fused operation is emulated, and slow.)

mod attention;
mod basis;
mod instructions;
pub mod limits;
mod linear;
mod overwrite;
mod readout;
mod real;
mod rows;

use std::sync::atomic::{AtomicU64, Ordering};

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

pub use self::instructions::Instructions;
use self::linear::{Factor, Matrix as Weights, Output, Product, Rounding};
pub use self::real::Real;
use super::{
    Attention, Backend, BasisOn, DeviceError, Embedding, Epilogue, KeepKeys, Linear, Norm, Place,
    Precision, Probe, Readout, ReadoutSpec, Rows, Same, Store, Weight,
};
use crate::model::Checkpoint;
use crate::model::{Activation, Config};
use crate::plan::phase::Call;
use crate::plan::tables::{Keep, Operand, Write};

/// Rows that one task of a row-wise operation takes.
const TASK_ROWS: usize = 8;

/// A row-major matrix in memory.
#[derive(Debug, Clone, Default)]
pub struct Buffer<T> {
    data: Vec<T>,
    rows: usize,
    width: usize,
}

impl<T> Buffer<T> {
    fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.width..][..self.width]
    }

    fn filled(&mut self, rows: usize) -> &mut [T] {
        &mut self.data[..rows * self.width]
    }
}

/// Vectors of one layer, widened once.
struct LayerVectors<T> {
    ln_1: [Vec<T>; 2],
    ln_2: [Vec<T>; 2],
    c_attn: Vec<T>,
    c_proj: Vec<T>,
    c_fc: Vec<T>,
    mlp_proj: Vec<T>,
}

/// The CPU as a device, holding one model's weights where they are mapped.
pub struct Cpu<'m, T> {
    model: &'m Checkpoint,
    layers: Vec<LayerVectors<T>>,
    ln_f: [Vec<T>; 2],
    arch: Arch,
    round: Rounding,
    flops: AtomicU64,
}

impl<'m, T: Real> Cpu<'m, T> {
    /// A backend over a checkpoint, with the best instructions of this machine. Only vectors
    /// (biases, layer norms) are copied.
    pub fn new(model: &'m Checkpoint) -> Self {
        Self::on(model, Arch::new())
    }

    /// The same with other instructions; `None` if this machine lacks them.
    pub fn with_instructions(model: &'m Checkpoint, instructions: Instructions) -> Option<Self> {
        Some(Self::on(model, instructions.arch()?))
    }

    /// The same on weights that are first rounded to the type in which a precision stores them: what
    /// a GPU's results in that precision are compared with.
    pub fn rounded(model: &'m Checkpoint, precision: Precision) -> Self {
        let round = match precision {
            Precision::Bf16 => Rounding::Bf16,
            Precision::F16 => Rounding::F16,
            Precision::F32 | Precision::F64 | Precision::Tf32 => Rounding::None,
        };
        Self {
            round,
            ..Self::new(model)
        }
    }

    fn on(model: &'m Checkpoint, arch: Arch) -> Self {
        let layers = (0..model.config.layers).map(|l| {
            let layer = model.layer(l);
            LayerVectors {
                ln_1: [layer.ln_1.weight.to_vec(), layer.ln_1.bias.to_vec()],
                ln_2: [layer.ln_2.weight.to_vec(), layer.ln_2.bias.to_vec()],
                c_attn: layer.c_attn.bias.to_vec(),
                c_proj: layer.c_proj.bias.to_vec(),
                c_fc: layer.c_fc.bias.to_vec(),
                mlp_proj: layer.mlp_proj.bias.to_vec(),
            }
        });
        let layers = layers.collect();
        let ln_f = [model.ln_f().weight.to_vec(), model.ln_f().bias.to_vec()];
        Self {
            model,
            layers,
            ln_f,
            arch,
            round: Rounding::None,
            flops: AtomicU64::new(0),
        }
    }

    fn norm(&self, norm: Norm) -> (&[T], &[T]) {
        let [weight, bias] = match norm {
            Norm::Ln1(layer) => &self.layers[layer].ln_1,
            Norm::Ln2(layer) => &self.layers[layer].ln_2,
            Norm::LnF => &self.ln_f,
        };
        (weight, bias)
    }

    /// A weight, the column at which it starts in the stored matrix, and its bias.
    fn weight(&self, weight: Weight) -> (Weights<'m>, usize, &[T]) {
        let d = self.model.config.width;
        let third = |layer: usize, i: usize| {
            (
                self.model.layer(layer).c_attn.weight,
                i * d,
                &self.layers[layer].c_attn[i * d..][..d],
            )
        };
        let (tensor, first, bias) = match weight {
            Weight::Query(layer) => third(layer, 0),
            Weight::Key(layer) => third(layer, 1),
            Weight::Value(layer) => third(layer, 2),
            Weight::AttentionOutput(layer) => (
                self.model.layer(layer).c_proj.weight,
                0,
                &*self.layers[layer].c_proj,
            ),
            Weight::MlpPre(layer) => (
                self.model.layer(layer).c_fc.weight,
                0,
                &*self.layers[layer].c_fc,
            ),
            Weight::MlpOutput(layer) => (
                self.model.layer(layer).mlp_proj.weight,
                0,
                &*self.layers[layer].mlp_proj,
            ),
        };
        let [inputs, stride] = tensor.shape;
        (
            Weights {
                data: tensor.data,
                stride,
                inputs,
                transposed: false,
                round: self.round,
            },
            first,
            bias,
        )
    }

    fn activation(&self) -> Activation {
        self.model.config.activation
    }

    /// Runs `body` for each of the first `count` rows of `out` with this machine's instructions.
    fn each_row(&self, count: usize, out: &mut Buffer<T>, body: impl Fn(usize, &mut [T]) + Sync) {
        struct Block<'a, T, F> {
            first: usize,
            width: usize,
            rows: &'a mut [T],
            body: &'a F,
        }
        impl<T, F: Fn(usize, &mut [T])> NullaryFnOnce for Block<'_, T, F> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                for (i, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
                    (self.body)(self.first + i, row);
                }
            }
        }
        let width = out.width;
        out.filled(count)
            .par_chunks_mut(TASK_ROWS * width)
            .enumerate()
            .for_each(|(i, rows)| {
                self.arch.dispatch(Block {
                    first: i * TASK_ROWS,
                    width,
                    rows,
                    body: &body,
                });
            });
    }
}

/// A linear layer's epilogue over a stretch of one row.
struct Finish<'a, T> {
    bias: &'a [T],
    activation: Option<Activation>,
    residual: Option<&'a [T]>,
    out: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.out
            .iter_mut()
            .zip(self.bias)
            .for_each(|(o, b)| *o += *b);
        if let Some(activation) = self.activation {
            rows::activate(activation, self.out);
        }
        if let Some(x) = self.residual {
            self.out.iter_mut().zip(x).for_each(|(o, x)| *o = *x + *o);
        }
    }
}

/// A matrix whose rows are written by different threads, each its own stretches.
struct Shared<T> {
    base: *mut T,
    length: usize,
    width: usize,
}

// SAFETY: `write` is called once for each (row, column) stretch: attention computes every (row of
// z, head) once, and a plan keeps different rows of z in different rows of the trace.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn new(matrix: &mut Buffer<T>) -> Self {
        Self {
            base: matrix.data.as_mut_ptr(),
            length: matrix.data.len(),
            width: matrix.width,
        }
    }

    fn write(&self, row: usize, column: usize, values: &[T]) {
        let start = row * self.width + column;
        assert!(
            start + values.len() <= self.length,
            "kept scores do not fit their matrix"
        );
        // SAFETY: in bounds by the line above; nobody else writes this stretch, see `Sync`.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.base.add(start), values.len())
        }
    }
}

/// The row that a table entry names. A trace row exists wherever the plan refers to one.
#[inline(always)]
fn at<'a, T>(rows: &Rows<'a, Buffer<T>>, i: usize) -> &'a [T] {
    match (rows.refs[i].row(), rows.trace) {
        (Ok(row), _) => rows.own.row(row),
        (Err(row), Some(trace)) => trace.row(row),
        (Err(row), None) => panic!("row {row} of a trace that is not kept: the plan is wrong"),
    }
}

fn operand<'a, T>(write: &Write, kept: &'a [Buffer<T>], constants: &'a [T]) -> &'a [T] {
    match write.operand {
        Operand::None => &[],
        Operand::Kept { slot, row, column } => &kept[slot].row(row)[column..][..write.length],
        Operand::Constant(offset) => &constants[offset..][..write.length],
    }
}

fn widened<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

impl<T: Real> Backend for Cpu<'_, T> {
    type Matrix = Buffer<T>;
    type Constants = Vec<T>;

    fn config(&self) -> &Config {
        &self.model.config
    }

    fn matrix(&self, rows: usize, width: usize, _: Store) -> Buffer<T> {
        Buffer {
            data: vec![T::default(); rows * width],
            rows,
            width,
        }
    }

    fn resize(&self, matrix: &mut Buffer<T>, rows: usize) {
        let length = rows * matrix.width;
        if length > matrix.data.len() {
            // exactly: doubling would break the memory budget
            matrix.data.reserve_exact(length - matrix.data.len());
            matrix.data.resize(length, T::default());
        }
        matrix.rows = rows;
    }

    fn value_bytes(&self) -> usize {
        size_of::<T>()
    }

    fn same_type(&self, _: Store, _: Store) -> bool {
        true
    }

    /// Past this, activations fall out of the last-level cache between one operation and the next,
    /// and repacking the weights for another chunk costs less (measured: `benches/RESULTS.md`).
    fn chunk_bytes(&self) -> u64 {
        128 << 20
    }

    fn upload(&self, rows: usize, width: usize, _: Store, values: &[f64]) -> Buffer<T> {
        let data: Vec<T> = values.iter().map(|x| T::from_f64(*x)).collect();
        assert_eq!(data.len(), rows * width, "as many values as the matrix has");
        Buffer { rows, width, data }
    }

    fn constants(&self, values: &[f64]) -> Vec<T> {
        values.iter().map(|x| T::from_f64(*x)).collect()
    }

    fn read(&self, matrix: &Buffer<T>) -> Result<Vec<f64>, DeviceError> {
        let values = &matrix.data[..matrix.rows * matrix.width];
        Ok(values.iter().map(|x| x.to_f64()).collect())
    }

    fn same(&self, pairs: &[Same<'_, Buffer<T>>]) -> Result<Vec<bool>, DeviceError> {
        let same = |Same { a, b, length }: &Same<'_, Buffer<T>>| {
            let [a, b] = [a, b].map(|s| &s.matrix.row(s.row)[s.column..][..*length]);
            a.iter().zip(b).all(|(a, b)| a.same_bits(*b))
        };
        Ok(pairs.par_iter().with_min_len(256).map(same).collect())
    }

    fn embed(&self, table: Embedding, index: &[u32], out: &mut Buffer<T>) {
        let tensor = match table {
            Embedding::Token => self.model.token_embedding(),
            Embedding::Position => self.model.position_embedding(),
        };
        self.each_row(index.len(), out, |i, out| {
            tensor.row(index[i] as usize).write_to(out);
        });
    }

    fn gather(&self, rows: &Rows<'_, Buffer<T>>, out: &mut Buffer<T>, first: usize) {
        for (i, out) in out.data[first * out.width..]
            .chunks_exact_mut(out.width)
            .take(rows.refs.len())
            .enumerate()
        {
            out.copy_from_slice(at(rows, i));
        }
    }

    fn keep(&self, matrix: &Buffer<T>, from: &[u32], kept: &mut Buffer<T>, to: &[u32]) {
        let width = kept.width;
        for (from, to) in from.iter().zip(to) {
            kept.data[*to as usize * width..][..width].copy_from_slice(matrix.row(*from as usize));
        }
    }

    fn add(
        &self,
        a: &Rows<'_, Buffer<T>>,
        b: &Rows<'_, Buffer<T>>,
        out: &mut Buffer<T>,
        first: usize,
    ) {
        debug_assert_eq!(first, 0);
        self.each_row(a.refs.len(), out, |i, out| {
            let (a, b) = (at(a, i), at(b, i));
            out.iter_mut()
                .zip(a.iter().zip(b))
                .for_each(|(o, (a, b))| *o = *a + *b);
        });
    }

    fn layer_norm(&self, norm: Norm, input: &Rows<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, bias) = self.norm(norm);
        let epsilon = T::from_f64(self.model.config.layer_norm_epsilon);
        self.each_row(
            input.refs.len(),
            out,
            #[inline(always)]
            |i, out| {
                let x = at(input, i);
                let (mean, scale) = rows::scale(x, epsilon);
                rows::normalize(x, mean, scale, out);
                rows::affine(weight, bias, out);
            },
        );
    }

    fn layer_norm_scale(&self, input: &Rows<'_, Buffer<T>>, scale: &mut Buffer<T>) {
        let epsilon = T::from_f64(self.model.config.layer_norm_epsilon);
        self.each_row(input.refs.len(), scale, |i, out| {
            out[0] = rows::scale(at(input, i), epsilon).1
        });
    }

    fn layer_norm_normalize(
        &self,
        input: &Rows<'_, Buffer<T>>,
        scale: &Buffer<T>,
        out: &mut Buffer<T>,
    ) {
        self.each_row(input.refs.len(), out, |i, out| {
            let x = at(input, i);
            rows::normalize(x, rows::mean(x), scale.row(i)[0], out);
        });
    }

    fn layer_norm_affine(
        &self,
        norm: Norm,
        normalized: &Buffer<T>,
        rows: usize,
        out: &mut Buffer<T>,
    ) {
        let (weight, bias) = self.norm(norm);
        self.each_row(rows, out, |i, out| {
            out.copy_from_slice(normalized.row(i));
            rows::affine(weight, bias, out);
        });
    }

    fn linear(&self, linear: &Linear<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, first, bias) = self.weight(linear.weight);
        let count = linear.rows.len();
        let columns = first + linear.columns.start..first + linear.columns.end;
        self.flops.fetch_add(
            2 * (count * weight.inputs * columns.len()) as u64,
            Ordering::Relaxed,
        );
        let last = linear.out_rows.map_or(count, |rows| {
            rows.iter().max().map_or(0, |r| *r as usize + 1)
        });
        assert!(
            last <= out.rows && linear.columns.end <= out.width,
            "the result does not fit its buffer"
        );
        let base = out.data[linear.columns.start..].as_mut_ptr();
        let activation = self.activation();
        let finish = |m: usize, column: usize, out: &mut [T]| {
            self.arch.dispatch(Finish {
                bias: &bias[column - first..],
                activation: matches!(linear.epilogue, Epilogue::Activate).then_some(activation),
                residual: match &linear.epilogue {
                    Epilogue::Residual(residual) => Some(&at(residual, m)[column - first..]),
                    _ => None,
                },
                out,
            });
        };
        let product = Product {
            weight: Factor::Stored(weight),
            columns,
            rows: count,
            row: &|m| linear.input.row(linear.rows[m] as usize),
            place: &|m| linear.out_rows.map_or(m, |rows| rows[m] as usize),
            output: Output {
                base,
                stride: out.width,
            },
            finish: &finish,
        };
        linear::product(self.arch, &product);
    }

    fn activate(&self, pre: &Buffer<T>, rows: &[u32], out: &mut Buffer<T>) {
        let activation = self.activation();
        self.each_row(rows.len(), out, |i, out| {
            out.copy_from_slice(pre.row(rows[i] as usize));
            rows::activate(activation, out);
        });
    }

    fn attention(
        &self,
        attention: &Attention<'_, Buffer<T>>,
        kept: &mut [Buffer<T>],
        constants: &Vec<T>,
        out: &mut Buffer<T>,
    ) {
        let count = attention.rows.query.len();
        let config = &self.model.config;
        let keys: u64 = attention.rows.count.iter().map(|c| u64::from(*c)).sum();
        self.flops
            .fetch_add(4 * config.width as u64 * keys, Ordering::Relaxed);
        // kept scores and pattern are written while the rest of the trace is read
        let take = |kept: &mut [Buffer<T>], keep: &Option<KeepKeys<'_>>| {
            keep.as_ref().map(|k| std::mem::take(&mut kept[k.slot]))
        };
        let mut scores = take(kept, &attention.keep_scores);
        let mut pattern = take(kept, &attention.keep_weights);
        {
            let kept = &*kept;
            let empty: &[T] = &[];
            let trace = |slot: Option<usize>| slot.map_or(empty, |s| &kept[s].data);
            let query = attention::Pair {
                own: &attention.query.0.data,
                trace: trace(attention.query.1),
                width: config.width,
            };
            let key = attention::Pair {
                own: &attention.key.0.data,
                trace: trace(attention.key.1),
                width: config.width,
            };
            let value = attention::Pair {
                own: &attention.value.0.data,
                trace: trace(attention.value.1),
                width: config.width,
            };
            let scale = T::from_f64(config.score_scale(attention.layer));
            let keep_scores = attention.keep_scores.zip(scores.as_mut().map(Shared::new));
            let keep_pattern = attention
                .keep_weights
                .zip(pattern.as_mut().map(Shared::new));
            let settle = |writes: &[Write],
                          keep: &Option<(KeepKeys<'_>, Shared<T>)>,
                          row: usize,
                          head: usize,
                          cells: &mut [T]| {
                let from = writes.partition_point(|w| w.row < row);
                for write in writes[from..]
                    .iter()
                    .take_while(|w| w.row == row)
                    .filter(|w| w.head == head)
                {
                    let stretch = &mut cells[write.column..][..write.length];
                    overwrite::apply(write.op, stretch, operand(write, kept, constants));
                }
                if let Some((keep, matrix)) = keep
                    && keep.to[row] != Keep::NOWHERE
                {
                    matrix.write(keep.to[row] as usize, head * attention.stride, cells);
                }
            };
            let width = out.width;
            out.filled(count)
                .par_chunks_mut(TASK_ROWS * width)
                .enumerate()
                .for_each_init(Vec::new, |weights, (block, rows)| {
                    for (i, out) in rows.chunks_exact_mut(width).enumerate() {
                        let row = block * TASK_ROWS + i;
                        self.arch.dispatch(attention::Row {
                            query,
                            key,
                            value,
                            rows: attention.rows,
                            row,
                            heads: config.heads,
                            scale,
                            scores: &|head, cells| {
                                settle(attention.scores, &keep_scores, row, head, cells);
                            },
                            pattern: &|head, cells| {
                                settle(attention.weights, &keep_pattern, row, head, cells);
                            },
                            weights,
                            out,
                        });
                    }
                });
        }
        for (keep, matrix) in [
            (attention.keep_scores, scores),
            (attention.keep_weights, pattern),
        ] {
            if let (Some(keep), Some(matrix)) = (keep, matrix) {
                kept[keep.slot] = matrix;
            }
        }
    }

    fn overwrite(
        &self,
        matrix: &mut Buffer<T>,
        writes: &[Write],
        kept: &[Buffer<T>],
        constants: &Vec<T>,
    ) {
        let width = matrix.width;
        for write in writes {
            let stretch = &mut matrix.data[write.row * width + write.column..][..write.length];
            overwrite::apply(write.op, stretch, operand(write, kept, constants));
        }
    }

    fn encode(
        &self,
        basis: &BasisOn<Buffer<T>>,
        probes: &[Probe],
        matrix: &Buffer<T>,
        kept: &[Buffer<T>],
        constants: &Vec<T>,
        out: &mut Buffer<T>,
    ) {
        self.flops
            .fetch_add(basis.flops(probes.len()), Ordering::Relaxed);
        let read = |probe: &Probe| basis::read(probe.read, basis.width, kept, constants);
        basis::encode(self.arch, basis, probes, matrix, &read, out);
    }

    fn decode(
        &self,
        basis: &BasisOn<Buffer<T>>,
        coordinates: &Buffer<T>,
        places: &[Place],
        matrix: &mut Buffer<T>,
    ) {
        self.flops
            .fetch_add(basis.flops(places.len()), Ordering::Relaxed);
        basis::decode(self.arch, basis, coordinates, places, matrix);
    }

    fn call(&self, matrix: &mut Buffer<T>, calls: &[Call], kept: &[Buffer<T>]) {
        for call in calls {
            let place = call.row * matrix.width + call.column;
            let stretch = &mut matrix.data[place..][..call.length];
            let read = basis::read(call.operand, call.length, kept, &[]);
            let (b, s) = (&mut widened(stretch), widened(read));
            call.apply(b, &s);
            stretch
                .iter_mut()
                .zip(b)
                .for_each(|(x, y)| *x = T::from_f64(*y));
        }
    }

    fn readout(
        &self,
        input: &Buffer<T>,
        rows: usize,
        spec: &ReadoutSpec,
    ) -> Result<Vec<Readout>, DeviceError> {
        let tensor = self.model.unembedding();
        let [vocab, width] = tensor.shape;
        self.flops.fetch_add(
            2 * ((rows + spec.compared(rows)) * vocab * width) as u64,
            Ordering::Relaxed,
        );
        let weight = Weights {
            data: tensor.data,
            stride: width,
            inputs: width,
            transposed: true,
            round: self.round,
        };
        let read = readout::readout(self.arch, weight, vocab, &input.data, rows, spec);
        Ok(read)
    }

    fn executed_flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }
}
