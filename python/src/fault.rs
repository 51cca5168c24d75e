//! What goes wrong, as Python's exceptions: each in the one sentence that the command line would print.

use headlight::Error;
use headlight::ask::experiment::ExperimentError;
use headlight::attribution::AttributionError;
use headlight::circuit::evaluate::EvaluateError;
use headlight::circuit::json::CircuitFileError;
use headlight::cli::one_line;
use headlight::data::DataError;
use headlight::execute::ExecuteError;
use headlight::graph::patching::EdgePatchingError;
use headlight::report::ReportError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Why there is no answer.
pub enum Fault {
    /// The engine says so.
    Engine(Error),
    /// A device that cannot be had.
    Device(String),
    /// A function that Python gave it failed.
    Python(PyErr),
    /// A mistake of ours, by what the panic said.
    Panic(String),
    /// The engine is gone, or this is not the process that opened it.
    Gone(&'static str),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Fault {
    /// As an exception.
    pub fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Engine(error) => raise(py, &error),
            Self::Device(said) => exception(py, "DeviceError", &one_line(&said)),
            Self::Python(error) => error,
            Self::Panic(said) => exception(
                py,
                "HeadlightError",
                &format!("headlight failed, which is a mistake of its own: {said}"),
            ),
            Self::Gone(why) => PyRuntimeError::new_err(why),
        }
    }
}

/// An error of the library as an exception.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, kind(error), &one_line(&error.to_string()))
}

/// The exception's class, in `headlight.errors`.
fn kind(error: &Error) -> &'static str {
    let of_execution = |error: &ExecuteError| match error {
        ExecuteError::Memory { .. } => "MemoryLimitError",
        ExecuteError::Device(_) => "DeviceError",
        ExecuteError::Interrupted => "Interrupted",
        _ => "PlanError",
    };
    match error {
        _ if error.is_interruption() => "Interrupted",
        Error::Model(_) => "ModelError",
        Error::Data(DataError::Read { .. }) => "FileError",
        Error::Data(_) | Error::Pyvene(_) => "DataError",
        Error::Device(_) => "DeviceError",
        Error::Experiment(ExperimentError::Read { .. }) => "FileError",
        Error::File(_)
        | Error::Output(_)
        | Error::CircuitFile(CircuitFileError::File(_))
        | Error::Report(ReportError::File(_)) => "FileError",
        Error::Execute(error)
        | Error::EdgePatching(EdgePatchingError::Execute(error))
        | Error::Attribution(AttributionError::Execute(error))
        | Error::Circuit(EvaluateError::Execute(error)) => of_execution(error),
        Error::Usage(said) if said.starts_with("the GPU cannot be used") => "DeviceError",
        _ => "PlanError",
    }
}

fn exception(py: Python<'_>, class: &str, sentence: &str) -> PyErr {
    let made = || -> PyResult<PyErr> {
        let class = py.import("headlight.errors")?.getattr(class)?;
        Ok(PyErr::from_value(class.call1((sentence,))?))
    };
    made().unwrap_or_else(|error| error)
}
