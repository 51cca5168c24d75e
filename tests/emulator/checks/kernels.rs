//! Planted bugs in kernels, each beside its corrected twin.

use super::*;

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
    is_reported("rows_in_banks", "bank conflict", &BLOCK_OF_64);
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
