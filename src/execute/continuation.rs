//! What is read of a run beside the end of its prompt: answers of several tokens, and the prompt's own loss.
//!
//! The probability of an answer t₀ t₁ … is p(t₀ | prompt) · p(t₁ | prompt t₀) · …: one factor is read at the prompt's end, the others
//! behind it. So a pair's base goes on with the tokens of its answers, and one run reads all factors of one answer. Where
//! answers go on differently, and in the source, whose answers are read too, the same pair is asked *aside*: the
//! same runs of a base that goes on otherwise, of which nothing is read but what follows. Positions are causal, so none of this moves
//! a bit of what stands before it; noise and means by position are those of the prompt alone ([`Pair::prompt_ids`]).
//!
//! The loss is the mean over the prompt's tokens of −ln p(token | tokens before it), up to the position that is read
//! out: what TransformerLens calls `return_type="loss"`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::collect::Collection;
use super::outcome::PairReadouts;
use super::sink::Sink;
use crate::backend::Readout;
use crate::prompt::pair::{Continuation, Pair, PairRuns};

/// Pairs as they are run.
pub(super) struct Continued {
    /// Of each asked pair those that are run aside for it, then itself.
    pub pairs: Vec<PairRuns>,
    /// What each of them is there for.
    parts: Vec<Part>,
}

/// One of the pairs that are run for another.
struct Part {
    /// Index of that pair.
    of: usize,
    kind: Kind,
    /// What is read behind a prompt: tokens with which it goes on.
    tokens: Vec<u32>,
    /// The position at which the prompt itself is read out.
    end: usize,
    /// Whether the prompt's own tokens are read.
    loss: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The source's prompt, which nobody patches.
    Source,
    /// The base's, with what other answers begin with.
    Aside,
    /// The pair itself.
    Own,
}

impl Continued {
    /// The pairs as they are run for whole answers and, if that is asked for, losses; nothing where they are run as they
    /// stand.
    pub fn of(pairs: &[PairRuns], loss: bool) -> Option<Self> {
        let joint = |pair: &PairRuns| !pair.pair.further_tokens.is_empty();
        if !loss && !pairs.iter().any(joint) {
            return None;
        }
        let mut continued = Self {
            pairs: Vec::with_capacity(pairs.len()),
            parts: Vec::with_capacity(pairs.len()),
        };
        for (of, asked) in pairs.iter().enumerate() {
            continued.add(of, asked, loss);
        }
        Some(continued)
    }

    fn add(&mut self, of: usize, asked: &PairRuns, loss: bool) {
        let pair = &asked.pair;
        let ways = ways(pair);
        let end = pair.readout_positions().last().copied().unwrap_or(0);
        if let (Some(source), Some(source_end)) = (&pair.source, pair.source_position()) {
            // what follows the source is read of a pair that has it as its base
            let alone = Pair {
                base: source.clone(),
                source: None,
                prompts: Vec::new(),
                readouts: vec![source_end],
                source_readout: None,
                ..pair.clone()
            };
            let first = ways.first().cloned().unwrap_or_default();
            let others = ways.iter().skip(1).cloned();
            if loss || !first.is_empty() {
                let part = Part::new(of, Kind::Source, first, source_end, loss);
                self.push(part, &alone, &[], None);
            }
            for tokens in others {
                let part = Part::new(of, Kind::Source, tokens, source_end, false);
                self.push(part, &alone, &[], None);
            }
        }
        for tokens in ways.iter().skip(1).cloned() {
            let part = Part::new(of, Kind::Aside, tokens, end, false);
            self.push(part, pair, &[], Some(asked));
        }
        let first = ways.first().cloned().unwrap_or_default();
        let own = pair.readout_positions();
        let part = Part::new(of, Kind::Own, first, end, loss);
        self.push(part, pair, &own, Some(asked));
    }

    /// Adds a pair that is read at these positions of its prompt, beside what the part reads.
    fn push(&mut self, part: Part, pair: &Pair, at: &[usize], runs: Option<&PairRuns>) {
        let mut readouts = at.to_vec();
        let length = pair.base.len();
        readouts.extend(length..length + part.tokens.len());
        let mut wanted = pair.answers();
        for answer in 0..wanted.len() {
            wanted.extend(pair.further_tokens.get(answer).into_iter().flatten());
        }
        if part.loss {
            readouts.extend(0..part.end);
            wanted.extend(&pair.base[..=part.end]);
        }
        readouts.sort_unstable();
        readouts.dedup();
        let mut ids = pair.answers();
        for id in wanted {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        self.pairs.push(PairRuns {
            pair: Pair {
                base: [&pair.base[..], &part.tokens].concat(),
                targets: ids,
                wrong: Vec::new(),
                further_tokens: Vec::new(),
                readouts,
                continuation: Continuation {
                    tokens: part.tokens.len(),
                    aside: part.kind != Kind::Own,
                },
                ..pair.clone()
            },
            runs: runs.map_or_else(|| [].into(), |asked| asked.runs.clone()),
        });
        self.parts.push(part);
    }

    /// A sink of these pairs that hands on what is read as the pairs that were asked, to which it belongs.
    pub fn sink<'s>(&'s self, asked: &'s [PairRuns], to: &'s mut dyn Sink) -> Joining<'s> {
        Joining {
            continued: self,
            asked,
            to,
            clean: HashMap::new(),
            runs: HashMap::new(),
        }
    }
}

impl Part {
    fn new(of: usize, kind: Kind, tokens: Vec<u32>, end: usize, loss: bool) -> Self {
        Self {
            of,
            kind,
            tokens,
            end,
            loss,
        }
    }
}

/// How a prompt goes on, so that every token of every answer is read somewhere: what answers begin with, without their last token,
/// and without what others begin with too. Longest first, and otherwise in the answers' order.
fn ways(pair: &Pair) -> Vec<Vec<u32>> {
    let answers = 0..pair.further_tokens.len();
    let mut begun: Vec<Vec<u32>> = answers
        .map(|answer| {
            let mut tokens = pair.answer_tokens(answer);
            tokens.pop();
            tokens
        })
        .collect();
    begun.sort_by_key(|tokens| std::cmp::Reverse(tokens.len()));
    let mut ways: Vec<Vec<u32>> = Vec::new();
    for tokens in begun {
        if !tokens.is_empty() && !ways.iter().any(|way| way.starts_with(&tokens)) {
            ways.push(tokens);
        }
    }
    ways
}

/// What was read of one pair, clean or of a run, by where it stands.
struct Read<'r> {
    pair: &'r Pair,
    part: &'r Part,
    readouts: &'r [Readout],
}

impl Read<'_> {
    fn at(&self, position: usize) -> Option<&Readout> {
        let positions = &self.pair.readouts;
        let index = positions.iter().position(|at| *at == position)?;
        self.readouts.get(index)
    }

    /// ln p of a token after a position.
    fn token(&self, position: usize, id: u32) -> Option<f64> {
        let readout = self.at(position)?;
        let index = self.pair.targets.iter().position(|known| *known == id)?;
        let logit = readout.logits.get(index)?;
        Some(readout.log_probability(*logit))
    }

    /// ln p of the tokens of an answer behind its first, if they are read here.
    fn further(&self, answer: &[u32]) -> Option<f64> {
        let (_, begun) = answer.split_last()?;
        let prompt = self.pair.base.len() - self.part.tokens.len();
        if !self.part.tokens.starts_with(begun) {
            return None;
        }
        let further = answer.iter().enumerate().skip(1);
        further.map(|(i, id)| self.token(prompt - 1 + i, *id)).sum()
    }

    /// Mean −ln p of the prompt's tokens behind its first, up to where it is read out.
    fn loss(&self) -> Option<f64> {
        if !self.part.loss {
            return None;
        }
        let tokens = 1..=self.part.end;
        let sum: f64 = tokens
            .map(|at| self.token(at - 1, self.pair.base[at]))
            .sum::<Option<f64>>()?;
        // a prompt of one token has none that follows another
        Some(-sum / self.part.end as f64)
    }
}

/// A readout at a prompt's end, with what was read behind it and before.
fn joined(pair: &Pair, end: &Readout, reads: &[Read<'_>]) -> Readout {
    let answers = pair.targets.len() + pair.wrong.len();
    let mut readout = end.clone();
    readout.logits.truncate(answers);
    readout.ranks.truncate(answers);
    if !pair.further_tokens.is_empty() {
        let joint = (0..answers).map(|answer| {
            let first = end.log_probability_of(answer);
            match pair.is_of_several_tokens(answer) {
                false => first,
                true => {
                    let tokens = pair.answer_tokens(answer);
                    let further = reads.iter().find_map(|read| read.further(&tokens));
                    first + further.unwrap_or(f64::NAN)
                }
            }
        });
        readout.joint = joint.collect();
        // the logit of a first token is not that of an answer
        for (answer, logit) in readout.logits.iter_mut().enumerate() {
            if pair.is_of_several_tokens(answer) {
                *logit = f64::NAN;
            }
        }
    }
    readout.loss = reads.iter().find_map(Read::loss);
    readout
}

/// Joins what was read of several pairs into what is read of one.
pub(super) struct Joining<'s> {
    continued: &'s Continued,
    asked: &'s [PairRuns],
    to: &'s mut dyn Sink,
    /// What was read clean of pairs whose own is still to come, or which is being run.
    clean: HashMap<usize, PairReadouts>,
    /// What was read aside of runs, by their pair, until the pair's own run is there.
    runs: HashMap<(usize, usize), Vec<Readout>>,
}

impl Joining<'_> {
    /// The pairs that are run for the same one as this, up to and with it.
    fn beside(&self, own: usize) -> std::ops::RangeInclusive<usize> {
        let parts = &self.continued.parts;
        let of = parts[own].of;
        let first = parts[..own].iter().rposition(|part| part.of != of);
        first.map_or(0, |before| before + 1)..=own
    }

    fn read<'r>(&'r self, index: usize, readouts: &'r [Readout]) -> Read<'r> {
        Read {
            pair: &self.continued.pairs[index].pair,
            part: &self.continued.parts[index],
            readouts,
        }
    }

    /// The readouts that were asked for, of which the last is the prompt's end.
    fn readouts(&self, own: usize, reads: &[Read<'_>]) -> Vec<Readout> {
        let pair = &self.asked[self.continued.parts[own].of].pair;
        let Some(read) = reads.last() else {
            return Vec::new();
        };
        let positions = pair.readout_positions();
        let found = positions.iter().filter_map(|at| read.at(*at));
        found.map(|end| joined(pair, end, reads)).collect()
    }
}

impl Sink for Joining<'_> {
    fn pair(&mut self, index: usize, clean: &PairReadouts) -> ControlFlow<()> {
        let part = &self.continued.parts[index];
        self.clean.insert(index, clean.clone());
        if part.kind != Kind::Own {
            return ControlFlow::Continue(());
        }
        let of = part.of;
        let pair = &self.asked[of].pair;
        let of_kind = |sources: bool| -> Vec<Read<'_>> {
            let beside = self.beside(index);
            let parts =
                beside.filter(|i| (self.continued.parts[*i].kind == Kind::Source) == sources);
            parts
                .filter_map(|i| Some(self.read(i, &self.clean.get(&i)?.base)))
                .collect()
        };
        let joined = PairReadouts {
            base: self.readouts(index, &of_kind(false)),
            source: clean
                .source
                .as_ref()
                .map(|source| joined(pair, source, &of_kind(true))),
        };
        let beside = self.beside(index);
        self.clean.retain(|i, _| !beside.contains(i));
        self.to.pair(of, &joined)
    }

    fn run(&mut self, index: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        let part = &self.continued.parts[index];
        if part.kind != Kind::Own {
            self.runs.insert((index, run), readouts);
            return ControlFlow::Continue(());
        }
        let of = part.of;
        let beside = self.beside(index);
        let aside: Vec<(usize, Vec<Readout>)> = beside
            .filter_map(|i| Some((i, self.runs.remove(&(i, run))?)))
            .chain([(index, readouts)])
            .collect();
        let reads = aside.iter().map(|(i, readouts)| self.read(*i, readouts));
        let joined = self.readouts(index, &reads.collect::<Vec<_>>());
        self.to.run(of, run, joined)
    }

    fn collected(&mut self, index: usize, collection: Collection) -> ControlFlow<()> {
        let part = &self.continued.parts[index];
        match part.kind {
            Kind::Own => self.to.collected(part.of, collection),
            // the same was or will be collected by the pair itself
            _ => ControlFlow::Continue(()),
        }
    }
}
