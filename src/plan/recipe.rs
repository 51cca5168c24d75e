//! How a move in a basis is done: rows that are encoded, operators in place, a row that is decoded.

use crate::basis::Basis;
use crate::plan::edit::EditOp;
use crate::plan::phase::{Move, With};
use crate::plan::tables::{Operand, Write};
use crate::site::{rest, stretches};

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
    pub steps: Vec<(EditOp, Second)>,
    /// Whether the coordinates that are not picked become 0.
    pub clears: bool,
}

/// The recipe of an operator in a basis; `all` says whether it acts on every coordinate.
pub fn recipe(basis: &Basis, op: EditOp, with: With, all: bool) -> Recipe {
    use EditOp as C;
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
            Some(picks) => stretches(picks.iter().copied()),
            None => vec![(0, k)],
        };
        let cleared = if self.clears {
            rest(&picked, k)
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
        steps.chain(cleared.map(move |stretch| write(stretch, EditOp::Zero, Operand::None)))
    }
}
