//! The program as a whole: arguments in, exit code out. Nothing else prints errors.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::{Cli, clock, interrupt, join_lists};

/// Runs a command line, whose first argument is the program's name, and says its errors on standard error:
/// the exit code. From here on whoever asks the process to end is heard.
pub fn program(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    clock::start();
    interrupt::watch();
    let cli = match Cli::try_parse_from(join_lists(arguments.into_iter())) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.run() {
        Ok(code) => u8::from(code != ExitCode::SUCCESS),
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) if error.is_interruption() => interrupt::end(),
        Err(error) => fail(&error.to_string(), 2),
    }
}

/// What clap says: help and versions as they are, everything else as one sentence.
fn usage(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
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
fn fail(sentence: &str, code: u8) -> u8 {
    let line = one_line(sentence);
    // nobody may be listening
    let _ = writeln!(std::io::stderr(), "headlight: {line}");
    code
}

/// A sentence on one line, whatever the input smuggled into it.
pub fn one_line(sentence: &str) -> String {
    let visible = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    sentence.chars().map(visible).collect()
}
