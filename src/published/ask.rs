//! What is asked of prompts that stand in the file itself.

use std::path::Path;

use serde_json::Value;

use super::Line;
use super::layout::{HeadCell, Inquiry, Published, PublishedArray, ReadStream};
use crate::ask::experiment::Experiment;
use crate::ask::grid::IndexRange;
use crate::ask::preset::{Preset, UnknownPreset};
use crate::data::{self, Direction};
use crate::engine::{Engine, Fallback, Form, Pairs, Question, RowOptions, Sweep, Where};
use crate::error::Error;
use crate::model::SeveralTokens;
use crate::prompt::pair::Pair;
use crate::prompt::position::Position;
use crate::results::metric::{Metric, Quantity};
use crate::results::moments::Mean;
use crate::results::table::Table;
use crate::site::{Component, Site};

/// The lines of a figure.
pub fn lines(engine: &Engine, figure: &Published) -> Result<Vec<Line>, Error> {
    let line = || Line::new(figure.what.clone(), &figure.by, figure.within);
    match &figure.inquiry {
        Inquiry::Top { prompt, bos, top } => {
            let mut line = line();
            let mut pair = prompted(engine, prompt, *bos)?;
            for (token, _) in top {
                pair.targets.push(engine.model().text()?.target(token)?);
            }
            let found = engine
                .without_runs(pair)?
                .clean(Metric::plain(Quantity::Prob))?;
            let found = found.first().map_or(&[][..], |levels| &levels.base);
            let pairs = top.iter().zip(found);
            pairs.for_each(|((_, published), here)| line.add(*published, *here));
            Ok(vec![line])
        }
        Inquiry::Continuation {
            prompt,
            bos,
            tokens,
        } => {
            let mut line = line();
            let mut pair = prompted(engine, prompt, *bos)?;
            for token in tokens {
                let token = engine.model().text()?.target(token)?;
                let top = engine.topk(&pair.base, 1)?;
                let here = top.first().is_some_and(|top| top.id == token);
                line.add(1.0, f64::from(u8::from(here)));
                pair.base.push(token);
            }
            Ok(vec![line])
        }
        Inquiry::Lens {
            prompt,
            bos,
            streams,
        } => {
            let pair = prompted(engine, prompt, *bos)?;
            Ok(vec![lens(engine, pair, streams, line())?])
        }
        Inquiry::Heads {
            base,
            source,
            targets,
            shared,
            cells,
        } => heads(engine, (base, source, targets), *shared, cells, line()),
        Inquiry::Experiment { experiment, prob } => {
            let mut line = line();
            let nowhere = Path::new("published.json");
            let experiment = Experiment::from_json(&experiment.to_string(), nowhere)?;
            let table = engine
                .experiment(&experiment, Path::new(""), SeveralTokens::Refused)?
                .table()?;
            for (row, published) in table.rows.iter().zip(prob) {
                line.add(*published, row.prob);
            }
            Ok(vec![line])
        }
        Inquiry::Presets {
            bos,
            rows,
            clean,
            clean_within,
            corrupted,
            matrices,
        } => {
            let rows = Denoised::new(engine, rows, *bos)?;
            let mut each = Line::new(
                format!("{}: clean prompts", figure.what),
                &figure.by,
                *clean_within,
            );
            let found = clean.iter().zip(&rows.clean);
            found.for_each(|(published, here)| each.add(*published, *here));
            let mut mean = Line::new(
                format!("{}: corrupted prompts", figure.what),
                &figure.by,
                figure.within,
            );
            mean.add(*corrupted, rows.corrupted);
            let mut lines = vec![each, mean];
            for matrix in matrices {
                let what = format!("{}: {}", figure.what, matrix.preset);
                let line = Line::new(what, &figure.by, figure.within);
                lines.push(rows.matrix(engine, matrix, line)?);
            }
            Ok(lines)
        }
        // of these there is a file
        Inquiry::DataSet { .. } | Inquiry::Circuits { .. } => Ok(Vec::new()),
    }
}

/// A prompt by itself.
fn prompted(engine: &Engine, prompt: &str, bos: bool) -> Result<Pair, Error> {
    let pair = Pair {
        base: engine.model().text()?.encode(prompt)?,
        ..Pair::default()
    };
    engine.begin(pair, bos)
}

fn lens(
    engine: &Engine,
    mut pair: Pair,
    streams: &[ReadStream],
    mut line: Line,
) -> Result<Line, Error> {
    let tokens = streams.iter().flat_map(|stream| &stream.top);
    for (token, _) in tokens {
        let token = engine.model().text()?.target(token)?;
        if !pair.targets.contains(&token) {
            pair.targets.push(token);
        }
    }
    let mut positions: Vec<u32> = streams.iter().map(|stream| stream.position).collect();
    positions.sort_unstable();
    positions.dedup();
    let positions = positions.iter().map(|at| Position::Number(*at as isize));
    let sites = [Site {
        component: Component::BlockOutput,
        layer: None,
    }];
    let question = engine.lens(
        &sites,
        &IndexRange::All,
        &Where::Listed(positions.collect()),
        pair,
    )?;
    let table = question.table()?;
    for stream in streams {
        let place = (Some(stream.layer), Some(stream.position));
        for (token, published) in &stream.top {
            let id = engine.model().text()?.target(token)?;
            let mut rows = table.rows.iter();
            let row = rows.find(|row| (row.layer, row.position) == place && row.target_id == id);
            line.add(*published, row.map_or(f64::NAN, |row| row.prob));
        }
    }
    Ok(line)
}

fn heads(
    engine: &Engine,
    (base, source, targets): (&str, &str, &[String]),
    shared: usize,
    cells: &[HeadCell],
    mut line: Line,
) -> Result<Vec<Line>, Error> {
    let mut pair = engine.pair(base, source)?;
    for target in targets {
        pair = pair.target(target)?;
    }
    let sites = ["head_attention_value_output", "head_value_output"];
    let sweep = Sweep::of(&sites)?.heads(IndexRange::Some(vec![0]));
    let table = engine.sweep(&sweep, pair)?.table()?;
    for cell in cells {
        let rows = table.rows.iter().filter(|row| {
            row.component.as_deref() == Some(&*cell.component)
                && (row.layer, row.position) == (Some(cell.layer), Some(cell.position))
        });
        for (row, published) in rows.zip(&cell.prob) {
            line.add(*published, row.prob);
        }
    }
    let mut unchanged = Line::new(
        format!(
            "{}: the first {shared} positions change nothing",
            line.compared.what
        ),
        &line.compared.by,
        0.0,
    );
    let common = |at: &Option<u32>| at.is_some_and(|at| (at as usize) < shared);
    for row in table.rows.iter().filter(|row| common(&row.position)) {
        unchanged.add(row.base_prob, row.prob);
    }
    Ok(vec![line, unchanged])
}

/// Pairs that are denoised, and their logit differences before.
struct Denoised {
    pairs: Vec<Pair>,
    clean: Vec<f64>,
    corrupted: f64,
}

impl Denoised {
    fn new(engine: &Engine, rows: &[Value], bos: bool) -> Result<Self, Error> {
        let text: Vec<String> = rows.iter().map(Value::to_string).collect();
        let path = Path::new("published.jsonl");
        let rows = data::of_bytes(path, text.join("\n").into_bytes())?;
        let options = options(path, Direction::Denoise, bos);
        let pairs = Pairs::Rows(rows, options, Fallback::default());
        let question = engine.without_runs(pairs)?;
        let levels = question.clean(Metric::plain(Quantity::LogitDiff))?;
        let first = |list: &[f64]| list.first().copied().unwrap_or(f64::NAN);
        let corrupted: Mean = levels.iter().map(|of| first(&of.base)).collect();
        Ok(Self {
            clean: levels.iter().map(|of| first(&of.source)).collect(),
            corrupted: corrupted.get(),
            pairs: question.pairs.iter().map(|of| of.pair.clone()).collect(),
        })
    }

    fn matrix(
        &self,
        engine: &Engine,
        matrix: &PublishedArray,
        mut line: Line,
    ) -> Result<Line, Error> {
        let preset: Preset = matrix
            .preset
            .parse()
            .map_err(|why: UnknownPreset| Error::Usage(why.to_string()))?;
        let metrics = [Metric::plain(Quantity::LogitDiff)];
        let question = engine.sweep(&Sweep::preset(preset), self.pairs.clone())?;
        let question = question.metrics(&metrics)?;
        let means = means(&question, &question.table()?, &matrix.shape);
        let clean: Mean = self.clean.iter().copied().collect();
        let whole = clean.get() - self.corrupted;
        for (published, mean) in matrix.values.iter().zip(means) {
            line.add(*published, (mean.get() - self.corrupted) / whole);
        }
        Ok(line)
    }
}

/// The mean over pairs in each cell of an array.
fn means(question: &Question<'_>, table: &Table, shape: &[usize]) -> Vec<Mean> {
    let mut means = vec![Mean::default(); shape.iter().product()];
    let Form::Preset { places, .. } = &question.form else {
        return means;
    };
    let runs = places.iter().flat_map(|of_pair| of_pair.iter());
    for (place, row) in runs.zip(&table.rows) {
        let at = place.iter().zip(shape).fold(0, |i, (at, n)| i * n + at);
        if let (Some(mean), Some(value)) = (means.get_mut(at), row.metrics.first()) {
            mean.add(*value);
        }
    }
    means
}

/// How rows of published data sets are taken.
pub fn options(path: &Path, direction: Direction, bos: bool) -> RowOptions {
    RowOptions {
        path: path.to_owned(),
        direction,
        bos,
        skip_bad: false,
        known: false,
        at: None,
        note: |_| (),
    }
}
