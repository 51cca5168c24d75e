//! The weights of one GPT-2: found by name, checked once, handed out as typed views.
//!
//! [`Weights`] resolves every tensor that a configuration asks for when it is built, so that access
//! afterwards is an index and cannot fail. Views borrow the memory map: an F32 checkpoint is never
//! copied, one of F64 is rounded. Everything else in a file (the causal masks that old checkpoints store as `attn.bias`,
//! heads for other tasks) is left alone.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::config::Config;
use super::error::{ModelError, quote};
use super::shards::{Located, Shards, TensorPlace};
use super::tensor::{Data, Tensor};

/// A layer norm's two vectors, `[1, width]` each.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// What the normalized row is multiplied by.
    pub weight: Tensor<'a>,
    /// What is added after that.
    pub bias: Tensor<'a>,
}

/// A linear layer in Hugging Face's `Conv1D` layout: output = input · weight + bias.
#[derive(Clone, Copy, Debug)]
pub struct Conv1D<'a> {
    /// `[in, out]`.
    pub weight: Tensor<'a>,
    /// `[1, out]`.
    pub bias: Tensor<'a>,
}

/// The weights of one transformer block.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Before attention.
    pub ln_1: LayerNorm<'a>,
    /// `[width, 3 * width]`: queries, keys and values side by side, each head's columns together.
    pub c_attn: Conv1D<'a>,
    /// `[width, width]`: attention's output.
    pub c_proj: Conv1D<'a>,
    /// Before the MLP.
    pub ln_2: LayerNorm<'a>,
    /// `[width, inner]`.
    pub c_fc: Conv1D<'a>,
    /// `[inner, width]`: the MLP's `c_proj`.
    pub mlp_proj: Conv1D<'a>,
}

/// Tensors of one layer, in the order in which [`Weights`] stores them.
const LAYER: [&str; 12] = [
    "ln_1.weight",
    "ln_1.bias",
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
];
/// Tensors of no layer, stored before those.
const WHOLE: [&str; 4] = ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"];
const WTE: usize = 0;
const WPE: usize = 1;
const LN_F: usize = 2;
const FIRST_LAYER: usize = WHOLE.len();
/// The unembedding, where it is untied.
const HEAD: &str = "lm_head.weight";

/// Every tensor that a configuration asks for, resolved and checked.
#[derive(Debug)]
pub(super) struct Weights {
    shards: Shards,
    /// wte, wpe, ln_f's two, twelve a layer, and lm_head where it is untied.
    tensors: Vec<Located>,
    tied: bool,
}

impl Weights {
    /// Finds and checks what `config` asks for: names, shapes, types, and every value finite.
    pub(super) fn new(shards: Shards, config: &Config) -> Result<Self, ModelError> {
        let Config {
            layers,
            width: d,
            inner,
            vocab,
            context,
            tied,
            ..
        } = *config;
        let mut names = Names::new(&shards)?;
        no_layer_beyond(layers, &shards)?;

        // A tied embedding is stored once, and which of its two names is kept is up to the writer.
        if tied && !names.has(WHOLE[WTE]) && names.has(HEAD) {
            names.rename(HEAD, WHOLE[WTE]);
        }
        let shapes = [vec![vocab, d], vec![context, d], vec![d], vec![d]];
        let whole = WHOLE.iter().map(|name| (*name).to_owned());
        let mut wanted: Vec<_> = whole.zip(shapes).collect();
        for l in 0..layers {
            let shapes: [&[usize]; 12] = [
                &[d],
                &[d],
                &[d, 3 * d],
                &[3 * d],
                &[d, d],
                &[d],
                &[d],
                &[d],
                &[d, inner],
                &[inner],
                &[inner, d],
                &[d],
            ];
            let named = LAYER.iter().zip(shapes);
            wanted.extend(named.map(|(name, shape)| (format!("h.{l}.{name}"), shape.to_vec())));
        }
        if !tied {
            wanted.push((HEAD.to_owned(), vec![vocab, d]));
        }

        let mut tensors = Vec::with_capacity(wanted.len());
        for (name, shape) in &wanted {
            let stored = names.get(name, &shards)?;
            tensors.push(shards.locate(stored, shape)?);
        }
        let weights = Weights {
            shards,
            tensors,
            tied,
        };
        weights.all_finite()?;
        Ok(weights)
    }

    pub(super) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Whether some are stored in more digits than are used.
    pub(super) fn are_rounded(&self) -> bool {
        self.tensors.iter().any(Located::is_rounded)
    }

    /// Every tensor once.
    pub(super) fn iter(&self) -> impl Iterator<Item = Tensor<'_>> {
        (0..self.tensors.len()).map(|i| self.tensor(i))
    }

    pub(super) fn token_embedding(&self) -> Tensor<'_> {
        self.tensor(WTE)
    }

    pub(super) fn position_embedding(&self) -> Tensor<'_> {
        self.tensor(WPE)
    }

    pub(super) fn unembedding(&self) -> Tensor<'_> {
        self.tensor(if self.tied {
            WTE
        } else {
            self.tensors.len() - 1
        })
    }

    pub(super) fn ln_f(&self) -> LayerNorm<'_> {
        self.layer_norm(LN_F)
    }

    pub(super) fn layer(&self, layer: usize) -> Layer<'_> {
        let first = FIRST_LAYER + LAYER.len() * layer;
        Layer {
            ln_1: self.layer_norm(first),
            c_attn: self.linear(first + 2),
            c_proj: self.linear(first + 4),
            ln_2: self.layer_norm(first + 6),
            c_fc: self.linear(first + 8),
            mlp_proj: self.linear(first + 10),
        }
    }

    fn layer_norm(&self, at: usize) -> LayerNorm<'_> {
        LayerNorm {
            weight: self.tensor(at),
            bias: self.tensor(at + 1),
        }
    }

    fn linear(&self, at: usize) -> Conv1D<'_> {
        Conv1D {
            weight: self.tensor(at),
            bias: self.tensor(at + 1),
        }
    }

    fn tensor(&self, at: usize) -> Tensor<'_> {
        self.shards.view(&self.tensors[at])
    }

    /// Looks for the first NaN or infinity, all tensors in parallel.
    fn all_finite(&self) -> Result<(), ModelError> {
        let error = (0..self.tensors.len()).into_par_iter().find_map_first(|i| {
            let tensor = self.tensor(i);
            let bad = match tensor.data {
                Data::F32(data) => first_bad(bytemuck::cast_slice(data), 0x7f80_0000),
                Data::F16(data) => first_bad(bytemuck::cast_slice(data), 0x7c00u16),
                Data::BF16(data) => first_bad(bytemuck::cast_slice(data), 0x7f80u16),
            };
            let at = bad?;
            let (row, column) = (at / tensor.columns(), at % tensor.columns());
            let value = self.shards.stored(&self.tensors[i], at);
            let (file, tensor) = self.shards.describe(self.tensors[i].place);
            Some(ModelError::NotFinite {
                file,
                tensor,
                row,
                column,
                value,
            })
        });
        error.map_or(Ok(()), Err)
    }
}

/// The index of the first element whose exponent bits are all ones: an infinity or a NaN.
///
/// The check of a whole chunk is one OR of compare masks, which the compiler turns into vector
/// instructions; only a chunk that fails is looked at again. A scan that can stop at every element
/// runs several times slower, and this one is most of the time that opening a checkpoint takes.
fn first_bad<T>(bits: &[T], exponent: T) -> Option<usize>
where
    T: Copy + Eq + Sync + std::ops::BitAnd<Output = T>,
{
    const CHUNK: usize = 1 << 15;
    let bad = |&x: &T| x & exponent == exponent;
    bits.par_chunks(CHUNK)
        .enumerate()
        .find_map_first(|(i, chunk)| {
            let any = chunk.iter().fold(false, |any, x| any | bad(x));
            if any {
                chunk.iter().position(bad).map(|at| i * CHUNK + at)
            } else {
                None
            }
        })
}

/// What programs put before the names of a model that they hold: the model with a head, a trainer's
/// attribute, data parallelism, a compiled module. They stand one in another in any order.
const PREFIXES: [&str; 4] = ["transformer.", "model.", "module.", "_orig_mod."];

/// The tensors of a checkpoint by their names without the prefix that all of them have.
struct Names(HashMap<String, TensorPlace>);

impl Names {
    /// Finds the prefix and takes it off.
    ///
    /// # Errors
    ///
    /// [`ModelError::Prefixes`] where there are several, and so perhaps several models.
    fn new(shards: &Shards) -> Result<Self, ModelError> {
        let mut prefixes: BTreeMap<&str, (&str, TensorPlace)> = BTreeMap::new();
        let mut heads: BTreeMap<&str, (&str, TensorPlace)> = BTreeMap::new();
        for (name, at) in shards.names() {
            let (prefix, bare) = split(name);
            if WHOLE.contains(&bare) || layer_of(bare).is_some() {
                prefixes.entry(prefix).or_insert((name, at));
            } else if bare == HEAD {
                heads.insert(prefix, (name, at));
            }
        }
        let several =
            |first: (&str, TensorPlace), second: (&str, TensorPlace)| ModelError::Prefixes {
                file: shards.file(second.1),
                first: quote(first.0),
                second: quote(second.0),
            };
        let found: Vec<_> = prefixes.iter().collect();
        let prefix = match *found.as_slice() {
            [] => "",
            [(only, _)] => only,
            // Where a file has both, the model with the head is the one that is meant.
            [(bare, _), (with, _)] if with.strip_suffix(PREFIXES[0]) == Some(bare) => with,
            [(_, first), (_, second), ..] => return Err(several(*first, *second)),
        };
        let mut names: HashMap<String, TensorPlace> = shards
            .names()
            .map(|(name, at)| (split(name), at))
            .filter(|((before, _), _)| *before == prefix)
            .map(|((_, bare), at)| (bare.to_owned(), at))
            .collect();
        // The head stands beside the model `transformer`, not in it.
        let beside = prefix.strip_suffix(PREFIXES[0]).unwrap_or(prefix);
        let head = match heads.get(beside).or_else(|| heads.get(prefix)) {
            Some((_, at)) => Some(*at),
            None => match *heads.values().collect::<Vec<_>>().as_slice() {
                [] => None,
                [(_, at)] => Some(*at),
                [first, second, ..] => return Err(several(*first, *second)),
            },
        };
        if let Some(at) = head {
            names.insert(HEAD.to_owned(), at);
        }
        Ok(Names(names))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(at) = self.0.remove(from) {
            self.0.insert(to.to_owned(), at);
        }
    }

    fn get(&self, name: &str, shards: &Shards) -> Result<TensorPlace, ModelError> {
        self.0.get(name).copied().ok_or_else(|| {
            let elsewhere = shards
                .names()
                .map(|(there, _)| there)
                .find(|there| there.strip_suffix(name).is_some_and(|p| p.ends_with('.')));
            // A name that is right for another place is no misspelling of this one.
            let near = || {
                self.0
                    .keys()
                    .filter(|there| layer_of(there).is_none())
                    .map(|there| (strsim::damerau_levenshtein(&clip(there), name), there))
                    .min()
                    .filter(|(distance, _)| *distance <= name.len() / 3)
            };
            let hint = match elsewhere {
                Some(there) => format!(
                    "; one is called `{}`: take off what is before the name",
                    quote(there)
                ),
                None => near().map_or_else(String::new, |(_, there)| {
                    format!("; the nearest name there is `{}`", quote(there))
                }),
            };
            ModelError::MissingTensor {
                file: shards.title(),
                tensor: name.to_owned(),
                hint,
            }
        })
    }
}

/// A file that holds more layers than the configuration says is not the configuration's file:
/// opening it would leave out layers in silence.
fn no_layer_beyond(layers: usize, shards: &Shards) -> Result<(), ModelError> {
    let beyond = shards.names().filter_map(|(name, at)| {
        let bare = split(name).1;
        layer_of(bare)
            .filter(|&layer| layer >= layers)
            .map(|layer| (layer, bare, at))
    });
    match beyond.min() {
        None => Ok(()),
        Some((found, name, at)) => Err(ModelError::ExtraLayer {
            file: shards.file(at),
            tensor: quote(name),
            found,
            layers,
        }),
    }
}

/// A name's prefix, of however many parts, and the rest.
fn split(name: &str) -> (&str, &str) {
    let mut bare = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = rest;
    }
    (&name[..name.len() - bare.len()], bare)
}

/// The layer whose tensor has this name; `None` for what is not a layer's tensor.
fn layer_of(name: &str) -> Option<usize> {
    let (layer, rest) = name.strip_prefix("h.")?.split_once('.')?;
    layer.parse().ok().filter(|_| LAYER.contains(&rest))
}

/// Distances between long foreign names take quadratic time, and no tensor of GPT-2 is that long.
fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn the_first_bad_value_is_found_wherever_it_lies() {
        let mut values = vec![1.5f32; 100_000];
        values[7] = f32::MAX;
        assert_eq!(
            first_bad(bytemuck::cast_slice(&values), 0x7f80_0000u32),
            None
        );
        for at in [99_999, 40_000, 32_768, 32_767, 0] {
            values[at] = if at % 2 == 0 {
                f32::NAN
            } else {
                f32::NEG_INFINITY
            };
            assert_eq!(
                first_bad(bytemuck::cast_slice(&values), 0x7f80_0000u32),
                Some(at)
            );
        }
        let halves = [f16::MAX, f16::MIN_POSITIVE, f16::NAN];
        assert_eq!(first_bad(bytemuck::cast_slice(&halves), 0x7c00u16), Some(2));
        let brains = [bf16::INFINITY, bf16::ONE];
        assert_eq!(first_bad(bytemuck::cast_slice(&brains), 0x7f80u16), Some(0));
    }
}
