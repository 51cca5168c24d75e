//! Where a tensor's numbers are in a storage: what a pickle says of it, checked, and the numbers.

use half::{bf16, f16};

/// A number's type in a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // torch's own names
pub enum ScalarType {
    Double,
    Float,
    Half,
    BFloat16,
    Long,
    Int,
    Short,
    Char,
    Byte,
    Bool,
}

impl ScalarType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            ScalarType::Double | ScalarType::Long => 8,
            ScalarType::Float | ScalarType::Int => 4,
            ScalarType::Half | ScalarType::BFloat16 | ScalarType::Short => 2,
            ScalarType::Char | ScalarType::Byte | ScalarType::Bool => 1,
        }
    }

    /// The kind of a storage by torch's name of its class.
    pub(super) fn of(storage: &str) -> Option<Self> {
        Some(match storage {
            "DoubleStorage" => ScalarType::Double,
            "FloatStorage" => ScalarType::Float,
            "HalfStorage" => ScalarType::Half,
            "BFloat16Storage" => ScalarType::BFloat16,
            "LongStorage" => ScalarType::Long,
            "IntStorage" => ScalarType::Int,
            "ShortStorage" => ScalarType::Short,
            "CharStorage" => ScalarType::Char,
            "ByteStorage" => ScalarType::Byte,
            "BoolStorage" => ScalarType::Bool,
            _ => return None,
        })
    }
}

/// Where a tensor's numbers are, as the pickle says; nothing of it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Their type.
    pub kind: ScalarType,
    /// The storage's name: the archive's entry `data/KEY`.
    pub key: String,
    /// Numbers in the storage.
    pub numbers: i64,
    /// The first of the tensor, in numbers.
    pub offset: i64,
    /// Sizes.
    pub shape: Vec<i64>,
    /// Numbers from one to the next along each dimension.
    pub strides: Vec<i64>,
}

/// A layout that was found to lie within its storage.
pub(super) struct Strided {
    /// Numbers in the storage.
    pub numbers: usize,
    offset: usize,
    /// Sizes.
    pub shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Strided {
    pub fn of(layout: &Layout) -> Result<Self, String> {
        let unsigned = |list: &[i64]| -> Option<Vec<usize>> {
            list.iter().map(|n| usize::try_from(*n).ok()).collect()
        };
        let (Some(shape), Some(strides)) = (unsigned(&layout.shape), unsigned(&layout.strides))
        else {
            return Err("has a negative size or stride".into());
        };
        let (Ok(numbers), Ok(offset)) = (
            usize::try_from(layout.numbers),
            usize::try_from(layout.offset),
        ) else {
            return Err("has a negative offset or storage".into());
        };
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!(
                "has {} sizes and {} strides: it must have as many, and at most 8",
                shape.len(),
                strides.len()
            ));
        }
        let span = Self {
            numbers,
            offset,
            shape,
            strides,
        };
        if span.shape.contains(&0) {
            return Err("is empty".into());
        }
        // dimensions from the inmost out: each must step over all that the inner ones reach
        let mut steps: Vec<(usize, usize)> = span
            .strides
            .iter()
            .copied()
            .zip(span.shape.iter().copied())
            .collect();
        steps.retain(|(_, size)| *size > 1);
        steps.sort_unstable();
        let mut reach = 0usize;
        for (stride, size) in steps {
            if stride <= reach {
                return Err("has elements that share memory: save a contiguous clone of it".into());
            }
            let more = stride
                .checked_mul(size - 1)
                .and_then(|more| reach.checked_add(more));
            reach = more.ok_or("is larger than any memory")?;
        }
        match offset.checked_add(reach) {
            Some(last) if last < numbers => Ok(span),
            _ => Err(format!("reaches beyond its storage of {numbers} numbers")),
        }
    }

    /// Where each number stands in the storage, in the tensor's order.
    pub fn indices(&self) -> impl Iterator<Item = usize> {
        let count: usize = self.shape.iter().product();
        (0..count).map(|mut flat| {
            let mut index = self.offset;
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                index += flat % size * stride;
                flat /= size;
            }
            index
        })
    }
}

/// One number out of as many bytes as its kind has.
pub(super) fn number(kind: ScalarType, bytes: &[u8]) -> f64 {
    fn as_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match kind {
        ScalarType::Double => f64::from_le_bytes(as_array(bytes)),
        ScalarType::Float => f32::from_le_bytes(as_array(bytes)).into(),
        ScalarType::Half => f16::from_le_bytes(as_array(bytes)).into(),
        ScalarType::BFloat16 => bf16::from_le_bytes(as_array(bytes)).into(),
        ScalarType::Long => i64::from_le_bytes(as_array(bytes)) as f64,
        ScalarType::Int => i32::from_le_bytes(as_array(bytes)).into(),
        ScalarType::Short => i16::from_le_bytes(as_array(bytes)).into(),
        ScalarType::Char => i8::from_le_bytes(as_array(bytes)).into(),
        ScalarType::Byte | ScalarType::Bool => bytes[0].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(numbers: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Layout {
        Layout {
            kind: ScalarType::Float,
            key: "0".into(),
            numbers,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn a_tensor_lies_within_its_storage_or_is_refused() {
        let fits = |numbers, offset, shape: &[i64], strides: &[i64]| {
            Strided::of(&layout(numbers, offset, shape, strides))
                .map(|s| s.indices().collect::<Vec<_>>())
        };
        assert_eq!(fits(6, 0, &[2, 3], &[3, 1]).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(fits(6, 0, &[2, 3], &[1, 2]).unwrap(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(fits(9, 5, &[2, 1, 2], &[2, 77, 1]).unwrap(), [5, 6, 7, 8]);
        assert_eq!(fits(1, 0, &[], &[]).unwrap(), [0]);
        for (numbers, offset, shape, strides) in [
            (6, 1, &[2, 3][..], &[3, 1][..]),
            (8, 0, &[2, 3], &[2, 1]),
            (8, 0, &[4], &[0]),
            (8, 0, &[4], &[-1]),
            (8, 0, &[-4], &[1]),
            (8, -1, &[4], &[1]),
            (-8, 0, &[4], &[1]),
            (8, 0, &[4], &[1, 1]),
            (8, 0, &[0], &[1]),
            (8, 0, &[3], &[i64::MAX]),
            (8, 8, &[], &[]),
            (i64::MAX, i64::MAX, &[3, 3], &[1, i64::MAX]),
        ] {
            assert!(
                fits(numbers, offset, shape, strides).is_err(),
                "{shape:?} {strides:?}"
            );
        }
    }
}
