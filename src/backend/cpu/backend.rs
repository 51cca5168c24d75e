//! The CPU as a device: the contract's operations, each a loop over rows.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::linear::{self, Factor, OutputRows, Product};
use super::matrix::{Buffer, at, read};
use super::real::Real;
use super::{Cpu, attention, basis, overwrite, readout, rows};
use crate::backend::{
    Attention, Backend, BasisOn, DeviceError, Embedding, Epilogue, Linear, Norm, Probe, Readout,
    ReadoutSpec, RowColumn, Rows, Same, Store,
};
use crate::model::Config;
use crate::plan::writes::{Call, Write};

fn widened<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

impl<T: Real> Backend for Cpu<T> {
    type Matrix = Buffer<T>;
    type Constants = Vec<T>;
    type Readouts = Vec<Readout>;

    fn config(&self) -> &Config {
        &self.weights.model.config
    }

    fn matrix(&self, rows: usize, width: usize, _: Store) -> Buffer<T> {
        Buffer {
            data: vec![T::default(); rows * width],
            rows,
            width,
        }
    }

    fn resize(&self, matrix: &mut Buffer<T>, rows: usize) {
        let length = rows * matrix.width;
        if length > matrix.data.len() {
            // exactly: doubling would break the memory budget
            matrix.data.reserve_exact(length - matrix.data.len());
            matrix.data.resize(length, T::default());
        }
        matrix.rows = rows;
    }

    fn value_bytes(&self) -> usize {
        size_of::<T>()
    }

    fn same_type(&self, _: Store, _: Store) -> bool {
        true
    }

    /// Past this, activations fall out of the last-level cache between one operation and the next,
    /// and repacking the weights for another chunk costs less (measured: `benches/RESULTS.md`).
    fn chunk_bytes(&self) -> u64 {
        128 << 20
    }

    fn upload(&self, rows: usize, width: usize, _: Store, values: &[f64]) -> Buffer<T> {
        let data: Vec<T> = values.iter().map(|x| T::from_f64(*x)).collect();
        assert_eq!(data.len(), rows * width, "as many values as the matrix has");
        Buffer { rows, width, data }
    }

    fn constants(&self, values: &[f64]) -> Vec<T> {
        values.iter().map(|x| T::from_f64(*x)).collect()
    }

    fn read(&self, matrix: &Buffer<T>) -> Result<Vec<f64>, DeviceError> {
        let values = &matrix.data[..matrix.rows * matrix.width];
        Ok(values.iter().map(|x| x.to_f64()).collect())
    }

    fn same(&self, pairs: &[Same<'_, Buffer<T>>]) -> Result<Vec<bool>, DeviceError> {
        let same = |Same { a, b, length }: &Same<'_, Buffer<T>>| {
            let [a, b] = [a, b].map(|s| &s.matrix.row(s.row)[s.column..][..*length]);
            a.iter().zip(b).all(|(a, b)| a.same_bits(*b))
        };
        Ok(pairs.par_iter().with_min_len(256).map(same).collect())
    }

    fn embed(&self, table: Embedding, index: &[u32], out: &mut Buffer<T>) {
        let tensor = match table {
            Embedding::Token => self.weights.model.token_embedding(),
            Embedding::Position => self.weights.model.position_embedding(),
        };
        self.each_row(index.len(), out, |i, out| {
            tensor.row(index[i] as usize).write_to(out);
        });
    }

    fn gather(&self, rows: &Rows<'_, Buffer<T>>, out: &mut Buffer<T>, first: usize) {
        for (i, out) in out.data[first * out.width..]
            .chunks_exact_mut(out.width)
            .take(rows.refs.len())
            .enumerate()
        {
            out.copy_from_slice(at(rows, i));
        }
    }

    fn keep(&self, matrix: &Buffer<T>, from: &[u32], kept: &mut Buffer<T>, to: &[u32]) {
        let width = kept.width;
        for (from, to) in from.iter().zip(to) {
            kept.data[*to as usize * width..][..width].copy_from_slice(matrix.row(*from as usize));
        }
    }

    fn add(
        &self,
        a: &Rows<'_, Buffer<T>>,
        b: &Rows<'_, Buffer<T>>,
        out: &mut Buffer<T>,
        first: usize,
    ) {
        debug_assert_eq!(first, 0);
        self.each_row(a.refs.len(), out, |i, out| {
            let (a, b) = (at(a, i), at(b, i));
            out.iter_mut()
                .zip(a.iter().zip(b))
                .for_each(|(o, (a, b))| *o = *a + *b);
        });
    }

    fn layer_norm(&self, norm: Norm, input: &Rows<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, bias) = self.weights.norm(norm);
        let epsilon = T::from_f64(self.weights.model.config.layer_norm_epsilon);
        self.each_row(
            input.refs.len(),
            out,
            #[inline(always)]
            |i, out| {
                let x = at(input, i);
                let (mean, scale) = rows::scale(x, epsilon);
                rows::normalize(x, mean, scale, out);
                rows::affine(weight, bias, out);
            },
        );
    }

    fn layer_norm_scale(&self, input: &Rows<'_, Buffer<T>>, scale: &mut Buffer<T>) {
        let epsilon = T::from_f64(self.weights.model.config.layer_norm_epsilon);
        self.each_row(input.refs.len(), scale, |i, out| {
            out[0] = rows::scale(at(input, i), epsilon).1
        });
    }

    fn layer_norm_normalize(
        &self,
        input: &Rows<'_, Buffer<T>>,
        scale: &Buffer<T>,
        out: &mut Buffer<T>,
    ) {
        self.each_row(input.refs.len(), out, |i, out| {
            let x = at(input, i);
            rows::normalize(x, rows::mean(x), scale.row(i)[0], out);
        });
    }

    fn layer_norm_affine(
        &self,
        norm: Norm,
        normalized: &Buffer<T>,
        rows: usize,
        out: &mut Buffer<T>,
    ) {
        let (weight, bias) = self.weights.norm(norm);
        self.each_row(rows, out, |i, out| {
            out.copy_from_slice(normalized.row(i));
            rows::affine(weight, bias, out);
        });
    }

    fn linear(&self, linear: &Linear<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, first, bias) = self.weights.linear(linear.weight);
        let count = linear.rows.len();
        let columns = first + linear.columns.start..first + linear.columns.end;
        self.flops.fetch_add(
            2 * (count * weight.inputs * columns.len()) as u64,
            Ordering::Relaxed,
        );
        let last = linear.out_rows.map_or(count, |rows| {
            rows.iter().max().map_or(0, |r| *r as usize + 1)
        });
        assert!(
            last <= out.rows && linear.columns.end <= out.width,
            "the result does not fit its buffer"
        );
        let base = out.data[linear.columns.start..].as_mut_ptr();
        let activation = self.weights.model.config.activation;
        let finish = |m: usize, column: usize, out: &mut [T]| {
            self.arch.dispatch(rows::Finish {
                bias: &bias[column - first..],
                activation: matches!(linear.epilogue, Epilogue::Activate).then_some(activation),
                residual: match &linear.epilogue {
                    Epilogue::Residual(residual) => Some(&at(residual, m)[column - first..]),
                    _ => None,
                },
                out,
            });
        };
        let product = Product {
            weight: Factor::Stored(weight),
            columns,
            rows: count,
            row: &|m| linear.input.row(linear.rows[m] as usize),
            place: &|m| linear.out_rows.map_or(m, |rows| rows[m] as usize),
            output: OutputRows {
                base,
                stride: out.width,
            },
            finish: &finish,
        };
        linear::product(self.arch, &product);
    }

    fn activate(&self, pre: &Buffer<T>, rows: &[u32], out: &mut Buffer<T>) {
        let activation = self.weights.model.config.activation;
        self.each_row(rows.len(), out, |i, out| {
            out.copy_from_slice(pre.row(rows[i] as usize));
            rows::activate(activation, out);
        });
    }

    fn attention(
        &self,
        attention: &Attention<'_, Buffer<T>>,
        kept: &mut [Buffer<T>],
        constants: &Vec<T>,
        out: &mut Buffer<T>,
    ) {
        let config = &self.weights.model.config;
        let keys: u64 = attention.rows.count.iter().map(|c| u64::from(*c)).sum();
        self.flops
            .fetch_add(4 * config.width as u64 * keys, Ordering::Relaxed);
        attention::attention(self.arch, config, attention, kept, constants, out);
    }

    fn overwrite(
        &self,
        matrix: &mut Buffer<T>,
        writes: &[Write],
        kept: &[Buffer<T>],
        constants: &Vec<T>,
    ) {
        let width = matrix.width;
        for write in writes {
            let row = &mut matrix.data[write.row * width..][..width];
            overwrite::write(write, row, kept, constants);
        }
    }

    fn encode(
        &self,
        basis: &BasisOn<Buffer<T>>,
        probes: &[Probe],
        matrix: &Buffer<T>,
        kept: &[Buffer<T>],
        constants: &Vec<T>,
        out: &mut Buffer<T>,
    ) {
        self.flops
            .fetch_add(basis.flops(probes.len()), Ordering::Relaxed);
        let read = |probe: &Probe| read(probe.read, basis.width, kept, constants);
        basis::encode(self.arch, basis, probes, matrix, &read, out);
    }

    fn decode(
        &self,
        basis: &BasisOn<Buffer<T>>,
        coordinates: &Buffer<T>,
        places: &[RowColumn],
        matrix: &mut Buffer<T>,
    ) {
        self.flops
            .fetch_add(basis.flops(places.len()), Ordering::Relaxed);
        basis::decode(self.arch, basis, coordinates, places, matrix);
    }

    fn call(&self, matrix: &mut Buffer<T>, calls: &[Call], kept: &[Buffer<T>]) {
        for call in calls {
            let place = call.row * matrix.width + call.column;
            let stretch = &mut matrix.data[place..][..call.length];
            let read = read(call.operand, call.length, kept, &[]);
            let (b, s) = (&mut widened(stretch), widened(read));
            call.apply(b, &s);
            stretch
                .iter_mut()
                .zip(b)
                .for_each(|(x, y)| *x = T::from_f64(*y));
        }
    }

    fn readout(
        &self,
        input: &Buffer<T>,
        rows: usize,
        spec: &ReadoutSpec,
    ) -> Result<Vec<Readout>, DeviceError> {
        let [vocab, width] = self.weights.model.unembedding().shape;
        self.flops.fetch_add(
            2 * ((rows + spec.compared(rows)) * vocab * width) as u64,
            Ordering::Relaxed,
        );
        let weight = self.weights.unembedding();
        let read = readout::readout(self.arch, weight, vocab, &input.data, rows, spec);
        Ok(read)
    }

    fn finish(&self, readouts: Vec<Readout>) -> Result<Vec<Readout>, DeviceError> {
        Ok(readouts)
    }

    fn executed_flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }
}
