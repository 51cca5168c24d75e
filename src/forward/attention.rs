//! The first half of a layer: x + attention(ln_1(x)).

use super::Buffers;
use super::step::{Branch, Input, Step, own};
use crate::backend::{Attention, Backend, Epilogue, KeepKeys, Linear, Norm, Weight};
use crate::plan::tables::{HeadInput, LayerTables, Ref};
use crate::site::Stage;

pub(super) fn attention<B: Backend>(
    step: &mut Step<'_, B>,
    b: &mut Buffers<B::Matrix>,
    layer: usize,
    tables: &LayerTables,
) {
    let backend = step.backend;
    let input = Input {
        own: &b.stream,
        cache: Some((Stage::BlockInput, layer)),
        refs: &tables.ln_1,
    };
    let stages = [Stage::Ln1Scale, Stage::Ln1Normalized, Stage::AttentionInput];
    let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
    step.norm(tables, (Norm::Ln1(layer), stages), input, out);

    project(step, b, layer, tables, Stage::Query);
    project(step, b, layer, tables, Stage::Key);
    project(step, b, layer, tables, Stage::Value);

    backend.resize(&mut b.z, tables.z.len());
    let keeps = |stage| {
        tables.keeps.get(&stage).map(|k| KeepKeys {
            slot: k.slot,
            to: &k.to,
        })
    };
    let slot = |stage| step.cache.layout.slots.get(&(stage, layer)).copied();
    let attention = Attention {
        layer,
        query: (&b.query, slot(Stage::Query)),
        key: (&b.key, slot(Stage::Key)),
        value: (&b.value, slot(Stage::Value)),
        rows: &tables.attention,
        scores: tables.overwrites(Stage::Scores),
        weights: tables.overwrites(Stage::Pattern),
        keep_scores: keeps(Stage::Scores),
        keep_pattern: keeps(Stage::Pattern),
        stride: step.cache.layout.key_stride(),
    };
    backend.attention(
        &attention,
        &mut step.cache.matrices,
        &step.constants,
        &mut b.z,
    );
    step.gather(&tables.z, (Stage::Z, layer), &mut b.z);
    step.settle(tables, Stage::Z, &mut b.z);

    let c_proj = Branch {
        weight: Weight::AttentionOutput(layer),
        input: &b.z,
        rows: &tables.c_proj,
        stage: (Stage::AttentionOutput, layer),
        table: &tables.attention_output,
        residual: (&b.stream, (Stage::BlockInput, layer)),
        sum: &tables.mid,
        fused: tables.attention_output_is_fused(),
    };
    step.branch(tables, &c_proj, &mut b.attention_output, &mut b.mid);
    step.gather(&tables.mid.rows, (Stage::BlockMid, layer), &mut b.mid);
    step.settle(tables, Stage::BlockMid, &mut b.mid);
}

/// Queries, keys or values of every head; then those of heads that read a residual of their own.
fn project<B: Backend>(
    step: &mut Step<'_, B>,
    b: &mut Buffers<B::Matrix>,
    layer: usize,
    tables: &LayerTables,
    stage: Stage,
) {
    let backend = step.backend;
    let (projection, weight, own_stage, buffer) = match stage {
        Stage::Query => (
            &tables.query,
            Weight::Query(layer),
            Stage::QueryInput,
            &mut b.query,
        ),
        Stage::Key => (&tables.key, Weight::Key(layer), Stage::KeyInput, &mut b.key),
        _ => (
            &tables.value,
            Weight::Value(layer),
            Stage::ValueInput,
            &mut b.value,
        ),
    };
    backend.resize(buffer, projection.rows.len());
    let linear = Linear {
        weight,
        columns: 0..backend.config().width,
        input: &b.normed,
        rows: &projection.input,
        out_rows: None,
        epilogue: Epilogue::None,
    };
    backend.linear(&linear, buffer);
    step.gather(&projection.rows, (stage, layer), buffer);

    let d = backend.config().head_width();
    let own_inputs = tables
        .head_inputs
        .iter()
        .filter(|(of, _, _)| *of == own_stage);
    for (
        _,
        head,
        HeadInput {
            input,
            writes,
            output,
        },
    ) in own_inputs
    {
        let count = input.len();
        backend.resize(&mut b.own_input, count);
        let rows = step.rows(&b.stream, Some((Stage::BlockInput, layer)), input);
        backend.gather(&rows, &mut b.own_input, 0);
        step.write(writes, &mut b.own_input);
        let refs: Vec<Ref> = (0..count).map(Ref::own).collect();
        backend.resize(&mut b.own_normed, count);
        backend.layer_norm(
            Norm::Ln1(layer),
            &own(&b.own_input, &refs),
            &mut b.own_normed,
        );
        let linear = Linear {
            weight,
            columns: head * d..(head + 1) * d,
            input: &b.own_normed,
            rows: &(0..count as u32).collect::<Vec<_>>(),
            out_rows: Some(output),
            epilogue: Epilogue::None,
        };
        backend.linear(&linear, buffer);
    }
    step.settle(tables, stage, buffer);
}
