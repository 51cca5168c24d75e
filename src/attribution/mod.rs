//! Attribution: estimates, by gradients, of what patches would do.
//!
//! A run with a patch is estimated to first order: metric(run) − metric(base) ≈ Σ Δ · g, where Δ is what
//! the patch changes and g the metric's gradient at some points between base and source. Two forward
//! passes and a backward one a point stand for thousands of runs. How good that is depends on how far the
//! model is from linear in between; the exact runs are there to compare with.
//!
//! | concept | where |
//! |---|---|
//! | methods, and which flags they take | here |
//! | points at which gradients are taken, and their weights | `path.rs` |
//! | means of gradients over a path | `mean.rs` |
//! | scores of runs, as sweeps make them | [`nodes`] |
//! | scores of edges | [`edges`], `products.rs` |
//! | AtP*'s corrections for queries, keys and effects that cancel | `star.rs` |
//! | information-flow routes | [`flow`] |
//! | how estimates agree with exact runs | [`agreement`] |

pub mod agreement;
pub mod edges;
pub mod flow;
mod mean;
pub mod nodes;
mod path;
mod products;
mod star;

use std::fmt;
use std::str::FromStr;

use crate::backend::adjoint::Frozen;
use crate::execute::ExecuteError;
use crate::model::Config;
use crate::prompt::pair::Pair;
use crate::results::metric::Metric;

/// How gradients become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The gradient at one point, or at both ends: attribution patching (Nanda 2023), of edges EAP (Syed et al. 2023).
    Attribution,
    /// The mean of the gradients of base and source.
    CleanCorrupted,
    /// Integrated gradients from source to base along the token embedding (Hanna et al. 2024).
    EapIgInputs,
    /// The same along the output of one block after the other.
    EapIgActivations,
    /// Relevance patching (Jafari et al. 2025): layer norms' scales and activation functions' slopes held.
    Relp,
    /// AtP* (Kramár et al. 2024), of nodes: the softmax of patched queries and keys exactly, and GradDrop.
    AtpStar,
    /// Information-flow routes (Ferrando and Voita 2024), of edges: shares of what a receiver reads.
    Ifr,
}

/// Names of methods; two of them mean one.
const METHODS: [(&str, Method); 8] = [
    ("attribution", Method::Attribution),
    ("eap", Method::Attribution),
    ("clean-corrupted", Method::CleanCorrupted),
    ("eap-ig-inputs", Method::EapIgInputs),
    ("eap-ig-activations", Method::EapIgActivations),
    ("relp", Method::Relp),
    ("atp-star", Method::AtpStar),
    ("ifr", Method::Ifr),
];

/// Where on a path of so many steps gradients are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rule {
    /// k / m as EAP-IG has it: of edges k from 0 to m − 1, of nodes and activations k from 1 to m.
    Left,
    /// (k + ½) / m.
    #[default]
    Midpoint,
    /// k / m from 0 to m, both ends by half.
    Trapezoid,
}

const RULES: [(&str, Rule); 3] = [
    ("left", Rule::Left),
    ("midpoint", Rule::Midpoint),
    ("trapezoid", Rule::Trapezoid),
];

/// At which prompt the gradient is taken, where it is not taken along a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GradientAt {
    /// The base.
    #[default]
    Base,
    /// The source.
    Source,
    /// The mean of both.
    Both,
}

const POINTS: [(&str, GradientAt); 3] = [
    ("base", GradientAt::Base),
    ("source", GradientAt::Source),
    ("both", GradientAt::Both),
];

/// A name that none of some things has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: write {known}")]
pub struct UnknownName {
    what: &'static str,
    text: String,
    known: String,
}

fn named<T: Copy>(what: &'static str, names: &[(&str, T)], text: &str) -> Result<T, UnknownName> {
    let found = names.iter().find(|(name, _)| *name == text.trim());
    found.map(|(_, thing)| *thing).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        UnknownName {
            what,
            text: text.to_owned(),
            known: known.join(", "),
        }
    })
}

impl FromStr for Method {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        named("method", &METHODS, text)
    }
}

impl FromStr for Rule {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        named("rule", &RULES, text)
    }
}

impl FromStr for GradientAt {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        named("point", &POINTS, text)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = METHODS.iter().find(|(_, method)| method == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// What is estimated, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribution {
    /// The method.
    pub method: Method,
    /// Steps of a path.
    pub steps: usize,
    /// Points of a path.
    pub rule: Rule,
    /// Where the gradient is taken, off a path.
    pub at: GradientAt,
    /// Of what.
    pub metric: Metric,
}

/// What cannot be attributed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttributionError {
    /// A metric without a derivative.
    #[error(
        "{metric} has no gradient: use logit, logprob, prob, logit_diff, prob_diff, kl or entropy"
    )]
    NoGradient {
        /// The metric.
        metric: Metric,
    },
    /// A wish that the method has no use for.
    #[error("{flag} is for eap-ig-inputs and eap-ig-activations: leave it out with {method}")]
    Unused {
        /// As it is typed.
        flag: &'static str,
        /// The method.
        method: Method,
    },
    /// A wish for another point than the method's.
    #[error("--gradient-at: {method} says itself where gradients are taken; leave it out")]
    OwnPoints {
        /// The method.
        method: Method,
    },
    /// A wish for a point where there is no gradient.
    #[error("--gradient-at: ifr takes no gradient; leave it out")]
    Gradientless,
    /// AtP* of edges, or routes of nodes.
    #[error("{method} is of {of}: use attribute {of}, or another --method")]
    NotOf {
        /// The method.
        method: Method,
        /// What it is of.
        of: &'static str,
    },
    /// A metric that has nothing to do with the method.
    #[error(
        "{metric}: ifr measures no metric that could be a share of anything; leave recovery_ out"
    )]
    NoShare {
        /// The metric.
        metric: Metric,
    },
    /// GradDrop where all but one layer are none.
    #[error(
        "atp-star drops the gradient of one layer after the other, and this model has one layer: use attribution"
    )]
    OneLayer,
    /// No steps at all.
    #[error("--steps 0: a path has one step or more")]
    NoSteps,
    /// Nothing to go to.
    #[error("attribution is of what a source prompt would change: give --source, or a data set's")]
    NoSource,
    /// Positions of one prompt that the other does not have.
    #[error(
        "pair {pair}: the base prompt has {base} tokens and the source {source_length}, but {method} puts the one's activations in the other's places: give prompts of equal length"
    )]
    Lengths {
        /// Index of the pair.
        pair: usize,
        /// Tokens of the base.
        base: usize,
        /// Tokens of the source.
        source_length: usize,
        /// What needs them alike.
        method: String,
    },
    /// A run that is not one step away from its base.
    #[error(
        "pair {pair}, run {run}: {what} cannot be estimated: estimates are of interchange, zero, set, add, subtract, scale and interpolate on clean runs"
    )]
    Run {
        /// Index of the pair.
        pair: usize,
        /// Index of the run.
        run: usize,
        /// What is in the way.
        what: &'static str,
    },
    /// Runs that do not fit the model or the memory, or an interruption.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

impl Attribution {
    /// A method with its own defaults: five steps by midpoints, the gradient at the base.
    pub fn of(method: Method, metric: Metric) -> Self {
        Self {
            method,
            steps: 5,
            rule: Rule::default(),
            at: GradientAt::default(),
            metric,
        }
    }

    /// The method with what was asked for beside it, each where it was.
    ///
    /// # Errors
    ///
    /// [`AttributionError`] of what the method has no use for.
    pub fn with(
        method: Method,
        metric: Metric,
        (steps, rule, at): (Option<usize>, Option<Rule>, Option<GradientAt>),
    ) -> Result<Self, AttributionError> {
        let along = Self::is_along_a_path(method);
        for (flag, given) in [("--steps", steps.is_some()), ("--rule", rule.is_some())] {
            if given && !along {
                return Err(AttributionError::Unused { flag, method });
            }
        }
        match method {
            Method::Ifr if at.is_some() => return Err(AttributionError::Gradientless),
            _ if at.is_some() && (along || Self::has_own_points(method)) => {
                return Err(AttributionError::OwnPoints { method });
            }
            _ => {}
        }
        let own = Self::of(method, metric);
        Ok(Self {
            steps: steps.unwrap_or(own.steps),
            rule: rule.unwrap_or(own.rule),
            at: at.unwrap_or(own.at),
            ..own
        })
    }

    /// Refuses what cannot be computed.
    ///
    /// # Errors
    ///
    /// [`AttributionError::NoSteps`].
    pub fn check(&self) -> Result<(), AttributionError> {
        match self.steps {
            0 => Err(AttributionError::NoSteps),
            _ => Ok(()),
        }
    }

    /// Whether a method says itself where gradients are taken, off a path.
    pub fn has_own_points(method: Method) -> bool {
        matches!(
            method,
            Method::CleanCorrupted | Method::AtpStar | Method::Ifr
        )
    }

    /// Whether gradients are taken along a path.
    pub fn is_along_a_path(method: Method) -> bool {
        matches!(method, Method::EapIgInputs | Method::EapIgActivations)
    }

    /// How many runs a pair's gradients are taken at.
    pub fn runs(&self, config: &Config) -> usize {
        path::count(self, config)
    }

    /// What is held constant on the way back.
    fn frozen(&self) -> Frozen {
        match self.method {
            Method::Relp => Frozen::RELP,
            _ => Frozen::default(),
        }
    }

    /// Whether a gradient is taken elsewhere than in the base's own run.
    fn needs_source_run(&self) -> bool {
        self.at != GradientAt::Base
            || matches!(self.method, Method::CleanCorrupted)
            || Self::is_along_a_path(self.method)
    }

    /// The source of a pair, whose every position is put in the base's where gradients are taken elsewhere than
    /// in the base, or `aligned` says so.
    fn source<'p>(
        &self,
        index: usize,
        pair: &'p Pair,
        aligned: bool,
    ) -> Result<Option<&'p [u32]>, AttributionError> {
        let Some(source) = pair.source.as_deref() else {
            return match aligned || self.needs_source_run() {
                true => Err(AttributionError::NoSource),
                false => Ok(None),
            };
        };
        let (base, source_length) = (pair.base.len(), source.len());
        match (aligned || self.needs_source_run()) && base != source_length {
            true => Err(AttributionError::Lengths {
                pair: index,
                base,
                source_length,
                method: match self.method {
                    Method::Attribution if !aligned => "a gradient at the source".to_owned(),
                    method => method.to_string(),
                },
            }),
            false => Ok(Some(source)),
        }
    }
}

/// Scores of one pair: for each run, one for each of the metric's values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairScores {
    /// How many values the metric has of a run.
    pub values: usize,
    /// Run by run.
    pub scores: Vec<f64>,
}

impl PairScores {
    /// The score of a run for the pair's target of this index.
    pub fn of(&self, run: usize, target: usize) -> f64 {
        self.scores[run * self.values + target.min(self.values - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_manual_says() {
        for (name, method) in METHODS {
            assert_eq!(name.parse(), Ok(method));
        }
        let refused = "atp".parse::<Method>().unwrap_err().to_string();
        assert!(refused.starts_with("`atp` is no method: write attribution, eap,"));
        assert_eq!(Method::Relp.to_string(), "relp");
        assert_eq!("trapezoid".parse(), Ok(Rule::Trapezoid));
        assert_eq!("both".parse(), Ok(GradientAt::Both));
        assert!("middle".parse::<Rule>().is_err());
    }
}
