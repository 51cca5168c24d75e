//! Edges of a model, and which of them are meant.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::extent::EdgeAt;
use super::node::{Pattern, Receiver, Sender};
use crate::model::Config;
use crate::results::array::Axis;

/// A receiver and one of the senders before it: `a3.h5->a9.h6<q>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// What contributes.
    pub sender: Sender,
    /// What reads the contribution.
    pub receiver: Receiver,
}

/// Nodes that a model does not have, or that nothing connects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// A name that fits none of the model's nodes.
    #[error("no {what} is meant by `{name}`: {known}")]
    NoNode {
        /// `sender` or `receiver`.
        what: &'static str,
        /// As given.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nothing between the nodes that are meant.
    #[error(
        "no edge goes from these senders to these receivers: a sender reaches only what is computed after it"
    )]
    NoEdge,
}

/// Nodes as named on the command line, each name with what it means.
pub type NamedNodes = Vec<(String, Pattern)>;

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.sender, self.receiver)
    }
}

/// What stands along arrays of edges: the nodes of these edges, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeAxes {
    senders: HashMap<Sender, usize>,
    receivers: HashMap<Receiver, usize>,
    /// Tokens of the longest prompt, where each position is patched by itself.
    positions: Option<usize>,
}

/// Things by their places in the order in which they come first.
fn places<T: Copy + Eq + Hash>(things: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut places = HashMap::new();
    for thing in things {
        let next = places.len();
        places.entry(thing).or_insert(next);
    }
    places
}

impl EdgeAxes {
    /// The nodes of these edges; where each position is patched by itself, so many positions, those of
    /// the longest prompt.
    pub fn new(edges: &[Edge], positions: Option<usize>) -> Self {
        Self {
            senders: places(edges.iter().map(|edge| edge.sender)),
            receivers: places(edges.iter().map(|edge| edge.receiver)),
            positions,
        }
    }

    /// As axes.
    pub fn axes(&self) -> Vec<Axis> {
        fn names<T: ToString>(places: &HashMap<T, usize>) -> Vec<String> {
            let mut all: Vec<(&T, &usize)> = places.iter().collect();
            all.sort_by_key(|(_, place)| **place);
            all.into_iter()
                .map(|(thing, _)| thing.to_string())
                .collect()
        }
        let nodes = [
            Axis::named("sender", names(&self.senders)),
            Axis::named("receiver", names(&self.receivers)),
        ];
        let positions = self.positions.map(|n| Axis::numbered("position", n));
        nodes.into_iter().chain(positions).collect()
    }

    /// Where an edge's value stands, if it has a place here.
    pub fn place(&self, EdgeAt { edge, position }: EdgeAt) -> Option<usize> {
        let (sender, receiver) = (
            self.senders.get(&edge.sender)?,
            self.receivers.get(&edge.receiver)?,
        );
        let place = sender * self.receivers.len() + receiver;
        match (self.positions, position) {
            (None, None) => Some(place),
            (Some(count), Some(position)) => (position < count).then_some(place * count + position),
            _ => None,
        }
    }
}

/// Every edge of a model, by sender, then by receiver, in the order of computation.
pub fn edges(config: &Config) -> Vec<Edge> {
    between(&Sender::all(config), &Receiver::all(config), config)
}

/// The edges from some senders to some receivers, by sender, then by receiver, as these are listed.
pub fn between(senders: &[Sender], receivers: &[Receiver], config: &Config) -> Vec<Edge> {
    let from = |&sender: &Sender| {
        let reached = receivers
            .iter()
            .filter(move |receiver| sender.index(config) < receiver.upstream(config));
        reached.map(move |&receiver| Edge { sender, receiver })
    };
    senders.iter().flat_map(from).collect()
}

/// The senders that any of the patterns means, in the order of computation.
///
/// # Errors
///
/// [`EdgeError::NoNode`] for a pattern that means none.
pub fn senders(named: &[(String, Pattern)], config: &Config) -> Result<Vec<Sender>, EdgeError> {
    let all = Sender::all(config);
    each_means("sender", named, config, |p| {
        all.iter().any(|s| p.is_sender(*s))
    })?;
    let meant = |s: &Sender| named.iter().any(|(_, pattern)| pattern.is_sender(*s));
    Ok(all.iter().copied().filter(meant).collect())
}

/// The receivers that any of the patterns means, in the order of computation.
///
/// # Errors
///
/// [`EdgeError::NoNode`] for a pattern that means none.
pub fn receivers(named: &[(String, Pattern)], config: &Config) -> Result<Vec<Receiver>, EdgeError> {
    let all = Receiver::all(config);
    each_means("receiver", named, config, |p| {
        all.iter().any(|r| p.is_receiver(*r))
    })?;
    let meant = |r: &Receiver| named.iter().any(|(_, pattern)| pattern.is_receiver(*r));
    Ok(all.iter().copied().filter(meant).collect())
}

/// The edges from the senders that are named to the receivers that are named.
///
/// # Errors
///
/// [`EdgeError`] for a name that means nothing here, and where no edge is left.
pub fn select(
    from: &[(String, Pattern)],
    to: &[(String, Pattern)],
    config: &Config,
) -> Result<Vec<Edge>, EdgeError> {
    let edges = between(&senders(from, config)?, &receivers(to, config)?, config);
    match edges.is_empty() {
        true => Err(EdgeError::NoEdge),
        false => Ok(edges),
    }
}

fn each_means(
    what: &'static str,
    named: &[(String, Pattern)],
    config: &Config,
    means: impl Fn(&Pattern) -> bool,
) -> Result<(), EdgeError> {
    match named.iter().find(|(_, pattern)| !means(pattern)) {
        None => Ok(()),
        Some((name, _)) => {
            let (layers, heads) = (config.layers - 1, config.heads - 1);
            let others = match what {
                "sender" => "input",
                _ => "logits, and a head is read as <q>, <k> or <v>",
            };
            Err(EdgeError::NoNode {
                what,
                name: name.clone(),
                known: format!(
                    "there are a0.h0 to a{layers}.h{heads}, m0 to m{layers}, and {others}"
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn shape(layers: usize, heads: usize) -> Config {
        let json = serde_json::json!({
            "model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": 4 * heads,
            "vocab_size": 9, "n_positions": 8,
        });
        Config::from_json(json.to_string().as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn gpt2_small_has_32491_edges() {
        let config = shape(12, 12);
        let (senders, receivers) = (Sender::all(&config), Receiver::all(&config));
        assert_eq!((senders.len(), receivers.len()), (157, 445));
        let edges = edges(&config);
        assert_eq!(edges.len(), 32_491);
        assert_eq!(edges.iter().collect::<HashSet<_>>().len(), edges.len());
        assert!(edges.iter().any(|e| e.to_string() == "a3.h5->a9.h6<q>"));
        for absent in ["a3.h5->a3.h6<q>", "m3->m3", "m3->a3.h0<v>", "a4.h0->m3"] {
            assert!(!edges.iter().any(|e| e.to_string() == absent), "{absent}");
        }
        for present in [
            "a3.h5->m3",
            "m3->a4.h0<k>",
            "m11->logits",
            "input->a0.h0<v>",
        ] {
            assert!(edges.iter().any(|e| e.to_string() == present), "{present}");
        }
    }

    proptest! {
        #[test]
        fn indices_are_places(layers in 1usize..5, heads in 1usize..5) {
            let config = shape(layers, heads);
            for (i, sender) in Sender::all(&config).into_iter().enumerate() {
                prop_assert_eq!(sender.index(&config), i);
            }
            let upstream: usize = Receiver::all(&config).iter().map(|r| r.upstream(&config)).sum();
            prop_assert_eq!(edges(&config).len(), upstream);
        }

        #[test]
        fn every_name_means_its_node_alone(layers in 1usize..13, heads in 1usize..13) {
            let config = shape(layers, heads);
            let named = |name: String| vec![(name.clone(), name.parse().unwrap())];
            for sender in Sender::all(&config) {
                prop_assert_eq!(senders(&named(sender.to_string()), &config), Ok(vec![sender]));
            }
            for receiver in Receiver::all(&config) {
                let name = receiver.to_string();
                let dotted = name.replace('<', ".").replace('>', "");
                prop_assert_eq!(receivers(&named(name), &config), Ok(vec![receiver]));
                prop_assert_eq!(receivers(&named(dotted), &config), Ok(vec![receiver]));
            }
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in "[amhqkv.<>0-9x ]{0,12}|\\PC{0,12}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let config = shape(2, 2);
                let named = [(text.clone(), pattern)];
                prop_assert!(senders(&named, &config).is_ok_and(|s| !s.is_empty())
                    || receivers(&named, &config).is_ok_and(|r| !r.is_empty())
                    || text.contains(|c: char| c.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn names_mean_what_the_manual_says() {
        let config = shape(3, 2);
        let named = |names: &str| -> NamedNodes {
            names
                .split(',')
                .map(|n| (n.to_owned(), n.parse().unwrap()))
                .collect()
        };
        let from = |names: &str| {
            let all = senders(&named(names), &config)?;
            Ok::<_, EdgeError>(
                all.iter()
                    .map(Sender::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        let to = |names: &str| {
            let all = receivers(&named(names), &config)?;
            Ok::<_, EdgeError>(
                all.iter()
                    .map(Receiver::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(from("m1,a0,embed").unwrap(), "input a0.h0 a0.h1 m1");
        assert_eq!(from("mlps").unwrap(), "m0 m1 m2");
        assert_eq!(
            from("heads").unwrap(),
            "a0.h0 a0.h1 a1.h0 a1.h1 a2.h0 a2.h1"
        );
        assert_eq!(
            to("a1.h0,logits").unwrap(),
            "a1.h0<q> a1.h0<k> a1.h0<v> logits"
        );
        assert_eq!(to("a1.h0.v,a2.h1<k>,m0").unwrap(), "m0 a1.h0<v> a2.h1<k>");
        assert_eq!(to("q").unwrap().split(' ').count(), 6);
        assert_eq!(to("all").unwrap().split(' ').count(), 3 * 7 + 1);
        for wrong in ["logits", "a0.h0<q>", "k", "a3", "m3", "a0.h2"] {
            assert!(
                from(wrong).unwrap_err().to_string().contains(wrong),
                "{wrong}"
            );
        }
        for wrong in ["input", "a0.h9<q>", "m9"] {
            assert!(
                to(wrong).unwrap_err().to_string().contains("m0 to m2"),
                "{wrong}"
            );
        }
        for wrong in [
            "", "a", "a.h1", "a1.h", "a1.h1<>", "a1.h1<x>", "a+1", "m-1", "b3", "a1.h1<q",
        ] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
