//! What the forward pass is told about one chunk of runs: which row of which buffer feeds which.
//!
//! What an operation gives has one buffer of rows for the whole chunk, the computed rows of all runs
//! first and the gathered ones after them, and each operation gets a table of where its rows read: the
//! run's own row, or the cache's. The forward pass then has no decisions left to take.
//! [`crate::plan::chunk`] fills these in.

use crate::plan::writes::{Phase, Write};
use crate::site::wiring::{self, Operation, OperationKind};
use crate::site::{Stage, StageMap};

/// A row of the chunk's own buffer of a stage, or of the cache's matrix of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Ref(u32);

impl Ref {
    const CACHED: u32 = 1 << 31;

    /// A row of the chunk's own buffer.
    pub fn own(row: usize) -> Self {
        debug_assert!((row as u32) < Self::CACHED);
        Self(row as u32)
    }

    /// A row of the cache.
    pub fn cached(row: usize) -> Self {
        debug_assert!((row as u32) < Self::CACHED);
        Self(row as u32 | Self::CACHED)
    }

    /// The first rows of the chunk's own buffer.
    pub fn first(count: usize) -> Vec<Self> {
        (0..count).map(Self::own).collect()
    }

    /// The number that a table holds.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// What a table's number says.
    pub(super) fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// `Ok(own row)` or `Err(cache row)`.
    ///
    /// # Errors
    ///
    /// A row of the cache is the `Err`, which is no failure.
    pub fn row(self) -> Result<usize, usize> {
        let row = (self.0 & !Self::CACHED) as usize;
        if self.0 & Self::CACHED == 0 {
            Ok(row)
        } else {
            Err(row)
        }
    }
}

/// Rows of one stage's buffer: `computed` of them, then the gathered cache rows.
#[derive(Debug, Clone, Default)]
pub struct RowTable {
    /// How many rows are computed; they come first.
    pub computed: usize,
    /// Rows of the cache whose clean values follow.
    pub gathered: Vec<u32>,
}

impl RowTable {
    /// All rows.
    pub fn len(&self) -> usize {
        self.computed + self.gathered.len()
    }

    /// Whether the stage has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows to keep of a stage: from row of the buffer, to row of the cache.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Index of the cache's matrix.
    pub slot: usize,
    /// Rows of the buffer.
    pub from: Vec<u32>,
    /// Rows of the cache; [`Self::NOWHERE`] for rows of scores and pattern that nobody reads.
    pub to: Vec<u32>,
}

impl Keep {
    /// No row.
    pub const NOWHERE: u32 = u32::MAX;

    /// Makes it one entry for each of so many rows, wherever it goes.
    pub(super) fn spread(&mut self, rows: usize) {
        let mut to = vec![Self::NOWHERE; rows];
        let known = self.from.iter().zip(&self.to);
        known.for_each(|(from, at)| to[*from as usize] = *at);
        (self.from, self.to) = ((0..rows as u32).collect(), to);
    }
}

/// Queries and the keys and values that they see.
#[derive(Debug, Clone, Default)]
pub struct AttentionRows {
    /// Query of each computed row of z.
    pub query: Vec<Ref>,
    /// Where each row's keys start in `key` and `value`.
    pub first: Vec<u32>,
    /// How many keys each row sees: its position + 1.
    pub count: Vec<u32>,
    /// Key rows, position by position, a stretch for each run.
    pub key: Vec<Ref>,
    /// Value rows, likewise.
    pub value: Vec<Ref>,
}

/// Copies of the residual stream that single heads read, patched, through a layer norm of their own.
#[derive(Debug, Clone, Default)]
pub struct HeadCopies {
    /// What is copied.
    pub of: Vec<Ref>,
    /// Writes to the copies, in phases.
    pub writes: Vec<Phase>,
    /// By head.
    pub heads: Vec<HeadRows>,
}

/// Rows of one head that are computed from copies.
#[derive(Debug, Clone, Default)]
pub struct HeadRows {
    /// Which head.
    pub head: usize,
    /// Which copies.
    pub copies: Vec<u32>,
    /// Rows of the result that get the head's columns.
    pub to: Vec<u32>,
}

/// What an operation reads.
#[derive(Debug, Clone)]
pub enum Reads {
    /// For each computed row, a row of a table.
    Table(Vec<u32>),
    /// For each stage that is read, its row for each computed row.
    Rows(Vec<Vec<Ref>>),
    /// Queries, and the keys and values that they see.
    Attention(AttentionRows),
}

/// One operation over a chunk.
#[derive(Debug, Clone)]
pub struct OpTable {
    /// Rows of what it gives.
    pub rows: RowTable,
    /// What they read.
    pub reads: Reads,
    /// Heads that read copies.
    pub copies: HeadCopies,
    /// Whether what it gives goes straight into the operation after it, without standing in a buffer.
    pub fused: bool,
}

impl HeadCopies {
    /// Adds a copy from which a head's columns of row `to` are computed; its row among the copies.
    pub(super) fn add(&mut self, of: Ref, head: usize, to: usize) -> usize {
        let copy = self.of.len();
        self.of.push(of);
        let known = self.heads.iter().position(|rows| rows.head == head);
        let known = known.unwrap_or_else(|| {
            self.heads.push(HeadRows {
                head,
                ..HeadRows::default()
            });
            self.heads.len() - 1
        });
        self.heads[known].copies.push(copy as u32);
        self.heads[known].to.push(to as u32);
        copy
    }
}

impl OpTable {
    /// No rows.
    pub(super) fn new(op: &Operation) -> Self {
        let reads = match op.kind {
            OperationKind::Embed(_) => Reads::Table(Vec::new()),
            OperationKind::Attend => Reads::Attention(AttentionRows::default()),
            _ => Reads::Rows(vec![Vec::new(); op.reads.len()]),
        };
        Self {
            rows: RowTable::default(),
            reads,
            copies: HeadCopies::default(),
            fused: false,
        }
    }

    /// The rows that each computed row reads, for each stage that the operation reads.
    pub fn refs(&self) -> &[Vec<Ref>] {
        match &self.reads {
            Reads::Rows(refs) => refs,
            Reads::Table(_) | Reads::Attention(_) => &[],
        }
    }

    /// Those of an operation that reads one stage, all of them the chunk's own.
    pub fn own_rows(&self) -> &[u32] {
        let refs = self.refs().first().map_or(&[][..], Vec::as_slice);
        debug_assert!(refs.iter().all(|row| row.row().is_ok()));
        bytemuck::cast_slice(refs)
    }
}

/// Everything that one part of a pass does for a chunk.
#[derive(Debug, Clone, Default)]
pub struct PartTables {
    /// By operation.
    pub ops: Vec<OpTable>,
    /// Writes by stage, in phases; those of the stream are the *next* layer's.
    pub writes: StageMap<Vec<Phase>>,
    /// Rows to keep by stage; those of the stream likewise.
    pub keeps: StageMap<Option<Keep>>,
}

impl PartTables {
    /// Overwrites of scores or pattern, where there are no other writes.
    pub fn overwrites(&self, stage: Stage) -> &[Write] {
        debug_assert!(stage.has_keys());
        match &self.writes[stage][..] {
            [Phase::Overwrite(writes)] => writes,
            _ => &[],
        }
    }

    /// Whether a stage's value must stand in a buffer of its own: somebody overwrites or keeps it.
    pub fn touches(&self, stage: Stage) -> bool {
        !self.writes[stage].is_empty() || self.keeps[stage].is_some()
    }

    /// Whether what an operation gives can go straight into the one after it: row by row, and touched
    /// by nobody.
    pub(super) fn fuses(&self, ops: &[Operation], op: usize) -> bool {
        let Some(input) = wiring::fuses(ops, op) else {
            return false;
        };
        let rows = &self.ops[op].rows;
        let refs = &self.ops[op + 1].refs()[input];
        let straight = || refs.iter().copied().eq((0..rows.computed).map(Ref::own));
        !self.touches(ops[op].gives) && rows.gathered.is_empty() && straight()
    }
}

/// Tables for one chunk.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The first part of a pass that has rows.
    pub first: usize,
    /// Parts from there on.
    pub parts: Vec<PartTables>,
    /// Which run (index in the chunk) and position each row that is read out belongs to.
    pub readout_of: Vec<(u32, u32)>,
    /// How many rows are read out; others of the last operation are compared with.
    pub readouts: usize,
    /// Constants that overwrites read.
    pub constants: Vec<f64>,
}

impl Chunk {
    /// Reads out a further row of the last layer's output, which is none of a run's. Rows that others
    /// are compared with come after all of these.
    pub fn read(&mut self, row: Ref) {
        self.compare(row);
        self.readouts += 1;
    }

    /// Adds a row of the last layer's output for others to be compared with.
    pub fn compare(&mut self, row: Ref) {
        let last = self.parts.last_mut().and_then(|part| part.ops.last_mut());
        if let Some(OpTable {
            rows,
            reads: Reads::Rows(refs),
            ..
        }) = last
        {
            rows.computed += 1;
            refs.iter_mut().for_each(|refs| refs.push(row));
        }
    }

    /// How many rows are compared with.
    pub fn compared(&self) -> usize {
        let last = self.parts.last().and_then(|part| part.ops.last());
        last.map_or(0, |op| op.rows.computed) - self.readouts
    }
}
