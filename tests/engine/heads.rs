//! What a head adds to the residual stream (TransformerLens's `hook_result`), and the residual stream that it reads
//! (`hook_attn_in`): against what they are made of.

use headlight::backend::Precision;
use headlight::engine::DeviceWish;
use headlight::patch::{MeanOver, Vector};
use headlight::prompt::pair::PairRuns;
use headlight::{Component, Engine, Op, Pair, Patch, Run};

use crate::common::fixtures::checkpoint;
use crate::common::runs::run_of;

fn engine(name: &str, precision: Precision) -> Engine {
    let engine = Engine::of(checkpoint(name)).device(DeviceWish::Cpu);
    engine.precision(precision).build().unwrap()
}

fn pair(config: &headlight::model::Config) -> Pair {
    Pair {
        base: vec![5, 3, 8, 1, 2],
        source: Some(vec![5, 4, 9, 1, 7]),
        targets: (0..config.vocab as u32).collect(),
        ..Pair::default()
    }
}

/// Logits of every token after each run.
fn logits(engine: &Engine, runs: Vec<Run>) -> Vec<Vec<f64>> {
    let pair = pair(&engine.model().config);
    let of = PairRuns {
        pair,
        runs: runs.into(),
    };
    headlight::execute::check(std::slice::from_ref(&of), &engine.model().config).unwrap();
    let outcome = engine
        .outcome(&[of], headlight::engine::ReadoutOptions::default())
        .unwrap();
    outcome.pairs[0]
        .runs
        .iter()
        .map(|run| run[0].logits.clone())
        .collect()
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Heads sum, with the bias, to what attention adds, as transformers recorded it.
#[test]
fn what_heads_add_sums_to_what_attention_adds() {
    for name in ["odd_untied", "tied"] {
        let engine = engine(name, Precision::F64);
        let (model, config) = (engine.model(), &engine.model().config);
        let ids = [8, 15, 1, 39, 28];
        for layer in 0..config.layers {
            let sites = [
                Component::HeadAttentionOutput,
                Component::HeadAttentionValueOutput,
                Component::AttentionOutput,
            ]
            .map(|component| (component, Some(layer)));
            let found = engine.cache(&ids, &sites).unwrap();
            let [result, z, attention] = &found[..] else {
                panic!()
            };
            assert_eq!(result.name, format!("head_attention_output.{layer}"));
            let (n, d, width) = (ids.len(), config.head_width(), config.width);
            assert_eq!(result.shape, [config.heads, n, width]);
            let c_proj = model.layer(layer).c_proj;
            let bias: Vec<f64> = c_proj.bias.to_vec();
            for p in 0..n {
                for (column, bias) in bias.iter().enumerate() {
                    let of = |head: usize| result.values[(head * n + p) * width + column];
                    let by_hand = |head: usize| -> f64 {
                        let row = &z.values[(head * n + p) * d..][..d];
                        let weight =
                            |i: usize| c_proj.weight.row(head * d + i).to_vec::<f64>()[column];
                        row.iter().enumerate().map(|(i, z)| z * weight(i)).sum()
                    };
                    for head in 0..config.heads {
                        assert!((of(head) - by_hand(head)).abs() < 1e-12);
                    }
                    let sum = (0..config.heads).map(of).sum::<f64>() + bias;
                    let want = attention.values[p * width + column];
                    assert!(
                        (sum - want).abs() < 1e-10,
                        "{name} {layer} {p} {column}: {sum} {want}"
                    );
                }
            }
        }
    }
}

/// In TransformerLens, writing v over a head's result adds v − result to attn_out. So it is here: interchanged results
/// are what adding the difference of the two clean results to attention_output is.
#[test]
fn a_result_that_is_written_adds_its_difference() {
    let engine = engine("odd_untied", Precision::F64);
    let config = &engine.model().config;
    let both = pair(config);
    let (layer, heads, position) = (0, vec![0usize, 3], 2);
    let sites = [(Component::HeadAttentionOutput, Some(layer))];
    let of = |ids: &[u32]| engine.cache(ids, &sites).unwrap().remove(0).values;
    let (base, source) = (of(&both.base), of(both.source.as_ref().unwrap()));
    let n = both.base.len();
    let row = |values: &[f64], head: usize| {
        values[(head * n + position) * config.width..][..config.width].to_vec()
    };
    let result = |op: Op| {
        let patch = Patch::interchange(
            Component::HeadAttentionOutput,
            Some(layer),
            heads.clone(),
            vec![position],
        );
        run_of(vec![patch.with_op(op)])
    };
    type Adding<'a> = &'a dyn Fn(&[f64], &[f64]) -> Vec<f64>;
    let adding = |added: Adding<'_>| {
        let mut sum = vec![0.0; config.width];
        for head in &heads {
            let each = added(&row(&base, *head), &row(&source, *head));
            sum.iter_mut().zip(each).for_each(|(s, x)| *s += x);
        }
        let vector = Vector {
            label: "difference".into(),
            values: sum.into(),
            rows: 1,
        };
        let patch = Patch::interchange(
            Component::AttentionOutput,
            Some(layer),
            Vec::new(),
            vec![position],
        );
        run_of(vec![patch.with_op(Op::Add(Some(vector)))])
    };
    type Added<'a> = &'a dyn Fn(&[f64], &[f64]) -> Vec<f64>;
    let by = |of: fn(f64, f64) -> f64| {
        move |b: &[f64], s: &[f64]| {
            b.iter()
                .zip(s)
                .map(|(b, s)| of(*b, *s))
                .collect::<Vec<f64>>()
        }
    };
    let over = MeanOver {
        by_position: false,
        label: "source".into(),
        prompts: vec![both.source.clone().unwrap()].into(),
    };
    // the mean of a head's result over the positions of the source
    let mean = |head: usize, column: usize| {
        let at = |p: usize| source[(head * n + p) * config.width + column];
        (0..n).map(at).sum::<f64>() / n as f64
    };
    let (replaced, gone, added, taken) =
        (by(|b, s| s - b), by(|b, _| -b), by(|_, s| s), by(|_, s| -s));
    let (halved, half_way) = (by(|b, _| -0.5 * b), by(|b, s| 0.3 * (s - b)));
    let cases: [(Op, Added<'_>); 6] = [
        (Op::Interchange, &replaced),
        (Op::Zero, &gone),
        (Op::Add(None), &added),
        (Op::Subtract(None), &taken),
        (Op::Scale(0.5), &halved),
        (Op::Interpolate(0.3), &half_way),
    ];
    for (op, added) in cases {
        let found = logits(
            &engine,
            vec![result(op.clone()), adding(added), run_of(vec![])],
        );
        assert!(furthest(&found[0], &found[1]) < 1e-10, "{op:?}");
        assert!(
            furthest(&found[0], &found[2]) > 1e-3,
            "{op:?} does something"
        );
    }
    let columns: Vec<f64> = (0..config.width)
        .map(|c| {
            heads
                .iter()
                .map(|head| mean(*head, c) - row(&base, *head)[c])
                .sum()
        })
        .collect();
    let first = std::cell::Cell::new(true);
    let meaned = adding(&|_, _| match first.replace(false) {
        true => columns.clone(),
        false => vec![0.0; config.width],
    });
    let found = logits(&engine, vec![result(Op::Mean(over)), meaned]);
    assert!(furthest(&found[0], &found[1]) < 1e-10);
}

/// One patch of what a head reads is three patches of what its query, key and value read; noise is the same in all
/// three, as in one tensor.
#[test]
fn what_a_head_reads_is_what_its_query_key_and_value_read() {
    let engine = engine("odd_untied", Precision::F32);
    let at = |component| Patch::interchange(component, Some(1), vec![1, 4], vec![1, 3]);
    let each = [
        Component::AttentionQueryInput,
        Component::AttentionKeyInput,
        Component::AttentionValueInput,
    ];
    let vector = Vector {
        label: "v".into(),
        values: (0..engine.model().config.width)
            .map(|i| i as f64 / 7.0)
            .collect(),
        rows: 1,
    };
    for op in [
        Op::Interchange,
        Op::Zero,
        Op::Interpolate(0.5),
        Op::Add(None),
        Op::Set(vector),
    ] {
        let together = run_of(vec![
            at(Component::AttentionResidualInput).with_op(op.clone()),
        ]);
        let apart = run_of(
            each.map(|component| at(component).with_op(op.clone()))
                .into(),
        );
        let found = logits(&engine, vec![together, apart, run_of(vec![])]);
        assert_eq!(found[0], found[1], "{op:?}");
        assert!(
            furthest(&found[0], &found[2]) > 1e-3,
            "{op:?} does something"
        );
    }
    // noise goes by the component's name, so it is checked against itself: a head that reads x + noise with its
    // query, key and value is one whose layer's input is, where the layer has no other reader
    let noise = |component| {
        Patch::interchange(component, Some(1), (0..5).collect(), vec![4]).with_op(Op::Noise {
            level: 0.5,
            seed: 3,
            sample: 0,
        })
    };
    let found = logits(
        &engine,
        vec![
            run_of(vec![noise(Component::AttentionResidualInput)]),
            run_of(vec![]),
        ],
    );
    assert!(furthest(&found[0], &found[1]) > 1e-4);
}

#[test]
fn what_no_z_need_give_is_refused() {
    let engine = engine("odd_untied", Precision::F32);
    let pair = pair(&engine.model().config);
    let patch = || Patch::interchange(Component::HeadAttentionOutput, Some(0), vec![1], vec![1]);
    let vector = || Vector {
        label: "v".into(),
        values: vec![0.0; engine.model().config.width].into(),
        rows: 1,
    };
    let noise = Op::Noise {
        level: 1.0,
        seed: 0,
        sample: 0,
    };
    let said = |patch: Patch| {
        let runs = vec![run_of(vec![patch])].into();
        let of = [PairRuns {
            pair: pair.clone(),
            runs,
        }];
        headlight::execute::check(&of, &engine.model().config)
            .unwrap_err()
            .to_string()
    };
    for op in [
        Op::Set(vector()),
        Op::Add(Some(vector())),
        Op::Fill(1.0),
        noise,
    ] {
        let said = said(patch().with_op(op));
        assert!(said.contains("add it to attention_output"), "{said}");
    }
    assert!(said(patch().with_op(Op::Collect)).contains("collect head_attention_value_output"));
    let columns = Patch {
        columns: Some(vec![0]),
        ..patch()
    };
    assert!(said(columns).contains("give no columns"));
    let other = Patch {
        source_component: Some(Component::MlpOutput),
        ..patch()
    };
    assert!(said(other).contains("laid out in the same way"));
}

/// A layer that is not there has no zeros for activations.
#[test]
fn activations_of_no_layer_are_refused() {
    let engine = engine("tied", Precision::F64);
    let last = engine.model().config.layers - 1;
    for (component, layer, said) in [
        (
            Component::HeadAttentionValueOutput,
            Some(99),
            format!("layer 99 is out of range: layers are 0 to {last}"),
        ),
        (
            Component::BlockOutput,
            None,
            format!("block_output needs a layer: layers are 0 to {last}"),
        ),
        (
            Component::FinalOutput,
            Some(0),
            "final_output stands outside the layers: give no layer".to_owned(),
        ),
    ] {
        let found = engine.cache(&[8, 15, 1], &[(component, layer)]);
        assert_eq!(found.unwrap_err().to_string(), said);
    }
}
