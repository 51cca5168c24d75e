//! The GPU that a test compares with the CPU: this machine's, or the emulated one.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use headlight::backend::Precision;
use headlight::backend::cuda::{Cuda, Device};
use headlight::model::Checkpoint;

use super::direct;

/// The device, which one test has at a time: what the emulated one reports is for all.
pub struct Gpu {
    /// The device.
    pub device: Arc<Device>,
    emulated: Option<direct::Driver>,
    start: Instant,
    _one: MutexGuard<'static, ()>,
}

/// The GPU of this machine, or the emulated one.
pub fn gpu() -> Gpu {
    static ONE: Mutex<()> = Mutex::new(());
    static DRIVER: OnceLock<Option<direct::Driver>> = OnceLock::new();
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let emulated = *DRIVER.get_or_init(|| {
        let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus");
        // kernels of another folder are only for the emulated driver
        let ours = std::env::var_os("HEADLIGHT_EMULATOR_KERNELS").is_none();
        let real = ours && gpus.is_ok_and(|mut gpus| gpus.next().is_some());
        (!real).then(|| super::load(&super::library()))
    });
    if let Some(driver) = emulated {
        driver.reset();
    }
    Gpu {
        device: Device::open(0).unwrap(),
        emulated,
        start: Instant::now(),
        _one: one,
    }
}

impl Gpu {
    /// A backend on it.
    pub fn cuda(&self, model: &Checkpoint, precision: Precision) -> Cuda {
        Cuda::new(self.device.clone(), model, precision, &mut |_| ()).unwrap()
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let test = std::thread::current().name().unwrap_or("").to_owned();
        let seconds = self.start.elapsed().as_secs_f64();
        // past the test harness, which shows only what failing tests print
        let _ = writeln!(
            std::io::stderr(),
            "{test}: {seconds:.1} s on {}",
            self.device.name
        );
        if let (Some(driver), false) = (self.emulated, std::thread::panicking()) {
            assert_eq!(driver.reports(), "");
        }
    }
}
