//! Points of the device's stream: what the host waits for, and what launches are timed between.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{DriverError, event};
use cudarc::driver::sys;

use super::device::{Bound, Device, failed};
use super::memory::Allocation;
use crate::backend::DeviceError;

/// A point of the stream, behind all that the stream had when it was marked last.
pub(super) struct Event {
    device: Arc<Device>,
    event: sys::CUevent,
}

// SAFETY: events, like all of the driver's handles, may be used from any thread that has made their
// context current, which `Device::bind` does before each use.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event to wait for. Who waits sleeps: the processor has chunks to plan.
    pub fn new(device: &Arc<Device>) -> Result<Self, DeviceError> {
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        let asleep = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32;
        Self::create(device, untimed | asleep)
    }

    /// An event that remembers its time.
    fn timed(device: &Arc<Device>) -> Result<Self, DeviceError> {
        Self::create(device, sys::CUevent_flags::CU_EVENT_DEFAULT as u32)
    }

    fn create(device: &Arc<Device>, flags: u32) -> Result<Self, DeviceError> {
        let doing = failed("creating an event");
        device.bind().map_err(&doing)?;
        let mut event = std::ptr::null_mut();
        // SAFETY: writes a handle into the one that it is given; flags are the driver's own.
        let made = unsafe { sys::cuEventCreate(&mut event, flags) };
        made.result().map_err(doing)?;
        Ok(Self {
            device: device.clone(),
            event,
        })
    }

    /// Marks it behind what the stream has.
    pub fn mark(&self, bound: &Bound<'_>) -> Result<(), DeviceError> {
        // SAFETY: the event and the stream are alive: the one is ours, the other the device's.
        let marked = unsafe { event::record(self.event, bound.stream()) };
        marked.map_err(failed("recording an event"))
    }

    /// Waits for what it stands behind, if that is not over already.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: what went wrong on the device since it was asked last.
    pub fn wait(&self) -> Result<(), DeviceError> {
        let doing = failed("running kernels");
        self.device.bind().map_err(&doing)?;
        // SAFETY: the event is ours.
        let over = unsafe { event::query(self.event) };
        match over {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => {
                // SAFETY: as above.
                unsafe { event::synchronize(self.event) }.map_err(doing)
            }
            over => over.map_err(doing),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // a driver that fails here cannot be helped
        let _ = self.device.bind();
        // SAFETY: created by `create`, destroyed once.
        let _ = unsafe { event::destroy(self.event) };
    }
}

/// Times launches by the device's own clock.
///
/// The start is marked behind whatever launches need to have on the device first, so that no copy of a
/// table is timed. Before it, memory may be cleared that takes the place of everything else in the
/// second-level cache; while that lasts, the host puts the launches on the stream, so that none of the
/// time measured is spent waiting for it.
pub struct Timer {
    device: Arc<Device>,
    events: [Event; 2],
    /// What is cleared before the start.
    clear: Option<Allocation>,
    seconds: Mutex<f64>,
}

impl Timer {
    /// A timer of one device; `cold` if launches are to find nothing of theirs in its cache.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver.
    pub fn new(device: &Arc<Device>, cold: bool) -> Result<Self, DeviceError> {
        let clear = cold.then(|| device.allocate(2 * device.cache_bytes));
        Ok(Self {
            device: device.clone(),
            events: [Event::timed(device)?, Event::timed(device)?],
            clear: clear.transpose()?,
            seconds: Mutex::new(0.0),
        })
    }

    /// Times what `launch` puts on the stream, and waits for it.
    pub(super) fn around(
        &self,
        bound: &Bound<'_>,
        launch: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        if let Some(memory) = &self.clear {
            bound.zero(memory.pointer, memory.bytes)?;
        }
        self.events[0].mark(bound)?;
        launch()?;
        self.events[1].mark(bound)?;
        self.device.wait()?;
        let [start, end] = &self.events;
        // SAFETY: both events were recorded on one stream, which has been waited for.
        let milliseconds = unsafe { event::elapsed(start.event, end.event) };
        let milliseconds = milliseconds.map_err(failed("timing"))?;
        *self.seconds.lock().unwrap_or_else(PoisonError::into_inner) +=
            f64::from(milliseconds) / 1e3;
        Ok(())
    }

    /// Seconds timed since this was asked last.
    pub(super) fn take(&self) -> f64 {
        std::mem::take(&mut *self.seconds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
