//! The emulated CUDA driver, tested with planted bugs: each must be reported under each of 20
//! schedules, at its source line, and its corrected twin must run clean under the same 20.
//!
//! `HEADLIGHT_EMULATOR_SCHEDULES` asks for more schedules.

#[path = "emulator/mod.rs"]
mod emulator;

use emulator::direct::{Argument, Context, Driver, NOT_FOUND, OUT_OF_MEMORY};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

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

// ---- kernels ----------------------------------------------------------------------------------

#[test]
fn a_missing_barrier_is_a_race() {
    is_reported("missing_barrier", "race | uninitialised read", &BLOCK_OF_64);
}

#[test]
fn a_missing_barrier_between_rounds_is_a_race() {
    is_reported("missing_second_barrier", "race", &BLOCK_OF_64);
}

#[test]
fn a_barrier_that_some_threads_pass_by_is_divergent() {
    is_reported("divergent_barrier", "divergent barrier", &BLOCK_OF_64);
}

#[test]
fn two_barriers_are_not_the_same_barrier() {
    is_reported("two_barriers", "divergent barrier", &BLOCK_OF_64);
}

#[test]
fn lanes_of_a_warp_are_not_in_step_by_themselves() {
    is_reported(
        "missing_warp_barrier",
        "race | uninitialised read",
        &BLOCK_OF_64,
    );
}

#[test]
fn a_warp_barrier_does_not_order_two_warps() {
    is_reported(
        "warp_barrier_for_block",
        "race | uninitialised read",
        &BLOCK_OF_64,
    );
}

#[test]
fn half_a_warp_orders_its_own_lanes_only() {
    is_reported(
        "half_warp_barrier",
        "race | uninitialised read",
        &BLOCK_OF_64,
    );
}

#[test]
fn a_shuffle_with_a_lane_missing_from_the_mask_is_reported() {
    is_reported("missing_lane", "warp mask", &BLOCK_OF_64);
}

#[test]
fn a_shuffle_that_names_a_lane_that_returned_is_reported() {
    is_reported("returned_lane", "missing lane", &BLOCK_OF_64);
}

#[test]
fn a_shuffle_that_reads_a_lane_outside_of_its_mask_is_reported() {
    is_reported("outside_mask", "warp mask", &BLOCK_OF_64);
}

#[test]
fn a_read_one_past_a_buffer_is_out_of_bounds() {
    is_reported("off_by_one", "out of bounds", &COUNTED);
}

#[test]
fn a_read_one_past_a_shared_array_is_reported() {
    is_reported("past_shared", "out of bounds", &COUNTED);
}

#[test]
fn a_write_past_dynamic_shared_memory_is_reported() {
    is_reported(
        "past_dynamic",
        "out of bounds",
        &Form {
            shared: 256,
            ..COUNTED
        },
    );
}

#[test]
fn shared_memory_that_nobody_wrote_is_not_read() {
    is_reported("uninitialised_shared", "uninitialised read", &BLOCK_OF_64);
}

#[test]
fn a_vector_access_must_be_aligned() {
    is_reported("misaligned_vector", "misaligned access", &BLOCK_OF_64);
}

#[test]
fn two_blocks_that_write_one_word_race() {
    is_reported("two_writers", "race", &FOUR_BLOCKS);
}

#[test]
fn a_block_that_reads_what_another_writes_races() {
    is_reported("reads_neighbour", "race", &FOUR_BLOCKS);
}

#[test]
fn a_counter_of_several_blocks_must_be_atomic() {
    is_reported("plain_counter", "race", &FOUR_BLOCKS);
}

#[test]
fn a_plain_read_beside_atomics_races() {
    is_reported("read_with_atomics", "race", &FOUR_BLOCKS);
}

#[test]
fn an_asynchronous_copy_without_a_wait_never_arrives() {
    is_reported("missing_wait", "asynchronous copy", &BLOCK_OF_64);
}

#[test]
fn a_copy_that_was_not_committed_is_not_waited_for() {
    is_reported("missing_own_wait", "asynchronous copy", &BLOCK_OF_64);
}

#[test]
fn a_wait_shows_a_thread_only_its_own_copies() {
    is_reported(
        "wait_without_barrier",
        "race | asynchronous copy | uninitialised read",
        &BLOCK_OF_64,
    );
}

#[test]
fn a_wait_one_group_short_is_reported() {
    is_reported("one_wait_short", "asynchronous copy", &BLOCK_OF_64);
}

#[test]
fn a_stage_refilled_while_others_read_it_is_a_race() {
    is_reported("early_refill", "race | asynchronous copy", &BLOCK_OF_64);
}

#[test]
fn a_product_needs_the_whole_warp() {
    is_reported("half_a_warp", "missing lane", &BLOCK_OF_64);
}

#[test]
fn rows_of_matrices_must_be_aligned() {
    is_reported("skewed_rows", "misaligned access", &BLOCK_OF_64);
}

#[test]
fn an_output_that_nobody_wrote_is_reported_when_it_is_copied() {
    let (driver, _alone) = driver();
    for seed in 0..schedules() {
        let (values, reports) = COUNTED.run(&driver, "uninitialised_output_correct", seed);
        assert_eq!((values.unwrap(), reports.as_str()), (numbers(64), ""));
        let (values, reports) = COUNTED.run(&driver, "uninitialised_output_planted", seed);
        assert!(values.is_err());
        assert!(reports.starts_with("uninitialised output"), "{reports}");
        assert!(reports.contains("byte 252 of allocation"), "{reports}");
    }
}

#[test]
fn what_one_kernel_left_unwritten_the_next_may_not_read() {
    let (driver, _alone) = driver();
    let context = driver.context();
    let (input, output) = (context.upload(&numbers(64)), context.allocate(256).unwrap());
    let last = context.allocate(256).unwrap();
    let arguments = [Pointer(input), Pointer(output), U32(64)];
    assert_eq!(
        context.launch("uninitialised_output_planted", 1, 64, 0, &arguments),
        0
    );
    assert_eq!(
        context.launch("copy_words", 1, 64, 0, &[Pointer(output), Pointer(last)]),
        0
    );
    assert_ne!(context.synchronise(), 0);
    assert!(
        driver
            .reports()
            .starts_with("uninitialised read in kernel copy_words")
    );
    assert!(
        driver.reports().contains("launches.cu:"),
        "{}",
        driver.reports()
    );
    for buffer in [input, output, last] {
        context.free(buffer);
    }
}

fn bf16(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

#[test]
fn swapped_fragments_give_another_product() {
    let (driver, _alone) = driver();
    let a: Vec<f32> = (0..256).map(|i| ((i * 37) % 23) as f32 - 11.0).collect();
    let b: Vec<f32> = (0..128).map(|i| ((i * 53) % 19) as f32 - 9.0).collect();
    let reference: Vec<f32> = (0..128)
        .map(|i| (0..16).map(|k| a[i / 8 * 16 + k] * b[i % 8 * 16 + k]).sum())
        .collect();
    let halves = |x: &[f32]| x.iter().map(|&x| bf16(x)).collect::<Vec<u16>>();
    for seed in 0..schedules() {
        driver.seed(seed);
        let context = driver.context();
        let (left, right) = (context.upload(&halves(&a)), context.upload(&halves(&b)));
        let product = |kernel: &str| {
            let out = context.allocate(512).unwrap();
            assert_eq!(
                context.launch(
                    kernel,
                    1,
                    32,
                    0,
                    &[Pointer(left), Pointer(right), Pointer(out)]
                ),
                0
            );
            let values = context.download(out, 128).unwrap();
            context.free(out);
            values
        };
        assert_eq!(product("swapped_fragments_correct"), reference);
        assert_ne!(product("swapped_fragments_planted"), reference);
        context.free(left);
        context.free(right);
        drop(context);
        assert_eq!(driver.reports(), "");
    }
}

#[test]
fn tf32_products_read_19_bits_and_are_exact_on_integers() {
    let (driver, _alone) = driver();
    let context = driver.context();
    let a: Vec<f32> = (0..128).map(|i| ((i * 37) % 23) as f32 - 11.0).collect();
    let b: Vec<f32> = (0..64).map(|i| ((i * 53) % 19) as f32 - 9.0).collect();
    let reference: Vec<f32> = (0..128)
        .map(|i| (0..8).map(|k| a[i / 8 * 8 + k] * b[i % 8 * 8 + k]).sum())
        .collect();
    let (left, right, out) = (
        context.upload(&a),
        context.upload(&b),
        context.allocate(512).unwrap(),
    );
    let arguments = [Pointer(left), Pointer(right), Pointer(out)];
    assert_eq!(context.launch("product_tf32", 1, 32, 0, &arguments), 0);
    assert_eq!(context.download(out, 128).unwrap(), reference);
    for buffer in [left, right, out] {
        context.free(buffer);
    }
}

// ---- random programs --------------------------------------------------------------------------

/// One access of a program for planted/programs.cu, with what its thread had synchronised by then.
struct Access {
    block: usize,
    thread: usize,
    block_barriers: usize,
    warp_barriers: usize,
    write: bool,
    atomic: bool,
    bytes: std::ops::Range<u32>,
}

impl Access {
    /// Whether nothing orders the two, straight from the definition.
    fn races_with(&self, other: &Access, shared: bool) -> bool {
        let overlap = self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end;
        let conflict = overlap && (self.write || other.write) && !(self.atomic && other.atomic);
        if self.block != other.block {
            return conflict && !shared;
        }
        let ordered = self.thread == other.thread
            || self.block_barriers != other.block_barriers
            || (self.thread / 32 == other.thread / 32 && self.warp_barriers != other.warp_barriers);
        conflict && !ordered
    }
}

/// A program of so many rounds, and whether it races.
fn random_program(seed: u32, blocks: usize, rounds: usize, shared: bool) -> (Vec<u32>, bool) {
    let mut state = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let mut draw = |n: u32| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        ((u64::from(state) * u64::from(n)) >> 32) as u32
    };
    let (mut words, mut accesses) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        let (mut block_barriers, mut warp_barriers) = (0, [0; 2]);
        for _ in 0..rounds {
            let block_barrier = draw(3) == 0;
            let warp_barrier = [draw(2) == 0, draw(2) == 0];
            for thread in 0..64 {
                let mut operation = if draw(24) == 0 { 1 + draw(8) } else { 0 };
                if operation > 3 {
                    operation = 1 + u32::from(operation > 7); // mostly reads
                }
                let (half, upper, place) = (operation < 3 && draw(2) == 0, draw(2), draw(48));
                if operation > 0 {
                    let start = place * 4 + if half { upper * 2 } else { 0 };
                    accesses.push(Access {
                        block,
                        thread,
                        block_barriers,
                        warp_barriers: warp_barriers[thread / 32],
                        write: operation > 1,
                        atomic: operation == 3,
                        bytes: start..start + if half { 2 } else { 4 },
                    });
                }
                let then = match (block_barrier, warp_barrier[thread / 32]) {
                    (true, _) => 2,
                    (_, true) => 1,
                    _ => 0,
                };
                words.push(operation | u32::from(half) << 2 | upper << 3 | then << 4 | place << 8);
            }
            block_barriers += usize::from(block_barrier);
            for warp in 0..2 {
                warp_barriers[warp] += usize::from(warp_barrier[warp]);
            }
        }
    }
    let races =
        (0..accesses.len()).any(|i| (0..i).any(|k| accesses[i].races_with(&accesses[k], shared)));
    (words, races)
}

#[test]
fn a_random_program_is_reported_exactly_if_it_races() {
    let (driver, _alone) = driver();
    let mut racing = 0;
    let programs = std::env::var("HEADLIGHT_EMULATOR_PROGRAMS").map_or(400, |n| n.parse().unwrap());
    for number in 0..programs {
        let shared = number % 2 == 0;
        let (blocks, rounds) = (1 + number as usize / 2 % 2, 2 + number as usize / 4 % 5);
        let (words, races) = random_program(number, blocks, rounds, shared);
        racing += u32::from(races);
        let kernel = if shared {
            "program_in_shared"
        } else {
            "program_in_global"
        };
        for seed in 0..5 {
            driver.reset();
            driver.seed(seed);
            let context = driver.context();
            let buffers = [
                context.upload(&words),
                context.upload(&[0u32; 64]),
                context.allocate(blocks * 256).unwrap(),
            ];
            let [program, memory, sink] = buffers.map(Pointer);
            let arguments = [program, U32(rounds as u32), memory, sink];
            assert_eq!(context.launch(kernel, blocks as u32, 64, 0, &arguments), 0);
            let failed = context.synchronise() != 0;
            let reports = driver.reports();
            assert_eq!(
                failed, races,
                "program {number}, schedule {seed}: {reports}"
            );
            assert_eq!(reports.starts_with("race"), races, "{reports}");
            for buffer in buffers {
                context.free(buffer);
            }
        }
    }
    assert!(
        programs / 5 < racing && racing < programs * 4 / 5,
        "{racing} of {programs} race"
    );
}

// ---- what a kernel is given -------------------------------------------------------------------

#[test]
fn indices_shuffles_votes_and_reductions_are_those_of_a_device() {
    let (driver, _alone) = driver();
    for seed in 0..schedules() {
        driver.seed(seed);
        let context = driver.context();
        let out = context.allocate(4 * 720).unwrap();
        let launched = context.launch_on(
            std::ptr::null_mut(),
            "indices",
            [3, 2, 5],
            [4, 3, 2],
            0,
            &[Pointer(out)],
        );
        assert_eq!(launched, 0);
        let expected: Vec<f32> = (0..720).map(|i| i as f32).collect();
        assert_eq!(context.download(out, 720).unwrap(), expected);
        context.free(out);

        let out = context.allocate(4 * 512).unwrap();
        assert_eq!(context.launch("exchanges", 1, 64, 0, &[Pointer(out)]), 0);
        let values = context.download(out, 512).unwrap();
        for thread in 0..64 {
            let lane = thread % 32;
            let seen: Vec<f32> = (0..8).map(|i| values[i * 64 + thread]).collect();
            let up = if lane < 2 { lane } else { lane - 2 };
            let down = if lane + 2 < 32 { lane + 2 } else { lane };
            let expected = [3, up, down, lane ^ 8, 5, 1, 0, 10].map(|x| x as f32);
            assert_eq!(seen, expected, "thread {thread}");
        }
        context.free(out);
        drop(context);
        assert_eq!(driver.reports(), "");
    }
}

#[test]
fn numbers_of_16_bits_are_rounded_to_nearest_even() {
    let (driver, _alone) = driver();
    let context = driver.context();
    let mut input: Vec<f32> = vec![
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.9,
        65520.0,
        -1e30,
        1e-7,
        3e-8,
        2.9e-8,
        6.1e-5,
        1e-40,
        f32::INFINITY,
        f32::MAX,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
        1.0 + 1.0 / 2048.0,
    ];
    let mut state = 1u32;
    while input.len() < 64 {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        input.push((f64::from(state) / 4294967296.0 - 0.5) as f32 * 10f32.powi(state as i32 % 9));
    }
    let (from, out) = (context.upload(&input), context.allocate(3 * 256).unwrap());
    assert_eq!(
        context.launch("roundings", 1, 64, 0, &[Pointer(from), Pointer(out)]),
        0
    );
    let values = context.download(out, 192).unwrap();
    for (i, &x) in input.iter().enumerate() {
        assert_eq!(
            values[i].to_bits(),
            half::bf16::from_f32(x).to_f32().to_bits(),
            "bf16 of {x}"
        );
        assert_eq!(
            values[64 + i].to_bits(),
            half::f16::from_f32(x).to_f32().to_bits(),
            "f16 of {x}"
        );
        let tf32 = f32::from_bits((x.to_bits() + 0x1000) & !0x1fff);
        assert_eq!(values[128 + i].to_bits(), tf32.to_bits(), "tf32 of {x}");
    }
    for buffer in [from, out] {
        context.free(buffer);
    }
}

// ---- launches ---------------------------------------------------------------------------------

/// A context with a pair of buffers of 64 floats.
fn with_buffers(body: impl Fn(&Driver, &Context, u64, u64)) {
    let (driver, _alone) = driver();
    let context = driver.context();
    let (input, output) = (context.upload(&numbers(64)), context.upload(&numbers(64)));
    body(&driver, &context, input, output);
    driver.reset();
    context.free(input);
    context.free(output);
    drop(context);
    assert_eq!(driver.reports(), "", "nothing is left over");
}

/// The launch is refused with INVALID_VALUE, and the report says why.
fn is_refused(driver: &Driver, result: i32, reason: &str) {
    assert_eq!(result, 1);
    assert!(
        driver.reports().contains(reason),
        "{reason}: {}",
        driver.reports()
    );
    driver.reset();
}

#[test]
fn launches_that_no_device_accepts_are_refused() {
    with_buffers(|driver, context, input, output| {
        let arguments = [Pointer(input), Pointer(output)];
        let shaped = |grid, block| {
            context.launch_on(
                std::ptr::null_mut(),
                "copy_words",
                grid,
                block,
                0,
                &arguments,
            )
        };
        is_refused(driver, shaped([1, 1, 1], [1025, 1, 1]), "too many threads");
        is_refused(driver, shaped([1, 1, 1], [32, 32, 2]), "too many threads");
        is_refused(driver, shaped([0, 1, 1], [64, 1, 1]), "without threads");
        is_refused(driver, shaped([1, 1, 1], [64, 0, 1]), "without threads");
        is_refused(driver, shaped([1, 65536, 1], [64, 1, 1]), "65535");
        is_refused(driver, shaped([1, 1, 65536], [64, 1, 1]), "65535");
        let views = [View(input, 64), F32(2.0), U32(64), View(output, 64)];
        is_refused(
            driver,
            context.launch("scale_rows", 1, 257, 0, &views),
            "__launch_bounds__(256)",
        );
        assert_eq!(context.launch("scale_rows", 1, 256, 0, &views), 0);
        let doubled: Vec<f32> = numbers(64).iter().map(|x| x * 2.0).collect();
        assert_eq!(context.download(output, 64).unwrap(), doubled);
        assert_eq!(context.function("no_such_kernel").unwrap_err(), NOT_FOUND);
    });
}

#[test]
fn dynamic_shared_memory_beyond_48_kb_needs_the_attribute() {
    with_buffers(|driver, context, _, output| {
        let launch = |kernel: &str, bytes| {
            context.launch(kernel, 1, 64, bytes, &[Pointer(output), U32(bytes)])
        };
        assert_eq!(launch("fill_dynamic", 48 * 1024), 0);
        is_refused(
            driver,
            launch("fill_dynamic", 48 * 1024 + 4),
            "dynamic shared memory",
        );
        assert_eq!(context.allow_dynamic_shared("fill_dynamic", 163 * 1024), 0);
        assert_eq!(launch("fill_dynamic", 163 * 1024), 0);
        assert_eq!(
            context.download(output, 1).unwrap(),
            [(163 * 256 - 1) as f32]
        );
        is_refused(
            driver,
            launch("fill_dynamic", 163 * 1024 + 4),
            "dynamic shared memory",
        );
        assert_ne!(
            context.allow_dynamic_shared("fill_dynamic", 163 * 1024 + 4),
            0
        );
        // Static shared memory counts, too.
        assert_eq!(context.allow_dynamic_shared("fill_both", 163 * 1024), 0);
        assert_eq!(launch("fill_both", 160 * 1024), 0);
        assert_ne!(context.synchronise(), 0);
        assert!(
            driver.reports().contains("4096 bytes of static"),
            "{}",
            driver.reports()
        );
    });
}

#[test]
fn a_pointer_argument_must_point_into_live_memory() {
    with_buffers(|driver, context, input, output| {
        let gone = context.upload(&numbers(64));
        context.free(gone);
        for (from, reason) in [(gone, "use after free"), (12345, "in no allocation")] {
            assert_eq!(
                context.launch("copy_words", 1, 64, 0, &[Pointer(from), Pointer(output)]),
                0
            );
            assert_eq!(context.synchronise(), 700);
            assert!(driver.reports().contains(reason), "{}", driver.reports());
            driver.reset();
            let views = [View(from, 64), F32(2.0), U32(64), View(output, 64)];
            assert_eq!(context.launch("scale_rows", 1, 64, 0, &views), 0);
            assert_eq!(context.synchronise(), 700);
            assert!(
                driver.reports().contains("argument 1"),
                "{}",
                driver.reports()
            );
            driver.reset();
        }
        // A null pointer may stand for "none", but not be followed.
        assert_eq!(
            context.launch("copy_words", 1, 64, 0, &[Pointer(0), Pointer(output)]),
            0
        );
        assert_eq!(context.synchronise(), 700);
        assert!(
            driver.reports().contains("a null pointer"),
            "{}",
            driver.reports()
        );
        driver.reset();
        assert_eq!(context.free(gone), 1);
        assert!(
            driver.reports().starts_with("double free"),
            "{}",
            driver.reports()
        );
        driver.reset();
        assert_eq!(context.free(input + 4), 1);
        assert_eq!(context.write(output, &numbers(65)), 1);
        assert!(
            driver.reports().contains("not inside of one allocation"),
            "{}",
            driver.reports()
        );
    });
}

#[test]
fn an_error_stays_with_the_context_and_goes_with_it() {
    let (driver, _alone) = driver();
    let (_, reports) = COUNTED.run(&driver, "off_by_one_planted", 1);
    assert!(reports.contains("bytes behind allocation"), "{reports}");
    let context = driver.context();
    assert_eq!(context.allocate(16).map(|p| context.free(p)), Ok(0));
    drop(context);
}

#[test]
fn memory_left_when_the_context_goes_is_a_leak() {
    let (driver, _alone) = driver();
    let context = driver.context();
    let (kept, lost) = (
        context.allocate(100).unwrap(),
        context.allocate(300).unwrap(),
    );
    assert_ne!(kept, lost);
    context.free(kept);
    drop(context);
    assert!(
        driver
            .reports()
            .contains("an allocation of 300 bytes is not freed")
    );
    assert!(!driver.reports().contains("100 bytes"));
}

// ---- capture ----------------------------------------------------------------------------------

#[test]
fn a_captured_launch_runs_when_the_graph_does() {
    with_buffers(|driver, context, input, output| {
        let stream = context.stream();
        assert_eq!(context.begin_capture(stream), 0);
        let arguments = [Pointer(input), Pointer(output)];
        context.write(0, &[0f32; 0]);
        assert!(driver.reports().contains("during the capture"));
        assert!(
            context.end_capture(stream).is_err(),
            "a copy spoils the capture"
        );
        driver.reset();

        assert_eq!(context.begin_capture(stream), 0);
        let kernel = "missing_barrier_correct";
        assert_eq!(
            context.launch_on(stream, kernel, [1; 3], [64, 1, 1], 0, &arguments),
            0
        );
        let graph = context.end_capture(stream).unwrap();
        assert_eq!(
            context.download(output, 64).unwrap(),
            numbers(64),
            "nothing ran yet"
        );
        let executable = context.instantiate(graph);
        for _ in 0..2 {
            assert_eq!(context.launch_graph(executable, stream), 0);
            let mut reversed = numbers(64);
            reversed.reverse();
            assert_eq!(context.download(output, 64).unwrap(), reversed);
        }
        context.destroy_graph(graph, executable);
        context.destroy_stream(stream);
    });
}

#[test]
fn a_graph_keeps_no_buffer_alive() {
    with_buffers(|driver, context, input, _| {
        let stream = context.stream();
        let gone = context.allocate(256).unwrap();
        assert_eq!(context.begin_capture(stream), 0);
        let arguments = [Pointer(input), Pointer(gone)];
        assert_eq!(
            context.launch_on(stream, "copy_words", [1; 3], [64, 1, 1], 0, &arguments),
            0
        );
        let graph = context.end_capture(stream).unwrap();
        let executable = context.instantiate(graph);
        context.free(gone);
        context.launch_graph(executable, stream);
        assert_eq!(context.synchronise(), 700);
        assert!(
            driver.reports().contains("use after free"),
            "{}",
            driver.reports()
        );
        driver.reset();
        context.destroy_graph(graph, executable);
        context.destroy_stream(stream);
    });
}

#[test]
fn nothing_is_allocated_copied_or_awaited_during_a_capture() {
    with_buffers(|driver, context, _, output| {
        let forbidden: [(&str, &dyn Fn()); 4] = [
            ("an allocation", &|| assert!(context.allocate(16).is_err())),
            ("a copy", &|| assert_ne!(context.write(output, &[1f32]), 0)),
            ("a synchronisation", &|| {
                assert_ne!(context.synchronise(), 0)
            }),
            ("a free", &|| assert_ne!(context.free(output), 0)),
        ];
        for (operation, forbidden) in forbidden {
            let stream = context.stream();
            assert_eq!(context.begin_capture(stream), 0);
            forbidden();
            let reports = driver.reports();
            assert!(
                reports.starts_with(operation) && reports.contains("capture"),
                "{reports}"
            );
            assert!(context.end_capture(stream).is_err());
            context.destroy_stream(stream);
            driver.reset();
        }
    });
}

#[test]
fn a_copy_into_pinned_memory_arrives_when_the_stream_is_waited_for() {
    with_buffers(|_, context, input, _| {
        let (stream, host) = (context.stream(), context.pinned(256));
        assert_eq!(context.download_later(host, input, 256, stream), 0);
        // SAFETY: 64 floats of pinned memory, written by the driver, freed below.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert!(
            values.iter().all(|x| x.is_nan()),
            "read before anybody waited"
        );
        assert_eq!(context.synchronise_stream(stream), 0);
        // SAFETY: as above; taken anew, because the driver wrote meanwhile.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert_eq!(values, numbers(64));
        context.free_pinned(host);
        context.destroy_stream(stream);
    });
}

#[test]
fn two_threads_launch_at_a_time_without_meeting() {
    let (driver, _alone) = driver();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let context = driver.context();
                for round in 0..50 {
                    let kernel = "missing_second_barrier_correct";
                    let values: Vec<f32> = (0..64)
                        .map(|i| (i + thread * 1000 + round) as f32)
                        .collect();
                    let (input, output) = (context.upload(&values), context.allocate(256).unwrap());
                    let arguments = [Pointer(input), Pointer(output)];
                    assert_eq!(context.launch(kernel, 1, 64, 0, &arguments), 0);
                    let reversed: Vec<f32> = values.iter().rev().copied().collect();
                    assert_eq!(context.download(output, 64).unwrap(), reversed);
                    context.free(input);
                    context.free(output);
                }
            });
        }
    });
    assert_eq!(driver.reports(), "");
}

// ---- the environment: each in a process of its own --------------------------------------------

/// Runs one of the ignored tests below with these variables.
fn in_a_process(test: &str, variables: &[(&str, &str)]) {
    drop(driver()); // built before others ask
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--ignored", test])
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
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

// ---- what it costs ----------------------------------------------------------------------------

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
