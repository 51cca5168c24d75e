//! `headlight status`: how far a run in a folder is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::print;
use super::progress::duration;
use crate::error::Error;
use crate::folder::parts::RunFolder;
use crate::folder::status::{State, Status};

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusCommand {
    /// A folder that --out DIR/ made
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// A table for people or one JSON object
    #[arg(long, value_enum, default_value = "table", value_name = "table|json")]
    format: StatusFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    Table,
    Json,
}

fn word(state: State) -> &'static str {
    match state {
        State::Done => "done",
        State::Running => "running",
        State::Stopped => "stopped",
    }
}

impl StatusCommand {
    pub fn run(self) -> Result<ExitCode, Error> {
        let status = Status::of(&RunFolder::open(&self.folder)?)?;
        print(&mut std::io::stdout().lock(), |out| {
            if self.format == StatusFormat::Json {
                return writeln!(out, "{}", serde_json::to_string_pretty(&status)?);
            }
            let share = match status.flops {
                0 => String::new(),
                all => format!(", {:.0}%", 100.0 * status.flops_done as f64 / all as f64),
            };
            writeln!(out, "{}", status.command)?;
            writeln!(
                out,
                "{}: {} of {} runs, {} of {} parts{share}, {:.1} MB",
                word(status.state),
                status.runs_done,
                status.runs,
                status.parts_done,
                status.parts,
                status.bytes as f64 / 1e6
            )?;
            if let Some(seconds) = status.seconds_left.filter(|_| status.state != State::Done) {
                writeln!(out, "{} left", duration(seconds))?;
            }
            let several = status.shards.len() > 1;
            for shard in &status.shards {
                if several {
                    writeln!(
                        out,
                        "shard {}/{}  {:8} {} of {} runs, {} of {} parts",
                        shard.shard,
                        status.shards.len(),
                        word(shard.state),
                        shard.runs_done,
                        shard.runs,
                        shard.parts_done,
                        shard.parts
                    )?;
                }
                for problem in &shard.problems {
                    writeln!(out, "{problem}")?;
                }
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
