//! `headlight topk`: the next-token distribution of a prompt, or of each prompt of a data set.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::prompts::OnePrompt;
use super::setup::Setup;
use super::{Global, print};
use crate::error::Error;
use crate::report::{Told, TopkFormat, write_topk, write_topk_of_rows};

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
        let pairs = self.prompt.pairs(&setup.engine)?;
        setup.announce();
        setup.doubt(&pairs);
        let prompts: Vec<&[u32]> = pairs.iter().map(|pair| &pair.base[..]).collect();
        let lists = setup.engine.topk_of(&prompts, self.number as usize)?;
        let format = match self.format {
            Format::Table => TopkFormat::Table,
            Format::Csv => TopkFormat::Csv,
            Format::Json => TopkFormat::Json,
        };
        let of_data = self.prompt.file().is_some();
        let engine = &setup.engine;
        print(&mut std::io::stdout().lock(), |out| match &lists[..] {
            [list] if !of_data => write_topk(list, format, out),
            lists => {
                let text = |ids: &[u32]| match &engine.model().tokenizer {
                    Some(tokenizer) => tokenizer.decode(ids),
                    None => format!("{ids:?}"),
                };
                let told = pairs.iter().zip(lists).map(|(pair, top)| Told {
                    row: pair.row.clone(),
                    prompt: text(&pair.base),
                    top,
                });
                write_topk_of_rows(&told.collect::<Vec<_>>(), format, out)
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
