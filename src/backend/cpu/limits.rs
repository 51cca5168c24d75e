//! What this machine can do at best, measured: the yardsticks of `headlight bench`.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use super::real::Real;

/// Multiply-adds a second on all threads, times two, of the register tile with its operands in the
/// first-level cache: what a matrix product would reach if memory cost nothing. The best of five.
pub fn multiply_add_peak<T: Real>() -> f64 {
    let arch = super::arch();
    const REPEATS: usize = 20_000;
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let counts = (0..rayon::current_num_threads()).into_par_iter();
        let flops: f64 = counts
            .map(|_| super::linear::tile_in_cache::<T>(arch, REPEATS))
            .sum();
        start.elapsed().as_secs_f64() / flops
    });
    1.0 / best.fold(f64::INFINITY, f64::min)
}

/// Bytes a second, read and written, of copying 256 MiB on all threads; the best of five.
pub fn copy_bandwidth() -> f64 {
    let length = 1usize << 25;
    let from = vec![1u64; length];
    let mut to = vec![0u64; length];
    let share = length.div_ceil(rayon::current_num_threads());
    let best = (0..5).map(|_| {
        let start = Instant::now();
        to.par_chunks_mut(share)
            .zip(from.par_chunks(share))
            .for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
        start.elapsed().as_secs_f64()
    });
    2.0 * 8.0 * length as f64 / best.fold(f64::INFINITY, f64::min)
}
