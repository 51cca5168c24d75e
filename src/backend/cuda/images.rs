//! The compiled kernels: one fatbin a source, put into the program by build.rs.
//!
//! Built without nvcc, an image is a placeholder that names its source; no driver loads it.

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// One source of `kernels/`, compiled.
pub struct Image {
    /// The source's name without `.cu`.
    pub name: &'static str,
    /// A fatbin, or a placeholder.
    pub data: &'static [u8],
}
