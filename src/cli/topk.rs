//! `headlight topk`: the next-token distribution of a prompt.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::prompts::OnePrompt;
use super::setup::Setup;
use super::{Global, print};
use crate::check::check_pair;
use crate::error::Error;
use crate::prompt::pair::Pair;
use crate::report::{TopkFormat, write_topk};

/// Flags of `topk`.
#[derive(Debug, Args)]
pub struct Topk {
    #[command(flatten)]
    prompt: OnePrompt,
    /// How many tokens
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    number: u32,
    /// How they are written
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

impl Topk {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let setup = Setup::quiet(global)?;
        let ids = self.prompt.tokens(&setup.engine)?;
        let pair = Pair {
            base: ids.clone(),
            ..Pair::default()
        };
        check_pair(&pair, &setup.engine.model().config)?;
        setup.announce();
        setup.doubt([&pair]);
        let list = setup.engine.topk(&ids, self.number as usize)?;
        let format = match self.format {
            Format::Table => TopkFormat::Table,
            Format::Csv => TopkFormat::Csv,
            Format::Json => TopkFormat::Json,
        };
        print(&mut std::io::stdout().lock(), |out| {
            write_topk(&list, format, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
