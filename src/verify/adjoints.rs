//! Adjoint by adjoint, on random ragged shapes: the arithmetic is f32 in every precision, of inputs that the precision
//! has rounded.

use super::{Comparison, Gates, Inputs, compare};
use crate::backend::adjoint::{
    Adjoints, AttentionAdjoint, AttentionGradients, Frozen, LinearAdjoint, LogitGradient,
    NormAdjoint,
};
use crate::backend::{Backend, DeviceError, Norm, Precision, Readout, ReadoutSpec, Store, Weight};
use crate::plan::tape::{AttendedRun, Passed};
use crate::site::Stage;

/// Rows of the shapes that every row-wise adjoint is tried on.
const ROWS: [usize; 4] = [1, 2, 7, 97];

/// Compares the adjoints of `subject` with those of `reference`, whose weights are already rounded as the
/// subject's are. `each` is told of every comparison as it is made.
///
/// # Errors
///
/// [`DeviceError`] of either.
pub fn adjoints<R: Adjoints, S: Adjoints>(
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
        trial.sums(rows)?;
        trial.linears(rows)?;
        trial.layer_norms(rows)?;
        trial.activation(rows)?;
    }
    let context = reference.config().context;
    for lengths in [vec![1], vec![3, 5, 2], vec![context.min(40), 9, 1]] {
        trial.attention(&lengths)?;
    }
    for rows in [1, 5, 20] {
        trial.readouts(rows)?;
    }
    Ok(trial.comparisons)
}

/// An adjoint as both backends run it: from inputs to everything that it wrote, row by row.
trait Reverse {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError>;
}

struct Trial<'a, R, S> {
    reference: &'a R,
    subject: &'a S,
    gates: Gates,
    inputs: Inputs,
    comparisons: Vec<Comparison>,
    each: &'a mut dyn FnMut(&Comparison),
}

impl<R: Adjoints, S: Adjoints> Trial<'_, R, S> {
    fn compare(
        &mut self,
        what: String,
        width: usize,
        gate: f64,
        adjoint: &impl Reverse,
    ) -> Result<(), DeviceError> {
        let (want, got) = (adjoint.run(self.reference)?, adjoint.run(self.subject)?);
        let comparison = compare(what, &want, &got, width, gate);
        (self.each)(&comparison);
        self.comparisons.push(comparison);
        Ok(())
    }

    /// Some of so many rows, ascending; the last among them.
    fn some(&mut self, rows: usize) -> Vec<u32> {
        let last = rows as u32 - 1;
        let some = (0..last).filter(|_| self.inputs.below(4) > 0);
        some.chain([last]).collect()
    }

    fn stored(&mut self, store: Store, rows: usize, width: usize) -> Result<Vec<f64>, DeviceError> {
        self.inputs.stored(self.subject, store, rows, width)
    }

    fn sums(&mut self, rows: usize) -> Result<(), DeviceError> {
        let width = self.reference.config().width;
        let mut passed = Vec::new();
        for row in 0..rows {
            for factor in [0.0, -1.5, 0.25].into_iter().take(self.inputs.below(4)) {
                let column = self.inputs.below(width);
                passed.push(Passed {
                    row: row as u32,
                    column,
                    length: 1 + self.inputs.below(width - column),
                    factor,
                });
            }
        }
        let adjoint = SumsAndEdits {
            from: [
                self.inputs.matrix(rows, width),
                self.inputs.matrix(rows, width),
            ],
            rows: self.some(rows),
            passed,
            width,
        };
        let what = format!("sums of gradients and edits backwards, {rows} × {width}");
        self.compare(what, width, 2e-7, &adjoint)
    }

    fn linears(&mut self, rows: usize) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (d, i, layer) = (config.width, config.inner, config.layers / 2);
        let head = d - config.head_width();
        for (name, weight, inputs, outputs, columns) in [
            ("c_attn, query", Weight::Query(layer), d, d, 0..d),
            ("c_attn, key", Weight::Key(layer), d, d, 0..d),
            (
                "c_attn, one head's value",
                Weight::Value(layer),
                d,
                d,
                head..d,
            ),
            (
                "attention c_proj",
                Weight::AttentionOutput(layer),
                d,
                d,
                0..d,
            ),
            ("c_fc", Weight::MlpPre(layer), d, i, 0..i),
            ("MLP c_proj", Weight::MlpOutput(layer), i, d, 0..d),
        ] {
            let summed = columns.len();
            let adjoint = LinearBack {
                weight,
                columns,
                gradient: self.inputs.matrix(rows, outputs),
                rows: self.some(rows),
                into: self.inputs.matrix(rows, inputs),
                inputs,
            };
            let gate = Gates::of(Precision::F32).linear(summed);
            let what = format!("linear {name} backwards, {rows} × {summed} → {inputs}");
            self.compare(what, inputs, gate, &adjoint)?;
        }
        Ok(())
    }

    fn layer_norms(&mut self, rows: usize) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (width, layer) = (config.width, config.layers / 2);
        for (name, norm) in [
            ("ln_1", Norm::Ln1(layer)),
            ("ln_2", Norm::Ln2(layer)),
            ("ln_f", Norm::LnF),
        ] {
            let mut adjoint = NormBack {
                norm,
                input: self.inputs.matrix(rows, width),
                gradient: self.inputs.matrix(rows, width),
                rows: self.some(rows),
                into: self.inputs.matrix(rows, width),
                of: NormPart::Input(Frozen::default()),
                width,
            };
            for (part, of, wide) in [
                ("", NormPart::Input(Frozen::default()), width),
                (", scale held", NormPart::Input(Frozen::RELP), width),
                (", normalised row and scale", NormPart::Inner, width + 1),
            ] {
                adjoint.of = of;
                let what = format!("layer norm {name} backwards{part}, {rows} × {width}");
                self.compare(what, wide, 2e-6, &adjoint)?;
            }
        }
        Ok(())
    }

    fn activation(&mut self, rows: usize) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (width, name) = (config.inner, config.activation.name());
        let mut adjoint = ActivateBack {
            pre: self.stored(Store::Branch, rows, width)?,
            gradient: self.inputs.matrix(rows, width),
            rows: self.some(rows),
            into: self.inputs.matrix(rows, width),
            frozen: Frozen::default(),
            width,
        };
        for (held, frozen) in [("", Frozen::default()), (", slopes held", Frozen::RELP)] {
            adjoint.frozen = frozen;
            let what = format!("{name} backwards{held}, {rows} × {width}");
            self.compare(what, width, 1e-6, &adjoint)?;
        }
        Ok(())
    }

    fn attention(&mut self, lengths: &[usize]) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (width, heads, layer) = (config.width, config.heads, config.layers / 2);
        let largest = config.score_scale(layer) * 5.0 * config.head_width() as f64;
        let rows: usize = lengths.iter().sum();
        let mut first = 0;
        let mut runs = Vec::new();
        for length in lengths {
            runs.push(AttendedRun {
                first,
                positions: self.some(*length),
            });
            first += *length as u32;
        }
        let mut stored = || self.stored(Store::Heads, rows, width);
        let (query, key, value) = (stored()?, stored()?, stored()?);
        let mut adjoint = AttentionBack {
            layer,
            query,
            key,
            value,
            gradient: self.inputs.matrix(rows, width),
            runs,
            frozen: Frozen::default(),
            cells: true,
            stride: lengths.iter().max().unwrap_or(&1) + 1,
            width,
        };
        let keys = heads * adjoint.stride;
        let gate = 4.0 * Gates::of(Precision::F32).attention(largest);
        for (held, patterns, cells) in [
            ("", false, true),
            (", without cells", false, false),
            (", pattern held", true, true),
        ] {
            (adjoint.frozen.patterns, adjoint.cells) = (patterns, cells);
            let row = 3 * width + if cells { 2 * keys } else { 0 };
            let what = format!("attention backwards over {lengths:?} keys{held}");
            self.compare(what, row, gate, &adjoint)?;
        }
        Ok(())
    }

    fn readouts(&mut self, rows: usize) -> Result<(), DeviceError> {
        let config = self.reference.config();
        let (width, vocab) = (config.width, config.vocab);
        let input = self.stored(Store::Branch, 2 * rows, width)?;
        let id = |inputs: &mut Inputs| inputs.below(vocab) as u32;
        let read = distributions(self.reference, &input, width)?;
        let largest = read
            .iter()
            .fold(1.0, |m: f64, r| m.max(r.log_sum_exp.abs()));
        for (what, single, spread, surprise, other) in [
            ("single logits", true, 0.0, 0.0, 0.0),
            ("log-probability", true, -1.0, 0.0, 0.0),
            ("entropy", false, 0.0, -1.0, 0.0),
            ("divergence", false, 1.0, 0.0, -0.5),
            ("everything", true, -0.5, 0.75, 0.25),
        ] {
            // every second row, and that behind it beside some
            let starts = (0..rows).map(|row| Start {
                row: 2 * row as u32,
                weights: match single {
                    true => vec![(id(&mut self.inputs), 1.0), (id(&mut self.inputs), -0.5)],
                    false => Vec::new(),
                },
                spread,
                surprise,
                other: (other != 0.0 && row % 3 != 1)
                    .then(|| (other, 2 * self.inputs.below(rows) as u32 + 1)),
            });
            let adjoint = ReadoutBack {
                starts: starts.collect(),
                into: self.inputs.matrix(2 * rows, width),
                input: input.clone(),
                width,
            };
            // an error of a logit is one of its probability
            let gate = match spread == 0.0 && surprise == 0.0 {
                true => 1e-6,
                false => 2.0 * self.gates.linear(width) * largest,
            };
            let what = format!("readout backwards, {what}, {rows} × {vocab} → {width}");
            self.compare(what, width, gate, &adjoint)?;
        }
        Ok(())
    }
}

/// Gradients of what both add up to, and edits gone back through.
struct SumsAndEdits {
    from: [Vec<f64>; 2],
    rows: Vec<u32>,
    passed: Vec<Passed>,
    width: usize,
}

impl Reverse for SumsAndEdits {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.from[0].len() / self.width;
        // fewer rows at first: it grows
        let mut into = backend.zeros(1, self.width, Stage::BlockInput);
        backend.clear(&mut into, rows);
        for from in &self.from {
            let from = backend.upload(rows, self.width, Store::Residual, from);
            backend.accumulate(&from, &self.rows, &mut into);
        }
        backend.pass(&mut into, &self.passed);
        backend.read(&into)
    }
}

struct LinearBack {
    weight: Weight,
    columns: std::ops::Range<usize>,
    gradient: Vec<f64>,
    rows: Vec<u32>,
    into: Vec<f64>,
    inputs: usize,
}

impl Reverse for LinearBack {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.into.len() / self.inputs;
        let outputs = self.gradient.len() / rows;
        let gradient = backend.upload(rows, outputs, Store::Residual, &self.gradient);
        let mut into = backend.upload(rows, self.inputs, Store::Residual, &self.into);
        let adjoint = LinearAdjoint {
            weight: self.weight,
            columns: self.columns.clone(),
            gradient: &gradient,
            rows: &self.rows,
        };
        backend.linear_adjoint(&adjoint, &mut into);
        backend.read(&into)
    }
}

/// With respect to what a gradient of a layer norm is.
#[derive(Clone, Copy)]
enum NormPart {
    Input(Frozen),
    /// The normalised row, and behind it the scale, whose gradient is a sum of that row's and may cancel.
    Inner,
}

struct NormBack {
    norm: Norm,
    input: Vec<f64>,
    gradient: Vec<f64>,
    rows: Vec<u32>,
    into: Vec<f64>,
    of: NormPart,
    width: usize,
}

impl Reverse for NormBack {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.into.len() / self.width;
        let upload = |values| backend.upload(rows, self.width, Store::Residual, values);
        let (input, gradient) = (upload(&self.input), upload(&self.gradient));
        let mut adjoint = NormAdjoint {
            norm: self.norm,
            input: &input,
            gradient: &gradient,
            rows: &self.rows,
            frozen: Frozen::default(),
        };
        let mut into = upload(&self.into);
        if let NormPart::Input(frozen) = self.of {
            adjoint.frozen = frozen;
            backend.norm_adjoint(&adjoint, &mut into);
            return backend.read(&into);
        }
        backend.normalized_adjoint(&adjoint, &mut into);
        let mut scale = backend.zeros(rows, 1, Stage::Ln1Scale);
        backend.scale_adjoint(&adjoint, &mut scale);
        let (normalized, scale) = (backend.read(&into)?, backend.read(&scale)?);
        let each = normalized.chunks_exact(self.width).zip(&scale);
        Ok(each
            .flat_map(|(row, scale)| row.iter().copied().chain([*scale]))
            .collect())
    }
}

struct ActivateBack {
    pre: Vec<f64>,
    gradient: Vec<f64>,
    rows: Vec<u32>,
    into: Vec<f64>,
    frozen: Frozen,
    width: usize,
}

impl Reverse for ActivateBack {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.pre.len() / self.width;
        let upload = |values, store| backend.upload(rows, self.width, store, values);
        let pre = upload(&self.pre, Store::Branch);
        let gradient = upload(&self.gradient, Store::Residual);
        let mut into = upload(&self.into, Store::Residual);
        backend.activate_adjoint(&pre, &gradient, &self.rows, self.frozen, &mut into);
        backend.read(&into)
    }
}

struct AttentionBack {
    layer: usize,
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    gradient: Vec<f64>,
    runs: Vec<AttendedRun>,
    frozen: Frozen,
    /// Whether gradients of scores and pattern are wanted.
    cells: bool,
    stride: usize,
    width: usize,
}

impl Reverse for AttentionBack {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.gradient.len() / self.width;
        let upload = |values, store| backend.upload(rows, self.width, store, values);
        let [query, key, value] =
            [&self.query, &self.key, &self.value].map(|values| upload(values, Store::Heads));
        let gradient = upload(&self.gradient, Store::Residual);
        let keys = backend.config().heads * self.stride;
        let zeros = |width, stage| backend.zeros(rows, width, stage);
        let mut to_query = zeros(self.width, Stage::Query);
        let mut to_key = zeros(self.width, Stage::Key);
        let mut to_value = zeros(self.width, Stage::Value);
        let cells = |stage| self.cells.then(|| zeros(keys, stage));
        let mut scores = cells(Stage::Scores);
        let mut pattern = cells(Stage::Pattern);
        let adjoint = AttentionAdjoint {
            layer: self.layer,
            query: &query,
            key: &key,
            value: &value,
            gradient: &gradient,
            runs: &self.runs,
            frozen: self.frozen,
            stride: self.stride,
        };
        let into = AttentionGradients {
            query: &mut to_query,
            key: &mut to_key,
            value: &mut to_value,
            scores: scores.as_mut(),
            pattern: pattern.as_mut(),
        };
        backend.attention_adjoint(&adjoint, into);
        let written = [
            Some(to_query),
            Some(to_key),
            Some(to_value),
            scores,
            pattern,
        ];
        let mut read = Vec::new();
        for matrix in written.iter().flatten() {
            let values = backend.read(matrix)?;
            let width = values.len() / rows;
            read.push((values, width));
        }
        let row = |row: usize| {
            let parts = read.iter().map(move |(x, wide)| &x[row * wide..][..*wide]);
            parts.flatten().copied()
        };
        Ok((0..rows).flat_map(row).collect())
    }
}

/// What a row's gradient starts from; its distribution is the backend's own.
struct Start {
    row: u32,
    weights: Vec<(u32, f64)>,
    spread: f64,
    surprise: f64,
    /// How much another row's distribution counts, and which row's.
    other: Option<(f64, u32)>,
}

/// What is read out of all rows.
fn distributions<B: Backend>(
    backend: &B,
    input: &[f64],
    width: usize,
) -> Result<Vec<Readout>, DeviceError> {
    let rows = input.len() / width;
    let input = backend.upload(rows, width, Store::Branch, input);
    let spec = ReadoutSpec {
        first: vec![0; rows + 1],
        ..ReadoutSpec::default()
    };
    backend.finish(backend.readout(&input, rows, &spec)?)
}

struct ReadoutBack {
    starts: Vec<Start>,
    input: Vec<f64>,
    into: Vec<f64>,
    width: usize,
}

impl Reverse for ReadoutBack {
    fn run<B: Adjoints>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.input.len() / self.width;
        let input = backend.upload(rows, self.width, Store::Branch, &self.input);
        let read = distributions(backend, &self.input, self.width)?;
        let gradients: Vec<LogitGradient> = self
            .starts
            .iter()
            .map(|start| LogitGradient {
                row: start.row,
                log_sum_exp: read[start.row as usize].log_sum_exp,
                entropy: read[start.row as usize].entropy,
                weights: start.weights.clone(),
                spread: start.spread,
                surprise: start.surprise,
                other: start
                    .other
                    .map(|(count, row)| (count, row, read[row as usize].log_sum_exp)),
            })
            .collect();
        let mut into = backend.upload(rows, self.width, Store::Residual, &self.into);
        backend.readout_adjoint(&input, &gradients, &mut into);
        backend.read(&into)
    }
}
