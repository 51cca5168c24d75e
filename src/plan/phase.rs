//! Writes of one stage in phases: operators in place, moves in a basis, and functions.
//!
//! Writes to one row act in listed order, but a device takes many rows at a time and does one kind of
//! thing to them. So a stage's writes are cut into phases, each of one kind (and one basis), and a
//! row's writes go to phases that never go back. Rows do not wait for each other: which phase a row's
//! write is in depends on what else is in the chunk, its bits do not.

use std::collections::HashMap;
use std::sync::Arc;

use crate::basis::Basis;
use crate::function::Function;
use crate::plan::cell::CellOp;
use crate::plan::subspace;
use crate::plan::tables::{Operand, Write};

/// Writes that act together.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Operators in place, those of one row in listed order.
    Overwrite(Vec<Write>),
    /// Moves in one basis, of stretches that do not overlap.
    Basis(Arc<Basis>, Vec<Move>),
    /// Functions, those of one row in listed order.
    Functions(Vec<Call>),
}

/// One operator on coordinates of a stretch of a buffer's row, as wide as the basis.
#[derive(Debug, Clone)]
pub struct Move {
    /// Row of the buffer.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// What is done.
    pub op: CellOp,
    /// With what.
    pub with: With,
    /// Which coordinates, ascending; `None` is all.
    pub picks: Option<Arc<[usize]>>,
}

/// What an operator in a basis reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
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

/// What is encoded of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// b, what stands.
    Standing,
    /// s, what is read.
    Read,
    /// s − b.
    Difference,
}

/// Where in a step of a recipe an operand stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// The operator has none.
    None,
    /// The second row's coordinates.
    Encoded,
    /// The constant's.
    Coordinates,
}

/// How a move is done with rows that are encoded, operators in place and a row that is decoded.
///
/// By difference the coordinates become Δh, what they change by, which is linear in one encoded row
/// for every operator; whole they become h'.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// What the coordinates are first; `None` if a step sets them.
    pub first: Option<Encoded>,
    /// What is encoded besides.
    pub second: Option<Encoded>,
    /// Operators in place, on the coordinates that the move picks.
    pub steps: Vec<(CellOp, Second)>,
    /// Whether the coordinates that are not picked become 0.
    pub clears: bool,
}

/// The recipe of an operator in a basis; `all` says whether it acts on every coordinate.
pub fn recipe(basis: &Basis, op: CellOp, with: With, all: bool) -> Recipe {
    use CellOp as C;
    let constant = matches!(with, With::Coordinates(_));
    let negative = (C::Scale(-1.0), Second::None);
    if basis.is_by_difference() {
        let (first, steps) = match (op, constant) {
            (C::Set, false) => (Some(Encoded::Difference), vec![]),
            (C::Interpolate(alpha), _) => (
                Some(Encoded::Difference),
                vec![(C::Scale(alpha), Second::None)],
            ),
            (C::Zero, _) => (Some(Encoded::Standing), vec![negative]),
            (C::Scale(x), _) => (
                Some(Encoded::Standing),
                vec![(C::Scale(x - 1.0), Second::None)],
            ),
            (C::Add, false) => (Some(Encoded::Read), vec![]),
            (C::Subtract, false) => (Some(Encoded::Read), vec![negative]),
            (C::Set, true) => (
                Some(Encoded::Standing),
                vec![negative, (C::Add, Second::Coordinates)],
            ),
            (C::Add, true) => (None, vec![(C::Set, Second::Coordinates)]),
            (C::Subtract, true) => (None, vec![(C::Set, Second::Coordinates), negative]),
        };
        return Recipe {
            first,
            second: None,
            steps,
            clears: !all,
        };
    }
    let second = match with {
        With::Nothing => Second::None,
        With::Row(_) => Second::Encoded,
        With::Coordinates(_) => Second::Coordinates,
    };
    let (first, second, steps) = match (op, second) {
        // nothing is left of what stood
        (C::Set, Second::Encoded) if all => (Some(Encoded::Read), None, vec![]),
        (C::Set | C::Zero, _) if all => (None, None, vec![(op, second)]),
        (_, Second::Encoded) => (
            Some(Encoded::Standing),
            Some(Encoded::Read),
            vec![(op, second)],
        ),
        _ => (Some(Encoded::Standing), None, vec![(op, second)]),
    };
    Recipe {
        first,
        second,
        steps,
        clears: false,
    }
}

impl Recipe {
    /// Multiply-adds of a move: the rows that are encoded, and the one that is decoded.
    pub fn multiply_adds(&self, basis: &Basis) -> u64 {
        let encoded = u64::from(self.first.is_some()) + u64::from(self.second.is_some());
        (encoded + 1) * basis.multiply_adds()
    }

    /// The steps as overwrites of row `row` of the coordinates, where the second row's coordinates
    /// are row `second` of the one matrix that is read.
    pub fn writes(
        &self,
        basis: &Basis,
        moved: &Move,
        row: usize,
        second: usize,
    ) -> impl Iterator<Item = Write> {
        let k = basis.coordinates();
        let picked = match &moved.picks {
            Some(picks) => subspace::stretches(picks.iter().copied()),
            None => vec![(0, k)],
        };
        let cleared = if self.clears {
            subspace::rest(&picked, k)
        } else {
            Vec::new()
        };
        let with = moved.with;
        let write = move |(column, length): (usize, usize), op, operand| Write {
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
                (Second::Encoded, _) => Operand::Kept {
                    slot: 0,
                    row: second,
                    column,
                },
                (Second::Coordinates, With::Coordinates(offset)) => {
                    Operand::Constant(offset + column)
                }
                _ => Operand::None,
            };
            let picked = picked.clone().into_iter();
            picked.map(move |stretch| write(stretch, op, operand(stretch.0)))
        });
        let cleared = cleared.into_iter();
        steps.chain(cleared.map(move |stretch| write(stretch, CellOp::Zero, Operand::None)))
    }
}

/// A write of any kind.
#[derive(Debug, Clone)]
pub enum Step {
    /// An operator in place.
    Overwrite(Write),
    /// A move in a basis.
    Move(Arc<Basis>, Move),
    /// A function.
    Call(Call),
}

impl Step {
    fn row(&self) -> usize {
        match self {
            Self::Overwrite(write) => write.row,
            Self::Move(_, moved) => moved.row,
            Self::Call(call) => call.row,
        }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Overwrite(_) => Phase::Overwrite(Vec::new()),
            Self::Move(basis, _) => Phase::Basis(basis.clone(), Vec::new()),
            Self::Call(_) => Phase::Functions(Vec::new()),
        }
    }

    /// Puts itself into a phase of its kind, or gives itself back.
    fn join(self, phase: &mut Phase) -> Result<(), Self> {
        match (self, phase) {
            (Self::Overwrite(write), Phase::Overwrite(writes)) => writes.push(write),
            (Self::Move(basis, moved), Phase::Basis(of, moves)) if Arc::ptr_eq(&basis, of) => {
                moves.push(moved);
            }
            (Self::Call(call), Phase::Functions(calls)) => calls.push(call),
            (step, _) => return Err(step),
        }
        Ok(())
    }
}

/// Where a row's last write went.
#[derive(Debug, Default)]
struct Last {
    phase: usize,
    /// Columns that moves of that phase write.
    moved: Vec<(usize, usize)>,
}

/// Cuts writes into phases.
#[derive(Debug, Default)]
pub struct Phases {
    phases: Vec<Phase>,
    last: HashMap<usize, Last>,
}

impl Phases {
    /// Adds a write, which acts after those of its row that were added before.
    pub fn push(&mut self, step: Step) {
        // sweeps without bases and functions have one phase, and no row of it needs to be known
        if let ([Phase::Overwrite(writes)], Step::Overwrite(write)) = (&mut self.phases[..], &step)
        {
            writes.push(*write);
            return;
        }
        let last = self.last.entry(step.row()).or_default();
        let moved = match &step {
            Step::Move(basis, moved) => Some((moved.column, basis.width())),
            _ => None,
        };
        let overlaps = moved.is_some_and(|(column, width)| {
            let meets = |(c, w): &(usize, usize)| *c < column + width && column < c + w;
            last.moved.iter().any(meets)
        });
        let from = last.phase + usize::from(overlaps);
        let mut step = Some(step);
        let place = (from..self.phases.len()).find(|i| match step.take() {
            Some(it) => match it.join(&mut self.phases[*i]) {
                Ok(()) => true,
                Err(it) => {
                    step = Some(it);
                    false
                }
            },
            None => false,
        });
        let place = place.unwrap_or_else(|| {
            if let Some(it) = step {
                let mut phase = it.phase();
                // a phase of its own kind takes it
                let _ = it.join(&mut phase);
                self.phases.push(phase);
            }
            self.phases.len() - 1
        });
        if place != last.phase {
            last.phase = place;
            last.moved.clear();
        }
        last.moved.extend(moved);
    }

    /// The phases, in order; empty if nothing was added.
    pub fn finish(self) -> Vec<Phase> {
        self.phases
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

    fn write(row: usize) -> Step {
        Step::Overwrite(Write {
            row,
            head: 0,
            column: 0,
            length: 1,
            op: CellOp::Zero,
            operand: Operand::None,
        })
    }

    fn moved(basis: &Arc<Basis>, row: usize, column: usize) -> Step {
        let moved = Move {
            row,
            column,
            op: CellOp::Zero,
            with: With::Nothing,
            picks: None,
        };
        Step::Move(basis.clone(), moved)
    }

    fn kinds(steps: Vec<Step>) -> Vec<(&'static str, Vec<usize>)> {
        let mut phases = Phases::default();
        steps.into_iter().for_each(|step| phases.push(step));
        let phases = phases.finish();
        let kind = |phase: &Phase| match phase {
            Phase::Overwrite(writes) => ("overwrite", writes.iter().map(|w| w.row).collect()),
            Phase::Basis(_, moves) => ("basis", moves.iter().map(|m| m.row).collect()),
            Phase::Functions(calls) => ("functions", calls.iter().map(|c| c.row).collect()),
        };
        phases.iter().map(kind).collect()
    }

    #[test]
    fn rows_keep_their_order_and_share_phases() {
        let (a, b) = (basis(2), basis(2));
        assert_eq!(kinds(vec![write(0), write(1)]), [("overwrite", vec![0, 1])]);
        // 0: overwrite, a, overwrite; 1: a, overwrite, b; 2: overwrite
        let steps = vec![
            write(0),
            moved(&a, 0, 0),
            write(0),
            moved(&a, 1, 0),
            write(1),
            moved(&b, 1, 0),
            write(2),
        ];
        assert_eq!(
            kinds(steps),
            [
                ("overwrite", vec![0, 2]),
                ("basis", vec![0, 1]),
                ("overwrite", vec![0, 1]),
                ("basis", vec![1])
            ]
        );
    }

    #[test]
    fn moves_that_overlap_are_apart_and_neighbours_together() {
        let a = basis(2);
        let steps = vec![
            moved(&a, 0, 0),
            moved(&a, 0, 2),
            moved(&a, 0, 1),
            moved(&a, 1, 0),
            moved(&a, 0, 3),
        ];
        assert_eq!(
            kinds(steps),
            [("basis", vec![0, 0, 1]), ("basis", vec![0, 0])]
        );
    }
}
