//! Edges, position by position, as the attribution graph that Neuronpedia's and circuit-tracer's pages show: JSON of
//! Neuronpedia's `graph-schema.json`, version 1.0.0.
//!
//! A node stands at a position: an embedding, a head, an MLP, or the logit of the target at the position that is read
//! out. An edge at a position is a link from its sender there to its receiver there; edges into a head's query, key
//! and value are links of their own that end in the head.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::ReportError;
use super::edge_names::{NodeAt, NodeLevel, NodePart, ends};
use super::heatmap::each_row;
use super::measure::Measure;
use crate::model::Config;
use crate::results::table::{PairProvenance, Row, Table};

/// Columns of estimates, which are changes as they stand.
const CHANGES: [&str; 3] = ["score", "exact", "absolute"];

/// Of which of a table's edges a graph is made.
#[derive(Debug, Clone, Default)]
pub struct GraphWish<'a> {
    /// The pair, by its number in the table; the first unless said.
    pub pair: Option<u32>,
    /// The target, by its text or its id; the first unless said.
    pub target: Option<&'a str>,
    /// The column that weighs links: a score, or a metric, of which it is the change from the base; the score, else the
    /// first metric, else the probability unless said.
    pub column: Option<&'a str>,
    /// So many links, those of the largest sizes.
    pub most: usize,
}

/// What was written of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphLinks {
    /// Links that are in the graph.
    pub kept: usize,
    /// Edges at positions that the table has of the pair and the target.
    pub all: usize,
    /// Nodes that they join.
    pub nodes: usize,
    /// The column.
    pub column: String,
}

#[derive(Serialize)]
struct Node {
    node_id: String,
    feature: Option<u32>,
    layer: String,
    ctx_idx: usize,
    feature_type: &'static str,
    #[serde(rename = "jsNodeId")]
    js_node_id: String,
    clerp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_prob: Option<f64>,
    is_target_logit: bool,
    run_idx: usize,
    reverse_ctx_idx: usize,
}

struct Link {
    sender: NodeAt,
    receiver: NodeAt,
    position: usize,
    weight: f64,
}

/// The graph of a table of edges, as the text of a file.
///
/// # Errors
///
/// [`ReportError::NothingToPlot`]: no edges at single positions, no such pair or target, or a table that does not know its
/// prompts; [`ReportError::NoSuchValue`]: no such column.
pub fn attribution_graph(
    table: &Table,
    wish: &GraphWish<'_>,
    config: &Config,
) -> Result<(String, GraphLinks), ReportError> {
    let nothing = |problem: String| Err(ReportError::NothingToPlot(problem));
    let column = column(table, wish);
    let change = !CHANGES.contains(&&*column);
    let mut measure = Measure::new(&table.metrics, (&column, change))?;
    let Some(pair) = wish.pair.or_else(|| table.rows.first().map(|row| row.pair)) else {
        return nothing("the table has no rows".to_owned());
    };
    if table.rows.iter().all(|row| row.pair != pair) {
        return nothing(format!("the table has no pair {pair}"));
    }
    let prompt = prompt(table, pair).filter(|prompt| !prompt.base_tokens.is_empty());
    let Some(prompt) = prompt else {
        return nothing(format!(
            "the table does not know the tokens of pair {pair}: give the Parquet file, or the CSV with its .meta.json beside it, of a model with a tokenizer"
        ));
    };
    let asked = |row: &Row| match wish.target {
        Some(target) => *row.target == *target || row.target_id.to_string() == target,
        None => true,
    };
    let (mut links, mut first, mut target, mut run, mut index) = (Vec::new(), None, None, None, 0);
    each_row(table, &mut |row, clean| {
        if row.pair != pair {
            return;
        }
        index = if run == Some(row.run) { index + 1 } else { 0 };
        run = Some(row.run);
        if !asked(row) || *target.get_or_insert(row.target_id) != row.target_id {
            return;
        }
        let edge = row.name.as_deref().and_then(ends);
        let Some((sender, receiver, Some(position))) = edge else {
            return;
        };
        let (Some(sender), Some(receiver)) = (NodeAt::of(sender), NodeAt::of(receiver)) else {
            return;
        };
        let weight = measure.of(row, index, clean).number();
        if weight.is_finite() {
            first.get_or_insert_with(|| row.clone());
            links.push(Link {
                sender,
                receiver,
                position: position as usize,
                weight,
            });
        }
    });
    if measure.baseless {
        return nothing(format!(
            "what {column} is in the base is not known: give the Parquet file, or the CSV with its .meta.json beside it"
        ));
    }
    let Some(first) = first else {
        return nothing(match (target, wish.target) {
            (None, Some(target)) => format!("pair {pair} has no target `{target}`"),
            _ => "the table has no edges at single positions: run edges, or attribute edges, with --per-position".to_owned(),
        });
    };
    let all = links.len();
    links.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    links.truncate(wish.most);
    let place = Places {
        prompt,
        target: &first,
        config,
    };
    let mut nodes = BTreeMap::new();
    let mut joined = Vec::with_capacity(links.len());
    for link in &links {
        let mut id = |node: NodeAt| {
            let made = place.node(node, link.position);
            let id = made.node_id.clone();
            let order = (place.position(node, link.position), node.level, node.head);
            nodes.entry((order, id.clone())).or_insert(made);
            id
        };
        let (source, target) = (id(link.sender), id(link.receiver));
        joined.push(json!({"source": source, "target": target, "weight": link.weight}));
    }
    let nodes: Vec<Node> = nodes.into_values().collect();
    let counts = GraphLinks {
        kept: joined.len(),
        all,
        nodes: nodes.len(),
        column: column.clone(),
    };
    let graph = json!({
        "metadata": metadata(table, (pair, prompt), &column, change),
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both"},
        "nodes": nodes,
        "links": joined,
    });
    Ok((format!("{graph}\n"), counts))
}

/// The column that weighs links.
fn column(table: &Table, wish: &GraphWish<'_>) -> String {
    let known = |name: &&str| table.metrics.iter().any(|known| known == name);
    let own = wish.column.or_else(|| Some("score").filter(known));
    let own = own.map(str::to_owned);
    let own = own.or_else(|| table.metrics.first().cloned());
    own.unwrap_or_else(|| "prob".to_owned())
}

fn prompt(table: &Table, pair: u32) -> Option<&PairProvenance> {
    let mut pairs = table.provenance.pairs.iter().zip(0..);
    let own = pairs.find(|(of, index)| of.row.unwrap_or(*index) == pair);
    own.map(|(of, _)| of)
}

fn metadata(
    table: &Table,
    (pair, prompt): (u32, &PairProvenance),
    column: &str,
    change: bool,
) -> Value {
    let made = &table.provenance;
    let model = made.model.rsplit(['/', '\\']).next().unwrap_or_default();
    // Neuronpedia's name of OpenAI's smallest
    let scan = if model == "gpt2" { "gpt2-small" } else { model };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let slug: String = format!("headlight-{scan}-{pair}")
        .chars()
        .map(plain)
        .collect();
    let of = if change { "change of " } else { "" };
    let text = prompt.base_text.clone();
    json!({
        "slug": slug,
        "scan": scan,
        "prompt_tokens": prompt.base_tokens,
        "prompt": text.unwrap_or_else(|| prompt.base_tokens.concat()),
        "info": {
            "description": format!(
                "Edges between heads and MLPs of pair {pair}; a weight is the {of}{column} where the receiver has the \
                 source's contribution at that position. Edges into a head's query, key or value end in the head."
            ),
            "generator": {"name": "headlight", "version": made.version},
        },
    })
}

/// What nodes are called, and where they stand.
struct Places<'a> {
    prompt: &'a PairProvenance,
    /// A row of the target.
    target: &'a Row,
    config: &'a Config,
}

impl Places<'_> {
    /// The logit stands where it is read out, wherever the edge is.
    fn position(&self, node: NodeAt, position: usize) -> usize {
        let last = self.prompt.base_ids.len().saturating_sub(1);
        match node.level {
            NodeLevel::Logits => self.prompt.readout.unwrap_or(last),
            _ => position,
        }
    }

    fn node(&self, node: NodeAt, position: usize) -> Node {
        let position = self.position(node, position);
        let id = self.prompt.base_ids.get(position).copied();
        let token = self.prompt.base_tokens.get(position);
        let token = token.map_or("", String::as_str);
        let (layer, feature, feature_type, clerp) = match (node.level, node.part) {
            (NodeLevel::Input, _) => ("E".to_owned(), id, "embedding", format!("Emb: \"{token}\"")),
            (NodeLevel::Logits, _) => (
                (self.config.layers + 1).to_string(),
                Some(self.target.target_id),
                "logit",
                format!(
                    "Output \"{}\" (p={:.3})",
                    self.target.target, self.target.base_prob
                ),
            ),
            (NodeLevel::Layer(layer), NodePart::Mlp) => {
                (layer.to_string(), None, "mlp", format!("MLP {layer}"))
            }
            (NodeLevel::Layer(layer), _) => (
                layer.to_string(),
                Some(node.head),
                "attention head",
                format!("L{layer}H{}", node.head),
            ),
        };
        let named = feature.map_or_else(|| "mlp".to_owned(), |feature| feature.to_string());
        let node_id = format!("{layer}_{named}_{position}");
        let logit = node.level == NodeLevel::Logits;
        Node {
            js_node_id: format!("{node_id}-0"),
            node_id,
            feature,
            layer,
            ctx_idx: position,
            feature_type,
            clerp,
            token_prob: logit
                .then_some(self.target.base_prob)
                .filter(|p| p.is_finite()),
            is_target_logit: logit,
            run_idx: 0,
            reverse_ctx_idx: self.prompt.base_ids.len().saturating_sub(1 + position),
        }
    }
}
