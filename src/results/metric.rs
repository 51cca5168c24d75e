//! What is read of a run's next-token distribution, beyond each target's probability.
//!
//! | metric | of a run at its last position | unit |
//! |---|---|---|
//! | `prob`, `logprob`, `logit` | of the row's target | –, nats, logits |
//! | `rank` | tokens more probable than the row's target; 0 is the most probable | tokens |
//! | `logit_diff` | mean logit of the targets − mean logit of the wrong targets | logits |
//! | `prob_diff` | Σ p(targets) − Σ p(wrong targets), as for Greater-Than | – |
//! | `kl` | KL(base‖run) | nats |
//! | `top1` | 1 if the most probable token is a target, else 0 | – |
//! | `entropy` | −Σ p ln p | nats |
//! | `loss` | mean of −ln p of the prompt's own tokens, each after those before it, up to that position | nats |
//! | `recovery_…` | (x − base) / (source − base) of any of these: 0 as in the base, 1 as in the source | – |
//!
//! Of a recovery whose base and source do not differ there is no value: it is NaN, or infinite. Over pairs it is
//! that of the means, see [`crate::results::recovery`].
//! All but `loss` are computed from one readout; no logits are stored. Of an answer of several tokens `prob` and `logprob`
//! are those of the whole (chain rule), which `prob_diff` adds up; it has no logit and no rank. `kl` and `entropy` stay those of the
//! distribution at the prompt's end.

use std::fmt;
use std::str::FromStr;

use crate::backend::Readout;
use crate::execute::gradient::LogitWeights;
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::recovery::Levels;

/// A number that a distribution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the documentation; see the module for what each is
pub enum Quantity {
    Prob,
    Logprob,
    Logit,
    Rank,
    LogitDiff,
    ProbDiff,
    Kl,
    Top1,
    Entropy,
    Loss,
}

use Quantity as Q;

const NAMES: [(Quantity, &str); 10] = [
    (Q::Prob, "prob"),
    (Q::Logprob, "logprob"),
    (Q::Logit, "logit"),
    (Q::Rank, "rank"),
    (Q::LogitDiff, "logit_diff"),
    (Q::ProbDiff, "prob_diff"),
    (Q::Kl, "kl"),
    (Q::Top1, "top1"),
    (Q::Entropy, "entropy"),
    (Q::Loss, "loss"),
];

/// A column of a result: a quantity, or how far it has gone from the base's to the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Metric {
    /// What is measured.
    pub quantity: Quantity,
    /// Whether as (x − base) / (source − base).
    pub recovery: bool,
}

/// What is wrong with a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// No metric.
    #[error(
        "unknown metric `{name}`: use prob, logprob, logit, rank, logit_diff, prob_diff, kl, top1, entropy, loss, or recovery_ before one of them, as in recovery_logit_diff"
    )]
    Unknown {
        /// As given.
        name: String,
    },
    /// A metric named twice.
    #[error("the metric {name} is named twice: name each once")]
    Twice {
        /// Its name.
        name: String,
    },
    /// A difference without something to subtract.
    #[error(
        "{metric} needs wrong answers, but pair {pair} has none: give wrong_targets in the data set, or --wrong-target"
    )]
    NoWrong {
        /// The metric.
        metric: Metric,
        /// Index of the pair.
        pair: usize,
    },
    /// A quantity of tokens where answers are of several.
    #[error(
        "{metric} is of single tokens, but pair {pair} has an answer of several: name prob, logprob or prob_diff, or have its first token count"
    )]
    SeveralTokens {
        /// The metric.
        metric: Metric,
        /// Index of the pair.
        pair: usize,
    },
    /// A recovery without something to recover.
    #[error("{metric} needs a source prompt, but pair {pair} has none: give one, or name {}", metric.quantity)]
    NoSource {
        /// The metric.
        metric: Metric,
        /// Index of the pair.
        pair: usize,
    },
}

/// What was read of a run, and of its pair's clean prompts.
#[derive(Debug, Clone, Copy)]
pub struct RunReadouts<'a> {
    /// The prompts and answers.
    pub pair: &'a Pair,
    /// Of the clean base.
    pub base: &'a Readout,
    /// Of the clean source, where there is one.
    pub source: Option<&'a Readout>,
    /// Of the run.
    pub run: &'a Readout,
}

impl Quantity {
    /// The quantity of one distribution; `target` is the row's target, by its index.
    fn of(self, pair: &Pair, readout: &Readout, target: usize) -> f64 {
        let right = pair.targets.len();
        let logit = |i: usize| readout.logits.get(i).copied().unwrap_or(f64::NAN);
        let prob = |i: usize| readout.log_probability_of(i).exp();
        let rank = |i: usize| {
            readout
                .ranks
                .get(i)
                .map_or(f64::NAN, |rank| f64::from(*rank))
        };
        let wrong = right..right + pair.wrong.len();
        match self {
            Q::Prob => prob(target),
            Q::Logprob => readout.log_probability_of(target),
            Q::Logit => logit(target),
            Q::Rank => rank(target),
            Q::LogitDiff => mean((0..right).map(logit)) - mean(wrong.map(logit)),
            Q::ProbDiff => (0..right).map(prob).sum::<f64>() - wrong.map(prob).sum::<f64>(),
            // A divergence is never negative, but what rounding leaves of none may be. What is not
            // finite stays so.
            Q::Kl if readout.kl <= 0.0 => 0.0,
            Q::Kl => readout.kl,
            Q::Top1 => f64::from((0..right).any(|i| rank(i) == 0.0)),
            Q::Entropy => readout.entropy,
            Q::Loss => readout.loss.unwrap_or(f64::NAN),
        }
    }

    /// Its gradient by the logits of one distribution; `target` is the row's target, by its index. Of a rank
    /// there is none.
    fn gradient(self, pair: &Pair, readout: &Readout, target: usize) -> Option<LogitWeights> {
        let prob = |i: usize| readout.log_probability_of(i).exp();
        let one = |count: f64, spread: f64| {
            let id = pair.targets.get(target)?;
            Some(LogitWeights {
                weights: vec![(*id, count)],
                spread,
                ..LogitWeights::default()
            })
        };
        let (right, wrong) = (pair.targets.len(), pair.wrong.len());
        let signed = |of: &dyn Fn(usize) -> f64| -> Vec<(u32, f64)> {
            let ids = pair.targets.iter().chain(&pair.wrong).enumerate();
            let signed = ids.map(|(i, id)| (*id, if i < right { of(i) } else { -of(i) }));
            signed.collect()
        };
        match self {
            Q::Rank | Q::Top1 | Q::Loss => None,
            Q::Logit => one(1.0, 0.0),
            Q::Logprob => one(1.0, -1.0),
            Q::Prob => one(prob(target), -prob(target)),
            Q::LogitDiff => Some(LogitWeights {
                weights: signed(&|i| {
                    1.0 / if i < right {
                        right as f64
                    } else {
                        wrong as f64
                    }
                }),
                ..LogitWeights::default()
            }),
            Q::ProbDiff => {
                let weights = signed(&prob);
                let spread = -weights.iter().map(|(_, count)| count).sum::<f64>();
                Some(LogitWeights {
                    weights,
                    spread,
                    ..LogitWeights::default()
                })
            }
            Q::Kl => Some(LogitWeights {
                spread: 1.0,
                compared: -1.0,
                ..LogitWeights::default()
            }),
            Q::Entropy => Some(LogitWeights {
                surprise: -1.0,
                ..LogitWeights::default()
            }),
        }
    }

    /// Whether it differs between the targets of a run.
    fn is_of_target(self) -> bool {
        matches!(self, Q::Prob | Q::Logprob | Q::Logit | Q::Rank)
    }
}

impl Metric {
    /// The least and the most that it can be. A recovery, whose source may be the base, can be anything.
    pub(crate) fn range(self) -> [f64; 2] {
        let anything = [f64::NEG_INFINITY, f64::INFINITY];
        match self.quantity {
            _ if self.recovery => anything,
            Q::Prob | Q::Top1 => [0.0, 1.0],
            Q::ProbDiff => [-1.0, 1.0],
            Q::Logprob => [f64::NEG_INFINITY, 0.0],
            Q::Kl | Q::Loss => [0.0, f64::INFINITY],
            Q::Rank | Q::Entropy => [0.0, f64::MAX],
            Q::Logit | Q::LogitDiff => [f64::MIN, f64::MAX],
        }
    }

    /// A quantity as it is.
    pub fn plain(quantity: Quantity) -> Self {
        Self {
            quantity,
            recovery: false,
        }
    }

    /// Its value of a run, for the pair's target of this index.
    pub fn of(&self, reading: &RunReadouts<'_>, target: usize) -> f64 {
        match self.recovery {
            false => self.quantity.of(reading.pair, reading.run, target),
            true => self.levels(reading, target).recovery(),
        }
    }

    /// Its quantity of a run and of the clean prompts, for the pair's target of this index.
    pub fn levels(&self, reading: &RunReadouts<'_>, target: usize) -> Levels {
        let of = |readout| self.quantity.of(reading.pair, readout, target);
        Levels {
            run: of(reading.run),
            base: of(reading.base),
            source: reading.source.map_or(f64::NAN, of),
        }
    }

    /// Its value where its quantity is at these levels.
    pub fn at(&self, levels: Levels) -> f64 {
        match self.recovery {
            false => levels.run,
            true => levels.recovery(),
        }
    }

    /// Its value of a run as one number: the mean over the targets, where they differ.
    pub fn of_run(&self, reading: &RunReadouts<'_>) -> f64 {
        mean((0..self.values(reading.pair)).map(|i| self.of(reading, i)))
    }

    /// How many values it has of a run: one for each target where they differ, else one.
    pub fn values(&self, pair: &Pair) -> usize {
        match self.quantity.is_of_target() {
            true => pair.targets.len(),
            false => 1,
        }
    }

    /// Whether it differs between the targets of a run.
    pub fn is_of_target(&self) -> bool {
        self.quantity.is_of_target()
    }

    /// Its gradients by the logits of a run's last row: one for each of its [`Metric::values`], of the quantity
    /// itself where it is a recovery. `None` where it has none, as a rank.
    pub fn gradients(&self, pair: &Pair, readout: &Readout) -> Option<Vec<LogitWeights>> {
        let values = 0..self.values(pair);
        values
            .map(|target| self.quantity.gradient(pair, readout, target))
            .collect()
    }

    /// Whether every result has it as a column anyway.
    pub fn is_column(&self) -> bool {
        !self.recovery && matches!(self.quantity, Q::Prob | Q::Logprob | Q::Logit)
    }

    /// Whether it needs the ranks of the answers.
    pub fn needs_ranks(&self) -> bool {
        matches!(self.quantity, Q::Rank | Q::Top1)
    }

    /// Whether it needs the loss of the prompt's own tokens.
    pub fn needs_loss(&self) -> bool {
        self.quantity == Q::Loss
    }

    /// Whether it needs the distribution compared with the base's.
    pub fn needs_kl(&self) -> bool {
        self.quantity == Q::Kl
    }
}

/// Checks that every pair has what the metrics need.
///
/// # Errors
///
/// [`MetricError`] naming the metric and the first pair that lacks wrong answers or a source.
pub fn check(metrics: &[Metric], pairs: &[PairRuns]) -> Result<(), MetricError> {
    for (i, metric) in metrics.iter().copied().enumerate() {
        if metrics[..i].contains(&metric) {
            let name = metric.to_string();
            return Err(MetricError::Twice { name });
        }
        for (index, PairRuns { pair, .. }) in pairs.iter().enumerate() {
            let differs = matches!(metric.quantity, Q::LogitDiff | Q::ProbDiff);
            if differs && pair.wrong.is_empty() {
                return Err(MetricError::NoWrong {
                    metric,
                    pair: index,
                });
            }
            let of_tokens = matches!(metric.quantity, Q::Logit | Q::LogitDiff | Q::Rank | Q::Top1);
            if of_tokens && !pair.further_tokens.is_empty() {
                return Err(MetricError::SeveralTokens {
                    metric,
                    pair: index,
                });
            }
            if metric.recovery && pair.source.is_none() {
                return Err(MetricError::NoSource {
                    metric,
                    pair: index,
                });
            }
        }
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[*self as usize].1)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovery = if self.recovery { "recovery_" } else { "" };
        write!(f, "{recovery}{}", self.quantity)
    }
}

impl FromStr for Metric {
    type Err = MetricError;

    fn from_str(name: &str) -> Result<Self, MetricError> {
        let name = name.trim();
        let (recovery, quantity) = match name.strip_prefix("recovery_") {
            Some(quantity) => (true, quantity),
            None => (false, name),
        };
        match NAMES.iter().find(|(_, known)| *known == quantity) {
            Some(&(quantity, _)) => Ok(Self { quantity, recovery }),
            None => Err(MetricError::Unknown { name: name.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A distribution over four tokens, read as headlight would, for the given answers.
    fn readout(logits: &[f64], pair: &Pair, base: &[f64]) -> Readout {
        let lse = |l: &[f64]| l.iter().map(|x| x.exp()).sum::<f64>().ln();
        let p = |l: &[f64]| l.iter().map(|x| (x - lse(l)).exp()).collect::<Vec<f64>>();
        let (here, there) = (p(logits), p(base));
        let rank = |id: &u32| logits.iter().filter(|x| **x > logits[*id as usize]).count() as u32;
        Readout {
            log_sum_exp: lse(logits),
            entropy: -here.iter().map(|p| p * p.ln()).sum::<f64>(),
            kl: there.iter().zip(&here).map(|(b, p)| b * (b / p).ln()).sum(),
            logits: pair
                .answers()
                .iter()
                .map(|id| logits[*id as usize])
                .collect(),
            ranks: pair.answers().iter().map(rank).collect(),
            loss: Some(1.0 + logits[0]),
            ..Readout::default()
        }
    }

    #[test]
    fn every_metric_is_what_its_name_says() {
        let ln = |p: [f64; 4]| p.map(f64::ln);
        let (base, source, run) = (
            ln([0.1, 0.2, 0.3, 0.4]),
            ln([0.5, 0.3, 0.1, 0.1]),
            ln([0.4, 0.3, 0.2, 0.1]),
        );
        let pair = Pair {
            targets: vec![0, 1],
            wrong: vec![3],
            ..Pair::default()
        };
        let [base_read, source_read, run_read] =
            [base, source, run].map(|l| readout(&l, &pair, &base));
        let reading = RunReadouts {
            pair: &pair,
            base: &base_read,
            source: Some(&source_read),
            run: &run_read,
        };
        let kl = 0.1 * (0.1f64 / 0.4).ln()
            + 0.2 * (0.2f64 / 0.3).ln()
            + 0.3 * (0.3f64 / 0.2).ln()
            + 0.4 * (0.4f64 / 0.1).ln();
        let entropy =
            -(0.4 * 0.4f64.ln() + 0.3 * 0.3f64.ln() + 0.2 * 0.2f64.ln() + 0.1 * 0.1f64.ln());
        let diff = (0.4f64.ln() + 0.3f64.ln()) / 2.0 - 0.1f64.ln();
        for (name, of_second, of_run) in [
            ("prob", 0.3, 0.35),
            ("logprob", 0.3f64.ln(), (0.4f64.ln() + 0.3f64.ln()) / 2.0),
            ("logit", 0.3f64.ln(), (0.4f64.ln() + 0.3f64.ln()) / 2.0),
            ("rank", 1.0, 0.5),
            ("logit_diff", diff, diff),
            ("prob_diff", 0.6, 0.6),
            ("kl", kl, kl),
            ("top1", 1.0, 1.0),
            ("entropy", entropy, entropy),
            ("loss", 1.0 + 0.4f64.ln(), 1.0 + 0.4f64.ln()),
            ("recovery_prob", 1.0, (0.75 + 1.0) / 2.0),
            ("recovery_prob_diff", 0.7 / 0.8, 0.7 / 0.8),
            ("recovery_top1", 1.0, 1.0),
        ] {
            let metric: Metric = name.parse().unwrap();
            assert_eq!(metric.to_string(), name);
            assert!((metric.of(&reading, 1) - of_second).abs() < 1e-12, "{name}");
            assert!((metric.of_run(&reading) - of_run).abs() < 1e-12, "{name}");
        }
        for metric in NAMES.map(|(quantity, _)| Metric {
            quantity,
            recovery: true,
        }) {
            let at = |run| metric.of_run(&RunReadouts { run, ..reading });
            // rank and top1 may not differ between base and source
            let (zero, one) = (at(&base_read), at(&source_read));
            assert!(zero.abs() < 1e-12 || zero.is_nan(), "{metric} {zero}");
            assert!((one - 1.0).abs() < 1e-12 || one.is_nan(), "{metric} {one}");
        }
        for wrong in [
            "",
            "probability",
            "recovery",
            "recovery_",
            "recovery_recovery_kl",
            "KL",
        ] {
            assert!(wrong.parse::<Metric>().is_err(), "{wrong}");
        }
        assert!(NAMES.iter().enumerate().all(|(i, (q, _))| *q as usize == i));
    }

    #[test]
    fn a_divergence_is_never_negative() {
        let kl = |kl| {
            let readout = Readout {
                kl,
                ..Readout::default()
            };
            Quantity::Kl.of(&Pair::default(), &readout, 0)
        };
        assert_eq!(kl(-1.8e-7).to_bits(), 0.0f64.to_bits());
        assert_eq!(kl(-0.0).to_bits(), 0.0f64.to_bits());
        assert_eq!(kl(2.5), 2.5);
        assert!(kl(f64::NAN).is_nan());
    }

    #[test]
    fn what_a_metric_needs_is_checked() {
        let pairs = |pair: Pair| {
            [PairRuns {
                pair,
                runs: [].into(),
            }]
        };
        let check = |name: &str, pair: Pair| {
            check(&[name.parse().unwrap()], &pairs(pair)).map_err(|e| e.to_string())
        };
        assert!(
            check("logit_diff", Pair::default())
                .unwrap_err()
                .contains("wrong answers")
        );
        assert!(
            check("recovery_kl", Pair::default())
                .unwrap_err()
                .contains("name kl")
        );
        assert_eq!(check("kl", Pair::default()), Ok(()));
    }
}
