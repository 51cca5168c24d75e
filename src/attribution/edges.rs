//! Scores of edges: Σ (what the sender contributes in the source − in the base) · gradient of what the receiver reads.

use std::collections::HashMap;

use super::mean::{MeanGradient, PathMeans, Place, PointOf, TakeMeans};
use super::nodes::{empty, gradient_run, length};
use super::path::{Ends, Granularity, places, points};
use super::products::products;
use super::{Attribution, AttributionError, Method, PairScores, flow};
use crate::backend::adjoint::Adjoints;
use crate::execute::activations::CleanRows;
use crate::execute::gradient::{GradientPlan, gradients};
use crate::execute::{ExecuteError, Limits};
use crate::graph::contribution::Differences;
use crate::graph::edge::Edge;
use crate::graph::extent::Extent;
use crate::graph::node::Sender;
use crate::model::{Checkpoint, Config};
use crate::plan::tape::AskedGradients;
use crate::prompt::pair::Pair;
use crate::site::Stage;

/// Bytes of differences that are held together, unless one pair's are more.
const BYTES: usize = 256 << 20;

/// Edges that are scored, whole or position by position.
pub type EdgeList<'a> = (&'a [Edge], Extent);

/// Estimates edges of some pairs, in the order of [`Extent::edge`].
///
/// # Errors
///
/// [`AttributionError`]: pairs without a source or of unequal lengths, a budget too small, or an
/// interruption.
pub fn scores<B: Adjoints>(
    backend: &B,
    model: &Checkpoint,
    pairs: &[&Pair],
    edges: EdgeList<'_>,
    attribution: &Attribution,
    limits: &Limits<'_>,
) -> Result<(Vec<PairScores>, GradientPlan), AttributionError> {
    attribution.check()?;
    check(pairs, attribution)?;
    if attribution.method == Method::Ifr {
        let scores = flow::scores(backend, model, pairs, edges, attribution, limits)?;
        let plan = GradientPlan {
            runs: scores.len(),
            ..GradientPlan::default()
        };
        return Ok((scores, plan));
    }
    let config = backend.config();
    let mut senders: Vec<Sender> = edges.0.iter().map(|edge| edge.sender).collect();
    senders.sort_unstable_by_key(|sender| sender.index(config));
    senders.dedup();
    let (mut all, mut plan, mut first) = (Vec::new(), GradientPlan::default(), 0);
    while first < pairs.len() {
        let bytes = |pair: &&Pair| 8 * senders.len() * length(pair) * config.width;
        let budget = BYTES.min(limits.memory as usize / 4);
        let (mut count, mut held) = (1, bytes(&pairs[first]));
        if held as u64 > limits.memory {
            return Err(AttributionError::Execute(ExecuteError::Memory {
                needed: held as u64,
                budget: limits.memory,
            }));
        }
        while let Some(next) = pairs.get(first + count).map(bytes)
            && held + next <= budget
        {
            held += next;
            count += 1;
        }
        let group = Group {
            pairs: &pairs[first..first + count],
            senders: &senders,
            edges,
            model,
        };
        let (scores, executed) = group.scores(backend, attribution, limits)?;
        all.extend(scores);
        plan += executed;
        first += count;
    }
    Ok((all, plan))
}

/// Refuses pairs whose edges cannot be estimated.
///
/// # Errors
///
/// [`AttributionError`] without a source, and where lengths differ.
pub fn check(pairs: &[&Pair], attribution: &Attribution) -> Result<(), AttributionError> {
    if attribution.method == Method::AtpStar {
        return Err(AttributionError::NotOf {
            method: Method::AtpStar,
            of: "nodes",
        });
    }
    let mut each = pairs.iter().enumerate();
    each.try_for_each(|(p, pair)| attribution.source(p, pair, true).map(|_| ()))
}

struct Group<'a> {
    pairs: &'a [&'a Pair],
    senders: &'a [Sender],
    edges: EdgeList<'a>,
    model: &'a Checkpoint,
}

/// Where what an edge's receiver reads is a gradient's.
fn place(edge: &Edge, config: &Config) -> Place {
    let (component, layer, head) = edge.receiver.site(config);
    (layer, component.stage(), head)
}

impl Group<'_> {
    fn scores<B: Adjoints>(
        &self,
        backend: &B,
        attribution: &Attribution,
        limits: &Limits<'_>,
    ) -> Result<(Vec<PairScores>, GradientPlan), AttributionError> {
        let config = backend.config();
        let mut kept = places(attribution.method, config);
        for sender in self.senders {
            kept.push(Differences::place(*sender));
        }
        kept.sort_unstable();
        kept.dedup();
        let mut prompts: Vec<&[u32]> = Vec::new();
        for pair in self.pairs {
            let length = length(pair);
            prompts.push(&pair.base[..length]);
            prompts.push(&pair.source.as_deref().unwrap_or(&pair.base)[..length]);
        }
        let (rows, at) = CleanRows::new(backend, &prompts, &kept, limits)?;
        let mut differences = Vec::with_capacity(self.pairs.len());
        let (mut runs, mut point_of) = (Vec::new(), Vec::new());
        for (p, pair) in self.pairs.iter().enumerate() {
            let [base, source] = [prompts[2 * p], prompts[2 * p + 1]];
            let ends = Ends {
                base,
                source,
                rows: &rows,
                base_at: at[2 * p],
                source_at: at[2 * p + 1],
            };
            let between = Differences::between(config, &rows, [ends.base_at, ends.source_at]);
            let of = self.senders.iter();
            let of: Vec<Vec<f64>> = of.map(|s| between.rows(*s, self.model)).collect();
            differences.push(of);
            for point in points(attribution, Granularity::Edges, base, Some(ends), config) {
                point_of.push(PointOf {
                    pair: p,
                    weight: point.weight,
                });
                runs.push(gradient_run(point.run, pair, base, attribution));
            }
        }
        let (edges, extent) = self.edges;
        let asked: AskedGradients = edges
            .iter()
            .map(|edge| {
                let (layer, stage, _) = place(edge, config);
                (layer, stage)
            })
            .collect();
        let mut by_place: HashMap<Place, Vec<(usize, usize)>> = HashMap::new();
        for (e, edge) in edges.iter().enumerate() {
            let sender = self.senders.iter().position(|s| *s == edge.sender);
            let entry = by_place.entry(place(edge, config)).or_default();
            entry.extend(sender.map(|sender| (e, sender)));
        }
        let lengths: Vec<usize> = self.pairs.iter().map(|pair| pair.base.len()).collect();
        let mut taking = Taking {
            scores: empty(self.pairs, attribution, |p| {
                edges.len() * extent.positions(lengths[p]).len()
            }),
            by_place,
            waiting: Vec::new(),
            differences: &differences,
            extent,
            lengths: &lengths,
            width: config.width,
        };
        let mut sink = PathMeans::new(self.pairs, attribution.metric, &point_of, &mut taking);
        let of = (&asked, attribution.frozen());
        let plan = gradients(backend, &runs, of, limits, &mut sink)?;
        taking.flush();
        Ok((taking.scores, plan))
    }
}

struct Taking<'a> {
    scores: Vec<PairScores>,
    /// Edges and their senders, by what the receiver reads.
    by_place: HashMap<Place, Vec<(usize, usize)>>,
    /// Means of one stage, whose heads are multiplied together.
    waiting: Vec<MeanGradient>,
    /// Of each pair, by sender: `[positions, width]`.
    differences: &'a [Vec<Vec<f64>>],
    extent: Extent,
    lengths: &'a [usize],
    width: usize,
}

impl TakeMeans for Taking<'_> {
    fn take(&mut self, means: Vec<MeanGradient>) {
        let at = |mean: &MeanGradient| -> (usize, Stage) { (mean.place.0, mean.place.1) };
        if let (Some(last), Some(next)) = (self.waiting.first(), means.first())
            && at(last) != at(next)
        {
            self.flush();
        }
        self.waiting.extend(means);
    }
}

impl Taking<'_> {
    /// Multiplies what waits: receivers of one pair and value together.
    fn flush(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|mean| (mean.pair, mean.which, mean.place.2));
        for means in waiting.chunk_by(|a, b| (a.pair, a.which) == (b.pair, b.which)) {
            self.multiply(means);
        }
    }

    fn multiply(&mut self, means: &[MeanGradient]) {
        let (pair, which) = (means[0].pair, means[0].which);
        let edges = means.iter().map(|mean| self.by_place.get(&mean.place));
        let edges: Vec<&[(usize, usize)]> = edges.map(|e| e.map_or(&[][..], |e| e)).collect();
        let mut senders: Vec<usize> = edges.iter().flat_map(|e| e.iter().map(|e| e.1)).collect();
        senders.sort_unstable();
        senders.dedup();
        let all = &self.differences[pair];
        let length = self.lengths[pair];
        let of = &mut self.scores[pair];
        let mut put = |run: usize, score: f64| of.scores[run * of.values + which] = score;
        let mut part = |rows: std::ops::Range<usize>, run: &dyn Fn(usize) -> usize| {
            let cut = |row: &[f64]| -> std::ops::Range<usize> {
                rows.start * self.width..(rows.end * self.width).min(row.len())
            };
            let left: Vec<&[f64]> = senders.iter().map(|s| &all[*s][cut(&all[*s])]).collect();
            let right: Vec<&[f64]> = means.iter().map(|m| &m.values[cut(&m.values)]).collect();
            let products = products(&left, &right);
            for (r, edges) in edges.iter().enumerate() {
                for (edge, sender) in *edges {
                    let s = senders.binary_search(sender).unwrap_or(0);
                    put(run(*edge), products[s * right.len() + r]);
                }
            }
        };
        match self.extent {
            Extent::Whole => part(0..length, &|edge| edge),
            Extent::PerPosition => {
                // rows behind the last readout move nothing
                let seen = means[0].values.len() / self.width;
                for p in 0..seen {
                    part(p..p + 1, &|edge| edge * length + p);
                }
            }
        }
    }
}
