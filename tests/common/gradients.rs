//! Gradients of whole models, on any backend that has adjoints, against PyTorch's autograd
//! (tests/fixtures/make_gradients.py); and a law of theirs: a row's gradient does not depend on the batch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use headlight::backend::adjoint::{Adjoints, Frozen};
use headlight::backend::{Backend, Readout};
use headlight::execute::Limits;
use headlight::execute::activations::activations;
use headlight::execute::gradient::{
    GradientRun, GradientSink, LogitWeights, RunGradients, gradients,
};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch, Vector};
use headlight::plan::edit::edits;
use headlight::plan::tape::{AskedGradients, TapedRun};
use headlight::prompt::pair::Pair;
use headlight::results::metric::Metric;
use headlight::site::{Component, Site, Stage, layer_of};
use safetensors::SafeTensors;

use crate::common::fixtures::{Worst, folder};
use crate::common::{Random, limits};

/// What PyTorch computed, by its name.
pub struct Fixture {
    pub pair: Pair,
    tensors: BTreeMap<String, Vec<f64>>,
}

pub fn fixture(name: &str) -> Fixture {
    let path: PathBuf = folder(name).join("gradients.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    let ids = |key: &str| serde_json::from_str::<Vec<u32>>(&about[key]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        let (each, _) = bytes.as_chunks::<8>();
        each.iter().map(|x| f64::from_le_bytes(*x)).collect()
    };
    Fixture {
        pair: Pair {
            base: ids("base_ids"),
            source: Some(ids("source_ids")),
            targets: ids("target_ids"),
            wrong: ids("wrong_ids"),
            ..Pair::default()
        },
        tensors: file
            .iter()
            .map(|(name, view)| (name.to_owned(), numbers(view.data())))
            .collect(),
    }
}

/// Gradients by (run, which), then by place.
pub type Found =
    BTreeMap<(usize, usize), BTreeMap<(usize, Stage, Option<usize>), (usize, Vec<f64>)>>;

/// Keeps everything.
struct Keep<'a> {
    pairs: Vec<&'a Pair>,
    metric: Metric,
    found: Found,
}

impl GradientSink for Keep<'_> {
    fn logits(&mut self, run: usize, readout: &Readout) -> Vec<LogitWeights> {
        self.metric.gradients(self.pairs[run], readout).unwrap()
    }

    fn gradients(&mut self, gradients: &RunGradients<'_>) {
        for (run, values) in gradients.runs() {
            let place = (gradients.layer, gradients.stage, gradients.head);
            let of = self.found.entry((run, gradients.which)).or_default();
            let once = of.insert(place, (gradients.width, values.to_vec()));
            assert!(once.is_none(), "{place:?} arrives twice");
        }
    }
}

pub struct Question<'a> {
    pub asked: &'a AskedGradients,
    pub frozen: Frozen,
    pub metric: &'a str,
    pub memory: u64,
}

/// Gradients of some runs of pairs; what was planned is what is executed.
pub fn found<B: Adjoints>(
    backend: &B,
    runs: &[(&Pair, TapedRun)],
    question: &Question<'_>,
) -> Found {
    let metric: Metric = question.metric.parse().unwrap();
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory: question.memory,
        ..limits(&stop)
    };
    let compared = |pair: &Pair| {
        let source = pair.source.as_deref().unwrap_or(&pair.base);
        metric.needs_kl().then(|| Arc::from(source))
    };
    let all: Vec<GradientRun> = runs
        .iter()
        .map(|(pair, run)| GradientRun {
            run: run.clone(),
            answers: pair.answers().into(),
            compared: compared(pair),
        })
        .collect();
    let mut sink = Keep {
        pairs: runs.iter().map(|(pair, _)| *pair).collect(),
        metric,
        found: Found::new(),
    };
    let before = backend.executed_flops();
    let of = (question.asked, question.frozen);
    let plan = gradients(backend, &all, of, &limits, &mut sink).unwrap();
    assert_eq!(backend.executed_flops() - before, plan.flops());
    assert_eq!(plan.runs, runs.len());
    sink.found
}

fn place(site: &str, model: &Checkpoint) -> (Component, usize, Stage) {
    let site: Site = site.parse().unwrap();
    let stage = site.component.stage();
    (
        site.component,
        layer_of(site.component, site.layer, &model.config),
        stage,
    )
}

/// A site's gradient as the fixture has it: heads first where it has heads, cells beyond the mask left out of
/// both.
fn laid_out(
    found: &Found,
    which: usize,
    (component, layer, stage): (Component, usize, Stage),
    model: &Checkpoint,
    wanted: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let of = &found[&(0, which)];
    let heads = model.config.heads;
    let copies = matches!(
        stage,
        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput
    );
    if copies {
        let each = (0..heads).flat_map(|head| of[&(layer, stage, Some(head))].1.clone());
        return (each.collect(), wanted.to_vec());
    }
    let (width, values) = &of[&(layer, stage, None)];
    let positions = values.len() / width;
    if !component.has_heads() {
        return (values.clone(), wanted.to_vec());
    }
    let (mut got, mut want) = (Vec::new(), Vec::new());
    let per_head = width / heads;
    for head in 0..heads {
        for p in 0..positions {
            let row = &values[p * width + head * per_head..][..per_head];
            let columns = if stage.has_keys() { p + 1 } else { per_head };
            got.extend(&row[..columns]);
            let row = &wanted[(head * positions + p) * per_head..][..per_head];
            want.extend(&row[..columns]);
        }
    }
    (got, want)
}

/// How far gradients may be off, as shares of the largest at each site.
#[derive(Clone, Copy)]
pub struct Gates {
    pub all: f64,
    /// Of layer norms' scales: one number a row, a sum over it that may cancel. That of the last ln_2 of `tied` is less
    /// than 1/1,800 of its terms.
    pub scales: f64,
}

impl Gates {
    pub fn same(gate: f64) -> Self {
        Self {
            all: gate,
            scales: gate,
        }
    }
}

/// Every tensor of a fixture of this metric, or of this rule or patch.
fn agrees<B: Adjoints>(
    backend: &B,
    model: &Checkpoint,
    fixture: &Fixture,
    (prefix, metric, frozen): (&str, &str, Frozen),
    taped: &TapedRun,
    gates: Gates,
) {
    let wanted = fixture.tensors.iter();
    let wanted = wanted.filter_map(|(name, values)| {
        let (kind, site) = name.split_once('/')?;
        (kind == prefix).then_some((site, values))
    });
    let wanted: Vec<(&str, &Vec<f64>)> = wanted.collect();
    assert!(!wanted.is_empty(), "{prefix}");
    let asked: AskedGradients = wanted
        .iter()
        .map(|(site, _)| {
            let (_, layer, stage) = place(site, model);
            (layer, stage)
        })
        .collect();
    let question = Question {
        asked: &asked,
        frozen,
        metric,
        memory: crate::common::PLENTY,
    };
    let found = found(backend, &[(&fixture.pair, taped.clone())], &question);
    let (mut worst, mut worst_scale) = (Worst::default(), Worst::default());
    for (site, values) in wanted {
        let worst = match site.contains("_scale") {
            true => &mut worst_scale,
            false => &mut worst,
        };
        // the fixture's is of the first target
        let (got, want) = laid_out(&found, 0, place(site, model), model, values);
        assert_eq!(got.len(), want.len(), "{site}");
        let most = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(most > 0.0, "{site}: the fixture's gradient is cut");
        for (got, want) in got.iter().zip(&want) {
            worst.note((got - want).abs() / most, || format!("{prefix}/{site}"));
        }
    }
    worst.assert_within(gates.all, prefix);
    worst_scale.assert_within(gates.scales, prefix);
}

pub const NAMES: [&str; 5] = ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"];

pub fn whole(pair: &Pair) -> TapedRun {
    TapedRun {
        ids: pair.base.clone(),
        edits: Vec::new(),
    }
}

pub fn every_kind<B: Adjoints>(name: &str, backend: &B, model: &Checkpoint, gates: Gates) {
    let fixture = fixture(name);
    let run = whole(&fixture.pair);
    for metric in [
        "logprob",
        "logit",
        "prob",
        "logit_diff",
        "prob_diff",
        "kl",
        "entropy",
    ] {
        agrees(
            backend,
            model,
            &fixture,
            (metric, metric, Frozen::default()),
            &run,
            gates,
        );
    }
    let relp = ("relp", "logprob", Frozen::RELP);
    agrees(backend, model, &fixture, relp, &run, gates);
    let held = Frozen {
        patterns: true,
        ..Frozen::RELP
    };
    let relp = ("relp_patterns", "logprob", held);
    agrees(backend, model, &fixture, relp, &run, gates);
    let patched = patched(backend, model, &fixture.pair);
    let of = ("patched", "logprob", Frozen::default());
    agrees(backend, model, &fixture, of, &patched, gates);
}

/// The run that make_gradients.py patches.
fn patched<B: Backend>(backend: &B, model: &Checkpoint, pair: &Pair) -> TapedRun {
    let (config, last) = (&model.config, model.config.layers - 1);
    let ramp = |from: f64, to: f64, n: usize| {
        let step = (to - from) / (n as f64 - 1.0).max(1.0);
        let values: Vec<f64> = (0..n).map(|i| from + step * i as f64).collect();
        Vector {
            label: "ramp".into(),
            values: values.into(),
            rows: 1,
        }
    };
    let stop = AtomicBool::new(false);
    let frozen = [(Component::AttentionOutput, Some(last))];
    let kept = activations(backend, &pair.base, &frozen, &limits(&stop)).unwrap();
    let row = &kept[0].values[3 * config.width..][..config.width];
    let frozen = Vector {
        label: "base".into(),
        values: row.into(),
        rows: 1,
    };
    let patch = |component, layer, heads, position, op| {
        Patch::interchange(component, Some(layer), heads, vec![position]).with_op(op)
    };
    let d = config.head_width();
    let patches = [
        patch(
            Component::HeadAttentionValueOutput,
            0,
            vec![1],
            2,
            Op::Set(ramp(-1.0, 1.0, d)),
        ),
        patch(
            Component::MlpOutput,
            0,
            vec![],
            1,
            Op::Add(Some(ramp(0.0, 1.0, config.width))),
        ),
        patch(Component::BlockOutput, last - 1, vec![], 2, Op::Scale(-1.5)),
        patch(Component::AttentionOutput, last, vec![], 3, Op::Set(frozen)),
    ];
    TapedRun {
        ids: pair.base.clone(),
        edits: edits(&patches, &pair.base, config),
    }
}

/// Every stage of every layer.
pub fn everything(model: &Checkpoint) -> AskedGradients {
    let mut asked = AskedGradients::new();
    for component in Component::all() {
        let stage = component.stage();
        match component.is_global() {
            true => {
                asked.insert((layer_of(component, None, &model.config), stage));
            }
            false => asked.extend((0..model.config.layers).map(|layer| (layer, stage))),
        }
    }
    asked
}

fn bits(found: &Found, run: usize) -> BTreeMap<(usize, usize, Stage, Option<usize>), Vec<u64>> {
    let of = found.iter().filter(|((r, _), _)| *r == run);
    let mut all = BTreeMap::new();
    for ((_, which), places) in of {
        for ((layer, stage, head), (width, values)) in places {
            // scores and pattern are as wide as the longest prompt
            let rows = values.chunks_exact(*width).enumerate();
            let cells = rows.flat_map(|(p, row)| {
                let heads = row.chunks_exact(if stage.has_keys() { width / 2 } else { *width });
                let count = if stage.has_keys() { p + 1 } else { *width };
                heads.flat_map(move |head| head[..count].iter().map(|x| x.to_bits()))
            });
            all.insert((*which, *layer, *stage, *head), cells.collect());
        }
    }
    all
}

/// Alone or together, in any order, in chunks of any size: the same bits, at every site and for every target.
pub fn batch_invariant<B: Adjoints>(backend: &B, model: &Checkpoint) {
    let random = &mut Random(11);
    let pairs: Vec<Pair> = (0..9)
        .map(|i| {
            let mut ids = |n: usize| {
                (0..n)
                    .map(|_| random.below(model.config.vocab) as u32)
                    .collect::<Vec<_>>()
            };
            Pair {
                base: ids(1 + (i * 5) % 13),
                source: Some(ids(4)),
                targets: ids(1 + i % 3),
                wrong: ids(1),
                ..Pair::default()
            }
        })
        .collect();
    let asked = everything(model);
    for metric in ["prob", "kl", "logit_diff"] {
        let question = |memory| Question {
            asked: &asked,
            frozen: Frozen::default(),
            metric,
            memory,
        };
        let runs: Vec<(&Pair, TapedRun)> = pairs.iter().map(|p| (p, whole(p))).collect();
        let together = found(backend, &runs, &question(crate::common::PLENTY));
        let backwards: Vec<_> = runs.iter().rev().cloned().collect();
        let cut = found(backend, &backwards, &question(400_000));
        for (i, run) in runs.iter().enumerate() {
            let alone = found(
                backend,
                std::slice::from_ref(run),
                &question(crate::common::PLENTY),
            );
            let alone = bits(&alone, 0);
            assert!(!alone.is_empty());
            assert_eq!(alone, bits(&together, i), "{metric}, run {i}");
            assert_eq!(
                alone,
                bits(&cut, runs.len() - 1 - i),
                "{metric}, run {i}, cut"
            );
        }
    }
}
