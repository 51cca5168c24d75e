//! What a cone costs: floating-point operations and bytes.
//!
//! Counted are the multiply-adds of linear layers, bases, attention and unembedding, two operations each,
//! as in DESIGN's figures; layer norms, activations and softmaxes are a few per cent and are not.

use crate::model::Config;
use crate::plan::cone::{Cone, LayerCone};

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

/// Operations of one run or one clean run.
pub fn flops(cone: &Cone, config: &Config) -> Flops {
    let (d, i, v) = (
        config.width as u64,
        config.inner as u64,
        config.vocab as u64,
    );
    let mut flops = Flops {
        linear: 2 * d * v * cone.readouts.len() as u64 + 2 * cone.bases.multiply_adds,
        attention: 0,
    };
    for layer in &cone.layers {
        let projected =
            layer.query.computed.len() + layer.key.computed.len() + layer.value.computed.len();
        let square = projected + layer.attention_output.computed.len();
        let inner = layer.mlp_pre.computed.len() + layer.mlp_output.computed.len();
        flops.linear += 2 * d * d * square as u64 + 2 * d * i * inner as u64;
        flops.linear += 2 * d * config.head_width() as u64 * layer.head_inputs as u64;
        let keys: u64 = layer.z.computed.iter().map(|p| p as u64 + 1).sum();
        flops.attention += 4 * d * keys;
    }
    flops
}

/// Values of every buffer row that a layer needs, in numbers; times the stored type's size it is
/// the memory of a chunk.
pub fn layer_values(layer: &LayerCone, config: &Config) -> usize {
    let wide = layer.ln_1.len()
        + layer.query.all.len()
        + layer.key.all.len()
        + layer.value.all.len()
        + layer.z.all.len()
        + layer.attention_output.all.len()
        + layer.mid.all.len() * 2
        + layer.mlp_output.all.len()
        + layer.out.all.len() * 2;
    let inner = layer.mlp_pre.all.len() + layer.mlp_activation.all.len();
    // the tables: about two dozen 4-byte indices a row, and two for each key that a run sees
    let tables = 24 * layer.z.all.len() + 2 * layer.z.computed.last().map_or(0, |p| p + 1);
    wide * config.width + inner * config.inner + tables
}
