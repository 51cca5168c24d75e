//! A question: pairs with their runs, and what stands behind them.

use std::collections::HashMap;
use std::path::Path;

use super::pairs::{Places, axis};
use super::{Engine, ReadoutOptions};
use crate::ask::grid::Grid;
use crate::ask::preset::{GridIndex, Preset, PresetAxis};
use crate::backend::Readout;
use crate::error::Error;
use crate::execute::{PairOutcome, PairReadouts, Sink};
use crate::graph::edge::{Edge, EdgeAxes};
use crate::graph::extent::Extent;
use crate::graph::patching;
use crate::graph::path::{PathCell, Paths};
use crate::lens::contributions::By;
use crate::lens::{LensError, LensPart};
use crate::prompt::pair::{DataRow, PairRuns};
use crate::prompt::position::Spot;
use crate::report::Patched;
use crate::results::array::{Array, Arrays, Axis, CellOf, OverTargets, Quantified, Values};
use crate::results::averages::Over;
use crate::results::clean::{CleanLevels, CleanMetrics, Cleans};
use crate::results::columns;
use crate::results::metric::{self, Metric, Quantity};
use crate::results::recovery::LevelColumn;
use crate::results::rows::{Gather, Relabel, RowSink};
use crate::results::table::{Row, Table};
use crate::tracing::runs::Tracing;

/// Pairs with their runs, and what their rows say.
pub struct Question<'e> {
    pub(super) engine: &'e Engine,
    /// The pairs; edges are made into runs a few at a time.
    pub pairs: Vec<PairRuns>,
    /// What stands behind the runs.
    pub form: Form,
    /// A column each, unless every result has it.
    pub metrics: Vec<Metric>,
    /// How many of the most probable tokens after each run stand in its rows; with none there is no column.
    pub top_tokens: usize,
}

/// What stands behind runs, from which follows what their rows are filed under.
pub enum Form {
    /// Nothing: a row is filed under what its run patches.
    Runs,
    /// A preset over some layers and heads.
    Preset {
        /// Which.
        preset: Preset,
        /// Layers and heads.
        grid: Box<Grid>,
        /// Where the runs of each pair stand in its array.
        places: Vec<Places>,
        /// Names of the positions of each pair.
        labels: Vec<Vec<String>>,
    },
    /// Edges, whole or position by position.
    Edges {
        /// Each by itself.
        edges: Vec<Edge>,
        /// At every position, or at one after the other.
        extent: Extent,
    },
    /// Paths.
    Paths {
        /// Which.
        paths: Paths,
        /// Where each pair's senders send.
        spots: Vec<Vec<Spot>>,
    },
    /// Residual streams read as if they were the last, or what parts of the model add to logits.
    Lens {
        /// Streams or parts, outermost among a pair's runs.
        parts: Vec<LensPart>,
        /// Where each pair is read: names, where they go by any, and positions.
        places: Vec<Vec<(Option<String>, usize)>>,
        /// Which parts are told apart; streams are read where it is none.
        by: Option<By>,
    },
    /// A tracing.
    Tracing {
        /// Which.
        tracing: Tracing,
        /// Where each prompt's subject stands.
        subjects: Vec<Vec<usize>>,
        /// Whether the prompts are those of a data set.
        of_data: bool,
    },
}

/// Refuses a metric that is not of one row of logits.
fn of_one_row(metric: Metric, what: &str) -> Result<(), Error> {
    match metric.needs_loss() {
        false => Ok(()),
        true => Err(Error::Usage(format!(
            "{metric} is of a whole prompt, and {what} reads one row of logits: name another metric"
        ))),
    }
}

/// How many targets a pair has, or will be given.
pub(super) fn targets(of: &PairRuns) -> u64 {
    match of.pair.targets.len() {
        0 => 1 + u64::from(of.pair.source.is_some()),
        given => given as u64,
    }
}

/// Axes of arrays, and what stands along them.
pub struct ArrayAxes {
    shape: Vec<usize>,
    over: OverTargets,
    edges: Option<EdgeAxes>,
    /// The axes' names, and what stands along each, as arrays.
    about: Arrays,
}

impl ArrayAxes {
    /// Arrays along these axes alone.
    fn of(axes: Vec<Axis>, edges: Option<EdgeAxes>) -> Self {
        let names = axes.iter().map(|axis| axis.name.to_owned()).collect();
        let shape = axes.iter().map(Axis::length).collect();
        let mut about: Arrays = vec![("axes".into(), Array::Texts(names))];
        about.extend(axes.into_iter().map(Axis::coordinates));
        Self {
            shape,
            over: OverTargets::Apart,
            edges,
            about,
        }
    }

    /// The axes' names, and what stands along each.
    pub fn about(self) -> Arrays {
        self.about
    }
}

impl<'e> Question<'e> {
    pub(super) fn new(engine: &'e Engine, mut pairs: Vec<PairRuns>, form: Form) -> Self {
        // a column of ids has a place for every row
        let rows = pairs.iter_mut().filter_map(|p| p.pair.row.as_mut());
        let mut rows: Vec<&mut DataRow> = rows.collect();
        if rows.iter().any(|row| row.id.is_some()) {
            for row in &mut rows {
                row.id.get_or_insert_with(|| "".into());
            }
        }
        Self {
            engine,
            pairs,
            form,
            metrics: Vec::new(),
            top_tokens: 0,
        }
    }

    /// The model on its device.
    pub(super) fn engine(&self) -> &Engine {
        self.engine
    }

    /// Adds a column for each metric.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] where a pair lacks what one of them needs; [`Error::Lens`] of what is added to logits, which
    /// has no others.
    pub fn metrics(mut self, metrics: &[Metric]) -> Result<Self, Error> {
        let only = [Quantity::Logit, Quantity::LogitDiff].map(Metric::plain);
        if let Form::Lens { by: Some(_), .. } = self.form
            && let Some(metric) = metrics.iter().find(|metric| !only.contains(metric))
        {
            let metric = metric.to_string();
            return Err(LensError::NoMetric { metric }.into());
        }
        if let Form::Lens { .. } = self.form {
            metrics
                .iter()
                .try_for_each(|metric| of_one_row(*metric, "a lens"))?;
        }
        self.metrics.extend(metrics);
        metric::check(&self.metrics, &self.pairs)?;
        // what a recovery is one of stands beside it: over pairs it is the means that are divided
        for metric in metrics.iter().filter(|metric| metric.recovery) {
            let plain = Metric::plain(metric.quantity);
            if !plain.is_column() && !self.metrics.contains(&plain) {
                self.metrics.push(plain);
            }
        }
        Ok(self)
    }

    /// Refuses answers of several tokens.
    pub(super) fn single_tokens(&self, what: &str) -> Result<(), Error> {
        let several = self
            .pairs
            .iter()
            .position(|p| !p.pair.further_tokens.is_empty());
        several.map_or(Ok(()), |pair| {
            Err(Error::Usage(format!(
                "{what} reads one row of logits, but pair {pair} has an answer of several tokens: give single tokens, or \
                 let the first count"
            )))
        })
    }

    /// Refuses a metric that is not of one row of logits, or that the pairs have not.
    pub(super) fn check_of_one_row(&self, metric: Metric, what: &str) -> Result<(), Error> {
        of_one_row(metric, what)?;
        self.single_tokens(what)?;
        Ok(metric::check(&[metric], &self.pairs)?)
    }

    /// Adds a column of the most probable tokens after each run, so many of them: what the model says then.
    #[must_use]
    pub fn top_tokens(self, number: usize) -> Self {
        let top_tokens = number.min(self.engine.model.config.vocab);
        Self { top_tokens, ..self }
    }

    /// The metrics that are no columns anyway, by their names.
    pub fn columns(&self) -> Vec<String> {
        let others = self.metrics.iter().filter(|m| !m.is_column());
        others.map(Metric::to_string).collect()
    }

    /// The columns behind those that every table has, by their names: the data set's own ids, where it has some,
    /// names of positions, where they go by any, the most probable tokens, where they were asked for, and metrics.
    pub fn names(&self) -> Vec<String> {
        let rows = self.pairs.iter().filter_map(|p| p.pair.row.as_ref());
        let id = rows.filter_map(|row| row.id.as_ref()).next().is_some();
        let there = [id, self.has_named_positions(), self.top_tokens > 0];
        columns::with_texts(there, self.columns())
    }

    /// Whether some runs go by a name of where they patch.
    pub(super) fn has_named_positions(&self) -> bool {
        match &self.form {
            Form::Paths { spots, .. } => spots
                .iter()
                .flatten()
                .any(|spot| spot.place_name().is_some()),
            _ => self
                .pairs
                .iter()
                .any(|p| p.runs.iter().any(|run| run.position.is_some())),
        }
    }

    /// What stands along the pairs of arrays, where they are rows of a data set: their numbers in it, and its own ids.
    pub fn rows(&self) -> Arrays {
        let rows = || self.pairs.iter().filter_map(|p| p.pair.row.as_ref());
        let numbers: Vec<usize> = rows().map(|row| row.number as usize).collect();
        let ids: Vec<String> = rows()
            .filter_map(|row| Some(row.id.as_ref()?.to_string()))
            .collect();
        let mut arrays = Arrays::new();
        if !numbers.is_empty() {
            arrays.push(("pair".into(), Array::indices(numbers)));
        }
        if !ids.is_empty() {
            arrays.push((columns::ID.into(), Array::Texts(ids)));
        }
        arrays
    }

    /// What arrays hold where no metric is named: logit_diff if all pairs have wrong answers (prob_diff where some are of
    /// several tokens), else the targets' probability (of what is added to logits, their logit).
    pub fn default_metric(&mut self) {
        if self.metrics.is_empty() {
            let differ = self.pairs.iter().all(|p| !p.pair.wrong.is_empty());
            let joint = self.pairs.iter().any(|p| !p.pair.further_tokens.is_empty());
            let of_parts = matches!(self.form, Form::Lens { by: Some(_), .. });
            self.metrics.push(Metric::plain(match (differ, of_parts) {
                (true, _) if joint => Quantity::ProbDiff,
                (true, _) => Quantity::LogitDiff,
                (false, true) => Quantity::Logit,
                (false, false) => Quantity::Prob,
            }));
        }
    }

    /// What a row patches.
    pub fn patched(&self) -> Patched {
        match &self.form {
            Form::Runs | Form::Preset { .. } | Form::Lens { .. } => Patched::Site,
            Form::Edges { extent, .. } => match extent {
                Extent::Whole => Patched::Edge,
                Extent::PerPosition => Patched::EdgeAt,
            },
            Form::Paths { .. } => Patched::Path,
            Form::Tracing { .. } => Patched::Restored,
        }
    }

    /// What averages of its rows are taken over.
    pub fn over(&self) -> Over {
        match &self.form {
            Form::Tracing { of_data: true, .. } => Over::Prompts,
            Form::Tracing { .. } => Over::Samples,
            Form::Edges { .. } => Over::Pairs,
            _ => Over::pairs(&self.pairs),
        }
    }

    /// How many runs are read out.
    pub fn count(&self) -> usize {
        self.pairs.iter().map(|of| self.count_of(of)).sum()
    }

    /// How many rows there will be. A pair without targets counts as if it got one of each prompt.
    pub fn count_rows(&self) -> u64 {
        let of_pair = |of: &PairRuns| self.count_of(of) as u64 * targets(of);
        self.pairs.iter().map(of_pair).sum()
    }

    fn count_of(&self, PairRuns { pair, runs }: &PairRuns) -> usize {
        match &self.form {
            Form::Edges { edges, extent } => patching::count((edges, *extent), pair.base.len()),
            _ => runs.iter().filter(|run| !run.step).count(),
        }
    }

    /// What its rows are filed under.
    pub(super) fn relabel(&self) -> Box<Relabel<'_>> {
        let (config, pairs) = (&self.engine.model.config, &self.pairs);
        let length = |pair: usize| pairs[pair].pair.base.len();
        match &self.form {
            Form::Runs | Form::Preset { .. } => Box::new(|_, _, _| ()),
            Form::Edges { edges, extent } => Box::new(move |pair, run, row| {
                let edge = extent.edge(edges, length(pair), run);
                patching::relabel(edge, config, row);
            }),
            Form::Paths { paths, spots } => {
                let cells = self.paths(paths, spots);
                Box::new(move |pair, run, row: &mut Row| {
                    let spots = &spots[pair];
                    Paths::relabel(cells[&spots.len()][run], spots, row);
                })
            }
            Form::Lens { parts, places, .. } => Box::new(move |pair, run, row| {
                let places = &places[pair];
                parts[run / places.len()].relabel(row);
                row.position = Some(places[run % places.len()].1 as u32);
            }),
            Form::Tracing { tracing, .. } => Box::new(move |pair, run, row| {
                let cell = tracing.traced(config.layers, length(pair), run);
                tracing.relabel(cell, row);
            }),
        }
    }

    /// What the runs of pairs stand for, by the number of places at which their senders send.
    fn paths(&self, paths: &Paths, spots: &[Vec<Spot>]) -> HashMap<usize, Vec<PathCell>> {
        let config = &self.engine.model.config;
        let mut cells = HashMap::new();
        for spots in spots.iter().map(Vec::len) {
            let make = || paths.cells(config, spots).collect();
            cells.entry(spots).or_insert_with(make);
        }
        cells
    }

    /// The axes of its arrays; nothing where it has none of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where pairs are patched at places that are no axis.
    pub fn axes(&self) -> Result<Option<ArrayAxes>, Error> {
        let config = &self.engine.model.config;
        Ok(Some(match &self.form {
            Form::Runs | Form::Tracing { .. } => return Ok(None),
            Form::Edges { edges, extent } => {
                let longest = self.pairs.iter().map(|p| p.pair.base.len()).max();
                let positions = longest.filter(|_| *extent == Extent::PerPosition);
                let axes = EdgeAxes::new(edges, positions);
                ArrayAxes::of(axes.axes(), Some(axes))
            }
            Form::Lens { parts, places, .. } => {
                let label = |(name, at): &(Option<String>, usize)| {
                    name.clone().unwrap_or_else(|| at.to_string())
                };
                let labels = places.iter().map(|of| of.iter().map(label).collect());
                let labels: Vec<Vec<String>> = labels.collect();
                let names = parts.iter().map(|part| part.name.clone()).collect();
                let positions = Axis::named("position", axis(&labels)?);
                ArrayAxes::of(vec![Axis::named("part", names), positions], None)
            }
            Form::Paths { paths, spots } => {
                let labels = |spots: &Vec<Spot>| spots.iter().map(Spot::label).collect();
                let labels: Vec<Vec<String>> = spots.iter().map(labels).collect();
                ArrayAxes::of(paths.axes(&axis(&labels)?), None)
            }
            Form::Preset {
                preset,
                grid,
                places,
                labels,
            } => {
                let mut shape = vec![0; preset.axes.len()];
                for place in places.iter().flat_map(|places| places.iter()) {
                    for (length, at) in shape.iter_mut().zip(place) {
                        *length = (*length).max(at + 1);
                    }
                }
                let names = preset.axes.iter().map(|axis| axis.name().to_owned());
                let components = preset.components.iter().map(|c| c.name().to_owned());
                let heads = match preset.axes.contains(&PresetAxis::Head) {
                    true => grid.heads.of(config.heads, "head")?,
                    false => Vec::new(),
                };
                let positions = match preset.is_of_all_positions() {
                    true => Vec::new(),
                    false => axis(labels)?,
                };
                let layers = grid.layers.of(config.layers, "layer")?;
                let about = [
                    ("axes", Array::Texts(names.collect())),
                    ("component", Array::Texts(components.collect())),
                    ("layer", Array::indices(layers)),
                    ("head", Array::indices(heads)),
                    ("position", Array::Texts(positions)),
                ];
                ArrayAxes {
                    shape,
                    over: OverTargets::Together,
                    edges: None,
                    about: about.map(|(name, array)| (name.to_owned(), array)).into(),
                }
            }
        }))
    }

    /// Values of its metrics along axes, which are filled as runs pass and will be written to `path`.
    pub fn values<'a>(&'a self, axes: &'a ArrayAxes, path: &'a Path) -> Values<'a> {
        let columns = self.columns();
        let metrics = self.metrics.iter();
        let metrics = metrics.filter_map(|metric| LevelColumn::of(*metric, &columns));
        self.values_of(metrics.map(Quantified::Metric).collect(), axes, path)
    }

    /// The same of other quantities than its metrics.
    pub fn values_of<'a>(
        &'a self,
        quantities: Vec<Quantified>,
        axes: &'a ArrayAxes,
        path: &'a Path,
    ) -> Values<'a> {
        let (shape, pairs) = (&axes.shape, &self.pairs);
        let place: Box<CellOf<'a>> = match &self.form {
            Form::Runs | Form::Tracing { .. } => Box::new(|_, _| None),
            Form::Edges { edges, extent } => Box::new(move |pair, run| {
                let edge = extent.edge(edges, pairs[pair].pair.base.len(), run);
                Some((axes.edges.as_ref()?.place(edge)?, 0))
            }),
            Form::Lens { places, .. } => Box::new(move |pair, run| {
                let here = places[pair].len();
                Some((run / here * shape[1] + run % here, 0))
            }),
            Form::Paths { paths, spots } => {
                let cells = self.paths(paths, spots);
                let labels = shape.get(2).copied().unwrap_or(1);
                Box::new(move |pair, run| {
                    let cell = cells[&spots[pair].len()][run];
                    Some((paths.place(cell, labels)?, 0))
                })
            }
            Form::Preset { preset, places, .. } => Box::new(move |pair, run| {
                let place: &GridIndex = places[pair].get(run)?;
                let at = place.iter().zip(shape).fold(0, |i, (at, n)| i * n + at);
                // the last of a query's keys comes last, and what it leaves is masked: nothing can be
                // patched there
                let masked = match (preset.axes.last(), place.last(), shape.last()) {
                    (Some(PresetAxis::Source), Some(key), Some(keys)) => pairs[pair]
                        .pair
                        .base
                        .len()
                        .min(*keys)
                        .saturating_sub(key + 1),
                    _ => 0,
                };
                Some((at, masked))
            }),
        };
        Values::new(shape.clone(), quantities, pairs, axes.over, path, place)
    }

    /// A metric in the clean prompts of each pair, without a run.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] where a pair lacks what the metric needs; as [`Engine::execute`].
    pub fn clean(&self, metric: Metric) -> Result<Vec<CleanLevels>, Error> {
        metric::check(&[metric], &self.pairs)?;
        let without_runs = |of: &PairRuns| PairRuns {
            pair: of.pair.clone(),
            runs: [].into(),
        };
        let pairs: Vec<PairRuns> = self.pairs.iter().map(without_runs).collect();
        let metrics = [metric];
        let reads = ReadoutOptions {
            top: 0,
            top_of_runs: 0,
            metrics: &metrics,
        };
        let outcome = self.engine.outcome(&pairs, reads)?;
        let of = |(of, read): (&PairRuns, &PairOutcome)| {
            let clean = PairReadouts {
                base: read.base.clone(),
                source: read.source.clone(),
            };
            let all = CleanMetrics::of(&metrics, &of.pair, &clean);
            all.get(metric.quantity).cloned().unwrap_or_default()
        };
        Ok(pairs.iter().zip(&outcome.pairs).map(of).collect())
    }

    /// Runs it, and keeps all rows.
    ///
    /// # Errors
    ///
    /// As [`Question::answer`].
    pub fn table(&self) -> Result<Table, Error> {
        let mut table = Table {
            metrics: self.columns(),
            provenance: self.engine.provenance(&self.pairs, false),
            ..Table::default()
        };
        let mut cleans = Cleans::default();
        self.answer(&mut [&mut table, &mut cleans], &|_| ())?;
        cleans.fill(&mut table.provenance, 0);
        Ok(table)
    }

    /// Passes the rows that it will have, numbers left out, as far as they are known before anything is
    /// run; of edges, none.
    pub(crate) fn preview(&self, gather: &mut dyn Gather) {
        let relabel = self.relabel();
        let mut sink = RowSink::new(&self.engine.model, &self.pairs, &[]).relabel(&relabel);
        sink = sink.to(gather);
        for (p, PairRuns { pair, runs }) in self.pairs.iter().enumerate() {
            let nothing = || Readout {
                logits: vec![0.0; pair.answers().len()],
                ..Readout::default()
            };
            let all = || vec![nothing(); pair.readout_positions().len()];
            let clean = PairReadouts {
                base: all(),
                source: None,
            };
            let mut flow = sink.pair(p, &clean);
            for (r, run) in runs.iter().enumerate().filter(|(_, run)| !run.step) {
                let _: &crate::patch::Run = run;
                if flow.is_continue() {
                    flow = sink.run(p, r, all());
                }
            }
        }
    }
}
