//! An answer as Python holds it: rows, averages, arrays, and how they were made.

mod scores;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headlight::engine::{Answer, Attributed, Form};
use headlight::execute::Plan;
use headlight::execute::collect::Collection;
use headlight::files::error::FileError;
use headlight::files::whole::WholeFile;
use headlight::report::heatmap::Facet;
use headlight::report::{
    self, DrawnValue, GraphWish, HeatMap, Page, PictureFormat, PlotFormat, are_whole_edges,
};
use headlight::results::array::{Array, Arrays, Values};
use headlight::results::averages::{Averages, Over};
use headlight::results::clean::Cleans;
use headlight::results::columns::{self, Cell, Column, Kind};
use headlight::results::kept::{KeptRows, RowsWish};
use headlight::results::metric::Quantity;
use headlight::results::rows::{Gather, RunResult};
use headlight::tracing::arrays::{arrays, arrays_of_prompts};
use headlight::tracing::averages::TraceMeans;
use headlight::{Checkpoint, Engine, Error, Metric, Question, Table};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};

use crate::ask::notes;
use crate::fault::{Fault, raise};
use crate::frame::Frame;
use crate::memory::{doubles, integers};
use crate::operator::Failure;
use crate::worker::{Progress, aside};

use self::scores::Agreements;
pub use self::scores::{MethodWord, attributed};
use crate::graph::Graph;

/// An array: name, kind, shape, and values as NumPy takes them.
type NamedValues<'a, 'py> = (&'a str, &'static str, Vec<usize>, Bound<'py, PyAny>);

/// A column in the cells of a grid: its name, what it is in the clean base and source, and doubles.
type CellColumn<'py> = (String, Option<f64>, Option<f64>, Bound<'py, PyByteArray>);

/// A grid: its title, its rows' labels from the lowest up, its columns (a label, a position and, where heads are set side by side,
/// their labels), and what its cells hold, the column that is drawn first.
type Grid<'py> = (
    String,
    Vec<String>,
    Vec<(String, Option<u32>, Vec<String>)>,
    Vec<CellColumn<'py>>,
);

/// What one patch collected: pair, run, patch, shape and doubles.
type CollectedValues<'py> = (usize, usize, usize, Vec<usize>, Bound<'py, PyByteArray>);

/// What was found.
#[pyclass(frozen, module = "headlight._headlight")]
pub struct Answered {
    table: Table,
    /// Whether the table has rows; else averages are all there is.
    kept: KeptRows,
    averages: Option<Averages>,
    arrays: Vec<(String, Held)>,
    collected: Vec<(usize, Collection)>,
    /// Why there are no arrays, where that is known.
    no_arrays: Option<String>,
    /// Where a preset's runs stand in its arrays, pair by pair.
    places: Vec<Arc<[Vec<usize>]>>,
    /// Whether its rows are no patched runs: what the clean base's columns are is no cell's then.
    is_lens: bool,
    /// What is drawn, where it is not the table itself.
    means: Option<Table>,
    /// The column that is drawn.
    drawn: String,
    done: Answer,
    notes: Vec<String>,
    /// Of estimates, how good they are.
    attributed: Option<Attributed>,
    model: Checkpoint,
    /// The rows in columns, once ...
    columns: Mutex<Option<Frame>>,
    /// ... and when somebody has asked for them.
    frame: Mutex<Option<Py<Frame>>>,
}

/// An array that is in memory.
#[derive(Clone)]
enum Held {
    Floats(Vec<usize>, Vec<f64>),
    Indices(Vec<usize>, Vec<usize>),
    Texts(Vec<String>),
    Text(String),
}

impl Held {
    fn of(mut array: Array) -> Result<Self, Error> {
        Ok(match &mut array {
            Array::Floats(shape, values) => Self::Floats(shape.clone(), values.clone()),
            Array::Indices(shape, list) => Self::Indices(shape.clone(), list.clone()),
            Array::Texts(list) => Self::Texts(list.clone()),
            Array::Text(text) => Self::Text(text.clone()),
            Array::Spooled(shape, _) => {
                let (shape, mut bytes) = (shape.clone(), Vec::new());
                let copied = array.write_numbers(&mut bytes);
                copied.map_err(|source| FileError::Read {
                    path: std::env::temp_dir(),
                    source,
                })?;
                let numbers = bytes.as_chunks::<8>().0.iter();
                Self::Floats(shape, numbers.map(|x| f64::from_le_bytes(*x)).collect())
            }
        })
    }

    fn array(&self) -> Array {
        match self.clone() {
            Self::Floats(shape, values) => Array::Floats(shape, values),
            Self::Indices(shape, list) => Array::Indices(shape, list),
            Self::Texts(list) => Array::Texts(list),
            Self::Text(text) => Array::Text(text),
        }
    }
}

/// What `collect` patches read.
#[derive(Default)]
struct Collected(Vec<(usize, Collection)>);

impl Gather for Collected {
    fn run(&mut self, _: &RunResult<'_>) -> Result<(), FileError> {
        Ok(())
    }

    fn collected(&mut self, pair: usize, collection: &Collection) -> Result<(), FileError> {
        self.0.push((pair, collection.clone()));
        Ok(())
    }
}

/// What is wanted of a question beside its rows.
pub struct Wishes {
    /// Metrics, as `--metric` spells them.
    pub metrics: Vec<String>,
    /// How many of the most probable tokens after each run stand in its rows.
    pub top_tokens: usize,
    /// What is kept of rows, as `--rows` spells it.
    pub rows: String,
    /// Whether pairs without targets get some.
    pub targets: bool,
    /// Whether averages stand beside the table.
    pub averages: bool,
    /// What the provenance calls the call.
    pub command: String,
    /// Where what was found goes if the work is interrupted.
    pub unfinished: Unfinished,
}

/// The rows of a question that was interrupted.
pub type Unfinished = Arc<Mutex<Option<Answered>>>;

/// Runs a question.
pub fn answer(
    engine: &Engine,
    question: Question<'_>,
    wishes: Wishes,
    progress: &Progress,
    failure: &Failure,
) -> Result<Answered, Fault> {
    let answered = run(engine, question, wishes, progress);
    // a function of Python's that failed stopped the engine
    match failure.take() {
        Some(error) => Err(Fault::Python(error)),
        None => Ok(answered?),
    }
}

fn run(
    engine: &Engine,
    question: Question<'_>,
    wishes: Wishes,
    progress: &Progress,
) -> Result<Answered, Error> {
    let metrics: Result<Vec<Metric>, _> = wishes.metrics.iter().map(|m| m.parse()).collect();
    let mut question = question.metrics(&metrics?)?.top_tokens(wishes.top_tokens);
    let wish: RowsWish = wishes.rows.parse().map_err(Error::Usage)?;
    let kept = wish.kept(question.count_rows(), wishes.averages);
    let kept = kept.map_err(Error::Usage)?;
    let means_alone = kept == KeptRows::Means;
    // a lens has some unless it is told otherwise
    let of_lens = matches!(question.form, Form::Lens { .. });
    if means_alone && question.top_tokens > 0 && !of_lens {
        return Err(Error::Usage(
            "--top is a column of rows, of which only averages are kept: leave it out, or give --rows all"
                .into(),
        ));
    }
    let doubts = engine.spaces(question.pairs.iter().map(|p| &p.pair));
    if wishes.targets {
        engine.default_targets(&mut question.pairs)?;
    }
    let of_parts = matches!(question.form, Form::Lens { by: Some(_), .. });
    if of_parts && question.metrics.is_empty() || matches!(question.form, Form::Preset { .. }) {
        question.default_metric();
    }
    let metrics = question.metrics.clone();
    if metrics.is_empty() {
        // of edges and paths; it is a column anyway
        question.metrics.push(Metric::plain(Quantity::Prob));
    }
    let (axes, no_arrays) = match question.axes() {
        // they hold every pair's own values
        Ok(_) if means_alone => (None, None),
        Ok(axes) => (axes, None),
        Err(error) => (None, Some(error.to_string())),
    };
    progress
        .total
        .store(question.count() as u64, Ordering::Relaxed);
    let mut table = Table {
        metrics: question.columns(),
        ..Table::default()
    };
    let temporary = std::env::temp_dir().join("arrays");
    let (mut collected, mut cleans) = (Collected::default(), Cleans::default());
    let mut values = axes.as_ref().map(|axes| question.values(axes, &temporary));
    let layers = engine.model().config.layers;
    let over = question.over();
    let mut traced = match &question.form {
        Form::Tracing { tracing, .. } => {
            let means = TraceMeans::new(tracing, over, layers, &metrics);
            Some(match over {
                Over::Prompts if !means_alone => means.scored(&temporary),
                _ => means,
            })
        }
        _ => None,
    };
    let mut averages = (wishes.averages && traced.is_none()).then(|| Averages::new(over, &metrics));
    let mut gather: Vec<&mut dyn Gather> = vec![&mut collected, &mut cleans];
    gather.extend((!means_alone).then_some(&mut table as &mut dyn Gather));
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(values.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(traced.iter_mut().map(|g| g as &mut dyn Gather));
    let count = |runs| {
        progress.done.fetch_add(runs, Ordering::Relaxed);
    };
    let start = Instant::now();
    let done = match question.answer(&mut gather, &count) {
        Ok(done) => done,
        Err(error) => {
            drop(gather);
            if error.is_interruption() && !table.rows.is_empty() {
                let mut answered = Answered::of_rows(engine, &question, table, wishes.command);
                if !metrics.is_empty() {
                    cleans.fill(&mut answered.table.provenance, 0);
                }
                answered.done.plan.count = progress.done.load(Ordering::Relaxed) as usize;
                answered.done.time = start.elapsed();
                let mut kept = wishes
                    .unfinished
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *kept = Some(answered);
            }
            return Err(error);
        }
    };

    let mut found = values.map_or(Ok(Arrays::new()), Values::finish)?;
    if let Some(axes) = axes {
        found.extend(axes.about());
        found.extend(question.rows());
    }
    let mut means = None;
    if let (
        Some(mut traced),
        Form::Tracing {
            tracing, subjects, ..
        },
    ) = (traced, &question.form)
    {
        traced.finish()?;
        means = Some(traced.drawn());
        found = match (over, question.pairs.first(), subjects.first()) {
            (Over::Prompts, ..) => arrays_of_prompts(tracing, layers, &mut traced),
            (_, Some(pair), Some(subject)) => {
                arrays(engine.model(), tracing, pair, subject, &traced)
            }
            _ => found,
        };
        averages = Some(traced.averages);
    }
    let held = found.into_iter();
    let held = held.map(|(name, array)| Ok((name, Held::of(array)?)));
    let mut answered = Answered {
        kept,
        arrays: held.collect::<Result<_, Error>>()?,
        averages,
        collected: collected.0,
        no_arrays,
        means,
        done,
        ..Answered::of_rows(engine, &question, table, wishes.command)
    };
    if !metrics.is_empty() {
        cleans.fill(&mut answered.table.provenance, 0);
    }
    answered.notes.extend(doubts);
    Ok(answered.in_columns())
}

impl Answered {
    /// Rows alone, so far as nothing is known of how they came.
    fn of_rows(
        engine: &Engine,
        question: &Question<'_>,
        mut table: Table,
        command: String,
    ) -> Self {
        table.provenance = engine.provenance(&question.pairs, false);
        table.provenance.command = command;
        let first = question.metrics.first();
        Self {
            drawn: first.map_or_else(|| "prob".to_owned(), ToString::to_string),
            table,
            kept: KeptRows::Rows,
            averages: None,
            arrays: Vec::new(),
            collected: Vec::new(),
            no_arrays: None,
            places: match &question.form {
                Form::Preset { places, .. } => places.clone(),
                _ => Vec::new(),
            },
            is_lens: matches!(question.form, Form::Lens { .. }),
            means: None,
            done: Answer {
                plan: Plan::default(),
                time: Duration::ZERO,
            },
            notes: notes(),
            attributed: None,
            model: engine.model().clone(),
            columns: Mutex::default(),
            frame: Mutex::default(),
        }
    }

    /// With its rows in columns, which nothing changes from here on.
    fn in_columns(self) -> Self {
        let columns = self.columns_of();
        Self {
            columns: Mutex::new(Some(columns)),
            ..self
        }
    }

    fn columns_of(&self) -> Frame {
        let names = columns::columns(&columns::names(&self.table));
        let rows = self.table.rows.iter().map(columns::cells);
        Frame::new(names, rows, self.made())
    }

    fn made(&self) -> String {
        // plain texts and numbers, which always serialise
        serde_json::to_string(&self.table.provenance).unwrap_or_default()
    }

    fn map(&self, value: Option<&str>) -> Result<HeatMap, Error> {
        let drawn = |text: &str| text.parse::<DrawnValue>().map_err(Error::Usage);
        let value = &match value {
            Some(value) => drawn(value)?,
            None => DrawnValue::of(&self.drawn),
        };
        Ok(match &self.means {
            Some(means) => {
                let mut means = means.clone();
                means.provenance = self.table.provenance.clone();
                HeatMap::by_component(&means, value)?
            }
            None => HeatMap::new(self.rows("draws")?, value)?,
        })
    }

    /// Grids of one component each, with a column in their cells; of edges, their matrix.
    fn grids_of(&self, value: &DrawnValue) -> Result<HeatMap, Error> {
        Ok(match &self.means {
            Some(means) => {
                let mut means = means.clone();
                means.provenance = self.table.provenance.clone();
                HeatMap::by_component(&means, value)?
            }
            None if are_whole_edges(&self.table) => HeatMap::new(&self.table, value)?,
            None => HeatMap::by_component(&self.table, value)?,
        })
    }

    fn as_page(&self, value: Option<&str>) -> Result<Page, Error> {
        let page = match &self.means {
            Some(means) => {
                let mut means = means.clone();
                means.provenance = self.table.provenance.clone();
                Page::by_component(&means)?
            }
            None => Page::new(self.rows("shows")?)?,
        };
        Ok(page.showing(value.unwrap_or(&self.drawn))?)
    }

    /// The table, of whose rows something is made.
    fn rows(&self, what: &str) -> Result<&Table, Error> {
        match self.kept {
            KeptRows::Rows => Ok(&self.table),
            KeptRows::Means => Err(Error::Usage(format!(
                "a result of means keeps no rows that a picture {what}: ask for rows=\"all\""
            ))),
        }
    }

    /// The table with the hash of the model in its provenance.
    fn hashed(&self, py: Python<'_>) -> PyResult<Table> {
        let model = self.model.clone();
        let model_hash = aside(py, move || model.hash())?;
        let mut table = py.detach(|| self.table.clone());
        table.provenance.model_hash = model_hash;
        Ok(table)
    }
}

#[pymethods]
impl Answered {
    /// The rows.
    fn frame(&self, py: Python<'_>) -> PyResult<Py<Frame>> {
        let known = || self.frame.lock().ok()?.as_ref().map(|f| f.clone_ref(py));
        if let Some(frame) = known() {
            return Ok(frame);
        }
        if let (KeptRows::Means, Some(means)) = (self.kept, self.summary()) {
            return Py::new(py, means);
        }
        let built = self.columns.lock().ok().and_then(|mut built| built.take());
        let frame = built.unwrap_or_else(|| py.detach(|| self.columns_of()));
        let frame = Py::new(py, frame)?;
        if let Ok(mut known) = self.frame.lock() {
            *known = Some(frame.clone_ref(py));
        }
        Ok(frame)
    }

    /// Averages over pairs (of a tracing, over samples or prompts), where there are several.
    fn summary(&self) -> Option<Frame> {
        let averages = self.averages.as_ref()?;
        let rows = averages
            .rows()
            .iter()
            .map(|row| row.cells(averages.averaged()));
        Some(Frame::new(averages.columns(), rows, self.made()))
    }

    /// What the clean prompts of each pair give, for each target: base and source of the probability and of the metrics.
    fn baseline(&self) -> Frame {
        let metrics = self.table.metrics.iter();
        let metrics = metrics.filter_map(|name| name.parse::<Metric>().ok());
        let mut quantities: Vec<Quantity> = metrics.map(|metric| metric.quantity).collect();
        quantities.retain({
            // the probability has columns of its own
            let mut seen = vec![Quantity::Prob];
            move |quantity| {
                let new = !seen.contains(quantity);
                seen.push(*quantity);
                new
            }
        });
        let of = |name: &str, kind| Column {
            nullable: true,
            ..Column::of(name.to_owned(), kind)
        };
        let mut names = vec![
            Column::of("pair", Kind::Int),
            Column::of("target", Kind::Text),
            Column::of("target_id", Kind::Int),
            of("base_prob", Kind::Float),
            of("source_prob", Kind::Float),
        ];
        for quantity in &quantities {
            names.push(of(&format!("base_{quantity}"), Kind::Float));
            names.push(of(&format!("source_{quantity}"), Kind::Float));
        }
        let pairs = self.table.provenance.pairs.iter().zip(0..);
        let pairs: HashMap<u32, _> = pairs
            .map(|(pair, index)| (pair.row.unwrap_or(index), &pair.clean))
            .collect();
        let float = |x: f64| match x.is_nan() {
            true => Cell::Missing,
            false => Cell::Float(x),
        };
        let (mut seen, mut rows) = (HashSet::new(), Vec::new());
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for row in &self.table.rows {
            if !seen.insert((row.pair, row.target_id, &row.target)) {
                continue;
            }
            let index = counts.entry(row.pair).or_default();
            let mut cells = vec![
                Cell::Int(row.pair),
                Cell::Text(&row.target),
                Cell::Int(row.target_id),
                float(row.base_prob),
                row.source_prob.map_or(Cell::Missing, float),
            ];
            for quantity in &quantities {
                let clean = pairs
                    .get(&row.pair)
                    .and_then(|of| of.target(*quantity, *index));
                let (base, source) = clean.unwrap_or((f64::NAN, f64::NAN));
                cells.extend([float(base), float(source)]);
            }
            *index += 1;
            rows.push(cells);
        }
        Frame::new(names, rows.into_iter().map(Vec::into_iter), self.made())
    }

    /// Whether the rows are averages.
    fn is_means(&self) -> bool {
        self.kept == KeptRows::Means
    }

    /// Arrays by name: a shape, and doubles or integers as bytes, or texts.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<Vec<NamedValues<'_, 'py>>> {
        let one = |held: &Held| -> PyResult<_> {
            let (kind, shape, values) = match held {
                Held::Floats(shape, values) => {
                    let bytes = doubles(py, values.iter().copied())?;
                    ("float", shape.clone(), bytes.into_any())
                }
                Held::Indices(shape, list) => {
                    let bytes = integers(py, list.iter().map(|i| *i as i64))?;
                    ("int", shape.clone(), bytes.into_any())
                }
                Held::Texts(list) => {
                    let texts = PyList::new(py, list)?;
                    ("text", vec![list.len()], texts.into_any())
                }
                Held::Text(text) => ("text", Vec::new(), PyList::new(py, [text])?.into_any()),
            };
            Ok((kind, shape, values))
        };
        let each = self.arrays.iter();
        each.map(|(name, held)| {
            let (kind, shape, values) = one(held)?;
            Ok((name.as_str(), kind, shape, values))
        })
        .collect()
    }

    /// Where a preset's runs stand in its arrays: for each pair, for each run, an index along each axis.
    fn places(&self) -> Vec<Vec<Vec<usize>>> {
        self.places.iter().map(|places| places.to_vec()).collect()
    }

    /// Why pairs have no common axes, where they have none.
    fn no_arrays(&self) -> Option<&str> {
        self.no_arrays.as_deref()
    }

    /// What `collect` patches read: pair, run, patch, shape and doubles.
    fn collected<'py>(&self, py: Python<'py>) -> PyResult<Vec<CollectedValues<'py>>> {
        let each = self.collected.iter();
        each.map(|(pair, found)| {
            let values = doubles(py, found.values.iter().copied())?;
            Ok((*pair, found.run, found.patch, found.shape.clone(), values))
        })
        .collect()
    }

    /// How it was made, as JSON; with the hash of the model, for which every weight is read, or without.
    fn provenance(&self, py: Python<'_>, hash: bool) -> PyResult<String> {
        Ok(match hash {
            true => serde_json::to_string(&self.hashed(py)?.provenance).unwrap_or_default(),
            false => py.detach(|| self.made()),
        })
    }

    /// Runs, runs whose readout is the base's, operations, and seconds.
    fn done(&self) -> (usize, usize, u64, f64) {
        let Answer { plan, time } = &self.done;
        (plan.count, plan.copied, plan.flops(), time.as_secs_f64())
    }

    /// How scores agree with exact runs: of the largest, and of a sample of the others; and the median of what the
    /// largest do exactly, how many runs of the sample do more, and the share of all others that may.
    fn agreement(&self) -> Option<Agreements> {
        self.agreements()
    }

    /// No circuit yet, with the means of a column as scores.
    fn graph(&self, py: Python<'_>, column: &str) -> PyResult<Graph> {
        self.graph_of(column).map_err(|error| raise(py, &error))
    }

    /// The attribution graph of edges at positions, as a file's text, which is written too where one is named.
    #[pyo3(signature = (column, pair, target, most, path))]
    fn attribution_graph(
        &self,
        py: Python<'_>,
        column: Option<&str>,
        pair: Option<u32>,
        target: Option<&str>,
        most: usize,
        path: Option<PathBuf>,
    ) -> PyResult<String> {
        let wish = GraphWish {
            pair,
            target,
            column,
            most,
        };
        let draw = || -> Result<String, Error> {
            let table = self.rows("or a graph shows")?;
            let (text, _) = report::attribution_graph(table, &wish, &self.model.config)?;
            if let Some(path) = path {
                WholeFile::write(&path, text.as_bytes())?;
            }
            Ok(text)
        };
        py.detach(draw).map_err(|error| raise(py, &error))
    }

    /// Sentences about rows of the data set.
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The column that is drawn unless another is named.
    fn drawn(&self) -> &str {
        &self.drawn
    }

    /// Writes the table, and averages beside it; which files were written.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<Vec<PathBuf>> {
        let table = self.hashed(py)?;
        let write = || -> Result<Vec<PathBuf>, Error> {
            if let (KeptRows::Means, Some(averages)) = (self.kept, &self.averages) {
                report::write_means(averages, &table.provenance, &path)?;
                return Ok(vec![path.clone()]);
            }
            if self.averages.is_some() {
                report::check_summary(&path)?;
            }
            report::write(&table, &path)?;
            let mut written = vec![path.clone()];
            if let Some(averages) = &self.averages {
                report::write_summary(averages, &table.provenance, &path)?;
                written.push(report::summary_path(&path));
            }
            Ok(written)
        };
        py.detach(write).map_err(|error| raise(py, &error))
    }

    /// Writes the arrays.
    fn write_arrays(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let made = self.hashed(py)?.provenance;
        let write = || -> Result<(), Error> {
            let held = self.arrays.iter();
            let arrays = held.map(|(name, held)| (name.clone(), held.array()));
            Ok(report::write_arrays(arrays.collect(), &made, &path)?)
        };
        py.detach(write).map_err(|error| raise(py, &error))
    }

    /// The heat map of a column as the bytes of an SVG or PNG file.
    #[pyo3(signature = (value = None, png = false))]
    fn picture<'py>(
        &self,
        py: Python<'py>,
        value: Option<&str>,
        png: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let draw = || -> Result<Vec<u8>, Error> {
            let (format, path) = match png {
                true => (PictureFormat::Png, "a.png"),
                false => (PictureFormat::Svg, "a.svg"),
            };
            Ok(format.draw(&self.map(value)?, Path::new(path))?)
        };
        let bytes = py.detach(draw).map_err(|error| raise(py, &error))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// How many grids stand side by side, what they show, and the grids of a heat map: each with every other
    /// column that can be drawn beside the one that is.
    #[pyo3(signature = (value = None))]
    fn grids<'py>(
        &self,
        py: Python<'py>,
        value: Option<&str>,
    ) -> PyResult<(usize, String, Vec<Grid<'py>>)> {
        let draw = || -> Result<Vec<(String, HeatMap)>, Error> {
            let drawn = value.unwrap_or(&self.drawn);
            let first = self.grids_of(&match value {
                Some(value) => value.parse::<DrawnValue>().map_err(Error::Usage)?,
                None => DrawnValue::of(&self.drawn),
            })?;
            let all = ["prob", "logprob", "logit"].map(str::to_owned);
            let others = all.iter().chain(&self.table.metrics);
            let others = others.filter(|name| *name != drawn);
            let others = others.filter_map(|name| {
                let map = self.grids_of(&DrawnValue::of(name)).ok()?;
                Some((name.clone(), map))
            });
            Ok([(drawn.to_owned(), first)]
                .into_iter()
                .chain(others)
                .collect())
        };
        let maps = py.detach(draw).map_err(|error| raise(py, &error))?;
        let (_, first) = &maps[0];
        let grid = |(at, facet): (usize, &Facet)| -> PyResult<Grid<'py>> {
            let mut columns = Vec::with_capacity(maps.len());
            for (name, map) in &maps {
                let same = map
                    .facets
                    .get(at)
                    .filter(|same| (&same.rows, &same.groups) == (&facet.rows, &facet.groups));
                let Some(Facet {
                    base,
                    source,
                    cells,
                    ..
                }) = same
                else {
                    continue;
                };
                if cells.iter().any(Option::is_some) {
                    let cells = cells.iter().map(|cell| cell.unwrap_or(f64::NAN));
                    let [base, source] =
                        [base, source].map(|clean| clean.filter(|_| !self.is_lens));
                    columns.push((name.clone(), base, source, doubles(py, cells)?));
                }
            }
            let groups = facet.groups.iter();
            let groups = groups.map(|of| (of.label.clone(), of.position, of.columns.clone()));
            Ok((
                facet.title.clone(),
                facet.rows.clone(),
                groups.collect(),
                columns,
            ))
        };
        let grids = first.facets.iter().enumerate().map(grid);
        Ok((
            first.per_row,
            first.value.clone(),
            grids.collect::<PyResult<_>>()?,
        ))
    }

    /// The page that opens with a column, as the text of a file.
    #[pyo3(signature = (value = None))]
    fn page(&self, py: Python<'_>, value: Option<&str>) -> PyResult<String> {
        let draw = || -> Result<String, Error> { Ok(self.as_page(value)?.html()) };
        py.detach(draw).map_err(|error| raise(py, &error))
    }

    /// Writes the heat map of a column, as SVG or PNG by the file's ending, or the page that opens with it.
    #[pyo3(signature = (path, value = None))]
    fn plot(&self, py: Python<'_>, path: PathBuf, value: Option<&str>) -> PyResult<()> {
        let draw = || -> Result<(), Error> {
            match PlotFormat::of(&path)? {
                PlotFormat::Picture(_) => report::plot(&self.map(value)?, &path)?,
                PlotFormat::Page => self.as_page(value)?.write(&path)?,
            }
            Ok(())
        };
        py.detach(draw).map_err(|error| raise(py, &error))
    }
}
