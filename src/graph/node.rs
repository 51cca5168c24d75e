//! Senders and receivers, in the order of computation, and what they are called.

use std::fmt;
use std::str::FromStr;

use crate::model::Config;
use crate::site::Component;

/// What writes into the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Token and position embedding together: `input`.
    Input,
    /// One head's part of the attention's output, z · W_O without the bias: `a3.h5`.
    Head {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// An MLP: `m3`.
    Mlp {
        /// From 0.
        layer: usize,
    },
}

/// Which of a head's projections reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// `<q>`
    Query,
    /// `<k>`
    Key,
    /// `<v>`
    Value,
}

/// What reads the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// What one projection of one head reads, before ln_1: `a9.h6<q>`.
    Head {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
        /// Which projection.
        projection: Projection,
    },
    /// What an MLP reads, before ln_2: `m5`.
    Mlp {
        /// From 0.
        layer: usize,
    },
    /// The residual stream after the last layer, before ln_f: `logits`.
    Logits,
}

impl Sender {
    /// Every sender of a model, in the order of computation.
    pub fn all(config: &Config) -> Vec<Self> {
        let layer = |layer| {
            (0..config.heads)
                .map(move |head| Self::Head { layer, head })
                .chain([Self::Mlp { layer }])
        };
        std::iter::once(Self::Input)
            .chain((0..config.layers).flat_map(layer))
            .collect()
    }

    /// Its place in [`Sender::all`].
    pub fn index(self, config: &Config) -> usize {
        let first = |layer: usize| 1 + layer * (config.heads + 1);
        match self {
            Self::Input => 0,
            Self::Head { layer, head } => first(layer) + head,
            Self::Mlp { layer } => first(layer) + config.heads,
        }
    }
}

impl Receiver {
    /// Every receiver of a model, in the order of computation.
    pub fn all(config: &Config) -> Vec<Self> {
        let heads = config.heads;
        let layer = |layer| {
            let head = move |head| {
                Projection::ALL.map(|projection| Self::Head {
                    layer,
                    head,
                    projection,
                })
            };
            (0..heads).flat_map(head).chain([Self::Mlp { layer }])
        };
        (0..config.layers)
            .flat_map(layer)
            .chain([Self::Logits])
            .collect()
    }

    /// How many senders stand before it: it reads the first so many of [`Sender::all`].
    pub fn upstream(self, config: &Config) -> usize {
        let first = |layer: usize| 1 + layer * (config.heads + 1);
        match self {
            Self::Head { layer, .. } => first(layer),
            Self::Mlp { layer } => first(layer) + config.heads,
            Self::Logits => first(config.layers),
        }
    }

    /// Where its input is patched: component, layer, and head where the component has heads.
    pub fn site(self, config: &Config) -> (Component, usize, Option<usize>) {
        match self {
            Self::Head {
                layer,
                head,
                projection,
            } => (projection.input(), layer, Some(head)),
            Self::Mlp { layer } => (Component::MlpResidualInput, layer, None),
            // behind the last layer nothing but ln_f reads its output
            Self::Logits => (Component::BlockOutput, config.layers - 1, None),
        }
    }
}

impl Projection {
    /// In the order in which edges are listed.
    pub const ALL: [Self; 3] = [Self::Query, Self::Key, Self::Value];

    fn input(self) -> Component {
        match self {
            Self::Query => Component::AttentionQueryInput,
            Self::Key => Component::AttentionKeyInput,
            Self::Value => Component::AttentionValueInput,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Query => 'q',
            Self::Key => 'k',
            Self::Value => 'v',
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Head { layer, head } => write!(f, "a{layer}.h{head}"),
            Self::Mlp { layer } => write!(f, "m{layer}"),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head {
                layer,
                head,
                projection,
            } => write!(f, "a{layer}.h{head}<{}>", projection.letter()),
            Self::Mlp { layer } => write!(f, "m{layer}"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

/// Some nodes, as `--senders` and `--receivers` name them: `all`, `heads`, `mlps`, `q`, `input`,
/// `logits`, `a3`, `a3.h5`, `a9.h6<q>` (or `a9.h6.q`), `m2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    kind: Kind,
    layer: Option<usize>,
    head: Option<usize>,
    projection: Option<Projection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Input,
    Head,
    Mlp,
    Logits,
}

/// A name of no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names nothing in the graph: write all, heads, mlps, a3, a3.h5, m2, input (senders), or a9.h6<q>, q, k, v, logits (receivers)"
)]
pub struct UnknownNode {
    /// As given.
    pub text: String,
}

impl Pattern {
    /// Whether a sender is meant.
    pub fn is_sender(&self, sender: Sender) -> bool {
        let (kind, layer, head) = match sender {
            Sender::Input => (Kind::Input, None, None),
            Sender::Head { layer, head } => (Kind::Head, Some(layer), Some(head)),
            Sender::Mlp { layer } => (Kind::Mlp, Some(layer), None),
        };
        // what a head sends is not its query, key or value
        self.projection.is_none() && self.meets(kind, layer, head)
    }

    /// Whether a receiver is meant.
    pub fn is_receiver(&self, receiver: Receiver) -> bool {
        match receiver {
            Receiver::Head {
                layer,
                head,
                projection,
            } => {
                self.projection.is_none_or(|p| p == projection)
                    && self.meets(Kind::Head, Some(layer), Some(head))
            }
            Receiver::Mlp { layer } => self.meets(Kind::Mlp, Some(layer), None),
            Receiver::Logits => self.meets(Kind::Logits, None, None),
        }
    }

    fn meets(&self, kind: Kind, layer: Option<usize>, head: Option<usize>) -> bool {
        (self.kind == Kind::All || self.kind == kind)
            && (self.layer.is_none() || self.layer == layer)
            && (self.head.is_none() || self.head == head)
    }
}

impl FromStr for Pattern {
    type Err = UnknownNode;

    fn from_str(text: &str) -> Result<Self, UnknownNode> {
        parse(text.trim()).ok_or_else(|| UnknownNode { text: text.into() })
    }
}

fn parse(text: &str) -> Option<Pattern> {
    let of = |kind| Pattern {
        kind,
        layer: None,
        head: None,
        projection: None,
    };
    let letter = |text: &str| {
        Projection::ALL
            .into_iter()
            .find(|p| text == p.letter().to_string())
    };
    match text {
        "all" => return Some(of(Kind::All)),
        "heads" => return Some(of(Kind::Head)),
        "mlps" => return Some(of(Kind::Mlp)),
        "input" | "embed" => return Some(of(Kind::Input)),
        "logits" => return Some(of(Kind::Logits)),
        _ => {}
    }
    if let Some(projection) = letter(text) {
        return Some(Pattern {
            projection: Some(projection),
            ..of(Kind::Head)
        });
    }
    if let Some(layer) = text.strip_prefix('m') {
        return Some(Pattern {
            layer: Some(number(layer)?),
            ..of(Kind::Mlp)
        });
    }
    let rest = text.strip_prefix('a')?;
    let Some((layer, rest)) = rest.split_once(".h") else {
        return Some(Pattern {
            layer: Some(number(rest)?),
            ..of(Kind::Head)
        });
    };
    let (head, projection) = match rest.strip_suffix('>') {
        Some(rest) => {
            let (head, part) = rest.split_once('<')?;
            (head, Some(letter(part)?))
        }
        None => match rest.split_once('.') {
            Some((head, part)) => (head, Some(letter(part)?)),
            None => (rest, None),
        },
    };
    Some(Pattern {
        layer: Some(number(layer)?),
        head: Some(number(head)?),
        projection,
        ..of(Kind::Head)
    })
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<usize> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
