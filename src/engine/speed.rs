//! How fast a device is, as far as a tenth of a second tells: by it plans predict time.

use super::{Engine, Task};
use crate::backend::Backend;
use crate::bench::operations::{Case, Workload};
use crate::bench::{Repeats, median, wall_clock};
use crate::error::Error;

impl Engine {
    /// Floating-point operations a second in the model's largest linear layers, over as many rows as chunks have:
    /// measured, in a fraction of a second.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] of a GPU that fails.
    pub fn speed(&self) -> Result<f64, Error> {
        struct Timing(Workload);
        impl Task for Timing {
            type Output = f64;

            fn run<B: Backend>(self, backend: &B, _: u64) -> Result<f64, Error> {
                let case = Case {
                    operation: self.0,
                    rows: 256,
                };
                let repeats = Repeats {
                    least: 3,
                    seconds: 0.1,
                    most: 100,
                };
                let mut run = case.prepare(backend);
                let seconds = median(repeats, || wall_clock(&mut run))?;
                Ok(case.flops(backend.config()) / seconds)
            }
        }
        // of a device only what comes back has been waited for
        self.on_device(Timing(match self.device.is_gpu() {
            true => Workload::Readout,
            false => Workload::MlpPre,
        }))
    }
}
