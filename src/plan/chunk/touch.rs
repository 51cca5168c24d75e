//! What is overwritten and kept of a stage's rows.

use std::collections::HashMap;

use super::row_map::{RowMap, Runs};
use super::{Builder, Packed};
use crate::plan::edit::{Edit, Space, Value};
use crate::plan::phase::{Call, Move, Phases, Step, With};
use crate::plan::tables::{HeadInput, Keep, LayerTables, Operand, Write};
use crate::site::Stage;

impl Builder<'_> {
    /// Overwrites and keeps of one stage, whose rows stand at `map`: the first `rows` of them.
    /// What stands in no buffer is there for computed rows alone; behind them are the gathered
    /// rows of the stage that gives the map, which are overwritten whole and need none of it.
    pub(super) fn touch(
        &mut self,
        tables: &mut LayerTables,
        runs: Runs<'_>,
        stage: Stage,
        layer: usize,
        (map, rows): (&RowMap, usize),
    ) {
        let mut writes = Phases::default();
        for (i, run) in runs.all.iter().enumerate() {
            for edit in at(run, layer, stage) {
                if let Some(row) = map.get(i, edit.position).filter(|row| *row < rows) {
                    writes.push(self.step(edit, run, row));
                }
            }
        }
        let writes = writes.finish();
        if !writes.is_empty() {
            tables.writes.insert(stage, writes);
        }
        let slot = match self.clean {
            true => self.layout.slots.get(&(stage, layer)).copied(),
            false => self.patched.slot(stage, layer),
        };
        let Some(slot) = slot else {
            return;
        };
        let mut keep = Keep {
            slot,
            ..Keep::default()
        };
        for (i, run) in runs.all.iter().enumerate() {
            let mut put = |position: usize, to: usize| {
                if let Some(row) = map.get(i, position).filter(|row| *row < rows) {
                    keep.from.push(row as u32);
                    keep.to.push(to as u32);
                }
            };
            match run.kept_as {
                None if self.clean => {
                    (0..run.ids.len()).for_each(|p| put(p, run.offset + p));
                }
                None => {}
                Some(id) => {
                    let rows = self.patched.rows(id, stage, layer);
                    rows.for_each(|(position, row)| put(position, row));
                }
            }
        }
        if keep.from.is_empty() {
            return;
        }
        if matches!(stage, Stage::Scores | Stage::Pattern) {
            // one entry for each computed row of z, wherever it goes
            let mut to = vec![Keep::NOWHERE; rows];
            let known = keep.from.iter().zip(&keep.to);
            known.for_each(|(from, at)| to[*from as usize] = *at);
            (keep.from, keep.to) = ((0..rows as u32).collect(), to);
        }
        tables.keeps.insert(stage, keep);
    }

    /// Copies of the residual that one head alone reads, and writes to them.
    pub(super) fn head_inputs(
        &mut self,
        tables: &mut LayerTables,
        runs: Runs<'_>,
        stage: Stage,
        layer: usize,
        stream: &RowMap,
        projected: &RowMap,
    ) {
        let mut of: HashMap<(usize, usize, usize), (usize, usize)> = HashMap::new();
        let mut phases: HashMap<usize, Phases> = HashMap::new();
        for (i, run) in runs.all.iter().enumerate() {
            for edit in at(run, layer, stage) {
                let Some(output) = projected.get(i, edit.position) else {
                    continue;
                };
                let group = tables
                    .head_inputs
                    .iter()
                    .position(|(s, h, _)| (*s, *h) == (stage, edit.head));
                let group = group.unwrap_or_else(|| {
                    tables
                        .head_inputs
                        .push((stage, edit.head, HeadInput::default()));
                    tables.head_inputs.len() - 1
                });
                let known = of.get(&(i, edit.position, edit.head)).copied();
                let (_, row) = known.unwrap_or_else(|| {
                    let input = &mut tables.head_inputs[group].2;
                    input.input.push(runs.reference(stream, i, edit.position));
                    input.output.push(output as u32);
                    let place = (group, input.input.len() - 1);
                    of.insert((i, edit.position, edit.head), place);
                    place
                });
                let step = self.step(edit, run, row);
                phases.entry(group).or_default().push(step);
            }
        }
        for (group, phases) in phases {
            tables.head_inputs[group].2.writes = phases.finish();
        }
    }

    /// What an edit does to the row of a buffer.
    fn step(&mut self, edit: &Edit, run: &Packed<'_>, row: usize) -> Step {
        let constants = match &edit.space {
            Space::Basis(basis, _) => basis.coordinates(),
            _ => edit.length,
        };
        let operand = self.operand(edit, run, constants);
        let (column, length) = (edit.column, edit.length);
        match &edit.space {
            Space::Row => Step::Overwrite(Write {
                row,
                head: edit.head,
                column,
                length,
                op: edit.op,
                operand,
            }),
            Space::Basis(basis, picks) => {
                let with = match (&edit.value, operand) {
                    (Value::None, _) => With::Nothing,
                    (Value::Constant(..), Operand::Constant(offset)) => With::Coordinates(offset),
                    (_, operand) => With::Row(operand),
                };
                let moved = Move {
                    row,
                    column,
                    op: edit.op,
                    with,
                    picks: picks.clone(),
                };
                Step::Move(basis.clone(), moved)
            }
            Space::Function(function, picks) => Step::Call(Call {
                row,
                column,
                length,
                picks: picks.clone(),
                function: function.clone(),
                operand,
            }),
        }
    }

    /// Where what an edit reads stands; a constant has so many numbers.
    fn operand(&mut self, edit: &Edit, run: &Packed<'_>, constants: usize) -> Operand {
        match &edit.value {
            Value::None => Operand::None,
            Value::Read(read) => {
                let (slot, row, column) =
                    self.patched.read(self.layout, read, run.prompts, run.pair);
                Operand::Kept { slot, row, column }
            }
            Value::Constant(values, offset) => {
                Operand::Constant(self.constant(&values[*offset..][..constants]))
            }
            Value::Mean {
                over,
                stage,
                layer,
                column,
            } => {
                let means = self.means;
                let mean = &means[&(over.label.clone(), *stage, *layer)];
                Operand::Constant(self.constant(&mean[*column..][..edit.length]))
            }
        }
    }

    fn constant(&mut self, values: &[f64]) -> usize {
        // the slices live as long as the edits, so an address names a constant within a chunk
        let key = (values.as_ptr(), values.len());
        *self.constant_offsets.entry(key).or_insert_with(|| {
            let offset = self.chunk.constants.len();
            self.chunk.constants.extend_from_slice(values);
            offset
        })
    }
}

/// A run's live edits at a stage.
fn at<'a>(run: &'a Packed<'_>, layer: usize, stage: Stage) -> impl Iterator<Item = &'a Edit> {
    let first = run
        .edits
        .partition_point(|c| (c.layer, c.stage) < (layer, stage));
    run.edits[first..]
        .iter()
        .zip(&run.cone.live[first..])
        .take_while(move |(c, _)| (c.layer, c.stage) == (layer, stage))
        .filter(|(_, live)| **live)
        .map(|(c, _)| c)
}
