//! What this machine can do at best, measured: the yardsticks of `headlight bench`.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::real::Real;

/// Fused multiply-adds on registers alone: 24 independent chains, enough to hide the latency.
struct Chains<T> {
    rounds: usize,
    factor: T,
    wide: bool,
}

impl<T: Real> NullaryFnOnce for Chains<T> {
    type Output = T;

    #[inline(always)]
    fn call(self) -> T {
        match (self.wide, T::LANES) {
            (true, 16) => chains::<T, 24, 16>(self.rounds, self.factor),
            (true, _) => chains::<T, 24, 8>(self.rounds, self.factor),
            (false, 16) => chains::<T, 12, 8>(self.rounds, self.factor),
            (false, _) => chains::<T, 12, 4>(self.rounds, self.factor),
        }
    }
}

#[inline(always)]
fn chains<T: Real, const CHAINS: usize, const LANES: usize>(rounds: usize, factor: T) -> T {
    let mut x = [[T::ONE; LANES]; CHAINS];
    let factor = [factor; LANES];
    for _ in 0..rounds {
        for chain in 0..CHAINS {
            for lane in 0..LANES {
                x[chain][lane] = x[chain][lane].mul_add(factor[lane], factor[lane]);
            }
        }
    }
    let sums = black_box(x);
    sums.iter().flatten().copied().sum()
}

/// Fused multiply-adds a second on all threads, times two; the best of five.
pub fn multiply_add_peak<T: Real>() -> f64 {
    let arch = Arch::new();
    let wide = super::linear::wide(arch);
    let per_round = 2 * if wide { 24 * T::LANES } else { 12 * T::LANES / 2 };
    let rounds = 4_000_000;
    let best = (0..5).map(|_| {
        let start = Instant::now();
        (0..rayon::current_num_threads()).into_par_iter().for_each(|_| {
            let factor = black_box(T::from_f64(0.5));
            black_box(arch.dispatch(Chains { rounds, factor, wide }));
        });
        start.elapsed().as_secs_f64()
    });
    let seconds = best.fold(f64::INFINITY, f64::min);
    (per_round * rounds * rayon::current_num_threads()) as f64 / seconds
}

/// Bytes a second, read and written, of copying 256 MiB on all threads; the best of five.
pub fn copy_bandwidth() -> f64 {
    let length = 1usize << 25;
    let from = vec![1u64; length];
    let mut to = vec![0u64; length];
    let share = length.div_ceil(rayon::current_num_threads());
    let best = (0..5).map(|_| {
        let start = Instant::now();
        to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
        start.elapsed().as_secs_f64()
    });
    2.0 * 8.0 * length as f64 / best.fold(f64::INFINITY, f64::min)
}
