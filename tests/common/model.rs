//! Tiny checkpoints with random weights, built in memory.

use half::{bf16, f16};
use headlight::model::Checkpoint;
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::Random;

/// The longest prompt of any test: more than one 64-bit word of positions.
pub const CONTEXT: usize = 72;

#[derive(Debug, Clone)]
pub struct ModelSpec {
    pub layers: usize,
    pub heads: usize,
    pub head_width: usize,
    pub inner: usize,
    pub vocab: usize,
    pub activation: &'static str,
    pub tied: bool,
    pub by_layer: bool,
    pub scaled: bool,
    pub dtype: &'static str,
    pub seed: u64,
}

/// Small enough for hundreds of cases, of every kind that a checkpoint may be; a few are wider
/// than one block of 256 inputs.
pub fn model() -> impl Strategy<Value = ModelSpec> {
    let sizes = prop_oneof![
        8 => (1usize..=4, 1usize..=4, prop_oneof![Just(1usize), Just(3), Just(5), Just(16)]),
        1 => (1usize..=2, Just(3usize), Just(90usize)),
    ];
    let inner = prop_oneof![6 => Just(1usize), 6 => Just(7), 6 => Just(33), 1 => Just(517)];
    let vocab = prop_oneof![Just(2usize), Just(3), Just(17), Just(60), Just(200)];
    let activation = prop_oneof![
        Just("gelu_new"),
        Just("gelu"),
        Just("gelu_pytorch_tanh"),
        Just("relu"),
        Just("silu"),
        Just("quick_gelu")
    ];
    let dtype = prop_oneof![Just("F32"), Just("F16"), Just("BF16")];
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    (
        sizes,
        inner,
        vocab,
        activation,
        switches,
        dtype,
        any::<u64>(),
    )
        .prop_map(
            |(
                (layers, heads, head_width),
                inner,
                vocab,
                activation,
                (tied, by_layer, scaled),
                dtype,
                seed,
            )| ModelSpec {
                layers,
                heads,
                head_width,
                inner,
                vocab,
                activation,
                tied,
                by_layer,
                scaled,
                dtype,
                seed,
            },
        )
}

/// A model in which different inputs give different values everywhere: wide, and smooth.
pub fn generic_model() -> impl Strategy<Value = ModelSpec> {
    model().prop_map(|spec| ModelSpec {
        head_width: spec.head_width.max(5),
        inner: spec.inner.max(33),
        activation: "gelu_new",
        ..spec
    })
}

impl ModelSpec {
    pub fn width(&self) -> usize {
        self.heads * self.head_width
    }

    pub fn open(&self) -> Checkpoint {
        let d = self.width();
        let mut random = Random(self.seed);
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut add = |name: String, shape: Vec<usize>, mean: f64, deviation: f64| {
            let count = shape.iter().product::<usize>();
            let mut bytes = Vec::with_capacity(4 * count);
            for _ in 0..count {
                let x = (mean + deviation * random.normal()) as f32;
                match self.dtype {
                    "integers" => {
                        bytes.extend((random.below(7) as f32 - 3.0).to_le_bytes());
                    }
                    "F32" => bytes.extend(x.to_le_bytes()),
                    "F16" => bytes.extend(f16::from_f32(x).to_le_bytes()),
                    _ => bytes.extend(bf16::from_f32(x).to_le_bytes()),
                }
            }
            tensors.push((name, shape, bytes));
        };
        // queries and keys of norm 2: far from uniform attention, and far from one key
        let fan = |inputs: usize, gain: f64| gain / (inputs as f64).sqrt();
        add("wte.weight".into(), vec![self.vocab, d], 0.0, 1.0);
        add("wpe.weight".into(), vec![CONTEXT, d], 0.0, 0.5);
        add("ln_f.weight".into(), vec![d], 1.0, 0.3);
        add("ln_f.bias".into(), vec![d], 0.0, 0.3);
        for layer in 0..self.layers {
            let name = |rest: &str| format!("h.{layer}.{rest}");
            for norm in ["ln_1", "ln_2"] {
                add(name(&format!("{norm}.weight")), vec![d], 1.0, 0.3);
                add(name(&format!("{norm}.bias")), vec![d], 0.0, 0.3);
            }
            for (part, inputs, outputs, gain) in [
                ("attn.c_attn", d, 3 * d, 2.0),
                ("attn.c_proj", d, d, 1.0),
                ("mlp.c_fc", d, self.inner, 1.5),
                ("mlp.c_proj", self.inner, d, 1.0),
            ] {
                add(
                    name(&format!("{part}.weight")),
                    vec![inputs, outputs],
                    0.0,
                    fan(inputs, gain),
                );
                add(name(&format!("{part}.bias")), vec![outputs], 0.0, 0.3);
            }
        }
        if !self.tied {
            add("lm_head.weight".into(), vec![self.vocab, d], 0.0, 1.0);
        }
        let dtype = match self.dtype {
            "F32" | "integers" => Dtype::F32,
            "F16" => Dtype::F16,
            _ => Dtype::BF16,
        };
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(dtype, shape.clone(), bytes).unwrap(),
            )
        });
        let file = serialize(views, None).unwrap();
        let config = serde_json::json!({
            "model_type": "gpt2", "n_layer": self.layers, "n_head": self.heads, "n_embd": d,
            "n_inner": self.inner, "vocab_size": self.vocab, "n_positions": CONTEXT,
            "activation_function": self.activation, "tie_word_embeddings": self.tied,
            "scale_attn_by_inverse_layer_idx": self.by_layer, "scale_attn_weights": self.scaled,
        });
        Checkpoint::from_bytes("random", config.to_string().as_bytes(), file.into(), None).unwrap()
    }
}

/// Two layers as GPT-2's are, in f32.
pub fn shape(heads: usize, head_width: usize, inner: usize, vocab: usize) -> ModelSpec {
    ModelSpec {
        layers: 2,
        heads,
        head_width,
        inner,
        vocab,
        activation: "gelu_new",
        tied: true,
        by_layer: false,
        scaled: true,
        dtype: "F32",
        seed: 1,
    }
}

/// A checkpoint of one layer whose linear weights and biases are integers from −3 to 3.
pub fn integers(heads: usize, head_width: usize, inner: usize) -> Checkpoint {
    let spec = ModelSpec {
        layers: 1,
        activation: "relu",
        dtype: "integers",
        seed: 5,
        ..shape(heads, head_width, inner, 10)
    };
    spec.open()
}
