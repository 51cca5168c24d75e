//! GPT-2 small's shape with random weights, made in memory: every speed that does not depend on
//! what a model has learnt is the same, and no download is needed.

use std::borrow::Cow;

use headlight::model::Checkpoint;
use safetensors::{Dtype, tensor::TensorView};

const CONFIG: &str = r#"{"model_type": "gpt2", "activation_function": "gelu_new", "n_layer": 12,
    "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257}"#;

/// A stream of roughly normal numbers: the sum of four uniform ones (Irwin and Hall).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum * 3f32.sqrt()
    }
}

/// The checkpoint: about 500 MB.
pub fn random_gpt2() -> Checkpoint {
    let (layers, d) = (12, 768);
    let mut shapes: Vec<(String, Vec<usize>, f32, f32)> = vec![
        ("wte.weight".into(), vec![50257, d], 0.02, 0.0),
        ("wpe.weight".into(), vec![1024, d], 0.01, 0.0),
        ("ln_f.weight".into(), vec![d], 0.1, 1.0),
        ("ln_f.bias".into(), vec![d], 0.05, 0.0),
    ];
    for layer in 0..layers {
        let name = |part: &str| format!("h.{layer}.{part}");
        for norm in ["ln_1", "ln_2"] {
            shapes.push((name(&format!("{norm}.weight")), vec![d], 0.1, 1.0));
            shapes.push((name(&format!("{norm}.bias")), vec![d], 0.05, 0.0));
        }
        for (part, inputs, outputs) in [
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, 4 * d),
            ("mlp.c_proj", 4 * d, d),
        ] {
            let deviation = 1.7 / (inputs as f32).sqrt();
            shapes.push((
                name(&format!("{part}.weight")),
                vec![inputs, outputs],
                deviation,
                0.0,
            ));
            shapes.push((name(&format!("{part}.bias")), vec![outputs], 0.05, 0.0));
        }
    }
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let data: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(_, shape, deviation, mean)| {
            let count = shape.iter().product();
            (0..count)
                .flat_map(|_| (noise.next() * deviation + mean).to_le_bytes())
                .collect()
        })
        .collect();
    let views = shapes.iter().zip(&data).map(|((name, shape, ..), data)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), data).expect("shape and data agree"),
        )
    });
    let weights = safetensors::serialize(views, None).expect("a well-formed file");
    Checkpoint::from_bytes("random", CONFIG.as_bytes(), Cow::Owned(weights), None).expect("a GPT-2")
}
