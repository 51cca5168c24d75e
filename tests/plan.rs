//! What a run computes, row by row: DESIGN's figures, and small cases worked out by hand.

mod common;

use common::{PLENTY, run};
use headlight::backend::cpu::Cpu;
use headlight::model::Config;
use headlight::patch::{Op, Origin, Patch, Prompt};
use headlight::plan::cell::{Cell, Value, cells};
use headlight::plan::cone::{self, Cone, LayerCone, Question, Wanted};
use headlight::plan::cost::{Flops, flops};
use headlight::plan::positions::Positions;
use headlight::site::Component;
use headlight::sweep::execute::plan;
use headlight::sweep::pair::{Pair, PairRuns};

fn gpt2_small() -> Config {
    Config::from_json(b"{}", "defaults").unwrap()
}

/// A model of `layers` layers and two heads.
fn tiny(layers: usize) -> Config {
    let json = format!(
        r#"{{"n_layer":{layers},"n_head":2,"n_embd":8,"n_inner":20,"vocab_size":30,"n_positions":200}}"#
    );
    Config::from_json(json.as_bytes(), "tiny").unwrap()
}

/// Nothing writes the base's value but what reads it from the base.
fn from_base(cell: &Cell) -> bool {
    matches!(
        &cell.value,
        Value::Read {
            origin: Origin::Clean(Prompt::Base),
            ..
        }
    )
}

fn draw(config: &Config, patches: &[Patch], readouts: &[usize]) -> Cone {
    let cells = cells(patches, 0, config);
    let readouts = readouts.iter().copied().collect();
    cone::of_run(&Question {
        config,
        cells: &cells,
        readouts: &readouts,
        same: &|i| from_base(&cells[i]),
        wanted: &Wanted::new(),
    })
}

fn patch(component: Component, layer: usize, positions: impl IntoIterator<Item = usize>) -> Patch {
    let heads = if component.has_heads() {
        vec![0]
    } else {
        vec![]
    };
    let layer = (!component.is_global()).then_some(layer);
    Patch::interchange(component, layer, heads, positions.into_iter().collect())
}

fn freeze(component: Component, layer: usize, positions: impl IntoIterator<Item = usize>) -> Patch {
    let heads = if component.has_heads() {
        vec![0, 1]
    } else {
        vec![]
    };
    Patch {
        origin: Origin::Clean(Prompt::Base),
        heads,
        ..patch(component, layer, positions)
    }
}

fn rows(positions: &Positions) -> Vec<usize> {
    positions.iter().collect()
}

/// The computed rows of a layer: q, k, v, z, attention output, mid, MLP (all four stages), out.
fn computed(layer: &LayerCone) -> [Vec<usize>; 8] {
    let mlp = rows(&layer.mlp_pre.computed);
    assert_eq!(mlp, rows(&layer.mlp_activation.computed));
    assert_eq!(mlp, rows(&layer.mlp_output.computed));
    let stages = [
        &layer.query,
        &layer.key,
        &layer.value,
        &layer.z,
        &layer.attention_output,
        &layer.mid,
    ];
    let [q, k, v, z, attention, mid] = stages.map(|s| rows(&s.computed));
    [q, k, v, z, attention, mid, mlp, rows(&layer.out.computed)]
}

fn upward(from: usize, to: usize) -> Vec<usize> {
    (from..=to).collect()
}

fn nothing(cone: &Cone) -> bool {
    cone.readouts.is_empty()
        && cone.input.all.is_empty()
        && cone
            .layers
            .iter()
            .all(|l| computed(l).iter().all(Vec::is_empty))
}

/// Average linear and unembedding operations of one head's z and v over all layers and positions.
fn sweep_of_one_head(length: usize) -> (f64, usize) {
    let config = gpt2_small();
    let (mut total, mut runs, mut unseen) = (0, 0, 0);
    for component in [
        Component::HeadAttentionValueOutput,
        Component::HeadValueOutput,
    ] {
        for layer in 0..config.layers {
            for position in 0..length {
                let cone = draw(
                    &config,
                    &[patch(component, layer, [position])],
                    &[length - 1],
                );
                let cost = flops(&cone, &config);
                assert_eq!(cone.readouts.is_empty(), cost.total() == 0);
                total += cost.linear;
                unseen += usize::from(cone.readouts.is_empty());
                runs += 1;
            }
        }
    }
    (total as f64 / runs as f64 / 1e9, unseen)
}

#[test]
fn designs_figures_for_gpt2_small() {
    let config = gpt2_small();
    for (length, planned, digit, whole, whole_digit, ratio) in [
        (5, 0.3034, 1e-4, 0.927, 1e-3, 3.05),
        (15, 0.655, 1e-3, 2.63, 1e-2, 4.0),
        (64, 2.38, 1e-2, 10.9, 1e-1, 4.6),
    ] {
        let (average, unseen) = sweep_of_one_head(length);
        let readouts = Positions::range(length - 1, length);
        let all =
            flops(&cone::of_whole(&config, &[], length, &readouts), &config).linear as f64 / 1e9;
        assert!(
            (average - planned).abs() <= digit / 2.0,
            "{length} tokens: {average}"
        );
        assert!(
            (all - whole).abs() <= whole_digit / 2.0,
            "{length} tokens whole: {all}"
        );
        assert!(
            (all / average - ratio).abs() <= 0.05,
            "{length} tokens: {}",
            all / average
        );
        // the last layer's z before the row that is read
        assert_eq!(unseen, length - 1);
    }
}

#[test]
fn a_patched_z_enters_the_next_layer_as_one_row_and_spreads_at_z() {
    let config = tiny(4);
    let cone = draw(
        &config,
        &[patch(Component::HeadAttentionValueOutput, 1, [3])],
        &[6],
    );
    let (p, up) = (vec![3], upward(3, 6));
    assert_eq!(
        (cone.start, cone.input.all.len(), cone.layers.len()),
        (1, 0, 3)
    );
    // the patched row is gathered, and goes on alone
    assert_eq!(
        computed(&cone.layers[0]),
        [&[], &[], &[], &[], &p[..], &p, &p, &p].map(<[usize]>::to_vec)
    );
    assert_eq!(rows(&cone.layers[0].z.gathered()), p);
    assert!(cone.layers[0].ln_1.is_empty());
    // q, k and v of that row; every later row joins at z, with the trace's q
    assert_eq!(
        computed(&cone.layers[1]),
        [&p, &p, &p, &up, &up, &up, &up, &up].map(Vec::clone)
    );
    // in the last layer keys and values of dirty rows, and what the readout row sees
    let last = vec![6];
    assert_eq!(
        computed(&cone.layers[2]),
        [&last, &up, &up, &last, &last, &last, &last, &last].map(Vec::clone)
    );
    assert_eq!(rows(&cone.readouts), last);
    // multiply-adds of all that, by hand
    let (d, i, v) = (8, 20, 30);
    let row = d * d + 2 * d * i;
    let linear = row + (3 * d * d + 4 * row) + (d * d + 8 * d * d + row) + d * v;
    let attention = 2 * d * (4 + 5 + 6 + 7) + 2 * d * 7;
    assert_eq!(
        flops(&cone, &config),
        Flops {
            linear: 2 * linear,
            attention: 2 * attention
        }
    );
}

#[test]
fn dirty_rows_of_each_kind_of_patch_in_its_own_layer() {
    use Component as C;
    let config = tiny(3);
    let (one, up, none) = (vec![2], upward(2, 5), Vec::new());
    for (component, q, k, v, z, mid) in [
        (C::BlockInput, &one, &one, &one, &up, &up),
        (C::AttentionInput, &one, &one, &one, &up, &up),
        (C::HeadQueryOutput, &none, &none, &none, &one, &one),
        (C::HeadKeyOutput, &none, &none, &none, &up, &up),
        (C::HeadValueOutput, &none, &none, &none, &up, &up),
        (C::AttentionQueryInput, &none, &none, &none, &one, &one),
        (C::AttentionKeyInput, &none, &none, &none, &up, &up),
        (C::AttentionScores, &none, &none, &none, &one, &one),
        (C::AttentionWeight, &none, &none, &none, &one, &one),
        (
            C::HeadAttentionValueOutput,
            &none,
            &none,
            &none,
            &none,
            &one,
        ),
        (C::AttentionOutput, &none, &none, &none, &none, &one),
        (C::BlockMid, &none, &none, &none, &none, &none),
        (C::MlpInput, &none, &none, &none, &none, &none),
        (C::MlpOutput, &none, &none, &none, &none, &none),
    ] {
        let cone = draw(&config, &[patch(component, 1, [2])], &[5]);
        let [got_q, got_k, got_v, got_z, _, got_mid, _, out] = computed(&cone.layers[0]);
        assert_eq!(
            [&got_q, &got_k, &got_v, &got_z, &got_mid],
            [q, k, v, z, mid],
            "{component}"
        );
        let row_wise = mid.len() < 2;
        assert_eq!(
            out,
            if row_wise { one.clone() } else { up.clone() },
            "{component}"
        );
        // the residual stream that the projections read is the trace's, except where it is patched
        assert_eq!(
            rows(&cone.input.all),
            if component == C::BlockInput {
                one.clone()
            } else {
                none.clone()
            }
        );
        let own = usize::from(matches!(
            component,
            C::AttentionQueryInput | C::AttentionKeyInput
        ));
        assert_eq!(cone.layers[0].head_inputs, own, "{component}");
    }
    // an output's own row is not computed, and neither is the branch that it replaces
    let cone = draw(&config, &[patch(C::MlpOutput, 1, [2])], &[5]);
    assert!(cone.layers[0].mlp_output.computed.is_empty() && cone.layers[0].mlp_pre.all.is_empty());
    let cone = draw(&config, &[patch(C::TokenEmbedding, 0, [2])], &[5]);
    assert_eq!((cone.start, rows(&cone.input.computed)), (0, vec![2]));
    assert_eq!(computed(&cone.layers[0])[3], up);
}

#[test]
fn nothing_is_computed_that_no_readout_sees() {
    let config = tiny(2);
    // after the last readout
    for position in 4..8 {
        for component in Component::all() {
            assert!(
                nothing(&draw(&config, &[patch(component, 1, [position])], &[0, 3])),
                "{component}"
            );
        }
    }
    // the last layer before the row that is read: only keys and values reach on
    for component in Component::all().filter(|c| !c.is_global()) {
        use Component as C;
        let reaches = component < C::AttentionQueryInput
            || matches!(
                component,
                C::AttentionKeyInput
                    | C::AttentionValueInput
                    | C::KeyOutput
                    | C::HeadKeyOutput
                    | C::ValueOutput
                    | C::HeadValueOutput
            );
        let cone = draw(&config, &[patch(component, 1, [2])], &[5]);
        assert_eq!(nothing(&cone), !reaches, "{component}");
        assert_eq!(flops(&cone, &config).total() == 0, !reaches, "{component}");
    }
    // several readouts: rows between them are keys and values in the last layer, nothing else
    let cone = draw(
        &config,
        &[patch(Component::BlockInput, 1, [1, 2, 4, 6])],
        &[0, 3, 5],
    );
    let seen = vec![3, 5];
    assert_eq!(rows(&cone.readouts), seen);
    let keys = vec![1, 2, 4];
    let [q, k, v, z, _, _, _, out] = computed(&cone.layers[0]);
    assert_eq!(
        [q, k, v, z, out],
        [vec![], keys.clone(), keys, seen.clone(), seen]
    );
}

#[test]
fn a_freeze_ends_the_cone_and_unseen_rows_before_it_are_not_computed() {
    use Component as C;
    let config = tiny(4);
    let live = || patch(C::HeadAttentionValueOutput, 1, [2]);
    for component in [C::BlockMid, C::BlockOutput, C::BlockInput] {
        let cone = draw(&config, &[live(), freeze(component, 2, 0..6)], &[5]);
        assert!(nothing(&cone), "{component}");
        assert_eq!(flops(&cone, &config).total(), 0);
    }
    // head by head, all heads of z: the branch is the base's, the residual stream goes on alone
    let heads = [0, 1].map(|h| Patch {
        heads: vec![h],
        ..freeze(C::HeadAttentionValueOutput, 2, 0..6)
    });
    let cone = draw(&config, &[live(), heads[0].clone(), heads[1].clone()], &[5]);
    let one = vec![2];
    let none = Vec::new;
    assert_eq!(
        computed(&cone.layers[1]),
        [
            none(),
            none(),
            none(),
            none(),
            none(),
            one.clone(),
            one.clone(),
            one.clone()
        ]
    );
    // one head of them does not: z is computed, and then partly overwritten
    let cone = draw(&config, &[live(), heads[0].clone()], &[5]);
    assert_eq!(computed(&cone.layers[1])[3], upward(2, 5));
    // a freeze of the later rows: the row itself goes on, and in the last layer nobody sees it
    let cone = draw(
        &config,
        &[
            live(),
            freeze(C::BlockOutput, 2, 3..6),
            freeze(C::KeyOutput, 3, [2]),
            freeze(C::ValueOutput, 3, [2]),
        ],
        &[5],
    );
    assert!(nothing(&cone));
    let cone = draw(
        &config,
        &[
            live(),
            freeze(C::BlockOutput, 2, 3..6),
            freeze(C::KeyOutput, 3, [2]),
        ],
        &[5],
    );
    assert_eq!(computed(&cone.layers[1])[3], one);
    assert_eq!(
        computed(&cone.layers[2]),
        [
            none(),
            none(),
            one,
            vec![5],
            vec![5],
            vec![5],
            vec![5],
            vec![5]
        ]
    );
    // what a freeze reads is not a freeze when it stands elsewhere
    let moved = Patch {
        source_positions: Some((0..6).rev().collect()),
        op: Op::Add(None),
        ..freeze(C::BlockOutput, 2, 0..6)
    };
    let cone = cone::of_run(&Question {
        config: &config,
        cells: &cells(&[live(), moved], 0, &config),
        readouts: &[5].into_iter().collect(),
        same: &|_| false,
        wanted: &Wanted::new(),
    });
    assert_eq!(rows(&cone.readouts), vec![5]);
}

#[test]
fn dead_patches_cost_nothing_and_leave_live_ones_their_cone() {
    use Component as C;
    let config = tiny(3);
    for component in Component::all().filter(|c| !c.has_keys()) {
        assert!(
            nothing(&draw(&config, &[freeze(component, 1, 0..6)], &[5])),
            "{component}"
        );
    }
    // α = 0, a factor of 1, a level of 0 are no patches at all
    for op in [
        Op::Interpolate(0.0),
        Op::Scale(1.0),
        Op::Noise {
            level: 0.0,
            seed: 0,
            sample: 0,
        },
    ] {
        assert!(cells(&[patch(C::BlockInput, 0, [0]).with_op(op)], 0, &config).is_empty());
    }
    // dead upstream: only the live patch's layers are there to be computed
    let live = patch(C::BlockMid, 2, [5]);
    let cone = draw(
        &config,
        &[freeze(C::BlockInput, 0, 0..6), live.clone()],
        &[5],
    );
    let alone = draw(&config, &[live], &[5]);
    assert_eq!(flops(&cone, &config), flops(&alone, &config));
    assert!(flops(&cone, &config).total() > 0);
}

#[test]
fn the_whole_run_computes_every_row() {
    let config = tiny(3);
    let cone = cone::of_whole(&config, &[], 70, &Positions::range(69, 70));
    let all = upward(0, 69);
    for layer in &cone.layers {
        assert!(computed(layer).iter().all(|r| *r == all));
    }
    assert_eq!(rows(&cone.input.computed), all);
    assert_eq!(cone.readouts.len(), 1);
}

#[test]
fn rows_beyond_one_word_of_positions() {
    let config = tiny(2);
    for position in [62, 63, 64, 65, 127, 128] {
        let cone = draw(
            &config,
            &[patch(Component::HeadValueOutput, 0, [position])],
            &[128],
        );
        assert_eq!(computed(&cone.layers[0])[3], upward(position, 128));
        assert_eq!(computed(&cone.layers[1])[1], upward(position, 128));
        assert_eq!(computed(&cone.layers[1])[7], [128]);
        let cone = draw(
            &config,
            &[patch(Component::HeadValueOutput, 0, [position])],
            &[position],
        );
        assert_eq!(computed(&cone.layers[0])[3], [position]);
    }
}

#[test]
fn edges_of_sets_of_positions() {
    let set = |p: &[usize]| p.iter().copied().collect::<Positions>();
    for (from, to) in [
        (0, 0),
        (0, 64),
        (63, 64),
        (63, 65),
        (64, 64),
        (64, 65),
        (64, 128),
        (5, 3),
        (100, 70),
        (127, 129),
    ] {
        let range = Positions::range(from, to);
        assert_eq!(rows(&range), (from..to).collect::<Vec<_>>(), "{from}..{to}");
        assert_eq!(range.is_empty(), from >= to);
        assert_eq!(range.last(), (from..to).last());
        assert_eq!(range.first(), (from..to).next());
    }
    // sets of different lengths in words
    let (short, long) = (set(&[1, 63]), set(&[1, 64, 200]));
    assert_eq!(rows(&short.union(&long)), [1, 63, 64, 200]);
    assert_eq!(rows(&long.union(&short)), [1, 63, 64, 200]);
    assert_eq!(
        (rows(&short.and(&long)), rows(&long.and(&short))),
        (vec![1], vec![1])
    );
    assert_eq!(
        (rows(&short.minus(&long)), rows(&long.minus(&short))),
        (vec![63], vec![64, 200])
    );
    assert_eq!(
        (
            long.up_to(64).len(),
            long.up_to(63).len(),
            long.up_to(1000).len()
        ),
        (2, 1, 3)
    );
    let mut set = long.clone();
    set.remove(200);
    assert_eq!(
        (set.last(), set.contains(200), set.contains(10_000)),
        (Some(64), false, false)
    );
    set.remove(10_000);
    set.insert(0);
    assert_eq!(
        (set.first(), set.len(), Positions::none().last()),
        (Some(0), 3, None)
    );
}

#[test]
fn the_bound_knows_common_prefixes_and_the_exact_plan_knows_the_values() {
    let spec = common::model::ModelSpec {
        layers: 2,
        heads: 2,
        head_width: 4,
        inner: 20,
        vocab: 30,
        activation: "gelu_new",
        tied: true,
        by_layer: false,
        scaled: true,
        dtype: "F32",
        seed: 1,
    };
    let checkpoint = spec.open();
    let cpu = Cpu::<f32>::new(&checkpoint);
    let of = |component, layer, position| {
        let patches = vec![patch(component, layer, [position])];
        let runs = [headlight::patch::Run {
            name: None,
            patches,
            ..headlight::patch::Run::default()
        }]
        .into();
        let pair = Pair {
            base: vec![1, 2, 3, 4],
            source: Some(vec![1, 2, 5, 4]),
            targets: vec![0],
            ..Pair::default()
        };
        let pairs = [PairRuns { pair, runs }];
        (
            plan(&cpu, &pairs).runs.total(),
            run(&cpu, &pairs, PLENTY).plan.runs.total(),
        )
    };
    // before the first token that differs: dead by tokens alone
    assert_eq!(of(Component::BlockInput, 1, 1), (0, 0));
    // the same token after it: alive as far as tokens tell, dead by its value in layer 0 ...
    let (bound, exact) = of(Component::BlockInput, 0, 3);
    assert!(bound > 0 && exact == 0);
    // ... and alive where attention has seen the difference
    let (bound, exact) = of(Component::BlockInput, 1, 3);
    assert!(bound > 0 && exact == bound);
    assert!(of(Component::BlockInput, 0, 2).1 > 0);
}

#[test]
fn a_row_overwritten_whole_is_not_computed_before_that() {
    use Component as C;
    let config = tiny(3);
    let live = || patch(C::BlockInput, 1, [2]);
    let computed_of = |component: Component| {
        let mut over = patch(component, 1, 0..6);
        over.heads = if component.has_heads() {
            vec![0, 1]
        } else {
            vec![]
        };
        computed(&draw(&config, &[live(), over], &[4, 5]).layers[0])
    };
    let (one, up, none) = (vec![2], upward(2, 5), Vec::new());
    // q, k, v, z, attention output, mid, MLP, out
    assert_eq!(
        computed_of(C::HeadQueryOutput)[..4],
        [none.clone(), one.clone(), one.clone(), upward(0, 5)]
    );
    assert_eq!(
        computed_of(C::KeyOutput)[..4],
        [one.clone(), none.clone(), one.clone(), upward(0, 5)]
    );
    assert_eq!(
        computed_of(C::ValueOutput)[..4],
        [one.clone(), one.clone(), none.clone(), upward(0, 5)]
    );
    let z = computed_of(C::HeadAttentionValueOutput);
    assert_eq!(
        z[..5],
        [
            none.clone(),
            none.clone(),
            none.clone(),
            none.clone(),
            upward(0, 5)
        ]
    );
    let attention = computed_of(C::AttentionOutput);
    assert!(attention[..5].iter().all(Vec::is_empty));
    assert_eq!(attention[5], upward(0, 5));
    let mid = computed_of(C::BlockMid);
    assert!(mid[..6].iter().all(Vec::is_empty));
    assert_eq!(mid[6..], [upward(0, 5), upward(0, 5)]);
    assert!(computed_of(C::BlockOutput).iter().all(Vec::is_empty));
    for (component, stages) in [
        (C::MlpPre, [0, 6, 6]),
        (C::MlpActivation, [0, 0, 6]),
        (C::MlpOutput, [0, 0, 0]),
    ] {
        let over = patch(component, 1, 0..6);
        let cone = draw(&config, &[live(), over], &[4, 5]);
        let layer = &cone.layers[0];
        let mlp =
            [&layer.mlp_pre, &layer.mlp_activation, &layer.mlp_output].map(|s| s.computed.len());
        assert_eq!(mlp, stages, "{component}");
        assert_eq!(rows(&layer.mid.computed), up, "{component}");
        assert_eq!(layer.out.computed.len(), 6, "{component}");
    }
}

#[test]
fn noise_is_a_function_of_where_it_is_added() {
    let config = tiny(2);
    let noise = |positions: Vec<usize>, heads: Vec<usize>, sample| {
        let op = Op::Noise {
            level: 0.5,
            seed: 3,
            sample,
        };
        Patch {
            heads,
            ..patch(Component::HeadValueOutput, 1, positions)
        }
        .with_op(op)
    };
    let drawn = |patches: &[Patch], pair, position, column| {
        let all = cells(patches, pair, &config);
        let found = all
            .iter()
            .rfind(|c| c.layer == 1 && (c.position, c.column) == (position, column))
            .unwrap();
        let Value::Constant(values, offset) = &found.value else {
            panic!("{found:?}")
        };
        values[*offset..][..found.length].to_vec()
    };
    let alone = drawn(&[noise(vec![4], vec![1], 0)], 0, 4, 4);
    assert_eq!(
        drawn(&[noise(vec![0, 4, 2], vec![0, 1], 0)], 0, 4, 4),
        alone
    );
    let before = patch(Component::BlockInput, 0, 0..5);
    assert_eq!(
        drawn(
            &[
                before,
                noise(vec![1], vec![0], 0),
                noise(vec![4], vec![1], 0)
            ],
            0,
            4,
            4
        ),
        alone
    );
    let others = [
        drawn(&[noise(vec![4], vec![0], 0)], 0, 4, 0),
        drawn(&[noise(vec![3], vec![1], 0)], 0, 3, 4),
        drawn(&[noise(vec![4], vec![1], 1)], 0, 4, 4),
        drawn(&[noise(vec![4], vec![1], 0)], 1, 4, 4),
    ];
    assert!(others.iter().all(|other| *other != alone));
}
