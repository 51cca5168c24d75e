//! Memory on the device, and page-locked memory of the host: what goes between the two is copied while the
//! host goes on, so it passes through memory that nobody touches until an event says that the copy is over.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;

use super::arguments::Pointer;
use super::device::{Bound, Device, failed};
use super::events::Event;
use crate::backend::DeviceError;

/// Memory on a device, given back when it goes.
pub(super) struct Allocation {
    pub device: Arc<Device>,
    pub pointer: u64,
    pub bytes: usize,
}

impl Allocation {
    /// Its first byte, as kernels take it.
    pub fn start(&self) -> Pointer {
        Pointer(self.pointer)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.device.retire(self.pointer);
    }
}

/// Memory that kernels leave something in for those behind them. It is kept and grown: the stream orders what one operation reads of it
/// before what the next one writes.
pub(super) struct DeviceScratch<const N: usize>([Option<Allocation>; N]);

impl<const N: usize> Default for DeviceScratch<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| None))
    }
}

impl<const N: usize> DeviceScratch<N> {
    /// Memory of at least so many bytes each.
    pub fn grow(
        &mut self,
        device: &Arc<Device>,
        sizes: [usize; N],
    ) -> Result<[Pointer; N], DeviceError> {
        let mut pointers = [Pointer::NULL; N];
        for (memory, (bytes, pointer)) in self.0.iter_mut().zip(sizes.iter().zip(&mut pointers)) {
            if memory.as_ref().is_none_or(|memory| memory.bytes < *bytes) {
                // given back once nothing that waits names it
                *memory = None;
                *memory = Some(device.allocate(*bytes)?);
            }
            *pointer = memory.as_ref().map_or(Pointer::NULL, Allocation::start);
        }
        Ok(pointers)
    }
}

/// Page-locked memory of the host. From its start on it is the device's as far as copies of it may be under
/// way; what is behind is the host's.
pub(super) struct Pinned {
    device: Arc<Device>,
    start: NonNull<u8>,
    bytes: usize,
    /// Bytes from the start that copies may be reading or writing.
    under_way: usize,
    /// Behind the last copy.
    over: Event,
}

// SAFETY: plain memory that this alone points to, and an event.
unsafe impl Send for Pinned {}

impl Pinned {
    /// So many bytes.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Self, DeviceError> {
        let doing = failed("page-locking memory of the host");
        let over = Event::new(device)?;
        device.bind().map_err(&doing)?;
        // SAFETY: asks for memory, which is freed once, when this is dropped.
        let start = unsafe { result::malloc_host(bytes, 0) }.map_err(&doing)?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| DeviceError::Failed {
            doing: "page-locking memory of the host",
            why: "the driver gave none".into(),
        })?;
        // SAFETY: the memory was given just now and holds as many bytes; slices of it may be made from here on.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Self {
            device: device.clone(),
            start,
            bytes,
            under_way: 0,
            over,
        })
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes that are the host's.
    pub fn free(&mut self) -> &mut [u8] {
        // SAFETY: the bytes from `under_way` on are initialised, no copy reads or writes them, and nothing else
        // points to them while this is borrowed.
        unsafe {
            let start = self.start.add(self.under_way);
            std::slice::from_raw_parts_mut(start.as_ptr(), self.bytes - self.under_way)
        }
    }

    /// The next bytes that are the host's become the device's.
    fn give(&mut self, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.bytes - self.under_way, "more than is pinned");
        // SAFETY: within the allocation, as just asserted.
        let place = unsafe { self.start.add(self.under_way) };
        self.under_way += bytes;
        place.as_ptr()
    }

    /// Copies the first bytes of [`Pinned::free`] to the device, behind what the stream has.
    ///
    /// The caller owns an allocation that holds `to..to + bytes`.
    pub fn send(&mut self, bound: &Bound<'_>, to: u64, bytes: usize) -> Result<(), DeviceError> {
        let from = self.give(bytes);
        // SAFETY: as many initialised bytes, which nobody writes until `settle` has waited for the event.
        let from = unsafe { std::slice::from_raw_parts(from, bytes) };
        // SAFETY: as above, and the caller owns what is written; both stay until the copy is over: device
        // memory is freed behind it on the stream, and dropping this waits.
        let copied = unsafe { result::memcpy_htod_async(to, from, bound.stream()) };
        let marked = self.over.mark(bound);
        copied.map_err(failed("copying to the device")).and(marked)
    }

    /// Copies bytes from the device to the first of [`Pinned::free`], behind what the stream has. They are there
    /// after [`Pinned::settle`].
    ///
    /// The caller owns an allocation that holds `from..from + bytes`.
    pub fn fetch(&mut self, bound: &Bound<'_>, from: u64, bytes: usize) -> Result<(), DeviceError> {
        let to = self.give(bytes);
        // SAFETY: as many bytes, which nobody looks at until `settle` has waited for the event.
        let to = unsafe { std::slice::from_raw_parts_mut(to, bytes) };
        // SAFETY: as in `send`, the other way.
        let copied = unsafe { result::memcpy_dtoh_async(to, from, bound.stream()) };
        let marked = self.over.mark(bound);
        copied
            .map_err(failed("copying from the device"))
            .and(marked)
    }

    /// Waits until no copy is under way: all of it is the host's.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: what went wrong on the device before the copies were over.
    pub fn settle(&mut self) -> Result<(), DeviceError> {
        if self.under_way > 0 {
            self.over.wait()?;
            self.under_way = 0;
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // a device that has failed copies nothing any more
        let _ = self.settle();
        let _ = self.device.bind();
        // SAFETY: given by `new`, freed once; no copy is under way.
        let _ = unsafe { result::free_host(self.start.as_ptr().cast()) };
    }
}

/// Bytes of each of the two pieces that uploads go through, at least and at most.
const LEAST_PIECE: usize = 1 << 20;
pub(super) const MOST_PIECE: usize = 32 << 20;
/// Most bytes that are read before the host looks at them.
const MOST_READ: usize = 64 << 20;

/// What goes between the host and one device outside of passes' tables: page-locked memory, kept.
pub(super) struct Transfers {
    device: Arc<Device>,
    up: Mutex<Up>,
    down: Mutex<Vec<Pinned>>,
}

/// Two pieces, filled in turn: each again only when its copies are over.
#[derive(Default)]
struct Up {
    pieces: [Option<Pinned>; 2],
    turn: usize,
}

impl Transfers {
    /// Nothing is page-locked before it is needed.
    pub fn new(device: &Arc<Device>) -> Self {
        Self {
            device: device.clone(),
            up: Mutex::new(Up::default()),
            down: Mutex::new(Vec::new()),
        }
    }

    /// Copies bytes to the device, behind what the stream has; they may change when this returns.
    ///
    /// The caller owns an allocation that holds `to..to + bytes.len()`.
    pub fn write(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.write_rows(to, 1, bytes.len(), LEAST_PIECE, &mut |rows, out| {
            out.copy_from_slice(&bytes[rows]);
        })
    }

    /// The same of rows of so many bytes, whose bytes are made where they are copied from; pieces have at least
    /// `piece` bytes, as far as there may be so many.
    pub fn write_rows(
        &self,
        to: u64,
        row: usize,
        rows: usize,
        piece: usize,
        make: &mut dyn FnMut(std::ops::Range<usize>, &mut [u8]),
    ) -> Result<(), DeviceError> {
        let bound = self.device.bind();
        let bound = bound.map_err(failed("copying to the device"))?;
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = 0;
        while first < rows {
            let room = up.room(&self.device, row, row * (rows - first), piece)?;
            let count = (room.free().len() / row).min(rows - first);
            make(first..first + count, &mut room.free()[..count * row]);
            room.send(&bound, to + (first * row) as u64, count * row)?;
            first += count;
        }
        Ok(())
    }

    /// Page-locked memory of at least so many bytes, all of them the host's.
    pub fn landing(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        let mut kept = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let large_enough = kept.iter().position(|pinned| pinned.bytes() >= bytes);
        match large_enough {
            Some(i) => Ok(kept.swap_remove(i)),
            None => {
                // the smaller ones have had their time
                kept.clear();
                Pinned::new(&self.device, bytes.next_power_of_two().max(LEAST_PIECE))
            }
        }
    }

    /// Keeps what was taken by [`Transfers::landing`] for the next who asks.
    pub fn keep(&self, landing: Pinned) {
        let mut kept = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(landing);
    }

    /// Bytes from places on the device, one after the other, when everything that the stream has is done.
    ///
    /// The caller owns the allocations.
    pub fn read(&self, places: &[(u64, usize)]) -> Result<Vec<u8>, DeviceError> {
        let bound = self.device.bind();
        let bound = bound.map_err(failed("copying from the device"))?;
        let mut read = Vec::with_capacity(places.iter().map(|(_, bytes)| bytes).sum());
        let parts = places.iter().flat_map(|(from, bytes)| {
            let starts = (0..*bytes).step_by(MOST_READ);
            starts.map(move |at| (from + at as u64, MOST_READ.min(bytes - at)))
        });
        let mut parts = parts.peekable();
        let rest = |read: &Vec<u8>| (read.capacity() - read.len()).min(MOST_READ);
        let mut landing = self.landing(rest(&read))?;
        while parts.peek().is_some() {
            let mut bytes = 0;
            while let Some((from, count)) = parts.next_if(|(_, b)| bytes + b <= landing.bytes()) {
                landing.fetch(&bound, from, count)?;
                bytes += count;
            }
            landing.settle()?;
            read.extend_from_slice(&landing.free()[..bytes]);
        }
        self.keep(landing);
        Ok(read)
    }
}

impl Up {
    /// A piece that has room for so many bytes at its end, or for a row where they are too many.
    fn room(
        &mut self,
        device: &Arc<Device>,
        row: usize,
        bytes: usize,
        piece: usize,
    ) -> Result<&mut Pinned, DeviceError> {
        // what fits a piece whole is not cut
        let needed = if bytes > MOST_PIECE { row } else { bytes };
        let there = self.pieces[self.turn].as_mut();
        if there.is_none_or(|pinned| pinned.free().len() < needed) {
            self.turn = 1 - self.turn;
            let wanted = piece.max(bytes.min(MOST_PIECE)).max(row);
            let next = &mut self.pieces[self.turn];
            match next {
                Some(pinned) if pinned.bytes() >= wanted => pinned.settle()?,
                _ => *next = Some(Pinned::new(device, wanted.next_power_of_two())?),
            }
        }
        match &mut self.pieces[self.turn] {
            Some(pinned) => Ok(pinned),
            None => unreachable!("made above"),
        }
    }
}
