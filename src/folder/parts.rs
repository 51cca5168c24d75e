//! The parts of a folder: which are there, what stands in them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cut::PartSpan;
use super::error::FolderError;
use super::manifest::{MANIFEST, Manifest};
use crate::files::error::FileError;
use crate::files::whole::WholeFile;
use crate::report::{self, ReportError};
use crate::results::averages::Averages;
use crate::results::blocks::BlockAverage;
use crate::results::table::{PartStamp, Provenance, Row};
use crate::text::counted;

/// A folder with its manifest.
#[derive(Debug)]
pub struct RunFolder {
    /// Where.
    pub path: PathBuf,
    /// What is run, and how it is cut.
    pub manifest: Manifest,
    identity: String,
}

/// Why the rows of a part could not be handed on.
pub enum Unread<E> {
    /// The part.
    Part(FolderError),
    /// Whoever took them.
    Taker(E),
}

impl RunFolder {
    /// Whether a path is a folder that a run made.
    pub fn is_one(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    fn of(path: &Path, manifest: Manifest) -> Self {
        Self {
            path: path.to_owned(),
            identity: manifest.identity.hash(),
            manifest,
        }
    }

    /// A folder that a run made.
    ///
    /// # Errors
    ///
    /// [`FolderError::NoRun`], and those of [`Manifest::read`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        match Manifest::read(path)? {
            Some(manifest) => Ok(Self::of(path, manifest)),
            None => Err(FolderError::NoRun {
                folder: path.to_owned(),
            }),
        }
    }

    /// Whether a run can have this folder, which nothing is written to for it: there is none yet, or nothing of
    /// another run in it.
    ///
    /// # Errors
    ///
    /// [`FolderError`] of another run's folder.
    pub fn check(path: &Path, wanted: &Manifest) -> Result<(), FolderError> {
        if !path.exists() {
            return Ok(());
        }
        if let Some(there) = Manifest::read(path)? {
            return there.check_same(wanted, path);
        }
        match parts_in(path)?.into_iter().next() {
            None => Ok(()),
            Some(file) => {
                let folder = path.to_owned();
                Err(FolderError::NoManifest { folder, file })
            }
        }
    }

    /// Begins a run in a folder that stands, or goes on with it. A manifest that is there stays as it is.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::check`]; [`FolderError::File`] where no manifest can be written.
    pub fn begin(path: &Path, wanted: Manifest) -> Result<Self, FolderError> {
        Self::check(path, &wanted)?;
        // of shards that begin together one is the first
        WholeFile::write_new(&path.join(MANIFEST), &wanted.to_json())?;
        let there = Self::open(path)?;
        there.manifest.check_same(&wanted, path)?;
        Ok(there)
    }

    /// Where a part stands.
    pub fn part_path(&self, shard: usize, part: usize) -> PathBuf {
        self.path.join(self.manifest.part_name(shard, part))
    }

    /// Where what there is of a part that was stopped stands.
    pub fn open_path(&self, shard: usize, part: usize) -> PathBuf {
        self.path.join(self.manifest.open_name(shard, part))
    }

    /// Where averages stand.
    pub fn summary_path(&self) -> PathBuf {
        self.path.join("summary.parquet")
    }

    /// What a part says of itself.
    pub fn stamp(&self, part: &PartSpan) -> PartStamp {
        PartStamp {
            identity: self.identity.clone(),
            from: part.from.into(),
            to: part.to.into(),
            done: None,
            means: self.manifest.identity.means,
        }
    }

    /// Whether a part is there, and how it was made; [`FolderError::Damaged`] for one that cannot be read.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`]; [`FolderError::Foreign`] for a file of another run or another part.
    pub fn part(&self, shard: usize, part: usize) -> Result<Option<Provenance>, FolderError> {
        let of = &self.manifest.shards[shard][part];
        let path = self.part_path(shard, part);
        let found = self.about(&path, of)?;
        let Some((provenance, rows)) = found else {
            return Ok(None);
        };
        // how many averages there are nobody knows before
        let means = self.manifest.identity.means;
        let stopped = |part: &PartStamp| part.done.is_some();
        if means && provenance.part.as_ref().is_some_and(stopped) {
            let problem = "it was stopped before it was whole".to_owned();
            return Err(FolderError::Foreign { path, problem });
        }
        if rows != of.rows && !means {
            let problem = format!("it has {} rows, and the manifest says {}", rows, of.rows);
            return Err(FolderError::Foreign { path, problem });
        }
        Ok(Some(provenance))
    }

    /// Refuses a part whose bytes are not those that were written; [`RunFolder::part`] reads its footer alone.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`].
    pub fn check_bytes(&self, shard: usize, part: usize) -> Result<(), FolderError> {
        let checked = report::check_bytes(&self.part_path(shard, part));
        checked.map_err(FolderError::Damaged)
    }

    /// What there is of a part that was stopped; whatever is not to be read is as if it were not there.
    pub fn open_part(&self, shard: usize, part: usize) -> Option<(PathBuf, Provenance)> {
        let of = &self.manifest.shards[shard][part];
        let path = self.open_path(shard, part);
        let (made, rows) = self.about(&path, of).ok()??;
        report::check_bytes(&path).ok()?;
        let said = made.part.as_ref().is_some_and(|part| part.done.is_some());
        match self.manifest.identity.means {
            true => said.then_some((path, made)),
            false => (rows <= of.rows).then_some((path, made)),
        }
    }

    fn about(&self, path: &Path, of: &PartSpan) -> Result<Option<(Provenance, u64)>, FolderError> {
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(FileError::Read { path, source }.into());
            }
        }
        let (table, rows) = report::read_about(path).map_err(|error| match error {
            ReportError::File(error) => FolderError::File(error),
            other => FolderError::Damaged(other),
        })?;
        let wanted = self.stamp(of);
        let problem = match table.provenance.part.as_ref() {
            Some(stamp) if stamp.is_of(&wanted) => return Ok(Some((table.provenance, rows))),
            Some(stamp) if stamp.identity != wanted.identity => "it is another run's",
            Some(_) => "it has other runs than the manifest says",
            None => "it is the result of no run in a folder",
        };
        Err(FolderError::Foreign {
            path: path.to_owned(),
            problem: problem.to_owned(),
        })
    }

    /// Refuses files that are named like parts and are none of this run's.
    ///
    /// # Errors
    ///
    /// [`FolderError::Foreign`].
    pub fn check_strays(&self) -> Result<(), FolderError> {
        let shards = self.manifest.shards.iter().enumerate();
        let known: std::collections::HashSet<String> = shards
            .flat_map(|(shard, parts)| {
                (0..parts.len()).map(move |part| self.manifest.part_name(shard, part))
            })
            .collect();
        match parts_in(&self.path)?
            .into_iter()
            .find(|file| !known.contains(file))
        {
            None => Ok(()),
            Some(file) => {
                let parts = counted(known.len(), "part");
                let problem = match self.manifest.shards.len() {
                    1 => format!("which has {parts}"),
                    shards => format!("which has {parts} in {shards} shards"),
                };
                let path = self.path.join(file);
                Err(FolderError::Foreign { path, problem })
            }
        }
    }

    /// Removes what processes that were killed left of files in the making; where others may write here, only what
    /// nobody has written to for a day.
    pub fn sweep_out(&self, alone: bool) {
        const DAY: Duration = Duration::from_secs(86_400);
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let written = entry.metadata().and_then(|about| about.modified());
            let old = || written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DAY));
            if name.starts_with(".headlight-") && name.ends_with(".part") && (alone || old()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Hands the rows of a file on, those of one run at a time.
///
/// # Errors
///
/// [`Unread`].
pub fn each_run<E>(
    path: &Path,
    mut take: impl FnMut(&[Row]) -> Result<(), E>,
) -> Result<(), Unread<E>> {
    let mut run: Vec<Row> = Vec::new();
    let mut failed = None;
    let mut hand = |rows: &mut Vec<Row>| match take(rows) {
        Ok(()) => {
            rows.clear();
            Ok(())
        }
        Err(error) => {
            failed = Some(error);
            // any error ends the reading, and this one is never seen
            Err(ReportError::Inconsistent(String::new()))
        }
    };
    let read = report::read_rows(path, &mut |rows| {
        for row in rows {
            let next = run
                .first()
                .is_some_and(|first| (first.pair, first.run) != (row.pair, row.run));
            if next {
                hand(&mut run)?;
            }
            run.push(row);
        }
        Ok(())
    });
    let read = read.and_then(|_| match run.is_empty() {
        true => Ok(()),
        false => hand(&mut run),
    });
    match (failed, read) {
        (Some(error), _) => Err(Unread::Taker(error)),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(Unread::Part(FolderError::Damaged(error))),
    }
}

/// Hands the averages of a file on, in order; these say what is averaged.
///
/// # Errors
///
/// [`Unread`].
pub fn each_block<E>(
    path: &Path,
    averages: &Averages,
    mut take: impl FnMut(BlockAverage) -> Result<(), E>,
) -> Result<(), Unread<E>> {
    let mut failed = None;
    // any error ends the reading, and this one is never seen
    let ended = || Err(ReportError::Inconsistent(String::new()));
    let read = report::read_rows(path, &mut |rows| {
        for row in rows {
            let taken = match BlockAverage::of_row(row, averages.averaged()) {
                Some(block) => take(block).map_err(Unread::Taker),
                None => Err(Unread::Part(FolderError::Foreign {
                    path: path.to_owned(),
                    problem: "its rows are no averages of what this run's manifest averages"
                        .to_owned(),
                })),
            };
            if let Err(error) = taken {
                failed = Some(error);
                return ended();
            }
        }
        Ok(())
    });
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(Unread::Part(FolderError::Damaged(error))),
    }
}

/// The names of the files that look like parts, in order.
fn parts_in(folder: &Path) -> Result<Vec<String>, FolderError> {
    let read = |source| FileError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let name = entry
            .map_err(read)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let ours = name.starts_with("part-") || name.starts_with("open-");
        if ours && name.ends_with(".parquet") {
            names.push(name);
        }
    }
    names.retain(|name| name.starts_with("part-"));
    names.sort_unstable();
    Ok(names)
}
