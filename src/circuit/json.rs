//! Circuits as EAP-IG's `Graph.to_json` writes them, which is MIB's format of submissions too.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Circuit, Node};
use crate::files::error::FileError;
use crate::files::whole::WholeFile;
use crate::graph::edge::Edge;
use crate::graph::node::Sender;
use crate::model::Config;

/// Whose signs a file's scores have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convention {
    /// headlight's: metric(run with the source's value) − metric(base).
    #[default]
    Headlight,
    /// EAP-IG's with its metric as a loss, the base being the clean prompt: the other way round, so that what is
    /// useful is positive.
    EapIg,
    /// TransformerLens's, the base being the corrupted prompt: what restores the metric is positive, as headlight
    /// has it then.
    TransformerLens,
}

impl Convention {
    /// What scores are multiplied by.
    pub fn sign(self) -> f64 {
        match self {
            Self::EapIg => -1.0,
            Self::Headlight | Self::TransformerLens => 1.0,
        }
    }
}

/// What is wrong with a circuit's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CircuitFileError {
    /// Cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a circuit.
    #[error("{} is not a circuit as EAP-IG writes it: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A circuit of another model.
    #[error(
        "{} is of a model of {found}, and this one has {wanted}: give the --model that it was made with", path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Layers and heads of the file.
        found: String,
        /// Layers and heads of the model.
        wanted: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Graph {
    cfg: Shape,
    #[serde(default)]
    nodes: BTreeMap<String, NodeState>,
    edges: BTreeMap<String, EdgeState>,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    n_layers: usize,
    n_heads: usize,
    #[serde(default)]
    parallel_attn_mlp: bool,
    #[serde(default)]
    d_model: usize,
}

#[derive(Serialize, Deserialize)]
struct NodeState {
    in_graph: bool,
}

#[derive(Serialize, Deserialize)]
struct EdgeState {
    #[serde(default)]
    score: Option<f64>,
    in_graph: bool,
}

/// Layers and heads, in words.
fn shape(layers: usize, heads: usize) -> String {
    format!("{layers} layers of {heads} heads")
}

/// Reads a circuit of a model.
///
/// # Errors
///
/// [`CircuitFileError`]; foreign bytes never panic.
pub fn read(path: &Path, config: &Config) -> Result<Circuit, CircuitFileError> {
    let bytes = std::fs::read(path).map_err(FileError::read_of(path))?;
    of_bytes(&bytes, path, config)
}

fn of_bytes(bytes: &[u8], path: &Path, config: &Config) -> Result<Circuit, CircuitFileError> {
    let format = |problem: String| CircuitFileError::Format {
        path: path.to_owned(),
        problem,
    };
    let graph: Graph = serde_json::from_slice(bytes).map_err(|e| format(e.to_string()))?;
    let found = (graph.cfg.n_layers, graph.cfg.n_heads);
    if found != (config.layers, config.heads) {
        return Err(CircuitFileError::Shape {
            path: path.to_owned(),
            found: shape(found.0, found.1),
            wanted: shape(config.layers, config.heads),
        });
    }
    if graph.cfg.parallel_attn_mlp {
        let problem = "parallel_attn_mlp is true, and GPT-2's MLPs read their own layer's heads";
        return Err(format(problem.to_owned()));
    }
    let mut circuit = Circuit::new(config, &HashMap::new());
    let places: HashMap<String, usize> = circuit
        .edges
        .iter()
        .enumerate()
        .map(|(e, edge)| (edge.to_string(), e))
        .collect();
    for (name, state) in &graph.edges {
        let Some(at) = places.get(name) else {
            let name = name.escape_debug();
            return Err(format(format!("the model has no edge `{name}`")));
        };
        circuit.scores[*at] = state.score.unwrap_or(0.0);
        circuit.kept[*at] = state.in_graph;
    }
    Ok(circuit)
}

/// Writes a circuit, whole or not at all.
///
/// # Errors
///
/// [`FileError`].
pub fn write(
    circuit: &Circuit,
    convention: Convention,
    config: &Config,
    path: &Path,
) -> Result<(), FileError> {
    let sign = convention.sign();
    let nodes = circuit.nodes();
    let all = Sender::all(config).into_iter();
    let all = all.map(|s| (s.to_string(), nodes.contains(&Node::Sender(s))));
    let graph = Graph {
        cfg: Shape {
            n_layers: config.layers,
            n_heads: config.heads,
            parallel_attn_mlp: false,
            d_model: config.width,
        },
        nodes: all
            .chain([("logits".to_owned(), true)])
            .map(|(name, in_graph)| (name, NodeState { in_graph }))
            .collect(),
        edges: circuit
            .edges
            .iter()
            .enumerate()
            .map(|(e, edge): (usize, &Edge)| {
                let state = EdgeState {
                    // JSON has no NaN
                    score: Some(sign * circuit.scores[e]).filter(|x| x.is_finite()),
                    in_graph: circuit.kept[e],
                };
                (edge.to_string(), state)
            })
            .collect(),
    };
    let text = serde_json::to_string(&graph).unwrap_or_default();
    WholeFile::write(path, (text + "\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::select::{Selection, Worth};
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_circuit_that_is_written_reads_back() {
        let config = config(2, 3);
        let mut circuit = Circuit::new(&config, &HashMap::new());
        for (e, score) in circuit.scores.iter_mut().enumerate() {
            *score = ((e * 37) % 101) as f64 / 7.0 - 6.0;
        }
        circuit.choose(Selection::Greedy(40), Worth::Size);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("circuit.json");
        write(&circuit, Convention::Headlight, &config, &path).unwrap();
        assert_eq!(read(&path, &config).unwrap(), circuit);
        let text = std::fs::read_to_string(&path).unwrap();
        for part in [
            r#""cfg":{"n_layers":2,"n_heads":3,"parallel_attn_mlp":false,"d_model":12}"#,
            r#""logits":{"in_graph":true}"#,
            r#""a0.h1->a1.h2<k>":{"score":"#,
        ] {
            assert!(text.contains(part), "{part}");
        }
        write(&circuit, Convention::EapIg, &config, &path).unwrap();
        let other = read(&path, &config).unwrap();
        assert!(
            other
                .scores
                .iter()
                .zip(&circuit.scores)
                .all(|(a, b)| *a == -b)
        );
        assert_eq!(other.kept, circuit.kept);
    }

    #[test]
    fn what_is_no_circuit_is_refused_in_a_sentence() {
        let config = config(1, 1);
        let refused = |text: &str| {
            let error = of_bytes(text.as_bytes(), Path::new("c.json"), &config);
            error.unwrap_err().to_string()
        };
        let cfg = r#""cfg":{"n_layers":1,"n_heads":1,"parallel_attn_mlp":false,"d_model":4}"#;
        for (text, part) in [
            ("", "c.json is not a circuit"),
            ("[]", "c.json is not a circuit"),
            ("{}", "missing field `cfg`"),
            (&format!("{{{cfg}}}"), "missing field `edges`"),
            (
                &format!(r#"{{{cfg},"edges":{{"a0.h0->a0.h0<q>":{{"in_graph":true}}}}}}"#),
                "no edge `a0.h0->a0.h0<q>`",
            ),
            (
                &format!(r#"{{{cfg},"edges":{{"input->logits":{{"score":1}}}}}}"#),
                "missing field `in_graph`",
            ),
            (
                r#"{"cfg":{"n_layers":12,"n_heads":12},"edges":{}}"#,
                "12 layers of 12 heads, and this one has 1 layers of 1 heads",
            ),
        ] {
            let said = refused(text);
            assert!(said.contains(part) && !said.contains('\n'), "{said}");
        }
        // what MIB leaves out is not asked for
        let text = format!(r#"{{{cfg},"nodes":{{}},"edges":{{"input->m0":{{"in_graph":true}}}}}}"#);
        let circuit = of_bytes(text.as_bytes(), Path::new("c.json"), &config).unwrap();
        assert_eq!(circuit.count(), 1);
    }
}
