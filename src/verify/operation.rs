//! Each operation as both backends run it: from plain numbers to everything that it wrote.

use crate::backend::{
    Attention, Backend, DeviceError, Embedding, Epilogue, KeepKeys, Linear, Norm, Readout,
    ReadoutSpec, Rows, Store, Weight,
};
use crate::plan::tables::{AttentionRows, Ref};
use crate::plan::writes::Write;

/// An operation as both backends run it: from inputs to everything that it wrote, row by row.
pub(super) trait Exercise {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError>;
}

pub(super) struct Embed {
    pub table: Embedding,
    pub index: Vec<u32>,
    pub width: usize,
}

impl Exercise for Embed {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let mut out = backend.matrix(self.index.len(), self.width, Store::Residual);
        backend.embed(self.table, &self.index, &mut out);
        backend.read(&out)
    }
}

pub(super) enum After {
    Nothing,
    ActivationFunction,
    Residual {
        own: Vec<f64>,
        cache: Vec<f64>,
        refs: Vec<Ref>,
    },
}

pub(super) struct LinearLayer {
    pub weight: Weight,
    pub columns: std::ops::Range<usize>,
    /// Of the result's matrix, whose other columns stay zero.
    pub width: usize,
    pub stores: [Store; 2],
    pub input: Vec<f64>,
    pub rows: Vec<u32>,
    pub out_rows: Vec<u32>,
    pub after: After,
}

impl Exercise for LinearLayer {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let (count, n) = (self.rows.len(), self.columns.len());
        let k = self.input.len() / count;
        let input = backend.upload(count, k, self.stores[0], &self.input);
        let zeros = vec![0.0; count * self.width];
        let mut out = backend.upload(count, self.width, self.stores[1], &zeros);
        let residual = match &self.after {
            After::Residual { own, cache, .. } => Some([
                backend.upload(count, n, Store::Residual, own),
                backend.upload(count, n, Store::Residual, cache),
            ]),
            _ => None,
        };
        let epilogue = match (&self.after, &residual) {
            (After::Residual { refs, .. }, Some([own, cache])) => Epilogue::Residual(Rows {
                own,
                cache: Some(cache),
                refs,
            }),
            (After::ActivationFunction, _) => Epilogue::Activate,
            _ => Epilogue::None,
        };
        let linear = Linear {
            weight: self.weight,
            columns: self.columns.clone(),
            input: &input,
            rows: &self.rows,
            out_rows: Some(&self.out_rows),
            epilogue,
        };
        backend.linear(&linear, &mut out);
        let out = backend.read(&out)?;
        let rows = out.chunks_exact(self.width);
        Ok(rows
            .flat_map(|row| row[self.width - n..].to_vec())
            .collect())
    }
}

pub(super) struct NormInputs {
    pub norm: Norm,
    pub own: Vec<f64>,
    pub cache: Vec<f64>,
    pub refs: Vec<Ref>,
    /// As the scale, the normalised row and the affine map, one after another.
    pub thirds: bool,
}

impl Exercise for NormInputs {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let (rows, width) = (self.refs.len(), backend.config().width);
        let own = backend.upload(rows, width, Store::Residual, &self.own);
        let cache = backend.upload(rows, width, Store::Residual, &self.cache);
        let input = Rows {
            own: &own,
            cache: Some(&cache),
            refs: &self.refs,
        };
        let mut out = backend.matrix(rows, width, Store::Branch);
        if self.thirds {
            let mut scale = backend.matrix(rows, 1, Store::Residual);
            let mut normalized = backend.matrix(rows, width, Store::Residual);
            backend.layer_norm_scale(&input, &mut scale);
            backend.layer_norm_normalize(&input, &scale, &mut normalized);
            backend.layer_norm_affine(self.norm, &normalized, rows, &mut out);
        } else {
            backend.layer_norm(self.norm, &input, &mut out);
        }
        backend.read(&out)
    }
}

pub(super) struct Activate {
    pub pre: Vec<f64>,
    pub rows: Vec<u32>,
    pub width: usize,
}

impl Exercise for Activate {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let pre = backend.upload(self.rows.len(), self.width, Store::Branch, &self.pre);
        let mut out = backend.matrix(self.rows.len(), self.width, Store::Branch);
        backend.activate(&pre, &self.rows, &mut out);
        backend.read(&out)
    }
}

/// A sum of rows, its rows gathered behind it, and both kept in another order.
pub(super) struct Sum {
    pub own: [Vec<f64>; 2],
    pub cache: [Vec<f64>; 2],
    pub refs: [Vec<Ref>; 2],
    pub places: Vec<u32>,
    pub width: usize,
}

impl Exercise for Sum {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let (rows, width) = (self.places.len(), self.width);
        let upload = |values: &Vec<f64>| backend.upload(rows, width, Store::Residual, values);
        let (own, cache) = (
            self.own.each_ref().map(upload),
            self.cache.each_ref().map(upload),
        );
        let [a, b] = [0, 1].map(|i| Rows {
            own: &own[i],
            cache: Some(&cache[i]),
            refs: &self.refs[i],
        });
        let mut out = backend.matrix(2 * rows, width, Store::Residual);
        backend.add(&a, &b, &mut out, 0);
        backend.gather(&a, &mut out, rows);
        let mut kept = backend.matrix(2 * rows, width, Store::Residual);
        let all = |shift: u32| self.places.iter().map(move |p| p + shift);
        let to: Vec<u32> = all(rows as u32).chain(all(0)).collect();
        let from: Vec<u32> = (0..2 * rows as u32).collect();
        backend.keep(&out, &from, &mut kept, &to);
        backend.read(&kept)
    }
}

pub(super) struct Overwrite {
    pub store: Store,
    pub matrix: Vec<f64>,
    pub kept: [Vec<f64>; 2],
    pub constants: Vec<f64>,
    pub writes: Vec<Write>,
    pub width: usize,
}

impl Exercise for Overwrite {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.matrix.len() / self.width;
        let upload = |values: &Vec<f64>| backend.upload(rows, self.width, self.store, values);
        let (mut matrix, kept) = (upload(&self.matrix), self.kept.each_ref().map(upload));
        let constants = backend.constants(&self.constants);
        backend.overwrite(&mut matrix, &self.writes, &kept, &constants);
        backend.read(&matrix)
    }
}

pub(super) struct AttentionOf {
    pub layer: usize,
    pub width: usize,
    pub stride: usize,
    pub own: Vec<f64>,
    pub cache: Vec<f64>,
    pub constants: Vec<f64>,
    pub rows: AttentionRows,
    pub keep_to: Vec<u32>,
    pub scores: Vec<Write>,
    pub weights: Vec<Write>,
}

impl Exercise for AttentionOf {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let (width, count) = (self.width, self.rows.query.len());
        let keys = backend.config().heads * self.stride;
        let stored = self.own.len() / width;
        let own = backend.upload(stored, width, Store::Heads, &self.own);
        let zeros = vec![0.0; count * keys];
        let mut kept = [
            backend.upload(stored, width, Store::Heads, &self.cache),
            backend.upload(count, keys, Store::Residual, &zeros),
            backend.upload(count, keys, Store::Residual, &zeros),
        ];
        let constants = backend.constants(&self.constants);
        let mut out = backend.matrix(count, width, Store::Heads);
        let keep = |slot| {
            Some(KeepKeys {
                slot,
                to: &self.keep_to,
            })
        };
        let attention = Attention {
            layer: self.layer,
            query: (&own, Some(0)),
            key: (&own, Some(0)),
            value: (&own, Some(0)),
            rows: &self.rows,
            scores: &self.scores,
            weights: &self.weights,
            keep_scores: keep(1),
            keep_pattern: keep(2),
            stride: self.stride,
        };
        backend.attention(&attention, &mut kept, &constants, &mut out);
        let (z, scores, pattern) = (
            backend.read(&out)?,
            backend.read(&kept[1])?,
            backend.read(&kept[2])?,
        );
        let row = |i: usize| {
            let kept = self.keep_to[i] as usize * keys..(self.keep_to[i] as usize + 1) * keys;
            let parts = [
                &z[i * width..][..width],
                &scores[kept.clone()],
                &pattern[kept],
            ];
            parts.concat()
        };
        Ok((0..count).flat_map(row).collect())
    }
}

pub(super) struct Unembedding {
    /// One row more than are read out.
    pub input: Vec<f64>,
    pub rows: usize,
    pub width: usize,
    pub vocab: usize,
    pub base: Vec<u32>,
}

impl Unembedding {
    pub fn wanted(&self) -> Vec<u32> {
        (0..self.vocab as u32)
            .step_by(self.vocab.div_ceil(50))
            .collect()
    }

    pub fn top(&self) -> usize {
        self.vocab.min(5)
    }
}

impl Unembedding {
    fn readouts<B: Backend>(&self, backend: &B) -> Result<Vec<Readout>, DeviceError> {
        let input = backend.upload(self.rows + 1, self.width, Store::Branch, &self.input);
        let wanted = self.wanted();
        let spec = ReadoutSpec {
            ids: wanted.repeat(self.rows),
            first: (0..=self.rows).map(|r| r * wanted.len()).collect(),
            top: self.top(),
            ranks: false,
            base: self.base.clone(),
        };
        backend.finish(backend.readout(&input, self.rows, &spec)?)
    }
}

impl Exercise for Unembedding {
    /// Some logits of each row, its log-sum-exp, and its largest logits.
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let row = |r: Readout| {
            let top: Vec<f64> = r.top.iter().map(|(_, logit)| *logit).collect();
            [r.logits, vec![r.log_sum_exp], top].concat()
        };
        Ok(self.readouts(backend)?.into_iter().flat_map(row).collect())
    }
}

/// What is summed over the whole distribution.
pub(super) struct Distributions(pub Unembedding);

impl Exercise for Distributions {
    /// Each row's entropy and divergence.
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let readouts = self.0.readouts(backend)?;
        Ok(readouts.iter().flat_map(|r| [r.entropy, r.kl]).collect())
    }
}
