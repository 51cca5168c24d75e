//! The launches of the readout: wanted logits, a scan over the vocabulary in tiles, a merge.

use std::collections::HashMap;
use std::ops::Range;

use super::Cuda;
use super::arguments::{
    MergeArgs, NONE, Operands, Pointer, ROW_THREADS, ScanArgs, TopArgs, VOCABULARY_TILE, WARP,
    WantedArgs, number,
};
use super::device::{Allocation, Device};
use super::kernels::Kernel;
use super::linear::Tile;
use super::matrix::Matrix;
use super::queue::Launch;
use crate::backend::{DeviceError, Readout, ReadoutSpec};

/// Columns of a vocabulary tile, and the most tokens that one keeps.
const TILE: usize = VOCABULARY_TILE as usize;
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
    let mut readouts = Vec::with_capacity(rows);
    for first in (0..rows).step_by(step) {
        let block = Block::new(cuda, input, first..rows.min(first + step), spec);
        // rows that are compared with may be listed more than once, and are counted once
        readouts.extend(block.read(std::mem::take(&mut flops))?);
    }
    Ok(readouts)
}

/// Input rows as the scan lists them: each row that is read out once, and in each tile of rows those
/// that its rows are compared with.
struct Listing {
    rows: Vec<u32>,
    /// For each listed row, the listed row that it is compared with.
    base: Vec<u32>,
    /// Where each row that is read out is listed.
    at: Vec<usize>,
}

impl Listing {
    fn new(range: Range<usize>, spec: &ReadoutSpec, tile_rows: usize) -> Self {
        let (mut rows, mut base, mut at) = (Vec::new(), Vec::new(), Vec::new());
        let mut known: HashMap<u32, usize> = HashMap::new();
        let mut end = tile_rows;
        for row in range {
            let other = spec.base.get(row).copied();
            let new = other.filter(|other| !known.contains_key(other));
            if rows.len() + 1 + usize::from(new.is_some()) > end {
                // the tile is filled with a row that nobody asks for
                rows.resize(end, row as u32);
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
            rows.push(row as u32);
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
        let tile = cuda.tile(range.len(), cuda.config.vocab);
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

    fn read(&self, flops: u64) -> Result<Vec<Readout>, DeviceError> {
        let (cuda, device) = (self.cuda, &self.cuda.device);
        let (vocab, listed) = (cuda.config.vocab, self.listing.rows.len());
        let (tiles, top) = (vocab.div_ceil(TILE), self.spec.top.min(vocab));
        let (kept, wanted) = (top.min(TILE), self.ids.len());
        let counts = if self.spec.ranks { wanted * tiles } else { 0 };
        let allocate = || {
            Ok(Memory {
                wanted: device.allocate(4 * wanted)?,
                parts: device.allocate(16 * listed * tiles)?,
                above: device.allocate(4 * counts)?,
                tile_ids: device.allocate(4 * listed * tiles * kept)?,
                tile_logits: device.allocate(4 * listed * tiles * kept)?,
                log_sum_exp: device.allocate(8 * listed)?,
                entropy: device.allocate(8 * listed)?,
                divergence: device.allocate(8 * listed)?,
                ranks: device.allocate(4 * wanted)?,
                top_ids: device.allocate(4 * listed * top)?,
                top_logits: device.allocate(4 * listed * top)?,
            })
        };
        let memory = cuda.with_room(allocate);
        let memory = memory.map_err(|error| cuda.abandon(error))?;
        self.wanted_logits(&memory);
        self.scan(&memory, tiles, kept, flops);
        if top > 0 {
            cuda.record(0, |_| {
                let arguments = TopArgs {
                    tile_ids: memory.tile_ids.start(),
                    tile_logits: memory.tile_logits.start(),
                    ids: memory.top_ids.start(),
                    logits: memory.top_logits.start(),
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
        cuda.flush()?;

        let logits: Vec<f32> = memory.wanted.read(device, wanted)?;
        let log_sum_exp: Vec<f64> = memory.log_sum_exp.read(device, listed)?;
        let entropy: Vec<f64> = memory.entropy.read(device, listed)?;
        let divergence: Vec<f64> = memory.divergence.read(device, listed)?;
        let ranked = if self.spec.ranks { wanted } else { 0 };
        let ranks: Vec<u32> = memory.ranks.read(device, ranked)?;
        let top_ids: Vec<u32> = memory.top_ids.read(device, listed * top)?;
        let top_logits: Vec<f32> = memory.top_logits.read(device, listed * top)?;
        let rows = self.range.clone().zip(&self.listing.at);
        Ok(rows
            .map(|(row, at)| {
                let wanted = self.wanted(row);
                Readout {
                    log_sum_exp: log_sum_exp[*at],
                    entropy: entropy[*at],
                    kl: divergence[*at],
                    logits: logits[wanted.clone()]
                        .iter()
                        .map(|x| f64::from(*x))
                        .collect(),
                    ranks: ranks.get(wanted).map_or_else(Vec::new, <[u32]>::to_vec),
                    top: (at * top..(at + 1) * top)
                        .map(|t| (top_ids[t], f64::from(top_logits[t])))
                        .collect(),
                }
            })
            .collect())
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
                logits: memory.wanted.start(),
            };
            let grid = [count.div_ceil(tile.rows()) as u32, 1];
            Launch::new(kernel, grid, tile.block(), tile.linear_shared(), arguments)
        });
    }

    fn scan(&self, memory: &Memory, tiles: usize, kept: usize, flops: u64) {
        let Listing { rows, base, at } = &self.listing;
        let (listed, spec) = (rows.len(), self.spec);
        let unembedding = self.cuda.weights.unembedding();
        let kernel = Kernel::ReadoutScan(self.cuda.variant(unembedding.inputs), self.tile);
        let grid = [listed.div_ceil(self.tile.rows()) as u32, tiles as u32];
        // where each listed row's wanted ids start; rows that are compared with want none
        let mut first = vec![0u32; listed + 1];
        for (row, at) in self.range.clone().zip(at) {
            first[at + 1] = self.wanted(row).len() as u32;
        }
        for i in 0..listed {
            first[i + 1] += first[i];
        }
        let ranked = spec.ranks && !self.ids.is_empty();
        let given = |there: bool, memory: &Allocation| match there {
            true => memory.start(),
            false => Pointer::NULL,
        };
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
                wanted_logits: given(ranked, &memory.wanted),
                above: given(ranked, &memory.above),
                parts: memory.parts.start(),
                top_ids: memory.tile_ids.start(),
                top_logits: memory.tile_logits.start(),
                top: number(kept),
            };
            let (block, shared) = (self.tile.block(), self.tile.scan_shared());
            Launch::new(kernel, grid, block, shared, arguments)
        });
        let merge = Kernel::ReadoutMerge;
        self.cuda.record_rows(merge, listed, |queue| MergeArgs {
            parts: memory.parts.start(),
            base: queue.optional((!spec.base.is_empty()).then_some(base)),
            wanted_first: queue.optional(ranked.then_some(&first)),
            above: given(ranked, &memory.above),
            log_sum_exp: memory.log_sum_exp.start(),
            entropy: memory.entropy.start(),
            divergence: memory.divergence.start(),
            ranks: given(ranked, &memory.ranks),
            tiles: number(tiles),
            count: number(listed),
        });
    }
}

/// What the kernels of one block write.
struct Memory {
    wanted: Allocation,
    parts: Allocation,
    above: Allocation,
    tile_ids: Allocation,
    tile_logits: Allocation,
    log_sum_exp: Allocation,
    entropy: Allocation,
    divergence: Allocation,
    ranks: Allocation,
    top_ids: Allocation,
    top_logits: Allocation,
}

impl Allocation {
    /// The first `count` numbers.
    fn read<T: bytemuck::Pod>(&self, device: &Device, count: usize) -> Result<Vec<T>, DeviceError> {
        let mut values = vec![T::zeroed(); count];
        if count > 0 {
            device.read(bytemuck::cast_slice_mut(&mut values), self.pointer)?;
        }
        Ok(values)
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
