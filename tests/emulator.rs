//! The emulated CUDA driver, tested with planted bugs: each must be reported under each of 20
//! schedules, at its source line, and its corrected twin must run clean under the same 20.
//!
//! `HEADLIGHT_EMULATOR_SCHEDULES` asks for more schedules.

#![cfg(feature = "cuda")]

#[path = "emulator/mod.rs"]
mod emulator;

#[path = "emulator/checks/environment.rs"]
mod environment;
#[path = "emulator/checks/kernels.rs"]
mod kernels;
#[path = "emulator/checks/launches.rs"]
mod launches;
#[path = "emulator/checks/primitives.rs"]
mod primitives;
#[path = "emulator/checks/programs.rs"]
mod programs;

use emulator::direct::{Argument, Context, Driver, NOT_FOUND, NOT_READY, OUT_OF_MEMORY};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use Argument::{F32, Pointer, U32, View};

fn planted_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator/planted")
}

/// The driver with the planted kernels. Reports and the context are the process's: one test at a time.
fn driver() -> (Driver, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = DRIVER.get_or_init(|| {
        let driver = emulator::load(&emulator::library_of(&planted_folder()));
        assert_eq!(driver.init(), 0);
        driver.quiet(true);
        driver
    });
    driver.reset();
    (*driver, alone)
}

fn schedules() -> u64 {
    std::env::var("HEADLIGHT_EMULATOR_SCHEDULES").map_or(20, |n| n.parse().unwrap())
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 + 0.5).collect()
}

/// `file.cu:line` of the line that a comment marks as the one to be reported.
fn planted_line(name: &str) -> String {
    let mark = format!("// planted: {name}");
    for entry in std::fs::read_dir(planted_folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Some(line) = text.lines().position(|line| line.ends_with(&mark)) {
            return format!(
                "{}:{}",
                path.file_name().unwrap().to_str().unwrap(),
                line + 1
            );
        }
    }
    panic!("no line is marked `{mark}`");
}

/// One way to run a kernel of 64 inputs: buffers, launch, and what comes back.
struct Form {
    grid: u32,
    block: u32,
    shared: u32,
    outputs: usize,
    count: Option<u32>,
    filled: bool,
}

const BLOCK_OF_64: Form = Form {
    grid: 1,
    block: 64,
    shared: 0,
    outputs: 64,
    count: None,
    filled: false,
};
const COUNTED: Form = Form {
    count: Some(64),
    ..BLOCK_OF_64
};
const FOUR_BLOCKS: Form = Form {
    grid: 4,
    block: 32,
    outputs: 128,
    filled: true,
    ..BLOCK_OF_64
};

impl Form {
    /// The output, or the error of the driver; whatever was reported.
    fn run(&self, driver: &Driver, kernel: &str, seed: u64) -> (Result<Vec<f32>, i32>, String) {
        driver.reset();
        driver.seed(seed);
        let context = driver.context();
        let input = context.upload(&numbers(64));
        let output = context.allocate(self.outputs * 4).unwrap();
        if self.filled {
            context.write(output, &vec![0f32; self.outputs]);
        }
        let mut arguments = vec![Pointer(input), Pointer(output)];
        arguments.extend(self.count.map(U32));
        let launched = context.launch(kernel, self.grid, self.block, self.shared, &arguments);
        assert_eq!(launched, 0, "{}", driver.reports());
        let values = match context.synchronise() {
            0 => context.download(output, self.outputs),
            error => Err(error),
        };
        context.free(input);
        context.free(output);
        drop(context);
        (values, driver.reports())
    }
}

/// The planted kernel is reported as `kind` (one of several, where the schedule decides which of two
/// accesses comes to grief) at its marked line under every schedule; its twin is not.
fn is_reported(name: &str, kind: &str, form: &Form) {
    let (driver, _alone) = driver();
    let line = planted_line(name);
    for seed in 0..schedules() {
        let (values, reports) = form.run(&driver, &format!("{name}_correct"), seed);
        assert_eq!(reports, "", "the correct kernel, schedule {seed}");
        assert!(values.is_ok());
        let (values, reports) = form.run(&driver, &format!("{name}_planted"), seed);
        let named = kind.split(" | ").any(|kind| reports.starts_with(kind));
        assert!(named, "schedule {seed}: {kind} expected, not {reports:?}");
        assert!(
            reports.contains(&line),
            "schedule {seed}: {line} is not named in {reports}"
        );
        assert!(values.is_err(), "an error stays with the context");
    }
}
