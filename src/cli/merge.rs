//! `headlight merge`: the parts of a run as one result file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::error::Error;
use crate::files::parts;
use crate::folder::merge::Merge;
use crate::report;

/// Flags of `merge`.
#[derive(Debug, Args)]
pub struct MergeCommand {
    /// Folders that --out DIR/ made: one, or those of several machines' shards, in any order
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Result table: .csv, .jsonl or .parquet by its ending
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

impl MergeCommand {
    pub fn run(self) -> Result<ExitCode, Error> {
        report::check_writable(&self.out)?;
        // what killed shards left goes with the last of them
        self.folders.iter().for_each(|folder| parts::tidy(folder));
        let written = Merge::of(&self.folders)?.write(&self.out)?;
        print(&mut std::io::stdout().lock(), |out| {
            written
                .iter()
                .try_for_each(|path| writeln!(out, "wrote {}", path.display()))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
