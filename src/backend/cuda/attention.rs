//! The launch of attention: rows cut into query tiles, and shared memory for their scores.

use super::Cuda;
use super::arguments::{
    self, ATTENTION_PART, ATTENTION_PLAN, ATTENTION_THREADS, AttentionArgs, AttentionShape, Cells,
    NONE, QUERY_ROWS, QueryTile, View, number,
};
use super::kernels::{Kernel, shared_per_block};
use super::matrix::{Element, Matrix};
use super::queue::{Launch, Queue};
use super::rows::{Constants, views};
use crate::backend::{Attention, DeviceError, KeepKeys};
use crate::plan::tables::{AttentionRows, Keep, Ref};
use crate::plan::writes::Write;

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

/// A launch's tiles, and how a block of it lies in shared memory.
struct Plan {
    tiles: Vec<QueryTile>,
    shape: AttentionShape,
    /// Bytes of shared memory.
    shared: usize,
}

impl Plan {
    /// The largest tiles that fit; `None` if not even one row's scores do.
    fn of(rows: &AttentionRows, d: usize, element: Element, room: usize) -> Option<Self> {
        let largest = rows.count.iter().copied().max().unwrap_or(0) as usize;
        let vector = 16 / element.bytes();
        // rows a pitch apart, an odd number of vectors, start in different banks
        let (vectors, part) = (d.div_ceil(vector), ATTENTION_PART as usize);
        let (pitch, query_pitch) = ((vectors | 1) * vector, vectors * vector);
        let score_pitch = (largest.div_ceil(part) | 1) * part;
        let stage_keys = largest
            .next_multiple_of(part)
            .min((STAGE_BYTES / (pitch * element.bytes()) / 32 * 32).max(32));
        let queries = ATTENTION_PLAN as usize + 2 * stage_keys * pitch * element.bytes();
        // where keys are many, two blocks are to fit a multiprocessor
        let mut most = QUERY_ROWS as usize;
        if largest > 512 {
            most /= 2;
        }
        loop {
            let tiles = tiles(rows, most);
            let tile_rows = tiles.iter().map(|t| t.rows as usize).max().unwrap_or(0);
            let scores = queries + 4 * tile_rows * query_pitch;
            let shared = scores + 4 * tile_rows * score_pitch;
            if shared <= room {
                let shape = AttentionShape {
                    stage_keys: number(stage_keys),
                    pitch: number(pitch),
                    queries: number(queries),
                    query_pitch: number(query_pitch),
                    scores: number(scores),
                    score_pitch: number(score_pitch),
                };
                return Some(Self {
                    tiles,
                    shape,
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

/// Bytes of a slot, about.
const STAGE_BYTES: usize = 18_432;

/// Scores' or the pattern's overwrites, and where it is kept.
fn cells(
    queue: &mut Queue,
    attention: &Attention<'_, Matrix>,
    (writes, keep): (&[Write], Option<KeepKeys<'_>>),
    (kept, constants): (&[Matrix], &Constants),
) -> Cells {
    debug_assert!(writes.is_sorted_by_key(|w| w.row));
    let list: Vec<arguments::Write> = writes.iter().map(arguments::Write::from).collect();
    // the first of each row
    let first = |row| writes.partition_point(|w| w.row < row) as u32;
    let first: Vec<u32> = (0..=attention.rows.query.len()).map(first).collect();
    Cells {
        writes: queue.table(&list),
        first: queue.optional((!writes.is_empty()).then_some(&first)),
        kept: views(queue, kept, Element::F32),
        constants: constants.pointer(Element::F32),
        keep: keep.map_or(View::NONE, |keep| kept[keep.slot].view()),
        keep_rows: queue.optional(keep.map(|keep| keep.to)),
        keep_stride: number(attention.stride),
    }
}

/// Queues attention over every head.
pub fn attention(
    cuda: &Cuda,
    attention: &Attention<'_, Matrix>,
    kept: &[Matrix],
    constants: &Constants,
    out: &Matrix,
) {
    const { assert!(Keep::NOWHERE == NONE) };
    let config = &cuda.config;
    let (rows, d) = (attention.rows, config.head_width());
    if rows.query.is_empty() {
        return;
    }
    let room = shared_per_block(cuda.device.capability) as usize;
    let Some(plan) = Plan::of(rows, d, out.element, room) else {
        let keys = rows.count.iter().max().copied().unwrap_or(0);
        return cuda.fail(DeviceError::Failed {
            doing: "planning attention",
            why: format!("{keys} scores of one row do not fit a block's shared memory"),
        });
    };
    let keys: u64 = rows.count.iter().map(|c| u64::from(*c)).sum();
    cuda.record(4 * config.width as u64 * keys, |queue| {
        let mut of = |(own, slot): (&Matrix, Option<usize>), refs: &[Ref]| arguments::Rows {
            own: own.view(),
            cache: slot.map_or(View::NONE, |slot| kept[slot].view()),
            refs: queue.table(refs),
        };
        let scores = (attention.scores, attention.keep_scores);
        let pattern = (attention.weights, attention.keep_pattern);
        let operands = (kept, constants);
        let arguments = AttentionArgs {
            query: of(attention.query, &rows.query),
            key: of(attention.key, &rows.key),
            value: of(attention.value, &rows.value),
            count: queue.table(&rows.count),
            tiles: queue.table(&plan.tiles),
            scores: cells(queue, attention, scores, operands),
            pattern: cells(queue, attention, pattern, operands),
            out: out.view(),
            scale: config.score_scale(attention.layer) as f32,
            d: number(d),
            shape: plan.shape,
        };
        // a thread for four columns of each of two rows
        let threads = (d.div_ceil(4) * 8).next_multiple_of(32) as u32;
        let block = threads.clamp(64, ATTENTION_THREADS);
        let grid = [number(plan.tiles.len()), number(config.heads), 1];
        let kernel = Kernel::Attention(out.element);
        Launch::new(kernel, grid, block, number(plan.shared), arguments)
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
        let most_rows = |keys| {
            let plan = Plan::of(&rows(keys), 64, Element::F32, 99 << 10)?;
            plan.tiles.iter().map(|tile| tile.rows).max()
        };
        assert_eq!(most_rows(100), Some(16));
        assert_eq!(most_rows(1024), Some(8));
        assert_eq!(most_rows(8000), Some(2));
        assert_eq!(most_rows(16_000), Some(1));
        assert_eq!(most_rows(40_000), None);
    }
}
