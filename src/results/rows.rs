//! From readouts to the result table.

use crate::ask::experiment::PatchText;
use crate::backend::Readout;
use crate::execute::Outcome;
use crate::model::Checkpoint;
use crate::patch::{Op, Patch, Run};
use crate::prompt::pair::PairRuns;
use crate::results::metric::{Metric, Reading};
use crate::results::table::{PairProvenance, Provenance, Row, Table};

/// The table of an outcome, with a column for each metric that is not one already. Values are read at
/// each pair's last readout position.
pub fn table(
    model: &Checkpoint,
    pairs: &[PairRuns],
    outcome: &Outcome,
    metrics: &[Metric],
    provenance: Provenance,
) -> Table {
    let metrics: Vec<Metric> = metrics.iter().filter(|m| !m.is_column()).copied().collect();
    let mut rows = Vec::new();
    for (p, (pair_runs, read)) in pairs.iter().zip(&outcome.pairs).enumerate() {
        let PairRuns { pair, runs } = pair_runs;
        let clean = |r: &Readout, i: usize| r.log_probability(r.logits[i]).exp();
        let Some(base) = read.base.last() else {
            continue;
        };
        let tokens: Vec<String> = pair.targets.iter().map(|id| raw(model, *id)).collect();
        for (r, (run, readouts)) in runs.iter().zip(&read.runs).enumerate() {
            let Some(readout) = readouts.last() else {
                continue;
            };
            let shared = shared(model, run, pair_runs);
            let reading = Reading {
                pair,
                base,
                source: read.source.as_ref(),
                run: readout,
            };
            for (i, target) in pair.targets.iter().enumerate() {
                let logprob = readout.log_probability(readout.logits[i]);
                rows.push(Row {
                    pair: p as u32,
                    run: r as u32,
                    target: tokens[i].clone(),
                    target_id: *target,
                    prob: logprob.exp(),
                    logprob,
                    logit: readout.logits[i],
                    base_prob: clean(base, i),
                    source_prob: read.source.as_ref().map(|s| clean(s, i)),
                    metrics: metrics.iter().map(|m| m.of(&reading, i)).collect(),
                    ..shared.clone()
                });
            }
        }
    }
    Table {
        metrics: metrics.iter().map(Metric::to_string).collect(),
        rows,
        provenance,
    }
}

/// What a provenance says of every pair.
pub fn pairs_provenance(model: &Checkpoint, pairs: &[PairRuns]) -> Vec<PairProvenance> {
    let tokens = |ids: &[u32]| match &model.tokenizer {
        Some(tokenizer) => ids.iter().map(|id| tokenizer.decode_raw(*id)).collect(),
        None => Vec::new(),
    };
    let text = |ids: &[u32]| Some(model.tokenizer.as_ref()?.decode(ids));
    let of = |PairRuns { pair, .. }: &PairRuns| PairProvenance {
        base_ids: pair.base.clone(),
        base_tokens: tokens(&pair.base),
        base_text: text(&pair.base),
        source_ids: pair.source.clone(),
        source_tokens: pair.source.as_deref().map_or(Vec::new(), tokens),
        source_text: pair.source.as_deref().and_then(text),
    };
    pairs.iter().map(of).collect()
}

/// A token's text, or its id in brackets without a tokenizer.
pub(crate) fn raw(model: &Checkpoint, id: u32) -> String {
    model
        .tokenizer
        .as_ref()
        .map_or_else(|| format!("[{id}]"), |t| t.decode_raw(id))
}

/// The columns that do not depend on the target: filled where all patches of the run agree.
fn shared(model: &Checkpoint, run: &Run, pair_runs: &PairRuns) -> Row {
    let one = |list: &[usize]| match list {
        [only] => Some(*only as u32),
        _ => None,
    };
    let source = |patch: &Patch| patch.op.reads_source().then_some(patch.clone());
    let position = agree(run, |p| one(&p.positions));
    let base = &pair_runs.pair.base;
    let text = |patch| PatchText::from_patch(patch, pair_runs);
    let texts: Vec<PatchText> = run.patches.iter().map(text).collect();
    Row {
        name: run.name.clone(),
        component: agree(run, |p| Some(p.component.name().to_owned())),
        layer: agree(run, |p| p.layer.map(|l| l as u32)),
        head: agree(run, |p| one(&p.heads)),
        position,
        token: position
            .and_then(|p| base.get(p as usize))
            .map(|id| raw(model, *id)),
        op: agree(run, |p| Some(p.op.label())),
        source_layer: agree(run, |p| {
            source(p)?.source_layer.or(p.layer).map(|l| l as u32)
        }),
        source_head: agree(run, |p| {
            one(source(p)?.source_heads.as_ref().unwrap_or(&p.heads))
        }),
        source_position: agree(run, |p| {
            one(source(p)?.source_positions.as_ref().unwrap_or(&p.positions))
        }),
        sample: agree(run, |p| match p.op {
            Op::Noise { sample, .. } => Some(sample),
            _ => None,
        }),
        // the texts are plain numbers, strings and lists, which always serialise
        patches: serde_json::to_string(&texts).unwrap_or_default(),
        ..Row::default()
    }
}

fn agree<T: PartialEq>(run: &Run, value: impl Fn(&Patch) -> Option<T>) -> Option<T> {
    let mut values = run.patches.iter().map(value);
    let first = values.next()??;
    values.all(|v| v.as_ref() == Some(&first)).then_some(first)
}
