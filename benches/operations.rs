//! Every operation of the CPU backend at GPT-2 small's shapes: 16, 512 and 4,096 rows.

mod random_gpt2;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headlight::backend::cpu::Cpu;
use headlight::bench::operations::cases;

fn operations(criterion: &mut Criterion) {
    let model = random_gpt2::random_gpt2();
    let cpu = Cpu::<f32>::new(&model);
    let mut group = criterion.benchmark_group("operations");
    group.sample_size(10);
    for rows in [16, 512, 4096] {
        for case in cases(rows, 16) {
            // operations a second where there are any, bytes a second otherwise
            group.throughput(match case.flops(&model.config) as u64 {
                0 => Throughput::Bytes(case.bytes(&model.config, |_| size_of::<f32>()) as u64),
                flops => Throughput::Elements(flops),
            });
            let mut run = case.prepare(&cpu);
            group.bench_function(case.name(&model.config), |b| b.iter(&mut run));
        }
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
