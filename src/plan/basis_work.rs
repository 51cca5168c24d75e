//! What a run's moves in bases cost: multiply-adds, and room for coordinates.

use crate::plan::cone::Cone;
use crate::plan::edit::{Edit, Space, Value};
use crate::plan::phase::With;
use crate::plan::recipe::recipe;
use crate::plan::tables::Operand;
use crate::site::Stage;

/// What moves in bases take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasisWork {
    /// Multiply-adds of encoding and decoding.
    pub multiply_adds: u64,
    /// Numbers that stand in memory at once: coordinates, and rows on their way to and from them.
    pub values: usize,
}

impl Cone {
    /// The same cone with the work of those of its edits that are applied.
    pub(super) fn with_bases(mut self, edits: &[Edit]) -> Self {
        let mut at = None;
        let mut values = 0;
        for (edit, live) in edits.iter().zip(&self.live) {
            let Space::Basis(basis, picks) = &edit.space else {
                continue;
            };
            if !live || !self.has_row(edit.stage, edit.layer, edit.position) {
                continue;
            }
            let with = match edit.value {
                Value::None => With::Nothing,
                Value::Constant(..) => With::Coordinates(0),
                Value::Read(_) | Value::Mean { .. } => With::Row(Operand::None),
            };
            let recipe = recipe(basis, edit.op, with, picks.is_none());
            self.bases.multiply_adds += recipe.multiply_adds(basis);
            if at != Some((edit.layer, edit.stage)) {
                at = Some((edit.layer, edit.stage));
                values = 0;
            }
            values += 2 * (basis.coordinates() + basis.width());
            self.bases.values = self.bases.values.max(values);
        }
        self
    }

    /// Whether a stage's buffer has a row of this run for a position: where an edit can be applied.
    pub fn has_row(&self, stage: Stage, layer: usize, position: usize) -> bool {
        let of = |layer: usize| {
            let index = layer.checked_sub(self.start);
            index.and_then(|i| self.layers.get(i))
        };
        let rows = match stage {
            Stage::TokenEmbedding | Stage::PositionEmbedding => &self.input.computed,
            Stage::BlockInput if layer == self.start => &self.input.all,
            Stage::LnFScale | Stage::LnFNormalized | Stage::FinalOutput => &self.readouts,
            Stage::BlockInput => match layer.checked_sub(1).and_then(of) {
                Some(before) => &before.out.all,
                None => return false,
            },
            _ => {
                let Some(layer) = of(layer) else { return false };
                match stage {
                    Stage::Ln1Scale | Stage::Ln1Normalized | Stage::AttentionInput => &layer.ln_1,
                    Stage::QueryInput | Stage::Query => &layer.query.all,
                    Stage::KeyInput | Stage::Key => &layer.key.all,
                    Stage::ValueInput | Stage::Value => &layer.value.all,
                    Stage::Scores | Stage::Pattern => &layer.z.computed,
                    Stage::Z => &layer.z.all,
                    Stage::AttentionOutput => &layer.attention_output.all,
                    Stage::BlockMid => &layer.mid.all,
                    Stage::MlpPre => &layer.mlp_pre.all,
                    Stage::MlpActivation => &layer.mlp_activation.all,
                    Stage::MlpOutput => &layer.mlp_output.all,
                    Stage::BlockOutput => &layer.out.all,
                    // what has no buffer of its own is there for computed rows alone
                    _ => &layer.mlp_pre.computed,
                }
            }
        };
        rows.contains(position)
    }
}
