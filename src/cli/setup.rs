//! What every computing command sets up: the engine, and a way to stop it.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::str::FromStr;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::PlanFormat;
use super::{Global, interrupt, note};
use crate::engine::Engine;
use crate::error::Error;
use crate::prompt::pair::Pair;

/// A size in bytes, as `512M`, `2G` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: write 512M, 2G or a number of bytes");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(1 << shift)
            .filter(|n| *n > 0)
            .map(Bytes)
            .ok_or_else(wrong)
    }
}

/// An engine, and whether somebody watches it.
pub struct Setup {
    pub engine: Engine,
    /// Whether more is said than has to be.
    pub verbose: bool,
    /// How what would be run is said, where that is all that is asked.
    pub plan: Option<PlanFormat>,
    interactive: bool,
}

impl Setup {
    /// Opens the model and says on standard error where it will run.
    pub fn new(global: &Global) -> Result<Self, Error> {
        let setup = Self::quiet(global)?;
        setup.announce();
        Ok(setup)
    }

    /// Says on standard error where it will run, and what of the model's files is used otherwise than
    /// they might make believe. Called once everything typed has been checked.
    pub fn announce(&self) {
        let device = self.engine.device().describe(self.engine.threads());
        note(format_args!("device: {device}"));
        if self.engine.model().is_rounded() {
            note(format_args!(
                "weights: stored in double precision, rounded to single"
            ));
        }
        if let Some(tokenizer) = &self.engine.model().tokenizer {
            let [before, after] = tokenizer.around();
            let asked: Vec<String> = [(before, "before"), (after, "after")]
                .into_iter()
                .filter(|(ids, _)| !ids.is_empty())
                .map(|(ids, side)| format!("`{}` {side}", tokenizer.decode(ids).escape_debug()))
                .collect();
            if !asked.is_empty() {
                note(format_args!(
                    "tokenizer: its files put {} every text; here nothing is put there unless --bos asks",
                    asked.join(" and ")
                ));
            }
        }
    }

    /// Says which spaces of prompts and answers were probably forgotten or left over.
    pub fn doubt<'p>(&self, pairs: impl IntoIterator<Item = &'p Pair>) {
        for line in self.engine.spaces(pairs.into_iter()) {
            note(format_args!("{line}"));
        }
    }

    /// Opens the model.
    pub fn quiet(global: &Global) -> Result<Self, Error> {
        let interactive = std::io::stderr().is_terminal();
        let uploaded = bar(
            interactive,
            1,
            "{bar:40} {bytes} of {total_bytes} of weights uploaded",
        );
        let engine = Engine::open(&global.model)
            .device(global.device.clone())
            .precision(global.precision.into())
            .threads(global.threads.and_then(|n| NonZeroUsize::new(n.into())))
            .memory(global.memory.map(|bytes| bytes.0))
            .uploading(move |done, all| {
                uploaded.set_length(all);
                uploaded.set_position(done);
                if done == all {
                    uploaded.finish_and_clear();
                }
            })
            .build()?;
        interrupt::stops(engine.stop());
        Ok(Self {
            engine,
            verbose: global.verbose,
            plan: global.plan,
            interactive,
        })
    }

    /// A progress bar that is seen where somebody watches.
    pub fn bar(&self, length: u64, template: &str) -> ProgressBar {
        bar(self.interactive, length, template)
    }
}

fn bar(interactive: bool, length: u64, template: &str) -> ProgressBar {
    let target = if interactive {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length.max(1)), target);
    // templates are constants, and well-formed
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Columns of the terminal that standard output or error is, or 100.
pub fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}
