//! Launches that wait, and the tables that they read.
//!
//! A table is written into one block of host memory when its operation is called and named by its
//! offset; where it will lie on the device is known only when the block is copied, at once for
//! everything that waits.

use std::ffi::c_void;
use std::sync::Arc;

use super::device::{Allocation, Device};
use super::events::Timer;
use super::kernels::{Kernel, Pass};
use super::matrix::View;
use crate::backend::DeviceError;
use crate::plan::tables::Ref;

/// Tables start at multiples of so many bytes.
const ALIGNMENT: usize = 16;
/// Most blocks along y and z of a grid.
const GRID_YZ: u32 = 65_535;

/// A table in the block, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table(Option<usize>);

#[derive(Debug, Clone, Copy)]
enum Argument {
    Integer(u32),
    Float(f32),
    Pointer(u64),
    Table(Table),
    View(View),
}

impl Argument {
    fn pass(self) -> Pass {
        match self {
            Self::Integer(_) => Pass::Integer,
            Self::Float(_) => Pass::Float,
            Self::Pointer(_) | Self::Table(_) => Pass::Pointer,
            Self::View(_) => Pass::View,
        }
    }
}

/// One kernel with its arguments.
#[derive(Debug)]
pub struct Launch {
    kernel: Kernel,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    arguments: Vec<Argument>,
}

impl Launch {
    /// A launch without arguments yet.
    pub fn new(kernel: Kernel, grid: [u32; 3], block: u32, shared: u32) -> Self {
        Self {
            kernel,
            grid,
            block,
            shared,
            arguments: Vec::new(),
        }
    }

    /// One warp a row, eight in a block: how every row-wise kernel is launched.
    pub fn rows(kernel: Kernel, count: usize) -> Self {
        Self::new(kernel, [count.div_ceil(8) as u32, 1, 1], 256, 0)
    }

    pub fn integer(mut self, x: usize) -> Self {
        debug_assert!(
            u32::try_from(x).is_ok(),
            "{x} is more than a kernel counts to"
        );
        self.arguments.push(Argument::Integer(x as u32));
        self
    }

    pub fn float(mut self, x: f64) -> Self {
        self.arguments.push(Argument::Float(x as f32));
        self
    }

    pub fn pointer(mut self, pointer: u64) -> Self {
        self.arguments.push(Argument::Pointer(pointer));
        self
    }

    pub fn table(mut self, table: Table) -> Self {
        self.arguments.push(Argument::Table(table));
        self
    }

    pub fn view(mut self, view: View) -> Self {
        self.arguments.push(Argument::View(view));
        self
    }
}

/// What waits to be run.
#[derive(Default)]
pub struct Queue {
    block: Vec<u8>,
    launches: Vec<Launch>,
    flops: u64,
    error: Option<DeviceError>,
    /// The block on the device.
    memory: Option<Allocation>,
    /// What launches are timed by, if they are.
    pub timer: Option<Arc<Timer>>,
}

impl Queue {
    /// Puts a table into the block.
    pub fn table<T: bytemuck::NoUninit>(&mut self, table: &[T]) -> Table {
        if table.is_empty() {
            return Table(None);
        }
        self.block
            .resize(self.block.len().next_multiple_of(ALIGNMENT), 0);
        let at = self.block.len();
        self.block.extend_from_slice(bytemuck::cast_slice(table));
        Table(Some(at))
    }

    /// A table that may be missing.
    pub fn optional(&mut self, table: Option<&[u32]>) -> Table {
        table.map_or(Table(None), |table| self.table(table))
    }

    /// A table of row references.
    pub fn refs(&mut self, refs: &[Ref]) -> Table {
        self.table(refs)
    }

    /// No table.
    pub fn null(&self) -> Table {
        Table(None)
    }

    /// Adds a launch that does so many floating-point operations.
    ///
    /// # Panics
    ///
    /// If its arguments are not those of the kernel's signature: a mistake in this folder.
    pub fn launch(&mut self, flops: u64, launch: Launch) {
        let passes: Vec<Pass> = launch.arguments.iter().map(|a| a.pass()).collect();
        assert_eq!(
            passes,
            launch.kernel.passes(),
            "arguments of {}",
            launch.kernel.name()
        );
        assert!(
            launch.grid[1] <= GRID_YZ && launch.grid[2] <= GRID_YZ,
            "a grid too tall"
        );
        self.launches.push(launch);
        self.flops += flops;
    }

    /// Remembers the first thing that went wrong; nothing is launched until somebody has been told.
    pub fn fail(&mut self, error: DeviceError) {
        self.error.get_or_insert(error);
    }

    /// Copies the block, launches everything, and frees what nothing names any more. Returns the
    /// operations launched; does not wait.
    pub fn flush(&mut self, device: &Arc<Device>) -> Result<u64, DeviceError> {
        let (block, launches) = (
            std::mem::take(&mut self.block),
            std::mem::take(&mut self.launches),
        );
        let flops = std::mem::take(&mut self.flops);
        let done = match self.error.take() {
            Some(error) => Err(error),
            None => self.run(device, &block, &launches),
        };
        // memory that launches name is freed behind them on the stream
        let freed = device.free_retired();
        self.block = block;
        self.block.clear();
        done.and(freed).map(|()| flops)
    }

    fn run(
        &mut self,
        device: &Arc<Device>,
        block: &[u8],
        launches: &[Launch],
    ) -> Result<(), DeviceError> {
        let base = match &self.memory {
            Some(memory) if memory.bytes >= block.len() => memory.pointer,
            _ => {
                let room = block.len().next_power_of_two().max(1 << 16);
                self.memory = None;
                self.memory.insert(device.allocate(room)?).pointer
            }
        };
        if !block.is_empty() {
            device.write(base, block)?;
        }
        match &self.timer {
            Some(timer) if !launches.is_empty() => {
                timer.around(|| launch_all(device, base, launches))
            }
            _ => launch_all(device, base, launches),
        }
    }
}

/// Puts launches on the stream, the block being at `base`.
fn launch_all(device: &Device, base: u64, launches: &[Launch]) -> Result<(), DeviceError> {
    for launch in launches {
        let mut values: Vec<[u64; 3]> = launch
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::Integer(x) => [u64::from(*x), 0, 0],
                Argument::Float(x) => [u64::from(x.to_bits()), 0, 0],
                Argument::Pointer(pointer) => [*pointer, 0, 0],
                Argument::Table(table) => [table.0.map_or(0, |at| base + at as u64), 0, 0],
                Argument::View(view) => bytemuck::cast(*view),
            })
            .collect();
        let mut arguments: Vec<*mut c_void> = values
            .iter_mut()
            .map(|value| value.as_mut_ptr().cast())
            .collect();
        let Launch {
            kernel,
            grid,
            block,
            shared,
            ..
        } = launch;
        device.launch(*kernel, *grid, *block, *shared, &mut arguments)?;
    }
    Ok(())
}
