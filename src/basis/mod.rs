//! Bases: other coordinates of a row, in which operators act.
//!
//! An operator in a basis encodes the row that stands (b) and the one that is read (s) into k
//! coordinates, acts there, and decodes. There are two ways back:
//!
//! - *by difference*: what the coordinates changed by is decoded and added to b, so that whatever the
//!   basis does not span stays as it was, and a patch that changes no coordinate changes no bit;
//! - *whole*: the row becomes what the coordinates decode to, its reconstruction, whether or not it
//!   had been in the basis's span. What the basis does not hold is lost with every patch, also with one
//!   that changes no coordinate; [`Basis::with_error_term`] takes such a basis back by difference, as
//!   SAELens does by `use_error_term`: b + decode(h') − decode(h).
//!
//! | form | coordinates h of x | back | pyvene 0.1.8 (`models/interventions.py`) |
//! |---|---|---|---|
//! | rotation | x·W | b + (m ∘ Δh)·Wᵀ | `RotatedSpace…`, `LowRankRotatedSpace…`, `BoundlessRotatedSpace…`, `SigmoidMaskRotatedSpaceIntervention` |
//! | mask | x | b + m ∘ Δh | `SigmoidMaskIntervention` |
//! | PCA | ((x − μ) / σ)·Cᵀ | (h·C) ∘ σ + μ | `PCARotatedSpaceIntervention` |
//! | autoencoder | ReLU((x − b_dec)·W_enc + b_enc) | h·W_dec + b_dec | `AutoencoderIntervention` |
//! | JumpReLU | p above θ and above 0, else 0; p = x·W_enc + b_enc | h·W_dec + b_dec | `JumpReLUAutoencoderIntervention` |
//!
//! [`Basis`] is the numbers; [`read`] takes them out of a file; [`crate::plan::writes`] says what is
//! encoded for which operator, and backends encode and decode.

mod folder;
pub mod read;

use std::fmt;

/// What is wrong with the numbers of a basis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the basis `{label}`: {problem}")]
pub struct BasisError {
    /// How the basis is named.
    pub label: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// A matrix of numbers, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// As many as the shape says.
    pub values: Vec<f64>,
}

impl Numbers {
    /// A matrix of these values.
    pub fn new(shape: [usize; 2], values: Vec<f64>) -> Self {
        Self { shape, values }
    }

    pub(crate) fn transposed(&self) -> Vec<f64> {
        let [rows, columns] = self.shape;
        let at = |i: usize| self.values[i % rows * columns + i / rows];
        (0..rows * columns).map(at).collect()
    }
}

/// Other coordinates of a row of `width` numbers.
///
/// Encoding is `activation(((x − shift) / spread) · encoder + bias)`; decoding is
/// `(h · decoder) ∘ gain + offset`, or that added to the row by difference. What is `None` is left
/// out; without an encoder the coordinates are the row's own numbers.
#[derive(Clone, PartialEq)]
pub struct Basis {
    label: String,
    /// n: numbers of a row.
    pub(crate) width: usize,
    /// k: coordinates.
    pub(crate) coordinates: usize,
    /// `[n]`
    pub(crate) shift: Option<Vec<f64>>,
    /// `[n]`
    pub(crate) spread: Option<Vec<f64>>,
    /// `[n, k]`
    pub(crate) encoder: Option<Vec<f64>>,
    /// `[k]`
    pub(crate) bias: Option<Vec<f64>>,
    /// θ of JumpReLU, `[k]`: coordinates not above it are 0.
    pub(crate) threshold: Option<Vec<f64>>,
    /// Whether negative coordinates are 0.
    pub(crate) rectified: bool,
    /// `[k, n]`; a rotation's mask is multiplied in.
    pub(crate) decoder: Option<Vec<f64>>,
    /// `[n]`
    pub(crate) gain: Option<Vec<f64>>,
    /// `[n]`
    pub(crate) offset: Option<Vec<f64>>,
    /// Whether it goes back by difference.
    pub(crate) by_difference: bool,
    /// Whether a difference of rows encodes to the difference of their coordinates.
    pub(crate) linear: bool,
}

impl fmt::Debug for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Basis({}: {} → {})",
            self.label, self.width, self.coordinates
        )
    }
}

/// What a constructor is asked to check.
struct Check<'a>(&'a str);

impl Check<'_> {
    fn problem<T>(&self, problem: String) -> Result<T, BasisError> {
        Err(BasisError {
            label: self.0.to_owned(),
            problem,
        })
    }

    fn matrix(&self, name: &str, x: &Numbers) -> Result<(), BasisError> {
        let [rows, columns] = x.shape;
        if rows.checked_mul(columns) != Some(x.values.len()) || x.values.is_empty() {
            let found = x.values.len();
            return self.problem(format!(
                "{name} is [{rows}, {columns}] and has {found} numbers: neither may be 0, and their \
                 product is how many there are"
            ));
        }
        self.finite(name, &x.values)
    }

    fn vector(&self, name: &str, x: &[f64], length: usize, of: &str) -> Result<(), BasisError> {
        if x.len() != length {
            let found = x.len();
            return self.problem(format!(
                "{name} has {found} numbers, but {of} says {length}"
            ));
        }
        self.finite(name, x)
    }

    fn finite(&self, name: &str, x: &[f64]) -> Result<(), BasisError> {
        match x.iter().position(|x| !x.is_finite()) {
            Some(at) => self.problem(format!(
                "{name} has {} at index {at}: its numbers must be finite",
                x[at]
            )),
            None => Ok(()),
        }
    }

    fn mask(&self, x: &[f64]) -> Result<(), BasisError> {
        match x.iter().position(|x| !(0.0..=1.0).contains(x)) {
            Some(at) => self.problem(format!(
                "mask has {} at index {at}: its numbers are from 0 to 1",
                x[at]
            )),
            None => Ok(()),
        }
    }
}

impl Basis {
    fn plain(label: &str, width: usize, coordinates: usize) -> Self {
        Self {
            label: label.to_owned(),
            width,
            coordinates,
            shift: None,
            spread: None,
            encoder: None,
            bias: None,
            threshold: None,
            rectified: false,
            decoder: None,
            gain: None,
            offset: None,
            by_difference: false,
            linear: false,
        }
    }

    /// A rotation W, `[n, k]`, whose columns are directions (orthonormal, which is not checked), and
    /// how far each coordinate is moved, `[k]` numbers from 0 to 1; all the way without a mask.
    ///
    /// # Errors
    ///
    /// [`BasisError`] for shapes that do not fit, more directions than numbers, and numbers that are
    /// not finite.
    pub fn rotation(
        label: &str,
        rotation: &Numbers,
        mask: Option<&[f64]>,
    ) -> Result<Self, BasisError> {
        let check = Check(label);
        check.matrix("rotation", rotation)?;
        let [n, k] = rotation.shape;
        if k > n {
            return check.problem(format!(
                "rotation is [{n}, {k}], more directions than a row has numbers: its columns are the \
                 directions"
            ));
        }
        let mut decoder = rotation.transposed();
        if let Some(mask) = mask {
            check.vector("mask", mask, k, "rotation's second number")?;
            check.mask(mask)?;
            for (row, m) in decoder.chunks_exact_mut(n).zip(mask) {
                row.iter_mut().for_each(|x| *x *= m);
            }
        }
        Ok(Self {
            encoder: Some(rotation.values.clone()),
            decoder: Some(decoder),
            by_difference: true,
            linear: true,
            ..Self::plain(label, n, k)
        })
    }

    /// The row's own numbers, and how far each is moved: `[n]` numbers from 0 to 1.
    ///
    /// # Errors
    ///
    /// [`BasisError`] for an empty mask and numbers outside of 0 to 1.
    pub fn mask(label: &str, mask: &[f64]) -> Result<Self, BasisError> {
        let check = Check(label);
        if mask.is_empty() {
            return check.problem("mask is empty: give a number for each column".into());
        }
        check.mask(mask)?;
        Ok(Self {
            gain: Some(mask.to_vec()),
            by_difference: true,
            linear: true,
            ..Self::plain(label, mask.len(), mask.len())
        })
    }

    /// Principal components C, `[k, n]`, with the mean and standard deviation that were taken out
    /// before they were fitted, `[n]` each.
    ///
    /// # Errors
    ///
    /// [`BasisError`] for shapes that do not fit, numbers that are not finite and a deviation of 0.
    pub fn principal_components(
        label: &str,
        components: &Numbers,
        mean: &[f64],
        std: &[f64],
    ) -> Result<Self, BasisError> {
        let check = Check(label);
        check.matrix("components", components)?;
        let [k, n] = components.shape;
        check.vector("mean", mean, n, "components' second number")?;
        check.vector("std", std, n, "components' second number")?;
        if let Some(at) = std.iter().position(|x| *x == 0.0) {
            return check.problem(format!(
                "std is 0 at index {at}, and rows are divided by it: write 1 where nothing varies"
            ));
        }
        Ok(Self {
            shift: Some(mean.to_vec()),
            spread: Some(std.to_vec()),
            encoder: Some(components.transposed()),
            decoder: Some(components.values.clone()),
            gain: Some(std.to_vec()),
            offset: Some(mean.to_vec()),
            ..Self::plain(label, n, k)
        })
    }

    /// A sparse autoencoder by SAELens's names: W_enc `[n, k]`, b_enc `[k]`, W_dec `[k, n]`, b_dec
    /// `[n]`. Without a threshold it is a ReLU, and b_dec is taken out before encoding; with one
    /// (`[k]`) a JumpReLU, and it is not: as pyvene's two layers do.
    ///
    /// # Errors
    ///
    /// [`BasisError`] for shapes that do not fit and numbers that are not finite.
    pub fn autoencoder(
        label: &str,
        w_enc: &Numbers,
        b_enc: &[f64],
        w_dec: &Numbers,
        b_dec: &[f64],
        threshold: Option<&[f64]>,
    ) -> Result<Self, BasisError> {
        let check = Check(label);
        check.matrix("W_enc", w_enc)?;
        check.matrix("W_dec", w_dec)?;
        let [n, k] = w_enc.shape;
        if w_dec.shape != [k, n] {
            let [rows, columns] = w_dec.shape;
            return check.problem(format!(
                "W_dec is [{rows}, {columns}], but W_enc is [{n}, {k}]: it must be [{k}, {n}]"
            ));
        }
        check.vector("b_enc", b_enc, k, "W_enc's second number")?;
        check.vector("b_dec", b_dec, n, "W_enc's first number")?;
        if let Some(threshold) = threshold {
            check.vector("threshold", threshold, k, "W_enc's second number")?;
        }
        Ok(Self {
            shift: threshold.is_none().then(|| b_dec.to_vec()),
            encoder: Some(w_enc.values.clone()),
            bias: Some(b_enc.to_vec()),
            threshold: threshold.map(<[f64]>::to_vec),
            rectified: true,
            decoder: Some(w_dec.values.clone()),
            offset: Some(b_dec.to_vec()),
            ..Self::plain(label, n, k)
        })
    }

    /// The same, back by difference: a row keeps what the basis does not hold of it, its error term, and a patch
    /// that changes no coordinate changes no bit. A rotation and a mask do so anyway.
    #[must_use]
    pub fn with_error_term(self) -> Self {
        Self {
            by_difference: true,
            // it cancels: decode(h') − decode(h)
            offset: None,
            ..self
        }
    }

    /// How the user named it, such as `directions.safetensors#happy`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// n: numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// k: coordinates.
    pub fn coordinates(&self) -> usize {
        self.coordinates
    }

    /// Whether a patch adds what the coordinates changed by, and leaves alone what they do not span;
    /// otherwise the row becomes what the coordinates decode to.
    pub fn is_by_difference(&self) -> bool {
        self.by_difference
    }

    /// Whether a difference of rows encodes to the difference of their coordinates.
    pub fn is_linear(&self) -> bool {
        self.linear
    }

    /// Multiply-adds of encoding one row; as many as of decoding it. None without an encoder.
    pub fn multiply_adds(&self) -> u64 {
        match self.encoder {
            Some(_) => (self.width * self.coordinates) as u64,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_in_a_sentence() {
        let eye = |n: usize, k: usize| {
            Numbers::new(
                [n, k],
                (0..n * k).map(|i| f64::from(i / k == i % k)).collect(),
            )
        };
        let said = |basis: Result<Basis, BasisError>| basis.unwrap_err().to_string();
        let wide = said(Basis::rotation("F#r", &eye(2, 3), None));
        assert_eq!(
            wide,
            "the basis `F#r`: rotation is [2, 3], more directions than a row has numbers: its columns \
             are the directions"
        );
        let mask = said(Basis::rotation("F", &eye(3, 2), Some(&[1.0])));
        assert_eq!(
            mask,
            "the basis `F`: mask has 1 numbers, but rotation's second number says 2"
        );
        assert!(said(Basis::rotation("F", &eye(3, 2), Some(&[1.0, 1.5]))).contains("from 0 to 1"));
        assert!(said(Basis::mask("F", &[f64::NAN])).contains("from 0 to 1"));
        assert!(said(Basis::mask("F", &[])).contains("empty"));
        let flat = Basis::principal_components("F", &eye(1, 2), &[0.0; 2], &[1.0, 0.0]);
        assert!(said(flat).contains("std is 0 at index 1"));
        let across = Basis::autoencoder("F", &eye(2, 3), &[0.0; 3], &eye(2, 3), &[0.0; 2], None);
        assert!(said(across).contains("it must be [3, 2]"));
        let short = Numbers::new([2, 2], vec![1.0; 3]);
        assert!(said(Basis::rotation("F", &short, None)).contains("has 3 numbers"));
        let nan = Numbers::new([1, 1], vec![f64::NAN]);
        assert!(said(Basis::rotation("F", &nan, None)).contains("finite"));
    }

    #[test]
    fn a_transposed_matrix_has_its_columns_as_rows() {
        let x = Numbers::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(x.transposed(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
