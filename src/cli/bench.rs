use std::process::ExitCode;
use clap::Args;
use super::Global;
use crate::error::Error;
#[derive(Debug, Args)]
pub struct Bench {}
impl Bench {
    pub fn run(self, _global: &Global) -> Result<ExitCode, Error> { Ok(ExitCode::SUCCESS) }
}
