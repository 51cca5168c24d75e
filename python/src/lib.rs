//! `headlight._headlight`: the engine as the Python package sees it.
//!
//! Everything that people call is Python, in `python/headlight`; what stands here takes its words apart, asks the
//! engine and hands back numbers. Words mean what they mean on the command line, and are refused in the same
//! sentences. An engine lives on a thread of its own ([`worker`]), so that whoever waits can be interrupted.

// the library's own error, which is as large as it is
#![allow(clippy::result_large_err)]

mod answer;
mod ask;
mod engine;
mod fault;
mod frame;
mod graph;
mod logits;
mod memory;
mod operator;
mod worker;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _headlight {
    use super::*;

    #[pymodule_export]
    use super::answer::Answered;
    #[pymodule_export]
    use super::engine::Opened;
    #[pymodule_export]
    use super::frame::Frame;
    #[pymodule_export]
    use super::graph::Graph;
    #[pymodule_export]
    use super::logits::Cells;

    /// Runs a command line, the program's name first: the exit code.
    #[pyfunction]
    fn command(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
        py.detach(|| headlight::cli::program(arguments))
    }

    /// Every component: its canonical name, TransformerLens's hook without the layer, whether it stands outside
    /// the layers, and whether it has heads.
    #[pyfunction]
    fn components() -> Vec<(&'static str, Option<&'static str>, bool, bool)> {
        let all = headlight::Component::all();
        all.map(|c| (c.name(), c.hook(), c.is_global(), c.has_heads()))
            .collect()
    }

    /// A site as typed: its component's canonical name, and its layer where the text has one.
    #[pyfunction]
    fn site(py: Python<'_>, text: &str) -> PyResult<(&'static str, Option<usize>)> {
        let site: Result<headlight::Site, _> = text.parse();
        let site = site.map_err(|error| fault::raise(py, &error.into()))?;
        Ok((site.component.name(), site.layer))
    }

    /// A size as `--memory` takes it, in bytes.
    #[pyfunction]
    fn size(py: Python<'_>, text: &str) -> PyResult<u64> {
        let bytes: Result<headlight::cli::Bytes, String> = text.parse();
        let bytes = bytes.map_err(|error| fault::raise(py, &headlight::Error::Usage(error)))?;
        Ok(bytes.0)
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
