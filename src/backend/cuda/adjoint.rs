//! The [`Adjoints`] contract as launches.
//!
//! Gradients are f32 and row-major in every precision; what the tape holds is read in the types that the forward
//! pass stored it in, and products are plain multiply-adds in f32 (kernels/plain.cuh).

use super::Cuda;
use super::arguments::{
    AccumulateArgs, ActivateAdjointArgs, AttendedKey, AttendedQuery, AttentionAdjointArgs,
    ClearArgs, LinearAdjointArgs, LogitGradientArgs, LogitTerms, NONE, NormAdjointArgs, Operands,
    PLAIN_THREADS, PLAIN_TILE, Pointer, ROW_THREADS, TokenGradientArgs, TokenWeight,
    VOCABULARY_PART, VOCABULARY_TILE, View, WARP, number,
};
use super::kernels::Kernel;
use super::linear::{Tile, activation};
use super::matrix::Matrix;
use super::queue::Launch;
use super::readout::Listing;
use super::rows::{self, Constants};
use crate::backend::adjoint::{
    Adjoints, AttentionAdjoint, AttentionGradients, Frozen, LinearAdjoint, LogitGradient,
    NormAdjoint,
};
use crate::backend::{Backend, DeviceError, Store};
use crate::plan::edit::EditOp;
use crate::plan::tape::{ATTENTION_ADJOINT, AttendedRun, Passed};
use crate::plan::writes::{Operand, Write};
use crate::site::Stage;

/// Tokens of the vocabulary whose gradients stand in memory at a time: whole tiles, whole parts.
const GROUP: usize = 24 * VOCABULARY_PART as usize;
const PART: usize = VOCABULARY_PART as usize;
const TILE: usize = VOCABULARY_TILE as usize;
/// Bytes that these and their products may take, of the rows that are gone through together.
const GROUP_BYTES: usize = 64 << 20;

const _: () = assert!(PART.is_multiple_of(TILE) && GROUP.is_multiple_of(PART));

impl Adjoints for Cuda {
    fn zeros(&self, rows: usize, width: usize, _: Stage) -> Matrix {
        let mut matrix = self.matrix(rows, width, Store::Residual);
        self.clear(&mut matrix, rows);
        matrix
    }

    fn clear(&self, matrix: &mut Matrix, rows: usize) {
        self.resize(matrix, rows);
        self.record_rows(Kernel::Clear, matrix.rows, |_| ClearArgs {
            matrix: matrix.view(),
            count: number(matrix.rows),
            width: number(matrix.width),
        });
    }

    fn accumulate(&self, from: &Matrix, rows: &[u32], into: &mut Matrix) {
        self.record_rows(Kernel::Accumulate, rows.len(), |queue| {
            let rows_table = queue.table(rows);
            AccumulateArgs {
                from: from.view(),
                from_rows: rows_table,
                rows: rows_table,
                into: into.view(),
                part_stride: 0,
                parts: 1,
                count: number(rows.len()),
                width: number(into.width),
            }
        });
    }

    fn pass(&self, matrix: &mut Matrix, passed: &[Passed]) {
        let write = |passed: &Passed| Write {
            row: passed.row as usize,
            head: 0,
            column: passed.column,
            length: passed.length,
            op: match passed.factor {
                // a product with an infinity would not be zero
                0.0 => EditOp::Fill(0.0),
                factor => EditOp::Scale(factor),
            },
            operand: Operand::None,
        };
        let writes: Vec<Write> = passed.iter().map(write).collect();
        rows::overwrite(self, matrix, &writes, &[], &Constants::NONE);
    }

    fn linear_adjoint(&self, linear: &LinearAdjoint<'_, Matrix>, into: &mut Matrix) {
        let (weight, first, _) = self.weights.linear(linear.weight);
        let (count, outputs) = (linear.rows.len(), linear.columns.len());
        if count == 0 || outputs == 0 {
            return;
        }
        self.record(2 * (count * weight.inputs * outputs) as u64, |queue| {
            let arguments = LinearAdjointArgs {
                gradient: linear.gradient.view(),
                rows: queue.table(linear.rows),
                weight: weight.row(first + linear.columns.start),
                into: into.view(),
                part_stride: 0,
                part: number(outputs),
                count: number(count),
                outputs: number(outputs),
                inputs: number(weight.inputs),
                weight_stride: number(weight.stride),
                first: number(linear.columns.start),
            };
            product(Kernel::LinearAdjoint(self.branch), 1, arguments)
        });
    }

    fn norm_adjoint(&self, norm: &NormAdjoint<'_, Matrix>, into: &mut Matrix) {
        norm_adjoint(self, Kernel::LayerNormAdjoint, norm, into);
    }

    fn normalized_adjoint(&self, norm: &NormAdjoint<'_, Matrix>, out: &mut Matrix) {
        norm_adjoint(self, Kernel::LayerNormNormalizedAdjoint, norm, out);
    }

    fn scale_adjoint(&self, norm: &NormAdjoint<'_, Matrix>, out: &mut Matrix) {
        norm_adjoint(self, Kernel::LayerNormScaleAdjoint, norm, out);
    }

    fn activate_adjoint(
        &self,
        pre: &Matrix,
        gradient: &Matrix,
        rows: &[u32],
        frozen: Frozen,
        into: &mut Matrix,
    ) {
        let kernel = Kernel::ActivateAdjoint(pre.element);
        self.record_rows(kernel, rows.len(), |queue| ActivateAdjointArgs {
            pre: pre.view(),
            gradient: gradient.view(),
            rows: queue.table(rows),
            into: into.view(),
            count: number(rows.len()),
            width: number(into.width),
            activation: activation(self.config.activation),
            held: u32::from(frozen.slopes),
        });
    }

    fn attention_adjoint(
        &self,
        attention: &AttentionAdjoint<'_, Matrix>,
        into: AttentionGradients<'_, Matrix>,
    ) {
        if let Err(error) = attention_adjoint(self, attention, into) {
            self.fail(error);
        }
    }

    fn readout_adjoint(&self, input: &Matrix, gradients: &[LogitGradient], into: &mut Matrix) {
        let whole: Vec<&LogitGradient> = gradients
            .iter()
            .filter(|gradient| !gradient.is_of_single_logits())
            .collect();
        // each row's gradients of a group, and the products of its parts
        let row = 4 * (GROUP + GROUP / PART * self.config.width);
        for some in whole.chunks((GROUP_BYTES / row).max(1)) {
            if let Err(error) = vocabulary(self, input, some, into) {
                return self.fail(error);
            }
        }
        single_logits(self, gradients, into);
    }
}

/// A product of kernels/plain.cuh in so many parts.
fn product(kernel: Kernel, parts: usize, arguments: LinearAdjointArgs) -> Launch {
    let tiles = |count: u32| count.div_ceil(PLAIN_TILE);
    let grid = [
        tiles(arguments.count),
        tiles(arguments.inputs),
        number(parts),
    ];
    Launch::new(kernel, grid, PLAIN_THREADS, 0, arguments)
}

fn norm_adjoint(cuda: &Cuda, kernel: Kernel, norm: &NormAdjoint<'_, Matrix>, out: &Matrix) {
    let [weight, _] = cuda.weights.norm(norm.norm);
    cuda.record_rows(kernel, norm.rows.len(), |queue| NormAdjointArgs {
        input: norm.input.view(),
        gradient: norm.gradient.view(),
        weight,
        rows: queue.table(norm.rows),
        out: out.view(),
        count: number(norm.rows.len()),
        width: number(cuda.config.width),
        epsilon: cuda.config.layer_norm_epsilon as f32,
        held: u32::from(norm.frozen.scales),
    });
}

/// The queries of some runs, and the keys that they see.
fn attended(runs: &[AttendedRun]) -> (Vec<AttendedQuery>, Vec<AttendedKey>) {
    let (mut queries, mut keys) = (Vec::new(), Vec::new());
    for run in runs {
        let (first, begin) = (run.first, queries.len());
        queries.extend(run.positions.iter().map(|position| AttendedQuery {
            row: first + position,
            first,
            keys: position + 1,
        }));
        let last = run.positions.last();
        keys.extend((0..last.map_or(0, |last| last + 1)).map(|key| {
            let before = run.positions.partition_point(|position| *position < key);
            AttendedKey {
                row: first + key,
                key,
                begin: number(begin + before),
                end: number(queries.len()),
            }
        }));
    }
    (queries, keys)
}

fn attention_adjoint(
    cuda: &Cuda,
    attention: &AttentionAdjoint<'_, Matrix>,
    into: AttentionGradients<'_, Matrix>,
) -> Result<(), DeviceError> {
    let config = &cuda.config;
    let (queries, keys) = attended(attention.runs);
    if queries.is_empty() {
        return Ok(());
    }
    let width = config.heads * attention.stride;
    let bytes = attention.gradient.rows * width * size_of::<f32>();
    // gradients of scores stand where they are wanted
    let of_scores = into.scores.as_ref().map_or(bytes, |_| 0);
    let scratch = || {
        cuda.scratch()
            .adjoints
            .grow(&cuda.device, [bytes, of_scores])
    };
    let [weights, scores] = cuda.with_room(scratch)?;
    let cells = |data| View {
        data,
        segment_stride: 0,
        row_stride: number(width),
        segment: number(width),
    };
    let flops = queries.iter().map(|query| u64::from(query.keys));
    let flops = ATTENTION_ADJOINT * config.width as u64 * flops.sum::<u64>();
    let arguments = |queue: &mut super::queue::Queue| AttentionAdjointArgs {
        query: attention.query.view(),
        key: attention.key.view(),
        value: attention.value.view(),
        gradient: attention.gradient.view(),
        queries: queue.table(&queries),
        keys: queue.table(&keys),
        weights: cells(weights),
        scores: into.scores.as_ref().map_or(cells(scores), |m| m.view()),
        pattern: into.pattern.as_ref().map_or(View::NONE, |m| m.view()),
        to_query: into.query.view(),
        to_key: into.key.view(),
        to_value: into.value.view(),
        query_count: number(queries.len()),
        key_count: number(keys.len()),
        scale: config.score_scale(attention.layer) as f32,
        d: number(config.head_width()),
        stride: number(attention.stride),
        held: u32::from(attention.frozen.patterns),
    };
    let element = attention.query.element;
    for (kernel, count, flops) in [
        (
            Kernel::AttentionAdjointQueries(element),
            queries.len(),
            flops,
        ),
        (Kernel::AttentionAdjointKeys(element), keys.len(), 0),
    ] {
        cuda.record(flops, |queue| {
            let blocks = number(count).div_ceil(ROW_THREADS / WARP);
            let grid = [blocks, number(config.heads), 1];
            Launch::new(kernel, grid, ROW_THREADS, 0, arguments(queue))
        });
    }
    Ok(())
}

/// Adds what logits of the whole vocabulary give to some rows, no row twice: a group of tokens at a time, their
/// gradients, the products of its parts with the unembedding, and these in order.
fn vocabulary(
    cuda: &Cuda,
    input: &Matrix,
    gradients: &[&LogitGradient],
    into: &Matrix,
) -> Result<(), DeviceError> {
    let (vocab, width) = (cuda.config.vocab, cuda.config.width);
    let tile = Tile::Small;
    let other = |gradient: &LogitGradient| gradient.other.map(|(_, row, _)| row);
    let compared = gradients.iter().map(|g| (g.row, other(g)));
    let listing = Listing::of(compared, tile.rows());
    let nobodys = LogitTerms {
        log_sum_exp: 0.0,
        entropy: 0.0,
        spread: 0.0,
        surprise: 0.0,
        other_count: 0.0,
        other_log_sum_exp: 0.0,
        other: NONE,
        to: NONE,
    };
    let mut terms = vec![nobodys; listing.rows.len()];
    for (i, (gradient, at)) in gradients.iter().zip(&listing.at).enumerate() {
        let (other_count, _, other_log_sum_exp) = gradient.other.unwrap_or_default();
        terms[*at] = LogitTerms {
            log_sum_exp: gradient.log_sum_exp as f32,
            entropy: gradient.entropy as f32,
            spread: gradient.spread as f32,
            surprise: gradient.surprise as f32,
            other_count: other_count as f32,
            other_log_sum_exp: other_log_sum_exp as f32,
            other: listing.base[*at],
            to: number(i),
        };
    }
    let rows: Vec<u32> = gradients.iter().map(|gradient| gradient.row).collect();
    let count = gradients.len();
    let stride = GROUP.min(vocab);
    let sizes = [
        count * stride * size_of::<f32>(),
        stride.div_ceil(PART) * count * width * size_of::<f32>(),
    ];
    let scratch = || cuda.scratch().adjoints.grow(&cuda.device, sizes);
    let [logits, products] = cuda.with_room(scratch)?;
    let row_major = |data, width: usize| View {
        data,
        segment_stride: 0,
        row_stride: number(width),
        segment: number(width),
    };
    let unembedding = cuda.weights.unembedding();
    let kernel = Kernel::LogitGradients(cuda.variant(unembedding.inputs));
    let each = gradients.iter().map(|g| 2 + u64::from(g.other.is_some()));
    let mut flops = 2 * (vocab * width) as u64 * each.sum::<u64>();
    for first in (0..vocab).step_by(GROUP) {
        let tokens = GROUP.min(vocab - first);
        let parts = tokens.div_ceil(PART);
        cuda.record(std::mem::take(&mut flops), |queue| {
            let arguments = LogitGradientArgs {
                operands: Operands {
                    input: input.view(),
                    rows: queue.table(&listing.rows),
                    weight: unembedding.row(0),
                    ids: Pointer::NULL,
                    count: number(listing.rows.len()),
                    inputs: number(unembedding.inputs),
                    columns: number(vocab),
                    weight_stride: number(unembedding.stride),
                },
                terms: queue.table(&terms),
                gradients: logits,
                first_tile: number(first / TILE),
                stride: number(stride),
            };
            let tiles = [
                listing.rows.len().div_ceil(tile.rows()),
                tokens.div_ceil(TILE),
            ];
            let grid = [number(tiles[0]), number(tiles[1]), 1];
            Launch::new(kernel, grid, tile.block(), tile.scan_shared(), arguments)
        });
        cuda.record(0, |_| {
            let arguments = LinearAdjointArgs {
                gradient: row_major(logits, stride),
                rows: Pointer::NULL,
                weight: unembedding.row(first),
                into: row_major(products, width),
                part_stride: (count * width) as u64,
                part: VOCABULARY_PART,
                count: number(count),
                outputs: number(tokens),
                inputs: number(width),
                weight_stride: number(unembedding.stride),
                first: 0,
            };
            product(Kernel::LinearAdjoint(cuda.branch), parts, arguments)
        });
        cuda.record_rows(Kernel::Accumulate, count, |queue| AccumulateArgs {
            from: row_major(products, width),
            from_rows: Pointer::NULL,
            rows: queue.table(&rows),
            into: into.view(),
            part_stride: (count * width) as u64,
            parts: number(parts),
            count: number(count),
            width: number(width),
        });
    }
    Ok(())
}

/// Adds what single logits give.
fn single_logits(cuda: &Cuda, gradients: &[LogitGradient], into: &Matrix) {
    let (mut rows, mut first, mut weights) = (Vec::new(), vec![0], Vec::new());
    for gradient in gradients.iter().filter(|g| !g.weights.is_empty()) {
        rows.push(gradient.row);
        weights.extend(gradient.weights.iter().map(|(id, count)| TokenWeight {
            id: *id,
            count: *count as f32,
        }));
        first.push(number(weights.len()));
    }
    let unembedding = cuda.weights.unembedding();
    let kernel = Kernel::TokenGradients(cuda.branch);
    cuda.record_rows(kernel, rows.len(), |queue| TokenGradientArgs {
        rows: queue.table(&rows),
        first: queue.table(&first),
        weights: queue.table(&weights),
        unembedding: unembedding.row(0),
        into: into.view(),
        count: number(rows.len()),
        width: number(cuda.config.width),
        weight_stride: number(unembedding.stride),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_seen_by_the_queries_from_its_own_on() {
        let runs = [
            AttendedRun {
                first: 0,
                positions: vec![0, 1],
            },
            AttendedRun {
                first: 7,
                positions: vec![1, 3],
            },
            AttendedRun {
                first: 20,
                positions: vec![],
            },
        ];
        let (queries, keys) = attended(&runs);
        let queries: Vec<_> = queries.iter().map(|q| (q.row, q.first, q.keys)).collect();
        assert_eq!(queries, [(0, 0, 1), (1, 0, 2), (8, 7, 2), (10, 7, 4)]);
        let keys: Vec<_> = keys
            .iter()
            .map(|k| (k.row, k.key, k.begin..k.end))
            .collect();
        let want = [
            (0, 0, 0..2),
            (1, 1, 1..2),
            (7, 0, 2..4),
            (8, 1, 2..4),
            (9, 2, 3..4),
            (10, 3, 3..4),
        ];
        assert_eq!(keys, want);
    }
}
