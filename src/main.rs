//! The `headlight` binary: parses flags, runs the command, prints errors, exits.

use std::process::ExitCode;

use clap::Parser;
use headlight::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are no errors; everything else is bad input
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) if error.is_interruption() => {
            eprintln!("headlight: interrupted; nothing was written");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("headlight: {:#}", anyhow::Error::from(error));
            ExitCode::from(2)
        }
    }
}
