//! Launches that wait, and the tables that they read.
//!
//! A table is written into host memory when its operation is called, behind the last one; the same place
//! in memory on the device is its address, so that a launch is complete when it is recorded. What was
//! written is copied at once for everything that waits.

use std::sync::Arc;

use super::arguments::{Arguments, Pointer, ROW_THREADS, WARP, number};
use super::device::{Allocation, Device};
use super::events::Timer;
use super::kernels::Kernel;
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
    /// Blocks along x and y.
    pub grid: [u32; 2],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    pub argument: Arguments,
}

impl Launch {
    pub fn new(
        kernel: Kernel,
        grid: [u32; 2],
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
        Self::new(kernel, [blocks, 1], ROW_THREADS, 0, argument)
    }
}

/// Tables as they are written, and the memory that they are copied to.
struct Block {
    tables: Vec<u8>,
    memory: Allocation,
}

/// What waits to be run.
pub struct Queue {
    device: Arc<Device>,
    /// Each twice as large as all before it; the last is written to.
    blocks: Vec<Block>,
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
            blocks: Vec::new(),
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
            Ok(Block { tables, memory }) => {
                let at = tables.len();
                tables.extend_from_slice(bytes);
                tables.resize(at + size, 0);
                memory.start().offset(at)
            }
            Err(error) => {
                self.fail(error);
                Pointer::NULL
            }
        }
    }

    /// A block with room for so many bytes.
    fn room(&mut self, bytes: usize) -> Result<&mut Block, DeviceError> {
        let fits = |block: &&mut Block| block.memory.bytes - block.tables.len() >= bytes;
        if self.blocks.last_mut().filter(fits).is_none() {
            let all: usize = self.blocks.iter().map(|block| block.memory.bytes).sum();
            let memory = self.device.allocate(bytes.max(2 * all).max(LEAST))?;
            let tables = Vec::new();
            self.blocks.push(Block { tables, memory });
        }
        let last = self.blocks.len() - 1;
        Ok(&mut self.blocks[last])
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

    /// Copies the tables, launches everything, and frees what nothing names any more. Returns the
    /// operations launched; does not wait.
    pub fn flush(&mut self) -> Result<u64, DeviceError> {
        let flops = std::mem::take(&mut self.flops);
        let done = self.error.take().map_or_else(|| self.run(), Err);
        self.launches.clear();
        // the last block alone is used again: what was too much for those before it comes again
        self.blocks.drain(..self.blocks.len().saturating_sub(1));
        for block in &mut self.blocks {
            block.tables.clear();
        }
        // memory that launches name is freed behind them on the stream
        let freed = self.device.free_retired();
        done.and(freed).map(|()| flops)
    }

    fn run(&self) -> Result<(), DeviceError> {
        for Block { tables, memory } in &self.blocks {
            if !tables.is_empty() {
                self.device.write(memory.pointer, tables)?;
            }
        }
        let launch = || self.device.launch(&self.launches);
        match &self.timer {
            Some(timer) if !self.launches.is_empty() => timer.around(launch),
            _ => launch(),
        }
    }
}
