//! Random columns, bases and functions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use headlight::basis::{Basis, Numbers};
use headlight::function::Function;
use headlight::patch::{Op, Patch};
use proptest::prelude::*;

use super::Random;
use super::runs::{distinct, vector};

/// On what part of a row, and in which coordinates, a patch acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subspace {
    All,
    /// Some columns of the row.
    Columns(u64),
    /// All coordinates of a basis, or some.
    Basis(Form, u64, Option<u64>),
    /// A function in the operator's place, of all columns or of some.
    Function(u64, Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Rotation,
    MaskedRotation,
    Mask,
    PrincipalComponents,
    Autoencoder,
    JumpRelu,
}

pub const FORMS: [Form; 6] = [
    Form::Rotation,
    Form::MaskedRotation,
    Form::Mask,
    Form::PrincipalComponents,
    Form::Autoencoder,
    Form::JumpRelu,
];

pub fn subspace() -> impl Strategy<Value = Subspace> {
    let some = || proptest::option::of(any::<u64>());
    prop_oneof![
        6 => Just(Subspace::All),
        1 => any::<u64>().prop_map(Subspace::Columns),
        3 => (proptest::sample::select(&FORMS[..]), any::<u64>(), some())
            .prop_map(|(form, seed, some)| Subspace::Basis(form, seed, some)),
        1 => (any::<u64>(), some()).prop_map(|(seed, some)| Subspace::Function(seed, some)),
    ]
}

/// A basis of a form and a width: one of three, and the same one whenever it is asked for again, so
/// that patches share it.
pub fn basis(form: Form, seed: u64, width: usize) -> Arc<Basis> {
    type Known = HashMap<(Form, u64, usize), Arc<Basis>>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let seed = seed % 3;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_with(HashMap::new);
    let made = known.entry((form, seed, width));
    made.or_insert_with(|| Arc::new(make(form, seed, width)))
        .clone()
}

fn make(form: Form, seed: u64, n: usize) -> Basis {
    let mut random = Random(seed + 100 * n as u64);
    let label = format!("{form:?}{seed}");
    // no wider than a row, and now and then as wide
    let low = [n, 1 + n / 3, n.div_ceil(2)][seed as usize];
    let wide = [2 * n + 1, n, 3][seed as usize];
    let scale = 1.0 / (n as f64).sqrt();
    let mut numbers = |rows: usize, columns: usize, scale: f64| {
        let values = (0..rows * columns).map(|_| scale * random.normal());
        Numbers::new([rows, columns], values.collect())
    };
    let one = |x: Numbers| x.values;
    let mask = |x: Numbers| -> Vec<f64> {
        let fold = |x: f64| if x > 1.0 { 0.0 } else { x.abs().min(1.0) };
        x.values.into_iter().map(fold).collect()
    };
    match form {
        Form::Rotation => Basis::rotation(&label, &numbers(n, low, scale), None),
        Form::MaskedRotation => {
            let weights = mask(numbers(1, low, 1.0));
            Basis::rotation(&label, &numbers(n, low, scale), Some(&weights))
        }
        Form::Mask => Basis::mask(&label, &mask(numbers(1, n, 1.0))),
        Form::PrincipalComponents => {
            let (mean, std) = (one(numbers(1, n, 1.0)), one(numbers(1, n, 0.2)));
            let std: Vec<f64> = std.iter().map(|x| 1.0 + x.abs()).collect();
            Basis::principal_components(&label, &numbers(low, n, scale), &mean, &std)
        }
        Form::Autoencoder | Form::JumpRelu => {
            let (b_enc, b_dec) = (one(numbers(1, wide, 0.3)), one(numbers(1, n, 0.3)));
            let (w_enc, w_dec) = (numbers(n, wide, scale), numbers(wide, n, scale));
            let threshold = one(numbers(1, wide, 0.3));
            let threshold = (form == Form::JumpRelu).then_some(&threshold[..]);
            Basis::autoencoder(&label, &w_enc, &b_enc, &w_dec, &b_dec, threshold)
        }
    }
    .unwrap()
}

/// At least one of `0..count`, in no order.
fn some(seed: u64, count: usize) -> Vec<usize> {
    let mut random = Random(seed);
    let many = 1 + random.below(count.min(6));
    distinct((0..many).map(|_| random.below(count)).collect())
}

/// A function that mixes columns, so that a wrong order of them shows.
pub fn function(seed: u64, reads_source: bool) -> Function {
    let mix = move |b: &mut [f64], s: &[f64]| {
        let before = b.to_vec();
        for (i, x) in b.iter_mut().enumerate() {
            let read = s.get(i).copied().unwrap_or(0.25);
            *x = 0.5 * before[(i + 1) % before.len()] - 0.75 * read + (seed % 5) as f64 / 8.0;
        }
    };
    match reads_source {
        true => Function::new(&format!("mix{seed}"), mix),
        false => Function::of_base(&format!("mix{seed}"), move |b| mix(b, &[])),
    }
}

impl Subspace {
    /// A patch of rows of `width` numbers, in this subspace if it fits; `read` says whether the patch
    /// may read a source.
    pub fn of(self, patch: Patch, width: usize, read: bool) -> Patch {
        let keyed = patch.component.has_keys();
        match self {
            _ if keyed => patch,
            Self::All => patch,
            Self::Columns(seed) => Patch {
                columns: Some(some(seed, width)),
                ..patch
            },
            Self::Basis(..) if width == 1 => patch,
            Self::Basis(form, seed, picked) => {
                let basis = basis(form, seed, width);
                let k = basis.coordinates();
                let op = match patch.op {
                    Op::Set(_) => Op::Set(vector(seed, k)),
                    Op::Add(Some(_)) => Op::Add(Some(vector(seed, k))),
                    Op::Subtract(Some(_)) => Op::Subtract(Some(vector(seed, k))),
                    op => op,
                };
                Patch {
                    columns: picked.map(|seed| some(seed, k)),
                    basis: Some(basis),
                    op,
                    ..patch
                }
            }
            Self::Function(seed, picked) => Patch {
                columns: picked.map(|seed| some(seed, width)),
                op: Op::Function(function(seed, read && seed % 3 > 0)),
                ..patch
            },
        }
    }
}
