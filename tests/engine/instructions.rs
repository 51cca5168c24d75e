//! Results do not depend on the vector instructions: AVX-512, AVX2 and the baseline agree bit for
//! bit, in both precisions.

use crate::common::fixtures::checkpoint;
use crate::common::runs::{interchange, run_of};
use crate::common::{self, run_pair};
use headlight::backend::cpu::{Cpu, Instructions, Real};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Run};
use headlight::prompt::pair::Pair;
use headlight::site::Component;

fn bits<T: Real>(model: &Checkpoint, instructions: Instructions) -> Vec<u64> {
    let ids = |seed: u32| {
        (0..7u32)
            .map(|i| (i * 13 + seed) % model.config.vocab as u32)
            .collect::<Vec<_>>()
    };
    let pair = Pair {
        base: ids(3),
        source: Some(ids(8)),
        targets: vec![0, 1, 2, 3],
        readouts: vec![2, 6],
        ..Pair::default()
    };
    let runs: Vec<Run> = Component::all()
        .flat_map(|component| [Op::Interchange, Op::Scale(1.5)].map(|op| (component, op)))
        .map(|(component, op)| {
            let patch = interchange(component, 1, &[0, 1], [1, 4]);
            run_of(vec![patch.with_op(op)])
        })
        .collect();
    let cpu = Cpu::<T>::with_instructions(model, instructions).unwrap();
    let read = run_pair(&cpu, &pair, runs).runs;
    read.iter().flatten().flat_map(common::bits).collect()
}

#[test]
fn every_set_of_instructions_gives_the_same_bits() {
    let available = Instructions::available();
    assert_eq!(available.first(), Some(&Instructions::best()));
    for name in ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"] {
        let model = checkpoint(name);
        for other in &available[1..] {
            assert!(
                bits::<f32>(&model, available[0]) == bits::<f32>(&model, *other),
                "{name}, f32, {other:?}"
            );
            assert!(
                bits::<f64>(&model, available[0]) == bits::<f64>(&model, *other),
                "{name}, f64, {other:?}"
            );
        }
    }
}
