//! Results do not depend on the vector instructions: AVX-512, AVX2 and the baseline agree bit for
//! bit, in both precisions.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use headlight::backend::cpu::{Cpu, Instructions, Real};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch, Run};
use headlight::site::Component;
use headlight::sweep::execute::{Limits, execute};
use headlight::sweep::pair::{Pair, PairRuns};

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
        wrong: Vec::new(),
        readouts: vec![2, 6],
        ..Pair::default()
    };
    let runs: Vec<Run> = Component::all()
        .flat_map(|component| [Op::Interchange, Op::Scale(1.5)].map(|op| (component, op)))
        .map(|(component, op)| {
            let heads = if component.has_heads() {
                vec![0, 1]
            } else {
                Vec::new()
            };
            let layer = (!component.is_global()).then_some(1);
            let patch = Patch::interchange(component, layer, heads, vec![1, 4]).with_op(op);
            Run {
                name: None,
                patches: vec![patch],
                ..Run::default()
            }
        })
        .collect();
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory: 1 << 28,
        top: 0,
        top_of_runs: 0,
        ranks: false,
        kl: false,
        stop: &stop,
    };
    let cpu = Cpu::<T>::with_instructions(model, instructions).unwrap();
    let outcome = execute(
        &cpu,
        &[PairRuns {
            pair,
            runs: runs.into(),
        }],
        &limits,
    )
    .unwrap();
    let read = outcome.pairs[0].runs.iter().flatten();
    read.flat_map(|r| r.logits.iter().chain([&r.log_sum_exp]).map(|x| x.to_bits()))
        .collect()
}

#[test]
fn every_set_of_instructions_gives_the_same_bits() {
    let available = Instructions::available();
    assert_eq!(available.first(), Some(&Instructions::best()));
    for name in ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let model = Checkpoint::open(&folder).unwrap();
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
