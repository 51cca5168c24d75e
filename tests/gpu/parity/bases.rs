//! Bases: single bits, which ordinary inputs do not show, and sums that only one order gets right.

use super::*;
use headlight::backend::{BasisOn, Probe, RowColumn};
use headlight::basis::{Basis, Numbers};
use headlight::plan::writes::Operand;

fn encode<B: Backend>(backend: &B, basis: &Basis, x: &[f64]) -> Vec<f64> {
    let (n, k) = (basis.width(), basis.coordinates());
    let rows = x.len() / n;
    let matrix = backend.upload(rows, n, Store::Residual, x);
    let probe = |row| Probe {
        standing: Some((row, 0)),
        read: Operand::None,
    };
    let probes: Vec<Probe> = (0..rows).map(probe).collect();
    let mut out = backend.matrix(rows, k, Store::Residual);
    let (basis, constants) = (BasisOn::new(backend, basis), backend.constants(&[]));
    backend.encode(&basis, &probes, &matrix, &[], &constants, &mut out);
    backend.read(&out).unwrap()
}

fn decode<B: Backend>(backend: &B, basis: &Basis, h: &[f64], x: &[f64]) -> Vec<f64> {
    let (n, k) = (basis.width(), basis.coordinates());
    let rows = x.len() / n;
    let coordinates = backend.upload(rows, k, Store::Residual, h);
    let mut matrix = backend.upload(rows, n, Store::Residual, x);
    let places: Vec<RowColumn> = (0..rows).map(|row| (row, 0)).collect();
    backend.decode(
        &BasisOn::new(backend, basis),
        &coordinates,
        &places,
        &mut matrix,
    );
    backend.read(&matrix).unwrap()
}

fn ones(rows: usize, columns: usize) -> Numbers {
    Numbers::new([rows, columns], vec![1.0; rows * columns])
}

/// Adding 0 to −0 gives 0: a row whose coordinates did not change keeps its sign all the same.
#[test]
fn what_does_not_move_keeps_its_bits() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 5).open();
    let bases = [
        Basis::rotation("", &ones(6, 3), None).unwrap(),
        Basis::mask("", &[1.0; 6]).unwrap(),
    ];
    for basis in &bases {
        let x: Vec<f64> = (0..6 * 70).map(|i| [-0.0, 0.0, 1.5][i % 3]).collect();
        let h = vec![0.0; 70 * basis.coordinates()];
        let bits = |x: Vec<f64>| x.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let want = bits(x.clone());
        assert_eq!(bits(decode(&Cpu::<f64>::new(&model), basis, &h, &x)), want);
        assert_eq!(bits(decode(&Cpu::<f32>::new(&model), basis, &h, &x)), want);
        for precision in PRECISIONS {
            let cuda = gpu.cuda(&model, precision);
            assert_eq!(bits(decode(&cuda, basis, &h, &x)), want);
        }
    }
}

/// pyvene's JumpReLU lets pass what is above θ and above 0; what equals θ is off.
#[test]
fn a_coordinate_that_equals_its_threshold_is_off() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 5).open();
    let zeros = [0.0; 4];
    let eye = (0..16).map(|i| f64::from(i % 5 == 0)).collect();
    let eye = Numbers::new([4, 4], eye);
    let theta = [0.5, -1.0, 0.0, 2.0];
    let jump = Basis::autoencoder("", &eye, &zeros, &eye, &zeros, Some(&theta)).unwrap();
    let x = [0.5, -0.5, 0.0, 2.0, 0.75, 0.25, 1e-30, 2.5];
    let want = [0.0, 0.0, 0.0, 0.0, 0.75, 0.25, f64::from(1e-30f32), 2.5];
    assert_eq!(encode(&Cpu::<f32>::new(&model), &jump, &x), want);
    assert_eq!(encode(&gpu.cuda(&model, Precision::F32), &jump, &x), want);
}

/// A large number and 256 small ones, each lost if it is added to the large one by itself.
#[test]
fn coordinates_are_summed_in_blocks_of_256() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 5).open();
    let large = f64::from(1u32 << 27);
    let x: Vec<f64> = (0..512)
        .map(|k| match k {
            0 => large,
            k => f64::from(u8::from(k >= 256)),
        })
        .collect();
    let (wide, tall) = (ones(512, 1), ones(1, 512));
    let no = |n: usize| vec![0.0; n];
    let into = Basis::autoencoder("", &wide, &no(1), &tall, &no(512), None).unwrap();
    let out_of = Basis::autoencoder("", &tall, &no(512), &wide, &no(1), None).unwrap();
    let want = [large + 256.0];
    let (cpu, cuda) = (Cpu::<f32>::new(&model), gpu.cuda(&model, Precision::F32));
    assert_eq!(encode(&cpu, &into, &x), want);
    assert_eq!(encode(&cuda, &into, &x), want);
    assert_eq!(decode(&cpu, &out_of, &x, &[3.0]), want);
    assert_eq!(decode(&cuda, &out_of, &x, &[3.0]), want);
}
