//! Lenses, against their formulas over activations that transformers recorded in double precision
//! (`tests/fixtures/*/activations.safetensors`) and the checkpoint's own weights; also on a GPU.

use std::collections::HashMap;

use headlight::backend::Precision;
use headlight::engine::{DeviceWish, Where};
use headlight::lens::contributions::By;
use headlight::model::Checkpoint;
use headlight::results::candidate::Candidate;
use headlight::results::metric::{Metric, Quantity};
use headlight::results::table::Row;
use headlight::{Engine, IndexRange, Pair, Position, Question, Site};
use safetensors::SafeTensors;

use crate::common::fixtures::{Worst, checkpoint, folder};
#[cfg(feature = "cuda")]
use crate::common::{PLENTY, run};

/// What transformers computed of one prompt.
struct Recorded {
    ids: Vec<u32>,
    values: HashMap<String, Vec<f64>>,
    width: usize,
}

impl Recorded {
    fn new(name: &str, width: usize) -> Self {
        let bytes = std::fs::read(folder(name).join("activations.safetensors")).unwrap();
        let (_, head) = SafeTensors::read_metadata(&bytes).unwrap();
        let ids = &head.metadata().as_ref().unwrap()["ids"];
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let each = tensors.iter().map(|(name, tensor)| {
            let (numbers, _) = tensor.data().as_chunks::<8>();
            let numbers = numbers.iter().map(|b| f64::from_le_bytes(*b)).collect();
            (name.to_owned(), numbers)
        });
        Self {
            ids: serde_json::from_str(ids).unwrap(),
            values: each.collect(),
            width,
        }
    }

    fn row(&self, name: &str, position: usize) -> &[f64] {
        &self.values[name][position * self.width..][..self.width]
    }
}

/// ln_f of what is left of x without its mean, divided by the scale; W_U of the sum with its bias.
struct Final {
    weight: Vec<f64>,
    bias: Vec<f64>,
    unembedding: Vec<Vec<f64>>,
    epsilon: f64,
}

impl Final {
    fn of(model: &Checkpoint) -> Self {
        let vocab = 0..model.config.vocab;
        Self {
            weight: model.ln_f().weight.to_vec(),
            bias: model.ln_f().bias.to_vec(),
            unembedding: vocab.map(|t| model.unembedding().row(t).to_vec()).collect(),
            epsilon: model.config.layer_norm_epsilon,
        }
    }

    fn scale(&self, x: &[f64]) -> f64 {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        (variance + self.epsilon).sqrt()
    }

    /// What c adds to each logit where the scale is held.
    fn adds(&self, c: &[f64], scale: f64) -> Vec<f64> {
        let mean = c.iter().sum::<f64>() / c.len() as f64;
        let normed: Vec<f64> = c
            .iter()
            .zip(&self.weight)
            .map(|(c, w)| (c - mean) / scale * w)
            .collect();
        self.unembed(&normed)
    }

    fn unembed(&self, x: &[f64]) -> Vec<f64> {
        let dot = |u: &Vec<f64>| u.iter().zip(x).map(|(u, x)| u * x).sum();
        self.unembedding.iter().map(dot).collect()
    }

    fn logits(&self, x: &[f64]) -> Vec<f64> {
        let (own, bias) = (self.adds(x, self.scale(x)), self.unembed(&self.bias));
        own.iter().zip(bias).map(|(own, bias)| own + bias).collect()
    }
}

fn engine(name: &str, precision: Precision) -> Engine {
    let engine = Engine::of(checkpoint(name)).device(DeviceWish::Cpu);
    engine.precision(precision).build().unwrap()
}

/// Fixtures with recorded activations.
const FIXTURES: [&str; 3] = ["odd_untied", "tied", "bare_bf16"];

fn sites(names: &[&str]) -> Vec<Site> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Every stream at every position, every token a target.
fn everything<'e>(engine: &'e Engine, ids: &[u32]) -> Question<'e> {
    let config = &engine.model().config;
    let pair = Pair {
        base: ids.to_vec(),
        targets: (0..config.vocab as u32).collect(),
        ..Pair::default()
    };
    let streams = sites(&["block_input", "block_mid", "block_output"]);
    let question = engine
        .lens(&streams, &IndexRange::All, &Where::All, pair)
        .unwrap();
    let question = question.metrics(&[Metric::plain(Quantity::Rank)]).unwrap();
    question.top_tokens(4)
}

#[test]
fn streams_say_what_the_last_layer_norm_and_the_unembedding_make_of_them() {
    for name in FIXTURES {
        for (precision, gate) in [(Precision::F64, 1e-9), (Precision::F32, 1e-4)] {
            let engine = engine(name, precision);
            let config = &engine.model().config;
            let recorded = Recorded::new(name, config.width);
            let last = Final::of(engine.model());
            let table = everything(&engine, &recorded.ids).table().unwrap();
            let runs: Vec<&[Row]> = table.rows.chunk_by(|a, b| a.run == b.run).collect();
            assert_eq!(runs.len(), 3 * config.layers * recorded.ids.len());
            let mut worst = Worst::default();
            for rows in runs {
                let (layer, position) =
                    (rows[0].layer.unwrap(), rows[0].position.unwrap() as usize);
                let stream = format!("{}.{layer}", rows[0].component.as_deref().unwrap());
                assert_eq!(rows[0].name.as_deref(), Some(&*stream));
                let want = last.logits(recorded.row(&stream, position));
                let most = want.iter().fold(f64::MIN, |m, x| m.max(*x));
                let whole = want.iter().map(|x| (x - most).exp()).sum::<f64>().ln() + most;
                for (row, want) in rows.iter().zip(&want) {
                    let error = (row.logit - want)
                        .abs()
                        .max((row.logprob - (want - whole)).abs());
                    worst.note(error, || format!("{name} {stream} at {position}"));
                }
                if precision == Precision::F64 {
                    let mut order: Vec<usize> = (0..want.len()).collect();
                    order.sort_by(|a, b| want[*b].total_cmp(&want[*a]));
                    let top = Candidate::of_column(rows[0].top_tokens.as_deref().unwrap());
                    assert!(
                        top.iter()
                            .map(|c| c.id as usize)
                            .eq(order[..4].iter().copied()),
                        "{stream}"
                    );
                    for (rank, id) in order.iter().enumerate() {
                        assert_eq!(rows[*id].metrics, [rank as f64], "{stream}");
                    }
                }
            }
            worst.assert_within(gate, precision.name());
        }
    }
}

/// The last stream's lens is the model's own answer, bit for bit, and costs nothing.
#[test]
fn the_last_stream_is_the_model() {
    let engine = engine("odd_untied", Precision::F32);
    let ids = [8, 15, 1, 39];
    let question = everything(&engine, &ids);
    let table = question.table().unwrap();
    let last = engine.model().config.layers as u32 - 1;
    let of_last =
        |row: &&Row| row.component.as_deref() == Some("block_output") && row.layer == Some(last);
    let rows: Vec<&Row> = table.rows.iter().filter(of_last).collect();
    assert_eq!(rows.len(), 4 * engine.model().config.vocab);
    for row in rows {
        assert_eq!(row.prob.to_bits(), row.base_prob.to_bits());
    }
    // what is computed is the last layer norm and the unembedding
    let answer = question.answer(&mut [], &|_| ()).unwrap();
    assert_eq!(answer.plan.copied, 4);
    let one = 2 * (engine.model().config.vocab * engine.model().config.width) as u64;
    let streams = (3 * engine.model().config.layers - 1) as u64 * 4;
    let clean = answer.plan.clean.total();
    assert!(
        answer.plan.flops() - clean <= streams * (one + one / 2),
        "{:?}",
        answer.plan
    );
}

/// Parts by their names as transformers computed them.
fn recorded_parts(
    by: By,
    model: &Checkpoint,
    recorded: &Recorded,
    position: usize,
) -> Vec<(String, Vec<f64>)> {
    let config = &model.config;
    let (d, width) = (config.head_width(), config.width);
    let row = |name: &str| recorded.row(name, position).to_vec();
    let sum = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
    let mut all = vec![
        ("embed".to_owned(), row("token_embedding")),
        ("pos_embed".to_owned(), row("position_embedding")),
    ];
    for l in 0..config.layers {
        let (attention, mlp) = (
            row(&format!("attention_output.{l}")),
            row(&format!("mlp_output.{l}")),
        );
        match by {
            By::Layer => all.push((format!("layer {l}"), sum(attention, mlp))),
            By::Component => all.extend([(format!("a{l}"), attention), (format!("m{l}"), mlp)]),
            By::Head => {
                let c_proj = model.layer(l).c_proj;
                let z = row(&format!("attention_value_output.{l}"));
                for h in 0..config.heads {
                    let mut result = vec![0.0; width];
                    for (i, z) in z.iter().enumerate().skip(h * d).take(d) {
                        let weights: Vec<f64> = c_proj.weight.row(i).to_vec();
                        result
                            .iter_mut()
                            .zip(weights)
                            .for_each(|(r, w)| *r += z * w);
                    }
                    all.push((format!("a{l}.h{h}"), result));
                }
                all.push((format!("b_O.{l}"), c_proj.bias.to_vec()));
                all.push((format!("m{l}"), mlp));
            }
        }
    }
    all
}

#[test]
fn parts_add_what_the_formula_says_and_all_of_them_the_logit() {
    for name in FIXTURES {
        for (precision, gate) in [(Precision::F64, 1e-9), (Precision::F32, 1e-4)] {
            let engine = engine(name, precision);
            let (model, config) = (engine.model(), &engine.model().config);
            let recorded = Recorded::new(name, config.width);
            let last = Final::of(model);
            let pair = Pair {
                base: recorded.ids.clone(),
                targets: vec![3, 7],
                wrong: vec![5],
                ..Pair::default()
            };
            let positions = Where::Listed([-1isize, 2].map(Position::Number).to_vec());
            let mut worst = Worst::default();
            for by in [By::Layer, By::Component, By::Head] {
                let question = engine
                    .direct_logit_attribution(by, &positions, pair.clone())
                    .unwrap();
                let differ = [Metric::plain(Quantity::LogitDiff)];
                let table = question.metrics(&differ).unwrap().table().unwrap();
                let end = recorded.ids.len() - 1;
                for position in [end, 2] {
                    let here = |row: &&Row| row.position == Some(position as u32);
                    let rows: Vec<&Row> = table.rows.iter().filter(here).collect();
                    let mut parts = recorded_parts(by, model, &recorded, position);
                    let stream =
                        recorded.row(&format!("block_output.{}", config.layers - 1), position);
                    let scale = last.scale(stream);
                    parts.push(("ln_f.bias".to_owned(), Vec::new()));
                    assert_eq!(rows.len(), 2 * parts.len());
                    let mut sums = [0.0; 3];
                    for (rows, (part, c)) in rows.chunks_exact(2).zip(&parts) {
                        assert_eq!(rows[0].name.as_deref(), Some(&**part));
                        let adds = match &part[..] {
                            "ln_f.bias" => last.unembed(&last.bias),
                            _ => last.adds(c, scale),
                        };
                        let want = [adds[3], adds[7], f64::midpoint(adds[3], adds[7]) - adds[5]];
                        let got = [rows[0].logit, rows[1].logit, rows[0].metrics[0]];
                        for ((got, want), sum) in got.iter().zip(want).zip(&mut sums) {
                            worst.note((got - want).abs(), || {
                                format!("{name} {by} {part} at {position}")
                            });
                            *sum += got;
                        }
                        assert!(rows[0].prob.is_nan() && rows[0].base_prob > 0.0);
                    }
                    // whatever is told apart, together it is the logit, and the difference of logits
                    let logits = last.logits(stream);
                    let whole = [
                        logits[3],
                        logits[7],
                        f64::midpoint(logits[3], logits[7]) - logits[5],
                    ];
                    for (sum, whole) in sums.iter().zip(whole) {
                        worst.note((sum - whole).abs(), || {
                            format!("{name} {by} sum at {position}")
                        });
                    }
                }
            }
            worst.assert_within(gate, precision.name());
        }
    }
}

/// A stretch of the parts is those of the whole, in pairs of unequal lengths too.
#[test]
fn parts_of_some_pairs_are_those_of_all() {
    let engine = engine("odd_untied", Precision::F32);
    let pair = |ids: &[u32]| Pair {
        base: ids.to_vec(),
        targets: vec![3],
        ..Pair::default()
    };
    // more than are read together
    let pairs: Vec<Pair> = (0..37u32)
        .map(|i| pair(&[i, 4, 9, i + 2][..2 + i as usize % 3]))
        .collect();
    let end = Where::Listed(vec![Position::named("end")]);
    let of = |pairs: Vec<Pair>| {
        let question = engine
            .direct_logit_attribution(By::Head, &end, pairs)
            .unwrap();
        question.table().unwrap().rows
    };
    let all = of(pairs.clone());
    let bits = |rows: &[&Row]| rows.iter().map(|r| r.logit.to_bits()).collect::<Vec<_>>();
    for at in [0, 15, 16, 36] {
        let alone = of(vec![pairs[at].clone()]);
        let here: Vec<&Row> = all.iter().filter(|row| row.pair as usize == at).collect();
        assert_eq!(bits(&here), bits(&alone.iter().collect::<Vec<_>>()), "{at}");
        assert_eq!(here[0].position_name.as_deref(), Some("end"));
    }
}

#[test]
fn what_is_no_lens_is_refused() {
    let engine = engine("odd_untied", Precision::F32);
    let pair = || Pair {
        base: vec![1, 2, 3],
        targets: vec![3],
        ..Pair::default()
    };
    let end = Where::Listed(vec![Position::named("end")]);
    let lens = |component: &str, at: &Where| {
        let refused = engine.lens(&sites(&[component]), &IndexRange::All, at, pair());
        refused
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(lens("mlp_output", &end).contains("give block_input, block_mid or block_output"));
    let twice = Where::Listed(vec![Position::Number(2), Position::named("end")]);
    assert!(
        lens("block_mid", &twice).contains("the same token"),
        "{}",
        lens("block_mid", &twice)
    );
    assert!(lens("block_mid", &Where::Together).contains("one token at a time"));
    let question = engine
        .direct_logit_attribution(By::Head, &end, pair())
        .unwrap();
    let refused = question
        .metrics(&["kl".parse().unwrap()])
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("has no kl"), "{refused}");
}

#[cfg(feature = "cuda")]
#[test]
fn streams_on_the_device_are_the_cpus() {
    let gpu = crate::emulator::gpu::gpu();
    let engine = engine("odd_untied", Precision::F64);
    let question = everything(&engine, &[8, 15, 1, 39]);
    let model = engine.model();
    let want = engine
        .outcome(&question.pairs, headlight::engine::ReadoutOptions::top(0))
        .unwrap();
    let got = run(&gpu.cuda(model, Precision::F32), &question.pairs, PLENTY);
    let mut worst = Worst::default();
    let runs = got.pairs[0].runs.iter().zip(&want.pairs[0].runs);
    for (got, want) in runs.flat_map(|(got, want)| got.iter().zip(want)) {
        for (got, want) in got.logits.iter().zip(&want.logits) {
            worst.note((got - want).abs(), String::new);
        }
    }
    worst.assert_within(1e-4, "device");
}
