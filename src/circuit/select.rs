//! Choosing a circuit by its edges' scores, as EAP-IG's `apply_topn`, `apply_threshold` and `apply_greedy` do.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::{Circuit, Node};
use crate::graph::node::Sender;

/// How edges are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// The largest so many.
    Top(usize),
    /// All from this size on.
    Threshold(f64),
    /// One after the other, the largest of those that reach a node that is in already, from the logits on.
    Greedy(usize),
}

/// What of a score counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Worth {
    /// Its size (`absolute=True`).
    #[default]
    Size,
    /// The score itself, the largest first (`absolute=False`).
    Signed,
    /// The score with the other sign: the largest is what would move the metric down the furthest.
    Negated,
}

impl Worth {
    fn of(self, score: f64) -> f64 {
        match self {
            Self::Size => score.abs(),
            Self::Signed => score,
            Self::Negated => -score,
        }
    }
}

impl Circuit {
    /// Keeps the edges that are chosen. What leads nowhere is then pruned, so that fewer may be left.
    pub fn choose(&mut self, choice: Selection, worth: Worth) {
        self.kept.fill(false);
        let of = |scores: &[f64], e: usize| worth.of(scores[e]);
        match choice {
            Selection::Top(count) => {
                let mut order: Vec<usize> = (0..self.edges.len()).collect();
                order.sort_by(|a, b| of(&self.scores, *b).total_cmp(&of(&self.scores, *a)));
                order.iter().take(count).for_each(|e| self.kept[*e] = true);
            }
            Selection::Threshold(least) => {
                for e in 0..self.edges.len() {
                    self.kept[e] = of(&self.scores, e) >= least;
                }
            }
            Selection::Greedy(count) => self.greedy(count, worth),
        }
        self.prune();
    }

    fn greedy(&mut self, count: usize, worth: Worth) {
        let mut into: HashMap<Node, Vec<usize>> = HashMap::new();
        for (e, edge) in self.edges.iter().enumerate() {
            into.entry(Node::of(edge.receiver)).or_default().push(e);
        }
        let mut heap = BinaryHeap::new();
        let mut known: HashSet<Sender> = HashSet::new();
        let mut added = 0;
        let mut add = |heap: &mut BinaryHeap<Candidate>, node: Node| {
            for edge in into.get(&node).map_or(&[][..], Vec::as_slice) {
                let (size, order) = (worth.of(self.scores[*edge]), added);
                heap.push(Candidate {
                    size,
                    order,
                    edge: *edge,
                });
                added += 1;
            }
        };
        add(&mut heap, Node::Logits);
        for _ in 0..count {
            let Some(Candidate { edge, .. }) = heap.pop() else {
                return;
            };
            self.kept[edge] = true;
            let sender = self.edges[edge].sender;
            if known.insert(sender) {
                add(&mut heap, Node::Sender(sender));
            }
        }
    }
}

/// An edge that reaches a node that is in.
#[derive(Debug, PartialEq)]
struct Candidate {
    size: f64,
    /// Of equal ones the first to come is taken.
    order: usize,
    edge: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = self.size.total_cmp(&other.size);
        size.then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, names};
    use super::*;

    fn circuit(scores: &[(&str, f64)]) -> Circuit {
        let mut circuit = Circuit::new(&config(2, 1), &HashMap::new());
        for (name, score) in scores {
            let at = circuit.edges.iter().position(|e| e.to_string() == *name);
            circuit.scores[at.unwrap()] = *score;
        }
        circuit
    }

    #[test]
    fn the_three_ways_differ_as_they_should() {
        let mut all = circuit(&[
            ("input->a0.h0<v>", 5.0),
            ("input->m1", -4.0),
            ("a0.h0->logits", -3.0),
            ("m1->logits", 1.0),
            ("input->a1.h0<k>", 0.5),
        ]);
        // the largest two lead nowhere by themselves
        all.choose(Selection::Top(2), Worth::Size);
        assert_eq!(all.count(), 0);
        all.choose(Selection::Top(3), Worth::Size);
        assert_eq!(names(&all), ["input->a0.h0<v>", "a0.h0->logits"]);
        all.choose(Selection::Threshold(1.0), Worth::Size);
        assert_eq!(all.count(), 4);
        all.choose(Selection::Greedy(2), Worth::Size);
        assert_eq!(names(&all), ["input->a0.h0<v>", "a0.h0->logits"]);
        // 3, 5, then 1 for what leads to 4, which is larger than any other
        all.choose(Selection::Greedy(4), Worth::Size);
        let four = [
            "input->a0.h0<v>",
            "input->m1",
            "a0.h0->logits",
            "m1->logits",
        ];
        assert_eq!(names(&all), four);
        all.choose(Selection::Greedy(10_000), Worth::Size);
        assert_eq!(all.count(), all.edges.len());
        all.choose(Selection::Top(2), Worth::Signed);
        assert_eq!(names(&all), Vec::<String>::new());
        // 5, 1 and 0.5: what leads to a0.h0 alone is not told on
        all.choose(Selection::Top(3), Worth::Signed);
        assert_eq!(all.count(), 0);
        // 4 and 3 the other way round, which nothing tells m1 and nobody a0.h0
        all.choose(Selection::Greedy(1), Worth::Negated);
        assert_eq!(all.count(), 0);
        all.choose(Selection::Threshold(1.0), Worth::Signed);
        assert_eq!(all.count(), 0);
        all.choose(Selection::Top(0), Worth::Size);
        assert_eq!(all.count(), 0);
    }

    /// EAP-IG merges sorted lists, of equal scores the list that came first first.
    #[test]
    fn of_equal_scores_the_first_to_come_is_taken() {
        let mut all = circuit(&[("m0->logits", 2.0), ("input->m0", 1.0), ("m1->logits", 1.0)]);
        all.choose(Selection::Greedy(2), Worth::Size);
        // m1->logits came before input->m0, and leads nowhere; m0 is told nothing then
        assert_eq!(all.count(), 0);
        all.choose(Selection::Greedy(3), Worth::Size);
        assert_eq!(names(&all), ["input->m0", "m0->logits"]);
    }
}
