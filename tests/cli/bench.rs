//! `bench` on a device: the limits that it measures are of kernels that calculate what they should, and
//! the program runs and prints all that it says. Numbers mean nothing on the emulated driver, so none
//! is looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::emulator;
use crate::lab::{self, Lab, Said};
use headlight::backend::cuda::events::Timer;
use headlight::backend::cuda::limits::{Effort, Limit};
use headlight::backend::cuda::{Cuda, Device};
use headlight::backend::{Backend, DeviceError, Precision};
use headlight::bench::operations::{Case, Workload, cases};
use headlight::model::Checkpoint;

/// Runs `bench` with the emulated driver on a small model.
fn bench(args: &[&str]) -> Said {
    let library = emulator::library();
    let lab = Lab::new();
    let model = lab::fixture("tied");
    let all = [&["--model", &model, "bench", "--quick"], args].concat();
    let mut command = lab.command(&all);
    command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    command.env("HEADLIGHT_EMULATOR_DRIVER", "99000");
    let start = Instant::now();
    let output = command.output().unwrap();
    eprintln!("{args:?}: {:.1} s", start.elapsed().as_secs_f64());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    let said = Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    };
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

/// The line of an operation: its words, and the numbers among them.
fn line<'a>(said: &'a Said, operation: &str) -> (&'a str, Vec<f64>) {
    let mut lines = said.out.lines();
    let line = lines.find(|line| line.starts_with(operation));
    let line = line.unwrap_or_else(|| panic!("no {operation} in {said:?}"));
    // shapes end where the columns begin
    let columns = line.chars().skip(46).collect::<String>();
    let words = columns.split_whitespace();
    let numbers = words.filter_map(|word| word.trim_end_matches('%').parse().ok());
    (line, numbers.collect())
}

/// Gives the device to one test at a time, and fails with what it reports.
fn on_the_device(test: impl FnOnce(&Arc<Device>)) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = emulator::load(&emulator::library());
    driver.reset();
    let device = Device::open(0).unwrap();
    test(&device);
    drop(device);
    assert_eq!(driver.reports(), "");
}

#[test]
fn limits_are_of_kernels_that_calculate_what_they_should() {
    // a launch that takes no time at all is long enough
    let effort = Effort {
        seconds: 0.0,
        launches: 2,
    };
    on_the_device(|device| {
        for limit in Limit::ALL {
            let measured = limit.measure(device, effort).unwrap();
            let expected = limit.expected(&measured.load);
            assert!(
                measured.rate > 0.0 && measured.rate.is_finite(),
                "{limit:?}"
            );
            assert_eq!(measured.result.len(), expected.len(), "{limit:?}");
            for (i, (is, should)) in measured.result.iter().zip(&expected).enumerate() {
                let near = (is - should).abs() <= 1e-5 * should.abs();
                assert!(near, "{limit:?}, {i}: {is} for {should}");
            }
        }
    });
}

/// With the cache flushed, which the program's quick runs leave out, and one after the other as in a
/// bench: what one leaves behind is not in another's time, nor in its way.
#[test]
fn operations_are_timed_with_the_cache_flushed() {
    let model = Checkpoint::resolve(&lab::fixture("tied")).unwrap();
    on_the_device(|device| {
        let cuda = Cuda::new(device.clone(), &model, Precision::F32, &mut |_| ()).unwrap();
        let timer = Arc::new(Timer::new(device, true).unwrap());
        for case in cases(3, 2) {
            let mut run = case.prepare(&cuda);
            let before = cuda.executed_flops();
            let seconds = cuda.time(&timer, &mut run).unwrap();
            assert!(seconds > 0.0 && seconds < 1.0, "{case:?}: {seconds}");
            // what was executed is what the rate is calculated from
            let executed = (cuda.executed_flops() - before) as f64;
            assert_eq!(executed, case.flops(&model.config), "{case:?}");
            // two of them in one time
            let twice = cuda.time(&timer, || run().and_then(|()| run())).unwrap();
            assert!(twice > 0.0, "{case:?}");
        }
        // nothing is timed where nothing runs, and a failure is told once
        assert_eq!(cuda.time(&timer, || Ok(())).unwrap(), 0.0);
        let much = Case {
            operation: Workload::Gather,
            rows: 1 << 25,
        };
        let full = cuda.time(&timer, || much.prepare(&cuda)());
        assert!(
            matches!(full, Err(DeviceError::OutOfMemory { .. })),
            "{full:?}"
        );
        assert_eq!(cuda.time(&timer, || Ok(())).unwrap(), 0.0);
    });
}

#[test]
fn kernels_are_timed_beside_their_limits() {
    for (precision, variant) in [("f32", "ffma"), ("tf32", "tf32"), ("bf16", "bf16")] {
        let said = bench(&["kernels", "--precision", precision]);
        for what in ["copy ", "ffma ", "mma tf32 ", "mma bf16 ", "mma f16 "] {
            let first = said.out.lines().next().unwrap();
            assert!(first.contains(what), "{said:?}");
        }
        assert!(
            said.out.contains(&format!("precision {precision};")),
            "{said:?}"
        );
        let kernel = format!("{variant} small");
        for (operation, kernel) in [
            ("linear c_attn third, 16 × 32 → 32 ", &*kernel),
            ("linear c_fc, activation, 16 × 32 → 128 ", &*kernel),
            (
                "linear MLP c_proj, residual, 16 × 128 → 32 ",
                if precision == "f32" {
                    "split small"
                } else {
                    &*kernel
                },
            ),
            ("readout, 16 × 32 → 97 ", &*kernel),
            ("attention, 2 prompts of 15 ", ""),
            ("layer norm, 16 × 32 ", "copy"),
            ("gather, 16 × 32 ", "copy"),
            ("overwrite, 16 × 16 ", "copy"),
        ] {
            let (line, numbers) = line(&said, operation);
            assert!(numbers.iter().all(|x| *x >= 0.0), "{line}");
            // time, bytes and share, and where there is something to calculate its rate
            assert!(numbers.len() >= 3 && numbers[0] > 0.0, "{line}");
            assert!(line.contains('%') && line.contains(kernel), "{line}");
        }
        assert!(!said.out.contains("no room"), "{said:?}");
    }
}

#[test]
fn sweeps_are_timed_and_execute_what_was_planned() {
    for precision in ["f32", "f16"] {
        let said = bench(&["sweep", "--precision", precision]);
        let (line, numbers) = line(&said, "5 tokens");
        // runs/s, GFLOP/s, planned before and after the clean runs, executed
        let [.., rate, _, before, planned, executed] = numbers[..] else {
            panic!("{line}");
        };
        assert!(rate > 0.0, "{line}");
        assert!(
            before >= planned && planned == executed && executed > 0.0,
            "{line}"
        );
    }
}
