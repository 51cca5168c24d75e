//! Operation by operation, on random ragged shapes.

use super::operation::{
    Activate, After, AttentionOf, Distributions, Embed, Exercise, LinearLayer, NormInputs,
    Overwrite, Sum, Unembedding,
};
use super::{Comparison, Gates, Inputs, compare};
use crate::backend::{Backend, DeviceError, Embedding, Norm, Store, Weight};
use crate::plan::edit::EditOp;
use crate::plan::tables::{AttentionRows, Ref};
use crate::plan::writes::{Operand, Write};

/// Rows of the shapes that every row-wise operation is tried on.
const ROWS: [usize; 4] = [1, 2, 7, 97];

/// Compares the operations of `subject` with those of `reference`, whose weights are already rounded
/// as the subject's are. `each` is told of every comparison as it is made.
///
/// # Errors
///
/// [`DeviceError`] of either.
pub fn operations<R: Backend, S: Backend>(
    reference: &R,
    subject: &S,
    gates: Gates,
    seed: u64,
    each: &mut dyn FnMut(&Comparison),
) -> Result<Vec<Comparison>, DeviceError> {
    let mut trial = Trial {
        reference,
        subject,
        gates,
        inputs: Inputs::new(seed),
        comparisons: Vec::new(),
        each,
    };
    for rows in ROWS {
        trial.embeddings(rows)?;
        trial.linears(rows)?;
        trial.layer_norms(rows)?;
        trial.activation(rows)?;
        trial.sums(rows)?;
        trial.overwrites(rows)?;
    }
    let context = reference.config().context;
    for lengths in [vec![1], vec![3, 5, 2], vec![context.min(40), 9, 1]] {
        trial.attention(&lengths)?;
    }
    for rows in [1, 5] {
        trial.readouts(rows)?;
    }
    for rows in ROWS {
        trial.bases(rows)?;
    }
    Ok(trial.comparisons)
}

/// Compares attention alone, over prompts of these lengths.
///
/// # Errors
///
/// [`DeviceError`] of either.
pub fn attention<R: Backend, S: Backend>(
    reference: &R,
    subject: &S,
    gates: Gates,
    seed: u64,
    lengths: &[usize],
) -> Result<Vec<Comparison>, DeviceError> {
    let mut trial = Trial {
        reference,
        subject,
        gates,
        inputs: Inputs::new(seed),
        comparisons: Vec::new(),
        each: &mut |_| (),
    };
    trial.attention(lengths)?;
    Ok(trial.comparisons)
}

pub(super) struct Trial<'a, R, S> {
    pub reference: &'a R,
    pub subject: &'a S,
    pub gates: Gates,
    pub inputs: Inputs,
    comparisons: Vec<Comparison>,
    each: &'a mut dyn FnMut(&Comparison),
}

impl<R: Backend, S: Backend> Trial<'_, R, S> {
    pub fn compare(
        &mut self,
        what: String,
        width: usize,
        gate: f64,
        operation: &impl Exercise,
    ) -> Result<(), DeviceError> {
        let (want, got) = (operation.run(self.reference)?, operation.run(self.subject)?);
        let comparison = compare(what, &want, &got, width, gate);
        (self.each)(&comparison);
        self.comparisons.push(comparison);
        Ok(())
    }

    pub fn stored(
        &mut self,
        store: Store,
        rows: usize,
        width: usize,
    ) -> Result<Vec<f64>, DeviceError> {
        self.inputs.stored(self.subject, store, rows, width)
    }

    /// Rows of two matrices of `rows` rows each, at random.
    fn refs(&mut self, rows: usize) -> Vec<Ref> {
        (0..rows)
            .map(|_| {
                let row = self.inputs.below(rows);
                if self.inputs.below(2) == 0 {
                    Ref::own(row)
                } else {
                    Ref::cached(row)
                }
            })
            .collect()
    }

    pub fn permutation(&mut self, rows: usize) -> Vec<u32> {
        let mut list: Vec<u32> = (0..rows as u32).collect();
        for i in (1..rows).rev() {
            list.swap(i, self.inputs.below(i + 1));
        }
        list
    }

    fn embeddings(&mut self, rows: usize) -> Result<(), DeviceError> {
        let (vocab, context, width) = {
            let config = self.reference.config();
            (config.vocab, config.context, config.width)
        };
        for (name, table, most) in [
            ("token embedding", Embedding::Token, vocab),
            ("position embedding", Embedding::Position, context),
        ] {
            let index = (0..rows).map(|_| self.inputs.below(most) as u32).collect();
            let operation = Embed {
                table,
                index,
                width,
            };
            self.compare(format!("{name}, {rows} × {width}"), width, 0.0, &operation)?;
        }
        Ok(())
    }

    fn linears(&mut self, rows: usize) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (d, i, layer, head) = (
            config.width,
            config.inner,
            config.layers / 2,
            config.head_width(),
        );
        let last = (config.heads - 1) * head;
        for (name, weight, k, columns, stores) in [
            (
                "c_attn, query",
                Weight::Query(layer),
                d,
                0..d,
                [Store::Branch, Store::Heads],
            ),
            (
                "c_attn, key",
                Weight::Key(layer),
                d,
                0..d,
                [Store::Branch, Store::Heads],
            ),
            (
                "c_attn, value",
                Weight::Value(layer),
                d,
                0..d,
                [Store::Branch, Store::Heads],
            ),
            (
                "c_attn, one head's value",
                Weight::Value(layer),
                d,
                last..d,
                [Store::Branch, Store::Heads],
            ),
            (
                "attention c_proj",
                Weight::AttentionOutput(layer),
                d,
                0..d,
                [Store::Heads, Store::Residual],
            ),
            (
                "c_fc",
                Weight::MlpPre(layer),
                d,
                0..i,
                [Store::Branch, Store::Branch],
            ),
            (
                "c_fc with activation",
                Weight::MlpPre(layer),
                d,
                0..i,
                [Store::Branch, Store::Branch],
            ),
            (
                "MLP c_proj",
                Weight::MlpOutput(layer),
                i,
                0..d,
                [Store::Branch, Store::Residual],
            ),
            (
                "MLP c_proj with residual",
                Weight::MlpOutput(layer),
                i,
                0..d,
                [Store::Branch, Store::Residual],
            ),
        ] {
            let n = columns.len();
            let after = if name.ends_with("activation") {
                After::ActivationFunction
            } else if name.ends_with("residual") {
                After::Residual {
                    own: self.inputs.matrix(rows, n),
                    cache: self.inputs.matrix(rows, n),
                    refs: self.refs(rows),
                }
            } else {
                After::Nothing
            };
            let operation = LinearLayer {
                weight,
                columns,
                width: if name.contains("head") { d } else { n },
                stores,
                input: self.stored(stores[0], rows, k)?,
                rows: (0..rows).map(|_| self.inputs.below(rows) as u32).collect(),
                out_rows: self.permutation(rows),
                after,
            };
            let gate = match operation.after {
                After::ActivationFunction => self.gates.activated(k),
                _ => self.gates.linear(k),
            };
            self.compare(
                format!("linear {name}, {rows} × {k} → {n}"),
                n,
                gate,
                &operation,
            )?;
        }
        Ok(())
    }

    fn layer_norms(&mut self, rows: usize) -> Result<(), DeviceError> {
        let (width, layer) = (
            self.reference.config().width,
            self.reference.config().layers / 2,
        );
        for (name, norm) in [
            ("ln_1", Norm::Ln1(layer)),
            ("ln_2", Norm::Ln2(layer)),
            ("ln_f", Norm::LnF),
        ] {
            let mut operation = NormInputs {
                norm,
                own: self.inputs.matrix(rows, width),
                cache: self.inputs.matrix(rows, width),
                refs: self.refs(rows),
                thirds: false,
            };
            let gate = self.gates.row_wise();
            self.compare(
                format!("layer norm {name}, {rows} × {width}"),
                width,
                gate,
                &operation,
            )?;
            let whole = operation.run(self.subject)?;
            operation.thirds = true;
            let thirds = operation.run(self.subject)?;
            self.comparisons.push(compare(
                format!("layer norm {name} in three parts, {rows} × {width}"),
                &whole,
                &thirds,
                width,
                0.0,
            ));
        }
        Ok(())
    }

    fn activation(&mut self, rows: usize) -> Result<(), DeviceError> {
        let (width, name) = {
            let config = self.reference.config();
            (config.inner, config.activation.name())
        };
        let operation = Activate {
            pre: self.stored(Store::Branch, rows, width)?,
            rows: self.permutation(rows),
            width,
        };
        let gate = self.gates.row_wise();
        self.compare(format!("{name}, {rows} × {width}"), width, gate, &operation)
    }

    fn sums(&mut self, rows: usize) -> Result<(), DeviceError> {
        let width = self.reference.config().width;
        let operation = Sum {
            own: [
                self.inputs.matrix(rows, width),
                self.inputs.matrix(rows, width),
            ],
            cache: [
                self.inputs.matrix(rows, width),
                self.inputs.matrix(rows, width),
            ],
            refs: [self.refs(rows), self.refs(rows)],
            places: self.permutation(rows),
            width,
        };
        let gate = self.gates.row_wise().min(1e-7);
        self.compare(
            format!("sum, gathered and kept, {rows} × {width}"),
            width,
            gate,
            &operation,
        )
    }

    fn overwrites(&mut self, rows: usize) -> Result<(), DeviceError> {
        let width = self.reference.config().width;
        for store in [Store::Residual, Store::Branch, Store::Heads] {
            let kept = [
                self.stored(store, rows, width)?,
                self.stored(store, rows, width)?,
            ];
            let constants = self.stored(store, 1, 2 * width)?;
            let mut writes = Vec::new();
            for row in 0..rows {
                for _ in 0..self.inputs.below(4) {
                    let column = self.inputs.below(width);
                    let length = 1 + self.inputs.below(width - column);
                    let operand = if self.inputs.below(2) == 0 {
                        Operand::Constant(self.inputs.below(width))
                    } else {
                        Operand::Kept {
                            slot: self.inputs.below(2),
                            row: self.inputs.below(rows),
                            column: self.inputs.below(width - length + 1),
                        }
                    };
                    writes.push(write(&mut self.inputs, (row, 0), (column, length), operand));
                }
            }
            let operation = Overwrite {
                store,
                matrix: self.stored(store, rows, width)?,
                kept,
                constants,
                writes,
                width,
            };
            let gate = match store {
                Store::Residual => 1e-6,
                _ => self.gates.row_wise() * 2.0,
            };
            self.compare(
                format!("overwrites of {store:?}, {rows} × {width}"),
                width,
                gate,
                &operation,
            )?;
        }
        Ok(())
    }

    fn attention(&mut self, lengths: &[usize]) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (width, heads, layer) = (config.width, config.heads, config.layers / 2);
        let largest = config.score_scale(layer) * 5.0 * config.head_width() as f64;
        let stored = lengths.iter().sum::<usize>() * 3;
        let stride = *lengths.iter().max().unwrap_or(&1);
        let mut rows = AttentionRows::default();
        for length in lengths {
            let first = rows.key.len() as u32;
            rows.key.extend(&self.refs(stored)[..*length]);
            rows.value.extend(&self.refs(stored)[..*length]);
            rows.query.extend(&self.refs(stored)[..*length]);
            rows.first.extend(vec![first; *length]);
            rows.count.extend(1..=*length as u32);
        }
        let mut cells = || {
            let mut writes = Vec::new();
            for (row, keys) in rows.count.iter().enumerate() {
                for _ in 0..self.inputs.below(3) {
                    let column = self.inputs.below(*keys as usize);
                    let length = 1 + self.inputs.below(*keys as usize - column);
                    let head = self.inputs.below(heads);
                    let at = self.inputs.below(stride);
                    let operand = Operand::Constant(at);
                    writes.push(write(
                        &mut self.inputs,
                        (row, head),
                        (column, length),
                        operand,
                    ));
                }
            }
            writes
        };
        let (scores, weights) = (cells(), cells());
        let mut operation = AttentionOf {
            layer,
            width,
            stride,
            own: self.stored(Store::Heads, stored, width)?,
            cache: self.stored(Store::Heads, stored, width)?,
            constants: self.inputs.matrix(1, 2 * stride),
            keep_to: self.permutation(rows.query.len()),
            rows,
            scores: Vec::new(),
            weights: Vec::new(),
        };
        let gate = self.gates.attention(largest);
        let row = width + 2 * heads * stride;
        self.compare(
            format!("attention over {lengths:?} keys"),
            row,
            gate,
            &operation,
        )?;
        (operation.scores, operation.weights) = (scores, weights);
        self.compare(
            format!("attention over {lengths:?} keys, overwritten"),
            row,
            gate,
            &operation,
        )
    }

    fn readouts(&mut self, rows: usize) -> Result<(), DeviceError> {
        let (width, vocab) = (self.reference.config().width, self.reference.config().vocab);
        let mut operation = Unembedding {
            input: self.stored(Store::Branch, rows + 1, width)?,
            rows,
            width,
            vocab,
            base: Vec::new(),
        };
        let row = operation.wanted().len() + 1 + operation.top();
        let gate = self.gates.linear(width);
        self.compare(
            format!("readout, {rows} × {width} → {vocab}"),
            row,
            gate,
            &operation,
        )?;
        // the row behind those that are read out, and a row among them
        operation.base = (0..rows)
            .map(|r| if r % 3 == 1 { 0 } else { rows as u32 })
            .collect();
        let largest = operation.run(self.reference)?;
        let largest = largest.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        self.compare(
            format!("entropy and divergence, {rows} × {width} → {vocab}"),
            2,
            2.0 * gate * largest,
            &Distributions(operation),
        )
    }
}

fn write(
    inputs: &mut Inputs,
    (row, head): (usize, usize),
    (column, length): (usize, usize),
    operand: Operand,
) -> Write {
    let op = [
        EditOp::Set,
        EditOp::Fill(0.0),
        EditOp::Fill(-1.25),
        EditOp::Add,
        EditOp::Subtract,
        EditOp::Scale(1.5),
        EditOp::Interpolate(0.25),
    ][inputs.below(7)];
    let reads = !matches!(op, EditOp::Fill(_) | EditOp::Scale(_));
    Write {
        row,
        head,
        column,
        length,
        op,
        operand: if reads { operand } else { Operand::None },
    }
}
