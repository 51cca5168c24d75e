//! Questions in Python's words: what a dictionary says, as the library's own types.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headlight::ask::grid::Grid;
use headlight::basis::read::BasisFiles;
use headlight::check::check_pair;
use headlight::data::{self, Direction};
use headlight::engine::{Fallback, RowOptions, words};
use headlight::graph::edge::{select, senders};
use headlight::graph::path::{Freeze, Receivers, receivers};
use headlight::model::SeveralTokens;
use headlight::prompt::pair::PromptText;
use headlight::site::Site;
use headlight::tracing::level::Level;
use headlight::tracing::runs::Restored;
use headlight::tracing::window::usual;
use headlight::{
    Engine, Error, Experiment, Extent, IndexRange, Pair, Pairs, Paths, Position, Preset, Question,
    Run, Sweep, Tracing,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::fault::Fault;
use crate::operator::{Failure, MadeOp, OpWord, PromptWord};

/// A target or a wrong one: a token's id, or its text.
#[derive(FromPyObject, Clone)]
pub enum AnswerWord {
    #[pyo3(transparent)]
    Id(u32),
    #[pyo3(transparent)]
    Text(String),
}

/// A pair, with its own answers or those of all.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct PairWord {
    base: PromptWord,
    source: Option<PromptWord>,
    targets: Vec<AnswerWord>,
    wrong: Vec<AnswerWord>,
}

/// Pairs that were given, or the rows of a data set.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct PromptsWord {
    pairs: Vec<PairWord>,
    /// A file's name, and its contents where it is none.
    data: Option<(PathBuf, Option<PyBackedBytes>)>,
    targets: Vec<AnswerWord>,
    wrong: Vec<AnswerWord>,
    first_token: bool,
    joint: bool,
    bos: bool,
    direction: String,
    skip_bad: bool,
    known: bool,
    at: Option<String>,
}

thread_local! {
    /// What was said of rows on the engine's thread.
    static NOTES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What was said of rows since it was last asked.
pub fn notes() -> Vec<String> {
    NOTES.take()
}

/// Answers, each by its tokens.
fn answers(
    words: &[AnswerWord],
    several: SeveralTokens,
    engine: &Engine,
) -> Result<Vec<Vec<u32>>, Error> {
    let tokens = |word: &AnswerWord| match word {
        AnswerWord::Id(id) => Ok(vec![*id]),
        AnswerWord::Text(text) => Ok(engine.model().text()?.answer(text, several)?),
    };
    words.iter().map(tokens).collect()
}

/// What an answer of several tokens counts as.
fn several(first_token: bool, joint: bool) -> Result<SeveralTokens, Error> {
    match (first_token, joint) {
        (false, false) => Ok(SeveralTokens::Refused),
        (true, false) => Ok(SeveralTokens::First),
        (false, true) => Ok(SeveralTokens::Joint),
        (true, true) => Err(Error::Usage(
            "an answer counts as its first token or whole: give first_token or joint".into(),
        )),
    }
}

impl PromptsWord {
    /// The pairs, or the demo's where there are none.
    pub fn pairs(self, engine: &Engine) -> Result<Pairs, Error> {
        let several = several(self.first_token, self.joint)?;
        let targets = answers(&self.targets, several, engine)?;
        let wrong = answers(&self.wrong, several, engine)?;
        if self.data.is_some() {
            let fallback = Fallback {
                targets,
                wrong,
                several,
            };
            return self.rows(fallback);
        }
        let at = self.at.as_deref().map(Position::named);
        let finish = |pair: Pair| -> Result<Pair, Error> {
            let pair = engine.begin(pair, self.bos)?;
            check_pair(&pair, &engine.model().config)?;
            match &at {
                Some(at) => engine.read_at(pair, at),
                None => Ok(pair),
            }
        };
        if self.pairs.is_empty() {
            let pair = engine.reference()?.answered(&targets, &wrong);
            return Ok(Pairs::Listed(vec![finish(pair)?]));
        }
        let ids = |word: PromptWord| PromptText::from(word).tokens(engine.model());
        let one = |pair: PairWord| -> Result<Pair, Error> {
            let own = |words: &[AnswerWord], all: &[Vec<u32>]| match words {
                [] => Ok(all.to_vec()),
                _ => answers(words, several, engine),
            };
            let (right, wrong) = (own(&pair.targets, &targets)?, own(&pair.wrong, &wrong)?);
            let prompts = Pair {
                base: ids(pair.base)?,
                source: pair.source.map(ids).transpose()?,
                ..Pair::default()
            };
            finish(prompts.answered(&right, &wrong))
        };
        let pairs: Result<Vec<Pair>, Error> = self.pairs.into_iter().map(one).collect();
        Ok(Pairs::Listed(pairs?))
    }

    /// The rows of the data set; none where there is no data set.
    fn rows(self, fallback: Fallback) -> Result<Pairs, Error> {
        let Some((path, bytes)) = self.data else {
            return Ok(Pairs::Listed(Vec::new()));
        };
        let rows = match bytes {
            Some(bytes) => data::of_bytes(&path, bytes.to_vec())?,
            None => data::read(&path)?,
        };
        let options = RowOptions {
            path,
            direction: match self.direction.as_str() {
                "noise" => Direction::Noise,
                _ => Direction::Denoise,
            },
            bos: self.bos,
            skip_bad: self.skip_bad,
            known: self.known,
            at: self.at.as_deref().map(Position::named),
            note: |said| NOTES.with_borrow_mut(|notes| notes.push(said.to_owned())),
        };
        Ok(Pairs::Rows(rows, options, fallback))
    }

    /// Whether averages are taken over pairs.
    pub fn of_data(&self) -> bool {
        self.data.is_some()
    }
}

/// What is swept.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SweepWord {
    prompts: PromptsWord,
    components: Vec<String>,
    layers: String,
    heads: String,
    positions: String,
    keys: Option<String>,
    window: usize,
    columns: String,
    basis: Option<String>,
    no_error_term: bool,
    preset: Option<String>,
    op: OpWord,
    seed: Option<u64>,
}

/// A range as typed for a flag.
fn range(flag: &str, text: &str) -> Result<IndexRange, Error> {
    let range = text.parse();
    range.map_err(|error| Error::Usage(format!("--{flag}: {error}")))
}

impl SweepWord {
    /// One run a cell.
    pub fn question<'e>(
        self,
        engine: &'e Engine,
        failure: &Failure,
    ) -> Result<Question<'e>, Error> {
        let preset = self.preset.as_deref().map(str::parse::<Preset>);
        let preset = preset
            .transpose()
            .map_err(|error| Error::Usage(error.to_string()))?;
        let op = self.op.op(engine, self.seed, failure)?;
        let sites = match &preset {
            Some(preset) => {
                let fits = preset.check(&self.heads, &self.positions);
                fits.map_err(Error::Usage)?;
                preset.sites()
            }
            None => words::sites(&self.components, Some(&op))?,
        };
        let (heads, heads_together) = words::heads(&self.heads)?;
        let (columns, columns_apart) = words::columns(&self.columns)?;
        let basis = self.basis.map(|text| {
            let error_term = self.no_error_term.then_some(false);
            let read = BasisFiles::default().read(&text, Path::new(""), error_term);
            read.map_err(Error::from)
        });
        let sweep = Sweep {
            places: words::place("positions", &self.positions)?,
            keys: self
                .keys
                .map(|keys| words::place("keys", &keys))
                .transpose()?,
            preset,
            grid: Grid {
                sites,
                layers: range("layers", &self.layers)?,
                heads,
                positions: IndexRange::All,
                heads_together,
                positions_together: false,
                window: self.window,
                columns,
                columns_apart,
                basis: basis.transpose()?,
                op,
            },
        };
        engine.sweep(&sweep, self.prompts.pairs(engine)?)
    }

    /// Whether averages are taken over pairs.
    pub fn of_data(&self) -> bool {
        self.prompts.of_data()
    }
}

/// An experiment: JSON, or a file; and operators that no file can hold, by run and patch.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct RunsWord {
    json: Option<String>,
    path: PathBuf,
    first_token: bool,
    joint: bool,
    /// A data set of which its runs are.
    prompts: PromptsWord,
    made: Vec<(usize, usize, MadeOp)>,
}

impl RunsWord {
    /// Its runs.
    pub fn question<'e>(
        self,
        engine: &'e Engine,
        failure: &Failure,
    ) -> Result<Question<'e>, Error> {
        let experiment = match &self.json {
            Some(json) => Experiment::from_json(json, &self.path)?,
            None => Experiment::open(&self.path)?,
        };
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let model = engine.model();
        let several = several(self.first_token, self.joint)?;
        let pairs = if !self.prompts.of_data() {
            let own = experiment.own_pairs(model, several)?;
            let begun = own.into_iter().map(|p| engine.begin(p, self.prompts.bos));
            begun.collect::<Result<_, _>>()?
        } else if !experiment.pairs.is_empty() {
            return Err(Error::Usage(
                "--data: the experiment has pairs of its own; leave out either".into(),
            ));
        } else {
            let fallback = Fallback {
                targets: experiment.targets(model, several)?,
                wrong: Vec::new(),
                several,
            };
            engine.plain(self.prompts.rows(fallback)?)?
        };
        let mut question = engine.experiment_of(&experiment, folder, pairs)?;
        let mut made = Vec::with_capacity(self.made.len());
        for (run, patch, op) in self.made {
            made.push((run, patch, op.op(engine, failure)?));
        }
        if !made.is_empty() {
            for pair in &mut question.pairs {
                let mut runs: Vec<Run> = pair.runs.to_vec();
                for (run, patch, op) in &made {
                    let patch = runs
                        .get_mut(*run)
                        .and_then(|run| run.patches.get_mut(*patch));
                    if let Some(patch) = patch {
                        patch.op = op.clone();
                    }
                }
                pair.runs = Arc::from(runs);
            }
        }
        Ok(question)
    }
}

/// Edges.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct EdgesWord {
    prompts: PromptsWord,
    senders: Vec<String>,
    receivers: Vec<String>,
    per_position: bool,
}

impl EdgesWord {
    /// Each edge by itself.
    pub fn question<'e>(self, engine: &'e Engine) -> Result<Question<'e>, Error> {
        let from = words::named("senders", &self.senders)?;
        let to = words::named("receivers", &self.receivers)?;
        let edges = select(&from, &to, &engine.model().config)?;
        let extent = match self.per_position {
            true => Extent::PerPosition,
            false => Extent::Whole,
        };
        engine.edges(edges, extent, self.prompts.pairs(engine)?)
    }

    /// Whether averages are taken over pairs.
    pub fn of_data(&self) -> bool {
        self.prompts.of_data()
    }
}

/// Paths.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct PathsWord {
    prompts: PromptsWord,
    senders: Vec<String>,
    receivers: Vec<String>,
    apart: bool,
    freeze_all: bool,
    freeze_scales: bool,
    positions: String,
    receiver_positions: String,
}

impl PathsWord {
    /// What each sender tells.
    pub fn question<'e>(self, engine: &'e Engine) -> Result<Question<'e>, Error> {
        let config = &engine.model().config;
        let from = words::place("positions", &self.positions)?;
        let to = words::place("receiver-positions", &self.receiver_positions)?;
        let sending = words::named("senders", &self.senders)?;
        let all = receivers(&self.receivers, config)?;
        let paths = Paths {
            senders: senders(&sending, config)?,
            receivers: match self.apart {
                true => Receivers::apart(all),
                false => vec![Receivers::together(&self.receivers, all)?],
            },
            freeze: match self.freeze_all {
                true => Freeze::All,
                false => Freeze::Heads,
            },
            freeze_scales: self.freeze_scales,
        };
        engine.paths(paths, (&from, &to), self.prompts.pairs(engine)?)
    }

    /// Whether averages are taken over pairs.
    pub fn of_data(&self) -> bool {
        self.prompts.of_data()
    }
}

/// A causal tracing.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct TraceWord {
    prompts: PromptsWord,
    subject: Option<String>,
    components: Vec<String>,
    window: Option<usize>,
    samples: u32,
    noise: String,
    seed: u64,
}

impl TraceWord {
    /// Noise on the subject, and what is restored.
    pub fn question<'e>(self, engine: &'e Engine) -> Result<Question<'e>, Error> {
        let subject = match (&self.subject, self.prompts.of_data()) {
            (Some(subject), _) => subject.as_str(),
            (None, true) => "subject",
            (None, false) => {
                return Err(Error::Usage(
                    "trace needs the words that are corrupted: give --subject, such as --subject Spain"
                        .into(),
                ));
            }
        };
        let noise: Result<Level, _> = self.noise.parse();
        let noise = noise.map_err(|error| Error::Usage(error.to_string()))?;
        let restored = |name: &String| {
            let Site { component, layer } = name.trim().parse()?;
            if layer.is_some() {
                return Err(Error::Usage(format!(
                    "`{name}` names a layer: a tracing restores every layer, so leave it out"
                )));
            }
            let window = self.window.unwrap_or_else(|| usual(component));
            Ok(Restored { component, window })
        };
        let tracing = Tracing {
            restored: self
                .components
                .iter()
                .map(restored)
                .collect::<Result<_, _>>()?,
            level: 0.0,
            seed: self.seed,
            samples: self.samples,
        };
        engine.tracing(tracing, (noise, subject), self.prompts.pairs(engine)?)
    }
}

/// A lens.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct LensWord {
    prompts: PromptsWord,
    components: Vec<String>,
    layers: String,
    positions: String,
    by: Option<String>,
}

impl LensWord {
    /// What streams say, or what parts add.
    pub fn question<'e>(self, engine: &'e Engine) -> Result<Question<'e>, Error> {
        let positions = words::place("positions", &self.positions)?;
        let of_data = self.prompts.of_data();
        if self.prompts.pairs.is_empty() && !of_data {
            return Err(Error::Usage("give a prompt, --ids or --data".into()));
        }
        let pairs = self.prompts.pairs(engine)?;
        match self.by.as_deref().map(str::parse).transpose() {
            Ok(Some(by)) => engine.direct_logit_attribution(by, &positions, pairs),
            Ok(None) => {
                let sites = words::sites(&self.components, None)?;
                engine.lens(&sites, &range("layers", &self.layers)?, &positions, pairs)
            }
            Err(error) => Err(Error::Usage(format!("--by: {error}"))),
        }
    }
}

/// What is asked.
pub enum Asked {
    /// A sweep.
    Sweep(Box<SweepWord>),
    /// An experiment.
    Runs(RunsWord),
    /// Edges.
    Edges(EdgesWord),
    /// Paths.
    Paths(PathsWord),
    /// A tracing.
    Trace(TraceWord),
    /// A lens.
    Lens(LensWord),
}

impl Asked {
    /// As the engine's question, and whether its pairs without targets get some, and averages stand beside its
    /// table.
    pub fn question<'e>(
        self,
        engine: &'e Engine,
        failure: &Failure,
    ) -> Result<(Question<'e>, bool, bool), Fault> {
        let targets = !matches!(self, Self::Runs(_));
        let of_data = match &self {
            Self::Sweep(sweep) => sweep.of_data(),
            Self::Runs(_) => false,
            Self::Edges(edges) => edges.of_data(),
            Self::Paths(paths) => paths.of_data(),
            Self::Lens(lens) => lens.prompts.of_data(),
            Self::Trace(_) => true,
        };
        let question = match self {
            Self::Sweep(sweep) => sweep.question(engine, failure)?,
            Self::Runs(runs) => runs.question(engine, failure)?,
            Self::Edges(edges) => edges.question(engine)?,
            Self::Paths(paths) => paths.question(engine)?,
            Self::Lens(lens) => lens.question(engine)?,
            Self::Trace(trace) => trace.question(engine)?,
        };
        let several = question.pairs.len() > 1;
        Ok((question, targets, of_data || several))
    }
}
