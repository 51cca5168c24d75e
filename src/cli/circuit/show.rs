//! `headlight circuit show`: a circuit as text, as a picture, and as matrices.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::sizes;
use crate::circuit::json;
use crate::cli::files::Files;
use crate::cli::setup::Setup;
use crate::cli::{Global, print};
use crate::error::Error;
use crate::report;

/// Flags of `circuit show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A circuit, as EAP-IG's JSON
    #[arg(value_name = "circuit.json")]
    circuit: PathBuf,
    /// The drawing, layers upwards: .svg or .png by its ending; .html is a page of it
    #[arg(long, value_name = "F")]
    plot: Option<PathBuf>,
    /// Scores and which edges are kept as matrices, senders × receivers: .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
}

impl Show {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if let Some(plot) = &self.plot {
            report::check_plot(plot)?;
        }
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        Files::default()
            .reads("circuit.json", Some(&self.circuit))
            .writes("--plot", self.plot.as_deref())
            .writes("--arrays", self.arrays.as_deref())
            .check(global)?;
        let setup = Setup::quiet(global)?;
        let config = &setup.engine.model().config;
        let circuit = json::read(&self.circuit, config)?;
        let mut written = Vec::new();
        if let Some(path) = &self.plot {
            report::plot_circuit(&circuit, path)?;
            written.push(path);
        }
        if let Some(path) = &self.arrays {
            let made = setup.engine.provenance(&[], true);
            report::write_arrays(circuit.matrices(), &made, path)?;
            written.push(path);
        }
        print(&mut std::io::stdout().lock(), |out| {
            writeln!(out, "{}", sizes(&circuit, config))?;
            report::write_circuit(&circuit, out)?;
            for path in &written {
                writeln!(out, "wrote {}", path.display())?;
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
