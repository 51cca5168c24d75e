//! Encoding and decoding in bases of every form, of rows that stand, that are read, and of their
//! difference.

use super::operation::Exercise;
use super::operations::Trial;
use super::{Gates, Inputs};
use crate::backend::{Backend, BasisOn, DeviceError, Precision, Probe, RowColumn, Store};
use crate::basis::{Basis, BasisError, Numbers};
use crate::plan::writes::Operand;

/// Rows encoded, and others decoded into their place.
pub(super) struct BasisInputs {
    basis: Basis,
    store: Store,
    /// Columns of the matrix.
    width: usize,
    matrix: Vec<f64>,
    kept: [Vec<f64>; 2],
    constants: Vec<f64>,
    probes: Vec<Probe>,
    coordinates: Vec<f64>,
    places: Vec<RowColumn>,
    /// Whether it is encoded that counts; the other way back otherwise.
    encodes: bool,
}

impl Exercise for BasisInputs {
    fn run<B: Backend>(&self, backend: &B) -> Result<Vec<f64>, DeviceError> {
        let rows = self.matrix.len() / self.width;
        let upload = |values: &Vec<f64>| backend.upload(rows, self.width, self.store, values);
        let basis = BasisOn::new(backend, &self.basis);
        let (mut matrix, k) = (upload(&self.matrix), self.basis.coordinates());
        if self.encodes {
            let kept = self.kept.each_ref().map(upload);
            let constants = backend.constants(&self.constants);
            let mut out = backend.matrix(self.probes.len(), k, Store::Residual);
            backend.encode(&basis, &self.probes, &matrix, &kept, &constants, &mut out);
            return backend.read(&out);
        }
        let count = self.places.len();
        let coordinates = backend.upload(count, k, Store::Residual, &self.coordinates);
        backend.decode(&basis, &coordinates, &self.places, &mut matrix);
        backend.read(&matrix)
    }
}

/// Bases of every form for rows of n numbers: with fewer coordinates, with as many, and with more than
/// one sum's block of 256.
fn forms(inputs: &mut Inputs, n: usize) -> Result<Vec<(&'static str, Basis)>, BasisError> {
    let (low, wide) = (1 + n / 3, if n < 64 { n + 5 } else { 261 });
    let mut numbers = |rows: usize, columns: usize, scale: f64| {
        let values = inputs.matrix(rows, columns);
        // what f32 holds exactly stays so
        let values = values.iter().map(|x| f64::from((scale * x) as f32));
        Numbers::new([rows, columns], values.collect())
    };
    let scale = 1.0 / (n as f64).sqrt();
    let mask: Vec<f64> = (0..n).map(|i| [0.0, 0.25, 1.0][i % 3]).collect();
    let square = numbers(n, n, scale);
    let few = numbers(n, low, scale);
    let components = numbers(low, n, scale);
    let mean = numbers(1, n, 1.0).values;
    let std: Vec<f64> = (0..n).map(|i| 0.5 + (i % 5) as f64).collect();
    let (w_enc, w_dec) = (numbers(n, wide, scale), numbers(wide, n, scale));
    let (b_enc, b_dec) = (numbers(1, wide, 0.3).values, numbers(1, n, 0.3).values);
    let threshold = numbers(1, wide, 0.3).values;
    let sparse = Basis::autoencoder("", &w_enc, &b_enc, &w_dec, &b_dec, None)?;
    Ok(vec![
        (
            "autoencoder with its error term",
            sparse.clone().with_error_term(),
        ),
        ("rotation", Basis::rotation("", &square, None)?),
        (
            "masked rotation",
            Basis::rotation("", &few, Some(&mask[..low]))?,
        ),
        ("mask", Basis::mask("", &mask)?),
        (
            "principal components",
            Basis::principal_components("", &components, &mean, &std)?,
        ),
        ("autoencoder", sparse),
        (
            "JumpReLU",
            Basis::autoencoder("", &w_enc, &b_enc, &w_dec, &b_dec, Some(&threshold))?,
        ),
    ])
}

impl<R: Backend, S: Backend> Trial<'_, R, S> {
    pub(super) fn bases(&mut self, rows: usize) -> Result<(), DeviceError> {
        let (width, head) = {
            let config = self.reference.config();
            (config.width, config.head_width())
        };
        for (store, n) in [
            (Store::Residual, width),
            (Store::Heads, width),
            (Store::Heads, head),
        ] {
            // their numbers are made above, and fit each other
            let forms = forms(&mut self.inputs, n).unwrap_or_default();
            for (form, basis) in forms {
                self.basis(rows, (store, n), form, basis)?;
            }
        }
        Ok(())
    }

    fn basis(
        &mut self,
        rows: usize,
        (store, n): (Store, usize),
        form: &str,
        basis: Basis,
    ) -> Result<(), DeviceError> {
        let (width, k) = (self.reference.config().width, basis.coordinates());
        let parts = width / n;
        let constants = self.inputs.matrix(1, 2 * n + 3);
        let mut probes = Vec::with_capacity(rows);
        for i in 0..rows {
            let inputs = &mut self.inputs;
            let standing = Some((inputs.below(rows), n * inputs.below(parts)));
            let read = match inputs.below(3) {
                0 => Operand::Constant(inputs.below(n + 3)),
                slot => Operand::Kept {
                    slot: slot - 1,
                    row: inputs.below(rows),
                    column: n * inputs.below(parts),
                },
            };
            probes.push(match i % 3 {
                0 => Probe { standing, read },
                1 => Probe {
                    standing,
                    read: Operand::None,
                },
                _ => Probe {
                    standing: None,
                    read,
                },
            });
        }
        let order = self.permutation(rows);
        let place = |row: &u32| (*row as usize, n * (*row as usize % parts));
        let mut operation = BasisInputs {
            store,
            width,
            matrix: self.stored(store, rows, width)?,
            kept: [
                self.stored(store, rows, width)?,
                self.stored(store, rows, width)?,
            ],
            constants,
            probes,
            coordinates: self.inputs.matrix(rows, k),
            // every other row stays as it is
            places: order.iter().step_by(2).map(place).collect(),
            encodes: true,
            basis,
        };
        let kept = operation.places.len() * k;
        operation.coordinates.truncate(kept);
        // coordinates are f32 whatever the precision; an activation changes nothing but signs
        let full = Gates::of(Precision::F32);
        let what = |does: &str| format!("{does}, {form} of {n} → {k}, {rows} × {width} {store:?}");
        let (encode, decode) = (what("encode"), what("decode"));
        self.compare(encode, k, full.activated(n), &operation)?;
        operation.encodes = false;
        let gate = match store {
            Store::Residual => full.activated(k),
            _ => self.gates.activated(k),
        };
        self.compare(decode, width, gate, &operation)
    }
}
