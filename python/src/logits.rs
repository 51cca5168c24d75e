//! Whole distributions of a sweep's cells, for metrics that are functions of Python's.

use std::sync::Arc;

use headlight::engine::{Form, LogitsOf};
use headlight::patch::Vector;
use headlight::prompt::pair::PairRuns;
use headlight::{Component, Engine, Error, Op, Patch, Question, Run};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::fault::{Fault, raise};
use crate::memory::singles;
use crate::worker::{Watched, Worker};

/// Logits in the order pair, run, position, token.
pub struct Logits {
    /// Of the clean bases.
    pub base: Vec<f32>,
    /// Of the runs.
    pub runs: Vec<f32>,
}

/// Runs pairs of one length with as many runs each, and keeps every logit.
pub fn gather(engine: &Engine, pairs: Vec<PairRuns>, everywhere: bool) -> Result<Logits, Error> {
    let mut logits = Logits {
        base: Vec::new(),
        runs: Vec::new(),
    };
    // both come pair by pair and run by run
    engine.logits(pairs, everywhere, &mut |_, of, _, found| {
        let to = match of {
            LogitsOf::Base => &mut logits.base,
            LogitsOf::Run(_) => &mut logits.runs,
        };
        to.extend(found.iter().map(|x| *x as f32));
    })?;
    Ok(logits)
}

/// The runs of a preset's cells over a batch of pairs of one length.
#[pyclass(frozen, module = "headlight._headlight")]
pub struct Cells {
    pairs: Vec<PairRuns>,
    places: Vec<Vec<usize>>,
    shape: Vec<usize>,
    length: usize,
    vocab: usize,
    worker: Arc<Worker>,
}

impl Cells {
    /// Those of a question about a preset.
    pub fn new(question: Question<'_>, worker: Arc<Worker>, vocab: usize) -> Result<Self, Fault> {
        let Form::Preset { preset, places, .. } = question.form else {
            let said = "cells are those of a preset".to_owned();
            return Err(Error::Usage(said).into());
        };
        let length = |p: &PairRuns| p.pair.base.len();
        let first = question.pairs.first().map_or(0, length);
        if let Some(other) = question.pairs.iter().map(length).find(|n| *n != first) {
            return Err(Error::Usage(format!(
                "a batch is of prompts of one length, and here is one of {first} tokens and one of {other}: \
                 use model.sweep, which takes them as they are"
            ))
            .into());
        }
        let places: Vec<Vec<usize>> = match places.first() {
            Some(places) => places.iter().map(|place| place.to_vec()).collect(),
            None => Vec::new(),
        };
        let mut shape = vec![0; preset.axes.len()];
        for place in &places {
            for (length, at) in shape.iter_mut().zip(place) {
                *length = (*length).max(at + 1);
            }
        }
        Ok(Self {
            pairs: question.pairs,
            places,
            shape,
            length: first,
            vocab,
            worker,
        })
    }
}

impl Cells {
    /// For each head of a later layer than a head's, a run in which what that head adds in the source rather than in the
    /// base is added to what this one reads as its queries', keys' or values' input, at every position.
    pub fn of_direct_paths(
        engine: &Engine,
        question: Question<'_>,
        (layer, head): (usize, usize),
        reads: Component,
        worker: Arc<Worker>,
    ) -> Result<Self, Error> {
        let config = &engine.model().config;
        let mut places = Vec::new();
        for later in layer + 1..config.layers {
            places.extend((0..config.heads).map(|reader| vec![later, reader]));
        }
        let mut pairs = question.pairs;
        for PairRuns { pair, runs } in &mut pairs {
            let written = |ids: &[u32]| -> Result<Vec<f64>, Error> {
                let sites = [(Component::HeadAttentionOutput, Some(layer))];
                let found = engine.cache(ids, &sites)?.remove(0).values;
                let rows = ids.len() * config.width;
                Ok(found[head * rows..][..rows].to_vec())
            };
            let source = pair.source.as_deref().unwrap_or(&pair.base);
            if source.len() != pair.base.len() {
                return Err(Error::Usage(format!(
                    "a direct path is added position by position, and one prompt has {} tokens and its clean one {}",
                    pair.base.len(),
                    source.len()
                )));
            }
            let (corrupted, clean) = (written(&pair.base)?, written(source)?);
            let added = clean.iter().zip(&corrupted).map(|(x, y)| x - y);
            let vector = Vector {
                label: "source-base".to_owned(),
                values: added.collect(),
                rows: pair.base.len(),
            };
            let every: Vec<usize> = (0..pair.base.len()).collect();
            let one = |place: &Vec<usize>| Run {
                patches: vec![Patch {
                    op: Op::Add(Some(vector.clone())),
                    ..Patch::interchange(reads, Some(place[0]), vec![place[1]], every.clone())
                }],
                ..Run::default()
            };
            *runs = places.iter().map(one).collect();
        }
        Ok(Self {
            length: pairs.first().map_or(0, |of| of.pair.base.len()),
            pairs,
            places,
            shape: vec![config.layers, config.heads],
            vocab: config.vocab,
            worker,
        })
    }
}

#[pymethods]
impl Cells {
    fn __len__(&self) -> usize {
        self.places.len()
    }

    /// The shape of the preset's array.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// Where each cell stands in it.
    #[getter]
    fn places(&self) -> Vec<Vec<usize>> {
        self.places.clone()
    }

    /// Logits of the clean bases, singles `[pairs, positions, vocabulary]`.
    fn base<'py>(&self, py: Python<'py>, everywhere: bool) -> PyResult<Bound<'py, PyByteArray>> {
        let without = |p: &PairRuns| PairRuns {
            pair: p.pair.clone(),
            runs: [].into(),
        };
        let pairs: Vec<PairRuns> = self.pairs.iter().map(without).collect();
        let found = self.worker.ask(py, &Watched::nobody(), move |engine| {
            Ok(gather(engine, pairs, everywhere)?.base)
        })?;
        singles(py, &found)
    }

    /// Logits of some cells, singles `[cells, pairs, positions, vocabulary]`.
    fn logits<'py>(
        &self,
        py: Python<'py>,
        first: usize,
        count: usize,
        everywhere: bool,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let count = count.min(self.places.len().saturating_sub(first));
        if count == 0 {
            let said = format!("there is no cell {first}: there are {}", self.places.len());
            return Err(raise(py, &Error::Usage(said)));
        }
        let some = |p: &PairRuns| PairRuns {
            pair: p.pair.clone(),
            runs: p.runs[first..][..count].into(),
        };
        let pairs: Vec<PairRuns> = self.pairs.iter().map(some).collect();
        let (batch, positions) = (pairs.len(), if everywhere { self.length } else { 1 });
        let one = positions * self.vocab;
        let found = self.worker.ask(py, &Watched::nobody(), move |engine| {
            let by_pair = gather(engine, pairs, everywhere)?.runs;
            let mut by_cell = Vec::with_capacity(by_pair.len());
            for cell in 0..count {
                for pair in 0..batch {
                    by_cell.extend_from_slice(&by_pair[(pair * count + cell) * one..][..one]);
                }
            }
            Ok(by_cell)
        })?;
        singles(py, &found)
    }
}
