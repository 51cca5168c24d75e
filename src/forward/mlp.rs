//! The second half of a layer: x + mlp(ln_2(x)).

use super::Buffers;
use super::step::{Branch, Input, Step};
use crate::backend::{Backend, Epilogue, Linear, Norm, Weight};
use crate::plan::tables::{LayerTables, Ref};
use crate::site::Stage;

pub(super) fn mlp<B: Backend>(
    step: &mut Step<'_, B>,
    b: &mut Buffers<B::Matrix>,
    layer: usize,
    tables: &LayerTables,
) {
    let backend = step.backend;
    let read = tables.writes(Stage::MlpResidualInput);
    let refs: Vec<Ref> = (0..tables.ln_2.len()).map(Ref::own).collect();
    let mid = Some((Stage::BlockMid, layer));
    let input = if read.is_empty() {
        Input {
            own: &b.mid,
            cache: mid,
            refs: &tables.ln_2,
        }
    } else {
        // ln_2 reads a patched copy; the skip path keeps the original
        let copy = &mut b.own_input;
        backend.resize(copy, tables.ln_2.len());
        backend.gather(&step.rows(&b.mid, mid, &tables.ln_2), copy, 0);
        step.write(read, copy);
        Input {
            own: copy,
            cache: None,
            refs: &refs,
        }
    };
    let stages = [Stage::Ln2Scale, Stage::Ln2Normalized, Stage::MlpInput];
    let out = [&mut b.scale, &mut b.normalized, &mut b.normed];
    step.norm(tables, (Norm::Ln2(layer), stages), input, out);

    let rows: Vec<u32> = (0..tables.mlp_pre.computed as u32).collect();
    let c_fc = |epilogue| Linear {
        weight: Weight::MlpPre(layer),
        columns: 0..backend.config().inner,
        input: &b.normed,
        rows: &rows,
        out_rows: None,
        epilogue,
    };
    backend.resize(&mut b.mlp_activation, tables.mlp_activation.len());
    if tables.activation_is_fused() {
        backend.linear(&c_fc(Epilogue::Activate), &mut b.mlp_activation);
    } else {
        backend.resize(&mut b.mlp_pre, tables.mlp_pre.len());
        backend.linear(&c_fc(Epilogue::None), &mut b.mlp_pre);
        step.gather(&tables.mlp_pre, (Stage::MlpPre, layer), &mut b.mlp_pre);
        step.settle(tables, Stage::MlpPre, &mut b.mlp_pre);
        backend.activate(&b.mlp_pre, &tables.activate, &mut b.mlp_activation);
    }
    let place = (Stage::MlpActivation, layer);
    step.gather(&tables.mlp_activation, place, &mut b.mlp_activation);
    step.settle(tables, Stage::MlpActivation, &mut b.mlp_activation);

    let c_proj = Branch {
        weight: Weight::MlpOutput(layer),
        input: &b.mlp_activation,
        rows: &tables.mlp_proj,
        stage: (Stage::MlpOutput, layer),
        table: &tables.mlp_output,
        residual: (&b.mid, (Stage::BlockMid, layer)),
        sum: &tables.out,
        fused: tables.mlp_output_is_fused(),
    };
    step.branch(tables, &c_proj, &mut b.mlp_output, &mut b.out);
    step.gather(&tables.out.rows, (Stage::BlockInput, layer + 1), &mut b.out);
    for stage in [Stage::BlockOutput, Stage::BlockInput] {
        step.settle(tables, stage, &mut b.out);
    }
}
