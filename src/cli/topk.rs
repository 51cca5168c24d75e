//! `headlight topk`: the next-token distribution of a prompt.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::prompts::OnePrompt;
use super::setup::Setup;
use super::{Global, print};
use crate::backend::Readout;
use crate::check::check_pair;
use crate::error::Error;
use crate::model::Checkpoint;
use crate::prompt::pair::{Pair, PairRuns};
use crate::report::{Candidate, TopkFormat, write_topk};

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
        let pair = Pair {
            base: self.prompt.tokens(&setup)?,
            ..Pair::default()
        };
        check_pair(&pair, &setup.model.config)?;
        setup.announce();
        let pairs = [PairRuns {
            pair,
            runs: [].into(),
        }];
        let number = (self.number as usize).min(setup.model.config.vocab);
        let (outcome, _) = setup.execute(&pairs, number, &[])?;
        let format = match self.format {
            Format::Table => TopkFormat::Table,
            Format::Csv => TopkFormat::Csv,
            Format::Json => TopkFormat::Json,
        };
        let list = outcome.pairs.first().and_then(|p| p.base.first());
        let list = list.map_or(Vec::new(), |readout| candidates(&setup.model, readout));
        print(&mut std::io::stdout().lock(), |out| {
            write_topk(&list, format, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A readout's most probable tokens with their text.
pub fn candidates(model: &Checkpoint, readout: &Readout) -> Vec<Candidate> {
    let candidate = |(id, logit): &(u32, f64)| {
        let logprob = readout.log_probability(*logit);
        let token = model
            .tokenizer
            .as_ref()
            .map_or_else(|| format!("[{id}]"), |t| t.decode_raw(*id));
        Candidate {
            id: *id,
            token,
            prob: logprob.exp(),
            logprob,
            logit: *logit,
        }
    };
    readout.top.iter().map(candidate).collect()
}
