//! Edges with scores, and which of them are kept.

use std::path::{Path, PathBuf};

use headlight::circuit::json::{self, Convention};
use headlight::circuit::select::{Selection, Worth};
use headlight::circuit::{Circuit, Node};
use headlight::graph::node::Sender;
use headlight::model::Config;
use headlight::report::{self, PlotFormat};
use headlight::results::array::Array;
use headlight::{Error, Table};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::fault::raise;
use crate::memory::doubles;

/// A circuit of one model. Nothing changes it: choosing gives another.
#[pyclass(frozen, module = "headlight._headlight")]
pub struct Graph {
    pub circuit: Circuit,
    config: Config,
}

/// A matrix: its shape, what stands along both axes, and its values.
type Matrix<'py> = (
    Vec<usize>,
    Vec<String>,
    Vec<String>,
    Bound<'py, PyByteArray>,
);

impl Graph {
    pub fn new(circuit: Circuit, config: Config) -> Self {
        Self { circuit, config }
    }

    /// What a table or a circuit's file holds, by its ending.
    pub fn read(path: &Path, column: &str, config: &Config) -> Result<Self, Error> {
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        let circuit = match is_json {
            true => json::read(path, config)?,
            false => {
                let table: Table = report::read(path)?;
                Circuit::of_table(&table, &path.display().to_string(), column, config)?
            }
        };
        Ok(Self::new(circuit, config.clone()))
    }
}

#[pymethods]
impl Graph {
    /// Every edge: its name, its score, whether it is kept.
    fn edges(&self) -> Vec<(String, f64, bool)> {
        let Circuit {
            edges,
            scores,
            kept,
        } = &self.circuit;
        let each = edges.iter().zip(scores).zip(kept);
        each.map(|((edge, score), kept)| (edge.to_string(), *score, *kept))
            .collect()
    }

    /// Names of the nodes of which edges are kept, from the input up.
    fn nodes(&self) -> Vec<String> {
        let kept = self.circuit.nodes();
        let senders = Sender::all(&self.config).into_iter();
        let senders = senders.filter(|sender| kept.contains(&Node::Sender(*sender)));
        let names = senders.map(|sender| sender.to_string());
        names.chain(["logits".to_owned()]).collect()
    }

    /// The circuit that is chosen: `top_n`, `threshold` or `greedy`, of so much.
    fn choose(&self, how: &str, much: f64, signed: bool) -> Self {
        let choice = match how {
            "top_n" => Selection::Top(much as usize),
            "greedy" => Selection::Greedy(much as usize),
            _ => Selection::Threshold(much),
        };
        let worth = match signed {
            true => Worth::Signed,
            false => Worth::Size,
        };
        let mut circuit = self.circuit.clone();
        circuit.choose(choice, worth);
        Self::new(circuit, self.config.clone())
    }

    /// With these edges kept, by name; a name that no edge has is handed back.
    fn keep(&self, names: Vec<String>) -> Result<Self, PyErr> {
        let mut circuit = self.circuit.clone();
        circuit.kept.fill(false);
        for name in names {
            let at = circuit.edges.iter().position(|e| e.to_string() == name);
            match at {
                Some(at) => circuit.kept[at] = true,
                None => return Err(pyo3::exceptions::PyKeyError::new_err(name)),
            }
        }
        Ok(Self::new(circuit, self.config.clone()))
    }

    fn prune(&self) -> Self {
        let mut circuit = self.circuit.clone();
        circuit.prune();
        Self::new(circuit, self.config.clone())
    }

    /// Writes EAP-IG's JSON.
    fn write(&self, py: Python<'_>, path: PathBuf, eap_ig: bool) -> PyResult<()> {
        let convention = match eap_ig {
            true => Convention::EapIg,
            false => Convention::Headlight,
        };
        let written = json::write(&self.circuit, convention, &self.config, &path);
        written.map_err(|error| raise(py, &Error::from(error)))
    }

    /// What each node is told, as lines.
    fn text(&self) -> String {
        let mut out = Vec::new();
        // a list of bytes takes everything
        let _ = report::write_circuit(&self.circuit, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn svg(&self) -> String {
        report::circuit_svg(&self.circuit)
    }

    /// Its page, as the text of a file.
    fn page(&self, py: Python<'_>) -> PyResult<String> {
        let page = report::circuit_page(&self.circuit);
        let page = page.map_err(|error| raise(py, &error.into()))?;
        Ok(py.detach(|| page.html()))
    }

    /// Draws it into a file, by its ending.
    fn plot(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let drawn = PlotFormat::of(&path).and_then(|_| report::plot_circuit(&self.circuit, &path));
        drawn.map_err(|error| raise(py, &error.into()))
    }

    /// `score` or `in_graph`, senders × receivers.
    fn matrix<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Matrix<'py>>> {
        let mut arrays = self.circuit.matrices();
        let mut take = |name: &str| {
            let at = arrays.iter().position(|(own, _)| own == name)?;
            Some(arrays.swap_remove(at).1)
        };
        let texts = |array| match array {
            Some(Array::Texts(list)) => list,
            _ => Vec::new(),
        };
        let Some(Array::Floats(shape, values)) = take(name) else {
            return Ok(None);
        };
        let (senders, receivers) = (texts(take("sender")), texts(take("receiver")));
        let values = doubles(py, values.into_iter())?;
        Ok(Some((shape, senders, receivers, values)))
    }
}
