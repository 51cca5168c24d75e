//! `headlight info`: the model, the devices, and which would be used and why.

use std::process::ExitCode;

use super::setup::Setup;
use super::{Global, print};
use crate::backend::cpu::Instructions;
use crate::error::Error;
use crate::text::counted;

pub fn run(global: &Global) -> Result<ExitCode, Error> {
    let engine = Setup::quiet(global)?.engine;
    let (model, threads) = (engine.model(), engine.threads());
    let c = &model.config;
    print(&mut std::io::stdout().lock(), |out| {
        writeln!(out, "model      {}", model.name)?;
        writeln!(
            out,
            "shape      {} layers, {} heads of {}, width {}, inner {}, vocabulary {}, context {}",
            c.layers,
            c.heads,
            c.head_width(),
            c.width,
            c.inner,
            c.vocab,
            c.context
        )?;
        let head = if c.tied { "tied" } else { "its own" };
        writeln!(
            out,
            "weights    {:.1} M parameters, {:.1} MB, {}{}; unembedding {head}; activation {}",
            model.parameters() as f64 / 1e6,
            model.bytes() as f64 / 1e6,
            model.token_embedding().dtype(),
            if model.is_rounded() {
                " rounded from F64"
            } else {
                ""
            },
            c.activation.name()
        )?;
        writeln!(out, "hash       {}", model.hash())?;
        let tokenizer = model
            .tokenizer
            .as_ref()
            .map_or("none: give token ids".into(), |t| {
                format!("{} tokens", t.tokens())
            });
        writeln!(out, "tokenizer  {tokenizer}")?;
        writeln!(
            out,
            "cpu        {}, {}",
            counted(threads, "thread"),
            Instructions::used().name()
        )?;
        writeln!(out, "gpu        {}", engine.device().describe_gpu())?;
        writeln!(out, "would use  {}", engine.device().describe(threads))
    })?;
    Ok(ExitCode::SUCCESS)
}
