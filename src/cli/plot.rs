//! `headlight plot`: a heat map or a page of a result file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::note;
use super::picture::Look;
use crate::error::Error;
use crate::report;

/// Flags of `plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// Result table: .csv, .jsonl or .parquet
    file: PathBuf,
    /// Heat map, .svg, .png or .pdf by its ending, or a page, .html, which shows it all
    #[arg(long, value_name = "P")]
    out: PathBuf,
    #[command(flatten)]
    look: Look,
}

impl Plot {
    pub fn run(self) -> Result<ExitCode, Error> {
        report::check_plot(&self.out)?;
        self.look.check(Some(&self.out))?;
        let table = report::read(&self.file)?;
        report::check_possible(&table, &self.file)?;
        let value = match report::are_whole_edges(&table) {
            true => self.look.value_of_edges(&table.metrics),
            false => self.look.value(),
        };
        let look = (&value, &self.look.style());
        report::plot_table(&table, look, &self.out)?;
        note(format_args!("wrote {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
