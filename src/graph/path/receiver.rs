//! What a path may end in, and by which names.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::PathError;
use crate::graph::node::{self, Pattern, Projection, Sender};
use crate::model::Config;
use crate::patch::Patch;
use crate::site::{Component, Site, UnknownComponent};

/// What reads the sender run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathReceiver {
    /// A head's query, key or value; what an MLP reads after ln_2; or the logits.
    Node(node::Receiver),
    /// The residual stream: block_input, block_mid or block_output of a layer.
    Residual {
        /// Which of the three.
        component: Component,
        /// From 0.
        layer: usize,
    },
}

/// Receivers that are patched together, and what they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receivers {
    /// Their names, or those of the groups that were asked for, joined by `+`.
    pub name: String,
    /// In the order of computation.
    pub all: Vec<PathReceiver>,
}

impl PathReceiver {
    /// How many senders stand before it: it can read the first so many of [`Sender::all`](crate::graph::node::Sender::all).
    pub fn upstream(self, config: &Config) -> usize {
        let first = |layer: usize| 1 + layer * (config.heads + 1);
        match self {
            Self::Node(node) => node.upstream(config),
            Self::Residual { component, layer } => match component {
                Component::BlockInput => first(layer),
                Component::BlockMid => first(layer) + config.heads,
                _ => first(layer + 1),
            },
        }
    }

    /// What is written in the receiver run; nothing of the logits.
    pub(super) fn patch(self, positions: Vec<usize>) -> Option<Patch> {
        let (component, layer, head) = match self {
            Self::Node(node::Receiver::Head {
                layer,
                head,
                projection,
            }) => {
                let component = match projection {
                    Projection::Query => Component::HeadQueryOutput,
                    Projection::Key => Component::HeadKeyOutput,
                    Projection::Value => Component::HeadValueOutput,
                };
                (component, layer, Some(head))
            }
            Self::Node(node::Receiver::Mlp { layer }) => (Component::MlpInput, layer, None),
            Self::Node(node::Receiver::Logits) => return None,
            Self::Residual { component, layer } => (component, layer, None),
        };
        let heads = head.into_iter().collect();
        Some(Patch::interchange(component, Some(layer), heads, positions))
    }

    /// How many layers may stand between it and a sender.
    pub(super) fn layers(self, config: &Config) -> usize {
        match self {
            Self::Node(node::Receiver::Head { layer, .. }) => layer,
            Self::Node(node::Receiver::Mlp { layer }) | Self::Residual { layer, .. } => layer + 1,
            Self::Node(node::Receiver::Logits) => config.layers,
        }
    }
}

impl fmt::Display for PathReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Residual { component, layer } => write!(f, "{component}.{layer}"),
        }
    }
}

/// The receivers that names mean, each with how it is called, in the order of computation: nodes as
/// [`Pattern`] reads them, or a residual stream by its component's name and layer.
///
/// # Errors
///
/// [`PathError::Unknown`] for a name that means none.
pub fn receivers(names: &[String], config: &Config) -> Result<Vec<PathReceiver>, PathError> {
    let mut all = Vec::new();
    for name in names {
        let unknown = |reason: String| PathError::Unknown {
            name: name.clone(),
            reason: match reason.is_empty() {
                true => reason,
                false => format!("; {reason}"),
            },
        };
        let before = all.len();
        if name.trim().is_empty() {
            return Err(unknown("the name is empty".into()));
        }
        match Pattern::from_str(name) {
            Ok(pattern) => {
                let nodes = node::Receiver::all(config).into_iter();
                all.extend(
                    nodes
                        .filter(|node| pattern.is_receiver(*node))
                        .map(PathReceiver::Node),
                );
            }
            Err(_) => all.push(residual(name.trim(), config).map_err(unknown)?),
        }
        if all.len() == before {
            let (layers, heads) = (config.layers - 1, config.heads - 1);
            let sends = Pattern::from_str(name).is_ok_and(|p| p.is_sender(Sender::Input));
            return Err(unknown(match sends {
                true => "the embeddings send and read nothing".into(),
                false => format!("here are layers 0 to {layers} and heads 0 to {heads}"),
            }));
        }
    }
    let mut seen = HashSet::new();
    all.retain(|receiver| seen.insert(*receiver));
    all.sort_by_key(|receiver| receiver.upstream(config));
    Ok(all)
}

fn residual(name: &str, config: &Config) -> Result<PathReceiver, String> {
    let stream = [
        Component::BlockInput,
        Component::BlockMid,
        Component::BlockOutput,
    ];
    // a name that is near to no residual stream is not a slip of one
    let slip = |e: UnknownComponent| match &e {
        UnknownComponent::Misspelt { nearest, .. } => {
            let meant = nearest.parse::<Site>();
            let meant = meant.is_ok_and(|site| stream.contains(&site.component));
            if meant { e.to_string() } else { String::new() }
        }
        UnknownComponent::Strange { .. } | UnknownComponent::Empty => String::new(),
    };
    let Site { component, layer } = name.parse().map_err(slip)?;
    match layer {
        _ if !stream.contains(&component) => Err(format!("{component} is no residual stream")),
        None => Err(format!("{component} needs its layer")),
        Some(layer) if layer >= config.layers => {
            Err(format!("layers are 0 to {}", config.layers - 1))
        }
        Some(layer) => Ok(PathReceiver::Residual { component, layer }),
    }
}

impl Receivers {
    /// All of them together.
    ///
    /// # Errors
    ///
    /// [`PathError::Logits`] beside others.
    pub fn together(names: &[String], all: Vec<PathReceiver>) -> Result<Self, PathError> {
        let logits = PathReceiver::Node(node::Receiver::Logits);
        match all.iter().find(|receiver| **receiver != logits) {
            Some(other) if all.contains(&logits) => Err(PathError::Logits {
                other: other.to_string(),
            }),
            _ => {
                let mut seen = HashSet::new();
                let names = names.iter().map(|name| name.trim());
                let names: Vec<&str> = names.filter(|name| seen.insert(*name)).collect();
                // one name a receiver is its own; a name of several stands for them
                let name = match names.len() == all.len() {
                    true => joined(all.iter().map(PathReceiver::to_string)),
                    false => joined(names.into_iter().map(str::to_owned)),
                };
                Ok(Self { name, all })
            }
        }
    }

    /// Each by itself.
    pub fn apart(all: Vec<PathReceiver>) -> Vec<Self> {
        let one = |receiver: PathReceiver| Self {
            name: receiver.to_string(),
            all: vec![receiver],
        };
        all.into_iter().map(one).collect()
    }

    /// How many senders stand before any of them.
    pub(super) fn upstream(&self, config: &Config) -> usize {
        let each = self.all.iter().map(|receiver| receiver.upstream(config));
        each.max().unwrap_or(0)
    }

    pub(super) fn are_logits(&self) -> bool {
        self.all == [PathReceiver::Node(node::Receiver::Logits)]
    }
}

fn joined(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join("+")
}
