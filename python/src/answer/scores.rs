//! Estimates as an answer: rows whose columns are scores, their means and arrays, and how good they are.

use headlight::attribution::{Attribution, GradientAt, Method, Rule};
use headlight::circuit::Circuit;
use headlight::engine::{Answer, Attributed, SCORE, ScoreColumns, Verification};
use headlight::execute::Plan;
use headlight::results::array::{Arrays, Quantified, Values};
use headlight::results::averages::Averages;
use headlight::results::clean::Cleans;
use headlight::results::rows::Gather;
use headlight::{Engine, Error, Metric, Question, Table};
use pyo3::prelude::*;

use super::{Answered, Held};
use crate::graph::Graph;
use crate::worker::Progress;

/// A method, and what is asked for beside it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct MethodWord {
    method: String,
    steps: Option<usize>,
    rule: Option<String>,
    gradient_at: Option<String>,
    metric: Option<String>,
    absolute: bool,
    verify_top: Option<usize>,
    seed: u64,
}

/// A word of the command line.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error: T::Err| Error::Usage(error.to_string()))
}

impl MethodWord {
    fn attribution(&self, question: &mut Question<'_>) -> Result<Attribution, Error> {
        let method: Method = parsed(&self.method)?;
        let metric = self
            .metric
            .as_deref()
            .map(str::parse::<Metric>)
            .transpose()?;
        let rule = self.rule.as_deref().map(parsed::<Rule>).transpose()?;
        let at = self.gradient_at.as_deref().map(parsed::<GradientAt>);
        let wishes = (self.steps, rule, at.transpose()?);
        let metric = question.metric_or_default(metric);
        Ok(Attribution::with(method, metric, wishes)?)
    }
}

/// Estimates a question's runs.
pub fn attributed(
    engine: &Engine,
    mut question: Question<'_>,
    word: &MethodWord,
    (averaged, command): (bool, String),
    told: &Progress,
) -> Result<Answered, Error> {
    let attribution = word.attribution(&mut question)?;
    question.check_attribution(&attribution)?;
    let doubts = engine.spaces(question.pairs.iter().map(|p| &p.pair));
    engine.default_targets(&mut question.pairs)?;
    let columns = ScoreColumns {
        verify: word.verify_top.map(|top| Verification {
            top,
            seed: word.seed,
        }),
        absolute: word.absolute,
    };
    let names = columns.names();
    let (axes, no_arrays) = match question.axes() {
        Ok(axes) => (axes, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let temporary = std::env::temp_dir().join("arrays");
    let mut table = Table {
        metrics: names.clone(),
        ..Table::default()
    };
    let mut cleans = Cleans::default();
    let mut averages = averaged.then(|| Averages::of_metrics(question.over(), &names));
    let mut values = axes.as_ref().map(|axes| {
        let each = names.iter().enumerate();
        let each = each.map(|(i, name)| Quantified::Column(name.clone(), i, attribution.metric));
        question.values_of(each.collect(), axes, &temporary)
    });
    let mut gather: Vec<&mut dyn Gather> = vec![&mut table, &mut cleans];
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(values.iter_mut().map(|g| g as &mut dyn Gather));
    told.follow(
        engine,
        question.attribution_runs(&attribution, columns.verify),
    );
    let attributed = question.attribute(&attribution, columns, &mut gather)?;
    drop(gather);
    if let Some(averages) = &mut averages {
        averages.close();
    }
    let mut found = values.map_or(Ok(Arrays::new()), Values::finish)?;
    if let Some(axes) = axes {
        found.extend(axes.about());
        found.extend(question.rows());
    }
    let held = found.into_iter();
    let held = held.map(|(name, array)| Ok((name, Held::of(array)?)));
    let mut answered = Answered {
        arrays: held.collect::<Result<_, Error>>()?,
        averages,
        no_arrays,
        drawn: SCORE.to_owned(),
        done: Answer {
            plan: Plan {
                count: attributed.estimated,
                ..Plan::default()
            },
            time: attributed.time + attributed.exact_time,
        },
        attributed: Some(attributed),
        ..Answered::of_rows(engine, &question, table, command)
    };
    cleans.fill(&mut answered.table.provenance, 0);
    answered.notes.extend(doubts);
    Ok(answered.in_columns())
}

/// Rows, Pearson's correlation and Spearman's.
pub type Agreed = (usize, Option<f64>, Option<f64>);

/// How scores agree with exact runs: of the largest, of a sample of the others, and what may have been missed.
pub type Agreements = (Agreed, Agreed, Option<(f64, usize, f64)>);

impl Answered {
    /// Of what was verified.
    pub(super) fn agreements(&self) -> Option<Agreements> {
        let of: &Attributed = self.attributed.as_ref().filter(|of| of.verified > 0)?;
        let [top, sample] = of.agreements().map(|a| (a.rows, a.pearson, a.spearman));
        Some((top, sample, of.missed()))
    }

    /// No circuit yet, with the means of a column as scores.
    pub(super) fn graph_of(&self, column: &str) -> Result<Graph, Error> {
        let config = &self.model.config;
        let circuit = Circuit::of_table(&self.table, "the result", column, config)?;
        Ok(Graph::new(circuit, config.clone()))
    }
}
