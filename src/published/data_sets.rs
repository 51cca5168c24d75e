//! What is asked of data sets that others have published, and whoever asks has fetched.

use std::path::Path;

use super::Line;
use super::ask::options;
use super::layout::{GreedyCircuit, Inquiry, Published};
use crate::attribution::{Attribution, Method, Rule};
use crate::circuit::Circuit;
use crate::circuit::evaluate::Ablation;
use crate::circuit::scores::MeanScores;
use crate::circuit::select::{Selection, Worth};
use crate::data::{self, Direction};
use crate::engine::{Engine, Fallback, Pairs, ScoreColumns};
use crate::error::Error;
use crate::graph::edge::edges;
use crate::graph::extent::Extent;
use crate::results::metric::Metric;
use crate::results::moments::Mean;

/// The lines of a figure.
pub fn lines(engine: &Engine, figure: &Published, file: &Path) -> Result<Vec<Line>, Error> {
    let rows = || -> Result<Pairs, Error> {
        // these authors' base is the clean prompt, and every prompt begins with BOS
        let options = options(file, Direction::Noise, true);
        Ok(Pairs::Rows(data::read(file)?, options, Fallback::default()))
    };
    let line = |what: String, within: f64| Line::new(what, &figure.by, within);
    match &figure.inquiry {
        Inquiry::DataSet {
            metric,
            clean,
            corrupted,
            ..
        } => {
            let metric: Metric = metric.parse()?;
            let question = engine.without_runs(rows()?)?;
            let levels = question.clean(metric)?;
            let mean = |of: &mut dyn Iterator<Item = f64>| of.collect::<Mean>().get();
            let first = |list: &[f64]| list.first().copied().unwrap_or(f64::NAN);
            let mut all = Vec::new();
            for (which, published, here) in [
                (
                    "clean",
                    clean,
                    mean(&mut levels.iter().map(|of| first(&of.base))),
                ),
                (
                    "corrupted",
                    corrupted,
                    mean(&mut levels.iter().map(|of| first(&of.source))),
                ),
            ] {
                let what = format!("{}: {which}, {} rows", figure.what, levels.len());
                let mut line = line(what, figure.within);
                line.add(*published, here);
                all.push(line);
            }
            Ok(all)
        }
        Inquiry::Circuits {
            metric,
            method,
            steps,
            greedy,
            ..
        } => {
            let metric: Metric = metric.parse()?;
            let method: Method = method
                .parse()
                .map_err(|why: crate::attribution::UnknownName| Error::Usage(why.to_string()))?;
            let mut attribution = Attribution {
                rule: Rule::Left,
                ..Attribution::of(method, metric)
            };
            attribution.steps = steps.unwrap_or(attribution.steps);
            let mut all = Vec::new();
            let circuits = chosen(engine, rows()?, &attribution, greedy)?;
            let question = engine.without_runs(rows()?)?;
            let evaluated = question.evaluate(&circuits, metric, Ablation::Patch, &mut [])?;
            for ((asked, (_, circuit)), value) in
                greedy.iter().zip(&circuits).zip(evaluated.circuits)
            {
                let what = format!("{}, {}: edges", figure.what, asked.n);
                // edges of nearly one size may change places
                let mut edges = line(what, 0.05 * asked.n as f64);
                edges.add(asked.edges as f64, circuit.count() as f64);
                let mut of_metric = line(
                    format!("{}, {}: {metric}", figure.what, asked.n),
                    figure.within,
                );
                of_metric.add(asked.value, value);
                all.extend([edges, of_metric]);
            }
            Ok(all)
        }
        _ => Ok(Vec::new()),
    }
}

/// Circuits by the size of their edges' mean scores.
fn chosen(
    engine: &Engine,
    pairs: Pairs,
    attribution: &Attribution,
    greedy: &[GreedyCircuit],
) -> Result<Vec<(String, Circuit)>, Error> {
    let config = &engine.model().config;
    let question = engine.edges(edges(config), Extent::Whole, pairs)?;
    let mut means = MeanScores::of_column(0);
    question.attribute(attribution, ScoreColumns::default(), &mut [&mut means])?;
    let scores = means.of_edges(config);
    let of = |asked: &GreedyCircuit| {
        let mut circuit = Circuit::new(config, &scores);
        circuit.choose(Selection::Greedy(asked.n), Worth::Size);
        (asked.n.to_string(), circuit)
    };
    Ok(greedy.iter().map(of).collect())
}
