//! `--out DIR/`: a run that is written part by part into a folder of its own, and gone on with.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::Args;

use super::kept::PlannedRows;
use super::part::PartInMaking;
use super::progress::Progress;
use super::setup::Setup;
use super::shard::ShardWish;
use super::{note, stopping};
use crate::backend::Readout;
use crate::engine::{Answer, Question};
use crate::error::Error;
use crate::execute::Plan;
use crate::execute::costs::PairCost;
use crate::files::error::FileError;
use crate::folder::cut::{Cursor, PartLimit, PartSpan, RunRange, cut};
use crate::folder::error::FolderError;
use crate::folder::lock::FolderLock;
use crate::folder::manifest::Manifest;
use crate::folder::parts::{RunFolder, Unread, each_block, each_run};
use crate::report::{self, TableFormat, TableWriter};
use crate::results::averages::{Averages, BLOCK, Over};
use crate::results::clean::CleanMetrics;
use crate::results::columns::POSITION_NAME;
use crate::results::kept::KeptRows;
use crate::results::metric::RunReadouts;
use crate::results::rows::{Gather, RunResult, pairs_provenance};
use crate::results::table::{Provenance, Row};
use crate::text::{command_line, counted};

/// Flags of runs in folders.
#[derive(Debug, Default, Args)]
pub struct FolderFlags {
    /// Go on with the folder of --out DIR/ where it stopped, as starting the same command again does
    #[arg(long)]
    resume: bool,
    /// Compute one of N shards of a run in a folder, from 0; auto goes by Slurm's or MPI's variables
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardWish>,
    /// Rows in a part of a run in a folder, at most, or of which it holds averages; about a million of the former
    /// unless given
    #[arg(long, value_name = "N")]
    part_rows: Option<NonZeroU64>,
}

/// Rows in a part, at most.
const ROWS: u64 = 1 << 20;

/// Operations in a part, at most: a minute or two of a few cores, or of a GPU.
const FLOPS: [u64; 2] = [1 << 45, 1 << 53];

/// How much more of them there is in a part that keeps averages, which are fewer the more pairs they are over.
const OF_MEANS: u64 = 16;

impl FolderFlags {
    /// Refuses flags that are for folders, where there is none, and folders in a build that has no parts; of what is
    /// only planned, shards that are none.
    pub fn check(&self, folder: Option<&Path>, planned: bool) -> Result<(), Error> {
        if planned {
            self.shard()?;
            return Ok(());
        }
        let Some(folder) = folder else {
            let flag = [
                (self.resume, "--resume"),
                (self.shard.is_some(), "--shard"),
                (self.part_rows.is_some(), "--part-rows"),
            ];
            return match flag.iter().find(|(given, _)| *given) {
                Some((_, flag)) => Err(Error::Usage(format!(
                    "{flag} is for runs in folders: give --out DIR/, with a slash at its end"
                ))),
                None => Ok(()),
            };
        };
        TableFormat::of(&folder.join("part.parquet"))?;
        // a file that stands in the way, here or further up
        let plain: PathBuf = folder.components().collect();
        let there = plain.ancestors().find(|path| path.exists());
        if let Some(there) = there.filter(|path| !path.is_dir()) {
            return Err(Error::Usage(format!(
                "--out {}: {} is a file: name another folder",
                folder.display(),
                there.display()
            )));
        }
        self.shard()?;
        // from here on nothing is lost
        let before = match RunFolder::is_one(folder) {
            true => "it went on: what is there stays",
            false => "the first part",
        };
        stopping::at_stop(Some(Box::new(move || {
            note(format_args!(
                "headlight: stopped before {before}: start the same command again"
            ));
        })));
        Ok(())
    }

    /// Which of how many shards.
    pub fn shard(&self) -> Result<(usize, usize), Error> {
        self.shard.map_or(Ok((0, 1)), ShardWish::resolve)
    }

    /// Whether only some of the runs are asked for.
    pub fn is_shard(&self) -> bool {
        self.shard().is_ok_and(|(_, count)| count > 1)
    }

    /// Whether a shard is named.
    pub fn has_shard(&self) -> bool {
        self.shard.is_some()
    }

    /// The most that a part holds; rows of which averages are kept are not held, but may be counted.
    pub fn limit(&self, gpu: bool, kept: KeptRows) -> PartLimit {
        let (rows, more, block) = match kept {
            KeptRows::Rows => (ROWS, 1, None),
            KeptRows::Means => (u64::MAX, OF_MEANS, Some(BLOCK)),
        };
        PartLimit {
            rows: self.part_rows.map_or(rows, NonZeroU64::get),
            flops: FLOPS[usize::from(gpu)] * more,
            block,
        }
    }
}

/// Flags with a value that say nothing of a run's rows.
const LEFT_OUT: [&str; 4] = ["--shard", "--part-rows", "--progress", "--progress-every"];

/// A command as its results remember it: without what says which shard, whether again, and how it is watched.
fn remembered() -> Vec<String> {
    // a path need not be UTF-8
    let given = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let (mut command, mut value) = (Vec::new(), false);
    for word in given {
        let is = |flags: &[&str]| flags.contains(&word.split('=').next().unwrap_or(""));
        match (value, word.as_str()) {
            (true, _) => value = false,
            (false, "--resume") => {}
            (false, given) if is(&LEFT_OUT) => value = !given.contains('='),
            (false, _) => command.push(word),
        }
    }
    command
}

/// A run's folder while this process writes it.
pub struct OpenRun {
    folder: RunFolder,
    shard: usize,
    /// What pairs take.
    costs: Vec<PairCost>,
    /// How averages are added up.
    over: Over,
    _lock: FolderLock,
}

impl OpenRun {
    /// Begins a folder, or goes on with it.
    pub fn begin(
        path: &Path,
        flags: &FolderFlags,
        setup: &Setup,
        question: &Question<'_>,
        (planned, averages): (&PlannedRows, bool),
    ) -> Result<Self, Error> {
        let (shard, shards) = flags.shard()?;
        let limit = flags.limit(setup.engine.device().is_gpu(), planned.kept);
        let parts = cut(&question.weigh(&planned.costs), shards, limit);
        let over = question.over();
        let mut identity = question.identity();
        identity.means = planned.is_means();
        let mut manifest = Manifest::new(identity, over, parts);
        manifest.model = setup.engine.model().name.clone();
        manifest.command = remembered();
        manifest.columns = question.names();
        if planned.is_means() {
            let named = manifest.columns.iter().any(|name| name == POSITION_NAME);
            let averages = Averages::new(over, &question.metrics);
            manifest.columns = averages.block_columns(named);
        }
        manifest.averages = averages;
        manifest.pairs = question.pairs.len();
        // who says nothing of the cut goes on with the one that is there
        if let (None, Some(there)) = (flags.part_rows, Manifest::read(path)?)
            && there.identity == manifest.identity
            && there.shards.len() == shards
        {
            manifest.shards = there.shards;
        }
        RunFolder::check(path, &manifest)?;
        let create = |source| FileError::Create {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(create)?;
        let lock = FolderLock::take(path, (shards > 1).then_some(shard))?;
        let folder = RunFolder::begin(path, manifest)?;
        folder.sweep_out(shards == 1);
        Ok(Self {
            folder,
            shard,
            costs: planned.costs.clone(),
            over,
            _lock: lock,
        })
    }

    /// What adds up averages for parts that keep these.
    fn averages(&self, question: &Question<'_>) -> Option<Averages> {
        let means = self.folder.manifest.identity.means;
        means.then(|| Averages::new(self.over, &question.metrics))
    }

    fn parts(&self) -> &[PartSpan] {
        &self.folder.manifest.shards[self.shard]
    }

    /// The runs that this process is to do.
    pub fn stretch(&self) -> RunRange {
        let parts = self.parts();
        match (parts.first(), parts.last()) {
            (Some(first), Some(last)) => first.from..last.to,
            _ => Cursor::default()..Cursor::default(),
        }
    }

    fn made(&self, setup: &Setup, question: &Question<'_>, part: &PartSpan) -> Provenance {
        let last = part.to.pair + usize::from(part.to.run > 0);
        let pairs = &question.pairs[part.from.pair..last];
        Provenance {
            pairs: pairs_provenance(setup.engine.model(), pairs),
            part: Some(self.folder.stamp(part)),
            ..self.provenance(setup)
        }
    }

    fn provenance(&self, setup: &Setup) -> Provenance {
        Provenance {
            device: self.folder.manifest.identity.device.clone(),
            command: command_line(&self.folder.manifest.command),
            ..setup.engine.provenance(&[], true)
        }
    }

    /// Does what is missing; all rows, old and new, pass to each that gathers, in order.
    pub fn ask(
        &self,
        setup: &Setup,
        question: &Question<'_>,
        gather: &mut [&mut dyn Gather],
        progress: &mut Progress,
    ) -> Result<Answer, Error> {
        let mut answer = Answer {
            plan: Plan::default(),
            time: std::time::Duration::ZERO,
        };
        for (number, part) in self.parts().iter().enumerate() {
            let known = self.folder.part(self.shard, number);
            let known = known.and_then(|known| {
                let bytes = known
                    .as_ref()
                    .map(|_| self.folder.check_bytes(self.shard, number));
                bytes.transpose().map(|_| known)
            });
            match known {
                Ok(Some(known)) => {
                    progress.keep(true);
                    let path = self.folder.part_path(self.shard, number);
                    let of = (&*path, &known);
                    match self.averages(question) {
                        None => {
                            again(of, part, question, gather, progress, &mut |_| Ok(()))?;
                        }
                        Some(averages) => {
                            let stretch = part.from..part.to;
                            let into = (&mut *gather, &mut *progress);
                            self.averages_again(&path, (&averages, stretch), question, into)?;
                        }
                    }
                    let _ = std::fs::remove_file(self.folder.open_path(self.shard, number));
                    continue;
                }
                Ok(None) => {}
                // what cannot be read is as if it were not there
                Err(FolderError::Damaged(error)) => note(format_args!("{error}: computed anew")),
                Err(error) => return Err(error.into()),
            }
            let done = self.part(setup, question, (number, part), gather, progress)?;
            answer.plan += done.plan;
            answer.time += done.time;
        }
        // what is done is safe; a signal has nothing more to close
        stopping::at_stop(Some(Box::new(|| ())));
        Ok(answer)
    }

    /// Computes a part, from where it stopped.
    fn part(
        &self,
        setup: &Setup,
        question: &Question<'_>,
        (number, part): (usize, &PartSpan),
        gather: &mut [&mut dyn Gather],
        progress: &mut Progress,
    ) -> Result<Answer, Error> {
        let path = self.folder.part_path(self.shard, number);
        let open = self.folder.open_path(self.shard, number);
        let made = self.made(setup, question, part);
        let writer = TableWriter::create(&path, &self.folder.manifest.columns)?;
        let making = PartInMaking::new(part, (writer, made), self.averages(question));
        let mut next = part.from;
        if let Some((stopped, known)) = self.folder.open_part(self.shard, number) {
            progress.keep(true);
            making.knows(&known);
            let done = known.part.as_ref().and_then(|part| part.done);
            match (self.averages(question), done) {
                (Some(averages), Some(done)) => {
                    next = done.next.into();
                    let mut copy = making.clone();
                    let mut all: Vec<&mut dyn Gather> = Vec::with_capacity(gather.len() + 1);
                    for gather in gather.iter_mut() {
                        all.push(&mut **gather);
                    }
                    all.push(&mut copy);
                    let of = (&averages, part.from..next);
                    let into = (&mut *all, &mut *progress);
                    self.averages_again(&stopped, of, question, into)?;
                }
                _ => {
                    let mut copy = |rows: &[Row]| making.rows(rows);
                    let stopped = (&*stopped, &known);
                    let last = again(stopped, part, question, gather, progress, &mut copy)?;
                    next = last.map_or(next, |last| Cursor::new(last.pair, last.run + 1));
                }
            }
        }
        progress.keep(false);
        let said = self.said(number);
        stopping::at_stop(Some(making.close(open.clone(), said)));
        let mut to_part = making.clone();
        let mut all: Vec<&mut dyn Gather> = Vec::with_capacity(gather.len() + 2);
        for gather in gather.iter_mut() {
            all.push(&mut **gather);
        }
        // the part last: what is in it has passed everybody
        all.push(progress);
        all.push(&mut to_part);
        let answer = question.answer_some(next..part.to, &mut all, &|_| ())?;
        making.finish()?;
        let _ = std::fs::remove_file(open);
        Ok(answer)
    }

    /// Passes the averages of a file on, which are of the runs of a stretch.
    fn averages_again(
        &self,
        path: &Path,
        (averages, stretch): (&Averages, RunRange),
        question: &Question<'_>,
        (gather, progress): (&mut [&mut dyn Gather], &mut Progress),
    ) -> Result<(), Error> {
        let read = each_block(path, averages, |block| {
            let mut gather = gather.iter_mut();
            gather.try_for_each(|gather| gather.block(&block))
        });
        read.map_err(|error| match error {
            Unread::Part(error) => Error::from(error),
            Unread::Taker(error) => error.into(),
        })?;
        let nothing = Readout::default();
        let unknown = CleanMetrics::default();
        let pairs = question.pairs.iter().zip(&self.costs).enumerate();
        for (pair, (of, cost)) in pairs.skip(stretch.start.pair) {
            let mut before = 0;
            for (run, read) in cost.read_out.iter().enumerate() {
                let here = Cursor::new(pair, run);
                let read_out = std::mem::replace(&mut before, *read) < *read;
                if !read_out || here < stretch.start {
                    continue;
                }
                if here >= stretch.end {
                    return Ok(());
                }
                progress.run(&RunResult {
                    pair,
                    run,
                    read: RunReadouts {
                        pair: &of.pair,
                        base: &nothing,
                        source: None,
                        run: &nothing,
                    },
                    rows: &[],
                    clean: &unknown,
                })?;
            }
        }
        Ok(())
    }

    /// What is said when it is stopped in this part.
    fn said(&self, number: usize) -> String {
        let shard = match self.folder.manifest.shards.len() {
            1 => String::new(),
            shards => format!(" of shard {}/{shards}", self.shard),
        };
        format!(
            "headlight: stopped with {number} of {}{shard} whole and what there was of the next kept in {}: start the same command again to go on",
            counted(self.parts().len(), "part"),
            self.folder.path.display(),
        )
    }

    /// Writes averages where all parts are there, and says what there is.
    pub fn finish(
        &self,
        setup: &Setup,
        question: &Question<'_>,
        averages: Option<&Averages>,
        written: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        written.push(self.folder.path.clone());
        if let Some(averages) = averages {
            let made = Provenance {
                pairs: pairs_provenance(setup.engine.model(), &question.pairs),
                ..self.provenance(setup)
            };
            let path = self.folder.summary_path();
            report::write_averages(averages, &made, &path)?;
            written.push(path);
        }
        stopping::at_stop(None);
        Ok(())
    }
}

/// Passes the rows of a file on as if they were computed now; the last run.
fn again(
    (path, known): (&Path, &Provenance),
    part: &PartSpan,
    question: &Question<'_>,
    gather: &mut [&mut dyn Gather],
    progress: &mut Progress,
    also: &mut dyn FnMut(&[Row]) -> Result<(), FileError>,
) -> Result<Option<Cursor>, Error> {
    let nothing = Readout::default();
    let unknown = CleanMetrics::default();
    let mut at = part.from.pair;
    let mut last = None;
    let number = |pair: usize| {
        let row = question.pairs.get(pair)?.pair.row.as_ref();
        Some(row.map_or(pair as u32, |row| row.number))
    };
    let read = each_run(path, |rows| {
        while number(at).is_some_and(|number| number != rows[0].pair) {
            at += 1;
        }
        let Some(of) = question.pairs.get(at) else {
            return Err(strange(path));
        };
        let run = rows[0].run as usize;
        let here = Cursor::new(at, run);
        if here < part.from || here >= part.to {
            return Err(strange(path));
        }
        last = Some(here);
        let result = RunResult {
            pair: at,
            run,
            read: RunReadouts {
                pair: &of.pair,
                base: &nothing,
                source: None,
                run: &nothing,
            },
            rows,
            clean: known
                .pairs
                .get(at - part.from.pair)
                .map_or(&unknown, |pair| &pair.clean),
        };
        for gather in gather.iter_mut() {
            gather.run(&result)?;
        }
        progress.run(&result)?;
        Ok::<_, Error>(also(rows)?)
    });
    match read {
        Ok(()) => Ok(last),
        Err(Unread::Part(error)) => Err(error.into()),
        Err(Unread::Taker(error)) => Err(error),
    }
}

/// A part whose stamp is right and whose rows are not.
fn strange(path: &Path) -> Error {
    let problem = "it has rows of runs that its manifest does not give it".to_owned();
    let path = path.to_owned();
    FolderError::Foreign { path, problem }.into()
}
