//! Which edits write, bit for bit, what the base's cache holds: a patch of such edits is dead where
//! no other patch reaches it.
//!
//! Asked of the backend for a whole batch of runs at once: on a device every question is a wait.

use std::collections::HashMap;

use crate::backend::{Backend, DeviceError, Same, Store, Stretch};
use crate::execute::layout::PromptPlaces;
use crate::patch::{Origin, Prompt};
use crate::plan::cache::CacheLayout;
use crate::plan::edit::{Edit, EditOp, Means, Value};
use crate::plan::patched_cache::PatchedCache;
use crate::prompt::pair::Pair;
use crate::site::{Stage, kept};

/// A stretch of a row: of a kept activation, or of the constants of a store.
#[derive(Clone, Copy)]
enum At {
    Kept {
        slot: usize,
        row: usize,
        column: usize,
    },
    Constant {
        store: Store,
        column: usize,
    },
}

/// Values that edits write and no cache holds, by the type in which they are compared; each once,
/// however many edits write it.
#[derive(Default)]
struct Constants {
    residual: Vec<f64>,
    branch: Vec<f64>,
    /// Where they went: whether they are the residual's, and which they are.
    known: HashMap<(bool, ConstantKey), usize>,
}

/// What tells values of edits apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ConstantKey {
    /// Address and length of memory that outlives the questions.
    Values(usize, usize),
    /// The bits of a number, and how often it stands.
    Fill(u64, usize),
}

impl Constants {
    /// The place of some values, which stay where they are as long as this lives.
    fn push(&mut self, stage: Stage, values: &[f64]) -> At {
        let key = ConstantKey::Values(values.as_ptr().addr(), values.len());
        self.place(stage, key, values.iter().copied())
    }

    /// The place of a number that stands so often.
    fn fill(&mut self, stage: Stage, number: f64, length: usize) -> At {
        let key = ConstantKey::Fill(number.to_bits(), length);
        self.place(stage, key, std::iter::repeat_n(number, length))
    }

    fn place(&mut self, stage: Stage, key: ConstantKey, values: impl Iterator<Item = f64>) -> At {
        let residual = matches!(Store::of(stage), Store::Residual | Store::Keys);
        let (store, all) = if residual {
            (Store::Residual, &mut self.residual)
        } else {
            (Store::Branch, &mut self.branch)
        };
        let column = *self.known.entry((residual, key)).or_insert_with(|| {
            let column = all.len();
            all.extend(values);
            column
        });
        At::Constant { store, column }
    }
}

/// A run of which it is asked.
pub(super) struct Asked<'a> {
    /// Index of its pair in the group.
    pub pair: usize,
    /// Where its pair's prompts stand.
    pub place: &'a PromptPlaces,
    /// Index of what it differs from among the layout's prompts.
    pub stands: usize,
    /// Its edits.
    pub edits: &'a [Edit],
}

/// Where things are kept of clean runs and of other runs.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub layout: &'a CacheLayout,
    pub patched: &'a PatchedCache,
    pub means: &'a Means,
}

/// What is asked of a backend about many runs at once: for each edit of each run, whether it writes what
/// stands there.
pub(super) struct Questions {
    /// What would be written, what stands there, how many columns; `None` is no by itself.
    edits: Vec<Option<(At, At, usize)>>,
    constants: Constants,
}

impl Questions {
    /// Looks up where the two sides of every question stand.
    pub fn new(kept: Kept<'_>, runs: &[Asked<'_>]) -> Self {
        let mut constants = Constants::default();
        let edits = runs
            .iter()
            .flat_map(|run| run.edits.iter().map(move |edit| (run, edit)))
            .map(|(run, edit)| {
                let there = there(edit, run, kept.layout)?;
                let written = written(edit, run, kept, &mut constants);
                Some((written, there, edit.length))
            })
            .collect();
        Self { edits, constants }
    }

    /// One answer for each edit of each run, in order.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] of the comparison, or of what was queued before it.
    pub fn ask<B: Backend>(
        &self,
        backend: &B,
        matrices: &[B::Matrix],
    ) -> Result<Vec<bool>, DeviceError> {
        if self.edits.iter().all(Option::is_none) {
            return Ok(vec![false; self.edits.len()]);
        }
        let upload = |store, values: &[f64]| {
            backend.upload(usize::from(!values.is_empty()), values.len(), store, values)
        };
        let residual = upload(Store::Residual, &self.constants.residual);
        let branch = upload(Store::Branch, &self.constants.branch);
        let stretch = |at: At| match at {
            At::Kept { slot, row, column } => {
                let matrix = matrices.get(slot)?;
                Some(Stretch {
                    matrix,
                    row,
                    column,
                })
            }
            At::Constant { store, column } => Some(Stretch {
                matrix: if store == Store::Residual {
                    &residual
                } else {
                    &branch
                },
                row: 0,
                column,
            }),
        };
        let asked = self.edits.iter().map(|question| {
            let (written, there, length) = (*question)?;
            Some(Same {
                a: stretch(written)?,
                b: stretch(there)?,
                length,
            })
        });
        let asked: Vec<Option<Same<'_, _>>> = asked.collect();
        let known: Vec<bool> = asked.iter().map(Option::is_some).collect();
        let asked: Vec<Same<'_, _>> = asked.into_iter().flatten().collect();
        let mut answers = backend.same(&asked)?.into_iter();
        let answer = |known| known && answers.next().unwrap_or(false);
        Ok(known.into_iter().map(answer).collect())
    }
}

/// Where the clean run's own value of an edit stands, if it is kept and equality with it undoes the
/// edit.
fn there(edit: &Edit, run: &Asked<'_>, layout: &CacheLayout) -> Option<At> {
    if !edit.is_undone_by_equality() {
        return None;
    }
    let slot = *layout.slots.get(&kept(edit.stage, edit.layer))?;
    let clean = layout.prompts.get(run.stands)?;
    let keys = matches!(edit.stage, Stage::Scores | Stage::Pattern);
    let head = if keys {
        edit.head * layout.key_stride()
    } else {
        0
    };
    (edit.position < clean.ids.len()).then_some(At::Kept {
        slot,
        row: clean.offset + edit.position,
        column: head + edit.column,
    })
}

/// What such an edit writes, or moves towards.
fn written(edit: &Edit, run: &Asked<'_>, kept: Kept<'_>, constants: &mut Constants) -> At {
    let layout = kept.layout;
    if let Some(values) = edit.numbers(kept.means) {
        return constants.push(edit.stage, values);
    }
    match &edit.value {
        Value::Read(read) => {
            let (slot, row, column) = kept.patched.read(layout, read, &run.place.rows, run.pair);
            At::Kept { slot, row, column }
        }
        _ => {
            let EditOp::Fill(number) = edit.op else {
                debug_assert!(false, "{:?} reads nothing", edit.op);
                return At::Constant {
                    store: Store::of(edit.stage),
                    column: 0,
                };
            };
            constants.fill(edit.stage, number, edit.length)
        }
    }
}

/// Tokens that two prompts share from the start.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whether an edit writes the clean run's own value, as far as tokens tell.
pub(super) fn same_by_tokens(edit: &Edit, pair: &Pair, prompt: Prompt) -> bool {
    let Value::Read(read) = &edit.value else {
        return false;
    };
    let Origin::Clean(origin) = read.origin else {
        return false;
    };
    let keys = matches!(edit.stage, Stage::Scores | Stage::Pattern);
    let same_place = (read.stage, read.layer) == kept(edit.stage, edit.layer)
        && read.position == edit.position
        && (read.head, read.column) == (if keys { edit.head } else { 0 }, edit.column);
    let ids = |prompt| pair.ids(prompt).unwrap_or(&[]);
    let same_tokens = || read.position < common_prefix(ids(prompt), ids(origin));
    edit.op == EditOp::Set && edit.is_undone_by_equality() && same_place && same_tokens()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is filled in stands in no memory of its own, so that the next number may have the last one's address.
    #[test]
    fn each_number_has_a_place_of_its_own() {
        let mut constants = Constants::default();
        let mut place = |number: f64, length: usize| {
            let At::Constant { column, .. } = constants.fill(Stage::MlpInput, number, length)
            else {
                panic!("a constant is kept nowhere else");
            };
            column
        };
        let [first, second, again] = [0.75, -1.5, 0.75].map(|number| place(number, 2));
        assert_eq!((first, second, again), (0, 2, 0));
        assert_eq!(place(0.75, 3), 4);
        let all = [constants.residual, constants.branch].concat();
        assert_eq!(all, [0.75, 0.75, -1.5, -1.5, 0.75, 0.75, 0.75]);
    }
}
