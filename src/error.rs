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
    /// A prompt or target on the command line that does not fit the model.
    #[error(transparent)]
    Check(#[from] crate::check::CheckError),
    /// A sweep's flags.
    #[error(transparent)]
    Grid(#[from] crate::ask::grid::GridError),
    /// Metrics that cannot be read.
    #[error(transparent)]
    Metric(#[from] crate::results::metric::MetricError),
    /// A component's name.
    #[error(transparent)]
    Component(#[from] crate::site::UnknownComponent),
    /// An experiment file.
    #[error(transparent)]
    Experiment(#[from] crate::ask::experiment::ExperimentError),
    /// A data set.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// What pyvene saved.
    #[error(transparent)]
    Pyvene(#[from] crate::pyvene::PyveneError),
    /// Nodes of the residual graph that are not there.
    #[error(transparent)]
    Edge(#[from] crate::graph::edge::EdgeError),
    /// Edges that cannot be patched.
    #[error(transparent)]
    EdgePatching(#[from] crate::graph::patching::EdgePatchingError),
    /// What cannot be attributed.
    #[error(transparent)]
    Attribution(#[from] crate::attribution::AttributionError),
    /// A circuit that cannot be run.
    #[error(transparent)]
    Circuit(#[from] crate::circuit::evaluate::EvaluateError),
    /// Scores of which there is no circuit.
    #[error(transparent)]
    Scores(#[from] crate::circuit::scores::ScoresError),
    /// A circuit's file.
    #[error(transparent)]
    CircuitFile(#[from] crate::circuit::json::CircuitFileError),
    /// What a lens cannot read.
    #[error(transparent)]
    Lens(#[from] crate::lens::LensError),
    /// Paths that lead nowhere.
    #[error(transparent)]
    Path(#[from] crate::graph::path::PathError),
    /// What cannot be traced.
    #[error(transparent)]
    Tracing(#[from] crate::tracing::runs::TracingError),
    /// A named tensor.
    #[error(transparent)]
    Vector(#[from] crate::files::tensors::VectorError),
    /// A named basis.
    #[error(transparent)]
    Basis(#[from] crate::basis::read::ReadBasisError),
    /// Prompts of a mean.
    #[error(transparent)]
    Mean(#[from] crate::ask::experiment::MeanError),
    /// Runs that do not fit the model or the memory, or an interruption.
    #[error(transparent)]
    Execute(#[from] crate::execute::ExecuteError),
    /// A device that failed.
    #[error(transparent)]
    Device(#[from] crate::backend::DeviceError),
    /// Flags that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Standard output went away or is full.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] std::io::Error),
    /// A file that cannot be written or read.
    #[error(transparent)]
    File(#[from] crate::files::error::FileError),
    /// A run's folder.
    #[error(transparent)]
    Folder(#[from] crate::folder::error::FolderError),
    /// A result file or a plot.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}

impl Error {
    /// Whether the reader of a pipe went away, which is how `headlight … | head` ends.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Error::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            Error::Report(error) => error.is_broken_pipe(),
            Error::File(error) => error.is_broken_pipe(),
            _ => false,
        }
    }

    /// Whether the user asked to stop.
    pub fn is_interruption(&self) -> bool {
        use crate::attribution::AttributionError;
        use crate::circuit::evaluate::EvaluateError;
        use crate::execute::ExecuteError;
        use crate::graph::patching::EdgePatchingError;
        matches!(
            self,
            Error::Execute(ExecuteError::Interrupted)
                | Error::EdgePatching(EdgePatchingError::Execute(ExecuteError::Interrupted))
                | Error::Circuit(EvaluateError::Execute(ExecuteError::Interrupted))
                | Error::Attribution(AttributionError::Execute(ExecuteError::Interrupted))
        )
    }
}
