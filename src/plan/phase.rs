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
use crate::plan::edit::EditOp;
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
    pub op: EditOp,
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
            op: EditOp::Zero,
            operand: Operand::None,
        })
    }

    fn moved(basis: &Arc<Basis>, row: usize, column: usize) -> Step {
        let moved = Move {
            row,
            column,
            op: EditOp::Zero,
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
