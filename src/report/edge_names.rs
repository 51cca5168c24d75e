//! Edges by their names in tables, such as `a0.h1->a3.h2<q>` or `m0->logits@4`.

use crate::results::table::Table;

/// Whether a table's rows are edges: whether its runs are called after them.
pub(super) fn are_edges(table: &Table) -> bool {
    first(table).is_some()
}

/// Whether they are edges at every position, which have their places in a matrix.
#[must_use]
pub fn are_whole_edges(table: &Table) -> bool {
    first(table).is_some_and(|(.., position)| position.is_none())
}

fn first(table: &Table) -> Option<(&str, &str, Option<u32>)> {
    ends(table.rows.first()?.name.as_deref()?)
}

/// Sender, receiver and position of an edge.
pub(super) fn ends(name: &str) -> Option<(&str, &str, Option<u32>)> {
    let (sender, rest) = name.split_once("->")?;
    let (receiver, position) = match rest.split_once('@') {
        Some((receiver, position)) => (receiver, Some(position.parse().ok()?)),
        None => (rest, None),
    };
    (NodeAt::of(sender).is_some() && NodeAt::of(receiver).is_some())
        .then_some((sender, receiver, position))
}

/// Where a node stands, in the order of computation: the input, layer by layer the heads (their queries, keys and values,
/// where they receive) and the MLP, and the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeAt {
    pub level: NodeLevel,
    pub part: NodePart,
    pub head: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NodeLevel {
    Input,
    Layer(u32),
    Logits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NodePart {
    Head,
    Query,
    Key,
    Value,
    Mlp,
}

impl NodeAt {
    /// A node by its name.
    pub fn of(name: &str) -> Option<Self> {
        let whole = |level| Self {
            level,
            part: NodePart::Mlp,
            head: 0,
        };
        match name {
            "input" => return Some(whole(NodeLevel::Input)),
            "logits" => return Some(whole(NodeLevel::Logits)),
            _ => {}
        }
        if let Some(layer) = name.strip_prefix('m') {
            return Some(whole(NodeLevel::Layer(layer.parse().ok()?)));
        }
        let (layer, head) = name.strip_prefix('a')?.split_once(".h")?;
        let (head, part) = match head.split_once('<') {
            None => (head, NodePart::Head),
            Some((head, "q>")) => (head, NodePart::Query),
            Some((head, "k>")) => (head, NodePart::Key),
            Some((head, "v>")) => (head, NodePart::Value),
            Some(_) => return None,
        };
        Some(Self {
            level: NodeLevel::Layer(layer.parse().ok()?),
            part,
            head: head.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_in_the_order_of_computation() {
        let order = [
            "input", "a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h0<v>", "m0", "a1.h0", "m1", "a10.h0",
            "logits",
        ];
        let all: Vec<NodeAt> = order.iter().map(|name| NodeAt::of(name).unwrap()).collect();
        assert!(all.is_sorted() && all.windows(2).all(|two| two[0] != two[1]));
        for name in [
            "", "a", "a0", "a0.h", "a0.h1<z>", "m", "mx", "b0.h1", "Input", "a0.h1<q",
        ] {
            assert_eq!(NodeAt::of(name), None, "{name}");
        }
        assert_eq!(
            ends("a0.h1->a3.h2<q>@4"),
            Some(("a0.h1", "a3.h2<q>", Some(4)))
        );
        for name in ["a0.h1", "a0.h1->", "->m1", "a0.h1->m1@x", "x->m1"] {
            assert_eq!(ends(name), None, "{name}");
        }
    }
}
