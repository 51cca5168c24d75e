//! Named arrays, whatever they hold and whichever file they go to, and the values of metrics along named axes.

use std::io::{self, Write};
use std::path::Path;

use crate::files::error::FileError;
use crate::files::spool::Spool;
use crate::prompt::pair::PairRuns;
use crate::results::metric::Metric;
use crate::results::moments::Mean;
use crate::results::recovery::{LevelColumn, LevelMeans, Levels};
use crate::results::rows::{Gather, RunResult};

/// An array, the last axis the fastest. A shape of no axes is a single value.
#[derive(Debug)]
pub enum Array {
    /// Doubles.
    Floats(Vec<usize>, Vec<f64>),
    /// Doubles that wait on disk.
    Spooled(Vec<usize>, Spool),
    /// Indices, as 64-bit integers.
    Indices(Vec<usize>, Vec<usize>),
    /// Texts, one axis.
    Texts(Vec<String>),
    /// One text.
    Text(String),
}

/// Arrays by their names, in the order in which they are written.
pub type Arrays = Vec<(String, Array)>;

impl Array {
    /// Indices along one axis.
    pub fn indices(list: Vec<usize>) -> Self {
        Self::Indices(vec![list.len()], list)
    }

    /// One number.
    pub fn number(x: f64) -> Self {
        Self::Floats(Vec::new(), vec![x])
    }

    /// Writes doubles, little-endian; nothing of what holds none.
    ///
    /// # Errors
    ///
    /// Those of the disk that they wait on, and of `out`.
    pub fn write_numbers(&mut self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match self {
            Self::Floats(_, values) => {
                let mut values = values.iter();
                values.try_for_each(|x| out.write_all(&x.to_le_bytes()))
            }
            Self::Spooled(_, spool) => spool.copy(0, spool.bytes(), out),
            Self::Indices(..) | Self::Texts(..) | Self::Text(..) => Ok(()),
        }
    }

    /// As an entry of metadata, where it does not hold doubles.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::Floats(..) | Self::Spooled(..) => None,
            // one value stands by itself
            Self::Indices(shape, list) if shape.is_empty() => list.first().map(usize::to_string),
            Self::Indices(_, list) => Some(serde_json::json!(list).to_string()),
            Self::Texts(list) => Some(serde_json::json!(list).to_string()),
            Self::Text(text) => Some(text.clone()),
        }
    }
}

/// An axis: its name, and what stands along it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Such as `sender`.
    pub name: &'static str,
    /// Its coordinates.
    pub along: Along,
}

/// What stands along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Along {
    /// Things that have names.
    Names(Vec<String>),
    /// Things that are numbered, by their numbers.
    Numbers(Vec<usize>),
}

impl Axis {
    /// An axis of things that have names.
    pub fn named(name: &'static str, names: Vec<String>) -> Self {
        Self {
            name,
            along: Along::Names(names),
        }
    }

    /// An axis of so many numbers, from 0.
    pub fn numbered(name: &'static str, length: usize) -> Self {
        Self {
            name,
            along: Along::Numbers((0..length).collect()),
        }
    }

    /// How long it is.
    pub fn length(&self) -> usize {
        match &self.along {
            Along::Names(names) => names.len(),
            Along::Numbers(numbers) => numbers.len(),
        }
    }

    /// Its coordinates, under its name.
    pub fn coordinates(self) -> (String, Array) {
        let array = match self.along {
            Along::Names(names) => Array::Texts(names),
            Along::Numbers(numbers) => Array::indices(numbers),
        };
        (self.name.into(), array)
    }
}

/// How a run's values for several targets become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverTargets {
    /// Their mean, and each target's own beside it; one that is NaN is passed over.
    Apart,
    /// Their mean, NaN where one is.
    Together,
}

/// Where the value of a run stands along the axes together, given the index of its pair and its own; and how
/// many places behind it cannot be patched, and hold the base's value.
pub type CellOf<'a> = dyn Fn(usize, usize) -> Option<(usize, usize)> + 'a;

/// What of a run stands at its place.
#[derive(Debug, Clone)]
pub enum Quantified {
    /// A metric, by the column that has its quantity.
    Metric(LevelColumn),
    /// What stands in its rows, one for each of this metric's values: the column's name, and its index among the
    /// metrics of a row. Clean prompts have none.
    Column(String, usize, Metric),
}

impl Quantified {
    fn name(&self) -> String {
        match self {
            Self::Metric(column) => column.metric.to_string(),
            Self::Column(name, ..) => name.clone(),
        }
    }

    /// Whose values a run has.
    fn metric(&self) -> Metric {
        match self {
            Self::Metric(column) => column.metric,
            Self::Column(_, _, metric) => *metric,
        }
    }

    /// Whether it is a recovery, which is divided anew over pairs.
    fn is_recovery(&self) -> bool {
        matches!(self, Self::Metric(column) if column.metric.recovery)
    }

    /// The values of a run: one, or one a target.
    fn of_run(&self, over: OverTargets, result: &RunResult<'_>) -> Vec<f64> {
        match self {
            Self::Metric(column) => {
                let levels = levels_of(column, result);
                of_targets(over, levels.into_iter().map(|l| column.metric.at(l)))
            }
            Self::Column(_, index, metric) => {
                let rows = &result.rows[..metric.values(result.read.pair).min(result.rows.len())];
                let values = rows.iter().map(|row| row.metrics[*index]);
                match over {
                    OverTargets::Apart => values.collect(),
                    OverTargets::Together => vec![values.sum::<f64>() / rows.len() as f64],
                }
            }
        }
    }
}

/// A metric's levels in a run, of each of its values. They stand in its rows, so that rows that were written before and are
/// read again give the same arrays.
fn levels_of(column: &LevelColumn, result: &RunResult<'_>) -> Vec<Levels> {
    let rows = result
        .rows
        .iter()
        .take(column.metric.values(result.read.pair));
    let levels = rows.enumerate();
    levels
        .map(|(i, row)| column.levels(row, i, result.clean))
        .collect()
}

/// Values of the targets, or their mean alone.
fn of_targets(over: OverTargets, values: impl Iterator<Item = f64>) -> Vec<f64> {
    match over {
        OverTargets::Together => {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
            vec![sum / count]
        }
        OverTargets::Apart => values.collect(),
    }
}

/// A metric's values in a pair's clean prompts, the base and, where there is one, the source.
fn of_clean(over: OverTargets, metric: Metric, result: &RunResult<'_>) -> (Vec<f64>, Vec<f64>) {
    let pair = result.read.pair;
    let nothing = (f64::NAN, f64::NAN);
    let levels = (0..metric.values(pair)).map(|i| {
        let (base, source) = result.clean.target(metric.quantity, i).unwrap_or(nothing);
        Levels {
            run: base,
            base,
            source,
        }
    });
    let levels: Vec<Levels> = levels.collect();
    let base = levels.iter().map(|l| metric.at(*l));
    let source = levels.iter().map(|l| {
        metric.at(Levels {
            run: l.source,
            ..*l
        })
    });
    let source = match pair.source.is_some() {
        true => of_targets(over, source),
        false => Vec::new(),
    };
    (of_targets(over, base), source)
}

/// The values of some metrics at places along axes, filled as runs pass. A pair's own stand in memory until
/// the pair is over, and means over pairs to the end; all pairs' wait on disk.
pub struct Values<'a> {
    shape: Vec<usize>,
    over: OverTargets,
    place: Box<CellOf<'a>>,
    of: Vec<AtPlaces>,
    path: &'a Path,
    /// The pair whose runs come.
    pair: Option<usize>,
}

/// One metric at every place.
struct AtPlaces {
    what: Quantified,
    /// Values that a run has, the most of any pair.
    targets: usize,
    /// The current pair's, by target; NaN where nothing was run.
    here: Vec<Vec<f64>>,
    mean: Vec<Mean>,
    /// Of a recovery, what the current pair's is made of; NaN where nothing was run.
    levels_here: Vec<Levels>,
    /// What its means are made of.
    levels: Vec<LevelMeans>,
    /// Pairs so far.
    count: usize,
    pairs: Spool,
    every: Spool,
    /// The clean prompts', one a pair.
    base: Vec<f64>,
    source: Vec<f64>,
}

impl<'a> Values<'a> {
    /// No values yet, of these pairs, of arrays of this shape that will be written to `path`.
    pub fn new(
        shape: Vec<usize>,
        quantities: Vec<Quantified>,
        pairs: &[PairRuns],
        over: OverTargets,
        path: &'a Path,
        place: Box<CellOf<'a>>,
    ) -> Self {
        let size = shape.iter().product();
        let of = |what: Quantified| AtPlaces {
            targets: pairs
                .iter()
                .map(|p| what.metric().values(&p.pair))
                .max()
                .unwrap_or(0),
            here: Vec::new(),
            mean: vec![Mean::default(); size],
            levels_here: Vec::new(),
            levels: vec![LevelMeans::default(); if what.is_recovery() { size } else { 0 }],
            what,
            count: 0,
            pairs: Spool::beside(path),
            every: Spool::beside(path),
            base: Vec::new(),
            source: Vec::new(),
        };
        Self {
            shape,
            over,
            place,
            of: quantities.into_iter().map(of).collect(),
            path,
            pair: None,
        }
    }

    /// Of each metric `m`: `m`, the mean over pairs, which of a recovery is that of the means, while the mean of
    /// the pairs' own stands beside it as `m_mean`; `m_pairs`, `m_base` and `m_source`, of each pair; and
    /// `m_targets`, of each pair and target, where these are apart and there are several. What stands in rows alone
    /// has no `m_base` and `m_source`.
    ///
    /// # Errors
    ///
    /// [`FileError`] of a disk that does not take what waits.
    pub fn finish(mut self) -> Result<Arrays, FileError> {
        self.close()?;
        let mut arrays = Arrays::new();
        for of in self.of {
            let (pairs, recovery) = (of.count, of.what.is_recovery());
            let (known, name) = (matches!(of.what, Quantified::Metric(_)), of.what.name());
            let shape = |first: &[usize]| [first, &self.shape].concat();
            let mut add = |end: &str, array| arrays.push((format!("{name}{end}"), array));
            let mean = of.mean.into_iter().map(Mean::get);
            let mean = Array::Floats(shape(&[]), mean.collect());
            if recovery {
                let of_means = of.levels.iter().map(|levels| levels.means().recovery());
                add("", Array::Floats(shape(&[]), of_means.collect()));
                add("_mean", mean);
            } else {
                add("", mean);
            }
            add("_pairs", Array::Spooled(shape(&[pairs]), of.pairs));
            if self.over == OverTargets::Apart && of.targets > 1 {
                let shape = shape(&[pairs, of.targets]);
                add("_targets", Array::Spooled(shape, of.every));
            }
            if known {
                add("_base", Array::Floats(vec![pairs], of.base));
                add("_source", Array::Floats(vec![pairs], of.source));
            }
        }
        Ok(arrays)
    }

    /// The current pair is over.
    fn close(&mut self) -> Result<(), FileError> {
        for of in &mut self.of {
            let here = std::mem::take(&mut of.here);
            let levels = of.levels.iter_mut().zip(of.levels_here.drain(..));
            levels.for_each(|(all, one)| all.add(one));
            let Some(first) = here.first() else { continue };
            let size = first.len();
            let value = |i: usize| match self.over {
                OverTargets::Apart => here.iter().map(|of| of[i]).collect::<Mean>().get(),
                OverTargets::Together => first[i],
            };
            let values: Vec<f64> = (0..size).map(value).collect();
            of.mean.iter_mut().zip(&values).for_each(|(m, x)| m.add(*x));
            let bytes = values.iter().map(|x| x.to_le_bytes());
            let mut pushed = of.pairs.push(bytes);
            if self.over == OverTargets::Apart && of.targets > 1 {
                let all = here.iter().flatten().copied();
                let padding = std::iter::repeat_n(f64::NAN, (of.targets - here.len()) * size);
                let bytes = all.chain(padding).map(f64::to_le_bytes);
                pushed = pushed.and_then(|()| of.every.push(bytes));
            }
            pushed.map_err(FileError::write_to(self.path))?;
        }
        Ok(())
    }

    /// A pair begins with this run.
    fn open(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        self.close()?;
        self.pair = Some(result.pair);
        let (over, size) = (self.over, self.shape.iter().product());
        for of in &mut self.of {
            let metric = of.what.metric();
            let one = |values: Vec<f64>| match over {
                OverTargets::Apart => values.into_iter().collect::<Mean>().get(),
                OverTargets::Together => values.first().copied().unwrap_or(f64::NAN),
            };
            let (base, source) = of_clean(over, metric, result);
            of.here = vec![vec![f64::NAN; size]; base.len()];
            let nothing = Levels {
                run: f64::NAN,
                base: f64::NAN,
                source: f64::NAN,
            };
            of.levels_here = vec![nothing; of.levels.len()];
            of.count += 1;
            of.base.push(one(base));
            of.source.push(one(source));
        }
        Ok(())
    }
}

impl Gather for Values<'_> {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        if self.pair != Some(result.pair) {
            self.open(result)?;
        }
        let Some((at, masked)) = (self.place)(result.pair, result.run) else {
            return Ok(());
        };
        for of in &mut self.of {
            if let (Quantified::Metric(column), Some(here)) =
                (&of.what, of.levels_here.get_mut(at..=at + masked))
            {
                let mut targets = LevelMeans::default();
                let each = levels_of(column, result);
                each.into_iter().for_each(|levels| targets.add(levels));
                let levels = targets.means();
                here.fill(Levels {
                    run: levels.base,
                    ..levels
                });
                here[0] = levels;
            }
            let values = of.what.of_run(self.over, result);
            for (here, x) in of.here.iter_mut().zip(values) {
                here[at] = x;
            }
            // of a score, what cannot be patched has none
            let base = match of.what {
                Quantified::Metric(_) => of.base.last().copied(),
                Quantified::Column(..) => Some(0.0),
            };
            if let (1.., Some(base), Some(here)) = (masked, base, of.here.first_mut()) {
                here[at + 1..][..masked].fill(base);
            }
        }
        Ok(())
    }
}
