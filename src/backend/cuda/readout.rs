//! The launches of the readout: wanted logits, a scan over the vocabulary in tiles, a merge.

use super::Cuda;
use super::device::Allocation;
use super::kernels::Kernel;
use super::linear::Tile;
use super::matrix::Matrix;
use super::queue::Launch;
use crate::backend::{DeviceError, Readout, ReadoutSpec};

/// Columns of a vocabulary tile (kernels/readout.cuh), and the most tokens that one keeps.
const TILE: usize = 192;
/// Bytes that one block of rows may take for what tiles know of them.
const PARTS: usize = 256 << 20;

/// Reads out rows `0..rows` of the input.
pub fn readout(
    cuda: &Cuda,
    input: &Matrix,
    rows: usize,
    spec: &ReadoutSpec,
) -> Result<Vec<Readout>, DeviceError> {
    if rows == 0 {
        cuda.flush()?;
        return Ok(Vec::new());
    }
    let tiles = cuda.config.vocab.div_ceil(TILE);
    let kept = spec.top.min(TILE);
    // a row's parts, and 8 bytes for each token that a tile keeps
    let step = (PARTS / (tiles * (16 + 8 * kept))).max(1);
    let mut readouts = Vec::with_capacity(rows);
    for first in (0..rows).step_by(step) {
        readouts.extend(block(cuda, input, first..rows.min(first + step), spec)?);
    }
    Ok(readouts)
}

fn block(
    cuda: &Cuda,
    input: &Matrix,
    rows: std::ops::Range<usize>,
    spec: &ReadoutSpec,
) -> Result<Vec<Readout>, DeviceError> {
    let device = &cuda.device;
    let (count, vocab) = (rows.len(), cuda.config.vocab);
    let (tiles, top) = (vocab.div_ceil(TILE), spec.top.min(vocab));
    let kept = top.min(TILE);
    let unembedding = cuda.weights.unembedding();
    let variant = cuda.variant(unembedding.inputs);
    let list: Vec<u32> = rows.clone().map(|row| row as u32).collect();
    let ids = &spec.ids[spec.first[rows.start]..spec.first[rows.end]];
    // the input row of each wanted logit
    let of: Vec<u32> = rows
        .clone()
        .flat_map(|row| vec![row as u32; spec.first[row + 1] - spec.first[row]])
        .collect();

    let wanted = device.allocate(4 * ids.len())?;
    let parts = device.allocate(16 * count * tiles)?;
    let tile_ids = device.allocate(4 * count * tiles * kept)?;
    let tile_logits = device.allocate(4 * count * tiles * kept)?;
    let sums = [(); 3].map(|()| device.allocate(8 * count));
    let [log_sum_exp, entropy, divergence] = sums;
    let (log_sum_exp, entropy, divergence) = (log_sum_exp?, entropy?, divergence?);
    let top_ids = device.allocate(4 * count * top)?;
    let top_logits = device.allocate(4 * count * top)?;

    if !ids.is_empty() {
        let grid = [ids.len().div_ceil(Tile::Small.rows()) as u32, 1, 1];
        let (kernel, shared) = (Kernel::ReadoutWanted(variant), Tile::Small.linear_shared());
        cuda.record(0, |queue| {
            let (of, ids_at) = (queue.table(&of), queue.table(ids));
            Launch::new(kernel, grid, Tile::Small.block(), shared)
                .view(input.view())
                .table(of)
                .table(ids_at)
                .integer(ids.len())
                .integer(unembedding.inputs)
                .pointer(unembedding.pointer())
                .integer(unembedding.stride)
                .pointer(wanted.pointer)
        });
    }
    let tile = cuda.tile(count, vocab);
    let grid = [count.div_ceil(tile.rows()) as u32, tiles as u32, 1];
    let flops = 2 * (count * vocab * unembedding.inputs) as u64;
    cuda.record(flops, |queue| {
        let (rows, null) = (queue.table(&list), queue.null());
        Launch::new(
            Kernel::ReadoutScan(variant, tile),
            grid,
            tile.block(),
            tile.scan_shared(),
        )
        .view(input.view())
        .table(rows)
        .integer(count)
        .integer(unembedding.inputs)
        .pointer(unembedding.pointer())
        .integer(unembedding.stride)
        .integer(vocab)
        .table(null)
        .table(null)
        .table(null)
        .table(null)
        .table(null)
        .integer(kept)
        .pointer(parts.pointer)
        .pointer(tile_ids.pointer)
        .pointer(tile_logits.pointer)
    });
    cuda.record(0, |queue| {
        let null = queue.null();
        Launch::rows(Kernel::ReadoutMerge, count)
            .pointer(parts.pointer)
            .integer(tiles)
            .integer(count)
            .table(null)
            .table(null)
            .table(null)
            .pointer(log_sum_exp.pointer)
            .pointer(entropy.pointer)
            .pointer(divergence.pointer)
            .table(null)
    });
    if top > 0 {
        let grid = [count.div_ceil(8) as u32, 1, 1];
        cuda.record(0, |_| {
            Launch::new(Kernel::ReadoutTop, grid, 256, 32 * tiles as u32)
                .pointer(tile_ids.pointer)
                .pointer(tile_logits.pointer)
                .integer(tiles)
                .integer(count)
                .integer(kept)
                .integer(top)
                .pointer(top_ids.pointer)
                .pointer(top_logits.pointer)
        });
    }
    cuda.flush()?;

    let read = |memory: &Allocation, bytes: usize| {
        let mut out = vec![0u8; bytes];
        if bytes > 0 {
            device.read(&mut out, memory.pointer)?;
        }
        Ok::<_, DeviceError>(out)
    };
    let (wanted, total) = (
        read(&wanted, 4 * ids.len())?,
        read(&log_sum_exp, 8 * count)?,
    );
    let (top_ids, top_logits) = (
        read(&top_ids, 4 * count * top)?,
        read(&top_logits, 4 * count * top)?,
    );
    device.wait()?;
    let float =
        |bytes: &[u8], i: usize| -> f64 { f32::from_ne_bytes(bytes.as_chunks().0[i]).into() };
    let start = spec.first[rows.start];
    Ok(rows
        .enumerate()
        .map(|(i, row)| Readout {
            log_sum_exp: f64::from_ne_bytes(total.as_chunks().0[i]),
            logits: (spec.first[row]..spec.first[row + 1])
                .map(|w| float(&wanted, w - start))
                .collect(),
            top: (i * top..(i + 1) * top)
                .map(|t| {
                    let id = u32::from_ne_bytes(top_ids.as_chunks().0[t]);
                    (id, float(&top_logits, t))
                })
                .collect(),
        })
        .collect())
}
