//! The compiled kernels: one fatbin a source, put into the program by build.rs.
//!
//! Built without nvcc, an image is a placeholder that names its source; no driver loads it.

use super::device::Unavailable;

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// One source of `kernels/`, compiled.
pub struct Image {
    /// The source's name without `.cu`.
    pub name: &'static str,
    /// A fatbin, or a placeholder.
    pub data: &'static [u8],
}

/// What the images were compiled by, and what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compiler {
    /// The CUDA release, as (13, 0).
    pub release: (u32, u32),
    /// Chips that there is machine code for, as `80` or `90a`; PTX serves the others.
    pub chips: &'static [&'static str],
    /// Whether the images are compressed by what CUDA 12.4 brought.
    pub compresses: bool,
}

/// Which drivers read compressed images.
const READS_COMPRESSED: (u32, u32) = (12, 4);

impl Compiler {
    /// Whether there is machine code that a chip runs. Code runs on later chips of the same major version, but for
    /// that with a letter, which runs on its own chip.
    pub fn has_code_for(&self, capability: u32) -> bool {
        self.chips.iter().any(|chip| match chip.strip_suffix('a') {
            Some(own) => own.parse() == Ok(capability),
            None => chip
                .parse()
                .is_ok_and(|chip: u32| chip / 10 == capability / 10 && chip <= capability),
        })
    }

    /// What a driver that serves a CUDA release lacks for the images, if anything, on a chip of this name.
    ///
    /// # Errors
    ///
    /// [`Unavailable`], naming it.
    pub fn served_by(
        &self,
        driver: (u32, u32),
        name: &str,
        capability: u32,
    ) -> Result<(), Unavailable> {
        let as_text = |(major, minor)| format!("{major}.{minor}");
        if driver.0 < self.release.0 {
            return Err(Unavailable::DriverTooOld {
                compiler: self.release.0,
                driver: as_text(driver),
            });
        }
        if self.compresses && driver < READS_COMPRESSED {
            return Err(Unavailable::Compressed {
                driver: as_text(driver),
            });
        }
        // machine code runs under every minor release; PTX is compiled by drivers of its own or a later one
        if driver < self.release && !self.has_code_for(capability) {
            return Err(Unavailable::PtxTooNew {
                name: name.to_owned(),
                compiler: as_text(self.release),
                driver: as_text(driver),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NVCC: Compiler = Compiler {
        release: (12, 8),
        chips: &["80", "86", "90a", "100"],
        compresses: true,
    };

    #[test]
    fn code_runs_on_later_chips_of_its_major_version_and_code_with_a_letter_on_its_own() {
        for (capability, has) in [
            (80, true),
            (87, true),
            (89, true),
            (90, true),
            (91, false),
            (100, true),
            (103, true),
            (110, false),
            (120, false),
        ] {
            assert_eq!(NVCC.has_code_for(capability), has, "{capability}");
        }
    }

    #[test]
    fn a_driver_is_refused_for_what_it_lacks() {
        let lacks = |nvcc: Compiler, driver, capability| match nvcc
            .served_by(driver, "a chip", capability)
        {
            Ok(()) => String::new(),
            Err(why) => why.to_string(),
        };
        let nothing = String::new();
        assert_eq!(lacks(NVCC, (12, 8), 120), nothing);
        assert_eq!(lacks(NVCC, (13, 0), 120), nothing);
        // another minor release runs machine code
        assert_eq!(lacks(NVCC, (12, 4), 90), nothing);
        assert!(lacks(NVCC, (12, 7), 120).starts_with("a chip has no machine code"));
        assert!(lacks(NVCC, (12, 3), 90).contains("compressed"));
        let plain = Compiler {
            compresses: false,
            ..NVCC
        };
        assert_eq!(lacks(plain, (12, 3), 90), nothing);
        assert!(lacks(plain, (11, 8), 90).contains("serves CUDA 11.8 at most"));
    }
}
