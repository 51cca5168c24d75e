//! Adjoints against the CPU's in double precision: every kernel of the way back, in every precision and arithmetic.

use super::*;
use headlight::verify::adjoints;

fn adjoints_agree(spec: &ModelSpec, precision: Precision, variant: Option<Variant>) {
    let gpu = gpu();
    let model = spec.open();
    let cuda = gpu.cuda(&model, precision).with(variant, None);
    let reference = Cpu::<f64>::rounded(&model, precision);
    let comparisons = adjoints(&reference, &cuda, Gates::of(precision), 7, &mut |_| ()).unwrap();
    assert_within_gates(&comparisons);
}

#[test]
fn adjoints_agree_in_f32_by_multiply_adds() {
    adjoints_agree(&usual(), Precision::F32, Some(Variant::Ffma));
}

#[test]
fn adjoints_agree_in_f32_by_split_products() {
    adjoints_agree(&usual(), Precision::F32, Some(Variant::Split));
}

#[test]
fn adjoints_agree_in_tf32() {
    adjoints_agree(&usual(), Precision::Tf32, None);
}

#[test]
fn adjoints_agree_in_bf16() {
    adjoints_agree(&usual(), Precision::Bf16, None);
}

#[test]
fn adjoints_agree_in_f16() {
    adjoints_agree(&usual(), Precision::F16, None);
}

/// No row of 15 numbers is a whole number of vectors, and 5 numbers a head are none either.
#[test]
fn adjoints_of_odd_widths_agree() {
    let spec = ModelSpec {
        activation: "relu",
        tied: false,
        ..shape(3, 5, 33, 17)
    };
    adjoints_agree(&spec, Precision::F32, Some(Variant::Ffma));
    adjoints_agree(&spec, Precision::Bf16, None);
}

/// A head that a lane has three columns of, and a score scale of its own in each layer.
#[test]
fn adjoints_of_a_head_of_80_agree() {
    let spec = ModelSpec {
        activation: "silu",
        by_layer: true,
        ..shape(1, 80, 100, 97)
    };
    adjoints_agree(&spec, Precision::F32, None);
    adjoints_agree(&spec, Precision::F16, None);
}

#[test]
fn adjoints_of_every_activation_agree() {
    for activation in ["gelu", "quick_gelu"] {
        let spec = ModelSpec {
            activation,
            ..shape(2, 8, 24, 17)
        };
        adjoints_agree(&spec, Precision::F32, None);
        adjoints_agree(&spec, Precision::Bf16, None);
    }
}
