//! One layer's tables: attention, what it adds to the residual stream, and the MLP likewise.

use super::Builder;
use super::row_map::{RowMap, Runs};
use crate::plan::cone::{LayerCone, Rows};
use crate::plan::tables::{LayerTables, Projection};
use crate::site::Stage;

impl Builder<'_> {
    /// Packs a layer whose input stands at `stream`; gives its tables and where its output stands.
    pub(super) fn layer(
        &mut self,
        layer: usize,
        runs: Runs<'_>,
        stream: &RowMap,
    ) -> (LayerTables, RowMap) {
        let mut tables = LayerTables::default();
        let empty = LayerCone::default();
        let cones: Vec<&LayerCone> = runs
            .all
            .iter()
            .map(|r| {
                layer
                    .checked_sub(r.cone.start)
                    .and_then(|i| r.cone.layers.get(i))
                    .unwrap_or(&empty)
            })
            .collect();

        let attention_output = self.attention(layer, runs, &cones, stream, &mut tables);
        let mid;
        (tables.mid, mid) = runs.sum(
            |i| &cones[i].mid,
            stream,
            &attention_output,
            tables.attention_output.computed,
        );
        let rows = tables.mid.rows.len();
        self.touch(&mut tables, runs, Stage::BlockMid, layer, (&mid, rows));

        let mlp_output = self.mlp(layer, runs, &cones, &mid, &mut tables);
        // a run that starts at the next layer brings its patched input rows along
        let outs: Vec<&Rows> = runs
            .all
            .iter()
            .zip(&cones)
            .map(|(r, c)| {
                if r.cone.start == layer + 1 {
                    &r.cone.input
                } else {
                    &c.out
                }
            })
            .collect();
        let out;
        (tables.out, out) = runs.sum(|i| outs[i], &mid, &mlp_output, tables.mlp_output.computed);
        let rows = tables.out.rows.len();
        for (stage, layer) in [(Stage::BlockOutput, layer), (Stage::BlockInput, layer + 1)] {
            self.touch(&mut tables, runs, stage, layer, (&out, rows));
        }
        (tables, out)
    }

    /// From ln_1 to the attention's output; gives where that stands.
    fn attention(
        &mut self,
        layer: usize,
        runs: Runs<'_>,
        cones: &[&LayerCone],
        stream: &RowMap,
        tables: &mut LayerTables,
    ) -> RowMap {
        let mut ln_1 = runs.no_rows();
        runs.each(
            |i| cones[i].ln_1.clone(),
            |i, p| {
                ln_1.set(i, p, tables.ln_1.len());
                tables.ln_1.push(runs.reference(stream, i, p));
            },
        );
        for stage in [Stage::Ln1Scale, Stage::Ln1Normalized, Stage::AttentionInput] {
            self.touch(tables, runs, stage, layer, (&ln_1, tables.ln_1.len()));
        }

        let project = |rows: fn(&LayerCone) -> &Rows| {
            let (table, map) = runs.assign(|i| rows(cones[i]));
            let mut input = Vec::with_capacity(table.computed);
            runs.each(
                |i| rows(cones[i]).computed.clone(),
                |i, p| input.extend(ln_1.get(i, p).map(|r| r as u32)),
            );
            (Projection { input, rows: table }, map)
        };
        let (query, key, value);
        (tables.query, query) = project(|c| &c.query);
        (tables.key, key) = project(|c| &c.key);
        (tables.value, value) = project(|c| &c.value);
        for (own, stage, projected, rows) in [
            (
                Stage::QueryInput,
                Stage::Query,
                &query,
                tables.query.rows.len(),
            ),
            (Stage::KeyInput, Stage::Key, &key, tables.key.rows.len()),
            (
                Stage::ValueInput,
                Stage::Value,
                &value,
                tables.value.rows.len(),
            ),
        ] {
            self.head_inputs(tables, runs, own, layer, stream, projected);
            self.touch(tables, runs, stage, layer, (projected, rows));
        }

        let z;
        (tables.z, z) = runs.assign(|i| &cones[i].z);
        let attention = &mut tables.attention;
        // a run without rows of z has no keys, and no row that asks where they start
        let mut firsts = vec![u32::MAX; cones.len()];
        for (i, cone) in cones.iter().enumerate() {
            let Some(last) = cone.z.computed.last() else {
                continue;
            };
            firsts[i] = attention.key.len() as u32;
            for p in 0..=last {
                attention.key.push(runs.reference(&key, i, p));
                attention.value.push(runs.reference(&value, i, p));
            }
        }
        runs.each(
            |i| cones[i].z.computed.clone(),
            |i, p| {
                attention.query.push(runs.reference(&query, i, p));
                attention.first.push(firsts[i]);
                attention.count.push(p as u32 + 1);
            },
        );
        let (computed, all) = (tables.z.computed, tables.z.len());
        for (stage, rows) in [
            (Stage::Scores, computed),
            (Stage::Pattern, computed),
            (Stage::Z, all),
        ] {
            self.touch(tables, runs, stage, layer, (&z, rows));
        }

        let output;
        (tables.attention_output, output) = runs.assign(|i| &cones[i].attention_output);
        tables.c_proj = runs.rows_of(&z, |i| cones[i].attention_output.computed.clone());
        let rows = tables.attention_output.len();
        self.touch(tables, runs, Stage::AttentionOutput, layer, (&output, rows));
        output
    }

    /// From ln_2 to the MLP's output; gives where that stands.
    fn mlp(
        &mut self,
        layer: usize,
        runs: Runs<'_>,
        cones: &[&LayerCone],
        mid: &RowMap,
        tables: &mut LayerTables,
    ) -> RowMap {
        let pre;
        (tables.mlp_pre, pre) = runs.assign(|i| &cones[i].mlp_pre);
        runs.each(
            |i| cones[i].mlp_pre.computed.clone(),
            |i, p| tables.ln_2.push(runs.reference(mid, i, p)),
        );
        let (computed, all) = (tables.mlp_pre.computed, tables.mlp_pre.len());
        for (stage, rows) in [
            (Stage::MlpResidualInput, computed),
            (Stage::Ln2Scale, computed),
            (Stage::Ln2Normalized, computed),
            (Stage::MlpInput, computed),
            (Stage::MlpPre, all),
        ] {
            self.touch(tables, runs, stage, layer, (&pre, rows));
        }

        let activation;
        (tables.mlp_activation, activation) = runs.assign(|i| &cones[i].mlp_activation);
        tables.activate = runs.rows_of(&pre, |i| cones[i].mlp_activation.computed.clone());
        let at = (&activation, tables.mlp_activation.len());
        self.touch(tables, runs, Stage::MlpActivation, layer, at);

        let output;
        (tables.mlp_output, output) = runs.assign(|i| &cones[i].mlp_output);
        tables.mlp_proj = runs.rows_of(&activation, |i| cones[i].mlp_output.computed.clone());
        let at = (&output, tables.mlp_output.len());
        self.touch(tables, runs, Stage::MlpOutput, layer, at);
        output
    }
}
