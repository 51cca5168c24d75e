//! Averages over pairs: one row for each place that is patched, over all pairs that have it.
//!
//! Where all pairs have the same runs, as in an experiment, a place is a run. Else runs of different
//! pairs belong together if they patch the same component, layer, head and position (by its name,
//! where it has one, else by its number) in the same way. Targets are taken in order: the first of
//! each pair, the second of each. A tracing's averages are over its samples, or over prompts of each of which
//! the mean is taken first.
//!
//! Sums of numbers depend on the order in which they are added. So pairs make blocks of [`BLOCK`], by their indices:
//! values are added one after the other within a block, and blocks merged in ascending order. Whoever has some of
//! the blocks, or the first pairs of one, can write them down ([`Averages::take`]) and merge them later
//! ([`Averages::merge`]): the bits are those of one who saw every pair.

use std::collections::HashMap;
use std::sync::Arc;

use crate::files::error::FileError;
use crate::prompt::pair::PairRuns;
use crate::results::blocks::BlockAverage;
use crate::results::clean::CleanMetrics;
use crate::results::columns::{Cell, Column, FIXED, Fixed, Kind, POSITION_NAME};
use crate::results::metric::{Metric, Quantity};
use crate::results::moments::Moments;
use crate::results::recovery::{LevelColumn, LevelMeans, Levels};
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Row, Text};

/// Pairs of a block.
pub const BLOCK: usize = 64;

/// One place and target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Average {
    /// What the rows agree on; `None` where they do not. Numbers of the row mean nothing here.
    pub row: Row,
    /// Index of the target within its pair.
    pub index: u32,
    /// The target and its id, where all pairs have the same.
    pub target: Option<(Text, u32)>,
    /// Over how many pairs.
    pub pairs: u32,
    /// Of the blocks before the last; nothing while there is one.
    before: Option<ColumnSums>,
    /// Of the last block.
    last: ColumnSums,
    /// Which that is.
    block: usize,
}

/// Of each column that is averaged, what was added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnSums {
    /// Its values.
    pub values: Vec<Moments>,
    /// Its quantity beside the clean prompts'; of nothing where it is no metric.
    pub levels: Vec<LevelMeans>,
}

impl ColumnSums {
    /// Nothing of so many columns.
    pub fn of(columns: usize) -> Self {
        Self {
            values: vec![Moments::default(); columns],
            levels: vec![LevelMeans::default(); columns],
        }
    }

    /// These and then those.
    pub fn merge(&mut self, later: &Self) {
        let values = self.values.iter_mut().zip(&later.values);
        values.for_each(|(mine, theirs)| *mine = mine.merge(*theirs));
        let levels = self.levels.iter_mut().zip(&later.levels);
        levels.for_each(|(mine, theirs)| *mine = mine.merge(*theirs));
    }
}

/// What averages are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Over {
    /// Pairs that have the same runs, so that a run is a place.
    Runs,
    /// Pairs, whose runs belong together by what they patch.
    Pairs,
    /// A tracing's samples of one prompt.
    Samples,
    /// A tracing's prompts, of each of which the mean over samples and positions is taken first; positions
    /// go by what they are to the subject, the runs' names.
    Prompts,
}

impl Over {
    /// Pairs with the same runs, or not.
    pub fn pairs(pairs: &[PairRuns]) -> Self {
        let same = |w: &[PairRuns]| Arc::ptr_eq(&w[0].runs, &w[1].runs);
        match pairs.windows(2).all(same) {
            true => Self::Runs,
            false => Self::Pairs,
        }
    }

    /// Whether each pair's own mean is taken first.
    fn is_of_means(self) -> bool {
        matches!(self, Self::Samples | Self::Prompts)
    }
}

/// What rows of different pairs must have in common to be averaged: name, component, numbers, operator,
/// all patches where these do not say enough, and the target.
#[derive(PartialEq, Eq, Hash)]
struct Common {
    name: Option<Text>,
    component: Option<Text>,
    numbers: [Option<u32>; 7],
    op: Option<Text>,
    patches: Option<Text>,
    index: u32,
}

/// The current pair's own values of an average, by its index.
pub type OwnMoments = Vec<(usize, Vec<Moments>)>;

/// The same while they come, with the pair's first row there.
struct OwnSums {
    at: usize,
    row: Row,
    sums: ColumnSums,
}

/// Averages that grow as runs pass.
pub struct Averages {
    over: Over,
    columns: Vec<AveragedColumn>,
    /// Whether prob, logprob and logit are among them.
    fixed: bool,
    rows: Vec<Average>,
    known: HashMap<Common, usize>,
    /// Those to which something was added since the others were taken out.
    filled: Vec<usize>,
    /// Index of the current pair.
    pair: usize,
    own: Vec<OwnSums>,
    own_at: HashMap<usize, usize>,
}

/// What is averaged.
#[derive(Debug, Clone)]
pub struct AveragedColumn {
    /// Its name.
    pub name: String,
    /// Its levels, where it is a metric.
    pub levels: Option<LevelColumn>,
}

impl AveragedColumn {
    /// A column that is no metric.
    fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            levels: None,
        }
    }

    /// prob, logprob and logit, then those of these metrics that are no columns anyway.
    fn fixed_and(metrics: &[Metric]) -> Vec<Self> {
        let others = metrics.iter().filter(|m| !m.is_column());
        let names: Vec<String> = others.clone().map(Metric::to_string).collect();
        let fixed = [Quantity::Prob, Quantity::Logprob, Quantity::Logit].map(Metric::plain);
        let all = fixed.iter().chain(others);
        all.map(|metric| Self {
            name: metric.to_string(),
            levels: LevelColumn::of(*metric, &names),
        })
        .collect()
    }

    /// Whether it is a recovery, which over pairs is that of the means.
    fn is_recovery(&self) -> bool {
        self.levels.is_some_and(|levels| levels.metric.recovery)
    }
}

impl Averages {
    /// Averages of prob, logprob, logit and these metrics.
    pub fn new(over: Over, metrics: &[Metric]) -> Self {
        Self {
            over,
            columns: AveragedColumn::fixed_and(metrics),
            fixed: true,
            rows: Vec::new(),
            known: HashMap::new(),
            filled: Vec::new(),
            pair: 0,
            own: Vec::new(),
            own_at: HashMap::new(),
        }
    }

    /// Averages of a row's metrics alone, which have these names.
    pub fn of_metrics(over: Over, names: &[String]) -> Self {
        Self {
            columns: names
                .iter()
                .map(|name| AveragedColumn::plain(name))
                .collect(),
            fixed: false,
            ..Self::new(over, &[])
        }
    }

    /// What is averaged: prob, logprob and logit, then the metrics asked for.
    pub fn averaged(&self) -> &[AveragedColumn] {
        &self.columns
    }

    /// Whether each pair's own mean is taken first.
    pub fn is_of_means(&self) -> bool {
        self.over.is_of_means()
    }

    /// The averages, in the order in which their places came first.
    pub fn rows(&self) -> &[Average] {
        &self.rows
    }

    /// Ends a pair, of which each average's own moments come back where its mean is taken first.
    pub fn close(&mut self) -> OwnMoments {
        self.own_at.clear();
        let block = self.pair / BLOCK;
        let own = std::mem::take(&mut self.own).into_iter();
        let own = own.map(|OwnSums { at, row, sums }| {
            let average = &mut self.rows[at];
            if average.begin(block, &row) {
                self.filled.push(at);
            }
            match self.over {
                Over::Prompts => {
                    let all = average.last.values.iter_mut().zip(&sums.values);
                    all.for_each(|(all, one)| all.add(one.mean()));
                    let levels = average.last.levels.iter_mut().zip(&sums.levels);
                    levels.for_each(|(all, one)| *all = all.merge(*one));
                }
                _ => average.last.merge(&sums),
            }
            (at, sums.values)
        });
        own.collect()
    }

    /// Adds a run's row for the target of this index, with the metrics in its pair's clean prompts. Pairs come in
    /// ascending order of their indices, and a pair's rows one after the other.
    pub fn add(&mut self, pair: usize, row: &Row, index: u32, clean: &CleanMetrics) {
        if pair != self.pair {
            self.close();
            self.pair = pair;
        }
        let at = self.place(row, index);
        let average = &mut self.rows[at];
        let sums = if self.over.is_of_means() {
            let place = *self.own_at.entry(at).or_insert_with(|| {
                self.own.push(OwnSums {
                    at,
                    row: self.over.label(row),
                    sums: ColumnSums::of(self.columns.len()),
                });
                self.own.len() - 1
            });
            &mut self.own[place].sums
        } else {
            if average.begin(pair / BLOCK, row) {
                self.filled.push(at);
            }
            &mut average.last
        };
        for (levels, column) in sums.levels.iter_mut().zip(&self.columns) {
            if let Some(column) = &column.levels {
                levels.add(column.levels(row, index as usize, clean));
            }
        }
        let found = [row.prob, row.logprob, row.logit];
        let found = found.iter().filter(|_| self.fixed).chain(&row.metrics);
        let values = sums.values.iter_mut();
        values.zip(found).for_each(|(m, x)| m.add(*x));
    }

    /// Adds what others have added of a block, behind whatever of it is there. Blocks come in ascending order.
    pub fn merge(&mut self, theirs: &BlockAverage) {
        if theirs.pair != self.pair {
            self.close();
            self.pair = theirs.pair;
        }
        let at = self.place(&theirs.row, theirs.index);
        let average = &mut self.rows[at];
        let target = theirs.target.as_ref().map(|(text, id)| (text, *id));
        if average.begin_with(theirs.pair / BLOCK, &theirs.row, target) {
            self.filled.push(at);
        }
        average.pairs = average.pairs.saturating_add(theirs.pairs);
        average.last.merge(&theirs.sums);
    }

    /// Takes out what was added since this was last done, which must all be of one block, in the order in which places
    /// came first. Of a pair that is not closed nothing is in it, where each pair's own mean is taken first.
    pub fn take(&mut self) -> Vec<BlockAverage> {
        let mut filled = std::mem::take(&mut self.filled);
        filled.sort_unstable();
        let filled = filled.into_iter().map(|at| {
            let average = &mut self.rows[at];
            let columns = average.last.values.len();
            BlockAverage {
                pair: self.pair,
                row: average.row.clone(),
                index: average.index,
                target: average.target.take(),
                pairs: std::mem::take(&mut average.pairs),
                sums: std::mem::replace(&mut average.last, ColumnSums::of(columns)),
            }
        });
        filled.collect()
    }

    /// Where the average of a row stands, for which there is room from now on.
    fn place(&mut self, row: &Row, index: u32) -> usize {
        let common = self.over.common(row, index);
        *self.known.entry(common).or_insert_with(|| {
            self.rows.push(Average {
                index,
                row: self.over.label(row),
                last: ColumnSums::of(self.columns.len()),
                ..Average::default()
            });
            self.rows.len() - 1
        })
    }

    /// The columns of averages in a file: what the averaged rows agree on, how many pairs, and of each metric
    /// mean (`m`), standard deviation (`m_sd`), standard error of the mean (`m_se`), finite values (`m_n`), and the
    /// least and the greatest of these (`m_min`, `m_max`). A recovery is that of the means; the mean over pairs of their own, whose spread these are, stands
    /// beside it (`m_mean`).
    pub fn columns(&self) -> Vec<Column> {
        let agreed = agreed().map(Fixed::column);
        let named = self.named().then(|| Column::of(POSITION_NAME, Kind::Text));
        let target = ["target", "target_id"].into_iter();
        let target = target
            .zip([Kind::Text, Kind::Int])
            .map(|(name, kind)| Column {
                nullable: true,
                ..Column::of(name, kind)
            });
        let counted = ["target_index", "pairs"].map(|name| Column::of(name, Kind::Int));
        let values = self.columns.iter().flat_map(|column| {
            let (name, mean) = (&column.name, column.is_recovery().then_some("_mean"));
            let floats = [""].into_iter().chain(mean).chain(["_sd", "_se"]);
            let floats = floats.map(move |end| Column::of(format!("{name}{end}"), Kind::Float));
            let count = Column::of(format!("{name}_n"), Kind::Int);
            let ends = ["_min", "_max"];
            let ends = ends.map(|end| Column::of(format!("{name}{end}"), Kind::Float));
            floats.chain([count]).chain(ends)
        });
        let agreed = agreed.chain(named).chain(target);
        agreed.chain(counted).chain(values).collect()
    }

    /// Whether some place goes by a name.
    pub(super) fn named(&self) -> bool {
        let first = self.rows.first();
        first.is_some_and(|average| average.row.position_name.is_some())
    }
}

/// The columns of a result that say what is patched, which the averaged rows may agree on.
fn agreed() -> impl Iterator<Item = &'static Fixed> {
    let is_of_runs = |c: &&Fixed| !["pair", "run"].contains(&c.name);
    FIXED
        .iter()
        .take_while(|c| c.name != "target")
        .filter(is_of_runs)
}

impl Gather for Averages {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        (0..)
            .zip(result.rows)
            .for_each(|(index, row)| self.add(result.pair, row, index, result.clean));
        Ok(())
    }

    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        self.merge(block);
        Ok(())
    }
}

impl Over {
    /// What of a row is an average's.
    fn label(self, row: &Row) -> Row {
        let mut row = row.clone();
        if self.is_of_means() {
            row.sample = None;
        }
        if self == Self::Prompts {
            (row.position, row.token) = (None, None);
        }
        row
    }

    fn common(self, row: &Row, index: u32) -> Common {
        let mut common = Common {
            name: row.name.clone(),
            component: row.component.clone(),
            numbers: [None; 7],
            op: None,
            patches: None,
            index,
        };
        match self {
            Self::Runs => {
                return Common {
                    name: None,
                    component: None,
                    numbers: [Some(row.run), None, None, None, None, None, None],
                    ..common
                };
            }
            Self::Samples => common.numbers[..2].copy_from_slice(&[row.layer, row.position]),
            Self::Prompts => common.numbers[0] = row.layer,
            Self::Pairs => {
                // a named position is another number in each prompt
                let at = |position: Option<u32>| position.filter(|_| row.name.is_none());
                common.numbers = [
                    row.layer,
                    row.head,
                    at(row.position),
                    row.source_layer,
                    row.source_head,
                    at(row.source_position),
                    row.sample,
                ];
                common.op.clone_from(&row.op);
                // what has no name and no single place is told apart by its text
                let placed = row.position.is_some() && !row.patches.contains("\"keys\"");
                let said = row.component.is_some() && (placed || row.name.is_some());
                common.patches = (!said).then(|| row.patches.clone());
            }
        }
        common
    }
}

impl Average {
    /// The moments of a column, by its index.
    pub fn moments(&self, column: usize) -> Moments {
        let last = self.last.values.get(column).copied().unwrap_or_default();
        let before = self.before.as_ref();
        let before = before.and_then(|before| before.values.get(column));
        before.map_or(last, |before| before.merge(last))
    }

    /// The means of a column's quantity, beside the clean prompts'.
    pub fn levels(&self, column: usize) -> Levels {
        let last = self.last.levels.get(column).copied().unwrap_or_default();
        let before = self.before.as_ref();
        let before = before.and_then(|before| before.levels.get(column));
        before.map_or(last, |before| before.merge(last)).means()
    }

    /// A row of this block is added; whether it is the first.
    fn begin(&mut self, block: usize, row: &Row) -> bool {
        let first = self.begin_with(block, row, Some((&row.target, row.target_id)));
        self.pairs += 1;
        first
    }

    /// The same of rows that have this in common, and this target, if any.
    fn begin_with(&mut self, block: usize, row: &Row, target: Option<(&Text, u32)>) -> bool {
        if self.pairs == 0 {
            self.block = block;
            self.row = row.clone();
            self.target = target.map(|(text, id)| (text.clone(), id));
            return true;
        }
        if block != self.block {
            self.block = block;
            let columns = self.last.values.len();
            let last = std::mem::replace(&mut self.last, ColumnSums::of(columns));
            match &mut self.before {
                Some(before) => before.merge(&last),
                None => self.before = Some(last),
            }
        }
        fn keep<T: PartialEq>(mine: &mut Option<T>, theirs: &Option<T>) {
            if mine != theirs {
                *mine = None;
            }
        }
        keep(&mut self.row.position, &row.position);
        keep(&mut self.row.source_position, &row.source_position);
        keep(&mut self.row.token, &row.token);
        if self.target.as_ref().map(|(text, id)| (text, *id)) != target {
            self.target = None;
        }
        false
    }

    /// All cells, in the order of [`Averages::columns`], given what is averaged.
    pub fn cells<'a>(&'a self, averaged: &'a [AveragedColumn]) -> impl Iterator<Item = Cell<'a>> {
        let target = self.target.as_ref();
        let named = self.row.position_name.iter().map(|name| Cell::Text(name));
        let agreed = agreed().map(|column| (column.get)(&self.row));
        let target = [
            target.map_or(Cell::Missing, |(text, _)| Cell::Text(text)),
            target.map_or(Cell::Missing, |(_, id)| Cell::Int(*id)),
            Cell::Int(self.index),
            Cell::Int(self.pairs),
        ];
        let values = averaged.iter().enumerate().flat_map(|(i, column)| {
            let m = self.moments(i);
            let of_means = column.is_recovery().then(|| self.levels(i).recovery());
            let floats = [m.mean(), m.deviation(), m.error()];
            let floats = of_means.into_iter().chain(floats).map(Cell::Float);
            // of nothing there is neither
            let ends = [m.low(), m.high()].map(|x| if m.count() > 0 { x } else { f64::NAN });
            floats
                .chain([Cell::Int(m.count())])
                .chain(ends.map(Cell::Float))
        });
        agreed.chain(named).chain(target).chain(values)
    }
}
