//! From a question to its answer's files and to what people see: every command that patches goes this way.

use std::io::{StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::collect::CollectFile;
use super::files::Files;
use super::folder::OpenRun;
use super::picture::Picture;
use super::plan;
use super::progress::Progress;
use super::setup::Setup;
use super::table_file::{Seen, TableFile, write_done};
use super::{Global, note, print};
use crate::engine::{Answer, Form, Question};
use crate::error::Error;
use crate::files::error::FileError;
use crate::report::{self, CsvStream, Drawing, HeatMap, ReportError, TableWriter, write_strongest};
use crate::results::array::Values;
use crate::results::averages::Averages;
use crate::results::rows::{Gather, RunResult};
use crate::results::strongest::Strongest;
use crate::results::table::Provenance;

/// Where results go.
#[derive(Debug, Args)]
pub struct OutputFlags {
    #[command(flatten)]
    pub table: TableFile,
    #[command(flatten)]
    picture: Picture,
}

/// What a command adds to its question.
#[derive(Default)]
pub struct Also<'a> {
    /// Where arrays go.
    pub arrays: Option<&'a Path>,
    /// Where what is collected goes.
    pub collect: Option<&'a CollectFile>,
    /// Whether averages over pairs stand beside the table.
    pub averages: bool,
    /// Whether pairs without targets get some.
    pub targets: bool,
    /// What stands under the heat map.
    pub notes: Vec<String>,
}

impl OutputFlags {
    /// Refuses files that could not be written, before anything is computed.
    pub fn check(&self, global: &Global) -> Result<(), Error> {
        self.table.check(global)?;
        let shard = self.table.parts.is_shard();
        self.table
            .check_folder(&[("--plot", shard && self.picture.plot.is_some())])?;
        self.picture.check()
    }

    /// What is written.
    pub fn files(&self, files: Files) -> Files {
        let files = self.table.files(files);
        files.writes("--plot", self.picture.plot.as_deref())
    }

    /// Answers a question.
    pub fn answer(
        &self,
        setup: &Setup,
        question: Question<'_>,
        also: Also<'_>,
    ) -> Result<ExitCode, Error> {
        answer(setup, &self.table, Some(&self.picture), question, also)
    }
}

/// Answers a question: with a heat map where there is a picture, else with the strongest rows alone.
pub fn answer(
    setup: &Setup,
    file: &TableFile,
    picture: Option<&Picture>,
    question: Question<'_>,
    also: Also<'_>,
) -> Result<ExitCode, Error> {
    let mut question = question.metrics(&file.metric)?;
    if let Some(collect) = also.collect {
        collect.check(&question.pairs)?;
        file.check_folder(&[("--collect", collect.collect.is_some())])?;
    }
    file.check_folder(&[("--arrays", also.arrays.is_some())])?;
    let averages = also.averages && file.path().is_some();
    if let Some(path) = file.path().filter(|_| averages) {
        report::check_summary(path)?;
    }
    let axes = match also.arrays {
        Some(path) => question.axes()?.map(|axes| (axes, path)),
        None => None,
    };
    let plot = picture.is_some_and(|picture| picture.plot.is_some());
    if plot && !also.targets {
        check_plot(&question)?;
    }
    if let Some(format) = setup.plan {
        return plan::write(setup, file, &question, format);
    }
    setup.announce();
    if also.targets {
        setup.engine.default_targets(&mut question.pairs)?;
        if axes.is_some() || matches!(question.form, Form::Preset { .. }) {
            question.default_metric();
        }
        if plot {
            check_plot(&question)?;
        }
    }

    let mut passing = Passing::new(
        setup,
        file,
        (&question, also.averages),
        if picture.is_some() { 10 } else { 20 },
    )?;
    // of a shard nothing is drawn: most of it would be missing
    let whole = !file.parts.is_shard();
    let averages = averages || whole && passing.folder.is_some();
    let drawn_in = picture.filter(|_| whole);
    let columns = question.columns();
    let first = question.metrics.first();
    let drawn = first.map_or_else(|| "prob".to_owned(), ToString::to_string);
    passing.alone = axes.is_none() && also.collect.is_none_or(|c| c.collect.is_none()) && !plot;
    let mut averages = averages.then(|| Averages::new(question.over(), &question.metrics));
    let mut drawing = drawn_in
        .map(|_| Drawing::new(&columns, &drawn))
        .transpose()?;
    let mut values = axes
        .as_ref()
        .map(|(axes, path)| question.values(axes, path));
    let mut collected = also.collect.and_then(CollectFile::activations);
    let mut gather: Vec<&mut dyn Gather> = Vec::new();
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(drawing.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(values.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(collected.iter_mut().map(|g| g as &mut dyn Gather));
    let done = passing.ask(setup, &question, gather)?;

    if let Some(averages) = &mut averages {
        averages.close();
    }
    let made = file.provenance(&setup.engine, &question.pairs);
    if let (Some(collect), Some(collected)) = (also.collect, collected) {
        collect.write(&setup.engine, collected)?;
    }
    let mut written = Vec::new();
    let mut arrays = Vec::new();
    let found = values.map(Values::finish).transpose()?;
    if let (Some(mut found), Some((axes, path))) = (found, axes) {
        found.extend(axes.about());
        found.extend(question.rows());
        let made = setup.engine.provenance(&question.pairs, true);
        report::write_arrays(found, &made, path)?;
        match picture {
            Some(_) => note(format_args!("wrote {}", path.display())),
            None => arrays.push(path.to_owned()),
        }
    }
    let map = drawing.map(|drawing| drawing.finish(&made)).transpose();
    let map = match map {
        Ok(map) => map,
        // runs of several patches have no place in a grid, and several runs none in one cell; only who
        // asked for a plot minds
        Err(ReportError::NothingToPlot(_) | ReportError::Crowded { .. }) if !plot => None,
        Err(error) => return Err(error.into()),
    };
    let of = (setup, &question);
    passing.write(of, file, &made, averages.as_ref(), &mut written)?;
    written.extend(arrays);
    let map = map.map(|mut map| {
        map.notes.extend(also.notes);
        map
    });
    if let (Some(picture), Some(map)) = (picture, &map) {
        picture.write(map, &mut written)?;
    }
    let strongest = passing.strongest.clone();
    let patched = question.patched();
    passing.say(setup, file, &question, (done, &written), |rows, out| {
        if let (Some(picture), Some(map)) = (picture, &map) {
            writeln!(out)?;
            picture.render(map, file, out)?;
        }
        match picture {
            Some(_) if rows == 0 => return Ok(()),
            Some(_) => writeln!(out, "\nstrongest")?,
            None => writeln!(out, "\nstrongest edges")?,
        }
        write_strongest(strongest.rows(), patched, out)
    })
}

/// Refuses a plot of runs that have no place in one, before anything is computed.
fn check_plot(question: &Question<'_>) -> Result<(), Error> {
    let mut drawing = Drawing::new(&[], "prob")?;
    question.preview(&mut drawing);
    let _: HeatMap = drawing.finish(&Provenance::default())?;
    Ok(())
}

/// What the rows of every command pass through.
pub struct Passing {
    table: Option<TableWriter>,
    stdout: Option<ToStdout>,
    /// The folder that is written instead of a table.
    pub folder: Option<OpenRun>,
    progress: Option<Progress>,
    kept: u64,
    /// The strongest rows.
    pub strongest: Strongest,
    seen: Seen,
    /// Whether nothing is written but the table.
    pub alone: bool,
}

impl Passing {
    /// Rows of a question, of which so many are shown; whether a file of them has averages beside it.
    pub fn new(
        setup: &Setup,
        file: &TableFile,
        (question, averages): (&Question<'_>, bool),
        strongest: usize,
    ) -> Result<Self, Error> {
        let columns = question.names();
        let table = file.path().map(|path| TableWriter::create(path, &columns));
        let stdout = file.is_stdout().then(|| ToStdout::new(&columns));
        let costs = question.costs();
        let begin = |path| {
            let flags = &file.parts;
            OpenRun::begin(path, flags, setup, question, (&costs, averages))
        };
        let folder = file.folder().map(begin).transpose()?;
        let stretch = folder
            .as_ref()
            .map_or_else(|| question.whole(), OpenRun::stretch);
        Ok(Self {
            table: table.transpose()?,
            stdout: stdout.transpose()?,
            progress: Some(Progress::begin(&file.progress, question, costs, stretch)),
            folder,
            kept: 0,
            strongest: Strongest::new(strongest),
            seen: Seen::default(),
            alone: false,
        })
    }

    /// Runs a question; its results pass through these too.
    pub fn ask(
        &mut self,
        setup: &Setup,
        question: &Question<'_>,
        others: Vec<&mut dyn Gather>,
    ) -> Result<Answer, Error> {
        let alone = self.alone;
        let others = others.into_iter().map(|gather| gather as &mut dyn Gather);
        let mut gather: Vec<&mut dyn Gather> = others.collect();
        gather.extend(self.table.iter_mut().map(|g| g as &mut dyn Gather));
        gather.push(&mut self.strongest);
        gather.push(&mut self.seen);
        if let Some(stdout) = &mut self.stdout {
            stdout.ends = alone;
            gather.push(stdout);
        }
        let answer = match (&self.folder, self.progress.take()) {
            (Some(folder), Some(mut progress)) => {
                let answer = folder.ask(setup, question, &mut gather, &mut progress);
                self.kept = progress.kept();
                answer
            }
            (_, mut progress) => {
                gather.extend(progress.iter_mut().map(|g| g as &mut dyn Gather));
                question.answer(&mut gather, &|_| ())
            }
        };
        let printed = self.stdout.is_some() && self.seen.rows > 0;
        answer.map_err(|error| match printed && error.is_interruption() {
            true => Error::CutShort,
            false => error,
        })
    }

    /// Writes the table's file, and averages beside it; which files these are.
    pub fn write(
        &mut self,
        (setup, question): (&Setup, &Question<'_>),
        file: &TableFile,
        made: &Provenance,
        averages: Option<&Averages>,
        written: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        if let Some(folder) = &self.folder {
            return folder.finish(setup, question, averages, written);
        }
        if let (Some(table), Some(path)) = (self.table.take(), file.path()) {
            table.finish(made)?;
            written.push(path.to_owned());
            if let Some(averages) = averages {
                report::write_summary(averages, made, path)?;
                written.push(report::summary_path(path));
            }
        }
        Ok(())
    }

    /// Says for people what was found: the prompts, what `body` says of so many rows, and what was done.
    pub fn say(
        self,
        setup: &Setup,
        file: &TableFile,
        question: &Question<'_>,
        (done, written): (Answer, &[PathBuf]),
        body: impl FnOnce(usize, &mut dyn Write) -> std::io::Result<()>,
    ) -> Result<ExitCode, Error> {
        // the reader of a pipe may go away: files stand by then
        if let Some(stdout) = self.stdout {
            stdout.finish()?;
        }
        let seen = &self.seen;
        print(&mut file.people(), |out| {
            seen.write_prompts(setup.engine.model(), &question.pairs, out)?;
            body(seen.rows, out)?;
            seen.write_lost(out)?;
            write_done(&done, self.kept, written, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Rows as CSV on standard output. Its reader may go away, which ends the work only if nothing else is
/// written.
struct ToStdout {
    stream: Option<CsvStream<StdoutLock<'static>>>,
    failed: Option<FileError>,
    ends: bool,
}

impl ToStdout {
    fn new(columns: &[String]) -> Result<Self, Error> {
        Ok(Self {
            stream: Some(CsvStream::new(columns, std::io::stdout().lock())?),
            failed: None,
            ends: false,
        })
    }

    fn finish(self) -> Result<(), FileError> {
        let flushed = self.stream.map_or(Ok(()), CsvStream::finish);
        self.failed.map_or(flushed, Err)
    }
}

impl Gather for ToStdout {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let run = |stream: &mut CsvStream<_>| stream.run(result);
        if let Err(error) = self.stream.as_mut().map_or(Ok(()), run) {
            self.stream = None;
            if self.ends {
                return Err(error);
            }
            self.failed = Some(error);
        }
        Ok(())
    }
}
