//! Time on the device: what passes between two points of its stream.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::event;
use cudarc::driver::sys;

use super::device::{Allocation, Device, failed};
use crate::backend::DeviceError;

/// Times launches by the device's own clock.
///
/// The start is marked behind whatever launches need to have on the device first, so that no copy of a
/// table is timed. Before it, memory may be cleared that takes the place of everything else in the
/// second-level cache; while that lasts, the host puts the launches on the stream, so that none of the
/// time measured is spent waiting for it.
pub struct Timer {
    device: Arc<Device>,
    events: [sys::CUevent; 2],
    /// What is cleared before the start.
    clear: Option<Allocation>,
    seconds: Mutex<f64>,
}

// SAFETY: events, like all of the driver's handles, may be used from any thread that has made their
// context current, which `Device::bind` does before each use.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// A timer of one device; `cold` if launches are to find nothing of theirs in its cache.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver.
    pub fn new(device: &Arc<Device>, cold: bool) -> Result<Self, DeviceError> {
        let doing = failed("creating an event");
        device.bind().map_err(&doing)?;
        let clear = cold.then(|| device.allocate(2 * device.cache_bytes));
        let clear = clear.transpose()?;
        let create = || event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(&doing);
        let events = [create()?, create()?];
        Ok(Self {
            device: device.clone(),
            events,
            clear,
            seconds: Mutex::new(0.0),
        })
    }

    /// Times what `launch` puts on the stream, and waits for it.
    pub(super) fn around(
        &self,
        launch: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        if let Some(memory) = &self.clear {
            self.device.zero(memory.pointer, memory.bytes)?;
        }
        self.mark(0)?;
        launch()?;
        self.mark(1)?;
        self.device.wait()?;
        // SAFETY: both events were recorded on one stream, which has been waited for.
        let milliseconds = unsafe { event::elapsed(self.events[0], self.events[1]) };
        let milliseconds = milliseconds.map_err(failed("timing"))?;
        *self.seconds.lock().unwrap_or_else(PoisonError::into_inner) +=
            f64::from(milliseconds) / 1e3;
        Ok(())
    }

    fn mark(&self, which: usize) -> Result<(), DeviceError> {
        let doing = failed("recording an event");
        self.device.bind().map_err(&doing)?;
        // SAFETY: the event and the stream are alive: the one is ours, the other the device's.
        unsafe { event::record(self.events[which], self.device.stream()) }.map_err(&doing)
    }

    /// Seconds timed since this was asked last.
    pub(super) fn take(&self) -> f64 {
        std::mem::take(&mut *self.seconds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // a driver that fails here cannot be helped
        let _ = self.device.bind();
        for event in self.events {
            // SAFETY: created by `new`, destroyed once.
            let _ = unsafe { event::destroy(event) };
        }
    }
}
