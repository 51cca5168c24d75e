//! Writes in a basis: encode, operators in place, decode.

use std::sync::Arc;

use crate::backend::{Backend, BasisOn, Probe, RowColumn, Store};
use crate::basis::Basis;
use crate::plan::writes::{BasisOperand, BasisSteps, BasisWrite, Encoded, basis_steps};
use crate::plan::writes::{Operand, Write};

/// Coordinates that stand in memory at once, in numbers: what a phase has more of is done in parts, or
/// a wide autoencoder over many rows would not fit.
const MOST_COORDINATES: usize = 1 << 24;

/// Bases that passes have brought to the device: each once.
#[derive(Debug)]
pub(super) struct DeviceBases<M> {
    // each holds its basis, so that an address names it
    all: Vec<(Arc<Basis>, Lens<M>)>,
}

impl<M> Default for DeviceBases<M> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<M> DeviceBases<M> {
    /// A basis on the device.
    pub fn get<B: Backend<Matrix = M>>(&mut self, backend: &B, basis: &Arc<Basis>) -> &mut Lens<M> {
        let known = self.all.iter().position(|(k, _)| Arc::ptr_eq(k, basis));
        let at = known.unwrap_or_else(|| {
            self.all.push((basis.clone(), Lens::new(backend, basis)));
            self.all.len() - 1
        });
        &mut self.all[at].1
    }
}

/// A basis on the device, with room for what is encoded.
#[derive(Debug)]
pub(super) struct Lens<M> {
    basis: BasisOn<M>,
    /// What operators act on, `[writes, k]`.
    coordinates: M,
    /// What they read; all that an overwrite sees beside constants.
    second: [M; 1],
}

/// A write and how it is done.
type Planned<'a> = (&'a BasisWrite, BasisSteps);

impl<M> Lens<M> {
    fn new<B: Backend<Matrix = M>>(backend: &B, basis: &Basis) -> Self {
        let room = || backend.matrix(0, basis.coordinates(), Store::Residual);
        Self {
            basis: BasisOn::new(backend, basis),
            coordinates: room(),
            second: [room()],
        }
    }

    /// Writes to stretches of a buffer's rows.
    pub fn act<B: Backend<Matrix = M>>(
        &mut self,
        backend: &B,
        basis: &Basis,
        writes: &[BasisWrite],
        (kept, constants): (&[M], &B::Constants),
        buffer: &mut M,
    ) {
        let steps = |w: &BasisWrite| basis_steps(basis, w.op, w.with, w.picks.is_none());
        let most = (MOST_COORDINATES / basis.coordinates()).max(1);
        for writes in writes.chunks(most) {
            let mut planned: Vec<Planned<'_>> = writes.iter().map(|w| (w, steps(w))).collect();
            // rows that are encoded come first, those with a second row before the others
            planned.sort_by_key(|(_, r)| (r.second.is_none(), r.first.is_none()));
            let probes = |which: fn(&BasisSteps) -> Option<Encoded>| {
                let probe = move |(write, steps): &Planned<'_>| Some(probe(write, which(steps)?));
                planned.iter().filter_map(probe).collect::<Vec<Probe>>()
            };
            let (first, second) = (probes(|r| r.first), probes(|r| r.second));
            backend.resize(&mut self.coordinates, planned.len());
            backend.resize(&mut self.second[0], second.len());
            let coordinates = &mut self.coordinates;
            backend.encode(&self.basis, &first, buffer, kept, constants, coordinates);
            let [other] = &mut self.second;
            backend.encode(&self.basis, &second, buffer, kept, constants, other);
            let each = planned.iter().enumerate();
            let writes: Vec<Write> = each
                .flat_map(|(row, (write, steps))| steps.writes(basis, write, row, row))
                .collect();
            if !writes.is_empty() {
                backend.overwrite(coordinates, &writes, &self.second, constants);
            }
            let places: Vec<RowColumn> = planned.iter().map(|(w, _)| (w.row, w.column)).collect();
            backend.decode(&self.basis, coordinates, &places, buffer);
        }
    }
}

fn probe(write: &BasisWrite, encoded: Encoded) -> Probe {
    let standing = Some((write.row, write.column));
    let read = match write.with {
        BasisOperand::Row(operand) => operand,
        BasisOperand::None | BasisOperand::Coordinates(_) => Operand::None,
    };
    match encoded {
        Encoded::Standing => Probe {
            standing,
            read: Operand::None,
        },
        Encoded::Read => Probe {
            standing: None,
            read,
        },
        Encoded::Difference => Probe { standing, read },
    }
}
