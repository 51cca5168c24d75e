//! Attribution scores against EAP-IG's formulas in PyTorch (tests/fixtures/make_gradients.py), and the
//! identities that estimates obey.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use headlight::attribution::{Attribution, GradientAt, Method, PairScores, Rule, edges, nodes};
use headlight::backend::Backend;
#[cfg(feature = "cuda")]
use headlight::backend::Precision;
use headlight::backend::adjoint::Adjoints;
use headlight::backend::cpu::Cpu;
use headlight::graph::edge::{Edge, edges as all_edges};
use headlight::graph::extent::Extent;
use headlight::graph::node::{Receiver, Sender};
use headlight::graph::patching::patch_edges;
use headlight::model::Checkpoint;
use headlight::patch::{Op, Origin, Patch, Prompt, Run};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::results::metric::{Metric, RunReadouts};
use headlight::site::{Component, Site};
use serde::Deserialize;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::model::{ModelSpec, shape};
use crate::common::{PLENTY, Random, limits, run_pair};
#[cfg(feature = "cuda")]
use crate::emulator::gpu::gpu;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    wrong_ids: Vec<u32>,
    metric: String,
    edges: BTreeMap<String, Vec<f64>>,
    nodes: BTreeMap<String, Vec<f64>>,
}

impl Case {
    fn pair(&self) -> Pair {
        Pair {
            base: self.base_ids.clone(),
            source: Some(self.source_ids.clone()),
            targets: self.target_ids.clone(),
            wrong: self.wrong_ids.clone(),
            ..Pair::default()
        }
    }
}

fn fixture(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder(name).join("attribution.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(file.cases.len(), 2);
    file.cases
}

/// `METHOD`, or `METHOD RULE STEPS`, as the fixture names them.
fn attribution(text: &str, metric: &str) -> Attribution {
    let words: Vec<&str> = text.split(' ').collect();
    let mut attribution = Attribution::of(words[0].parse().unwrap(), metric.parse().unwrap());
    match words[1..] {
        [rule, steps] => {
            attribution.rule = rule.parse().unwrap();
            attribution.steps = steps.parse().unwrap();
        }
        ["source"] => attribution.at = GradientAt::Source,
        _ => assert_eq!(words.len(), 1),
    }
    attribution
}

fn edge_scores<B: Adjoints>(
    backend: &B,
    model: &Checkpoint,
    pairs: &[&Pair],
    of: (&[Edge], Extent),
    attribution: &Attribution,
    memory: u64,
) -> Vec<PairScores> {
    let stop = AtomicBool::new(false);
    let limits = headlight::execute::Limits {
        memory,
        ..limits(&stop)
    };
    edges::scores(backend, model, pairs, of, attribution, &limits)
        .unwrap()
        .0
}

fn node_scores<B: Adjoints>(
    backend: &B,
    pairs: &[PairRuns],
    attribution: &Attribution,
) -> Vec<PairScores> {
    let stop = AtomicBool::new(false);
    nodes::scores(backend, pairs, attribution, &limits(&stop))
        .unwrap()
        .0
}

fn edges_agree<B: Adjoints>(name: &str, backend: &B, model: &Checkpoint, gate: f64) {
    let all = all_edges(&model.config);
    let (senders, receivers) = (Sender::all(&model.config), receivers(&model.config));
    for case in fixture(name) {
        let pair = case.pair();
        for (method, wanted) in &case.edges {
            let attribution = attribution(method, &case.metric);
            let of = (&all[..], Extent::Whole);
            let scores = edge_scores(backend, model, &[&pair], of, &attribution, PLENTY);
            let most = wanted.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            assert_eq!(wanted.len(), senders.len() * receivers.len());
            let mut worst = Worst::default();
            for (e, edge) in all.iter().enumerate() {
                let s = edge.sender.index(&model.config);
                let r = receivers.iter().position(|r| *r == edge.receiver).unwrap();
                let want = wanted[s * receivers.len() + r];
                let off = (scores[0].of(e, 0) - want).abs() / most;
                worst.note(off, || format!("{method} {edge}"));
            }
            worst.assert_within(gate, &format!("{name}, {method}"));
            // position by position they add up
            let of = (&all[..], Extent::PerPosition);
            let each = edge_scores(backend, model, &[&pair], of, &attribution, PLENTY);
            for e in 0..all.len() {
                let n = pair.base.len();
                let sum: f64 = (0..n).map(|p| each[0].of(e * n + p, 0)).sum();
                assert!((sum - scores[0].of(e, 0)).abs() <= 1e-12 * most, "{method}");
            }
        }
    }
}

/// Receivers as EAP-IG's scripts of this fixture list them: head by head q, k, v.
fn receivers(config: &headlight::model::Config) -> Vec<Receiver> {
    Receiver::all(config)
}

#[test]
fn edges_agree_with_eap_ig_in_double_precision() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        edges_agree(name, &Cpu::<f64>::new(&model), &model, 1e-9);
    }
}

#[test]
fn edges_agree_with_eap_ig_in_single_precision() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        edges_agree(name, &Cpu::<f32>::new(&model), &model, 3e-5);
    }
}

fn run(patches: Vec<Patch>) -> Run {
    Run {
        patches,
        ..Run::default()
    }
}

fn nodes_agree<B: Adjoints>(name: &str, backend: &B, model: &Checkpoint, gate: f64) {
    for case in fixture(name) {
        let pair = case.pair();
        let n = pair.base.len();
        for (what, wanted) in &case.nodes {
            let (method, site) = what.rsplit_once(' ').unwrap();
            let site: Site = site.parse().unwrap();
            let heads = match site.component.has_heads() {
                true => model.config.heads,
                false => 1,
            };
            let each = (0..heads).flat_map(|h| (0..n).map(move |p| (h, p)));
            let runs = each.map(|(head, position)| {
                let heads = site.component.has_heads().then_some(head);
                let heads = heads.into_iter().collect();
                let patch = Patch::interchange(site.component, site.layer, heads, vec![position]);
                run(vec![patch])
            });
            let runs: Arc<[Run]> = runs.collect();
            let pair = pair.clone();
            let of = [PairRuns { pair, runs }];
            let attribution = attribution(method, &case.metric);
            let scores = node_scores(backend, &of, &attribution);
            let most = wanted.iter().fold(1e-12f64, |m, x| m.max(x.abs()));
            let mut worst = Worst::default();
            for (i, want) in wanted.iter().enumerate() {
                let off = (scores[0].of(i, 0) - want).abs() / most;
                worst.note(off, || i.to_string());
            }
            worst.assert_within(gate, &format!("{name}, {what}"));
        }
    }
}

#[test]
fn nodes_agree_with_pytorch() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        nodes_agree(name, &Cpu::<f64>::new(&model), &model, 1e-9);
    }
}

#[test]
fn nodes_agree_with_pytorch_in_single_precision() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        nodes_agree(name, &Cpu::<f32>::new(&model), &model, 3e-5);
    }
}

/// Every method, on the GPU of this machine or the emulated one.
#[cfg(feature = "cuda")]
#[test]
fn edges_agree_with_eap_ig_on_a_gpu() {
    let gpu = gpu();
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        edges_agree(name, &gpu.cuda(&model, Precision::F32), &model, 3e-5);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nodes_agree_with_pytorch_on_a_gpu() {
    let gpu = gpu();
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        nodes_agree(name, &gpu.cuda(&model, Precision::F32), &model, 1e-4);
    }
}

/// Two prompts of some random tokens.
fn random_pair(length: usize, vocab: usize, seed: u64) -> Pair {
    let random = &mut Random(seed);
    let mut ids = |n: usize| -> Vec<u32> { (0..n).map(|_| random.below(vocab) as u32).collect() };
    Pair {
        base: ids(length),
        source: Some(ids(length)),
        targets: vec![1, 5],
        wrong: vec![3],
        ..Pair::default()
    }
}

/// metric(run) − metric(base) of one run.
fn exact(cpu: &Cpu<f64>, pair: &Pair, of: Run, metric: Metric) -> f64 {
    let read = run_pair(cpu, pair, vec![of]);
    let reading = |run| RunReadouts {
        pair,
        base: &read.base[0],
        source: read.source.as_ref(),
        run,
    };
    metric.of(&reading(&read.runs[0][0]), 0) - metric.of(&reading(&read.base[0]), 0)
}

/// Everything that a sender tells its receivers is everything that it does.
#[test]
fn a_senders_edges_add_up_to_its_node() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let (cpu, config) = (Cpu::<f64>::new(&model), &model.config);
        let pair = random_pair(6, config.vocab, 3);
        let all = all_edges(config);
        let positions: Vec<usize> = (0..6).collect();
        for method in [
            "attribution",
            "clean-corrupted",
            "relp",
            "eap-ig-inputs midpoint 3",
        ] {
            let attribution = attribution(method, "prob");
            let of = (&all[..], Extent::Whole);
            let scores = &edge_scores(&cpu, &model, &[&pair], of, &attribution, PLENTY)[0];
            let senders = Sender::all(config);
            let patch = |sender: &Sender| {
                let (component, layer, heads) = match *sender {
                    Sender::Input => (Component::TokenEmbedding, None, vec![]),
                    Sender::Head { layer, head } => {
                        (Component::HeadAttentionValueOutput, Some(layer), vec![head])
                    }
                    Sender::Mlp { layer } => (Component::MlpOutput, Some(layer), vec![]),
                };
                run(vec![Patch::interchange(
                    component,
                    layer,
                    heads,
                    positions.clone(),
                )])
            };
            let runs: Arc<[Run]> = senders.iter().map(patch).collect();
            let of = [PairRuns {
                pair: pair.clone(),
                runs,
            }];
            let nodes = &node_scores(&cpu, &of, &attribution)[0];
            assert_eq!(nodes.values, 2);
            for target in 0..2 {
                let most = (0..senders.len()).map(|s| nodes.of(s, target).abs());
                let most = most.fold(0.0, f64::max);
                for (s, sender) in senders.iter().enumerate() {
                    let own = all.iter().enumerate().filter(|(_, e)| e.sender == *sender);
                    let sum: f64 = own.map(|(e, _)| scores.of(e, target)).sum();
                    let off = (sum - nodes.of(s, target)).abs();
                    assert!(off <= 1e-10 * most, "{method}, {sender}: {off:e}");
                }
            }
        }
    }
}

/// With the last layer norm's scale held, the logits are a linear function of what is summed up before it:
/// all edges into them are the whole difference between two runs, exactly.
#[test]
fn edges_into_the_logits_are_the_whole_difference_where_the_rest_is_linear() {
    let model = checkpoint("tied");
    let (cpu, config) = (Cpu::<f64>::new(&model), &model.config);
    let pair = random_pair(7, config.vocab, 5);
    let edges: Vec<Edge> = all_edges(config);
    let into = edges.into_iter().filter(|e| e.receiver == Receiver::Logits);
    let into: Vec<Edge> = into.collect();
    for metric in ["logit", "logit_diff"] {
        let metric: Metric = metric.parse().unwrap();
        let attribution = Attribution::of(Method::Relp, metric);
        let of = (&into[..], Extent::Whole);
        let scores = &edge_scores(&cpu, &model, &[&pair], of, &attribution, PLENTY)[0];
        let sum: f64 = (0..into.len()).map(|e| scores.of(e, 0)).sum();
        // the source's last row of the stream, under the base's scale
        let last = Some(config.layers - 1);
        let scale = Patch::interchange(Component::LnFScale, None, vec![], vec![6]);
        let patches = vec![
            Patch::interchange(Component::BlockOutput, last, vec![], vec![6]),
            Patch {
                origin: Origin::Clean(Prompt::Base),
                ..scale
            },
        ];
        let whole = exact(&cpu, &pair, run(patches), metric);
        assert!(
            whole.abs() > 0.1 && (sum - whole).abs() <= 1e-12 * whole.abs().max(1.0),
            "{sum} {whole}"
        );
    }
}

/// Of a model that is all but linear, every edge's estimate is its exact effect. (RelP divides by what it has moved
/// away from zero, and is none of these methods.)
#[test]
fn estimates_of_a_linear_model_are_exact() {
    let spec = ModelSpec {
        layers: 2,
        activation: "relu",
        ..shape(2, 4, 12, 19)
    };
    let model = linear(&spec);
    let cpu = Cpu::<f64>::new(&model);
    let pair = random_pair(5, 19, 8);
    let all = all_edges(&model.config);
    let metric: Metric = "logit_diff".parse().unwrap();
    let mut read = headlight::execute::Outcome::default();
    let stop = AtomicBool::new(false);
    let of = (&all[..], Extent::Whole);
    patch_edges(&cpu, &model, &pair, of, &limits(&stop), &mut read).unwrap();
    let read = &read.pairs[0];
    let value = |run| {
        let reading = RunReadouts {
            pair: &pair,
            base: &read.base[0],
            source: None,
            run,
        };
        metric.of(&reading, 0)
    };
    for method in ["eap", "clean-corrupted", "eap-ig-inputs left 2"] {
        let attribution = attribution(method, "logit_diff");
        let scores = &edge_scores(&cpu, &model, &[&pair], of, &attribution, PLENTY)[0];
        let exact: Vec<f64> = (0..all.len())
            .map(|e| value(&read.runs[e][0]) - value(&read.base[0]))
            .collect();
        let most = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(most > 1e-7, "{most:e}");
        for (e, exact) in exact.iter().enumerate() {
            let off = (scores.of(e, 0) - exact).abs() / most;
            assert!(off <= 1e-4, "{method}, {}: {off:e}", all[e]);
        }
    }
}

/// A model whose layer norms see what is small beside their ε, whose queries and keys are nothing, and whose
/// MLPs stay on one side of the kink.
fn linear(spec: &ModelSpec) -> Checkpoint {
    use safetensors::Dtype;
    use safetensors::tensor::{TensorView, serialize};
    let (d, inner, random) = (spec.width(), spec.inner, &mut Random(4));
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, of: &mut dyn FnMut(usize) -> f64| {
        let count = shape.iter().product::<usize>();
        let bytes = (0..count).flat_map(|i| (of(i) as f32).to_le_bytes());
        tensors.push((name, shape, bytes.collect()));
    };
    let small = 1e-4;
    add("wte.weight".into(), vec![spec.vocab, d], &mut |_| {
        small * random.normal()
    });
    add("wpe.weight".into(), vec![16, d], &mut |_| {
        small * random.normal()
    });
    for layer in 0..spec.layers {
        for norm in ["ln_1", "ln_2"] {
            add(format!("h.{layer}.{norm}.weight"), vec![d], &mut |_| 1.0);
            add(format!("h.{layer}.{norm}.bias"), vec![d], &mut |_| 0.0);
        }
        let columns = 3 * d;
        add(
            format!("h.{layer}.attn.c_attn.weight"),
            vec![d, columns],
            &mut |i| {
                if i % columns < 2 * d {
                    0.0
                } else {
                    0.5 * random.normal()
                }
            },
        );
        add(
            format!("h.{layer}.attn.c_attn.bias"),
            vec![columns],
            &mut |_| 0.0,
        );
        add(
            format!("h.{layer}.attn.c_proj.weight"),
            vec![d, d],
            &mut |_| 0.5 * random.normal(),
        );
        add(format!("h.{layer}.attn.c_proj.bias"), vec![d], &mut |_| 0.0);
        add(
            format!("h.{layer}.mlp.c_fc.weight"),
            vec![d, inner],
            &mut |_| 0.5 * random.normal(),
        );
        // half of the neurons are always on, half always off
        add(format!("h.{layer}.mlp.c_fc.bias"), vec![inner], &mut |i| {
            if i % 2 == 0 { 1e-2 } else { -1e-2 }
        });
        let scale = 0.3;
        add(
            format!("h.{layer}.mlp.c_proj.weight"),
            vec![inner, d],
            &mut |_| scale * random.normal(),
        );
        // what the neurons that are on add always is taken off again, as far as f32 can
        add(format!("h.{layer}.mlp.c_proj.bias"), vec![d], &mut |_| 0.0);
    }
    add("ln_f.weight".into(), vec![d], &mut |_| 1.0);
    add("ln_f.bias".into(), vec![d], &mut |_| 0.0);
    add("lm_head.weight".into(), vec![spec.vocab, d], &mut |_| {
        random.normal()
    });
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let file = serialize(views, None).unwrap();
    let config = serde_json::json!({
        "model_type": "gpt2", "n_layer": spec.layers, "n_head": spec.heads, "n_embd": d, "n_inner": inner,
        "vocab_size": spec.vocab, "n_positions": 16, "activation_function": "relu", "layer_norm_epsilon": 0.9,
        "tie_word_embeddings": false,
    });
    Checkpoint::from_bytes("linear", config.to_string().as_bytes(), file.into(), None).unwrap()
}

/// The input's scores along the path are what the metric moves in all, with an error that falls as the rule
/// says: as 1/m with EAP-IG's, as 1/m² with the others.
#[test]
fn integrated_gradients_are_complete() {
    let model = checkpoint("tied");
    let (cpu, config) = (Cpu::<f64>::new(&model), &model.config);
    let pair = random_pair(5, config.vocab, 21);
    let metric: Metric = "logprob".parse().unwrap();
    let positions: Vec<usize> = (0..5).collect();
    let patch = Patch::interchange(Component::TokenEmbedding, None, vec![], positions);
    let whole = exact(&cpu, &pair, run(vec![patch.clone()]), metric);
    let of = [PairRuns {
        pair: pair.clone(),
        runs: [run(vec![patch])].into(),
    }];
    for (rule, order) in [
        (Rule::Left, 1.0),
        (Rule::Midpoint, 2.0),
        (Rule::Trapezoid, 2.0),
    ] {
        let error = |steps: usize| {
            let attribution = Attribution {
                steps,
                rule,
                ..Attribution::of(Method::EapIgInputs, metric)
            };
            (node_scores(&cpu, &of, &attribution)[0].of(0, 0) - whole).abs()
        };
        let (few, many) = (error(200), error(400));
        let found = (few / many).log2();
        assert!(
            (found - order).abs() < 0.15,
            "{rule:?}: {few:e} {many:e} {found}"
        );
        assert!(many < 0.1 * whole.abs(), "{rule:?}: {many:e} of {whole}");
    }
}

/// TransformerLens 4.3's attribution_patch takes the gradient at the corrupted prompt and counts clean − corrupted,
/// position by position: that is an estimate whose base is the corrupted prompt, and with the prompts exchanged and
/// the gradient at the source the same number the other way round.
#[test]
fn the_corrupted_prompt_as_base_is_transformer_lens_s_convention() {
    let model = checkpoint("tied");
    let (cpu, all) = (Cpu::<f64>::new(&model), all_edges(&model.config));
    let corrupted = random_pair(6, model.config.vocab, 13);
    let clean = Pair {
        base: corrupted.source.clone().unwrap(),
        source: Some(corrupted.base.clone()),
        ..corrupted.clone()
    };
    for (extent, metric) in [
        (Extent::PerPosition, "logit_diff"),
        (Extent::Whole, "logprob"),
    ] {
        let at_base = attribution("eap", metric);
        let at_source = Attribution {
            at: GradientAt::Source,
            ..at_base
        };
        let of = (&all[..], extent);
        let ours = &edge_scores(&cpu, &model, &[&corrupted], of, &at_base, PLENTY)[0];
        let theirs = &edge_scores(&cpu, &model, &[&clean], of, &at_source, PLENTY)[0];
        assert!(ours.scores.iter().any(|x| x.abs() > 1e-3));
        for (a, b) in ours.scores.iter().zip(&theirs.scores) {
            assert!((a + b).abs() <= 1e-12 * a.abs().max(1.0), "{a} {b}");
        }
    }
}

/// Alone or together, with little memory or much, in any order: the same bits, of both levels.
#[test]
fn scores_do_not_depend_on_the_batch() {
    let spec = ModelSpec {
        layers: 3,
        ..shape(2, 5, 33, 60)
    };
    let model = spec.open();
    let cpu = Cpu::<f32>::new(&model);
    let all = all_edges(&model.config);
    let pairs: Vec<Pair> = (0..7)
        .map(|i| random_pair(2 + (3 * i) % 8, 60, i as u64))
        .collect();
    let bits =
        |scores: &PairScores| -> Vec<u64> { scores.scores.iter().map(|x| x.to_bits()).collect() };
    for method in [
        "eap",
        "eap-ig-inputs midpoint 4",
        "eap-ig-activations left 2",
    ] {
        for metric in ["logit_diff", "prob", "kl"] {
            let attribution = attribution(method, metric);
            let of = (&all[..], Extent::Whole);
            let refs: Vec<&Pair> = pairs.iter().collect();
            let together = edge_scores(&cpu, &model, &refs, of, &attribution, PLENTY);
            let backwards: Vec<&Pair> = pairs.iter().rev().collect();
            let cut = edge_scores(&cpu, &model, &backwards, of, &attribution, 600_000);
            for (i, pair) in pairs.iter().enumerate() {
                let alone = edge_scores(&cpu, &model, &[pair], of, &attribution, PLENTY);
                // a divergence from the base has no slope there
                let flat = (method, metric) == ("eap", "kl");
                assert!(
                    alone[0].scores.iter().any(|x| *x != 0.0) != flat,
                    "{method} {metric}"
                );
                assert_eq!(bits(&alone[0]), bits(&together[i]), "{method} {metric}");
                assert_eq!(
                    bits(&alone[0]),
                    bits(&cut[pairs.len() - 1 - i]),
                    "{method} {metric}"
                );
            }
        }
    }
}

/// Operators other than interchange, against their own first order: a patch so small that nothing else counts.
#[test]
fn every_operator_is_estimated_by_what_it_changes() {
    let model = checkpoint("odd_untied");
    let cpu = Cpu::<f64>::new(&model);
    let pair = random_pair(5, model.config.vocab, 2);
    let metric: Metric = "logit_diff".parse().unwrap();
    let small = 1e-6;
    for component in [
        Component::HeadQueryOutput,
        Component::AttentionKeyInput,
        Component::HeadAttentionValueOutput,
        Component::AttentionScores,
        Component::AttentionWeight,
        Component::MlpResidualInput,
        Component::Ln2Scale,
        Component::Ln1Normalized,
        Component::BlockMid,
        Component::MlpActivation,
    ] {
        for (op, back) in [
            (Op::Scale(1.0 + small), Op::Scale(1.0 - small)),
            (Op::Interpolate(small), Op::Interpolate(-small)),
        ] {
            // a layer norm takes off again what its input is multiplied by
            let is_normed = matches!(
                component,
                Component::AttentionKeyInput | Component::MlpResidualInput
            );
            if is_normed && matches!(op, Op::Scale(_)) {
                continue;
            }
            let heads = if component.has_heads() {
                vec![1, 2]
            } else {
                vec![]
            };
            let patch = Patch::interchange(component, Some(1), heads, vec![1, 4]);
            let of = run(vec![patch.clone().with_op(op.clone())]);
            let pairs = [PairRuns {
                pair: pair.clone(),
                runs: [of.clone()].into(),
            }];
            let attribution = Attribution::of(Method::Attribution, metric);
            let got = node_scores(&cpu, &pairs, &attribution)[0].of(0, 0);
            // what is of second order goes out
            let back = run(vec![patch.with_op(back)]);
            let want = (exact(&cpu, &pair, of, metric) - exact(&cpu, &pair, back, metric)) / 2.0;
            // logits of some units are told apart to 10⁻¹⁵
            let off = (got - want).abs();
            assert!(
                want.abs() > 1e-11 && off < 1e-4 * want.abs() + 1e-13,
                "{component} {op:?}: {got:e} {want:e}"
            );
        }
    }
}

#[test]
fn what_cannot_be_attributed_is_refused() {
    let model = checkpoint("tied");
    let cpu = Cpu::<f32>::new(&model);
    let stop = AtomicBool::new(false);
    let pair = |source: Option<Vec<u32>>| Pair {
        base: vec![1, 2, 3],
        source,
        targets: vec![1],
        ..Pair::default()
    };
    let refused = |pair: Pair, method: &str, patch: Patch| {
        let attribution = attribution(method, "prob");
        let runs = [run(vec![patch])].into();
        let of = [PairRuns { pair, runs }];
        nodes::scores(&cpu, &of, &attribution, &limits(&stop))
            .unwrap_err()
            .to_string()
    };
    let patch = Patch::interchange(Component::MlpOutput, Some(0), vec![], vec![1]);
    let said = refused(pair(Some(vec![1, 2])), "clean-corrupted", patch.clone());
    assert!(
        said.contains("3 tokens and the source 2") && said.contains("equal length"),
        "{said}"
    );
    let zero = patch.clone().with_op(Op::Zero);
    assert!(refused(pair(None), "eap-ig-inputs left 2", zero).contains("--source"));
    let said = refused(pair(Some(vec![1, 2, 4])), "eap-ig-inputs left 0", patch);
    assert!(said.contains("--steps 0"), "{said}");
    let before = cpu.executed_flops();
    assert_eq!(before, 0, "nothing was run");
}

/// What TransformerLens's attribution_patch says of a pair: nodes and edges by name, position and score.
#[derive(Deserialize)]
struct Lens {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    wrong_ids: Vec<u32>,
    nodes: Vec<(String, usize, f64)>,
    edges: Vec<(String, usize, f64)>,
}

#[derive(Deserialize)]
struct LensFile {
    cases: Vec<Lens>,
}

/// Every node and edge at every position: TransformerLens's clean prompt is the source, its corrupted one the base.
#[test]
fn scores_are_transformer_lenss() {
    for name in ["tied", "odd_untied"] {
        let text = std::fs::read_to_string(folder(name).join("attribution_patch.json")).unwrap();
        let file: LensFile = serde_json::from_str(&text).unwrap();
        assert_eq!(file.cases.len(), 2);
        let model = checkpoint(name);
        let cpu = Cpu::<f64>::new(&model);
        for case in file.cases {
            let pair = Pair {
                base: case.base_ids,
                source: Some(case.source_ids),
                targets: case.target_ids,
                wrong: case.wrong_ids,
                ..Pair::default()
            };
            let n = pair.base.len();
            let attribution = attribution("attribution", "logit_diff");
            let most = |rows: &[(String, usize, f64)]| {
                rows.iter().fold(0.0f64, |m, (.., x)| m.max(x.abs()))
            };
            let all = all_edges(&model.config);
            let of = (&all[..], Extent::PerPosition);
            let scores = edge_scores(&cpu, &model, &[&pair], of, &attribution, PLENTY);
            assert_eq!(case.edges.len(), all.len() * n);
            let mut worst = Worst::default();
            for (edge, position, want) in &case.edges {
                let e = all
                    .iter()
                    .position(|known| known.to_string() == *edge)
                    .unwrap();
                let off = (scores[0].of(e * n + position, 0) - want).abs() / most(&case.edges);
                worst.note(off, || format!("{edge}@{position}"));
            }
            worst.assert_within(1e-8, &format!("{name}, edges of TransformerLens"));
            // nodes: what a sender's own activation does, whatever reads it
            let run = |(node, position, _): &(String, usize, f64)| {
                let layer = |text: &str| text.parse().unwrap();
                let patch = match node.as_str() {
                    "input" => Patch::interchange(
                        Component::TokenEmbedding,
                        None,
                        Vec::new(),
                        vec![*position],
                    ),
                    mlp if mlp.starts_with('m') => Patch::interchange(
                        Component::MlpOutput,
                        Some(layer(&mlp[1..])),
                        Vec::new(),
                        vec![*position],
                    ),
                    head => {
                        let (at, head) = head[1..].split_once(".h").unwrap();
                        let z = Component::HeadAttentionValueOutput;
                        Patch::interchange(
                            z,
                            Some(layer(at)),
                            vec![head.parse().unwrap()],
                            vec![*position],
                        )
                    }
                };
                [patch].into_iter().collect::<Run>()
            };
            let runs: Vec<Run> = case.nodes.iter().map(run).collect();
            let pairs = [PairRuns {
                pair,
                runs: runs.into(),
            }];
            let scores = node_scores(&cpu, &pairs, &attribution);
            let mut worst = Worst::default();
            for (i, (node, position, want)) in case.nodes.iter().enumerate() {
                let off = (scores[0].of(i, 0) - want).abs() / most(&case.nodes);
                worst.note(off, || format!("{node}@{position}"));
            }
            worst.assert_within(1e-8, &format!("{name}, nodes of TransformerLens"));
        }
    }
}
