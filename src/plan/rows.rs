//! Rows of one part of a cone, and where they stand in any chunk.
//!
//! Where a row reads does not depend on the chunk: it is the third computed row of the run's own keys,
//! say, or position 2 of its prompt's. A [`Template`] says that once for a part of a cone; placing it is
//! adding where the run's rows begin in each buffer, and its prompt's in the cache ([`RowStarts`]).

use crate::plan::positions::Positions;
use crate::plan::tables::Ref;
use crate::site::Stage;
use crate::site::wiring::{Operation, Sees};

/// Rows of what one operation gives: first those that are computed, then those whose clean value is
/// gathered from the cache because a patch acts on it there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConeRows {
    /// Computed from what the operation reads.
    pub computed: Positions,
    /// Computed or gathered.
    pub all: Positions,
    /// How many (row, head) pairs read a patched copy of the residual stream instead.
    pub copies: usize,
}

impl ConeRows {
    /// Rows whose clean value is gathered from the cache.
    pub fn gathered(&self) -> Positions {
        self.all.minus(&self.computed)
    }
}

/// Neighbouring numbers, counted from where something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// From where: an index of [`RowStarts`].
    base: u32,
    first: u32,
    count: u32,
}

/// Where the rows of one part of a cone read, as far as that does not depend on the chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// Computed and gathered rows of the stream that enters, then of what each operation gives.
    counts: Vec<[u32; 2]>,
    stretches: Vec<Offsets>,
    /// Where each list of stretches ends. An operation has one for each stage that it reads, one for
    /// the positions of its computed rows, and one for those of the gathered ones.
    ends: Vec<u32>,
}

impl Template {
    /// What is so of one part, given the rows of the stream that enters it and of what its operations
    /// give.
    pub fn of(ops: &[Operation], stream: &ConeRows, given: &[ConeRows]) -> Self {
        let rows: Vec<&ConeRows> = std::iter::once(stream).chain(given).collect();
        let count = |rows: &&ConeRows| [rows.computed.len(), rows.all.len() - rows.computed.len()];
        let mut template = Self {
            counts: rows.iter().map(|r| count(r).map(|n| n as u32)).collect(),
            ..Self::default()
        };
        for (op, own) in ops.iter().zip(given) {
            for input in op.reads {
                let buffer = buffer_of(ops, input.stage);
                let row = |p| place(rows[buffer], buffer, p).unwrap_or((RowStarts::CACHE_REF, p));
                match input.sees {
                    Sees::Own => template.list(own.computed.iter().map(row)),
                    Sees::UpTo => {
                        let end = own.computed.last().map_or(0, |last| last + 1);
                        template.list((0..end).map(row));
                    }
                }
            }
            template.list(own.computed.iter().map(|p| (RowStarts::ZERO, p)));
            template.list(own.gathered().iter().map(|p| (RowStarts::CACHE, p)));
        }
        template
    }

    fn list(&mut self, numbers: impl Iterator<Item = (usize, usize)>) {
        let begin = self.stretches.len();
        for (base, number) in numbers {
            let (base, number) = (base as u32, number as u32);
            match self.stretches[begin..].last_mut() {
                Some(s) if s.base == base && s.first + s.count == number => s.count += 1,
                _ => self.stretches.push(Offsets {
                    base,
                    first: number,
                    count: 1,
                }),
            }
        }
        self.ends.push(self.stretches.len() as u32);
    }

    /// Each operation's computed rows.
    pub fn computed(&self) -> impl Iterator<Item = usize> {
        self.counts[1..]
            .iter()
            .map(|[computed, _]| *computed as usize)
    }

    /// Its lists, operation by operation.
    pub fn lists(&self) -> impl Iterator<Item = &[Offsets]> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let list = &self.stretches[begin..*end as usize];
            begin = *end as usize;
            list
        })
    }
}

/// Which of a part's buffers holds a stage: 0 is the stream that enters, i + 1 what operation i gives.
pub fn buffer_of(ops: &[Operation], stage: Stage) -> usize {
    let given = ops.iter().position(|op| op.gives == stage);
    given.map_or(0, |i| i + 1)
}

/// The base from which a run's row of a buffer is counted, and its number from there, if it has one.
pub fn place(rows: &ConeRows, buffer: usize, position: usize) -> Option<(usize, usize)> {
    let computed = rows.computed.rank(position);
    if rows.computed.contains(position) {
        return Some((RowStarts::BUFFERS + 2 * buffer, computed));
    }
    let gathered = rows.all.rank(position) - computed;
    let has = rows.all.contains(position);
    has.then_some((RowStarts::BUFFERS + 2 * buffer + 1, gathered))
}

/// Where a run's rows begin in each buffer of a chunk.
pub struct RowStarts(Vec<u32>);

impl RowStarts {
    /// Positions are counted from nowhere.
    const ZERO: usize = 0;
    /// The row of the cache at which the run's prompt begins.
    const CACHE: usize = 1;
    /// The same as a [`Ref`].
    pub const CACHE_REF: usize = 2;
    /// The first of two for each buffer: computed rows, gathered rows.
    const BUFFERS: usize = 3;

    /// Before the first run of a part in which runs have these templates.
    pub fn new<'t>(ops: &[Operation], templates: impl Iterator<Item = &'t Template>) -> Self {
        let mut bases = vec![0; Self::BUFFERS + 2 * (ops.len() + 1)];
        for template in templates {
            // gathered rows stand behind all that are computed
            let gathered = bases[Self::BUFFERS + 1..].iter_mut().step_by(2);
            gathered
                .zip(&template.counts)
                .for_each(|(base, [n, _])| *base += n);
        }
        Self(bases)
    }

    /// Comes to a run whose prompt begins at this row of the cache.
    pub fn enter(&mut self, offset: usize) {
        self.0[Self::CACHE] = offset as u32;
        self.0[Self::CACHE_REF] = Ref::cached(offset).bits();
    }

    /// Passes over a run's rows.
    pub fn leave(&mut self, template: &Template) {
        let counts = template.counts.as_flattened();
        let buffers = self.0[Self::BUFFERS..].iter_mut();
        buffers.zip(counts).for_each(|(base, n)| *base += n);
    }

    /// The number of a place.
    pub fn row(&self, (base, number): (usize, usize)) -> u32 {
        self.0[base] + number as u32
    }

    /// Appends what a list of stretches stands for.
    pub fn extend<T>(&self, list: &mut Vec<T>, stretches: &[Offsets], of: impl Fn(u32) -> T) {
        for stretch in stretches {
            let first = self.0[stretch.base as usize] + stretch.first;
            list.extend((first..first + stretch.count).map(&of));
        }
    }
}
