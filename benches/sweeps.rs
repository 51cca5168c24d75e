//! Sweeps over z and v of GPT-2 small at 5, 15 and 64 tokens: 144 runs each, evenly spread.

mod random_gpt2;

use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headlight::backend::cpu::Cpu;
use headlight::bench::{sweep, time_sweep};

fn sweeps(criterion: &mut Criterion) {
    let model = random_gpt2::random_gpt2();
    let cpu = Cpu::<f32>::new(&model);
    let stop = AtomicBool::new(false);
    let mut group = criterion.benchmark_group("sweeps");
    group.sample_size(10);
    for tokens in [5, 15, 64] {
        let runs = sweep(&cpu, tokens, 144);
        group.throughput(Throughput::Elements(runs.runs.len() as u64));
        group.bench_function(format!("{tokens} tokens"), |b| {
            b.iter(|| time_sweep(&cpu, &runs, 2 << 30, &stop).expect("a sweep that fits"));
        });
    }
}

criterion_group!(benches, sweeps);
criterion_main!(benches);
