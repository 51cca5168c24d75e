//! A part of a folder in the making, which whoever catches a signal closes under another name.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::note;
use crate::files::error::FileError;
use crate::folder::cut::PartSpan;
use crate::report::TableWriter;
use crate::results::averages::{Averages, BLOCK};
use crate::results::blocks::BlockAverage;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{PartDone, Provenance, Row};

/// A part's file, with what is known of how it was made.
#[derive(Clone)]
pub struct PartInMaking {
    /// Index of the first pair.
    first: usize,
    open: Arc<Mutex<Option<Making>>>,
}

struct Making {
    writer: TableWriter,
    made: Provenance,
    /// Of a part that keeps averages.
    blocks: Option<Blocks>,
}

/// Averages of one block after the other.
struct Blocks {
    averages: Averages,
    /// The block whose first pairs are not in the part: of its others nothing is added up, so that whoever has the first
    /// can go on adding.
    torn: Option<usize>,
    /// Whether what is added up is each pair's own mean.
    of_means: bool,
    /// The pair of the last run.
    pair: usize,
    /// How far it is ...
    done: PartDone,
    /// ... and was when the last pair ended.
    closed: PartDone,
}

impl Blocks {
    fn new(averages: Averages, part: &PartSpan) -> Self {
        let done = PartDone {
            next: part.from.into(),
            runs: 0,
        };
        let first = part.from.pair;
        Self {
            of_means: averages.is_of_means(),
            torn: (!first.is_multiple_of(BLOCK)).then_some(first / BLOCK),
            averages,
            pair: first,
            done,
            closed: done,
        }
    }

    /// Writes what was added up, where a run or average of another pair comes that is not added to it.
    fn turn(&mut self, pair: usize, writer: &mut TableWriter) -> Result<(), FileError> {
        if pair == self.pair {
            return Ok(());
        }
        self.closed = self.done;
        let block = std::mem::replace(&mut self.pair, pair) / BLOCK;
        self.averages.close();
        match block != pair / BLOCK || self.torn == Some(block) {
            true => self.write(writer),
            false => Ok(()),
        }
    }

    fn write(&mut self, writer: &mut TableWriter) -> Result<(), FileError> {
        let taken = self.averages.take();
        let averaged = self.averages.averaged();
        let rows = taken.iter().map(|block| block.to_row(averaged));
        writer.rows(&rows.collect::<Vec<_>>())
    }

    fn run(&mut self, result: &RunResult<'_>, writer: &mut TableWriter) -> Result<(), FileError> {
        self.turn(result.pair, writer)?;
        self.averages.run(result)?;
        self.done = PartDone {
            next: (result.pair, result.run + 1),
            runs: self.done.runs + 1,
        };
        match self.torn == Some(result.pair / BLOCK) && !self.of_means {
            true => self.write(writer),
            false => Ok(()),
        }
    }

    fn block(&mut self, block: &BlockAverage, writer: &mut TableWriter) -> Result<(), FileError> {
        self.turn(block.pair, writer)?;
        self.averages.merge(block);
        match self.torn == Some(block.pair / BLOCK) {
            true => self.write(writer),
            false => Ok(()),
        }
    }

    /// How far what can be written now is.
    fn done(&self) -> PartDone {
        match self.of_means {
            true => self.closed,
            false => self.done,
        }
    }
}

impl PartInMaking {
    /// A part that is written row by row or, with these, average by average.
    pub fn new(
        part: &PartSpan,
        (writer, made): (TableWriter, Provenance),
        averages: Option<Averages>,
    ) -> Self {
        let making = Making {
            writer,
            made,
            blocks: averages.map(|averages| Blocks::new(averages, part)),
        };
        Self {
            first: part.from.pair,
            open: Arc::new(Mutex::new(Some(making))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Making>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes rows that were written when it was stopped.
    pub fn rows(&self, rows: &[Row]) -> Result<(), FileError> {
        let mut open = self.lock();
        open.as_mut()
            .map_or(Ok(()), |making| making.writer.rows(rows))
    }

    /// Takes over what was known of clean prompts when it was stopped, and how far it was.
    pub fn knows(&self, known: &Provenance) {
        let Some(making) = &mut *self.lock() else {
            return;
        };
        for (pair, known) in making.made.pairs.iter_mut().zip(&known.pairs) {
            pair.clean.clone_from(&known.clean);
        }
        let done = known.part.as_ref().and_then(|part| part.done);
        if let (Some(blocks), Some(done)) = (&mut making.blocks, done) {
            (blocks.done, blocks.closed) = (done, done);
        }
    }

    /// The part is whole.
    pub fn finish(self) -> Result<(), FileError> {
        let Some(mut making) = self.lock().take() else {
            return Ok(());
        };
        if let Some(blocks) = &mut making.blocks {
            blocks.averages.close();
            blocks.write(&mut making.writer)?;
        }
        making.writer.finish(&making.made)
    }

    /// Closes it under another name with what there is, and keeps everybody else waiting until the process ends.
    pub fn close(&self, open: PathBuf, said: String) -> Box<dyn FnMut() + Send> {
        let part = self.clone();
        Box::new(move || {
            let mut making = part.lock();
            let written = making.take().map(|making| making.stop(&open));
            if let Some(Err(error)) = written {
                note(format_args!("headlight: {error}"));
            }
            note(format_args!("{said}"));
            // nobody may begin another file before the process ends
            std::mem::forget(making);
        })
    }
}

impl Making {
    /// Closes it with what there is.
    fn stop(mut self, open: &std::path::Path) -> Result<(), FileError> {
        if let Some(blocks) = &mut self.blocks {
            blocks.write(&mut self.writer)?;
            if let Some(part) = &mut self.made.part {
                part.done = Some(blocks.done());
            }
        }
        self.writer.finish_as(open, &self.made)
    }
}

impl Gather for PartInMaking {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let mut open = self.lock();
        let Some(making) = &mut *open else {
            return Ok(());
        };
        let pair = making.made.pairs.get_mut(result.pair - self.first);
        if let Some(pair) = pair.filter(|pair| pair.clean.is_empty()) {
            pair.clean.clone_from(result.clean);
        }
        match &mut making.blocks {
            Some(blocks) => blocks.run(result, &mut making.writer),
            None => making.writer.rows(result.rows),
        }
    }

    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        match &mut *self.lock() {
            Some(Making {
                blocks: Some(blocks),
                writer,
                ..
            }) => blocks.block(block, writer),
            _ => Ok(()),
        }
    }
}
