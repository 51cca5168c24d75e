//! Every kernel: its name, the source that has it, and its argument.
//!
//! The driver's launch call carries neither an argument's type nor its size, so each kernel's is named here
//! once; the queue compares every launch with it, and `tests/gpu/kernels.rs` compares it with the source.

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
    /// Zeros.
    Clear,
    /// Rows added to rows.
    Accumulate,
    /// The activation function backwards.
    ActivateAdjoint(Element),
    /// Layer norm backwards.
    LayerNormAdjoint,
    /// The same with respect to its normalised row.
    LayerNormNormalizedAdjoint,
    /// And its scale.
    LayerNormScaleAdjoint,
    /// A linear layer backwards.
    LinearAdjoint(Element),
    /// Attention backwards, query by query.
    AttentionAdjointQueries(Element),
    /// And key by key.
    AttentionAdjointKeys(Element),
    /// Gradients of the logits of some tiles of the vocabulary.
    LogitGradients(Variant),
    /// Those of single logits, multiplied with the unembedding.
    TokenGradients(Element),
    /// What a device can do at best.
    Limit(Limit),
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
            Self::Clear,
            Self::Accumulate,
            Self::LayerNormAdjoint,
            Self::LayerNormNormalizedAdjoint,
            Self::LayerNormScaleAdjoint,
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
                Self::ActivateAdjoint(element),
                Self::LinearAdjoint(element),
                Self::AttentionAdjointQueries(element),
                Self::AttentionAdjointKeys(element),
                Self::TokenGradients(element),
            ]);
        }
        all.extend(Limit::ALL.map(Self::Limit));
        for variant in Variant::ALL {
            all.push(Self::ReadoutWanted(variant));
            all.push(Self::LogitGradients(variant));
            all.extend(Tile::OF_READOUT.map(|tile| Self::ReadoutScan(variant, tile)));
            for &tile in Tile::of_linear(variant) {
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

    /// What its name begins with, the source that has it, and the type of its argument.
    fn family(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Embed => ("embed", "embed", "EmbedArgs"),
            Self::Gather(_) => ("gather", "rows", "GatherArgs"),
            Self::Add => ("add", "rows", "AddArgs"),
            Self::Activate(_) => ("activate", "rows", "ActivateArgs"),
            Self::Same(_) => ("same", "rows", "SameArgs"),
            Self::LayerNorm(_) => ("layer_norm", "layer_norm", "LayerNormArgs"),
            Self::LayerNormScale => ("layer_norm_scale", "layer_norm", "LayerNormArgs"),
            Self::LayerNormNormalize => ("layer_norm_normalize", "layer_norm", "LayerNormArgs"),
            Self::LayerNormAffine(_) => ("layer_norm_affine", "layer_norm", "LayerNormArgs"),
            Self::Overwrite(_) => ("overwrite", "overwrite", "OverwriteArgs"),
            Self::Encode(_) => ("encode", "basis", "EncodeArgs"),
            Self::Decode(_) => ("decode", "basis", "DecodeArgs"),
            Self::Attention(_) => ("attention", "attention", "AttentionArgs"),
            Self::Linear { .. } => ("linear", "linear", "LinearArgs"),
            Self::ReadoutWanted(_) => ("readout_wanted", "readout", "WantedArgs"),
            Self::ReadoutScan(..) => ("readout_scan", "readout", "ScanArgs"),
            Self::ReadoutMerge => ("readout_merge", "readout_merge", "MergeArgs"),
            Self::ReadoutTop => ("readout_top", "readout_merge", "TopArgs"),
            Self::Clear => ("clear", "adjoint_rows", "ClearArgs"),
            Self::Accumulate => ("accumulate", "adjoint_rows", "AccumulateArgs"),
            Self::ActivateAdjoint(_) => ("activate_adjoint", "adjoint_rows", "ActivateAdjointArgs"),
            Self::LayerNormAdjoint => ("layer_norm_adjoint", "layer_norm", "NormAdjointArgs"),
            Self::LayerNormNormalizedAdjoint => (
                "layer_norm_normalized_adjoint",
                "layer_norm",
                "NormAdjointArgs",
            ),
            Self::LayerNormScaleAdjoint => {
                ("layer_norm_scale_adjoint", "layer_norm", "NormAdjointArgs")
            }
            Self::LinearAdjoint(_) => ("linear_adjoint", "linear_adjoint", "LinearAdjointArgs"),
            Self::AttentionAdjointQueries(_) => (
                "attention_adjoint_queries",
                "attention_adjoint",
                "AttentionAdjointArgs",
            ),
            Self::AttentionAdjointKeys(_) => (
                "attention_adjoint_keys",
                "attention_adjoint",
                "AttentionAdjointArgs",
            ),
            Self::LogitGradients(_) => ("logit_gradients", "readout_adjoint", "LogitGradientArgs"),
            Self::TokenGradients(_) => ("token_gradients", "adjoint_rows", "TokenGradientArgs"),
            Self::Limit(_) => ("limit", "limits", "LimitArgs"),
        }
    }

    /// The type of what it reads, where there is a kernel for each.
    fn element(self) -> Option<Element> {
        match self {
            Self::Gather(element)
            | Self::Activate(element)
            | Self::Same(element)
            | Self::LayerNorm(element)
            | Self::LayerNormAffine(element)
            | Self::Overwrite(element)
            | Self::Encode(element)
            | Self::Decode(element)
            | Self::Attention(element)
            | Self::ActivateAdjoint(element)
            | Self::LinearAdjoint(element)
            | Self::AttentionAdjointQueries(element)
            | Self::AttentionAdjointKeys(element)
            | Self::TokenGradients(element) => Some(element),
            Self::Linear { variant, .. }
            | Self::ReadoutWanted(variant)
            | Self::ReadoutScan(variant, _)
            | Self::LogitGradients(variant) => Some(variant.element()),
            _ => None,
        }
    }

    /// Its name in the source.
    pub fn name(self) -> String {
        let (stem, ..) = self.family();
        match (self, self.element()) {
            (
                Self::Linear {
                    variant,
                    tile,
                    wide,
                },
                _,
            ) => {
                let wide = if wide { "_wide" } else { "" };
                format!("{stem}_{}_{}{wide}", variant.name(), tile.name())
            }
            (Self::ReadoutWanted(variant) | Self::LogitGradients(variant), _) => {
                format!("{stem}_{}", variant.name())
            }
            (Self::ReadoutScan(variant, tile), _) => {
                format!("{stem}_{}_{}", variant.name(), tile.name())
            }
            (Self::Limit(limit), _) => format!("{stem}_{}", limit.name()),
            (_, Some(element)) => format!("{stem}_{}", element.suffix()),
            (_, None) => stem.into(),
        }
    }

    /// The source that has it, without `.cu`.
    pub fn source(self) -> &'static str {
        match (self, self.element()) {
            (Self::Linear { .. }, Some(Element::Bf16 | Element::F16)) => "linear_half",
            (
                Self::ReadoutWanted(_) | Self::ReadoutScan(..),
                Some(Element::Bf16 | Element::F16),
            ) => "readout_half",
            _ => self.family().1,
        }
    }

    /// The type of its argument in Rust.
    pub(super) fn argument(self) -> &'static str {
        self.family().2
    }

    /// The type of its argument as the source writes it.
    pub fn argument_in_source(self) -> String {
        let (name, float) = (self.argument(), Element::F32.c_name());
        match (self, self.element()) {
            (Self::Linear { wide: true, .. }, Some(element)) => {
                format!("{name}<{}, {float}>", element.c_name())
            }
            (_, Some(element)) => format!("{name}<{}>", element.c_name()),
            (Self::LayerNormScale | Self::LayerNormNormalize, None) => format!("{name}<{float}>"),
            (_, None) => name.into(),
        }
    }

    /// The most dynamic shared memory that a launch of it may take on a device, in bytes.
    pub(super) fn most_shared(self, capability: u32) -> i32 {
        match self {
            Self::Linear { tile, .. } => tile.linear_shared() as i32,
            Self::ReadoutScan(_, tile) => tile.scan_shared() as i32,
            Self::ReadoutWanted(_) => Tile::Small.linear_shared() as i32,
            Self::LogitGradients(_) => Tile::Small.scan_shared() as i32,
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
