//! What the model says after each run: the most probable tokens, as the reference tutorial prints them.

use std::io::{self, Write};

use crate::files::error::FileError;
use crate::model::Checkpoint;
use crate::report::{TopkFormat, one_line, write_topk};
use crate::results::candidate::Candidate;
use crate::results::rows::{Gather, RunResult};
use crate::text::counted;

/// How many runs are told of; the table has all.
const SHOWN: usize = 20;

/// The first runs' most probable tokens.
pub struct Tops<'a> {
    model: &'a Checkpoint,
    /// Whether runs are told apart by their pairs.
    several: bool,
    runs: Vec<(String, Vec<Candidate>)>,
    more: usize,
}

impl<'a> Tops<'a> {
    pub fn new(model: &'a Checkpoint, several: bool) -> Self {
        Self {
            model,
            several,
            runs: Vec::new(),
            more: 0,
        }
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (name, top) in &self.runs {
            writeln!(out, "\nafter {name}")?;
            write_topk(top, TopkFormat::Table, out)?;
        }
        match self.more {
            0 => Ok(()),
            more => writeln!(out, "\n… and {}: --out has all", counted(more, "more run")),
        }
    }
}

impl Gather for Tops<'_> {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        if self.runs.len() == SHOWN {
            self.more += 1;
            return Ok(());
        }
        let first = result.rows.first();
        let name = first.and_then(|row| row.name.as_deref()).map(one_line);
        let mut name = name.unwrap_or_else(|| format!("run {}", result.run));
        if self.several {
            let pair = first.map_or(result.pair as u32, |row| row.pair);
            name = format!("{name}, pair {pair}");
        }
        self.runs
            .push((name, Candidate::all(self.model, result.read.run)));
        Ok(())
    }
}
