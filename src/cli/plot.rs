//! `headlight plot`: a heat map of a result file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::note;
use crate::error::Error;
use crate::report;
use crate::report::HeatMap;

/// Flags of `plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// Result table: .csv, .jsonl or .parquet
    file: PathBuf,
    /// Heat map: .svg or .png by its ending
    #[arg(long, value_name = "P")]
    out: PathBuf,
    /// Column that is drawn: prob, logprob, logit or a metric
    #[arg(long, default_value = "prob", value_name = "COLUMN")]
    value: String,
}

impl Plot {
    pub fn run(self) -> Result<ExitCode, Error> {
        report::check_plot(&self.out)?;
        let table = report::read(&self.file)?;
        report::check_possible(&table, &self.file)?;
        report::plot(&HeatMap::new(&table, &self.value)?, &self.out)?;
        note(format_args!("wrote {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
