//! Everything that can go wrong, one variant a part of the pipeline.
//!
//! Each part owns its errors beside its code; this enum only gathers them, so that a caller has one
//! type to match on and `main` has one sentence to print.

/// Any error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that cannot be opened, or text that it has no tokens for.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// A result file or a plot.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}
