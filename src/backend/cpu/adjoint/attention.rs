//! Ragged causal attention backwards.
//!
//! With p a query's pattern, dz the gradient of its z: dp_j = dz·v_j, ds_j = p_j (dp_j − Σ p dp), and then
//! dv_j += p_j dz, dq = scale Σ ds_j k_j, dk_j += scale ds_j q. The pattern is computed again, to the bits of
//! the forward pass. A task is one head of one run; its queries come in ascending order, so that the sums
//! of a key over queries have one order.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use crate::backend::adjoint::{AttentionAdjoint, AttentionGradients};
use crate::backend::cpu::attention::softmax;
use crate::backend::cpu::matrix::{Buffer, Shared};
use crate::backend::cpu::real::Real;
use crate::backend::cpu::rows::dot;
use crate::model::Config;
use crate::plan::tape::AttendedRun;

struct Task<'a, T> {
    attention: &'a AttentionAdjoint<'a, Buffer<T>>,
    run: &'a AttendedRun,
    head: usize,
    d: usize,
    scale: T,
    out: &'a Outputs<T>,
    scratch: &'a mut Scratch<T>,
}

/// Matrices of which each task writes its own run's rows and its own head's columns.
struct Outputs<T> {
    query: Shared<T>,
    key: Shared<T>,
    value: Shared<T>,
    scores: Option<Shared<T>>,
    pattern: Option<Shared<T>>,
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch<T> {
    pattern: Vec<T>,
    /// Gradients of a query's pattern and scores.
    pattern_gradient: Vec<T>,
    score_gradient: Vec<T>,
    query: Vec<T>,
    /// Of all keys of the run, `[keys, d]`.
    key: Vec<T>,
    value: Vec<T>,
}

/// y += a x
#[inline(always)]
fn add_scaled<T: Real>(a: T, x: &[T], y: &mut [T]) {
    y.iter_mut()
        .zip(x)
        .for_each(|(y, x)| *y = a.mul_add(*x, *y));
}

fn zeros<T: Real>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    buffer.clear();
    buffer.resize(length, T::default());
    buffer
}

impl<T: Real> NullaryFnOnce for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let AttentionAdjoint {
            query,
            key,
            value,
            gradient,
            frozen,
            stride,
            ..
        } = self.attention;
        let Some(last) = self.run.positions.last() else {
            return;
        };
        let (d, first, keys) = (self.d, self.run.first as usize, *last as usize + 1);
        let column = self.head * d;
        let at = |row: usize| (first + row, column..column + d);
        let Scratch {
            pattern,
            pattern_gradient,
            score_gradient,
            query: dq,
            key: dk,
            value: dv,
        } = self.scratch;
        let (dk, dv) = (zeros(dk, keys * d), zeros(dv, keys * d));
        for position in self.run.positions.iter().map(|p| *p as usize) {
            let (row, columns) = at(position);
            let (q, dz) = (
                &query.row(row)[columns.clone()],
                &gradient.row(row)[columns],
            );
            let of = |matrix: &Buffer<T>, x: &[T], j: usize| {
                let (row, columns) = at(j);
                dot(x, &matrix.row(row)[columns])
            };
            let count = position + 1;
            let p = zeros(pattern, count);
            for (j, p) in p.iter_mut().enumerate() {
                *p = of(key, q, j) * self.scale;
            }
            softmax(p);
            let dp = zeros(pattern_gradient, count);
            for (j, dp) in dp.iter_mut().enumerate() {
                *dp = of(value, dz, j);
            }
            let ds = zeros(score_gradient, count);
            if !frozen.patterns {
                let mean = dot(p, dp);
                for (ds, (p, dp)) in ds.iter_mut().zip(p.iter().zip(&*dp)) {
                    *ds = *p * (*dp - mean);
                }
            }
            if let Some(scores) = &self.out.scores {
                scores.write(row, self.head * stride, ds);
            }
            if let Some(pattern) = &self.out.pattern {
                pattern.write(row, self.head * stride, dp);
            }
            let dq = zeros(dq, d);
            for j in 0..count {
                let (key_row, columns) = at(j);
                let ds = ds[j] * self.scale;
                add_scaled(p[j], dz, &mut dv[j * d..][..d]);
                add_scaled(ds, q, &mut dk[j * d..][..d]);
                add_scaled(ds, &key.row(key_row)[columns], dq);
            }
            self.out.query.write(row, column, dq);
        }
        for (j, (dk, dv)) in dk.chunks_exact(d).zip(dv.chunks_exact(d)).enumerate() {
            self.out.key.write(first + j, column, dk);
            self.out.value.write(first + j, column, dv);
        }
    }
}

/// Writes gradients of queries at each run's positions, and of all keys and values that they see.
pub fn attention<T: Real>(
    arch: Arch,
    config: &Config,
    attention: &AttentionAdjoint<'_, Buffer<T>>,
    into: AttentionGradients<'_, Buffer<T>>,
) {
    let out = Outputs {
        query: Shared::new(into.query),
        key: Shared::new(into.key),
        value: Shared::new(into.value),
        scores: into.scores.map(Shared::new),
        pattern: into.pattern.map(Shared::new),
    };
    let d = config.head_width();
    let runs = attention.runs.iter();
    let tasks: Vec<(&AttendedRun, usize)> = runs
        .flat_map(|run| (0..config.heads).map(move |head| (run, head)))
        .collect();
    tasks
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (run, head)| {
            arch.dispatch(Task {
                attention,
                run,
                head,
                d,
                scale: T::from_f64(config.score_scale(attention.layer)),
                out: &out,
                scratch,
            });
        });
}
