//! Every column of a result, cell by cell, for each pair and as the mean over pairs, as rows come.

use super::about::{ValueAbout, View};
use super::document::Embedded;
use crate::report::measure::{CellValues, Shown};
use crate::results::clean::CleanMetrics;
use crate::results::metric::Metric;
use crate::results::recovery::LevelColumn;
use crate::results::table::{Provenance, Row, Text};

/// So many numbers of single pairs are kept; what is over is in the mean alone.
const MOST_NUMBERS: usize = 8 << 20;

/// A column of rows.
struct RowColumn {
    name: String,
    shown: Shown,
    /// Where it begins and ends, if headlight knows it.
    levels: Option<LevelColumn>,
    /// Whether all targets of a run have one value.
    whole_run: bool,
    first_value: u64,
}

impl RowColumn {
    fn is_recovery(&self) -> bool {
        self.levels.is_some_and(|levels| levels.metric.recovery)
    }

    /// What a cell has, and what the base has in the same pairs.
    fn cell(&self, cell: &CellValues) -> (f64, f64) {
        match self.is_recovery() {
            true => (cell.shown(), 0.0),
            false => (cell.values.shown(), cell.levels.means().base),
        }
    }
}

/// A pair whose rows have come.
#[derive(Default)]
struct PairNumbers {
    number: u32,
    targets: Vec<(u32, Text)>,
    /// Base and source by target and column.
    clean: Vec<Vec<(f64, f64)>>,
    /// By target; cell by cell the columns.
    numbers: Vec<Vec<f32>>,
}

/// Columns in the making.
pub(super) struct ColumnMeans {
    columns: Vec<RowColumn>,
    /// By target; cell by cell the columns. Of one pair, this is all there is.
    here: Vec<Vec<CellValues>>,
    /// The same over all pairs, once there is a second.
    all: Vec<Vec<CellValues>>,
    pair: Option<PairNumbers>,
    before: Vec<PairNumbers>,
    pairs: usize,
    kept: usize,
    /// The most values in a cell.
    pub most: u32,
    /// Whether some recovery is shown of which some pair's clean prompts are not known.
    pub unweighted: bool,
}

/// Columns and their numbers, of cells in the order that was asked for.
pub(super) struct ColumnNumbers {
    pub values: Vec<ValueAbout>,
    pub views: Vec<View>,
    pub stride: usize,
    pub numbers: Embedded,
    pub notes: Vec<String>,
}

impl ColumnMeans {
    /// No rows yet, of tables with these metrics.
    pub fn new(metrics: &[String]) -> Self {
        let column = |name: &str, shown| RowColumn {
            name: name.to_owned(),
            shown,
            levels: name
                .parse()
                .ok()
                .and_then(|metric| LevelColumn::of(metric, metrics)),
            whole_run: matches!(shown, Shown::Metric(_)),
            first_value: 0,
        };
        let own = metrics.iter().enumerate();
        let own = own.map(|(i, name)| column(name, Shown::Metric(i)));
        let fields = Shown::FIELDS
            .into_iter()
            .map(|(name, shown)| column(name, shown));
        Self {
            columns: own.chain(fields).collect(),
            here: Vec::new(),
            all: Vec::new(),
            pair: None,
            before: Vec::new(),
            pairs: 0,
            kept: 0,
            most: 0,
            unweighted: false,
        }
    }

    /// Adds the row of a target to a cell, by their indices.
    pub fn add(&mut self, cell: usize, target: usize, row: &Row, clean: &CleanMetrics) {
        if self.pair.as_ref().is_none_or(|p| p.number != row.pair) {
            if self.pairs == 1 {
                self.all.clone_from(&self.here);
            }
            self.close();
            self.pairs += 1;
            self.pair = Some(PairNumbers {
                number: row.pair,
                ..PairNumbers::default()
            });
        }
        let width = self.columns.len();
        let several = self.pairs > 1;
        let Some(pair) = &mut self.pair else { return };
        let known = pair.targets.len();
        if known <= target {
            // targets come in order, but nothing makes a file keep to it
            pair.targets
                .resize(target, (row.target_id, row.target.clone()));
            pair.targets.push((row.target_id, row.target.clone()));
            pair.clean.resize(target + 1, Vec::new());
        }
        let new = pair.clean[target].is_empty();
        for (c, column) in self.columns.iter_mut().enumerate() {
            let value = column.shown.of(row);
            if target == 0 {
                column.first_value = value.to_bits();
            }
            column.whole_run &= value.to_bits() == column.first_value;
            let levels = column.levels.map(|l| l.levels(row, target, clean));
            let known = levels.filter(|levels| !levels.base.is_nan());
            let recovery = column.is_recovery();
            self.unweighted |= recovery && known.is_none();
            if new {
                let ends = known.map_or((f64::NAN, f64::NAN), |l| (l.base, l.source));
                pair.clean[target].push(match recovery {
                    // wherever base and source are
                    true => (0.0, if ends.1.is_nan() { f64::NAN } else { 1.0 }),
                    false => ends,
                });
            }
            let mut add = |cells: &mut Vec<Vec<CellValues>>| {
                if cells.len() <= target {
                    cells.resize_with(target + 1, Vec::new);
                }
                let cells = &mut cells[target];
                if cells.len() < (cell + 1) * width {
                    cells.resize((cell + 1) * width, CellValues::default());
                }
                let cell = &mut cells[cell * width + c];
                cell.values.add(value);
                known.into_iter().for_each(|x| cell.levels.add(x));
                self.most = self.most.max(cell.values.values());
            };
            add(&mut self.here);
            if several {
                add(&mut self.all);
            }
        }
    }

    /// Keeps what the pair that ends here has, as far as there is room.
    fn close(&mut self) {
        let Some(mut pair) = self.pair.take() else {
            return;
        };
        let count: usize = self.here.iter().map(Vec::len).sum();
        if self.before.is_empty() || self.kept + count <= MOST_NUMBERS {
            self.kept += count;
            let columns = self.columns.iter().cycle();
            let number = |(cell, column): (&CellValues, &RowColumn)| column.cell(cell).0 as f32;
            let cells =
                |cells: &Vec<CellValues>| cells.iter().zip(columns.clone()).map(number).collect();
            pair.numbers = self.here.iter().map(cells).collect();
            self.before.push(pair);
        }
        for cells in &mut self.here {
            cells.fill(CellValues::default());
        }
    }

    /// The numbers, cells in this order; of those without an index nothing is known.
    pub fn finish(mut self, order: &[Option<usize>], made: &Provenance) -> ColumnNumbers {
        self.close();
        let width = self.columns.len();
        let targets = self.here.len().max(1);
        let at = |cells: Option<&Vec<f32>>, cell: usize, c: usize| {
            let cells = cells?;
            cells.get(cell * width + c).copied()
        };
        // a column in which nothing is a number is none
        let mut said = vec![false; width];
        for pair in &self.before {
            for (i, number) in pair.numbers.iter().flatten().enumerate() {
                said[i % width] |= !number.is_nan();
            }
        }
        let kept: Vec<usize> = (0..width).filter(|c| said[*c]).collect();
        let (mut values, mut offset) = (Vec::new(), 0);
        for column in kept.iter().map(|c| &self.columns[*c]) {
            let own = if column.whole_run { 1 } else { targets };
            values.push(ValueAbout {
                name: column.name.clone(),
                targets: own,
                offset,
                probability: column.name == "prob",
                metric: matches!(column.shown, Shown::Metric(_))
                    && column.name.parse::<Metric>().is_ok(),
                recovery: column.is_recovery(),
            });
            offset += own * order.len();
        }
        let mut numbers = Embedded::default();
        let mut views = Vec::new();
        let each = |number: &mut dyn FnMut(usize, usize, usize) -> f32, into: &mut Vec<f32>| {
            for (c, value) in kept.iter().zip(&values) {
                for target in 0..value.targets {
                    into.extend(order.iter().map(|cell| match cell {
                        Some(cell) => number(target, *cell, *c),
                        None => f32::NAN,
                    }));
                }
            }
        };
        if self.pairs > 1 {
            let of = |target: usize, cell: usize, c: usize| {
                let cells: Option<&Vec<CellValues>> = self.all.get(target);
                let cell = cells.and_then(|cells| cells.get(cell * width + c));
                let nothing = (f64::NAN, f64::NAN);
                cell.map_or(nothing, |cell| self.columns[c].cell(cell))
            };
            each(
                &mut |t, cell, c| of(t, cell, c).0 as f32,
                &mut numbers.cells,
            );
            each(
                &mut |t, cell, c| of(t, cell, c).1 as f32,
                &mut numbers.bases,
            );
            views.push(View {
                label: format!("mean over {} pairs", self.pairs),
                ..View::default()
            });
        }
        for pair in &self.before {
            each(
                &mut |t, cell, c| at(pair.numbers.get(t), cell, c).unwrap_or(f32::NAN),
                &mut numbers.cells,
            );
            let known = |x: f64| Some(x).filter(|x| x.is_finite());
            let clean = |(c, value): (&usize, &ValueAbout)| {
                let of = |target: usize| {
                    let ends = pair.clean.get(target).and_then(|ends| ends.get(*c));
                    ends.map_or((None, None), |(base, source)| {
                        (known(*base), known(*source))
                    })
                };
                (0..value.targets).map(of).collect()
            };
            views.push(View {
                targets: pair
                    .targets
                    .iter()
                    .map(|(id, text)| (*id, text.to_string()))
                    .collect(),
                clean: kept.iter().zip(&values).map(clean).collect(),
                ..View::of(pair.number, made)
            });
        }
        let mut notes = Vec::new();
        let left = self.pairs - self.before.len();
        if left > 0 {
            notes.push(format!(
                "{} of {} pairs can be looked at by themselves; the others are in the mean alone",
                self.before.len(),
                self.pairs
            ));
        }
        ColumnNumbers {
            values,
            views,
            stride: offset,
            numbers,
            notes,
        }
    }
}
