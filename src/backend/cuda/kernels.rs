//! Every kernel: its name, the source that has it, and its parameters.
//!
//! The driver's launch call carries neither the number of arguments nor their sizes, so each kernel's
//! parameters are declared here once; the queue compares every launch with them, and
//! `tests/gpu/kernels.rs` compares them with the `__global__` signatures.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::limits::Limit;
use super::linear::{Tile, Variant};
use super::matrix::Element;

/// A kernel of `kernels/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Rows of an embedding.
    Embed,
    /// Rows of two matrices, to any rows of a third.
    Gather(Element),
    /// Sums of rows.
    Add,
    /// The activation function.
    Activate(Element),
    /// Which stretches are equal.
    Same(Element),
    /// Layer norm.
    LayerNorm(Element),
    /// Its scale.
    LayerNormScale,
    /// Its normalised row.
    LayerNormNormalize,
    /// Its affine map.
    LayerNormAffine(Element),
    /// Operators in place.
    Overwrite(Element),
    /// Rows into the coordinates of a basis.
    Encode(Element),
    /// And back.
    Decode(Element),
    /// Ragged causal attention.
    Attention(Element),
    /// A linear layer; `wide` gives an f32 result of 16-bit operands.
    Linear {
        /// The arithmetic.
        variant: Variant,
        /// The tile.
        tile: Tile,
        /// Whether the result is f32 though the operands have 16 bits.
        wide: bool,
    },
    /// Wanted logits.
    ReadoutWanted(Variant),
    /// Tiles of the vocabulary.
    ReadoutScan(Variant, Tile),
    /// Tiles put together.
    ReadoutMerge,
    /// The most probable tokens of all tiles.
    ReadoutTop,
    /// What a device can do at best.
    Limit(Limit),
}

/// How an argument is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Four bytes.
    Integer,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Pointer,
    /// 24 bytes, by value.
    View,
}

const ELEMENTS: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

impl Kernel {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Embed,
            Self::Add,
            Self::LayerNormScale,
            Self::LayerNormNormalize,
            Self::ReadoutMerge,
            Self::ReadoutTop,
        ];
        for element in ELEMENTS {
            all.extend([
                Self::Gather(element),
                Self::Activate(element),
                Self::Same(element),
                Self::LayerNorm(element),
                Self::LayerNormAffine(element),
                Self::Overwrite(element),
                Self::Encode(element),
                Self::Decode(element),
                Self::Attention(element),
            ]);
        }
        all.extend(Limit::ALL.map(Self::Limit));
        for variant in Variant::ALL {
            all.push(Self::ReadoutWanted(variant));
            for tile in [Tile::Large, Tile::Small] {
                all.push(Self::ReadoutScan(variant, tile));
                for wide in [false, true] {
                    if !wide || variant.element() != Element::F32 {
                        all.push(Self::Linear {
                            variant,
                            tile,
                            wide,
                        });
                    }
                }
            }
        }
        all
    }

    /// Its name in the source.
    pub fn name(self) -> String {
        match self {
            Self::Embed => "embed".into(),
            Self::Gather(t) => format!("gather_{}", t.suffix()),
            Self::Add => "add".into(),
            Self::Activate(t) => format!("activate_{}", t.suffix()),
            Self::Same(t) => format!("same_{}", t.suffix()),
            Self::LayerNorm(t) => format!("layer_norm_{}", t.suffix()),
            Self::LayerNormScale => "layer_norm_scale".into(),
            Self::LayerNormNormalize => "layer_norm_normalize".into(),
            Self::LayerNormAffine(t) => format!("layer_norm_affine_{}", t.suffix()),
            Self::Overwrite(t) => format!("overwrite_{}", t.suffix()),
            Self::Encode(t) => format!("encode_{}", t.suffix()),
            Self::Decode(t) => format!("decode_{}", t.suffix()),
            Self::Attention(t) => format!("attention_{}", t.suffix()),
            Self::Linear {
                variant,
                tile,
                wide,
            } => {
                let wide = if wide { "_wide" } else { "" };
                format!("linear_{}_{}{wide}", variant.name(), tile.name())
            }
            Self::ReadoutWanted(variant) => format!("readout_wanted_{}", variant.name()),
            Self::ReadoutScan(variant, tile) => {
                format!("readout_scan_{}_{}", variant.name(), tile.name())
            }
            Self::ReadoutMerge => "readout_merge".into(),
            Self::ReadoutTop => "readout_top".into(),
            Self::Limit(limit) => format!("limit_{}", limit.name()),
        }
    }

    /// The source that has it, without `.cu`.
    pub fn source(self) -> &'static str {
        let half = |variant: Variant| variant.element() != Element::F32;
        match self {
            Self::Embed => "embed",
            Self::Gather(_) | Self::Add | Self::Activate(_) | Self::Same(_) => "rows",
            Self::LayerNorm(_)
            | Self::LayerNormScale
            | Self::LayerNormNormalize
            | Self::LayerNormAffine(_) => "layer_norm",
            Self::Overwrite(_) => "overwrite",
            Self::Encode(_) | Self::Decode(_) => "basis",
            Self::Attention(_) => "attention",
            Self::Linear { variant, .. } if half(variant) => "linear_half",
            Self::Linear { .. } => "linear",
            Self::ReadoutWanted(variant) | Self::ReadoutScan(variant, _) if half(variant) => {
                "readout_half"
            }
            Self::ReadoutWanted(_) | Self::ReadoutScan(..) => "readout",
            Self::ReadoutMerge | Self::ReadoutTop => "readout_merge",
            Self::Limit(_) => "limits",
        }
    }

    /// Its parameters as the source writes them, without names and `__restrict__`.
    pub fn parameters(self) -> Vec<String> {
        const OWN_AND_TRACE: &str = "View<const float>, View<const float>, const uint32_t *, ";
        const COUNTS: &str = "uint32_t, uint32_t, ";
        const VECTORS: &str = "const float *, const float *, ";
        let (list, element, out) = match self {
            Self::Embed => (
                format!("const float *, const uint32_t *, {COUNTS}View<float>"),
                Element::F32,
                Element::F32,
            ),
            Self::Gather(t) => (
                "View<const T>, View<const T>, const uint32_t *, uint32_t, const uint32_t *, \
                 uint32_t, uint32_t, View<T>"
                    .into(),
                t,
                t,
            ),
            Self::Add => (
                format!("{OWN_AND_TRACE}{OWN_AND_TRACE}{COUNTS}View<float>"),
                Element::F32,
                Element::F32,
            ),
            Self::Activate(t) => (
                format!("View<const T>, const uint32_t *, {COUNTS}uint32_t, View<T>"),
                t,
                t,
            ),
            Self::Same(t) => (
                "const Comparison *, const View<const T> *, uint32_t, uint32_t *".into(),
                t,
                t,
            ),
            Self::LayerNorm(t) => (
                format!("{OWN_AND_TRACE}{COUNTS}{VECTORS}float, View<T>"),
                t,
                t,
            ),
            Self::LayerNormScale => (
                format!("{OWN_AND_TRACE}{COUNTS}float, View<float>"),
                Element::F32,
                Element::F32,
            ),
            Self::LayerNormNormalize => (
                format!("{OWN_AND_TRACE}View<const float>, {COUNTS}View<float>"),
                Element::F32,
                Element::F32,
            ),
            Self::LayerNormAffine(t) => {
                (format!("View<const float>, {VECTORS}{COUNTS}View<T>"), t, t)
            }
            Self::Overwrite(t) => (
                "View<T>, const Write *, const uint32_t *, uint32_t, const View<const T> *, \
                 const T *"
                    .into(),
                t,
                t,
            ),
            Self::Encode(t) => (
                "const Probe *, uint32_t, View<const T>, const View<const T> *, const float *, \
                 uint32_t, const float *, const float *, const float *, uint32_t, const float *, \
                 const float *, uint32_t, View<float>"
                    .into(),
                t,
                t,
            ),
            Self::Decode(t) => (
                "View<const float>, uint32_t, const Place *, uint32_t, const float *, uint32_t, \
                 const float *, const float *, uint32_t, View<T>"
                    .into(),
                t,
                t,
            ),
            Self::Attention(t) => (
                "View<const T>, View<const T>, const uint32_t *, \
                 View<const T>, View<const T>, const uint32_t *, \
                 View<const T>, View<const T>, const uint32_t *, \
                 const uint32_t *, uint32_t, float, const Tile *, uint32_t, uint32_t, uint32_t, \
                 const Write *, const uint32_t *, const Write *, const uint32_t *, \
                 const View<const float> *, const float *, View<float>, const uint32_t *, \
                 View<float>, const uint32_t *, uint32_t, View<T>"
                    .into(),
                t,
                t,
            ),
            Self::Linear { variant, wide, .. } => (
                format!(
                    "View<const T>, const uint32_t *, {COUNTS}{COUNTS}const T *, uint32_t, \
                     const float *, {COUNTS}{OWN_AND_TRACE}View<O>, uint32_t, const uint32_t *"
                ),
                variant.element(),
                if wide {
                    Element::F32
                } else {
                    variant.element()
                },
            ),
            Self::ReadoutWanted(variant) => (
                "View<const T>, const uint32_t *, const uint32_t *, uint32_t, uint32_t, const T *, \
                 uint32_t, float *"
                    .into(),
                variant.element(),
                Element::F32,
            ),
            Self::ReadoutScan(variant, _) => (
                "View<const T>, const uint32_t *, uint32_t, uint32_t, const T *, uint32_t, \
                 uint32_t, const uint32_t *, const uint32_t *, const uint32_t *, const float *, \
                 uint32_t *, uint32_t, float *, uint32_t *, float *"
                    .into(),
                variant.element(),
                Element::F32,
            ),
            Self::ReadoutMerge => (
                "const float *, uint32_t, uint32_t, const uint32_t *, const uint32_t *, \
                 const uint32_t *, double *, double *, double *, uint32_t *"
                    .into(),
                Element::F32,
                Element::F32,
            ),
            Self::ReadoutTop => (
                "const uint32_t *, const float *, uint32_t, uint32_t, uint32_t, uint32_t, \
                 uint32_t *, float *"
                    .into(),
                Element::F32,
                Element::F32,
            ),
            Self::Limit(limit) => (
                match limit {
                    Limit::Copy => "const uint4 *, uint4 *",
                    Limit::Ffma => "float, float, uint32_t, float *",
                    _ => "const uint32_t *, uint32_t, float *",
                }
                .into(),
                Element::F32,
                Element::F32,
            ),
        };
        let name = |text: &str, letter: &str, element: Element| {
            text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
                .map(|word| {
                    let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                    if bare == letter {
                        word.replacen(letter, element.c_name(), 1)
                    } else {
                        word.to_owned()
                    }
                })
                .collect::<String>()
        };
        list.split(", ")
            .map(|parameter| name(&name(parameter, "T", element), "O", out))
            .collect()
    }

    /// How its arguments are passed.
    pub(super) fn passes(self) -> &'static [Pass] {
        static ALL: LazyLock<HashMap<Kernel, Vec<Pass>>> = LazyLock::new(|| {
            let all = Kernel::all().into_iter();
            all.map(|kernel| (kernel, kernel.read_passes())).collect()
        });
        &ALL[&self]
    }

    fn read_passes(self) -> Vec<Pass> {
        let pass = |parameter: String| match parameter.as_str() {
            "uint32_t" => Pass::Integer,
            "float" => Pass::Float,
            pointer if pointer.ends_with('*') => Pass::Pointer,
            _ => Pass::View,
        };
        self.parameters().into_iter().map(pass).collect()
    }

    /// The most dynamic shared memory that a launch of it may take on a device, in bytes.
    pub(super) fn most_shared(self, capability: u32) -> i32 {
        match self {
            Self::Linear { tile, .. } => tile.linear_shared() as i32,
            Self::ReadoutScan(_, tile) => tile.scan_shared() as i32,
            Self::ReadoutWanted(_) => Tile::Small.linear_shared() as i32,
            _ => shared_per_block(capability) as i32,
        }
    }
}

/// Shared memory that one block may have on a device, in bytes (CUDA C++ Programming Guide, table
/// "Technical Specifications per Compute Capability").
pub(super) fn shared_per_block(capability: u32) -> u32 {
    match capability {
        80 | 87 => 163 << 10,
        90 | 100 | 103 => 227 << 10,
        _ => 99 << 10,
    }
}
