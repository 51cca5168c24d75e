//! What a run costs: floating-point operations and memory.
//!
//! Counted are the multiply-adds of linear layers, bases, attention and unembedding, two operations each;
//! layer norms, activations and softmaxes are a few per cent and are not.

use crate::model::Config;
use crate::plan::cone::Cone;
use crate::plan::edit::{Edit, Space, Value};
use crate::plan::positions::Positions;
use crate::plan::rows::ConeRows;
use crate::plan::writes::{BasisOperand, Operand, basis_steps};
use crate::site::Stage;
use crate::site::wiring::{self, Operation, OperationKind, Sees};

/// Floating-point operations by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flops {
    /// Linear layers, bases and unembedding.
    pub linear: u64,
    /// Scores and weighted sums.
    pub attention: u64,
}

impl Flops {
    /// All of them.
    pub fn total(self) -> u64 {
        self.linear + self.attention
    }
}

impl std::ops::AddAssign for Flops {
    fn add_assign(&mut self, other: Self) {
        self.linear += other.linear;
        self.attention += other.attention;
    }
}

/// What a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Operations.
    pub flops: Flops,
    /// Numbers of every buffer row that the widest part needs, and of its tables; times the stored
    /// type's size it is the memory of a chunk.
    pub values: usize,
}

impl Cost {
    /// The cost of one run or one clean run of which these edits are made.
    pub fn of(cone: &Cone, edits: &[Edit], config: &Config) -> Self {
        Self::of_cone(cone, config).with_bases(cone, edits)
    }

    /// What every run of a cone takes, whatever its edits write.
    pub fn of_cone(cone: &Cone, config: &Config) -> Self {
        let read_out = cone.readouts().map_or(0, Positions::len);
        let mut cost = Self::default();
        cost.flops.linear = 2 * (config.width * config.vocab * read_out) as u64;
        for (i, part) in cone.parts.iter().enumerate() {
            let mut values = part.stream.all.len() * config.width;
            let ops = wiring::ops(cone.first + i, config.layers);
            for (op, rows) in ops.iter().zip(&part.ops) {
                cost.flops += flops(op, rows, config);
                values += self::values(op, rows, config);
            }
            cost.values = cost.values.max(values);
        }
        cost
    }

    /// The same, and what a run's own edits take in bases.
    pub fn with_bases(mut self, cone: &Cone, edits: &[Edit]) -> Self {
        let bases = basis_work(cone, edits);
        self.flops.linear += 2 * bases.multiply_adds;
        self.values += bases.values;
        self
    }
}

fn flops(op: &Operation, rows: &ConeRows, config: &Config) -> Flops {
    let width = |stage: Stage| stage.width().numbers(config, 0);
    let mut flops = Flops::default();
    match op.kind {
        OperationKind::Linear(_) => {
            let inputs: usize = op.reads.iter().map(|input| width(input.stage)).sum();
            let columns = width(op.gives) * rows.computed.len() + config.head_width() * rows.copies;
            flops.linear = 2 * (inputs * columns) as u64;
        }
        OperationKind::Attend => {
            let keys: usize = rows.computed.iter().map(|p| p + 1).sum();
            flops.attention = 4 * (width(op.gives) * keys) as u64;
        }
        OperationKind::Embed(_)
        | OperationKind::Norm(_)
        | OperationKind::Activate
        | OperationKind::Add => {}
    }
    flops
}

/// Rows of what an operation gives, of copies and their layer norms, and of where it reads.
fn values(op: &Operation, rows: &ConeRows, config: &Config) -> usize {
    let width = op.gives.width().numbers(config, 0);
    let read = op.reads.iter().map(|input| match input.sees {
        Sees::Own => rows.computed.len(),
        Sees::UpTo => rows.computed.last().map_or(0, |last| last + 1),
    });
    rows.all.len() * (width + 1) + 2 * config.width * rows.copies + read.sum::<usize>()
}

/// What writes in bases take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasisWork {
    /// Multiply-adds of encoding and decoding.
    pub multiply_adds: u64,
    /// Numbers that stand in memory at once: coordinates, and rows on their way to and from them.
    pub values: usize,
}

/// What those of a run's edits that are applied take in bases.
pub fn basis_work(cone: &Cone, edits: &[Edit]) -> BasisWork {
    let mut work = BasisWork::default();
    let mut at = None;
    let mut values = 0;
    for (edit, live) in edits.iter().zip(&cone.live) {
        let Space::Basis(basis, picks) = &edit.space else {
            continue;
        };
        if !live || !cone.has_row(edit.stage, edit.layer, edit.position) {
            continue;
        }
        let with = match edit.value {
            Value::None => BasisOperand::None,
            Value::Constant(..) => BasisOperand::Coordinates(0),
            Value::Read(_) | Value::Mean { .. } => BasisOperand::Row(Operand::None),
        };
        let steps = basis_steps(basis, edit.op, with, picks.is_none());
        work.multiply_adds += steps.multiply_adds(basis);
        if at != Some((edit.layer, edit.stage)) {
            at = Some((edit.layer, edit.stage));
            values = 0;
        }
        values += 2 * (basis.coordinates() + basis.width());
        work.values = work.values.max(values);
    }
    work
}
