//! pyvene's interventions (`models/interventions.py`).

/// What an intervention does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // pyvene's class names, without Intervention
pub enum Kind {
    Vanilla,
    Zero,
    Addition,
    Subtraction,
    Collect,
    Skip,
    Noise,
    RotatedSpace,
    LowRankRotatedSpace,
    BoundlessRotatedSpace,
    SigmoidMaskRotatedSpace,
    SigmoidMask,
    PcaRotatedSpace,
    Autoencoder,
    JumpReluAutoencoder,
}

const KINDS: [(&str, Kind); 15] = [
    ("VanillaIntervention", Kind::Vanilla),
    ("ZeroIntervention", Kind::Zero),
    ("AdditionIntervention", Kind::Addition),
    ("SubtractionIntervention", Kind::Subtraction),
    ("CollectIntervention", Kind::Collect),
    ("SkipIntervention", Kind::Skip),
    ("NoiseIntervention", Kind::Noise),
    ("RotatedSpaceIntervention", Kind::RotatedSpace),
    ("LowRankRotatedSpaceIntervention", Kind::LowRankRotatedSpace),
    (
        "BoundlessRotatedSpaceIntervention",
        Kind::BoundlessRotatedSpace,
    ),
    (
        "SigmoidMaskRotatedSpaceIntervention",
        Kind::SigmoidMaskRotatedSpace,
    ),
    ("SigmoidMaskIntervention", Kind::SigmoidMask),
    ("PCARotatedSpaceIntervention", Kind::PcaRotatedSpace),
    ("AutoencoderIntervention", Kind::Autoencoder),
    ("JumpReLUAutoencoderIntervention", Kind::JumpReluAutoencoder),
];

impl Kind {
    /// pyvene's name of the class.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].0
    }

    /// The kind whose class `str(type(…))` prints so.
    pub(super) fn of(class: &str) -> Option<Self> {
        // str(type(intervention)), which says where the class was defined
        let class = class.strip_prefix("<class '").unwrap_or(class);
        let class = class.strip_suffix("'>").unwrap_or(class);
        let (module, name) = class.rsplit_once('.')?;
        let known = KINDS.iter().find(|(known, _)| *known == name)?;
        (module == "pyvene" || module.starts_with("pyvene.")).then_some(known.1)
    }

    /// Whether it acts in coordinates of its own, or on a softly chosen part of the plain ones.
    pub fn has_basis(self) -> bool {
        self as usize >= Kind::RotatedSpace as usize
    }

    /// Whether it can take a constant in place of a source.
    pub fn takes_constant(self) -> bool {
        matches!(self, Kind::Vanilla | Kind::Addition | Kind::Subtraction)
    }

    /// Whether pyvene's `subspaces` mean anything to it.
    pub fn takes_subspaces(self) -> bool {
        !matches!(
            self,
            Kind::BoundlessRotatedSpace
                | Kind::SigmoidMaskRotatedSpace
                | Kind::SigmoidMask
                | Kind::Noise
        )
    }

    /// pyvene's names of all of them.
    pub(super) fn names() -> Vec<&'static str> {
        KINDS.iter().map(|(name, _)| *name).collect()
    }
}
