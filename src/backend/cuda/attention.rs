//! The launch of attention: rows cut into query tiles, and shared memory for their scores.

use super::Cuda;
use super::kernels::{Kernel, shared_per_block};
use super::matrix::{Element, Matrix, View};
use super::queue::{Launch, Queue, Table};
use super::rows::{Constants, DeviceWrite, views};
use crate::backend::{Attention, DeviceError, KeepKeys};
use crate::plan::tables::{AttentionRows, Write};

/// Rows that see the same keys, each as far as its own count. Mirrors `Tile` in kernels/attention.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
struct QueryTile {
    row: u32,
    rows: u32,
    first: u32,
    keys: u32,
}

/// Most rows of a query tile.
const MOST_ROWS: usize = 16;

/// Cuts rows into tiles of at most `most`, of even size within a stretch of rows with the same keys.
fn tiles(rows: &AttentionRows, most: usize) -> Vec<QueryTile> {
    let mut tiles = Vec::new();
    let mut start = 0;
    for stretch in rows.first.chunk_by(|a, b| a == b) {
        let parts = stretch.len().div_ceil(most);
        for part in 0..parts {
            let (from, to) = (
                start + stretch.len() * part / parts,
                start + stretch.len() * (part + 1) / parts,
            );
            tiles.push(QueryTile {
                row: from as u32,
                rows: (to - from) as u32,
                first: stretch[0],
                keys: rows.count[from..to].iter().copied().max().unwrap_or(0),
            });
        }
        start += stretch.len();
    }
    tiles
}

/// How a launch lies in shared memory (kernels/attention.cu).
struct Shape {
    tiles: Vec<QueryTile>,
    tile_rows: usize,
    largest: usize,
    stage_keys: usize,
    shared: usize,
}

impl Shape {
    /// The largest tiles that fit; `None` if not even one row's scores do.
    fn of(rows: &AttentionRows, d: usize, element: Element, room: usize) -> Option<Self> {
        let largest = rows.count.iter().copied().max().unwrap_or(0) as usize;
        let vectors = d.div_ceil(16 / element.bytes());
        let (padded, pitch) = (vectors * (16 / element.bytes()), (vectors | 1) * 16);
        let score_pitch = (largest.div_ceil(4) | 1) * 4;
        let stage_keys = largest
            .next_multiple_of(4)
            .min((18_432 / pitch / 32 * 32).max(32));
        let mut most = if largest > 512 {
            MOST_ROWS / 2
        } else {
            MOST_ROWS
        };
        loop {
            let tiles = tiles(rows, most);
            let tile_rows = tiles.iter().map(|t| t.rows as usize).max().unwrap_or(0);
            let shared = 160 + 2 * stage_keys * pitch + 4 * tile_rows * (padded + score_pitch);
            if shared <= room {
                return Some(Self {
                    tiles,
                    tile_rows,
                    largest,
                    stage_keys,
                    shared,
                });
            }
            if most == 1 {
                return None;
            }
            most /= 2;
        }
    }
}

/// Overwrites of scores or pattern with the first of each row, both missing where there are none.
fn cells(queue: &mut Queue, writes: &[Write], rows: usize) -> [Table; 2] {
    if writes.is_empty() {
        return [queue.null(); 2];
    }
    debug_assert!(writes.is_sorted_by_key(|w| w.row));
    let first: Vec<u32> = (0..=rows)
        .map(|row| writes.partition_point(|w| w.row < row) as u32)
        .collect();
    let list: Vec<DeviceWrite> = writes.iter().map(DeviceWrite::from).collect();
    [queue.table(&list), queue.table(&first)]
}

/// Queues attention over every head.
pub fn attention(
    cuda: &Cuda,
    attention: &Attention<'_, Matrix>,
    kept: &[Matrix],
    constants: &Constants,
    out: &Matrix,
) {
    let config = &cuda.config;
    let (rows, d) = (attention.rows, config.head_width());
    if rows.query.is_empty() {
        return;
    }
    let room = shared_per_block(cuda.device.capability) as usize;
    let Some(shape) = Shape::of(rows, d, out.element, room) else {
        let keys = rows.count.iter().max().copied().unwrap_or(0);
        return cuda.fail(DeviceError::Failed {
            doing: "planning attention",
            why: format!("{keys} scores of one row do not fit a block's shared memory"),
        });
    };
    let keys: u64 = rows.count.iter().map(|c| u64::from(*c)).sum();
    let block = (d.div_ceil(4) * 8).next_multiple_of(32).clamp(64, 256) as u32;
    let grid = [shape.tiles.len() as u32, config.heads as u32, 1];
    cuda.record(4 * config.width as u64 * keys, |queue| {
        let trace = |slot: Option<usize>| slot.map_or(View::NONE, |slot| kept[slot].view());
        let mut launch = Launch::new(
            Kernel::Attention(out.element),
            grid,
            block,
            shape.shared as u32,
        );
        for ((own, slot), refs) in [
            (attention.query, &rows.query),
            (attention.key, &rows.key),
            (attention.value, &rows.value),
        ] {
            let refs = queue.refs(refs);
            launch = launch.view(own.view()).view(trace(slot)).table(refs);
        }
        let (count, tiles) = (queue.table(&rows.count), queue.table(&shape.tiles));
        launch = launch
            .table(count)
            .integer(d)
            .float(config.score_scale(attention.layer))
            .table(tiles)
            .integer(shape.tile_rows)
            .integer(shape.largest)
            .integer(shape.stage_keys);
        for writes in [attention.scores, attention.weights] {
            let [list, first] = cells(queue, writes, rows.query.len());
            launch = launch.table(list).table(first);
        }
        launch = launch
            .table(views(queue, kept, Element::F32))
            .pointer(constants.pointer(Element::F32));
        for keep in [attention.keep_scores, attention.keep_pattern] {
            let to = keep.map_or(queue.null(), |keep| queue.table(keep.to));
            let matrix = keep.map_or(View::NONE, |KeepKeys { slot, .. }| kept[slot].view());
            launch = launch.view(matrix).table(to);
        }
        launch.integer(attention.stride).view(out.view())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_prompt_are_cut_evenly() {
        let rows = AttentionRows {
            first: [vec![0; 20], vec![20; 3]].concat(),
            count: (1..=20).chain(1..=3).collect(),
            ..AttentionRows::default()
        };
        let tile = |row, rows, first, keys| QueryTile {
            row,
            rows,
            first,
            keys,
        };
        let want = [tile(0, 10, 0, 10), tile(10, 10, 0, 20), tile(20, 3, 20, 3)];
        assert_eq!(tiles(&rows, 16), want);
    }

    #[test]
    fn long_prompts_take_smaller_tiles_and_then_none() {
        let rows = |keys: u32| AttentionRows {
            first: vec![0; 16],
            count: vec![keys; 16],
            ..AttentionRows::default()
        };
        let shape = |keys| Shape::of(&rows(keys), 64, Element::F32, 99 << 10).map(|s| s.tile_rows);
        assert_eq!(shape(100), Some(16));
        assert_eq!(shape(1024), Some(8));
        assert_eq!(shape(8000), Some(2));
        assert_eq!(shape(16_000), Some(1));
        assert_eq!(shape(40_000), None);
    }
}
