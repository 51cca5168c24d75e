//! From readouts to rows, run by run as they are finished, and to whatever gathers them.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use crate::ask::experiment::PatchText;
use crate::backend::Readout;
use crate::execute::collect::Collection;
use crate::execute::{PairReadouts, Sink};
use crate::files::error::FileError;
use crate::model::Checkpoint;
use crate::patch::{Op, Patch, Run};
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::blocks::BlockAverage;
use crate::results::candidate::Candidate;
use crate::results::clean::CleanMetrics;
use crate::results::metric::{Metric, RunReadouts};
use crate::results::table::{PairProvenance, Row, Table, Text};

/// A pair whose clean prompts have been read.
#[derive(Debug, Clone, Copy)]
pub struct PairResult<'a> {
    /// Its index.
    pub index: usize,
    /// Its prompts and answers.
    pub pair: &'a Pair,
    /// What was read of them.
    pub clean: &'a PairReadouts,
}

/// A run that has been read.
#[derive(Debug, Clone, Copy)]
pub struct RunResult<'a> {
    /// Index of its pair.
    pub pair: usize,
    /// Its index in the pair.
    pub run: usize,
    /// What was read of it and of its pair, at the last readout position.
    pub read: RunReadouts<'a>,
    /// Its rows, one a target.
    pub rows: &'a [Row],
    /// The metrics in the pair's clean prompts.
    pub clean: &'a CleanMetrics,
}

/// What results pass through, pair by pair and run by run in order: a file in the making, averages, the
/// strongest so far. Nothing that it does not keep is kept.
pub trait Gather {
    /// A pair, before its runs.
    ///
    /// # Errors
    ///
    /// [`FileError`] of a file that does not take it, which ends the work; as of the others.
    fn pair(&mut self, pair: &PairResult<'_>) -> Result<(), FileError> {
        let _ = pair;
        Ok(())
    }

    /// A run with its rows.
    ///
    /// # Errors
    ///
    /// As [`Gather::pair`].
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError>;

    /// Averages over some pairs, of whose runs nothing else is left, in place of these runs.
    ///
    /// # Errors
    ///
    /// As [`Gather::pair`].
    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        let _ = block;
        Ok(())
    }

    /// What a patch of the pair of this number, as tables count, collected, before the pair itself or after.
    ///
    /// # Errors
    ///
    /// As [`Gather::pair`].
    fn collected(&mut self, pair: usize, collection: &Collection) -> Result<(), FileError> {
        let _ = (pair, collection);
        Ok(())
    }
}

/// What a run's rows are filed under, where that is not what its patches say: changes the columns that
/// all its rows share, given the index of the pair and of the run. Pairs that share their runs are asked
/// once. The token follows from the position.
pub type Relabel<'a> = dyn Fn(usize, usize, &mut Row) + 'a;

/// Makes rows of what is read, with a column for each metric that is not one already, and hands them on.
pub struct RowSink<'a> {
    model: &'a Checkpoint,
    pairs: &'a [PairRuns],
    /// What is asked for.
    asked: &'a [Metric],
    /// Those of them that have a column of their own.
    metrics: Vec<Metric>,
    relabel: &'a Relabel<'a>,
    gather: Vec<&'a mut dyn Gather>,
    /// Index of the first pair, and of the first run in it.
    first: (usize, usize),
    /// Whether every row says where it patches by name, be it an empty one.
    named: bool,
    /// Whether every row says which tokens are the most probable after its run.
    tops: bool,
    /// Whether the first pair has been announced before.
    told: bool,
    tokens: HashMap<u32, Text>,
    /// How many pairs have the runs at this address, and what is known of them if there are several.
    shared: HashMap<usize, (usize, Vec<Option<Row>>)>,
    /// Pairs whose runs are still to come: what patches collect is told of ahead of runs.
    announced: VecDeque<(usize, PairReadouts)>,
    here: Option<Here<'a>>,
    failed: Option<FileError>,
}

/// The pair whose runs come.
struct Here<'a> {
    of: &'a PairRuns,
    clean: PairReadouts,
    metrics: CleanMetrics,
    targets: Vec<Text>,
    /// Of each position that is read out.
    base_probs: Vec<Vec<f64>>,
    source_probs: Option<Vec<f64>>,
    /// One a target, over and over.
    rows: Vec<Row>,
}

/// Runs are remembered while so many of them are.
const REMEMBERED: usize = 1 << 14;

impl<'a> RowSink<'a> {
    /// Rows of these pairs.
    pub fn new(model: &'a Checkpoint, pairs: &'a [PairRuns], metrics: &'a [Metric]) -> Self {
        let mut shared: HashMap<usize, (usize, Vec<Option<Row>>)> = HashMap::new();
        for pair in pairs {
            shared.entry(address(pair)).or_default().0 += 1;
        }
        Self {
            model,
            pairs,
            asked: metrics,
            metrics: metrics.iter().filter(|m| !m.is_column()).copied().collect(),
            relabel: &|_, _, _| (),
            gather: Vec::new(),
            first: (0, 0),
            named: false,
            tops: false,
            told: false,
            tokens: HashMap::new(),
            shared,
            announced: VecDeque::new(),
            here: None,
            failed: None,
        }
    }

    /// Files rows under something else.
    #[must_use]
    pub fn relabel(self, relabel: &'a Relabel<'a>) -> Self {
        Self { relabel, ..self }
    }

    /// The pairs are only some of all: `pair` and `run` are the indices of the first of each. A pair that
    /// begins with a later run than its first has been announced before.
    #[must_use]
    pub fn from(self, pair: usize, run: usize) -> Self {
        Self {
            first: (pair, run),
            told: run > 0,
            ..self
        }
    }

    /// Whether some runs go by a name of where they patch, for which there is a column then.
    #[must_use]
    pub fn named(self, named: bool) -> Self {
        Self { named, ..self }
    }

    /// Whether rows say which tokens are the most probable after their runs: those that were read.
    #[must_use]
    pub fn top_tokens(self, tops: bool) -> Self {
        Self { tops, ..self }
    }

    /// The first pair has been announced before, though its runs are counted from the first.
    #[must_use]
    pub fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Hands rows on to this one too.
    #[must_use]
    pub fn to(mut self, gather: &'a mut dyn Gather) -> Self {
        self.gather.push(gather);
        self
    }

    /// Ends the last pair.
    ///
    /// # Errors
    ///
    /// What a file said that did not take its results; the work was ended for it.
    pub fn finish(mut self) -> Result<(), FileError> {
        let _ = self.open(usize::MAX);
        self.failed.map_or(Ok(()), Err)
    }

    /// Goes on unless a file failed.
    fn each(
        &mut self,
        mut hand: impl FnMut(&mut dyn Gather) -> Result<(), FileError>,
    ) -> ControlFlow<()> {
        for gather in &mut self.gather {
            if let Err(error) = hand(&mut **gather) {
                self.failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn token(&mut self, id: u32) -> Text {
        let make = || raw(self.model, id).into();
        self.tokens.entry(id).or_insert_with(make).clone()
    }

    /// What tables call a pair: the row of its data set, else its index.
    fn number(&self, pair: usize) -> u32 {
        let row = self.pairs[pair].pair.row.as_ref();
        row.map_or((self.first.0 + pair) as u32, |row| row.number)
    }

    /// The columns that all rows of a run share, without the token.
    fn label(&mut self, pair: usize, run: usize) -> Row {
        let of = &self.pairs[pair];
        let (first_pair, first_run) = self.first;
        let make = || {
            let mut row = label(&of.runs[run], of);
            (self.relabel)(first_pair + pair, first_run + run, &mut row);
            row
        };
        // the names of further prompts are the pair's own
        match self.shared.get_mut(&address(of)) {
            Some((2.., known)) if of.pair.prompts.is_empty() => {
                known.resize(of.runs.len(), None);
                known[run].get_or_insert_with(make).clone()
            }
            _ => make(),
        }
    }

    fn read(&mut self, pair: usize, run: usize, readouts: &[Readout]) -> Option<()> {
        let of = &self.pairs[pair];
        let positions = of.pair.readout_positions();
        let read_at = |at: usize| positions.iter().position(|position| *position == at);
        let index = match of.runs[run].at {
            Some(at) => read_at(at)?,
            None => readouts.len().checked_sub(1)?,
        };
        let readout = readouts.get(index)?;
        let mut label = self.label(pair, run);
        let mut here = self.here.take()?;
        let (prompts, clean) = (&here.of.pair, &here.clean);
        let base = clean.base.get(index).or(clean.base.last())?;
        let base_probs = here.base_probs.get(index).or(here.base_probs.last())?;
        let token = label.position.and_then(|p| prompts.base.get(p as usize));
        label.token = token.map(|id| self.token(*id));
        (label.pair, label.run) = (self.number(pair), (self.first.1 + run) as u32);
        if self.named {
            label.position_name.get_or_insert_default();
        }
        label.top_tokens = self.tops.then(|| {
            let all = Candidate::all(self.model, readout);
            let all: Vec<_> = all.iter().map(Candidate::json).collect();
            serde_json::Value::from(all).to_string().into()
        });
        label.id = prompts.row.as_ref().and_then(|row| row.id.clone());
        let read = RunReadouts {
            pair: prompts,
            base,
            source: clean.source.as_ref(),
            run: readout,
        };
        for (i, row) in here.rows.iter_mut().enumerate() {
            let mut metrics = std::mem::take(&mut row.metrics);
            metrics.clear();
            metrics.extend(self.metrics.iter().map(|m| m.of(&read, i)));
            let logprob = readout.log_probability_of(i);
            *row = Row {
                target: here.targets[i].clone(),
                target_id: prompts.targets[i],
                prob: logprob.exp(),
                logprob,
                logit: readout.logits[i],
                base_prob: base_probs[i],
                source_prob: here.source_probs.as_ref().map(|probs| probs[i]),
                metrics,
                ..label.clone()
            };
        }
        let result = RunResult {
            pair: self.first.0 + pair,
            run: label.run as usize,
            read,
            rows: &here.rows,
            clean: &here.metrics,
        };
        let _ = self.each(|gather| gather.run(&result));
        self.here = Some(here);
        Some(())
    }
}

impl RowSink<'_> {
    /// Opens the pairs up to this one, whose runs come.
    fn open(&mut self, last: usize) -> ControlFlow<()> {
        while let Some((pair, clean)) = self.announced.pop_front_if(|(pair, _)| *pair <= last) {
            self.begin(pair, clean)?;
        }
        ControlFlow::Continue(())
    }

    fn begin(&mut self, pair: usize, clean: PairReadouts) -> ControlFlow<()> {
        let remembered: usize = self.shared.values().map(|(_, known)| known.len()).sum();
        if remembered > REMEMBERED {
            let known = self.shared.values_mut().map(|(_, known)| known);
            known.for_each(|known| *known = Vec::new());
        }
        let of = &self.pairs[pair];
        let result = PairResult {
            index: self.first.0 + pair,
            pair: &of.pair,
            clean: &clean,
        };
        if pair > 0 || !self.told {
            self.each(|gather| gather.pair(&result))?;
        }
        let prob = |r: &Readout, i: usize| r.log_probability_of(i).exp();
        let targets = &of.pair.targets;
        let probs = |r: &Readout| (0..targets.len()).map(|i| prob(r, i)).collect();
        let base_probs: Vec<Vec<f64>> = clean.base.iter().map(probs).collect();
        let answer = |i: usize| match of.pair.is_of_several_tokens(i) {
            false => self.token(targets[i]),
            true => {
                let tokens = of.pair.answer_tokens(i);
                tokens
                    .iter()
                    .map(|id| raw(self.model, *id))
                    .collect::<String>()
                    .into()
            }
        };
        let texts: Vec<Text> = (0..targets.len()).map(answer).collect();
        self.here = (!base_probs.is_empty()).then(|| Here {
            of,
            rows: vec![Row::default(); texts.len()],
            targets: texts,
            base_probs,
            source_probs: clean.source.as_ref().map(probs),
            metrics: CleanMetrics::of(self.asked, &of.pair, &clean),
            clean,
        });
        ControlFlow::Continue(())
    }
}

impl Sink for RowSink<'_> {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        self.announced.push_back((pair, clean.clone()));
        ControlFlow::Continue(())
    }

    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        self.open(pair)?;
        self.read(pair, run, &readouts);
        match self.failed {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    }

    fn collected(&mut self, pair: usize, collection: Collection) -> ControlFlow<()> {
        let pair = self.number(pair) as usize;
        self.each(|gather| gather.collected(pair, &collection))
    }
}

impl Gather for Table {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        self.rows.extend_from_slice(result.rows);
        Ok(())
    }
}

/// Where a pair's runs stand in memory, while the pairs do.
fn address(pair: &PairRuns) -> usize {
    pair.runs.as_ptr().addr()
}

/// What a provenance says of every pair.
pub fn pairs_provenance(model: &Checkpoint, pairs: &[PairRuns]) -> Vec<PairProvenance> {
    let tokens = |ids: &[u32]| match &model.tokenizer {
        Some(tokenizer) => ids.iter().map(|id| tokenizer.decode_raw(*id)).collect(),
        None => Vec::new(),
    };
    let text = |ids: &[u32]| Some(model.tokenizer.as_ref()?.decode(ids));
    let typed = |ids: &[u32]| {
        let again = model.tokenizer.as_ref().map(|t| t.encode(&t.decode(ids)));
        again.is_none_or(|again| again.is_ok_and(|again| again == ids))
    };
    let of = |PairRuns { pair, .. }: &PairRuns| PairProvenance {
        row: pair.row.as_ref().map(|row| row.number),
        id: pair
            .row
            .as_ref()
            .and_then(|row| Some(row.id.as_ref()?.to_string())),
        clean: CleanMetrics::default(),
        base_ids: pair.base.clone(),
        base_tokens: tokens(&pair.base),
        base_text: text(&pair.base),
        readout: pair.readouts.last().copied(),
        source_readout: pair.source_readout,
        source_ids: pair.source.clone(),
        source_tokens: pair.source.as_deref().map_or(Vec::new(), tokens),
        source_text: pair.source.as_deref().and_then(text),
        wrong_ids: pair.wrong.clone(),
        joint: !pair.further_tokens.is_empty(),
        ids_alone: !typed(&pair.base) || !pair.source.as_deref().is_none_or(typed),
    };
    pairs.iter().map(of).collect()
}

/// A token's text, or its id in brackets without a tokenizer.
pub(crate) fn raw(model: &Checkpoint, id: u32) -> String {
    model
        .tokenizer
        .as_ref()
        .map_or_else(|| format!("[{id}]"), |t| t.decode_raw(id))
}

/// The columns that say what a run patches: filled where all its patches agree.
fn label(run: &Run, pair_runs: &PairRuns) -> Row {
    let one = |list: &[usize]| match list {
        [only] => Some(*only as u32),
        _ => None,
    };
    let texts = run.patches.iter();
    let texts: Vec<PatchText> = texts
        .map(|patch| PatchText::from_patch(patch, pair_runs))
        .collect();
    let reading = |p: &Patch, value: Option<u32>| value.filter(|_| p.op.reads_source());
    Row {
        name: run.name.as_deref().map(Text::from),
        component: agree(run, |p| Some(p.component.name())).map(Text::from),
        layer: match run.layer {
            Some(middle) => Some(middle as u32),
            None => agree(run, |p| p.layer.map(|l| l as u32)),
        },
        head: agree(run, |p| one(&p.heads)),
        position: agree(run, |p| one(&p.positions)),
        position_name: run.position.as_deref().map(Text::from),
        op: agree(run, |p| Some(p.op.label())).map(Text::from),
        source_layer: agree(run, |p| {
            reading(p, p.source_layer.or(p.layer).map(|l| l as u32))
        }),
        source_head: agree(run, |p| {
            reading(p, one(p.source_heads.as_ref().unwrap_or(&p.heads)))
        }),
        source_position: agree(run, |p| {
            reading(p, one(p.source_positions.as_ref().unwrap_or(&p.positions)))
        }),
        sample: agree(run, |p| match p.op {
            Op::Noise { sample, .. } => Some(sample),
            _ => None,
        }),
        // the texts are plain numbers, strings and lists, which always serialise
        patches: serde_json::to_string(&texts).unwrap_or_default().into(),
        ..Row::default()
    }
}

fn agree<'p, T: PartialEq>(run: &'p Run, value: impl Fn(&'p Patch) -> Option<T>) -> Option<T> {
    let mut values = run.patches.iter().map(value);
    let first = values.next()??;
    values.all(|v| v.as_ref() == Some(&first)).then_some(first)
}
