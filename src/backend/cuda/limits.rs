//! What a device can do at best, measured: the yardsticks of `headlight bench` on a GPU. The kernels
//! are in kernels/limits.cu.

use std::sync::Arc;

use super::arguments::{
    CHAIN_STEPS, CHAINS, COPIES, LIMIT_THREADS, LimitArgs, MMA_ACROSS, MMA_DOWN, MMA_STEPS, number,
};
use super::device::Device;
use super::events::Timer;
use super::kernels::Kernel;
use super::matrix::Element;
use super::memory::Transfers;
use super::queue::{Launch, Queue};
use crate::backend::DeviceError;

/// Something that a device can do only so much of in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes copied, read and written ones both counted.
    Copy,
    /// Operations in f32, two a fused multiply-add.
    Ffma,
    /// Operations on tensor cores by `mma`, of tf32.
    Tf32,
    /// The same of bfloat16.
    Bf16,
    /// The same of half precision.
    F16,
}

/// How carefully limits are measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// A launch has so much to do that it takes so many seconds, or as much as memory allows.
    pub seconds: f64,
    /// Launches, of which the fastest counts.
    pub launches: u32,
}

/// What one launch has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes that are copied.
    copied: usize,
    /// Rounds of every chain of arithmetic.
    repeats: usize,
    /// Multiprocessors, all of which are kept busy.
    processors: usize,
}

/// A limit, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Bytes or operations a second.
    pub rate: f64,
    /// What the launches had to do.
    pub load: Load,
    /// What the last block left.
    pub result: Vec<f64>,
}

const BLOCK: usize = LIMIT_THREADS as usize;
/// Bytes that a block of `limit_copy` copies.
const BLOCK_BYTES: usize = COPIES as usize * 16 * BLOCK;
/// Bytes copied: from little to many times any cache.
const LEAST_COPIED: usize = 1 << 20;
const MOST_COPIED: usize = 1 << 30;
/// Rounds of arithmetic: more than the fastest device needs to be busy for long enough.
const MOST_REPEATS: usize = 1 << 16;
/// Numbers to copy that differ.
const PATTERN: usize = 1 << 20;
/// Steps of every chain of `limit_ffma` in a repeat, and the multiply-add of one.
const STEPS: usize = CHAIN_STEPS as usize;
const STEP: (f32, f32) = (0.9993, 0.7309);
/// Products of a warp of `limit_mma_*`.
const PRODUCTS: usize = (MMA_DOWN * MMA_ACROSS) as usize;
/// Operands of products: as many significant bits as bfloat16 has, so that every type has the same.
const LEFT: [f64; 4] = [171.0 / 128.0, -213.0 / 128.0, 171.0 / 256.0, -213.0 / 256.0];
const RIGHT: [f64; 4] = [147.0 / 128.0, -181.0 / 128.0, 147.0 / 256.0, -181.0 / 256.0];

impl Limit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Copy, Self::Ffma, Self::Tf32, Self::Bf16, Self::F16];

    /// Its name in the kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Ffma => "ffma",
            Self::Tf32 => "mma_tf32",
            Self::Bf16 => "mma_bf16",
            Self::F16 => "mma_f16",
        }
    }

    /// K of one `mma`.
    fn depth(self) -> usize {
        if self == Self::Tf32 { 8 } else { 16 }
    }

    /// Blocks: as many as multiprocessors hold at once, or as have something to copy.
    fn blocks(self, load: &Load) -> usize {
        match self {
            Self::Copy => load.copied / BLOCK_BYTES,
            Self::Ffma => 4 * load.processors,
            _ => 2 * load.processors,
        }
    }

    /// Bytes or operations of one launch.
    fn work(self, load: &Load) -> f64 {
        let block = match self {
            Self::Copy => 2 * BLOCK_BYTES,
            Self::Ffma => BLOCK * CHAINS as usize * STEPS * 2 * load.repeats,
            _ => {
                let mma = 2 * 16 * 8 * self.depth();
                BLOCK / 32 * PRODUCTS * MMA_STEPS as usize * mma * load.repeats
            }
        };
        (self.blocks(load) * block) as f64
    }

    /// What is in memory before the launch: numbers to copy, over and over, or the operands of products,
    /// register by register of 32 lanes.
    fn input(self, load: &Load) -> Vec<u8> {
        let element = match self {
            Self::Copy => {
                let numbers = (0..PATTERN.min(load.copied / 4)).map(copied);
                return Element::F32.encode(numbers);
            }
            Self::Ffma => return Vec::new(),
            Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
            Self::F16 => Element::F16,
        };
        let fragments = LEFT
            .map(|x| (x, 4))
            .into_iter()
            .chain(RIGHT.map(|x| (x, 2)));
        let numbers = fragments.flat_map(|(x, registers)| {
            std::iter::repeat_n(x, registers * 32 * 4 / element.bytes())
        });
        element.encode(numbers)
    }

    /// What the last block must leave, up to rounding.
    pub fn expected(self, load: &Load) -> Vec<f64> {
        match self {
            Self::Copy => {
                let count = load.copied / 4;
                let last = (count - BLOCK..count).map(|i| copied(i % PATTERN));
                last.map(|x| f64::from(x as f32)).collect()
            }
            Self::Ffma => {
                let chain = |start: usize| {
                    let steps = 0..STEPS * load.repeats;
                    steps.fold(start as f32, |x, _| x.mul_add(STEP.0, STEP.1))
                };
                let sum = |thread| (0..CHAINS as usize).fold(0.0, |sum, i| sum + chain(thread + i));
                (0..BLOCK).map(|thread| f64::from(sum(thread))).collect()
            }
            _ => {
                let starts: f64 = (0..PRODUCTS).map(|i| i as f64).sum();
                let product = LEFT.iter().sum::<f64>() * RIGHT.iter().sum::<f64>();
                let times = MMA_STEPS as usize * self.depth() * load.repeats;
                vec![4.0 * (starts + times as f64 * product); BLOCK]
            }
        }
    }

    /// Measures it. Nothing may be waiting for a flush: what it names may be freed.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver.
    pub fn measure(self, device: &Arc<Device>, effort: Effort) -> Result<Measured, DeviceError> {
        let mut load = Load {
            copied: LEAST_COPIED,
            repeats: 1,
            processors: device.processors as usize,
        };
        // from little to enough, which warms the device up, too
        loop {
            let (seconds, _) = self.launch(device, &load, 1)?;
            if seconds >= effort.seconds {
                break;
            }
            let (free, _) = device.memory()?;
            let room = usize::try_from(free / 4).unwrap_or(usize::MAX);
            match self {
                Self::Copy if 4 * load.copied <= MOST_COPIED.min(room) => load.copied *= 4,
                Self::Copy => break,
                _ if load.repeats < MOST_REPEATS => load.repeats *= 2,
                _ => break,
            }
        }
        let (seconds, result) = self.launch(device, &load, effort.launches)?;
        Ok(Measured {
            rate: self.work(&load) / seconds,
            load,
            result,
        })
    }

    /// The seconds of the fastest of some launches, and what the last block left.
    fn launch(
        self,
        device: &Arc<Device>,
        load: &Load,
        launches: u32,
    ) -> Result<(f64, Vec<f64>), DeviceError> {
        let blocks = self.blocks(load);
        let (input, timer) = (self.input(load), Arc::new(Timer::new(device, false)?));
        let (read, written) = match self {
            Self::Copy => (load.copied, load.copied),
            _ => (input.len(), blocks * BLOCK * 4),
        };
        let (from, to) = (device.allocate(read)?, device.allocate(written)?);
        let transfers = Transfers::new(device);
        for at in (0..read).step_by(input.len().max(1)) {
            let part = &input[..input.len().min(read - at)];
            transfers.write(from.pointer + at as u64, part)?;
        }
        let mut queue = Queue::new(device.clone());
        queue.timer = Some(timer.clone());
        let arguments = LimitArgs {
            from: from.start(),
            out: to.start(),
            a: STEP.0,
            b: STEP.1,
            repeats: number(load.repeats),
        };
        let mut best = f64::INFINITY;
        for _ in 0..launches {
            let grid = [number(blocks), 1, 1];
            let launch = Launch::new(Kernel::Limit(self), grid, LIMIT_THREADS, 0, arguments);
            queue.launch(0, launch);
            queue.flush(|_| Ok(()))?;
            best = best.min(timer.take());
        }
        // what the last block left
        let block = BLOCK * 4;
        let last = transfers.read(&[(to.pointer + (written - block) as u64, block)])?;
        drop((from, to));
        // frees what went
        queue.flush(|_| Ok(()))?;
        Ok((best, Element::F32.decode(&last)))
    }
}

/// A number to copy.
fn copied(i: usize) -> f64 {
    ((i * 7919) % 2017) as f64 / 1009.0 - 1.0
}
