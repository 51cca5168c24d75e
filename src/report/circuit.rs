//! A circuit layer by layer: as text, and as a figure whose layers go upwards.
//!
//! Only nodes of which an edge is kept are drawn. A line is as thick as its score is large beside the largest,
//! and red or blue by its sign, as in heat maps; into a head it ends at its query, key or value.

use std::io::{self, Write};
use std::path::Path;

use super::ReportError;
use super::colour::Rgb;
use super::labels::width;
use super::page::circuit_page;
use super::plot::PlotFormat;
use super::scene::{Anchor, Mark, Scene, text_width};
use super::strongest::signed;
use crate::circuit::{Circuit, Node};
use crate::files::whole::WholeFile;
use crate::graph::edge::Edge;
use crate::graph::node::{Projection, Receiver, Sender};

/// Lines of text are no longer than this.
const WIDEST: usize = 100;

const INK: Rgb = [0x22, 0x22, 0x22];
const SOFT: Rgb = [0x66, 0x66, 0x66];
const BOX: Rgb = [0xe8, 0xec, 0xf1];
const POSITIVE: Rgb = [0x21, 0x66, 0xac];
const NEGATIVE: Rgb = [0xb2, 0x18, 0x2b];

const MARGIN: f32 = 24.0;
/// A node's box, and what lies between two.
const NODE: (f32, f32) = (58.0, 22.0);
const GAP: f32 = 14.0;
/// From one row of boxes to the next.
const RISE: f32 = 74.0;
const LABEL: f32 = 12.0;
const NOTE: f32 = 11.0;
/// Thickness of the thinnest and the thickest line.
const THICK: (f32, f32) = (0.6, 5.0);

/// Kept edges with their scores.
fn kept(circuit: &Circuit) -> Vec<(Edge, f64)> {
    let each = circuit.edges.iter().zip(&circuit.scores);
    let each = each
        .zip(&circuit.kept)
        .map(|((edge, score), kept)| ((*edge, *score), *kept));
    each.filter(|(_, kept)| *kept)
        .map(|(edge, _)| edge)
        .collect()
}

/// Nodes by rows, the lowest first: the input, then the heads and the MLP of each layer, then the logits.
fn rows(circuit: &Circuit) -> Vec<Vec<Node>> {
    let nodes = circuit.nodes();
    let height = |node: &Node| match node {
        Node::Sender(Sender::Input) => 0,
        Node::Sender(Sender::Head { layer, .. }) => 1 + 2 * layer,
        Node::Sender(Sender::Mlp { layer }) => 2 + 2 * layer,
        Node::Logits => usize::MAX,
    };
    let along = |node: &Node| match node {
        Node::Sender(Sender::Head { head, .. }) => *head,
        _ => 0,
    };
    let mut all: Vec<Node> = nodes.into_iter().collect();
    all.sort_by_key(|node| (height(node), along(node)));
    all.chunk_by(|a, b| height(a) == height(b))
        .map(<[Node]>::to_vec)
        .collect()
}

fn name(node: Node) -> String {
    match node {
        Node::Sender(sender) => sender.to_string(),
        Node::Logits => "logits".to_owned(),
    }
}

/// Writes what each node is told, the logits first and then layer by layer down to the first; of each query, key
/// and value the largest scores first.
///
/// # Errors
///
/// Those of `out`.
pub fn write_circuit(circuit: &Circuit, out: &mut dyn Write) -> io::Result<()> {
    let edges = kept(circuit);
    for node in rows(circuit).into_iter().rev().flatten() {
        let into = edges.iter().filter(|(e, _)| Node::of(e.receiver) == node);
        let into: Vec<&(Edge, f64)> = into.collect();
        let mut lead = format!("{:<8}", name(node));
        if into.is_empty() {
            writeln!(out, "{}", lead.trim_end())?;
        }
        for part in [
            None,
            Some(Projection::Query),
            Some(Projection::Key),
            Some(Projection::Value),
        ] {
            let own = into.iter().filter(|(edge, _)| match edge.receiver {
                Receiver::Head { projection, .. } => Some(projection) == part,
                _ => part.is_none(),
            });
            let mut own: Vec<&&(Edge, f64)> = own.collect();
            own.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            if own.is_empty() {
                continue;
            }
            let mut line = format!("{lead}{} ←", part.map_or(' ', letter));
            lead = " ".repeat(8);
            for (i, (edge, score)) in own.iter().map(|e| ***e).enumerate() {
                let rest = own.len() - i;
                let next = format!("  {} {}", edge.sender, signed(score));
                if i > 0 && width(&line) + width(&next) > WIDEST - 12 {
                    line.push_str(&format!("  and {rest} more"));
                    break;
                }
                line.push_str(&next);
            }
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn letter(projection: Projection) -> char {
    match projection {
        Projection::Query => 'q',
        Projection::Key => 'k',
        Projection::Value => 'v',
    }
}

/// Draws a circuit into `path`, whole or not at all, as SVG, PNG or a page by its ending.
///
/// # Errors
///
/// [`ReportError::UnknownFormat`], [`ReportError::TooLarge`], or one of the file.
pub fn plot_circuit(circuit: &Circuit, path: &Path) -> Result<(), ReportError> {
    match PlotFormat::of(path)? {
        PlotFormat::Picture(format) => {
            let bytes = format.paint(&scene(circuit), path)?;
            Ok(WholeFile::write(path, &bytes)?)
        }
        PlotFormat::Page => circuit_page(circuit)?.write(path),
    }
}

/// A circuit as the bytes of an SVG document.
pub fn circuit_svg(circuit: &Circuit) -> String {
    super::svg::document(&scene(circuit))
}

/// A point along the lower edge of a node's box, where what it reads comes in.
fn entrance((x, y): (f32, f32), receiver: Receiver) -> (f32, f32) {
    let along = match receiver {
        Receiver::Head { projection, .. } => match projection {
            Projection::Query => 0.2,
            Projection::Key => 0.5,
            Projection::Value => 0.8,
        },
        _ => 0.5,
    };
    (x + NODE.0 * along, y + NODE.1)
}

fn scene(circuit: &Circuit) -> Scene {
    let (rows, mut edges) = (rows(circuit), kept(circuit));
    let most = rows.iter().map(Vec::len).max().unwrap_or(1) as f32;
    let title = format!("{} of {} edges", edges.len(), circuit.edges.len());
    let note = "blue above 0, red below; thick is large; into a head: query, key, value from left to right";
    // nodes that stand alone go from side to side, so that what passes them is seen
    let sway = NODE.0 * 1.15;
    let room = (most * (NODE.0 + GAP) - GAP)
        .max(NODE.0 + 2.0 * sway)
        .max(text_width(&title, 15.0))
        .max(text_width(note, NOTE));
    let mut scene = Scene {
        width: 2.0 * MARGIN + room,
        ..Scene::default()
    };
    let top = MARGIN + 48.0;
    scene.height = top + (rows.len() as f32 - 1.0) * RISE + NODE.1 + MARGIN;
    scene.text((MARGIN, MARGIN + 14.0), 15.0, Anchor::Start, INK, &title);
    scene.text((MARGIN, MARGIN + 32.0), NOTE, Anchor::Start, SOFT, note);
    let place = |node: Node| -> Option<(f32, f32)> {
        let (height, row) = rows
            .iter()
            .enumerate()
            .find(|(_, row)| row.contains(&node))?;
        let at = row.iter().position(|other| *other == node)? as f32;
        let wide = row.len() as f32 * (NODE.0 + GAP) - GAP;
        let aside = match row.len() {
            1 => ((height % 3) as f32 - 1.0) * sway,
            _ => 0.0,
        };
        let x = MARGIN + (room - wide) / 2.0 + at * (NODE.0 + GAP) + aside;
        let y = top + (rows.len() - 1 - height) as f32 * RISE;
        Some((x, y))
    };
    let largest = edges
        .iter()
        .fold(0.0f64, |m, (_, score)| m.max(score.abs()));
    // the largest are drawn last, over the others
    edges.sort_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    for (edge, score) in &edges {
        let (Some(from), Some(to)) = (
            place(Node::Sender(edge.sender)),
            place(Node::of(edge.receiver)),
        ) else {
            continue;
        };
        let share = if largest > 0.0 {
            score.abs() / largest
        } else {
            0.0
        };
        scene.marks.push(Mark::Line {
            from: (from.0 + NODE.0 / 2.0, from.1),
            to: entrance(to, edge.receiver),
            colour: if *score < 0.0 { NEGATIVE } else { POSITIVE },
            width: THICK.0 + (THICK.1 - THICK.0) * share as f32,
        });
    }
    for node in rows.iter().flatten() {
        let Some((x, y)) = place(*node) else { continue };
        scene.marks.push(Mark::Rect {
            x,
            y,
            width: NODE.0,
            height: NODE.1,
            fill: BOX,
            tip: Some(tip(*node, &edges)),
        });
        let middle = (x + NODE.0 / 2.0, y + NODE.1 / 2.0 + LABEL * 0.36);
        scene.text(middle, LABEL, Anchor::Middle, INK, &name(*node));
    }
    scene
}

/// What a node is told and tells.
fn tip(node: Node, edges: &[(Edge, f64)]) -> String {
    let own = edges
        .iter()
        .rev()
        .filter(|(edge, _)| Node::of(edge.receiver) == node || Node::Sender(edge.sender) == node);
    let lines = own.map(|(edge, score)| format!("{edge} {}", signed(*score)));
    lines.collect::<Vec<String>>().join("\n")
}
