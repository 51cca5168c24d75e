//! A view of stored numbers: two sizes, and a slice in the type that the file has.
//!
//! Nothing is converted until somebody asks for it, so that F32 weights are used where they lie.

use half::{bf16, f16};
use rayon::prelude::*;

/// The elements of a tensor, row-major, in the type that the file stores; F64 is rounded to F32.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16.
    BF16(&'a [bf16]),
}

impl<'a> Data<'a> {
    /// Some neighbouring elements.
    ///
    /// # Panics
    ///
    /// Where there are not so many.
    pub fn slice(self, first: usize, length: usize) -> Data<'a> {
        match self {
            Data::F32(data) => Data::F32(&data[first..][..length]),
            Data::F16(data) => Data::F16(&data[first..][..length]),
            Data::BF16(data) => Data::BF16(&data[first..][..length]),
        }
    }
}

/// A view of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Rows and columns; a vector of n elements is `[1, n]`.
    pub shape: [usize; 2],
    /// `shape[0] * shape[1]` elements, row-major.
    pub data: Data<'a>,
}

impl<'a> Tensor<'a> {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Columns; the length of a vector.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// Elements, which are never none.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The stored type's name: `F32`, `F16` or `BF16`.
    pub fn dtype(&self) -> &'static str {
        match self.data {
            Data::F32(_) => "F32",
            Data::F16(_) => "F16",
            Data::BF16(_) => "BF16",
        }
    }

    /// The elements in place, where they are stored as F32.
    pub fn as_f32(&self) -> Option<&'a [f32]> {
        match self.data {
            Data::F32(data) => Some(data),
            Data::F16(_) | Data::BF16(_) => None,
        }
    }

    /// One row as a view of shape `[1, columns]`.
    ///
    /// # Panics
    ///
    /// Where `row` is not below [`Tensor::rows`].
    pub fn row(&self, row: usize) -> Tensor<'a> {
        Tensor {
            shape: [1, self.shape[1]],
            data: self.data.slice(row * self.shape[1], self.shape[1]),
        }
    }

    /// All elements as `f32` or `f64`; no value changes, since both hold every stored one.
    pub fn to_vec<T: From<f32> + Copy + Default + Send>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.len()];
        self.write_to(&mut out);
        out
    }

    /// Writes all elements into `out`, as [`Tensor::to_vec`] does.
    ///
    /// # Panics
    ///
    /// Where `out` does not have [`Tensor::len`] elements.
    pub fn write_to<T: From<f32> + Send>(&self, out: &mut [T]) {
        assert_eq!(out.len(), self.len(), "one place for each element");
        match self.data {
            Data::F32(data) => convert(data, out, |x| x),
            Data::F16(data) => convert(data, out, f16::to_f32),
            Data::BF16(data) => convert(data, out, bf16::to_f32),
        }
    }
}

/// Converts in parallel where there is enough to share out.
fn convert<S: Copy + Sync, T: From<f32> + Send>(from: &[S], to: &mut [T], f: fn(S) -> f32) {
    const CHUNK: usize = 1 << 16;
    let run = |(to, from): (&mut [T], &[S])| {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = T::from(f(from));
        }
    };
    if from.len() <= CHUNK {
        run((to, from));
    } else {
        to.par_chunks_mut(CHUNK)
            .zip(from.par_chunks(CHUNK))
            .for_each(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_exact_and_parallel_conversion_is_the_same() {
        let halves: Vec<f16> = (0..200_000u32)
            .map(|i| f16::from_bits(i as u16 & 0x7bff))
            .collect();
        let tensor = Tensor {
            shape: [2, 100_000],
            data: Data::F16(&halves),
        };
        let wide = tensor.to_vec::<f64>();
        assert!(wide.iter().zip(&halves).all(|(a, b)| *a == b.to_f64()));
        assert_eq!(tensor.row(1).to_vec::<f64>(), wide[100_000..]);
        assert_eq!(
            (tensor.row(1).dtype(), tensor.as_f32().is_none()),
            ("F16", true)
        );
    }
}
