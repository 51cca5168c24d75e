//! Direct logit attribution: what each part of the model adds to the logit of a token.
//!
//! The last residual stream is a sum, x = Σ c, and the final layer norm divides what is left of it without its mean by
//! one number. With that scale held at the run's own, every part's share of the logit of token t is
//!
//! > ((c − mean(c)) / scale ⊙ w) · u_t, and the layer norm's bias adds b · u_t,
//!
//! with w and b of ln_f and u_t the token's row of the unembedding; they sum to the logit. It is TransformerLens's
//! `decompose_resid` (parts by component), `stack_head_results` (by head) and `apply_ln_to_stack`, of a model whose
//! weights are as they are: the unembedding is not centred, so that a single logit has whatever the checkpoint gives
//! all tokens alike; a difference of logits has not. (Elhage et al. 2021, "A Mathematical Framework for Transformer
//! Circuits", section "Residual stream as output"; Wang et al. 2023, section 3.1.)
//!
//! Activations are the backend's, in its precision; products and sums of them are taken in double precision.

use std::fmt;
use std::str::FromStr;

use super::LensPart;
use crate::execute::activations::CleanRows;
use crate::model::{Checkpoint, Config, Tensor};
use crate::site::{Component, Stage};

/// Which parts are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Embeddings, and each layer's attention and MLP together.
    Layer,
    /// Embeddings, and each layer's attention and MLP.
    Component,
    /// Embeddings, every head, the attentions' biases, and MLPs.
    Head,
}

/// How it is typed.
const NAMES: [(By, &str); 3] = [
    (By::Layer, "layer"),
    (By::Component, "component"),
    (By::Head, "head"),
];

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(by, _)| by == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        let wrong = || format!("`{text}` is nothing to tell apart: use layer, component or head");
        found.map(|(by, _)| *by).ok_or_else(wrong)
    }
}

/// The parts, in order of computation; they sum to the last residual stream, and the final layer norm's bias.
pub fn parts(by: By, config: &Config) -> Vec<LensPart> {
    let part = |name: String, component, layer, head| LensPart {
        name,
        component,
        layer,
        head,
    };
    let mut all = vec![
        part("embed".into(), Some(Component::TokenEmbedding), None, None),
        part(
            "pos_embed".into(),
            Some(Component::PositionEmbedding),
            None,
            None,
        ),
    ];
    for layer in 0..config.layers {
        let at = Some(layer);
        let attention = |name: String| part(name, Some(Component::AttentionOutput), at, None);
        let mlp = || part(format!("m{layer}"), Some(Component::MlpOutput), at, None);
        match by {
            By::Layer => {
                let component = Some(Component::BlockOutput);
                all.push(part(format!("layer {layer}"), component, at, None));
            }
            By::Component => all.extend([attention(format!("a{layer}")), mlp()]),
            By::Head => {
                let component = Some(Component::HeadAttentionOutput);
                let heads = 0..config.heads;
                all.extend(heads.map(|h| part(format!("a{layer}.h{h}"), component, at, Some(h))));
                all.push(part(format!("b_O.{layer}"), None, at, None));
                all.push(mlp());
            }
        }
    }
    all.push(part("ln_f.bias".into(), None, None, None));
    all
}

/// The clean rows that parts are made of.
pub fn places(by: By, config: &Config) -> Vec<(Stage, usize)> {
    let mut all = vec![
        (Stage::TokenEmbedding, 0),
        (Stage::PositionEmbedding, 0),
        (Stage::LnFScale, config.layers),
    ];
    for layer in 0..config.layers {
        let attention = match by {
            By::Head => Stage::Z,
            By::Layer | By::Component => Stage::AttentionOutput,
        };
        all.extend([(attention, layer), (Stage::MlpOutput, layer)]);
    }
    all
}

/// A token's direction in the residual stream, and what reads it of heads: the same for every prompt.
pub struct LogitDirection {
    by: By,
    /// w ⊙ u without its mean: the layer norm takes the mean from what it reads, which is to take it from this.
    written: Vec<f64>,
    /// b · u.
    bias: f64,
    /// W_O · written of each layer, z's width; empty where heads are not told apart.
    of_z: Vec<Vec<f64>>,
    /// b_O · written of each layer.
    of_bias: Vec<f64>,
}

impl LogitDirection {
    /// That of a token.
    pub fn of(token: u32, by: By, model: &Checkpoint) -> Self {
        let config = &model.config;
        let u: Vec<f64> = model.unembedding().row(token as usize).to_vec();
        let ln_f = model.ln_f();
        let (w, b): (Vec<f64>, Vec<f64>) = (ln_f.weight.to_vec(), ln_f.bias.to_vec());
        let mut written: Vec<f64> = w.iter().zip(&u).map(|(w, u)| w * u).collect();
        let mean = written.iter().sum::<f64>() / written.len() as f64;
        written.iter_mut().for_each(|x| *x -= mean);
        let layers = match by {
            By::Head => 0..config.layers,
            By::Layer | By::Component => 0..0,
        };
        let row = |weight: &Tensor<'_>, i: usize| dot(&weight.row(i).to_vec::<f64>(), &written);
        let of_z = layers.clone().map(|layer| {
            let weight = model.layer(layer).c_proj.weight;
            (0..config.width).map(|i| row(&weight, i)).collect()
        });
        let of_bias = layers.map(|l| dot(&model.layer(l).c_proj.bias.to_vec::<f64>(), &written));
        Self {
            by,
            bias: dot(&b, &u),
            of_z: of_z.collect(),
            of_bias: of_bias.collect(),
            written,
        }
    }

    /// What each of the [`parts`] adds to the token's logit at a position of a prompt.
    pub fn contributions(
        &self,
        rows: &CleanRows,
        prompt: usize,
        position: usize,
        config: &Config,
    ) -> Vec<f64> {
        let row = |stage, layer| rows.row(prompt, stage, layer, position);
        let scale = row(Stage::LnFScale, config.layers)[0];
        let of = |stage, layer| dot(row(stage, layer), &self.written) / scale;
        let mut all = vec![
            of(Stage::TokenEmbedding, 0),
            of(Stage::PositionEmbedding, 0),
        ];
        for layer in 0..config.layers {
            let mlp = of(Stage::MlpOutput, layer);
            match self.by {
                By::Layer => all.push(of(Stage::AttentionOutput, layer) + mlp),
                By::Component => all.extend([of(Stage::AttentionOutput, layer), mlp]),
                By::Head => {
                    let (z, d) = (row(Stage::Z, layer), config.head_width());
                    let heads = z.chunks_exact(d).zip(self.of_z[layer].chunks_exact(d));
                    all.extend(heads.map(|(z, of_z)| dot(z, of_z) / scale));
                    all.extend([self.of_bias[layer] / scale, mlp]);
                }
            }
        }
        all.push(self.bias);
        all
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
