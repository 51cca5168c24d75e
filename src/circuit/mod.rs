//! Circuits: which edges of the residual graph are kept, and how well they alone do.
//!
//! | concept | where |
//! |---|---|
//! | a set of edges, with their scores, and what pruning leaves of it | here |
//! | scores of edges, out of rows | [`scores`] |
//! | choosing one by its edges' scores | [`select`] |
//! | ACDC: dropping edges that exact runs do not miss | [`acdc`] |
//! | how faithful circuits of several sizes are, as MIB sums it up | [`curve`] |
//! | EAP-IG's JSON, read and written; matrices | [`json`], `matrices.rs` |
//! | running one, with everything outside of it ablated | [`evaluate`], [`contributions`] |

pub mod acdc;
pub mod contributions;
pub mod curve;
pub mod evaluate;
pub mod json;
mod matrices;
pub mod scores;
pub mod select;

use std::collections::{HashMap, HashSet};

use crate::graph::edge::Edge;
use crate::graph::node::{Receiver, Sender};
use crate::model::Config;

/// A node of the graph: the queries, keys and values of a head are one with what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// What writes into the residual stream.
    Sender(Sender),
    /// The logits, which only read it.
    Logits,
}

impl Node {
    /// The node of which a receiver is a part.
    pub fn of(receiver: Receiver) -> Self {
        match receiver {
            Receiver::Head { layer, head, .. } => Self::Sender(Sender::Head { layer, head }),
            Receiver::Mlp { layer } => Self::Sender(Sender::Mlp { layer }),
            Receiver::Logits => Self::Logits,
        }
    }
}

/// Edges with their scores, and which of them are in the circuit.
#[derive(Debug, Clone, PartialEq)]
pub struct Circuit {
    /// Every edge of the model, by sender, then by receiver.
    pub edges: Vec<Edge>,
    /// The score of each; 0 where none is known.
    pub scores: Vec<f64>,
    /// Whether each is kept.
    pub kept: Vec<bool>,
}

impl Circuit {
    /// All edges of a model, none of them kept, with these scores.
    pub fn new(config: &Config, scores: &HashMap<Edge, f64>) -> Self {
        let edges = crate::graph::edge::edges(config);
        let of = |edge| scores.get(edge).copied().unwrap_or(0.0);
        Self {
            scores: edges.iter().map(of).collect(),
            kept: vec![false; edges.len()],
            edges,
        }
    }

    /// How many edges are kept.
    pub fn count(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }

    /// The edges that are kept.
    pub fn kept(&self) -> impl Iterator<Item = Edge> + '_ {
        let each = self.edges.iter().zip(&self.kept);
        each.filter(|(_, kept)| **kept).map(|(edge, _)| *edge)
    }

    /// The nodes of which edges are kept, and the logits.
    pub fn nodes(&self) -> HashSet<Node> {
        let ends = self
            .kept()
            .flat_map(|edge| [Node::Sender(edge.sender), Node::of(edge.receiver)]);
        ends.chain([Node::Logits]).collect()
    }

    /// Drops edges that lead nowhere or come from nowhere, until none is left: a node stays if one of its edges
    /// goes on and another, to any of its query, key and value, comes in. The input needs none, the logits send
    /// none.
    pub fn prune(&mut self) {
        loop {
            let sending: HashSet<Node> = self.kept().map(|e| Node::Sender(e.sender)).collect();
            let reading: HashSet<Node> = self.kept().map(|e| Node::of(e.receiver)).collect();
            let stays = |node: Node| match node {
                Node::Logits => true,
                Node::Sender(Sender::Input) => sending.contains(&node),
                _ => sending.contains(&node) && reading.contains(&node),
            };
            let before = self.count();
            for (edge, kept) in self.edges.iter().zip(&mut self.kept) {
                *kept &= stays(Node::Sender(edge.sender)) && stays(Node::of(edge.receiver));
            }
            if self.count() == before {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(layers: usize, heads: usize) -> Config {
        let json = serde_json::json!({
            "model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": 4 * heads,
            "vocab_size": 9, "n_positions": 8,
        });
        Config::from_json(json.to_string().as_bytes(), "config.json").unwrap()
    }

    pub(super) fn keep(circuit: &mut Circuit, names: &[&str]) {
        for (edge, kept) in circuit.edges.iter().zip(&mut circuit.kept) {
            *kept = names.contains(&edge.to_string().as_str());
        }
    }

    pub(super) fn names(circuit: &Circuit) -> Vec<String> {
        circuit.kept().map(|edge| edge.to_string()).collect()
    }

    #[test]
    fn what_leads_nowhere_is_pruned_whole_chains_at_a_time() {
        let mut circuit = Circuit::new(&config(2, 2), &HashMap::new());
        let all = [
            "input->a0.h0<q>",
            "a0.h0->a1.h1<v>",
            "a1.h1->logits",
            // nothing tells m0, and nothing hears a0.h1, nor what tells it alone
            "m0->a1.h1<k>",
            "input->a0.h1<v>",
            "a0.h1->m1",
        ];
        keep(&mut circuit, &all);
        circuit.prune();
        assert_eq!(names(&circuit), [all[0], all[1], all[2]]);
        assert_eq!(circuit.nodes().len(), 4);
        keep(&mut circuit, &["a1.h1->logits", "a0.h0->m0"]);
        circuit.prune();
        assert_eq!(circuit.count(), 0);
        keep(&mut circuit, &["input->logits"]);
        circuit.prune();
        assert_eq!(circuit.count(), 1);
    }
}
