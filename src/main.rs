//! The `headlight` binary: parses flags, runs the command, prints errors, exits.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use headlight::cli::Cli;

fn main() -> ExitCode {
    headlight::cli::begin();
    let cli = match Cli::try_parse_from(headlight::cli::arguments()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) if error.is_interruption() => headlight::cli::interrupted(),
        Err(error) => fail(&error.to_string(), 2),
    }
}

/// What clap says: help and versions as they are, everything else as one sentence.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        ErrorKind::InvalidUtf8 => fail(
            "an argument is not UTF-8: give text as UTF-8, or token ids",
            2,
        ),
        _ => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let said = text
                .lines()
                .take_while(|l| !l.starts_with("Usage: ") && !l.starts_with("For more"));
            let said: Vec<&str> = said
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            fail(&said.join(" "), 2)
        }
    }
}

/// Prints one sentence on one line, whatever the input smuggled into it.
fn fail(sentence: &str, code: u8) -> ExitCode {
    let line: String = sentence
        .chars()
        .map(|c| {
            if c.is_control() {
                c.escape_debug().to_string()
            } else {
                c.to_string()
            }
        })
        .collect();
    // nobody may be listening
    let _ = writeln!(std::io::stderr(), "headlight: {line}");
    ExitCode::from(code)
}
