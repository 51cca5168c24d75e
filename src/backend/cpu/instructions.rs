//! Vector instructions: which this machine has, and which are used.
//!
//! The choice changes speed and no bit of any result (`tests/engine/instructions.rs`), so it is made at
//! run time, and `HEADLIGHT_CPU` makes it otherwise only to check that and to measure.

use pulp::Arch;

/// The variable that names narrower ones than the best.
const VARIABLE: &str = "HEADLIGHT_CPU";

/// Instructions that this machine lacks, or that nobody has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} is `{found}`: must be {had}, which this machine has, or not be set")]
pub struct UnknownInstructions {
    /// What the variable holds.
    pub found: String,
    /// What it may hold.
    pub had: String,
}

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// 512-bit AVX-512 (x86-64-v4).
    Avx512,
    /// 256-bit AVX2 with FMA (x86-64-v3).
    Avx2,
    /// 128-bit NEON.
    Neon,
    /// What every machine of the architecture has; fused multiply-adds may be emulated.
    Baseline,
}

impl Instructions {
    /// The best that this machine has.
    pub fn best() -> Self {
        of(Arch::new())
    }

    /// Those that `HEADLIGHT_CPU` names, or the best that this machine has if it is not set or empty.
    ///
    /// # Errors
    ///
    /// [`UnknownInstructions`] if it names any that this machine lacks.
    pub fn chosen() -> Result<Self, UnknownInstructions> {
        let Some(found) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(Self::best());
        };
        let available = Self::available();
        let named = available.iter().find(|i| found == i.name());
        named.copied().ok_or_else(|| UnknownInstructions {
            found: found.to_string_lossy().into_owned(),
            had: available
                .iter()
                .map(|i| format!("`{}`", i.name()))
                .collect::<Vec<_>>()
                .join(" or "),
        })
    }

    /// Those that are used: [`Self::chosen`], and the best where that fails.
    pub fn used() -> Self {
        Self::chosen().unwrap_or_else(|_| Self::best())
    }

    /// Everything that this machine has, best first.
    pub fn available() -> Vec<Self> {
        let all = [Self::Avx512, Self::Avx2, Self::Neon, Self::Baseline];
        all.into_iter().filter(|i| i.arch().is_some()).collect()
    }

    /// How it is written: `avx512`, `avx2`, `neon`, `baseline`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Baseline => "baseline",
        }
    }

    /// The token that proves that the machine has it.
    pub(super) fn arch(self) -> Option<Arch> {
        match self {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            Self::Baseline => Some(Arch::Scalar),
            _ => None,
        }
    }
}

fn of(arch: Arch) -> Instructions {
    match arch {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V4(_) => Instructions::Avx512,
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V3(_) => Instructions::Avx2,
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(_) => Instructions::Neon,
        _ => Instructions::Baseline,
    }
}
