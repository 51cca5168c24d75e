//! A tracing's result table, its means over samples and pairs, and what a heat map draws of them.

use std::collections::HashMap;

use super::runs::{ROLES, Tracing};
use crate::execute::Outcome;
use crate::model::Checkpoint;
use crate::prompt::pair::PairRuns;
use crate::results::metric::Metric;
use crate::results::rows::{raw, table};
use crate::results::summary::{Average, Moments, Summary};
use crate::results::table::{Provenance, Row, Table};

/// The result table: a run is filed under what it restores, by the middle layer of its window, and a
/// corrupted run under the embeddings that it corrupts.
pub fn result(
    model: &Checkpoint,
    tracing: &Tracing,
    pairs: &[PairRuns],
    outcome: &Outcome,
    metrics: &[Metric],
    provenance: Provenance,
) -> Table {
    let mut table = table(model, pairs, outcome, metrics, provenance);
    let mut rows = table.rows.iter_mut().peekable();
    for (p, PairRuns { pair, .. }) in pairs.iter().enumerate() {
        let cells = tracing.cells(model.config.layers, pair.base.len());
        for (run, cell) in cells.enumerate() {
            let here = |row: &&mut Row| (row.pair as usize, row.run as usize) == (p, run);
            while let Some(row) = rows.next_if(here) {
                let Some((component, layer, position)) = cell.restored else {
                    continue;
                };
                row.component = Some(tracing.restored[component].component.name().into());
                row.layer = Some(layer as u32);
                row.position = Some(position as u32);
                row.token = pair.base.get(position).map(|id| raw(model, *id));
                row.op = Some("interchange".into());
                row.sample = Some(cell.sample);
            }
        }
    }
    table
}

/// What a tracing's means are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The samples of one prompt.
    Samples,
    /// The prompts of a data set, of each of which the mean over samples and positions is taken first;
    /// positions go by what they are to the subject ([`ROLES`]).
    Prompts,
}

/// Means of a tracing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Means {
    /// By component, layer and position or role.
    pub summary: Summary,
    /// What each prompt adds to the summary: a row of it, and the mean of each metric.
    pub prompts: Vec<Vec<(usize, Vec<f64>)>>,
    /// The clean prompts' probability of each target, by its index, the mean over prompts.
    pub clean: Vec<f64>,
}

/// What belongs together: component, layer, position, name, target index.
type Place = (
    Option<String>,
    Option<u32>,
    Option<u32>,
    Option<String>,
    u32,
);

/// Averages a [`result`].
pub fn means(table: &Table, over: Over) -> Means {
    let fixed = ["prob", "logprob", "logit"].map(str::to_owned);
    let several = over == Over::Prompts;
    let mut means = Means::default();
    means.summary.metrics = fixed.into_iter().chain(table.metrics.clone()).collect();
    let mut known: HashMap<Place, usize> = HashMap::new();
    let mut clean: Vec<Moments> = Vec::new();
    for rows in table.rows.chunk_by(|a, b| a.pair == b.pair) {
        let mut here: Vec<(usize, Vec<Moments>)> = Vec::new();
        let mut found: HashMap<usize, usize> = HashMap::new();
        for run in rows.chunk_by(|a, b| a.run == b.run) {
            for (index, row) in run.iter().enumerate() {
                let position = row.position.filter(|_| !several);
                let (component, name) = (row.component.clone(), row.name.clone());
                let place = (component, row.layer, position, name, index as u32);
                let all = &mut means.summary.rows;
                let at = *known.entry(place).or_insert_with(|| {
                    all.push(average(row, index as u32, several));
                    all.len() - 1
                });
                let values = [row.prob, row.logprob, row.logit];
                let values = values.into_iter().chain(row.metrics.iter().copied());
                let at_here = *found.entry(at).or_insert_with(|| {
                    here.push((at, vec![Moments::default(); 3 + row.metrics.len()]));
                    let target = Some((row.target.clone(), row.target_id));
                    if all[at].target != target {
                        all[at].target = None;
                    }
                    all[at].pairs += 1;
                    here.len() - 1
                });
                let moments = here[at_here].1.iter_mut();
                moments.zip(values).for_each(|(m, x)| m.add(x));
                if run[0].run == rows[0].run {
                    clean.resize(clean.len().max(index + 1), Moments::default());
                    clean[index].add(row.base_prob);
                }
            }
        }
        let own = here.iter().map(|(at, moments)| {
            let means = moments.iter().map(Moments::mean);
            (*at, means.collect())
        });
        means.prompts.push(own.collect());
        for (at, moments) in here {
            let average = &mut means.summary.rows[at];
            match several {
                false => average.values = moments,
                true => {
                    let all = average.values.iter_mut();
                    all.zip(moments).for_each(|(all, one)| all.add(one.mean()));
                }
            }
        }
    }
    means.clean = clean.iter().map(Moments::mean).collect();
    means
}

fn average(row: &Row, index: u32, several: bool) -> Average {
    let mut row = Row {
        sample: None,
        ..row.clone()
    };
    if several {
        (row.position, row.token) = (None, None);
    }
    Average {
        target: Some((row.target.clone(), row.target_id)),
        index,
        values: vec![Moments::default(); 3 + row.metrics.len()],
        row,
        ..Average::default()
    }
}

/// Whether an average is that of corrupted runs by themselves.
pub fn is_corrupted(average: &Average) -> bool {
    average.row.name.as_deref() == Some("corrupted")
}

impl Means {
    /// The mean of a metric in the corrupted runs by themselves, of the target of this index.
    pub fn corrupted(&self, metric: usize, index: u32) -> f64 {
        let all = self.summary.rows.iter();
        let mut of = all.filter(|a| is_corrupted(a) && a.index == index);
        of.next().map_or(f64::NAN, |a| a.values[metric].mean())
    }

    /// What an average is of: the target, or that it is each prompt's own.
    pub fn target(&self, average: &Average) -> String {
        match (&average.target, self.clean.len()) {
            (Some((target, _)), _) => target.clone(),
            (None, 1) => "answer".to_owned(),
            (None, _) => format!("answer {}", average.index + 1),
        }
    }

    /// The means of what was restored as a table of one run each, which a heat map draws. The base's
    /// probability is the clean prompt's; of several prompts, positions are their names.
    pub fn drawn(&self, table: &Table) -> Table {
        let mut runs = 0;
        let restored = self.summary.rows.iter().filter(|a| !is_corrupted(a));
        let row = |average: &Average| {
            let row = &average.row;
            // a place's targets stand together, the first of them first
            runs += u32::from(average.index == 0);
            let run = runs - 1;
            let role = ROLES
                .iter()
                .position(|role| row.name.as_deref() == Some(role));
            let role = role.map(|role| role as u32);
            let mean = |i: usize| average.values[i].mean();
            let target_id = average.target.as_ref().map_or(average.index, |(_, id)| *id);
            Row {
                pair: 0,
                run,
                name: None,
                position: row.position.or(role),
                token: row.token.clone().or(row.name.clone()),
                op: Some("restored".into()),
                target: self.target(average),
                target_id,
                prob: mean(0),
                logprob: mean(1),
                logit: mean(2),
                base_prob: self
                    .clean
                    .get(average.index as usize)
                    .copied()
                    .unwrap_or(f64::NAN),
                metrics: (3..average.values.len()).map(mean).collect(),
                ..row.clone()
            }
        };
        let rows = restored.map(row).collect();
        Table {
            metrics: table.metrics.clone(),
            rows,
            provenance: table.provenance.clone(),
        }
    }

    /// The same with the corrupted runs for base: what restoring changes.
    pub fn restored(&self, table: &Table) -> Table {
        let mut table = self.drawn(table);
        let averages = self.summary.rows.iter().filter(|a| !is_corrupted(a));
        for (row, average) in table.rows.iter_mut().zip(averages) {
            row.base_prob = self.corrupted(0, average.index);
        }
        table
    }
}
