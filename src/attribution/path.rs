//! Points between source and base at which gradients are taken.

use std::sync::Arc;

use super::{Attribution, GradientAt, Method, Rule};
use crate::execute::activations::CleanRows;
use crate::model::Config;
use crate::plan::edit::{Edit, EditOp, Space, Value};
use crate::plan::tape::TapedRun;
use crate::site::Stage;

/// What is attributed: where EAP-IG's two levels differ in which end they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Edges.
    Edges,
    /// Runs that patch sites.
    Nodes,
}

/// A run at which the gradient is taken, and what it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct PathPoint {
    /// Weights of a pair's points sum up to one.
    pub weight: f64,
    /// The run.
    pub run: TapedRun,
}

/// A pair's two prompts, as far as they are read out, and where their clean rows stand.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// Token ids of the base.
    pub base: &'a [u32],
    /// Of the source.
    pub source: &'a [u32],
    /// What both compute clean.
    pub rows: &'a CleanRows,
    /// Index of the base there.
    pub base_at: usize,
    /// Index of the source.
    pub source_at: usize,
}

/// Stages whose clean rows a method's points are made of.
pub fn places(method: Method, config: &Config) -> Vec<(Stage, usize)> {
    let mut places = Vec::new();
    if Attribution::is_along_a_path(method) {
        places.push((Stage::TokenEmbedding, 0));
    }
    if method == Method::EapIgActivations {
        let blocks = [Stage::AttentionOutput, Stage::MlpOutput];
        places.extend((0..config.layers).flat_map(|l| blocks.map(|stage| (stage, l))));
    }
    places
}

/// Weights and fractions of the way from the source to the base.
fn fractions(rule: Rule, steps: usize, first: usize) -> Vec<(f64, f64)> {
    let m = steps as f64;
    match rule {
        Rule::Left => (first..first + steps)
            .map(|k| (1.0 / m, k as f64 / m))
            .collect(),
        Rule::Midpoint => (0..steps)
            .map(|k| (1.0 / m, (k as f64 + 0.5) / m))
            .collect(),
        Rule::Trapezoid => (0..=steps)
            .map(|k| {
                let end = k == 0 || k == steps;
                (if end { 0.5 / m } else { 1.0 / m }, k as f64 / m)
            })
            .collect(),
    }
}

/// How many points a pair has.
pub fn count(attribution: &Attribution, config: &Config) -> usize {
    let Attribution { steps, rule, .. } = *attribution;
    let along = fractions(rule, steps, 0).len();
    match (attribution.method, attribution.at) {
        (Method::EapIgInputs, _) => along,
        (Method::EapIgActivations, _) => along * places(Method::EapIgActivations, config).len(),
        (Method::CleanCorrupted, _) | (_, GradientAt::Both) => 2,
        _ => 1,
    }
}

/// The points of a pair; `ends` are needed where a method has points elsewhere than in the base.
pub fn points(
    attribution: &Attribution,
    unit: Granularity,
    base: &[u32],
    ends: Option<Ends<'_>>,
    config: &Config,
) -> Vec<PathPoint> {
    let whole = |weight, ids: &[u32]| PathPoint {
        weight,
        run: TapedRun {
            ids: ids.to_vec(),
            edits: Vec::new(),
        },
    };
    let Some(ends) = ends else {
        return vec![whole(1.0, base)];
    };
    let Attribution { steps, rule, .. } = *attribution;
    let between = |stage, layer, (weight, fraction): (f64, f64)| PathPoint {
        weight,
        run: TapedRun {
            ids: base.to_vec(),
            edits: ends.between(stage, layer, fraction, config),
        },
    };
    match (attribution.method, attribution.at) {
        (Method::EapIgInputs, _) => {
            let first = usize::from(unit == Granularity::Nodes);
            let all = fractions(rule, steps, first).into_iter();
            all.map(|at| between(Stage::TokenEmbedding, 0, at))
                .collect()
        }
        (Method::EapIgActivations, _) => {
            let blocks = places(Method::EapIgActivations, config);
            let count = blocks.len() as f64;
            let of = |(stage, layer): (Stage, usize)| {
                let all = fractions(rule, steps, 1).into_iter();
                all.map(move |(weight, at)| between(stage, layer, (weight / count, at)))
            };
            blocks.into_iter().flat_map(of).collect()
        }
        (Method::CleanCorrupted, _) | (_, GradientAt::Both) => {
            vec![whole(0.5, ends.base), whole(0.5, ends.source)]
        }
        (_, GradientAt::Source) => vec![whole(1.0, ends.source)],
        (_, GradientAt::Base) => vec![whole(1.0, base)],
    }
}

impl Ends<'_> {
    /// Edits that set a stage to what stands a fraction of the way from the source to the base.
    fn between(&self, stage: Stage, layer: usize, fraction: f64, config: &Config) -> Vec<Edit> {
        let width = stage.width().numbers(config, 0);
        let mut values = Vec::with_capacity(self.base.len() * width);
        for position in 0..self.base.len() {
            let row = |prompt| self.rows.row(prompt, stage, layer, position);
            let pairs = row(self.base_at).iter().zip(row(self.source_at));
            values.extend(pairs.map(|(b, s)| fraction * b + (1.0 - fraction) * s));
        }
        let values: Arc<[f64]> = values.into();
        let edit = |position: usize| Edit {
            layer,
            stage,
            position,
            head: 0,
            column: 0,
            length: width,
            op: EditOp::Set,
            value: Value::Constant(values.clone(), position * width),
            space: Space::Row,
        };
        (0..self.base.len()).map(edit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_up_to_one_and_points_stand_where_the_rule_says() {
        for rule in [Rule::Left, Rule::Midpoint, Rule::Trapezoid] {
            for steps in 1..7 {
                let sum: f64 = fractions(rule, steps, 0).iter().map(|(w, _)| w).sum();
                assert!((sum - 1.0).abs() < 1e-15, "{rule:?} {steps}");
            }
        }
        assert_eq!(fractions(Rule::Left, 2, 0), [(0.5, 0.0), (0.5, 0.5)]);
        assert_eq!(fractions(Rule::Left, 2, 1), [(0.5, 0.5), (0.5, 1.0)]);
        assert_eq!(fractions(Rule::Midpoint, 2, 0), [(0.5, 0.25), (0.5, 0.75)]);
        let ends = [(0.25, 0.0), (0.5, 0.5), (0.25, 1.0)];
        assert_eq!(fractions(Rule::Trapezoid, 2, 0), ends);
    }
}
