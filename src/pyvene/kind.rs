//! pyvene's interventions (`models/interventions.py`).

/// What an intervention does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // pyvene's class names, without Intervention
pub enum InterventionKind {
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

const KINDS: [(&str, InterventionKind); 15] = [
    ("VanillaIntervention", InterventionKind::Vanilla),
    ("ZeroIntervention", InterventionKind::Zero),
    ("AdditionIntervention", InterventionKind::Addition),
    ("SubtractionIntervention", InterventionKind::Subtraction),
    ("CollectIntervention", InterventionKind::Collect),
    ("SkipIntervention", InterventionKind::Skip),
    ("NoiseIntervention", InterventionKind::Noise),
    ("RotatedSpaceIntervention", InterventionKind::RotatedSpace),
    (
        "LowRankRotatedSpaceIntervention",
        InterventionKind::LowRankRotatedSpace,
    ),
    (
        "BoundlessRotatedSpaceIntervention",
        InterventionKind::BoundlessRotatedSpace,
    ),
    (
        "SigmoidMaskRotatedSpaceIntervention",
        InterventionKind::SigmoidMaskRotatedSpace,
    ),
    ("SigmoidMaskIntervention", InterventionKind::SigmoidMask),
    (
        "PCARotatedSpaceIntervention",
        InterventionKind::PcaRotatedSpace,
    ),
    ("AutoencoderIntervention", InterventionKind::Autoencoder),
    (
        "JumpReLUAutoencoderIntervention",
        InterventionKind::JumpReluAutoencoder,
    ),
];

impl InterventionKind {
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
        self as usize >= InterventionKind::RotatedSpace as usize
    }

    /// Whether it can take a constant in place of a source.
    pub fn takes_constant(self) -> bool {
        matches!(
            self,
            InterventionKind::Vanilla | InterventionKind::Addition | InterventionKind::Subtraction
        )
    }

    /// Whether pyvene's `subspaces` mean anything to it.
    pub fn takes_subspaces(self) -> bool {
        !matches!(
            self,
            InterventionKind::BoundlessRotatedSpace
                | InterventionKind::SigmoidMaskRotatedSpace
                | InterventionKind::SigmoidMask
                | InterventionKind::Noise
        )
    }

    /// pyvene's names of all of them.
    pub(super) fn names() -> Vec<&'static str> {
        KINDS.iter().map(|(name, _)| *name).collect()
    }
}
