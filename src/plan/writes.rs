//! What is done to rows of a stage, in phases: operators in place, writes in a basis, and functions.
//!
//! Writes to one row act in listed order, but a device takes many rows at a time and does one kind of
//! thing to them. So a stage's writes are cut into phases, each of one kind (and one basis), and a
//! row's writes go to phases that never go back. Rows do not wait for each other: which phase a row's
//! write is in depends on what else is in the chunk, its bits do not.
//!
//! A write in a basis is rows that are encoded, operators in place on coordinates, and a row that is
//! decoded: [`BasisSteps`] says which, for each operator.

use std::collections::HashMap;
use std::sync::Arc;

use crate::basis::Basis;
use crate::function::Function;
use crate::plan::edit::EditOp;
use crate::site::{rest, stretches};

/// Where an overwrite's operand stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The operator has none.
    None,
    /// `slot` of the cache, from (row, column).
    Kept {
        /// Index of the matrix.
        slot: usize,
        /// Row.
        row: usize,
        /// First column.
        column: usize,
    },
    /// The chunk's constants from this offset.
    Constant(usize),
}

/// One overwrite of a stretch of a buffer's row. Writes to one row act in listed order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Write {
    /// Row of the buffer.
    pub row: usize,
    /// Head, for scores and pattern.
    pub head: usize,
    /// First column (first key for scores and pattern).
    pub column: usize,
    /// How many columns.
    pub length: usize,
    /// What is done.
    pub op: EditOp,
    /// With what.
    pub operand: Operand,
}

/// Writes that act together.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Operators in place, those of one row in listed order.
    Overwrite(Vec<Write>),
    /// Writes in one basis, of stretches that do not overlap.
    Basis(Arc<Basis>, Vec<BasisWrite>),
    /// Functions, those of one row in listed order.
    Functions(Vec<Call>),
}

/// One operator on coordinates of a stretch of a buffer's row, as wide as the basis.
#[derive(Debug, Clone)]
pub struct BasisWrite {
    /// Row of the buffer.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// What is done.
    pub op: EditOp,
    /// With what.
    pub with: BasisOperand,
    /// Which coordinates, ascending; `None` is all.
    pub picks: Option<Arc<[usize]>>,
}

/// What an operator in a basis reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasisOperand {
    /// Nothing.
    None,
    /// A row as wide as the basis, which is encoded.
    Row(Operand),
    /// A number for each coordinate: the chunk's constants from this offset.
    Coordinates(usize),
}

/// One function of columns of a stretch of a buffer's row.
#[derive(Debug, Clone)]
pub struct Call {
    /// Row of the buffer.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// How many columns.
    pub length: usize,
    /// Which columns of the stretch, in this order; `None` is all.
    pub picks: Option<Arc<[usize]>>,
    /// What is called.
    pub function: Function,
    /// What it reads besides, as long as the stretch.
    pub operand: Operand,
}

impl Call {
    /// Calls the function: of all of b, which it changes, and s, or of the columns that it picks.
    pub fn apply(&self, b: &mut [f64], s: &[f64]) {
        let Some(picks) = &self.picks else {
            return self.function.apply(b, s);
        };
        let pick =
            |x: &[f64]| -> Vec<f64> { picks.iter().filter_map(|i| x.get(*i)).copied().collect() };
        let (mut some, read) = (pick(b), pick(s));
        self.function.apply(&mut some, &read);
        for (i, x) in picks.iter().zip(some) {
            b[*i] = x;
        }
    }
}

/// A write of any kind.
#[derive(Debug, Clone)]
pub enum AnyWrite {
    /// An operator in place.
    Overwrite(Write),
    /// An operator in a basis.
    Basis(Arc<Basis>, BasisWrite),
    /// A function.
    Call(Call),
}

impl AnyWrite {
    fn row(&self) -> usize {
        match self {
            Self::Overwrite(write) => write.row,
            Self::Basis(_, write) => write.row,
            Self::Call(call) => call.row,
        }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Overwrite(_) => Phase::Overwrite(Vec::new()),
            Self::Basis(basis, _) => Phase::Basis(basis.clone(), Vec::new()),
            Self::Call(_) => Phase::Functions(Vec::new()),
        }
    }

    /// Puts itself into a phase of its kind, or gives itself back.
    fn join(self, phase: &mut Phase) -> Result<(), Self> {
        match (self, phase) {
            (Self::Overwrite(write), Phase::Overwrite(writes)) => writes.push(write),
            (Self::Basis(basis, write), Phase::Basis(of, writes)) if Arc::ptr_eq(&basis, of) => {
                writes.push(write);
            }
            (Self::Call(call), Phase::Functions(calls)) => calls.push(call),
            (write, _) => return Err(write),
        }
        Ok(())
    }
}

/// Where a row's last write went.
#[derive(Debug, Default)]
struct Last {
    phase: usize,
    /// Columns that are written in the basis of that phase.
    columns: Vec<(usize, usize)>,
}

/// Cuts writes into phases.
#[derive(Debug, Default)]
pub struct Phases {
    phases: Vec<Phase>,
    last: HashMap<usize, Last>,
}

impl Phases {
    /// Adds a write, which acts after those of its row that were added before.
    pub fn push(&mut self, write: AnyWrite) {
        // sweeps without bases and functions have one phase, and no row of it needs to be known
        match (&mut self.phases[..], &write) {
            ([], AnyWrite::Overwrite(write)) => {
                return self.phases.push(Phase::Overwrite(vec![*write]));
            }
            ([Phase::Overwrite(writes)], AnyWrite::Overwrite(write)) => {
                return writes.push(*write);
            }
            _ => {}
        }
        let last = self.last.entry(write.row()).or_default();
        let columns = match &write {
            AnyWrite::Basis(basis, write) => Some((write.column, basis.width())),
            _ => None,
        };
        let overlaps = columns.is_some_and(|(column, width)| {
            let meets = |(c, w): &(usize, usize)| *c < column + width && column < c + w;
            last.columns.iter().any(meets)
        });
        let mut place = last.phase + usize::from(overlaps);
        let mut rest = write;
        loop {
            if place == self.phases.len() {
                self.phases.push(rest.phase());
            }
            match rest.join(&mut self.phases[place]) {
                Ok(()) => break,
                Err(write) => rest = write,
            }
            place += 1;
        }
        if place != last.phase {
            last.phase = place;
            last.columns.clear();
        }
        last.columns.extend(columns);
    }

    /// The phases, in order; empty if nothing was added.
    pub fn finish(self) -> Vec<Phase> {
        self.phases
    }
}

/// What is encoded of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// b, what stands.
    Standing,
    /// s, what is read.
    Read,
    /// s − b.
    Difference,
}

/// Where the operand of a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOperand {
    /// The operator has none.
    None,
    /// The second row's coordinates.
    Encoded,
    /// The constant's.
    Coordinates,
}

/// How a write in a basis is done with rows that are encoded, operators in place and a row that is decoded.
///
/// By difference the coordinates become Δh, what they change by: in a linear basis that follows from one
/// encoded row for every operator, else what both rows have to do with it takes both. Whole they become h'.
#[derive(Debug, Clone, PartialEq)]
pub struct BasisSteps {
    /// What the coordinates are first; `None` if a step sets them.
    pub first: Option<Encoded>,
    /// What is encoded besides.
    pub second: Option<Encoded>,
    /// Operators in place, on the coordinates that the write picks.
    pub steps: Vec<(EditOp, StepOperand)>,
    /// Whether the coordinates that are not picked become 0.
    pub clears: bool,
}

/// The steps of an operator in a basis; `all` says whether it acts on every coordinate.
pub fn basis_steps(basis: &Basis, op: EditOp, with: BasisOperand, all: bool) -> BasisSteps {
    let constant = matches!(with, BasisOperand::Coordinates(_));
    let negative = (EditOp::Scale(-1.0), StepOperand::None);
    if basis.is_by_difference() {
        let apart = (EditOp::Subtract, StepOperand::Encoded);
        let (first, mut steps) = match (op, constant) {
            (EditOp::Set, false) => (Some(Encoded::Difference), vec![]),
            (EditOp::Interpolate(alpha), _) => (
                Some(Encoded::Difference),
                vec![(EditOp::Scale(alpha), StepOperand::None)],
            ),
            // of the coordinates, 0 alone is filled in: other numbers are constants
            (EditOp::Fill(_), _) => (Some(Encoded::Standing), vec![negative]),
            (EditOp::Scale(x), _) => (
                Some(Encoded::Standing),
                vec![(EditOp::Scale(x - 1.0), StepOperand::None)],
            ),
            (EditOp::Add, false) => (Some(Encoded::Read), vec![]),
            (EditOp::Subtract, false) => (Some(Encoded::Read), vec![negative]),
            (EditOp::Set, true) => (
                Some(Encoded::Standing),
                vec![negative, (EditOp::Add, StepOperand::Coordinates)],
            ),
            (EditOp::Add, true) => (None, vec![(EditOp::Set, StepOperand::Coordinates)]),
            (EditOp::Subtract, true) => (
                None,
                vec![(EditOp::Set, StepOperand::Coordinates), negative],
            ),
        };
        let (first, second) = match first {
            Some(Encoded::Difference) if !basis.is_linear() => {
                steps.insert(0, apart);
                (Some(Encoded::Read), Some(Encoded::Standing))
            }
            first => (first, None),
        };
        return BasisSteps {
            first,
            second,
            steps,
            clears: !all,
        };
    }
    let second = match with {
        BasisOperand::None => StepOperand::None,
        BasisOperand::Row(_) => StepOperand::Encoded,
        BasisOperand::Coordinates(_) => StepOperand::Coordinates,
    };
    let (first, second, steps) = match (op, second) {
        // nothing is left of what stood
        (EditOp::Set, StepOperand::Encoded) if all => (Some(Encoded::Read), None, vec![]),
        (EditOp::Set | EditOp::Fill(_), _) if all => (None, None, vec![(op, second)]),
        (_, StepOperand::Encoded) => (
            Some(Encoded::Standing),
            Some(Encoded::Read),
            vec![(op, second)],
        ),
        _ => (Some(Encoded::Standing), None, vec![(op, second)]),
    };
    BasisSteps {
        first,
        second,
        steps,
        clears: false,
    }
}

impl BasisSteps {
    /// Multiply-adds of a write: the rows that are encoded, and the one that is decoded.
    pub fn multiply_adds(&self, basis: &Basis) -> u64 {
        let encoded = u64::from(self.first.is_some()) + u64::from(self.second.is_some());
        (encoded + 1) * basis.multiply_adds()
    }

    /// The steps as overwrites of row `row` of the coordinates, where the second row's coordinates
    /// are row `second` of the one matrix that is read.
    pub fn writes(
        &self,
        basis: &Basis,
        write: &BasisWrite,
        row: usize,
        second: usize,
    ) -> impl Iterator<Item = Write> {
        let k = basis.coordinates();
        let picked = match &write.picks {
            Some(picks) => stretches(picks.iter().copied()),
            None => vec![(0, k)],
        };
        let cleared = if self.clears {
            rest(&picked, k)
        } else {
            Vec::new()
        };
        let with = write.with;
        let overwrite = move |(column, length): (usize, usize), op, operand| Write {
            row,
            head: 0,
            column,
            length,
            op,
            operand,
        };
        let steps = self.steps.clone().into_iter();
        let steps = steps.flat_map(move |(op, operand)| {
            let operand = move |column: usize| match (operand, with) {
                (StepOperand::Encoded, _) => Operand::Kept {
                    slot: 0,
                    row: second,
                    column,
                },
                (StepOperand::Coordinates, BasisOperand::Coordinates(offset)) => {
                    Operand::Constant(offset + column)
                }
                _ => Operand::None,
            };
            let picked = picked.clone().into_iter();
            picked.map(move |stretch| overwrite(stretch, op, operand(stretch.0)))
        });
        let cleared = cleared.into_iter();
        steps
            .chain(cleared.map(move |stretch| overwrite(stretch, EditOp::Fill(0.0), Operand::None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis::Numbers;

    fn basis(width: usize) -> Arc<Basis> {
        let identity = (0..width * width).map(|i| f64::from(i % (width + 1) == 0));
        let rotation = Numbers::new([width, width], identity.collect());
        Arc::new(Basis::rotation("eye", &rotation, None).unwrap())
    }

    fn write(row: usize) -> AnyWrite {
        AnyWrite::Overwrite(Write {
            row,
            head: 0,
            column: 0,
            length: 1,
            op: EditOp::Fill(0.0),
            operand: Operand::None,
        })
    }

    fn encoded(basis: &Arc<Basis>, row: usize, column: usize) -> AnyWrite {
        let write = BasisWrite {
            row,
            column,
            op: EditOp::Fill(0.0),
            with: BasisOperand::None,
            picks: None,
        };
        AnyWrite::Basis(basis.clone(), write)
    }

    fn kinds(writes: Vec<AnyWrite>) -> Vec<(&'static str, Vec<usize>)> {
        let mut phases = Phases::default();
        writes.into_iter().for_each(|write| phases.push(write));
        let phases = phases.finish();
        let kind = |phase: &Phase| match phase {
            Phase::Overwrite(writes) => ("overwrite", writes.iter().map(|w| w.row).collect()),
            Phase::Basis(_, writes) => ("basis", writes.iter().map(|w| w.row).collect()),
            Phase::Functions(calls) => ("functions", calls.iter().map(|c| c.row).collect()),
        };
        phases.iter().map(kind).collect()
    }

    #[test]
    fn rows_keep_their_order_and_share_phases() {
        let (a, b) = (basis(2), basis(2));
        assert_eq!(kinds(vec![write(0), write(1)]), [("overwrite", vec![0, 1])]);
        // 0: overwrite, a, overwrite; 1: a, overwrite, b; 2: overwrite
        let writes = vec![
            write(0),
            encoded(&a, 0, 0),
            write(0),
            encoded(&a, 1, 0),
            write(1),
            encoded(&b, 1, 0),
            write(2),
        ];
        assert_eq!(
            kinds(writes),
            [
                ("overwrite", vec![0, 2]),
                ("basis", vec![0, 1]),
                ("overwrite", vec![0, 1]),
                ("basis", vec![1])
            ]
        );
    }

    #[test]
    fn writes_in_a_basis_that_overlap_are_apart_and_neighbours_together() {
        let a = basis(2);
        let writes = vec![
            encoded(&a, 0, 0),
            encoded(&a, 0, 2),
            encoded(&a, 0, 1),
            encoded(&a, 1, 0),
            encoded(&a, 0, 3),
        ];
        assert_eq!(
            kinds(writes),
            [("basis", vec![0, 0, 1]), ("basis", vec![0, 0])]
        );
    }
}
