//! Operators that Python makes: constants out of arrays, and functions.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use headlight::ask::operator::OpText;
use headlight::function::Function;
use headlight::patch::{MeanOver, Vector};
use headlight::prompt::pair::PromptText;
use headlight::{Engine, Error, Op};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::memory::doubles;

/// An operator: as `--op` spells it, or made.
#[derive(FromPyObject)]
pub enum OpWord {
    #[pyo3(transparent)]
    Text(String),
    #[pyo3(transparent)]
    Made(MadeOp),
}

/// What Python's `Op` hands over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct MadeOp {
    /// `set`, `add`, `subtract`, `mean`, `noise` or `function`.
    kind: String,
    label: String,
    values: Vec<f64>,
    rows: usize,
    prompts: Vec<PromptWord>,
    level: f64,
    seed: u64,
    sample: u32,
    call: Option<Py<PyAny>>,
    reads_source: bool,
}

/// A prompt: text, or token ids.
#[derive(FromPyObject, Clone)]
pub enum PromptWord {
    #[pyo3(transparent)]
    Text(String),
    #[pyo3(transparent)]
    Ids(Vec<u32>),
}

impl From<PromptWord> for PromptText {
    fn from(word: PromptWord) -> Self {
        match word {
            PromptWord::Text(text) => Self::Text(text),
            PromptWord::Ids(ids) => Self::Ids(ids),
        }
    }
}

/// The exception of the first function that failed, which ends the work.
#[derive(Clone, Default)]
pub struct Failure(Arc<Mutex<Option<PyErr>>>);

impl Failure {
    /// What it was.
    pub fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: PyErr) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    }
}

impl OpWord {
    /// The engine's operator.
    pub fn op(self, engine: &Engine, seed: Option<u64>, failure: &Failure) -> Result<Op, Error> {
        match self {
            Self::Text(text) => engine.op(&text.parse::<OpText>()?, seed),
            Self::Made(made) => made.op(engine, failure),
        }
    }
}

impl MadeOp {
    /// The engine's operator.
    pub fn op(self, engine: &Engine, failure: &Failure) -> Result<Op, Error> {
        let vector = || Vector {
            label: self.label.clone(),
            values: self.values.clone().into(),
            rows: self.rows,
        };
        Ok(match (self.kind.as_str(), self.call) {
            ("set", _) => Op::Set(vector()),
            ("add", _) => Op::Add(Some(vector())),
            ("subtract", _) => Op::Subtract(Some(vector())),
            ("mean" | "mean-by-position", _) => {
                let ids = |word| PromptText::from(word).tokens(engine.model());
                let prompts: Result<Vec<Vec<u32>>, _> = self.prompts.into_iter().map(ids).collect();
                Op::Mean(MeanOver {
                    label: self.label,
                    prompts: prompts?.into(),
                    by_position: self.kind == "mean-by-position",
                })
            }
            ("noise", _) => Op::Noise {
                level: self.level,
                seed: self.seed,
                sample: self.sample,
            },
            ("function", Some(call)) => Op::Function(function(
                &self.label,
                call,
                self.reads_source,
                engine,
                failure,
            )),
            (kind, _) => return Err(Error::Usage(format!("unknown operator `{kind}`"))),
        })
    }
}

/// A function of Python's on rows; the first that fails stops the engine.
fn function(
    label: &str,
    call: Py<PyAny>,
    reads_source: bool,
    engine: &Engine,
    failure: &Failure,
) -> Function {
    let (stop, failure) = (engine.stop(), failure.clone());
    let apply = move |b: &mut [f64], s: &[f64]| {
        let made = Python::attach(|py| -> PyResult<Vec<f64>> {
            let array = |values: &[f64]| -> PyResult<Bound<'_, PyAny>> {
                let bytes = doubles(py, values.iter().copied())?;
                let numpy = py.import("numpy")?;
                numpy.call_method1("frombuffer", (bytes, numpy.getattr("float64")?))
            };
            let here = array(b)?;
            let made = match reads_source {
                true => call.call1(py, (here, array(s)?))?,
                false => call.call1(py, (here,))?,
            };
            let made: Vec<f64> = py
                .import("headlight._arrays")?
                .call_method1("row", (made,))?
                .extract()?;
            match made.len() == b.len() {
                true => Ok(made),
                false => Err(PyValueError::new_err(format!(
                    "the function gave {} numbers for a row of {}: give as many",
                    made.len(),
                    b.len()
                ))),
            }
        });
        match made {
            Ok(made) => b.copy_from_slice(&made),
            Err(error) => {
                failure.set(error);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    match reads_source {
        true => Function::new(label, apply),
        false => Function::of_base(label, move |b| apply(b, &[])),
    }
}
