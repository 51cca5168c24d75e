//! The launches of the readout: wanted logits, a scan over the vocabulary in tiles, a merge. What they give is
//! copied to the host behind them; nobody waits before it is asked for.

use std::collections::HashMap;
use std::ops::Range;

use super::Cuda;
use super::arguments::{
    MergeArgs, NONE, Operands, Pointer, ROW_THREADS, ScanArgs, TopArgs, VOCABULARY_TILE, WARP,
    WantedArgs, number,
};
use super::kernels::Kernel;
use super::linear::Tile;
use super::matrix::Matrix;
use super::memory::{Pinned, Transfers};
use super::queue::Launch;
use crate::backend::{DeviceError, Readout, ReadoutSpec};

/// Columns of a vocabulary tile, and the most tokens that one keeps.
const TILE: usize = VOCABULARY_TILE as usize;
/// Bytes that one block of rows may take for what tiles know of them.
const PARTS: usize = 256 << 20;

/// Readouts that are on their way: blocks of rows, in order.
pub struct Readouts(Vec<Landing>);

impl Readouts {
    /// Waits for them, and for nothing behind them.
    pub(super) fn finish(self, transfers: &Transfers) -> Result<Vec<Readout>, DeviceError> {
        let mut readouts = Vec::new();
        for mut landing in self.0 {
            landing.host.settle()?;
            landing.read(&mut readouts);
            transfers.keep(landing.host);
        }
        Ok(readouts)
    }
}

/// Queues the readout of rows `0..rows` of the input, and all that waits with it.
pub fn readout(
    cuda: &Cuda,
    input: &Matrix,
    rows: usize,
    spec: &ReadoutSpec,
) -> Result<Readouts, DeviceError> {
    if rows == 0 {
        cuda.flush()?;
        return Ok(Readouts(Vec::new()));
    }
    let tiles = cuda.config.vocab.div_ceil(TILE);
    // a row's parts, 8 bytes for each token that a tile keeps, and its wanted ids' counts
    let kept = spec.top.min(TILE);
    let counts = if spec.ranks {
        spec.ids.len().div_ceil(rows)
    } else {
        0
    };
    let step = (PARTS / (tiles * (16 + 8 * kept + 4 * counts))).max(1);
    let vocab = cuda.config.vocab;
    let mut flops = (2 * (rows + spec.compared(rows)) * vocab * cuda.config.width) as u64;
    let mut landings = Vec::new();
    for first in (0..rows).step_by(step) {
        let block = Block::new(cuda, input, first..rows.min(first + step), spec);
        // rows that are compared with may be listed more than once, and are counted once
        landings.push(block.queue(std::mem::take(&mut flops))?);
    }
    Ok(Readouts(landings))
}

/// Input rows as the scan lists them: each row that is read out once, and in each tile of rows those
/// that its rows are compared with.
pub(super) struct Listing {
    pub rows: Vec<u32>,
    /// For each listed row, the listed row that it is compared with.
    pub base: Vec<u32>,
    /// Where each row that is read out is listed.
    pub at: Vec<usize>,
}

impl Listing {
    fn new(range: Range<usize>, spec: &ReadoutSpec, tile_rows: usize) -> Self {
        let other = |row: usize| spec.base.get(row).copied();
        Self::of(range.map(|row| (row as u32, other(row))), tile_rows)
    }

    /// Of rows with those that they are compared with.
    pub fn of(compared: impl Iterator<Item = (u32, Option<u32>)>, tile_rows: usize) -> Self {
        let (mut rows, mut base, mut at) = (Vec::new(), Vec::new(), Vec::new());
        let mut known: HashMap<u32, usize> = HashMap::new();
        let mut end = tile_rows;
        for (row, other) in compared {
            let new = other.filter(|other| !known.contains_key(other));
            if rows.len() + 1 + usize::from(new.is_some()) > end {
                // the tile is filled with a row that nobody asks for
                rows.resize(end, row);
                base.resize(end, NONE);
                known.clear();
                end += tile_rows;
            }
            if let Some(other) = other {
                known.entry(other).or_insert_with(|| {
                    rows.push(other);
                    base.push(NONE);
                    rows.len() - 1
                });
            }
            at.push(rows.len());
            rows.push(row);
            base.push(other.map_or(NONE, |other| known[&other] as u32));
        }
        Self { rows, base, at }
    }
}

struct Block<'a> {
    cuda: &'a Cuda,
    input: &'a Matrix,
    range: Range<usize>,
    spec: &'a ReadoutSpec,
    /// The block's wanted ids.
    ids: &'a [u32],
    tile: Tile,
    listing: Listing,
}

impl<'a> Block<'a> {
    fn new(cuda: &'a Cuda, input: &'a Matrix, range: Range<usize>, spec: &'a ReadoutSpec) -> Self {
        let tile = cuda.readout_tile(range.len());
        Self {
            cuda,
            input,
            ids: &spec.ids[spec.first[range.start]..spec.first[range.end]],
            tile,
            listing: Listing::new(range.clone(), spec, tile.rows()),
            range,
            spec,
        }
    }

    /// The block's index of a row's wanted ids.
    fn wanted(&self, row: usize) -> Range<usize> {
        let start = self.spec.first[self.range.start];
        self.spec.first[row] - start..self.spec.first[row + 1] - start
    }

    fn queue(self, flops: u64) -> Result<Landing, DeviceError> {
        let (cuda, listed) = (self.cuda, self.listing.rows.len());
        let vocab = cuda.config.vocab;
        let (tiles, top) = (vocab.div_ceil(TILE), self.spec.top.min(vocab));
        let (kept, wanted) = (top.min(TILE), self.ids.len());
        let results = Results {
            listed,
            wanted,
            ranked: if self.spec.ranks { wanted } else { 0 },
            top,
        };
        let sizes = [
            results.bytes(),
            16 * listed * tiles,
            4 * results.ranked * tiles,
            4 * listed * tiles * kept,
            4 * listed * tiles * kept,
        ];
        let memory = Memory::reserve(cuda, sizes, results);
        let memory = memory.map_err(|error| cuda.abandon(error))?;
        self.wanted_logits(&memory);
        self.scan(&memory, tiles, kept, flops);
        if top > 0 {
            cuda.record(0, |_| {
                let arguments = TopArgs {
                    tile_ids: memory.tile_ids,
                    tile_logits: memory.tile_logits,
                    ids: memory.result(results.top_ids()),
                    logits: memory.result(results.top_logits()),
                    tiles: number(tiles),
                    count: number(listed),
                    kept: number(kept),
                    top: number(top),
                };
                Launch {
                    shared: ROW_THREADS / WARP * 4 * number(tiles),
                    ..Launch::rows(Kernel::ReadoutTop, listed, arguments)
                }
            });
        }
        let host = cuda.transfers.landing(results.bytes());
        let mut host = host.map_err(|error| cuda.abandon(error))?;
        cuda.flush_and(|bound| host.fetch(bound, memory.results.0, results.bytes()))?;
        Ok(Landing {
            host,
            results,
            wanted: self.range.clone().map(|row| self.wanted(row)).collect(),
            at: self.listing.at,
        })
    }

    fn wanted_logits(&self, memory: &Memory) {
        let count = self.ids.len();
        if count == 0 {
            return;
        }
        let unembedding = self.cuda.weights.unembedding();
        // the input row of each wanted logit
        let rows: Vec<u32> = self
            .range
            .clone()
            .flat_map(|row| vec![row as u32; self.wanted(row).len()])
            .collect();
        let kernel = Kernel::ReadoutWanted(self.cuda.variant(unembedding.inputs));
        let tile = Tile::Small;
        self.cuda.record(0, |queue| {
            let arguments = WantedArgs {
                operands: Operands {
                    input: self.input.view(),
                    rows: queue.table(&rows),
                    weight: unembedding.row(0),
                    ids: queue.table(self.ids),
                    count: number(count),
                    inputs: number(unembedding.inputs),
                    columns: number(count),
                    weight_stride: number(unembedding.stride),
                },
                logits: memory.result(memory.layout.logits()),
            };
            let grid = [count.div_ceil(tile.rows()) as u32, 1, 1];
            Launch::new(kernel, grid, tile.block(), tile.linear_shared(), arguments)
        });
    }

    fn scan(&self, memory: &Memory, tiles: usize, kept: usize, flops: u64) {
        let Listing { rows, base, at } = &self.listing;
        let (listed, spec) = (rows.len(), self.spec);
        let unembedding = self.cuda.weights.unembedding();
        let kernel = Kernel::ReadoutScan(self.cuda.variant(unembedding.inputs), self.tile);
        let grid = [listed.div_ceil(self.tile.rows()) as u32, tiles as u32, 1];
        // where each listed row's wanted ids start; rows that are compared with want none
        let mut first = vec![0u32; listed + 1];
        for (row, at) in self.range.clone().zip(at) {
            first[at + 1] = self.wanted(row).len() as u32;
        }
        for i in 0..listed {
            first[i + 1] += first[i];
        }
        let ranked = spec.ranks && !self.ids.is_empty();
        let given = |memory: Pointer| if ranked { memory } else { Pointer::NULL };
        let (results, above) = (memory.layout, given(memory.above));
        self.cuda.record(flops, |queue| {
            let arguments = ScanArgs {
                operands: Operands {
                    input: self.input.view(),
                    rows: queue.table(rows),
                    weight: unembedding.row(0),
                    ids: Pointer::NULL,
                    count: number(listed),
                    inputs: number(unembedding.inputs),
                    columns: number(self.cuda.config.vocab),
                    weight_stride: number(unembedding.stride),
                },
                base: queue.optional((!spec.base.is_empty()).then_some(base)),
                wanted_first: queue.optional(ranked.then_some(&first)),
                wanted_ids: queue.optional(ranked.then_some(self.ids)),
                wanted_logits: given(memory.result(results.logits())),
                above,
                parts: memory.parts,
                top_ids: memory.tile_ids,
                top_logits: memory.tile_logits,
                top: number(kept),
            };
            let (block, shared) = (self.tile.block(), self.tile.scan_shared());
            Launch::new(kernel, grid, block, shared, arguments)
        });
        let merge = Kernel::ReadoutMerge;
        self.cuda.record_rows(merge, listed, |queue| MergeArgs {
            parts: memory.parts,
            base: queue.optional((!spec.base.is_empty()).then_some(base)),
            wanted_first: queue.optional(ranked.then_some(&first)),
            above,
            log_sum_exp: memory.result(results.log_sum_exp()),
            entropy: memory.result(results.entropy()),
            divergence: memory.result(results.divergence()),
            ranks: given(memory.result(results.ranks())),
            tiles: number(tiles),
            count: number(listed),
        });
    }
}

/// How results of one block of rows lie, without a gap: they come back in one copy.
#[derive(Clone, Copy)]
struct Results {
    listed: usize,
    wanted: usize,
    /// Wanted logits that have a rank: all or none.
    ranked: usize,
    top: usize,
}

impl Results {
    /// f64, one a listed row, like the next two.
    fn log_sum_exp(&self) -> Range<usize> {
        0..8 * self.listed
    }

    fn entropy(&self) -> Range<usize> {
        behind(self.log_sum_exp(), 8 * self.listed)
    }

    fn divergence(&self) -> Range<usize> {
        behind(self.entropy(), 8 * self.listed)
    }

    /// f32, one a wanted id.
    fn logits(&self) -> Range<usize> {
        behind(self.divergence(), 4 * self.wanted)
    }

    /// u32, likewise.
    fn ranks(&self) -> Range<usize> {
        behind(self.logits(), 4 * self.ranked)
    }

    /// u32, so many a listed row.
    fn top_ids(&self) -> Range<usize> {
        behind(self.ranks(), 4 * self.listed * self.top)
    }

    /// f32, likewise.
    fn top_logits(&self) -> Range<usize> {
        behind(self.top_ids(), 4 * self.listed * self.top)
    }

    fn bytes(&self) -> usize {
        self.top_logits().end
    }
}

fn behind(before: Range<usize>, bytes: usize) -> Range<usize> {
    before.end..before.end + bytes
}

/// Results of a block of rows, on their way to the host.
struct Landing {
    host: Pinned,
    results: Results,
    /// Each row's wanted ids.
    wanted: Vec<Range<usize>>,
    /// Where each row is listed.
    at: Vec<usize>,
}

impl Landing {
    /// What has landed, row by row.
    fn read(&mut self, readouts: &mut Vec<Readout>) {
        let (results, bytes) = (self.results, &*self.host.free());
        let [log_sum_exp, entropy, divergence]: [&[f64]; 3] = [
            results.log_sum_exp(),
            results.entropy(),
            results.divergence(),
        ]
        .map(|place| bytemuck::cast_slice(&bytes[place]));
        let logits: &[f32] = bytemuck::cast_slice(&bytes[results.logits()]);
        let ranks: &[u32] = bytemuck::cast_slice(&bytes[results.ranks()]);
        let top_ids: &[u32] = bytemuck::cast_slice(&bytes[results.top_ids()]);
        let top_logits: &[f32] = bytemuck::cast_slice(&bytes[results.top_logits()]);
        readouts.reserve(self.at.len());
        for (wanted, at) in self.wanted.iter().zip(&self.at) {
            let top = at * results.top..(at + 1) * results.top;
            let wide = |x: &f32| f64::from(*x);
            readouts.push(Readout {
                log_sum_exp: log_sum_exp[*at],
                entropy: entropy[*at],
                kl: divergence[*at],
                logits: logits[wanted.clone()].iter().map(wide).collect(),
                ranks: ranks
                    .get(wanted.clone())
                    .map_or_else(Vec::new, <[u32]>::to_vec),
                top: top.map(|t| (top_ids[t], wide(&top_logits[t]))).collect(),
                ..Readout::default()
            });
        }
    }
}

/// Where the kernels of one block write.
struct Memory {
    layout: Results,
    results: Pointer,
    parts: Pointer,
    above: Pointer,
    tile_ids: Pointer,
    tile_logits: Pointer,
}

impl Memory {
    /// Memory for results, parts, counts, and the tiles' most probable ids and logits.
    fn reserve(cuda: &Cuda, sizes: [usize; 5], layout: Results) -> Result<Self, DeviceError> {
        let mut reserve = || cuda.scratch().readouts.grow(&cuda.device, sizes);
        let [results, parts, above, tile_ids, tile_logits] = cuda.with_room(&mut reserve)?;
        Ok(Self {
            layout,
            results,
            parts,
            above,
            tile_ids,
            tile_logits,
        })
    }

    /// Where a kind of result starts.
    fn result(&self, place: Range<usize>) -> Pointer {
        self.results.offset(place.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_one_tile_with_those_that_they_are_compared_with() {
        let spec = ReadoutSpec {
            base: vec![5, 5, 6, 6, 5],
            ..ReadoutSpec::default()
        };
        let listing = Listing::new(0..5, &spec, 4);
        for (row, at) in listing.at.iter().enumerate() {
            let base = listing.base[*at] as usize;
            assert_eq!(listing.rows[*at], row as u32);
            assert_eq!(listing.rows[base], spec.base[row]);
            assert_eq!(base / 4, at / 4);
        }
        let alone = Listing::new(2..5, &ReadoutSpec::default(), 4);
        assert_eq!((alone.rows, alone.base), (vec![2, 3, 4], vec![NONE; 3]));
    }
}
