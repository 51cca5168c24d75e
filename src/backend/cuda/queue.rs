//! Launches that wait, and the tables that they read.
//!
//! A table is written into page-locked memory when its operation is called, behind the last one; the same place
//! in memory on the device is its address, so that a launch is complete when it is recorded. What was
//! written is copied at once for everything that waits. There are two such memories: while the device may
//! be copying one pass's tables, the next one's are written into the other.

use std::sync::Arc;

use super::arguments::{Arguments, Pointer, ROW_THREADS, WARP, number};
use super::device::{Bound, Device, failed};
use super::events::Timer;
use super::kernels::Kernel;
use super::memory::{Allocation, Pinned};
use crate::backend::DeviceError;

/// Tables start at multiples of so many bytes.
const ALIGNMENT: usize = 16;
/// Bytes of the first block.
const LEAST: usize = 1 << 16;
/// Most blocks along y.
const GRID_Y: u32 = 65_535;

/// One kernel with its argument.
#[derive(Debug)]
pub struct Launch {
    pub kernel: Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    pub argument: Arguments,
}

impl Launch {
    pub fn new(
        kernel: Kernel,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        argument: impl Into<Arguments>,
    ) -> Self {
        Self {
            kernel,
            grid,
            block,
            shared,
            argument: argument.into(),
        }
    }

    /// One warp a row: how every row-wise kernel is launched.
    pub fn rows(kernel: Kernel, count: usize, argument: impl Into<Arguments>) -> Self {
        let blocks = number(count).div_ceil(ROW_THREADS / WARP);
        Self::new(kernel, [blocks, 1, 1], ROW_THREADS, 0, argument)
    }
}

/// Tables as they are written, and the memory that they are copied to.
struct Block {
    tables: Pinned,
    /// Bytes written.
    used: usize,
    memory: Allocation,
}

/// What waits to be run.
pub struct Queue {
    device: Arc<Device>,
    /// What passes write in turn. Each block is twice as large as all before it; the last is written to.
    turns: [Vec<Block>; 2],
    /// Whose turn it is.
    turn: usize,
    launches: Vec<Launch>,
    flops: u64,
    error: Option<DeviceError>,
    /// What launches are timed by, if they are.
    pub timer: Option<Arc<Timer>>,
}

impl Queue {
    pub fn new(device: Arc<Device>) -> Self {
        Self {
            device,
            turns: [Vec::new(), Vec::new()],
            turn: 0,
            launches: Vec::new(),
            flops: 0,
            error: None,
            timer: None,
        }
    }

    /// Writes a table; where it will lie, and none for an empty one.
    pub fn table<T: bytemuck::NoUninit>(&mut self, table: &[T]) -> Pointer {
        let bytes: &[u8] = bytemuck::cast_slice(table);
        if bytes.is_empty() {
            return Pointer::NULL;
        }
        let size = bytes.len().next_multiple_of(ALIGNMENT);
        match self.room(size) {
            Ok(block) => {
                let at = block.used;
                let place = &mut block.tables.free()[at..at + size];
                place[..bytes.len()].copy_from_slice(bytes);
                // what pads it is copied, too
                place[bytes.len()..].fill(0);
                block.used += size;
                block.memory.start().offset(at)
            }
            Err(error) => {
                self.fail(error);
                Pointer::NULL
            }
        }
    }

    /// A block with room for so many bytes.
    fn room(&mut self, bytes: usize) -> Result<&mut Block, DeviceError> {
        let blocks = &mut self.turns[self.turn];
        if blocks.iter().all(|block| block.used == 0) {
            // the first table of a pass; the last block alone is used again: what was too much for those
            // before it comes again
            for block in blocks.iter_mut() {
                block.tables.settle()?;
            }
            blocks.drain(..blocks.len().saturating_sub(1));
        }
        let fits = |block: &Block| block.memory.bytes - block.used >= bytes;
        if !blocks.last().is_some_and(fits) {
            let all: usize = blocks.iter().map(|block| block.memory.bytes).sum();
            let size = bytes.max(2 * all).max(LEAST);
            blocks.push(Block {
                tables: Pinned::new(&self.device, size)?,
                used: 0,
                memory: self.device.allocate(size)?,
            });
        }
        let last = blocks.len() - 1;
        Ok(&mut blocks[last])
    }

    /// A table that may be missing.
    pub fn optional(&mut self, table: Option<&[u32]>) -> Pointer {
        table.map_or(Pointer::NULL, |table| self.table(table))
    }

    /// Adds a launch that does so many floating-point operations.
    ///
    /// # Panics
    ///
    /// If its argument is not the kernel's, or its grid too tall: a mistake in this folder.
    pub fn launch(&mut self, flops: u64, launch: Launch) {
        let (kernel, given) = (launch.kernel, launch.argument.name());
        assert_eq!(given, kernel.argument(), "{}", kernel.name());
        assert!(launch.grid[1] <= GRID_Y, "a grid too tall");
        self.launches.push(launch);
        self.flops += flops;
    }

    /// Remembers the first thing that went wrong; nothing is launched until somebody has been told.
    pub fn fail(&mut self, error: DeviceError) {
        self.error.get_or_insert(error);
    }

    /// Copies the tables, launches everything, does what is to follow, and frees what nothing names any more.
    /// Returns the operations launched; does not wait.
    pub fn flush(
        &mut self,
        then: impl FnOnce(&Bound<'_>) -> Result<(), DeviceError>,
    ) -> Result<u64, DeviceError> {
        let flops = std::mem::take(&mut self.flops);
        let device = self.device.clone();
        let bound = device.bind().map_err(failed("launching kernels"));
        let done = match (self.error.take(), &bound) {
            (Some(error), _) => Err(error),
            (None, Ok(bound)) => self.run(bound).and_then(|()| then(bound)),
            (None, Err(error)) => Err(error.clone()),
        };
        self.launches.clear();
        let blocks = &mut self.turns[self.turn];
        if blocks.iter().any(|block| block.used > 0) {
            blocks.iter_mut().for_each(|block| block.used = 0);
            self.turn = 1 - self.turn;
        }
        // memory that launches name is freed behind them on the stream
        let freed = bound.and_then(|bound| bound.free_retired());
        done.and(freed).map(|()| flops)
    }

    fn run(&mut self, bound: &Bound<'_>) -> Result<(), DeviceError> {
        for block in &mut self.turns[self.turn] {
            if block.used > 0 {
                // the passes before are behind on the stream, so that nothing reads what is overwritten
                block.tables.send(bound, block.memory.pointer, block.used)?;
            }
        }
        let launch = || bound.launch(&self.launches);
        match &self.timer {
            Some(timer) if !self.launches.is_empty() => timer.around(bound, launch),
            _ => launch(),
        }
    }
}
