//! The `headlight` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    headlight::cli::program(std::env::args_os()).into()
}
