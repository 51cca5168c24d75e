//! ACDC (Conmy et al. 2023) on exact runs: from the logits backwards, an edge goes if the metric does not mind.
//!
//! Receivers come from the last to the first, and of each the senders from the last to the first. An edge is
//! dropped if without it the circuit is less than a threshold further away from the whole model: with `kl`, whose
//! value for the whole model is 0, that is the paper's rule. What is dropped stays dropped.
//!
//! Whether an edge goes hangs on those before it, so runs cannot simply be put into a batch. But most edges go:
//! a batch is of circuits without the next edge, without the next two, and so on, as if each of them went. Up to the
//! first that does not, these are the very circuits that one run after the other would have asked for, and a
//! circuit's run does not depend on what else is in its batch; what comes after it is run anew. So the circuit is
//! the same, whatever the batch.

use super::{Circuit, Node};
use crate::graph::node::Receiver;
use crate::model::Config;

/// Circuits of a batch at first, and at most.
const BATCH: (usize, usize) = (4, 64);

/// What a search did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Search {
    /// Edges that were tried.
    pub tried: usize,
    /// Circuits that were run, those in vain among them.
    pub runs: usize,
}

/// Looks for the circuit of a model, whose metric is `whole`; `measure` says the metric of some circuits, and `tell` is
/// told how many edges are done. An edge's score is how much further from the whole model the circuit was without
/// it; one into a node that tells nobody anything is dropped untried, with 0.
///
/// # Errors
///
/// Those of `measure`.
pub fn search<E>(
    config: &Config,
    (threshold, whole): (f64, f64),
    mut measure: impl FnMut(&[&Circuit]) -> Result<Vec<f64>, E>,
    mut tell: impl FnMut(usize),
) -> Result<(Circuit, Search), E> {
    let mut circuit = Circuit::new(config, &Default::default());
    circuit.kept.fill(true);
    let (mut search, mut done, mut size) = (Search::default(), 0, BATCH.0);
    let away = |metric: f64| (metric - whole).abs();
    let mut now = 0.0;
    for receiver in Receiver::all(config).into_iter().rev() {
        let into = circuit.edges.iter().enumerate();
        let into = into.filter(|(_, edge)| edge.receiver == receiver);
        let mut edges: Vec<usize> = into.map(|(e, _)| e).collect();
        edges.sort_by_key(|e| circuit.edges[*e].sender.index(config));
        edges.reverse();
        done += edges.len();
        if !circuit.tells(Node::of(receiver)) {
            edges.iter().for_each(|e| circuit.kept[*e] = false);
            tell(done);
            continue;
        }
        let mut left = &edges[..];
        while !left.is_empty() {
            let batch = &left[..size.min(left.len())];
            let mut without = circuit.clone();
            let circuits = batch.iter().map(|edge| {
                without.kept[*edge] = false;
                without.clone()
            });
            let circuits: Vec<Circuit> = circuits.collect();
            let metrics = measure(&circuits.iter().collect::<Vec<_>>())?;
            search.runs += batch.len();
            let mut settled = 0;
            for (edge, metric) in batch.iter().zip(metrics) {
                settled += 1;
                let after = away(metric);
                circuit.scores[*edge] = after - now;
                if after - now >= threshold || after.is_nan() {
                    // it stays, and so the others were run without it in vain
                    break;
                }
                circuit.kept[*edge] = false;
                now = after;
            }
            let all = settled == batch.len() && !circuit.kept[batch[settled - 1]];
            size = match all {
                true => (2 * size).min(BATCH.1),
                false => (size / 2).max(1),
            };
            search.tried += settled;
            left = &left[settled..];
            tell(done - left.len());
        }
    }
    circuit.prune();
    Ok((circuit, search))
}

impl Circuit {
    /// Whether an edge goes on from a node.
    fn tells(&self, node: Node) -> bool {
        match node {
            Node::Logits => true,
            Node::Sender(sender) => self.kept().any(|edge| edge.sender == sender),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::graph::node::Sender;

    /// A metric that nobody can batch by guessing: how much each edge is worth hangs on which others are there.
    fn metric(circuit: &Circuit) -> f64 {
        let at = circuit.kept.iter().enumerate();
        let mut sum = 0.0;
        let mut last = 1.0;
        for (e, kept) in at {
            let worth = ((e * 7919) % 97) as f64 / 970.0;
            sum += if *kept { worth * last } else { 0.0 };
            last = if *kept { 1.0 } else { 0.3 };
        }
        sum
    }

    /// The definition: one run after the other.
    fn one_by_one(config: &Config, threshold: f64, whole: f64) -> (Vec<bool>, usize) {
        let mut circuit = Circuit::new(config, &Default::default());
        circuit.kept.fill(true);
        let (mut now, mut tried) = (0.0, 0);
        for receiver in Receiver::all(config).into_iter().rev() {
            let told = match Node::of(receiver) {
                Node::Logits => true,
                Node::Sender(sender) => circuit.kept().any(|edge| edge.sender == sender),
            };
            for sender in Sender::all(config).into_iter().rev() {
                let edge = circuit.edges.iter();
                let mut edge = edge.enumerate();
                let found = edge.find(|(_, e)| e.sender == sender && e.receiver == receiver);
                let Some((e, _)) = found else { continue };
                circuit.kept[e] = false;
                if !told {
                    continue;
                }
                tried += 1;
                let after = (metric(&circuit) - whole).abs();
                match after - now < threshold {
                    true => now = after,
                    false => circuit.kept[e] = true,
                }
            }
        }
        circuit.prune();
        (circuit.kept, tried)
    }

    #[test]
    fn batches_find_what_one_run_after_the_other_finds() {
        let config = config(3, 2);
        let mut all = Circuit::new(&config, &Default::default());
        all.kept.fill(true);
        let whole = metric(&all);
        let mut sizes = Vec::new();
        for threshold in [1e-9, 0.01, 0.03, 0.06, 0.09, 10.0] {
            let measure = |circuits: &[&Circuit]| -> Result<Vec<f64>, ()> {
                Ok(circuits.iter().map(|c| metric(c)).collect())
            };
            let mut told = 0;
            let (found, search) =
                search(&config, (threshold, whole), measure, |done| told = done).unwrap();
            let (kept, tried) = one_by_one(&config, threshold, whole);
            assert_eq!(found.kept, kept, "{threshold}");
            assert_eq!((search.tried, told), (tried, found.edges.len()));
            assert!(search.runs >= tried);
            sizes.push(found.count());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] > sizes[3] && sizes[5] == 0);
    }
}
