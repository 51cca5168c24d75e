//! The CUDA backend against the CPU in double precision: every kernel and whole sweeps, on a GPU
//! where there is one and on the emulated driver everywhere else.

#[path = "common/mod.rs"]
mod common;
#[path = "emulator/mod.rs"]
mod emulator;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use common::model::ModelSpec;
use headlight::backend::Precision;
use headlight::backend::cpu::Cpu;
use headlight::backend::cuda::{Cuda, Device};
use headlight::verify::{Comparison, Gates, operations, runs};

/// The device, which one test has at a time: the emulated one reports errors for all.
struct Gpu {
    device: Arc<Device>,
    _one: MutexGuard<'static, ()>,
    start: Instant,
}

fn gpu() -> Gpu {
    static ONE: Mutex<()> = Mutex::new(());
    static DRIVER: OnceLock<Option<emulator::direct::Driver>> = OnceLock::new();
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    DRIVER.get_or_init(|| {
        let real =
            std::fs::read_dir("/proc/driver/nvidia/gpus").is_ok_and(|mut d| d.next().is_some());
        (!real).then(|| emulator::load(&emulator::library()))
    });
    Gpu {
        device: Device::open(0).unwrap(),
        _one: one,
        start: Instant::now(),
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        eprintln!(
            "{}: {:.1} s",
            self.device.name,
            self.start.elapsed().as_secs_f64()
        );
    }
}

fn assert_within_gates(comparisons: &[Comparison]) {
    let over: Vec<String> = comparisons
        .iter()
        .filter(|c| !c.passes())
        .map(|c| {
            format!(
                "{}: {:.2e}, worst {:.2e}, gate {:.2e}",
                c.what, c.error, c.worst, c.gate
            )
        })
        .collect();
    assert!(
        over.is_empty(),
        "{} of {} over:\n{}",
        over.len(),
        comparisons.len(),
        over.join("\n")
    );
}

fn spec(heads: usize, head_width: usize, inner: usize, vocab: usize) -> ModelSpec {
    ModelSpec {
        layers: 2,
        heads,
        head_width,
        inner,
        vocab,
        activation: "gelu_new",
        tied: true,
        by_layer: false,
        scaled: true,
        dtype: "F32",
        seed: 1,
    }
}

fn operations_agree(spec: &ModelSpec, precision: Precision) {
    let gpu = gpu();
    let model = spec.open();
    let cuda = Cuda::new(gpu.device.clone(), &model, precision, &mut |_| ()).unwrap();
    let reference = Cpu::<f64>::rounded(&model, precision);
    let comparisons = operations(&reference, &cuda, Gates::of(precision), 7).unwrap();
    assert_within_gates(&comparisons);
}

fn runs_agree(spec: &ModelSpec, precision: Precision) {
    let gpu = gpu();
    let model = spec.open();
    let cuda = Cuda::new(gpu.device.clone(), &model, precision, &mut |_| ()).unwrap();
    let reference = Cpu::<f64>::rounded(&model, precision);
    let stop = AtomicBool::new(false);
    let gates = Gates::of(precision);
    let comparisons = runs(&reference, &cuda, gates, 7, 1 << 30, &stop).unwrap();
    assert_within_gates(&comparisons);
}

#[test]
fn operations_with_heads_of_64_agree_in_f32() {
    operations_agree(&spec(2, 64, 256, 600), Precision::F32);
}

#[test]
fn whole_runs_agree_in_f32() {
    runs_agree(&spec(2, 16, 64, 100), Precision::F32);
}
