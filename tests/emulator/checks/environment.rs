//! Settings in the environment, each in a process of its own; and what emulation costs.

use super::*;
use std::process::Command;
use std::time::Instant;

/// Runs one of the ignored tests below with these variables.
fn in_a_process(test: &str, variables: &[(&str, &str)]) {
    drop(driver()); // built before others ask
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--ignored", &format!("environment::{test}")])
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn library() -> Driver {
    emulator::load(&emulator::library_of(&planted_folder()))
}

#[test]
fn a_driver_without_a_device_says_so() {
    in_a_process(
        "child_without_a_device",
        &[("HEADLIGHT_EMULATOR_DEVICES", "0")],
    );
}

#[test]
#[ignore = "started by a_driver_without_a_device_says_so"]
fn child_without_a_device() {
    assert_eq!(library().init(), 100);
}

#[test]
fn a_driver_can_fail_at_initialisation() {
    in_a_process(
        "child_fails_at_initialisation",
        &[("HEADLIGHT_EMULATOR_INIT", "803")],
    );
}

#[test]
#[ignore = "started by a_driver_can_fail_at_initialisation"]
fn child_fails_at_initialisation() {
    assert_eq!(library().init(), 803);
}

#[test]
fn version_capability_and_memory_are_settings() {
    let variables = [
        ("HEADLIGHT_EMULATOR_DRIVER", "12040"),
        ("HEADLIGHT_EMULATOR_CAPABILITY", "70"),
        ("HEADLIGHT_EMULATOR_MEMORY", "1000000"),
    ];
    in_a_process("child_with_settings", &variables);
}

#[test]
#[ignore = "started by version_capability_and_memory_are_settings"]
fn child_with_settings() {
    let driver = library();
    assert_eq!(driver.init(), 0);
    assert_eq!(driver.device_count(), (0, 1));
    assert_eq!(
        (driver.driver_version(), driver.capability()),
        (12040, (7, 0))
    );
    let context = driver.context();
    let first = context.allocate(900_000).unwrap();
    assert_eq!(context.allocate(100_001), Err(OUT_OF_MEMORY));
    context.free(first);
    let second = context.allocate(1_000_000).unwrap();
    context.free(second);
    drop(context);
    assert_eq!(driver.reports(), "");
}

#[test]
fn every_kernel_of_the_project_is_found_by_its_name() {
    in_a_process("child_with_the_projects_kernels", &[]);
}

#[test]
#[ignore = "started by every_kernel_of_the_project_is_found_by_its_name"]
fn child_with_the_projects_kernels() {
    let driver = emulator::load(&emulator::library());
    assert_eq!(driver.init(), 0);
    let context = driver.context();
    let mut found = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            for (name, _) in emulator::kernels_in(&std::fs::read_to_string(&path).unwrap()) {
                assert!(
                    context.function(&name).is_ok(),
                    "{name} of {}",
                    path.display()
                );
                found += 1;
            }
        }
    }
    assert!(found >= 20, "{found} kernels");
}

#[test]
#[ignore = "a measurement: cargo test --test emulator -- --ignored --nocapture costs"]
fn costs_of_what_is_emulated() {
    let (_, _alone) = driver();
    with_costs();
}

fn with_costs() {
    let driver = library();
    let context = driver.context();
    let (input, output) = (
        context.upload(&numbers(256)),
        context.allocate(1024).unwrap(),
    );
    let time = |kernel: &str, rounds: u32, per_round: u32, what: &str| {
        let mut arguments = vec![Pointer(output), U32(rounds)];
        if kernel == "work_plain" || kernel == "work_vectors" {
            arguments.insert(0, Pointer(input));
        }
        let began = Instant::now();
        assert_eq!(context.launch(kernel, 1, 256, 0, &arguments), 0);
        let nanoseconds = began.elapsed().as_nanos() as f64;
        println!(
            "{:6.2} ns {what}",
            nanoseconds / (256.0 * f64::from(rounds * per_round))
        );
    };
    time(
        "work_plain",
        20_000,
        2,
        "a checked read of 4 bytes, shared or global, and half a fmaf",
    );
    time("work_vectors", 20_000, 1, "a checked read of 16 bytes");
    time("work_barriers", 5_000, 1, "a thread and barrier");
    time("work_shuffles", 5_000, 1, "a lane and shuffle");
    time(
        "work_mma",
        5_000,
        1,
        "a lane and mma of 16 × 8 × 16 (32 lanes: 2,048 multiply-adds)",
    );
    context.free(input);
    context.free(output);
}
