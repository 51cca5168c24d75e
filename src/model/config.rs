//! `config.json`: the sizes and switches of a GPT-2, with Hugging Face's defaults.
//!
//! Nothing else of the engine looks at the JSON. What passes here is consistent in itself (heads
//! divide the width, no size is zero or absurd), so later code may multiply sizes without checks.

use serde_json::{Map, Value};

use super::error::{ModelError, quote};

/// The largest value that any one size may have; beyond every model there is, and small enough that
/// a product of two sizes fits `usize` and a token id fits `u32`.
pub(crate) const LARGEST_SIZE: u64 = 1 << 24;
/// The largest number of layers: each costs memory for its table before a weight is looked at.
pub(crate) const MOST_LAYERS: u64 = 4096;

/// The MLP's non-linearity, named as in Hugging Face's `activation_function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationFunction {
    /// `gelu_new`: ½x(1 + tanh(√(2/π)(x + 0.044715x³))), what OpenAI's GPT-2 uses.
    GeluNew,
    /// `gelu`: ½x(1 + erf(x/√2)).
    Gelu,
    /// `gelu_pytorch_tanh`: the formula of [`ActivationFunction::GeluNew`] under PyTorch's name.
    GeluPytorchTanh,
    /// `relu`: max(x, 0).
    Relu,
    /// `silu`, also called `swish`: x/(1 + e⁻ˣ).
    Silu,
    /// `quick_gelu`: x/(1 + e^(−1.702 x)), Hendrycks and Gimpel's short form.
    QuickGelu,
}

impl ActivationFunction {
    /// The name that `config.json` uses.
    pub fn name(self) -> &'static str {
        match self {
            ActivationFunction::GeluNew => "gelu_new",
            ActivationFunction::Gelu => "gelu",
            ActivationFunction::GeluPytorchTanh => "gelu_pytorch_tanh",
            ActivationFunction::Relu => "relu",
            ActivationFunction::Silu => "silu",
            ActivationFunction::QuickGelu => "quick_gelu",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu_new" => ActivationFunction::GeluNew,
            "gelu" => ActivationFunction::Gelu,
            "gelu_pytorch_tanh" => ActivationFunction::GeluPytorchTanh,
            "relu" => ActivationFunction::Relu,
            "silu" | "swish" => ActivationFunction::Silu,
            "quick_gelu" => ActivationFunction::QuickGelu,
            _ => return None,
        })
    }
}

/// The sizes and switches of one GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Transformer blocks (`n_layer`).
    pub layers: usize,
    /// Attention heads a layer (`n_head`).
    pub heads: usize,
    /// Width of the residual stream (`n_embd`), a multiple of `heads`.
    pub width: usize,
    /// Width of the MLP's inner layer (`n_inner`, 4 × `width` where it is null).
    pub inner: usize,
    /// Tokens in the vocabulary (`vocab_size`).
    pub vocab: usize,
    /// The longest prompt, in tokens (`n_positions`).
    pub context: usize,
    /// The MLP's non-linearity (`activation_function`).
    pub activation: ActivationFunction,
    /// What is added to the variance in every layer norm (`layer_norm_epsilon`).
    pub layer_norm_epsilon: f64,
    /// Whether attention scores are divided by √head width.
    pub scale_attn_weights: bool,
    /// Whether attention scores of layer `l` are divided by `l + 1`.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// The token that begins a text (`bos_token_id`), where it names one in the vocabulary.
    pub bos: Option<u32>,
    /// Whether the unembedding is the token embedding (`tie_word_embeddings`).
    pub tied: bool,
}

impl Config {
    /// The width of one head: `width / heads`.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// What q·k is multiplied by in `layer` (from 0) before the softmax, as
    /// `eager_attention_forward` of Hugging Face's GPT-2 does it.
    pub fn score_scale(&self, layer: usize) -> f64 {
        let mut scale = 1.0;
        if self.scale_attn_weights {
            scale /= (self.head_width() as f64).sqrt();
        }
        if self.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f64;
        }
        scale
    }

    /// Reads a `config.json`; `origin` names it in messages.
    ///
    /// Keys that are missing take the defaults of Hugging Face's `GPT2Config`, and its aliases
    /// (`hidden_size`, `num_hidden_layers` …) are understood.
    ///
    /// # Errors
    ///
    /// [`ModelError::ConfigJson`] for what is not a JSON object, [`ModelError::NotGpt2`] for
    /// another architecture, [`ModelError::Config`] for a value that cannot be used.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self, ModelError> {
        let keys: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| ModelError::ConfigJson {
                origin: origin.to_owned(),
                detail: quote(&e.to_string()),
            })?;
        let keys = Keys { keys, origin };
        keys.architecture()?;

        let layers = keys.size("n_layer", Some("num_hidden_layers"), 12, MOST_LAYERS)?;
        let heads = keys.size("n_head", Some("num_attention_heads"), 12, LARGEST_SIZE)?;
        let width = keys.size("n_embd", Some("hidden_size"), 768, LARGEST_SIZE)?;
        if width % heads != 0 {
            let expected = format!("a multiple of n_head, which is {heads}");
            return Err(keys.wrong("n_embd", &Value::from(width), &expected));
        }
        let inner = match keys.keys.get("n_inner") {
            None | Some(Value::Null) => 4 * width,
            Some(_) => keys.size("n_inner", None, 0, LARGEST_SIZE)?,
        };
        let vocab = keys.size("vocab_size", None, 50257, LARGEST_SIZE)?;
        let context = keys.size(
            "n_positions",
            Some("max_position_embeddings"),
            1024,
            LARGEST_SIZE,
        )?;

        let activation = match keys.keys.get("activation_function") {
            None => ActivationFunction::GeluNew,
            Some(value) => value
                .as_str()
                .and_then(ActivationFunction::from_name)
                .ok_or_else(|| {
                    let known = "one of gelu_new, gelu, gelu_pytorch_tanh, quick_gelu, relu, silu and swish";
                    keys.wrong("activation_function", value, known)
                })?,
        };
        let layer_norm_epsilon = match keys.keys.get("layer_norm_epsilon") {
            None => 1e-5,
            Some(value) => value
                .as_f64()
                .filter(|e| (0.0..1.0).contains(e))
                .ok_or_else(|| keys.wrong("layer_norm_epsilon", value, "a number from 0 to 1"))?,
        };
        // Small models are often saved with GPT-2's own 50256 left in: a BOS that has no embedding
        // is as good as none, and harms nobody who does not ask for one.
        let bos = match keys.keys.get("bos_token_id") {
            None => Some(50256),
            Some(Value::Null) => None,
            Some(value) => Some(
                value
                    .as_u64()
                    .ok_or_else(|| keys.wrong("bos_token_id", value, "a token id or null"))?,
            ),
        };
        let bos = bos.filter(|&id| id < vocab as u64).map(|id| id as u32);

        Ok(Config {
            layers,
            heads,
            width,
            inner,
            vocab,
            context,
            activation,
            layer_norm_epsilon,
            scale_attn_weights: keys.switch("scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: keys
                .switch("scale_attn_by_inverse_layer_idx", false)?,
            bos,
            tied: keys.switch("tie_word_embeddings", true)?,
        })
    }
}

/// The parsed object together with the name that messages give it.
struct Keys<'a> {
    keys: Map<String, Value>,
    origin: &'a str,
}

impl Keys<'_> {
    fn wrong(&self, key: &str, found: &Value, expected: &str) -> ModelError {
        ModelError::Config {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
            found: quote(&found.to_string()),
            expected: expected.to_owned(),
        }
    }

    /// Refuses other architectures. A file without `model_type` passes unless it names its
    /// architectures and none is a GPT-2: the type came later than the first checkpoints.
    fn architecture(&self) -> Result<(), ModelError> {
        let not_gpt2 = |found: &str| ModelError::NotGpt2 {
            origin: self.origin.to_owned(),
            found: quote(found),
        };
        match (self.keys.get("model_type"), self.keys.get("architectures")) {
            (Some(Value::String(kind)), _) if kind == "gpt2" => Ok(()),
            (Some(Value::String(kind)), _) => Err(not_gpt2(kind)),
            (None | Some(Value::Null), Some(Value::Array(names))) => {
                match names.iter().filter_map(Value::as_str).next() {
                    Some(name) if !name.starts_with("GPT2") => Err(not_gpt2(name)),
                    _ => Ok(()),
                }
            }
            (None | Some(Value::Null), _) => Ok(()),
            (Some(other), _) => Err(self.wrong("model_type", other, "\"gpt2\"")),
        }
    }

    fn size(
        &self,
        key: &str,
        alias: Option<&str>,
        default: usize,
        most: u64,
    ) -> Result<usize, ModelError> {
        let read = |key: &str| match self.keys.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) if (1..=most).contains(&n) => Ok(Some(n as usize)),
                _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {most}"))),
            },
        };
        let named = read(key)?;
        let aliased = alias.map(read).transpose()?.flatten();
        match (named, aliased, alias) {
            (Some(a), Some(b), Some(alias)) if a != b => Err(self.wrong(
                alias,
                &Value::from(b),
                &format!("the same as {key}, which is {a}"),
            )),
            _ => Ok(named.or(aliased).unwrap_or(default)),
        }
    }

    fn switch(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.keys.get(key) {
            None => Ok(default),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config, ModelError> {
        Config::from_json(json.as_bytes(), "config.json")
    }

    #[test]
    fn missing_keys_take_the_defaults_of_gpt2() {
        let config = parse("{}").unwrap();
        assert_eq!((config.layers, config.heads, config.width), (12, 12, 768));
        assert_eq!(
            (config.inner, config.vocab, config.context),
            (3072, 50257, 1024)
        );
        assert_eq!(
            (config.activation, config.layer_norm_epsilon),
            (ActivationFunction::GeluNew, 1e-5)
        );
        assert_eq!(
            (config.bos, config.tied, config.head_width()),
            (Some(50256), true, 64)
        );
        assert!(config.scale_attn_weights && !config.scale_attn_by_inverse_layer_idx);
    }

    #[test]
    fn aliases_and_odd_shapes_are_understood() {
        let config = parse(
            r#"{"model_type":"gpt2","hidden_size":30,"num_attention_heads":3,"num_hidden_layers":2,
                "max_position_embeddings":7,"vocab_size":11,"n_inner":13,"bos_token_id":50256,
                "activation_function":"swish","tie_word_embeddings":false,
                "scale_attn_by_inverse_layer_idx":true,"layer_norm_epsilon":1e-6}"#,
        )
        .unwrap();
        assert_eq!((config.layers, config.heads, config.width), (2, 3, 30));
        assert_eq!((config.inner, config.vocab, config.context), (13, 11, 7));
        assert_eq!(
            (config.activation, config.bos, config.tied),
            (ActivationFunction::Silu, None, false)
        );
        assert_eq!(config.head_width(), 10);
        assert_eq!(config.score_scale(1), 1.0 / 10f64.sqrt() / 2.0);
    }

    #[test]
    fn every_refusal_names_the_key_and_what_would_be_right() {
        let cases = [
            ("nonsense", "`config.json` is not a JSON object"),
            ("[1]", "`config.json` is not a JSON object"),
            (r#"{"model_type":"llama"}"#, "describes a llama model"),
            (
                r#"{"architectures":["BertModel"]}"#,
                "describes a BertModel model",
            ),
            (r#"{"model_type":7}"#, "model_type is 7, expected \"gpt2\""),
            (
                r#"{"n_embd":10,"n_head":3}"#,
                "n_embd is 10, expected a multiple of n_head, which is 3",
            ),
            (
                r#"{"n_layer":0}"#,
                "n_layer is 0, expected a whole number from 1 to 4096",
            ),
            (r#"{"n_layer":5000}"#, "n_layer is 5000"),
            (r#"{"vocab_size":1e30}"#, "vocab_size is 1e+30"),
            (r#"{"n_positions":-1}"#, "n_positions is -1"),
            (r#"{"n_inner":0}"#, "n_inner is 0"),
            (r#"{"n_embd":768.5}"#, "n_embd is 768.5"),
            (
                r#"{"n_embd":768,"hidden_size":64}"#,
                "hidden_size is 64, expected the same as n_embd",
            ),
            (
                r#"{"activation_function":"mish"}"#,
                "activation_function is \"mish\", expected one of",
            ),
            (
                r#"{"activation_function":null}"#,
                "activation_function is null",
            ),
            (r#"{"layer_norm_epsilon":-1}"#, "layer_norm_epsilon is -1"),
            (
                r#"{"layer_norm_epsilon":"1e-5"}"#,
                "layer_norm_epsilon is \"1e-5\"",
            ),
            (
                r#"{"tie_word_embeddings":"no"}"#,
                "tie_word_embeddings is \"no\", expected true or false",
            ),
            (r#"{"bos_token_id":"a"}"#, "bos_token_id is \"a\""),
        ];
        for (json, part) in cases {
            let message = parse(json).unwrap_err().to_string();
            assert!(message.contains(part), "{json}: {message}");
            assert!(!message.contains('\n'), "{json}: {message}");
        }
    }
}
