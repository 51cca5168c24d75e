//! The operations of the forward pass one by one, at shapes of one's choice.

use std::sync::Arc;

use crate::backend::{
    Attention, Backend, DeviceError, Epilogue, Linear, Norm, ReadoutSpec, Rows, Store, Weight,
};
use crate::model::Config;
use crate::plan::edit::EditOp;
use crate::plan::tables::{AttentionRows, Ref};
use crate::plan::writes::{Operand, Write};
use crate::text::counted;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// A third of c_attn: no epilogue.
    Query,
    /// c_fc, activated.
    MlpPre,
    /// The MLP's c_proj, the residual stream added.
    MlpOutput,
    /// The final layer norm.
    LayerNorm,
    /// Rows of the residual stream to other places.
    Gather,
    /// One head's z in every row, by another row's.
    Overwrite,
    /// Attention over prompts of one length.
    Attention {
        /// Tokens of each prompt.
        length: usize,
    },
    /// Unembedding, log-sum-exp and one wanted logit a row.
    Readout,
}

/// An operation over so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The operation.
    pub operation: Workload,
    /// Rows; attention takes as many prompts as have them.
    pub rows: usize,
}

/// An operation ready to be run again and again. What it queued on a device may still be waiting when
/// it returns.
pub type Prepared<'a> = Box<dyn FnMut() -> Result<(), DeviceError> + 'a>;

/// Every operation over so many rows, attention over prompts of `length` tokens.
pub fn cases(rows: usize, length: usize) -> impl Iterator<Item = Case> {
    let operations = [
        Workload::Query,
        Workload::MlpPre,
        Workload::MlpOutput,
        Workload::LayerNorm,
        Workload::Gather,
        Workload::Overwrite,
        Workload::Attention { length },
        Workload::Readout,
    ];
    operations
        .into_iter()
        .map(move |operation| Case { operation, rows })
}

impl Case {
    /// K and N, for a product with a weight.
    pub fn product(&self, config: &Config) -> Option<(usize, usize)> {
        let (d, i) = (config.width, config.inner);
        match self.operation {
            Workload::Query => Some((d, d)),
            Workload::MlpPre => Some((d, i)),
            Workload::MlpOutput => Some((i, d)),
            Workload::Readout => Some((d, config.vocab)),
            _ => None,
        }
    }

    /// What it is, with its shape.
    pub fn name(&self, config: &Config) -> String {
        let (rows, d) = (self.rows, config.width);
        let what = match self.operation {
            Workload::Query => "linear c_attn third",
            Workload::MlpPre => "linear c_fc, activation",
            Workload::MlpOutput => "linear MLP c_proj, residual",
            Workload::Readout => "readout",
            Workload::LayerNorm => return format!("layer norm, {rows} × {d}"),
            Workload::Gather => return format!("gather, {rows} × {d}"),
            Workload::Overwrite => return format!("overwrite, {rows} × {}", config.head_width()),
            Workload::Attention { length } => {
                return format!(
                    "attention, {} of {length}",
                    counted(self.prompts(length), "prompt")
                );
            }
        };
        let (k, n) = self.product(config).unwrap_or_default();
        format!("{what}, {rows} × {k} → {n}")
    }

    /// Floating-point operations of one run; 0 where only memory is moved.
    pub fn flops(&self, config: &Config) -> f64 {
        if let Some((k, n)) = self.product(config) {
            return 2.0 * (self.rows * k * n) as f64;
        }
        match self.operation {
            Workload::Attention { length } => {
                let keys = self.prompts(length) * length * (length + 1) / 2;
                4.0 * (config.width * keys) as f64
            }
            _ => 0.0,
        }
    }

    /// Bytes that one run must read and write at least, tables not counted, where a number takes the
    /// bytes that `size` says. Weights are stored as branch activations are.
    pub fn bytes(&self, config: &Config, size: impl Fn(Store) -> usize) -> f64 {
        let (rows, d) = (self.rows, config.width);
        let (residual, branch, heads) = (
            size(Store::Residual),
            size(Store::Branch),
            size(Store::Heads),
        );
        let (k, n) = self.product(config).unwrap_or_default();
        let activations = match self.operation {
            Workload::Query => branch * k + heads * n,
            Workload::MlpPre => branch * (k + n),
            Workload::MlpOutput => branch * k + 2 * residual * n,
            Workload::LayerNorm => (residual + branch) * d,
            Workload::Gather => 2 * residual * d,
            Workload::Overwrite => 2 * heads * config.head_width(),
            Workload::Attention { length } => {
                return (4 * heads * d * self.prompts(length) * length) as f64;
            }
            Workload::Readout => branch * k,
        };
        (rows * activations + branch * k * n) as f64
    }

    fn prompts(&self, length: usize) -> usize {
        self.rows.div_ceil(length)
    }

    /// Everything that it needs, on a backend. Where that has no room, the first run says so.
    pub fn prepare<'a, B: Backend>(&self, backend: &'a B) -> Prepared<'a> {
        let config = backend.config();
        let (rows, d) = (self.rows, config.width);
        let (k, n) = self.product(config).unwrap_or_default();
        match self.operation {
            Workload::Query => linear(backend, Weight::Query(0), [rows, k, n], Store::Heads),
            Workload::MlpPre => linear(backend, Weight::MlpPre(0), [rows, k, n], Store::Branch),
            Workload::MlpOutput => {
                linear(backend, Weight::MlpOutput(0), [rows, k, n], Store::Residual)
            }
            Workload::LayerNorm => {
                let input = filled(backend, rows, d, Store::Residual);
                let mut out = backend.matrix(rows, d, Store::Branch);
                let refs = own(0..rows);
                Box::new(move || {
                    let input = Rows {
                        own: &input,
                        cache: None,
                        refs: &refs,
                    };
                    backend.layer_norm(Norm::LnF, &input, &mut out);
                    Ok(())
                })
            }
            Workload::Gather => {
                let from = filled(backend, rows, d, Store::Residual);
                let mut out = backend.matrix(rows, d, Store::Residual);
                let refs = own((0..rows).rev());
                Box::new(move || {
                    let rows = Rows {
                        own: &from,
                        cache: None,
                        refs: &refs,
                    };
                    backend.gather(&rows, &mut out, 0);
                    Ok(())
                })
            }
            Workload::Overwrite => overwrite(backend, rows),
            Workload::Attention { length } => attention(backend, self.prompts(length), length),
            Workload::Readout => {
                let input = filled(backend, rows, d, Store::Branch);
                Box::new(move || {
                    let spec = ReadoutSpec {
                        ids: vec![0; rows],
                        first: (0..=rows).collect(),
                        ..ReadoutSpec::default()
                    };
                    std::hint::black_box(backend.readout(&input, rows, &spec)?);
                    Ok(())
                })
            }
        }
    }
}

/// A matrix of numbers between −1 and 1. Only so many of its rows are made on the host.
fn filled<B: Backend>(backend: &B, rows: usize, width: usize, store: Store) -> B::Matrix {
    let different = rows.min(1024);
    let values: Vec<f64> = (0..different * width)
        .map(|i| ((i * 7919) % 2017) as f64 / 1009.0 - 1.0)
        .collect();
    let some = backend.upload(different, width, store, &values);
    if different == rows {
        return some;
    }
    let mut all = backend.matrix(rows, width, store);
    let rows = Rows {
        own: &some,
        cache: None,
        refs: &own((0..rows).map(|row| row % different)),
    };
    backend.gather(&rows, &mut all, 0);
    all
}

fn own(rows: impl Iterator<Item = usize>) -> Vec<Ref> {
    rows.map(Ref::own).collect()
}

fn linear<B: Backend>(
    backend: &B,
    weight: Weight,
    [rows, k, n]: [usize; 3],
    written: Store,
) -> Prepared<'_> {
    let input = filled(backend, rows, k, Store::Branch);
    let mut out = backend.matrix(rows, n, written);
    let residual = (written == Store::Residual).then(|| filled(backend, rows, n, Store::Residual));
    let list: Arc<Vec<u32>> = Arc::new((0..rows as u32).collect());
    let refs = own(0..rows);
    Box::new(move || {
        let epilogue = match (&residual, weight) {
            (Some(residual), _) => Epilogue::Residual(Rows {
                own: residual,
                cache: None,
                refs: &refs,
            }),
            (None, Weight::MlpPre(_)) => Epilogue::Activate,
            (None, _) => Epilogue::None,
        };
        let linear = Linear {
            weight,
            columns: 0..n,
            input: &input,
            rows: &list,
            out_rows: None,
            epilogue,
        };
        backend.linear(&linear, &mut out);
        Ok(())
    })
}

/// Head after head, row after row, so that all of a matrix is touched somewhere.
fn overwrite<B: Backend>(backend: &B, rows: usize) -> Prepared<'_> {
    let (d, head_width, heads) = {
        let config = backend.config();
        (config.width, config.head_width(), config.heads)
    };
    let mut matrix = filled(backend, rows, d, Store::Heads);
    let kept = [filled(backend, rows, d, Store::Heads)];
    let writes: Vec<Write> = (0..rows)
        .map(|row| {
            let column = row % heads * head_width;
            Write {
                row,
                head: row % heads,
                column,
                length: head_width,
                op: EditOp::Set,
                operand: Operand::Kept {
                    slot: 0,
                    row: rows - 1 - row,
                    column,
                },
            }
        })
        .collect();
    let constants = backend.constants(&[]);
    Box::new(move || {
        backend.overwrite(&mut matrix, &writes, &kept, &constants);
        Ok(())
    })
}

fn attention<B: Backend>(backend: &B, prompts: usize, length: usize) -> Prepared<'_> {
    let mut tables = AttentionRows::default();
    for row in 0..prompts * length {
        let position = row % length;
        tables.key.push(Ref::own(row));
        tables.value.push(Ref::own(row));
        tables.query.push(Ref::own(row));
        tables.first.push((row - position) as u32);
        tables.count.push(position as u32 + 1);
    }
    let (all, d) = (prompts * length, backend.config().width);
    let [query, key, value] = [(); 3].map(|()| filled(backend, all, d, Store::Heads));
    let mut out = backend.matrix(all, d, Store::Heads);
    let constants = backend.constants(&[]);
    Box::new(move || {
        let attention = Attention {
            layer: 0,
            query: (&query, None),
            key: (&key, None),
            value: (&value, None),
            rows: &tables,
            scores: &[],
            weights: &[],
            keep_scores: None,
            keep_pattern: None,
            stride: 0,
        };
        backend.attention(&attention, &mut [], &constants, &mut out);
        Ok(())
    })
}
