//! Where runs are cut into shards and parts: by planned operations, at pairs where it can be.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::execute::costs::PairCost;

/// A run among those of a question, by the index of its pair and its own in the pair.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "(usize, usize)", into = "(usize, usize)")]
pub struct Cursor {
    /// Index of the pair.
    pub pair: usize,
    /// Index of the run in it.
    pub run: usize,
}

impl Cursor {
    /// A run of a pair.
    pub fn new(pair: usize, run: usize) -> Self {
        Self { pair, run }
    }
}

impl From<(usize, usize)> for Cursor {
    fn from((pair, run): (usize, usize)) -> Self {
        Self { pair, run }
    }
}

impl From<Cursor> for (usize, usize) {
    fn from(cursor: Cursor) -> Self {
        (cursor.pair, cursor.run)
    }
}

/// Runs from one on up to another.
pub type RunRange = Range<Cursor>;

/// Runs that are written into one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpan {
    /// The first run.
    pub from: Cursor,
    /// The first that is no longer in it.
    pub to: Cursor,
    /// How many runs are read out.
    pub runs: u64,
    /// How many rows they have.
    pub rows: u64,
    /// How many operations are planned, those of clean runs included.
    pub flops: u64,
}

/// What a pair weighs: its cost, and how many rows each of its runs has.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// Its cost.
    pub cost: PairCost,
    /// Rows a run: the pair's targets.
    pub rows: u64,
}

impl Weighed {
    /// How many rows all of its runs have.
    pub fn all_rows(&self) -> u64 {
        read_out(self, count(self)) * self.rows
    }
}

/// The most that a part holds, unless one run is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimit {
    /// Rows.
    pub rows: u64,
    /// Planned operations.
    pub flops: u64,
    /// Of parts that keep averages, how many pairs make a block: parts are whole pairs then, and whole blocks where these
    /// fit, since they keep less.
    pub block: Option<usize>,
}

/// What a run weighs beside its operations, so that runs that change nothing are shared out too.
const RUN: u64 = 1 << 18;

/// A pair's runs up to `run` are planned to take so many operations.
fn flops(pair: &Weighed, run: usize) -> u64 {
    match run {
        0 => 0,
        _ => pair.cost.flops[run - 1],
    }
}

fn read_out(pair: &Weighed, run: usize) -> u64 {
    match run {
        0 => 0,
        _ => u64::from(pair.cost.read_out[run - 1]),
    }
}

fn count(pair: &Weighed) -> usize {
    pair.cost.flops.len()
}

/// What the runs of a pair before `run` weigh; the clean runs go with the first.
fn weight(pair: &Weighed, run: usize) -> u64 {
    let clean = if run > 0 { pair.cost.clean } else { 0 };
    clean + flops(pair, run) + RUN * read_out(pair, run)
}

/// Cuts the runs of pairs into so many shards of about the same number of planned operations, and each of them into
/// parts.
pub fn cut(pairs: &[Weighed], shards: usize, limit: PartLimit) -> Vec<Vec<PartSpan>> {
    let shards = shards.max(1);
    let mut before = Vec::with_capacity(pairs.len() + 1);
    let mut total: u64 = 0;
    for pair in pairs {
        before.push(total);
        total += weight(pair, count(pair));
    }
    before.push(total);
    let begin = |shard: usize| match shard {
        0 => Cursor::default(),
        shard if shard == shards => Cursor::new(pairs.len(), 0),
        shard => {
            let share = u128::from(total) * shard as u128 / shards as u128;
            let at = at(pairs, &before, share as u64, total / shards as u64 / 64);
            match limit.block {
                Some(_) => nearest(pairs, at),
                None => at,
            }
        }
    };
    let mut from = begin(0);
    let each = (1..=shards).map(|shard| {
        let to = begin(shard).max(from);
        let parts = match limit.block {
            Some(block) => parts_of_blocks(pairs, from.pair..to.pair, limit, block),
            None => parts(pairs, from..to, limit),
        };
        from = to;
        parts
    });
    each.collect()
}

/// Where the runs before weigh so much: at a pair's first run if that is not far away.
fn at(pairs: &[Weighed], before: &[u64], wanted: u64, far: u64) -> Cursor {
    let pair = before.partition_point(|before| *before <= wanted) - 1;
    let Some(of) = pairs.get(pair) else {
        return Cursor::new(pairs.len(), 0);
    };
    let (inside, end) = (wanted - before[pair], before[pair + 1] - wanted);
    if inside <= far {
        return Cursor::new(pair, 0);
    }
    if end <= far {
        return Cursor::new(pair + 1, 0);
    }
    normal(
        pairs,
        Cursor::new(pair, within(of, 0, |run| weight(of, run) <= inside)),
    )
}

/// The last run from `first` on up to which `fits` holds.
fn within(pair: &Weighed, first: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (first, count(pair));
    while low < high {
        let middle = high - (high - low) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

/// The end of a pair is the beginning of the next.
fn normal(pairs: &[Weighed], at: Cursor) -> Cursor {
    match pairs.get(at.pair) {
        Some(pair) if at.run > 0 && at.run >= count(pair) => Cursor::new(at.pair + 1, 0),
        _ => at,
    }
}

/// The beginning of a pair that is nearest.
fn nearest(pairs: &[Weighed], at: Cursor) -> Cursor {
    let Some(pair) = pairs.get(at.pair).filter(|_| at.run > 0) else {
        return at;
    };
    let (inside, all) = (weight(pair, at.run), weight(pair, count(pair)));
    Cursor::new(at.pair + usize::from(2 * inside >= all), 0)
}

/// Cuts a stretch of pairs: whole blocks as long as they fit; of a block that is too much by itself, whole pairs.
fn parts_of_blocks(
    pairs: &[Weighed],
    stretch: Range<usize>,
    limit: PartLimit,
    block: usize,
) -> Vec<PartSpan> {
    let span = |some: Range<usize>| {
        let mut part = PartSpan {
            from: Cursor::new(some.start, 0),
            to: Cursor::new(some.end, 0),
            runs: 0,
            rows: 0,
            flops: 0,
        };
        for pair in &pairs[some] {
            let runs = read_out(pair, count(pair));
            part.runs += runs;
            part.rows += runs * pair.rows;
            part.flops += pair.cost.clean + flops(pair, count(pair));
        }
        part
    };
    let join = |first: PartSpan, then: PartSpan| PartSpan {
        from: first.from,
        to: then.to,
        runs: first.runs + then.runs,
        rows: first.rows + then.rows,
        flops: first.flops + then.flops,
    };
    let fits = |part: &PartSpan| part.rows <= limit.rows && part.flops <= limit.flops;
    let end_of_block = |pair: usize| ((pair / block + 1) * block).min(stretch.end);
    let mut parts = Vec::new();
    let mut at = stretch.start;
    while at < stretch.end {
        let first = span(at..end_of_block(at));
        let whole = fits(&first);
        let mut part = if whole { first } else { span(at..at + 1) };
        let end = if whole { stretch.end } else { end_of_block(at) };
        while part.to.pair < end {
            let next = part.to.pair;
            let to = if whole { end_of_block(next) } else { next + 1 };
            let more = join(part, span(next..to));
            if !fits(&more) {
                break;
            }
            part = more;
        }
        at = part.to.pair;
        parts.push(part);
    }
    parts
}

/// Cuts a stretch of runs: whole pairs as long as they fit; a pair that is too much by itself is cut.
pub fn parts(pairs: &[Weighed], stretch: RunRange, limit: PartLimit) -> Vec<PartSpan> {
    let mut parts: Vec<PartSpan> = Vec::new();
    let mut at = stretch.start;
    // what is of the pair that is open, up to the end of the stretch
    let end_in = |pair: usize| match pair == stretch.end.pair {
        true => stretch.end.run,
        false => count(&pairs[pair]),
    };
    while at < stretch.end {
        let mut part = PartSpan {
            from: at,
            to: at,
            runs: 0,
            rows: 0,
            flops: 0,
        };
        while at < stretch.end {
            let pair = &pairs[at.pair];
            let some = |run: usize| {
                let runs = read_out(pair, run) - read_out(pair, at.run);
                let flops = pair.cost.clean + flops(pair, run) - flops(pair, at.run);
                (runs, runs * pair.rows, flops)
            };
            let fits = |run: usize| {
                let (_, rows, flops) = some(run);
                part.rows + rows <= limit.rows && part.flops + flops <= limit.flops
            };
            let end = end_in(at.pair);
            let mut to = end;
            if !fits(end) {
                if part.from != at {
                    break;
                }
                to = within(pair, at.run, |run| run <= end && fits(run))
                    .max(at.run + 1)
                    .min(end);
            }
            let (runs, rows, flops) = some(to);
            part.runs += runs;
            part.rows += rows;
            part.flops += flops;
            let next = Cursor::new(at.pair, to);
            let last = to >= count(pair);
            at = if last {
                Cursor::new(at.pair + 1, 0)
            } else {
                next
            };
            part.to = at;
            if !last {
                break;
            }
        }
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weighed() -> impl Strategy<Value = Vec<Weighed>> {
        let run = (0u64..1_000_000, 0u32..2);
        let pair = (
            proptest::collection::vec(run, 0..30),
            0u64..1_000_000,
            0u64..3,
        );
        let pair = pair.prop_map(|(runs, clean, rows)| {
            let (mut flops, mut read_out) = (0, 0);
            let each = runs.into_iter().map(|(cost, read)| {
                flops += cost;
                read_out += read;
                (flops, read_out)
            });
            let (flops, read_out): (Vec<u64>, Vec<u32>) = each.unzip();
            Weighed {
                cost: PairCost {
                    clean,
                    flops: flops.into(),
                    read_out: read_out.into(),
                    copied: 0,
                },
                rows,
            }
        });
        proptest::collection::vec(pair, 1..12)
    }

    proptest! {
        #[test]
        fn parts_are_all_runs_once_and_in_order(
            pairs in weighed(), shards in 1usize..24, rows in 1u64..60, flops in 1u64..3_000_000,
        ) {
            let limit = PartLimit { rows, flops, block: None };
            let cut = cut(&pairs, shards, limit);
            prop_assert_eq!(cut.len(), shards);
            let all: Vec<PartSpan> = cut.concat();
            let mut at = Cursor::default();
            for part in &all {
                prop_assert_eq!(part.from, at);
                prop_assert!(part.to > part.from);
                prop_assert!(part.to.run == 0 || part.to.run < count(&pairs[part.to.pair]));
                let (mut runs, mut of_rows) = (0, 0);
                for (p, pair) in pairs.iter().enumerate() {
                    for run in 0..count(pair) {
                        if (part.from..part.to).contains(&Cursor::new(p, run)) {
                            let one = read_out(pair, run + 1) - read_out(pair, run);
                            runs += one;
                            of_rows += one * pair.rows;
                        }
                    }
                }
                prop_assert_eq!((part.runs, part.rows), (runs, of_rows));
                let alone = part.to <= Cursor::new(part.from.pair, part.from.run + 1)
                    || part.to == Cursor::new(part.from.pair + 1, 0);
                prop_assert!(alone || (part.rows <= rows && part.flops <= flops));
                at = part.to;
            }
            prop_assert_eq!(at, Cursor::new(pairs.len(), 0));
        }

        #[test]
        fn parts_of_averages_are_whole_pairs_and_blocks_that_fit(
            pairs in weighed(), shards in 1usize..24, rows in 1u64..60, flops in 1u64..3_000_000, block in 1usize..5,
        ) {
            let limit = PartLimit { rows, flops, block: Some(block) };
            let cut = cut(&pairs, shards, limit);
            prop_assert_eq!(cut.len(), shards);
            for shard in &cut {
                let end = shard.last().map_or(0, |last| last.to.pair);
                for part in shard {
                    prop_assert_eq!((part.from.run, part.to.run), (0, 0));
                    let all = &pairs[part.from.pair..part.to.pair];
                    let of = |pairs: &[Weighed]| {
                        let runs = |pair: &Weighed| read_out(pair, count(pair));
                        let flops = |pair: &Weighed| weight(pair, count(pair)) - RUN * runs(pair) + pair.cost.clean * u64::from(count(pair) == 0);
                        let rows: u64 = pairs.iter().map(|pair| runs(pair) * pair.rows).sum();
                        (pairs.iter().map(runs).sum::<u64>(), rows, pairs.iter().map(flops).sum::<u64>())
                    };
                    prop_assert_eq!((part.runs, part.rows, part.flops), of(all));
                    prop_assert!(all.len() == 1 || (part.rows <= rows && part.flops <= flops));
                    // a block is not cut unless it does not fit
                    if part.to.pair % block != 0 && part.to.pair != end {
                        let begin = (part.to.pair / block * block).max(shard[0].from.pair);
                        let whole = begin..((begin / block + 1) * block).min(end);
                        let (_, of_rows, of_flops) = of(&pairs[whole]);
                        prop_assert!(of_rows > rows || of_flops > flops);
                    }
                }
            }
            let all: Vec<PartSpan> = cut.concat();
            let mut at = Cursor::default();
            for part in &all {
                prop_assert_eq!(part.from, at);
                prop_assert!(part.to > part.from);
                at = part.to;
            }
            prop_assert_eq!(at, Cursor::new(pairs.len(), 0));
        }

        /// No shard is further from its share than a run, what a pair runs clean, and a sixty-fourth.
        #[test]
        fn shards_weigh_the_same(pairs in weighed(), shards in 1usize..8) {
            let limit = PartLimit { rows: u64::MAX, flops: u64::MAX, block: None };
            let total: u64 = pairs.iter().map(|pair| weight(pair, count(pair))).sum();
            let share = total / shards as u64;
            for parts in cut(&pairs, shards, limit) {
                let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
                let to = |at: Cursor| {
                    let whole: u64 = pairs[..at.pair].iter().map(|pair| weight(pair, count(pair))).sum();
                    whole + pairs.get(at.pair).map_or(0, |pair| weight(pair, at.run))
                };
                let weight = to(last.to) - to(first.from);
                prop_assert!(weight <= share + share / 32 + 2 * (2_000_000 + RUN), "{} of {}", weight, share);
            }
        }
    }
}
