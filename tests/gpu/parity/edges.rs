//! What ordinary inputs do not show: sums that only one order gets right, ties, single bits, rows wider
//! than registers.

use super::*;
use headlight::backend::{Norm, Readout, ReadoutSpec, Rows, Same, Stretch};
use headlight::plan::tables::Ref;

/// A long sum and 256 small terms, each lost if it is added to the long sum by itself.
#[test]
fn multiply_adds_are_summed_in_blocks_of_256() {
    let gpu = gpu();
    let model = common::model::integers(1, 8, 512);
    let of = |value: &dyn Fn(usize) -> f64| {
        let x: Vec<f64> = (0..512).map(value).collect();
        let cpu = product(&Cpu::<f64>::new(&model), Weight::MlpOutput(0), 1, 8, &x);
        (x, cpu)
    };
    let (zeros, bias) = of(&|_| 0.0);
    let large = |k| if k == 0 { f64::from(1u32 << 27) } else { 0.0 };
    let small = |k| f64::from(u8::from(k >= 256));
    let (first, second) = (of(&large).1, of(&small).1);
    let (both, _) = of(&|k| large(k) + small(k));
    let want: Vec<f64> = (0..8)
        .map(|n| {
            let [first, second] = [&first, &second].map(|sums| (sums[n] - bias[n]) as f32);
            f64::from(first + second + bias[n] as f32)
        })
        .collect();
    for tile in Tile::ALL {
        let cuda = gpu
            .cuda(&model, Precision::F32)
            .with(Some(Variant::Ffma), Some(tile));
        let got = product(&cuda, Weight::MlpOutput(0), 1, 8, &both);
        assert_eq!(got, want, "{tile:?}");
        assert_eq!(product(&cuda, Weight::MlpOutput(0), 1, 8, &zeros), bias);
    }
}

/// Rows with an infinity, NaN or numbers whose split overflows have what the CPU gives them, and the rows beside
/// them the bits that they have alone.
#[test]
fn what_overflows_is_what_the_cpu_gives() {
    let gpu = gpu();
    let model = usual().open();
    let inner = 256;
    let mut random = Random(11);
    let row: Vec<f64> = (0..inner)
        .map(|_| f64::from(random.normal() as f32))
        .collect();
    let with = |places: &[(usize, f64)], scale: f64| {
        let mut row: Vec<f64> = row.iter().map(|x| x * scale).collect();
        places.iter().for_each(|(k, x)| row[*k] = *x);
        row
    };
    let most = f64::from(f32::MAX);
    let rows = [
        row.clone(),
        with(&[(5, f64::INFINITY)], 1.0),
        with(&[(200, f64::NEG_INFINITY)], 1.0),
        with(&[(31, f64::INFINITY), (32, f64::NEG_INFINITY)], 1.0),
        with(&[(17, f64::NAN)], 1.0),
        // nothing beside it reaches its last bit
        with(&[(64, most)], 0.0),
        with(&[(255, -most / 1024.0)], 0.0),
        row.clone(),
    ];
    let count = rows.len();
    let x: Vec<f64> = rows.concat();
    let of = |backend: &dyn Fn(usize, &[f64]) -> Vec<f64>| backend(count, &x);
    let cpu = Cpu::<f32>::new(&model);
    let want = of(&|rows, x| product(&cpu, Weight::MlpOutput(0), rows, 128, x));
    for tile in Tile::ALL {
        let cuda = gpu
            .cuda(&model, Precision::F32)
            .with(Some(Variant::Split), Some(tile));
        let got = of(&|rows, x| product(&cuda, Weight::MlpOutput(0), rows, 128, x));
        let mut infinite = 0;
        for (i, (want, got)) in want.iter().zip(&got).enumerate() {
            infinite += usize::from(want.is_infinite());
            let same = match want.is_finite() {
                true => (want - got).abs() <= 1e-5 * want.abs().max(1.0),
                false => want == got || want.is_nan() && got.is_nan(),
            };
            assert!(
                same,
                "{tile:?} row {} column {}: {got}, not {want}",
                i / 128,
                i % 128
            );
        }
        assert!(infinite > 128, "rows 1 and 2 have infinities");
        let alone = product(&cuda, Weight::MlpOutput(0), 1, 128, &row);
        assert_eq!(got[..128], alone[..]);
        assert_eq!(got[(count - 1) * 128..], alone[..]);
    }
}

/// Logits that are small integers, many of them equal: which token has which is exact, too.
#[test]
fn integers_are_read_out_exactly() {
    let gpu = gpu();
    let spec = ModelSpec {
        layers: 1,
        dtype: "integers",
        ..shape(2, 16, 4, 400)
    };
    let (model, mut random) = (spec.open(), Random(6));
    let tokens: Vec<u32> = (0..400).step_by(7).collect();
    for (precision, variant) in VARIANTS {
        for tile in Tile::ALL {
            let cuda = gpu.cuda(&model, precision).with(variant, Some(tile));
            read_out_exactly(&cuda, &model, &mut random, (5, 200), &tokens);
        }
    }
}

/// More rows than blocks of any kernel take: 128 are a large tile's, 16 a small one's, 8 a merge's.
#[test]
fn rows_of_several_blocks_are_read_out_exactly() {
    let gpu = gpu();
    let spec = ModelSpec {
        layers: 1,
        dtype: "integers",
        ..shape(2, 16, 4, 200)
    };
    let (model, mut random) = (spec.open(), Random(7));
    for tile in Tile::ALL {
        let cuda = gpu.cuda(&model, Precision::F32);
        let cuda = cuda.with(Some(Variant::Ffma), Some(tile));
        read_out_exactly(&cuda, &model, &mut random, (140, 3), &[0, 191, 192]);
    }
}

/// The most probable and some wanted tokens of so many random rows, against the CPU's.
fn read_out_exactly(
    cuda: &Cuda,
    model: &Checkpoint,
    random: &mut Random,
    (rows, top): (usize, usize),
    tokens: &[u32],
) {
    fn read<B: Backend>(backend: &B, x: &[f64], rows: usize, spec: &ReadoutSpec) -> Vec<Readout> {
        let input = backend.upload(rows, 32, Store::Branch, x);
        let readouts = backend.readout(&input, rows, spec).unwrap();
        backend.finish(readouts).unwrap()
    }
    let x: Vec<f64> = (0..rows * 32)
        .map(|_| random.below(5) as f64 - 2.0)
        .collect();
    let spec = ReadoutSpec {
        ids: tokens.repeat(rows),
        first: (0..=rows).map(|row| row * tokens.len()).collect(),
        top,
        ranks: true,
        ..ReadoutSpec::default()
    };
    let want = read(&Cpu::<f64>::new(model), &x, rows, &spec);
    let got = read(cuda, &x, rows, &spec);
    assert_eq!((want.len(), got.len()), (rows, rows));
    for (row, (want, got)) in want.iter().zip(got).enumerate() {
        assert_eq!(got.logits, want.logits, "row {row}");
        assert_eq!(got.ranks, want.ranks, "row {row}");
        assert_eq!(got.top, want.top, "row {row}");
    }
}

/// Rows that a warp's registers do not hold.
#[test]
fn layer_norms_of_wide_rows_agree() {
    fn normalized<B: Backend>(backend: &B, x: &[f64], parts: bool) -> Vec<f64> {
        let width = backend.config().width;
        let own = backend.upload(2, width, Store::Residual, x);
        let input = Rows {
            own: &own,
            cache: None,
            refs: &[Ref::own(1), Ref::own(0)],
        };
        let mut out = backend.matrix(2, width, Store::Branch);
        if parts {
            let mut scale = backend.matrix(2, 1, Store::Residual);
            let mut middle = backend.matrix(2, width, Store::Residual);
            backend.layer_norm_scale(&input, &mut scale);
            backend.layer_norm_normalize(&input, &scale, &mut middle);
            backend.layer_norm_affine(Norm::LnF, &middle, 2, &mut out);
        } else {
            backend.layer_norm(Norm::LnF, &input, &mut out);
        }
        backend.read(&out).unwrap()
    }
    let gpu = gpu();
    // in vectors, and number by number
    for head_width in [136, 131] {
        let model = ModelSpec {
            layers: 1,
            ..shape(8, head_width, 1, 2)
        };
        let (model, mut random) = (model.open(), Random(5));
        let cuda = gpu.cuda(&model, Precision::F32);
        let x: Vec<f64> = (0..16 * head_width)
            .map(|_| f64::from(random.normal() as f32))
            .collect();
        let want = normalized(&Cpu::<f64>::new(&model), &x, false);
        let got = normalized(&cuda, &x, false);
        let mut errors = want.iter().zip(&got).map(|(w, g)| (w - g).abs());
        assert!(errors.all(|error| error < 4e-6));
        assert_eq!(normalized(&cuda, &x, true), got);
    }
}

/// Stretches that differ in one bit of one number, wherever it stands.
#[test]
fn one_other_bit_makes_a_difference() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 5).open();
    let width = 301;
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        let cuda = gpu.cuda(&model, precision);
        let zeros = cuda.upload(1, width, Store::Branch, &vec![0.0; width]);
        let mut values = vec![0.0; width * width];
        (0..width).for_each(|i| values[i * width + i] = -0.0);
        let others = cuda.upload(width, width, Store::Branch, &values);
        let pair = |row, column, length| {
            let stretch = |matrix, row| Stretch {
                matrix,
                row,
                column,
            };
            let (a, b) = (stretch(&zeros, 0), stretch(&others, row));
            Same { a, b, length }
        };
        let (mut pairs, mut want) = (Vec::new(), Vec::new());
        for i in 0..width {
            pairs.push(pair(i, 0, width));
            // the number itself, all before it, all behind it
            pairs.extend([pair(i, i, 1), pair(i, 0, i), pair(i, i + 1, width - i - 1)]);
            want.extend([false, false, true, true]);
        }
        assert_eq!(cuda.same(&pairs).unwrap(), want);
    }
}

/// Rows that can be read in vectors, of which a stretch ends within one: what stands behind it is not compared.
#[test]
fn a_stretch_of_odd_length_ends_where_it_ends() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 5).open();
    let width = 64;
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        let cuda = gpu.cuda(&model, precision);
        let zeros = cuda.upload(1, width, Store::Branch, &vec![0.0; width]);
        // row i differs at column i alone
        let mut values = vec![0.0; width * width];
        (0..width).for_each(|i| values[i * width + i] = 1.0);
        let others = cuda.upload(width, width, Store::Branch, &values);
        let (mut pairs, mut want) = (Vec::new(), Vec::new());
        for column in [0, 8, 16] {
            for length in 1..=width - column {
                for row in [column, column + length - 1, column + length]
                    .into_iter()
                    .filter(|r| *r < width)
                {
                    let stretch = |matrix, row| Stretch {
                        matrix,
                        row,
                        column,
                    };
                    let (a, b) = (stretch(&zeros, 0), stretch(&others, row));
                    pairs.push(Same { a, b, length });
                    want.push(row >= column + length);
                }
            }
        }
        assert_eq!(cuda.same(&pairs).unwrap(), want, "{precision:?}");
    }
}
