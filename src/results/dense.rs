//! A preset's results as dense arrays, in TransformerLens's axis order.

use crate::ask::preset::{Axis, Cell, Preset};
use crate::execute::Outcome;
use crate::prompt::pair::PairRuns;
use crate::results::metric::{Metric, Reading};

/// One metric over the cells of a preset.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// The metric.
    pub name: String,
    /// What stands along each axis.
    pub axes: Vec<Axis>,
    /// How long each axis is.
    pub shape: Vec<usize>,
    /// Means over the pairs that have the cell, NaN where none has.
    pub mean: Vec<f64>,
    /// One array a pair, the pair being the slowest axis; NaN where a pair has no such cell.
    pub pairs: Vec<f64>,
    /// The clean base of each pair.
    pub base: Vec<f64>,
    /// The clean source of each pair, NaN without one.
    pub source: Vec<f64>,
}

/// The arrays of an outcome, one a metric. `cells` are those of each pair's runs. Where a metric
/// differs between targets, a value is the mean over the pair's targets. A masked cell of a pattern
/// cannot be patched, and holds the base's value.
pub fn dense(
    preset: &Preset,
    cells: &[std::sync::Arc<[Cell]>],
    pairs: &[PairRuns],
    outcome: &Outcome,
    metrics: &[Metric],
) -> Vec<Dense> {
    let mut shape = vec![0; preset.axes.len()];
    for cell in cells.iter().flat_map(|cells| cells.iter()) {
        for (length, at) in shape.iter_mut().zip(cell) {
            *length = (*length).max(at + 1);
        }
    }
    let size: usize = shape.iter().product();
    let offset = |cell: &Cell| cell.iter().zip(&shape).fold(0, |i, (at, n)| i * n + at);
    let dense = |metric: &Metric| {
        let mut all = vec![f64::NAN; size * pairs.len()];
        let (mut base, mut source) = (Vec::new(), Vec::new());
        let pair_cells = pairs.iter().zip(&outcome.pairs).zip(cells);
        for (p, ((PairRuns { pair, .. }, read), cells)) in pair_cells.enumerate() {
            let Some(clean) = read.base.last() else {
                continue;
            };
            let value = |run| {
                metric.of_run(&Reading {
                    pair,
                    base: clean,
                    source: read.source.as_ref(),
                    run,
                })
            };
            base.push(value(clean));
            source.push(read.source.as_ref().map_or(f64::NAN, value));
            let mine = &mut all[p * size..][..size];
            for (cell, run) in cells.iter().zip(&read.runs) {
                if let Some(readout) = run.last() {
                    mine[offset(cell)] = value(readout);
                }
                if preset.axes.last() == Some(&Axis::Source) {
                    mask(mine, cell, &shape, pair.base.len(), value(clean));
                }
            }
        }
        let mean = |i: usize| {
            let values = (0..pairs.len()).map(|p| all[p * size + i]);
            let (sum, count) = values
                .filter(|x| !x.is_nan())
                .fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
            sum / count
        };
        Dense {
            name: metric.to_string(),
            axes: preset.axes.to_vec(),
            shape: shape.clone(),
            mean: (0..size).map(mean).collect(),
            pairs: all,
            base,
            source,
        }
    };
    metrics.iter().map(dense).collect()
}

/// Fills the keys after a cell's, up to the prompt's end, where nothing has been written: the last of
/// a query's keys comes last, and so what it leaves is masked.
fn mask(values: &mut [f64], cell: &Cell, shape: &[usize], length: usize, base: f64) {
    let Some((key, query)) = cell.split_last() else {
        return;
    };
    let row = query.iter().zip(shape).fold(0, |i, (at, n)| i * n + at);
    let keys = shape.last().copied().unwrap_or(0);
    for later in key + 1..length.min(keys) {
        values[row * keys + later] = base;
    }
}
