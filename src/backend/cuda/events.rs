//! Time on the device: what passes between two points of its stream.

use cudarc::driver::result::event;
use cudarc::driver::sys;

use super::device::{Device, failed};
use crate::backend::DeviceError;

/// Two points of a stream.
pub struct Stopwatch<'a> {
    device: &'a Device,
    events: [sys::CUevent; 2],
}

impl<'a> Stopwatch<'a> {
    /// A stopwatch of one device.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver.
    pub fn new(device: &'a Device) -> Result<Self, DeviceError> {
        let create = || {
            event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(failed("creating an event"))
        };
        let events = [create()?, create()?];
        Ok(Self { device, events })
    }

    /// Marks the start (0) or the end (1).
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver.
    pub fn mark(&self, which: usize) -> Result<(), DeviceError> {
        // SAFETY: the event and the stream are alive: the one is ours, the other the device's.
        unsafe { event::record(self.events[which], self.device.stream()) }
            .map_err(failed("recording an event"))
    }

    /// Seconds between the marks, once the stream has passed both.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the driver, or of a kernel between the marks.
    pub fn seconds(&self) -> Result<f64, DeviceError> {
        self.device.wait()?;
        // SAFETY: both events were recorded on one stream, which has been waited for.
        let milliseconds = unsafe { event::elapsed(self.events[0], self.events[1]) };
        Ok(f64::from(milliseconds.map_err(failed("timing"))?) / 1e3)
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        for event in self.events {
            // SAFETY: created by `new`, destroyed once; a driver that fails here cannot be helped.
            let _ = unsafe { event::destroy(event) };
        }
    }
}
