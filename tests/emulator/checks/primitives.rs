//! What a kernel is given: indices, exchanges, numbers.

use super::*;

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
