//! A tracing's means over samples and prompts, and what a heat map draws of them.

use std::path::Path;

use super::runs::{ROLES, Tracing};
use crate::files::error::FileError;
use crate::files::spool::Spool;
use crate::results::averages::{Average, Averages, Over};
use crate::results::blocks::BlockAverage;
use crate::results::metric::{Metric, Quantity, RunReadouts};
use crate::results::moments::Moments;
use crate::results::recovery::Levels;
use crate::results::rows::{Gather, PairResult, RunResult};
use crate::results::strongest::{Strong, Strongest};
use crate::results::table::{Row, Table};

/// Means of a tracing, as its runs pass: by component, layer and position, or role in prompts of a data set.
pub struct TraceMeans<'a> {
    tracing: &'a Tracing,
    layers: usize,
    /// The averages.
    pub averages: Averages,
    /// The clean prompts' probability of each target, by its index.
    clean: Vec<Moments>,
    /// What is drawn, and what arrays hold.
    metric: Metric,
    /// Its index among the averages'.
    index: usize,
    /// Each clean prompt's metric of its first target.
    high: Vec<f64>,
    /// The same of its corrupted runs by themselves.
    low: Vec<f64>,
    /// Each prompt's own scores, where arrays will hold them.
    scores: Option<(Spool, &'a Path)>,
    open: bool,
}

/// Where a value of one prompt, or of all, stands along components, positions (or roles) and layers.
pub(super) fn place(
    average: &Average,
    tracing: &Tracing,
    (position, positions): (usize, usize),
    layers: usize,
) -> Option<usize> {
    if is_corrupted(average) || average.index > 0 {
        return None;
    }
    let named = average.row.component.as_deref();
    let mut restored = tracing.restored.iter();
    let component = restored.position(|r| named == Some(r.component.name()))?;
    let layer = average.row.layer? as usize;
    Some((component * positions + position) * layers + layer)
}

/// The same of a role.
pub(super) fn place_of_role(average: &Average, tracing: &Tracing, layers: usize) -> Option<usize> {
    let role = average.row.name.as_deref()?;
    let role = ROLES.iter().position(|name| *name == role)?;
    place(average, tracing, (role, ROLES.len()), layers)
}

/// Whether an average is that of corrupted runs by themselves.
pub fn is_corrupted(average: &Average) -> bool {
    average.row.name.as_deref() == Some("corrupted")
}

impl<'a> TraceMeans<'a> {
    /// No runs yet, of a model of so many layers. What is drawn is the first of the metrics, else the
    /// probability.
    pub fn new(tracing: &'a Tracing, over: Over, layers: usize, metrics: &[Metric]) -> Self {
        let averages = Averages::new(over, metrics);
        let metric = metrics.first().copied();
        let metric = metric.unwrap_or(Metric::plain(Quantity::Prob));
        let index = averages
            .averaged()
            .iter()
            .position(|column| column.name == metric.to_string());
        Self {
            tracing,
            layers,
            index: index.unwrap_or(0),
            averages,
            clean: Vec::new(),
            metric,
            high: Vec::new(),
            low: Vec::new(),
            scores: None,
            open: false,
        }
    }

    /// Keeps each prompt's own scores for arrays in a file at `path`.
    #[must_use]
    pub fn scored(self, path: &'a Path) -> Self {
        Self {
            scores: Some((Spool::beside(path), path)),
            ..self
        }
    }

    /// What is drawn.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Its moments of an average.
    pub(super) fn moments(&self, average: &Average) -> Moments {
        average.moments(self.index)
    }

    /// Of each prompt, in order: the clean one's metric of its first target, and the same of the corrupted.
    pub(super) fn clean_and_corrupted(&self) -> (&[f64], &[f64]) {
        (&self.high, &self.low)
    }

    /// Every prompt's own scores, by component, role and layer.
    pub(super) fn take_scores(&mut self) -> Option<Spool> {
        self.scores.take().map(|(spool, _)| spool)
    }

    /// Ends the last prompt.
    ///
    /// # Errors
    ///
    /// [`FileError`] of a disk that does not take its scores.
    pub fn finish(&mut self) -> Result<(), FileError> {
        let own = self.averages.close();
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let size = self.tracing.restored.len() * ROLES.len() * self.layers;
        let (mut scores, mut low) = (vec![f64::NAN; size], f64::NAN);
        for (at, moments) in own {
            let average = &self.averages.rows()[at];
            let mean = moments[self.index].mean();
            match place_of_role(average, self.tracing, self.layers) {
                Some(place) => scores[place] = mean,
                None if is_corrupted(average) && average.index == 0 => low = mean,
                None => {}
            }
        }
        self.low.push(low);
        match &mut self.scores {
            Some((spool, path)) => {
                let pushed = spool.push(scores.into_iter().map(f64::to_le_bytes));
                pushed.map_err(FileError::write_to(path))
            }
            None => Ok(()),
        }
    }

    /// The mean of a metric in the corrupted runs by themselves, of the target of this index.
    pub fn corrupted(&self, metric: usize, index: u32) -> f64 {
        let all = self.averages.rows().iter();
        let mut of = all.filter(|a| is_corrupted(a) && a.index == index);
        of.next().map_or(f64::NAN, |a| a.moments(metric).mean())
    }

    /// The same of what is drawn, of the first target.
    pub(super) fn low(&self) -> f64 {
        self.corrupted(self.index, 0)
    }

    /// The least that noise alone leaves of what is drawn, of any target.
    pub fn lowest(&self) -> Option<f64> {
        let all = self.averages.rows().iter().filter(|a| is_corrupted(a));
        all.map(|a| self.moments(a).mean())
            .filter(|x| x.is_finite())
            .min_by(f64::total_cmp)
    }

    /// The clean prompts' probability of the target of this index, the mean over prompts.
    pub fn clean(&self, index: u32) -> f64 {
        self.clean
            .get(index as usize)
            .map_or(f64::NAN, Moments::mean)
    }

    /// What an average is of: the target, or that it is each prompt's own.
    pub fn target(&self, average: &Average) -> String {
        match (&average.target, self.clean.len()) {
            (Some((target, _)), _) => target.to_string(),
            (None, 1) => "answer".to_owned(),
            (None, _) => format!("answer {}", average.index + 1),
        }
    }

    /// The means of what was restored as a table of one run each, which a heat map draws. The base's
    /// probability is the clean prompt's; of several prompts, positions are their names.
    pub fn drawn(&self) -> Table {
        let mut runs = 0;
        let averages = self.averages.rows().iter();
        let row = |average: &Average| {
            let row = &average.row;
            // a place's targets stand together, the first of them first
            runs += u32::from(average.index == 0);
            let run = runs - 1;
            let role = ROLES
                .iter()
                .position(|role| row.name.as_deref() == Some(role));
            let role = role.map(|role| role as u32);
            let mean = |i: usize| average.moments(i).mean();
            let target_id = average.target.as_ref().map_or(average.index, |(_, id)| *id);
            Row {
                pair: 0,
                run,
                name: None,
                position: row.position.or(role),
                token: row.token.clone().or(row.name.clone()),
                op: Some("restored".into()),
                target: self.target(average).into(),
                target_id,
                prob: mean(0),
                logprob: mean(1),
                logit: mean(2),
                base_prob: self.clean(average.index),
                metrics: (3..self.averages.averaged().len()).map(mean).collect(),
                ..row.clone()
            }
        };
        Table {
            metrics: self.averages.averaged()[3..]
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            rows: averages.filter(|a| !is_corrupted(a)).map(row).collect(),
            ..Table::default()
        }
    }

    /// The places at which restoring changes most, from the corrupted runs to the restored, by what is drawn.
    pub fn strongest(&self, most: usize) -> Strongest {
        let mut strongest = Strongest::of(most, &[self.metric]);
        let averages = self.averages.rows().iter().filter(|a| !is_corrupted(a));
        for (row, average) in self.drawn().rows.into_iter().zip(averages) {
            if self.metric.is_of_target() || average.index == 0 {
                let levels = Levels {
                    run: self.moments(average).mean(),
                    base: self.corrupted(self.index, average.index),
                    source: f64::NAN,
                };
                strongest.add(levels, |base, value| Strong {
                    row,
                    target: true,
                    base,
                    value,
                    pairs: None,
                });
            }
        }
        strongest
    }
}

impl Gather for TraceMeans<'_> {
    fn pair(&mut self, result: &PairResult<'_>) -> Result<(), FileError> {
        self.finish()?;
        self.open = true;
        let base = result.clean.base.last();
        self.high.push(base.map_or(f64::NAN, |base| {
            let read = RunReadouts {
                pair: result.pair,
                base,
                source: None,
                run: base,
            };
            self.metric.of(&read, 0)
        }));
        Ok(())
    }

    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        if result.run == 0 {
            let targets = self.clean.len().max(result.rows.len());
            self.clean.resize(targets, Moments::default());
            let clean = self.clean.iter_mut().zip(result.rows);
            clean.for_each(|(clean, row)| clean.add(row.base_prob));
        }
        self.averages.run(result)
    }

    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        self.finish()?;
        self.averages.block(block)
    }
}
