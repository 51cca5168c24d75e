//! `headlight plot`: a heat map or a page of a result file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::note;
use crate::error::Error;
use crate::report;

/// Flags of `plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// Result table: .csv, .jsonl or .parquet
    file: PathBuf,
    /// Heat map, .svg or .png by its ending, or a page, .html, which shows it all
    #[arg(long, value_name = "P")]
    out: PathBuf,
    /// Column that is drawn, or that the page opens with: prob, logprob, logit or a metric; unless given prob, of a
    /// page the first metric
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
}

impl Plot {
    pub fn run(self) -> Result<ExitCode, Error> {
        report::check_plot(&self.out)?;
        let table = report::read(&self.file)?;
        report::check_possible(&table, &self.file)?;
        report::plot_table(&table, self.value.as_deref(), &self.out)?;
        note(format_args!("wrote {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
