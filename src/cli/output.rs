//! From a question to its answer's files and to what people see: every command that patches goes this way.

use std::io::{StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::clock::{Clock, Timed};
use super::collect::CollectFile;
use super::files::Files;
use super::folder::OpenRun;
use super::kept::PlannedRows;
use super::lens::LensLines;
use super::picture::{Look, Picture};
use super::plan;
use super::progress::Progress;
use super::setup::Setup;
use super::table_file::{Seen, TableFile, write_done};
use super::tops::Tops;
use super::{Global, interrupt, note, print};
use crate::engine::{Answer, Form, Question};
use crate::error::Error;
use crate::files::error::FileError;
use crate::files::whole::is_plain;
use crate::prompt::pair::PairRuns;
use crate::report::{
    self, CellPage, CsvStream, Drawing, DrawnValue, EdgeMatrix, EdgePage, HeatMap, ReportError,
    TableWriter, write_strongest,
};
use crate::results::array::Values;
use crate::results::averages::Averages;
use crate::results::clean::Cleans;
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
    /// Whether every run's most probable tokens are said, where they were asked for.
    pub tops: bool,
    /// What stands under the heat map.
    pub notes: Vec<String>,
    /// Where a picture or a page of edges goes, and how it looks.
    pub edges: Option<(&'a Path, &'a Look)>,
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
    let clock = Clock::loaded(&setup.engine);
    let mut question = question
        .metrics(&file.metric)?
        .top_tokens(file.top_tokens());
    if let Some(collect) = also.collect {
        collect.check(&question.pairs)?;
        file.check_folder(&[("--collect", collect.collect.is_some())])?;
    }
    // of a shard they would be holes
    file.check_folder(&[("--arrays", file.parts.is_shard() && also.arrays.is_some())])?;
    let planned = PlannedRows::of(file, &question, also.averages)?;
    planned.check_folder(
        file,
        &[
            ("--arrays", also.arrays.is_some()),
            ("--plot", plotted(picture) || also.edges.is_some()),
        ],
    )?;
    let means = planned.is_means();
    let summary = also.averages && file.path().is_some();
    if let Some(path) = file.path().filter(|_| summary) {
        report::check_summary(path)?;
    }
    let axes = match also.arrays {
        Some(path) => question.axes()?.map(|axes| (axes, path)),
        None => None,
    };
    let plot = plotted(picture);
    if plot && !also.targets {
        check_plot(&question)?;
    }
    if also.targets && (axes.is_some() || matches!(question.form, Form::Preset { .. })) {
        question.default_metric();
    }
    if let Some(picture) = picture {
        // a column that is none is named before anything is computed
        drawing_of(picture, &question)?;
    }
    if let Some(format) = setup.plan {
        return plan::write(setup, file, (&question, &planned), format);
    }
    setup.announce();
    planned.say(file);
    setup.doubt(question.pairs.iter().map(|p| &p.pair));
    if also.targets {
        setup.engine.default_targets(&mut question.pairs)?;
        if plot {
            check_plot(&question)?;
        }
    }

    let mut passing = Passing::new(setup, file, (&question, planned, also.averages), clock)?;
    // of a shard nothing is drawn: most of it would be missing
    let whole = !file.parts.is_shard();
    // and not of runs of which others have kept averages alone
    let drawn_in = picture.filter(|_| whole && !(means && passing.folder.is_some()));
    let columns = question.columns();
    let first = question.metrics.first().map(ToString::to_string);
    let drawn = match picture {
        Some(picture) => picture.look.value().of_first(first.as_deref()),
        None => {
            let value = also.edges.map(|(_, look)| look.value());
            value.unwrap_or_default().of_first(first.as_deref())
        }
    };
    let drawn = drawn.column(&columns).to_owned();
    let several = question.pairs.len() > 1;
    let mut strongest = Strongest::of(if picture.is_some() { 10 } else { 20 }, &question.metrics);
    passing.alone = axes.is_none()
        && also.collect.is_none_or(|c| c.collect.is_none())
        && !plot
        && also.edges.is_none();
    let averaged = summary || several || means || whole && passing.folder.is_some();
    let mut averages = averaged.then(|| Averages::new(question.over(), &question.metrics));
    let mut drawing = drawn_in
        .map(|picture| drawing_of(picture, &question))
        .transpose()?;
    let page = picture.and_then(Picture::page).filter(|_| whole);
    let mut cells = page.map(|path| (CellPage::new(&columns), path));
    let edges = also.edges.filter(|_| whole);
    let (mut graph, mut matrix) = match edges {
        Some((path, look)) if !look.is_page(path) => {
            let value = look.value_of_edges(&columns).of_first(first.as_deref());
            (None, Some((EdgeMatrix::new(&columns, &value)?, path, look)))
        }
        edges => (edges.map(|(path, _)| (EdgePage::new(&columns), path)), None),
    };
    let mut values = axes
        .as_ref()
        .map(|(axes, path)| question.values(axes, path));
    let mut collected = also.collect.and_then(CollectFile::activations);
    let mut lens = LensLines::of(&question, setup.engine.model());
    let mut tops =
        (also.tops && question.top_tokens > 0).then(|| Tops::new(setup.engine.model(), several));
    let mut gather: Vec<&mut dyn Gather> = Vec::new();
    gather.extend(averages.iter_mut().map(|g| g as &mut dyn Gather));
    // of several pairs, the mean is what counts
    gather.extend((!several).then_some(&mut strongest as &mut dyn Gather));
    gather.extend(drawing.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(cells.iter_mut().map(|(g, _)| g as &mut dyn Gather));
    gather.extend(graph.iter_mut().map(|(g, _)| g as &mut dyn Gather));
    gather.extend(matrix.iter_mut().map(|(g, ..)| g as &mut dyn Gather));
    gather.extend(values.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(collected.iter_mut().map(|g| g as &mut dyn Gather));
    gather.extend(lens.as_mut().map(|g| g as &mut dyn Gather));
    gather.extend(tops.as_mut().map(|g| g as &mut dyn Gather));
    let done = passing.ask(setup, &question, gather)?;

    if let Some(averages) = &mut averages {
        averages.close();
    }
    let made = passing.provenance(setup, file, &question);
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
    if let (true, Some(averages)) = (several, &averages) {
        strongest.add_means(averages);
    }
    let in_file = summary || means || passing.folder.is_some();
    let averages = averages.as_ref().filter(|_| in_file && whole);
    let of = (setup, &question);
    passing.write(of, file, &made, averages, &mut written)?;
    written.extend(arrays);
    let pages = [
        cells.map(|(page, path)| (page.finish(&made), path)),
        graph.map(|(page, path)| (page.finish(&made), path)),
    ];
    for (page, path) in pages.into_iter().flatten() {
        let mut page = page?.showing(&drawn)?;
        also.notes.iter().for_each(|note| page.note(note.clone()));
        page.write(path)?;
        written.push(path.to_owned());
    }
    if let Some((matrix, path, look)) = matrix {
        let mut map = matrix.finish(&made)?;
        map.notes.extend(read_at(&question));
        report::plot(&map.styled(&look.style()), path)?;
        written.push(path.to_owned());
    }
    let map = map.zip(picture).map(|(mut map, picture)| {
        map.notes.extend(read_at(&question));
        map.notes.extend(also.notes);
        map.styled(&picture.look.style())
    });
    if let (Some(picture), Some(map)) = (picture, &map) {
        picture.write(map, &mut written)?;
    }
    let patched = question.patched();
    passing.say(setup, file, &question, (done, &written), |rows, out| {
        if let (Some(picture), Some(map)) = (picture, &map) {
            writeln!(out)?;
            picture.render(map, file, out)?;
        }
        if let Some(tops) = &tops {
            tops.write(out)?;
        }
        if let Some(lens) = &lens {
            writeln!(out)?;
            return lens.write(out);
        }
        match picture {
            Some(_) if rows == 0 => return Ok(()),
            Some(_) => writeln!(out, "\nstrongest")?,
            None => writeln!(out, "\nstrongest edges")?,
        }
        write_strongest(&strongest, patched, out)
    })
}

/// Whether a picture goes to a file.
fn plotted(picture: Option<&Picture>) -> bool {
    picture.is_some_and(|picture| picture.plot.is_some())
}

/// Where runs are read, if that is elsewhere than at their ends.
fn read_at(question: &Question<'_>) -> Option<String> {
    let mut at = question.pairs.iter().map(|of| &of.pair.readouts[..]);
    if matches!(question.form, Form::Lens { .. }) {
        return None;
    }
    let first = at.next()?;
    match (first, at.all(|other| other == first)) {
        ([], true) => None,
        ([position], true) => Some(format!("read out at position {position}")),
        _ => Some("read out at each pair's own position, and not at the end".to_owned()),
    }
}

/// The heat map of a question's rows, in the making.
fn drawing_of(picture: &Picture, question: &Question<'_>) -> Result<Drawing, Error> {
    let first = question.metrics.first().map(ToString::to_string);
    picture.drawing(&question.columns(), first.as_deref())
}

/// Refuses a plot of runs that have no place in one, before anything is computed.
pub fn check_plot(question: &Question<'_>) -> Result<(), Error> {
    let mut drawing = Drawing::new(&[], &DrawnValue::default())?;
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
    seen: Seen,
    cleans: Cleans,
    /// Whether nothing is written but the table.
    pub alone: bool,
    clock: Clock,
    /// Whether averages are written in place of rows.
    means: bool,
}

impl Passing {
    /// The rows of a question that is answered; whether a file of them has averages beside it.
    pub fn new(
        setup: &Setup,
        file: &TableFile,
        (question, planned, averages): (&Question<'_>, PlannedRows, bool),
        clock: Clock,
    ) -> Result<Self, Error> {
        // a file says which weights it is of; who waits at a terminal sees rows first
        if file.out.is_some() {
            setup.engine.model().hash_ahead();
        }
        let begin = |path| {
            let flags = &file.parts;
            OpenRun::begin(path, flags, setup, question, (&planned, averages))
        };
        let folder = file.folder().map(begin).transpose()?;
        let stretch = folder
            .as_ref()
            .map_or_else(|| question.whole(), OpenRun::stretch);
        let means = planned.is_means();
        let progress = Progress::begin(&file.progress, question, planned.costs, stretch);
        let passing = match means {
            true => Self::of_nothing(clock),
            false => Self::of_rows(file, &question.names(), clock)?,
        };
        Ok(Self {
            folder,
            progress: Some(progress),
            seen: Seen::of(question),
            means,
            ..passing
        })
    }

    /// Rows with these columns behind the fixed ones, of a question that is not simply answered.
    pub fn of_rows(file: &TableFile, columns: &[String], clock: Clock) -> Result<Self, Error> {
        let table = file.path().map(|path| TableWriter::create(path, columns));
        let stdout = file.is_stdout().then(|| ToStdout::new(columns));
        Ok(Self {
            table: table.transpose()?,
            stdout: stdout.transpose()?,
            ..Self::of_nothing(clock)
        })
    }

    /// Rows that nobody writes.
    fn of_nothing(clock: Clock) -> Self {
        Self {
            table: None,
            stdout: None,
            folder: None,
            progress: None,
            kept: 0,
            seen: Seen::default(),
            cleans: Cleans::default(),
            alone: false,
            clock,
            means: false,
        }
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
        gather.push(&mut self.seen);
        gather.push(&mut self.cleans);
        if let Some(stdout) = &mut self.stdout {
            stdout.ends = alone;
            gather.push(stdout);
        }
        let clock = &self.clock;
        let timed = gather.iter_mut().map(|gather| Timed {
            gather: &mut **gather,
            clock,
        });
        let mut timed: Vec<Timed<'_, '_>> = timed.collect();
        let mut timed: Vec<&mut dyn Gather> =
            timed.iter_mut().map(|t| t as &mut dyn Gather).collect();
        let answer = match (&self.folder, self.progress.take()) {
            (Some(folder), Some(mut progress)) => {
                let answer = folder.ask(setup, question, &mut timed, &mut progress);
                self.kept = progress.kept();
                answer
            }
            (_, mut progress) => {
                timed.extend(progress.iter_mut().map(|g| g as &mut dyn Gather));
                question.answer(&mut timed, &|_| ())
            }
        };
        clock.computed();
        answer
    }

    /// How the results were made.
    pub fn provenance(
        &self,
        setup: &Setup,
        file: &TableFile,
        question: &Question<'_>,
    ) -> Provenance {
        let mut made = file.provenance(&setup.engine, &question.pairs);
        self.cleans.fill(&mut made, 0);
        made
    }

    /// What rows pass through, for a question that is not simply answered: the table, and what is said of them.
    pub fn gathers(&mut self) -> Vec<&mut dyn Gather> {
        let mut gather: Vec<&mut dyn Gather> = Vec::new();
        gather.extend(self.table.iter_mut().map(|g| g as &mut dyn Gather));
        gather.push(&mut self.seen);
        gather.push(&mut self.cleans);
        if let Some(stdout) = &mut self.stdout {
            stdout.ends = self.alone;
            gather.push(stdout);
        }
        gather
    }

    /// Writes the table's file, and averages beside it or in its place; which files these are.
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
        if let Some(averages) = averages.filter(|_| self.means) {
            match file.path() {
                Some(path) => {
                    report::write_means(averages, made, path)?;
                    written.push(path.to_owned());
                }
                None if file.is_stdout() => {
                    interrupt::prints();
                    report::write_means_csv(averages, std::io::stdout().lock())?;
                }
                None => {}
            }
            return Ok(());
        }
        if let (Some(table), Some(path)) = (self.table.take(), file.path()) {
            table.finish(made)?;
            written.push(path.to_owned());
            // nothing stands beside a pipe or a device
            if let Some(averages) = averages.filter(|_| is_plain(path)) {
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
        let (lost, spent) = (self.seen.lost(), self.clock.spent(&setup.engine));
        let spent = (self.kept, spent);
        self.tell(setup, file, &question.pairs, |rows, out| {
            body(rows, out)?;
            Seen::write_lost(rows, lost, out)?;
            write_done(&done, spent, written, out)
        })
    }

    /// Says the prompts, and then what `body` says of so many rows.
    pub fn tell(
        self,
        setup: &Setup,
        file: &TableFile,
        pairs: &[PairRuns],
        body: impl FnOnce(usize, &mut dyn Write) -> std::io::Result<()>,
    ) -> Result<ExitCode, Error> {
        // the reader of a pipe may go away: files stand by then
        if let Some(stdout) = self.stdout {
            stdout.finish()?;
        }
        let (seen, engine) = (&self.seen, &setup.engine);
        print(&mut file.people(), |out| {
            match setup.verbose {
                true => seen.write_prompts(engine.model(), pairs, out)?,
                false => seen.write_tops(engine.model(), pairs, out)?,
            }
            body(seen.rows, out)
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
        interrupt::prints();
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
