//! Folders' parts as one result file: the bytes of one run, however it was cut, ordered and interrupted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::cut::Cursor;
use super::error::FolderError;
use super::parts::{RunFolder, Unread, each_block, each_run};
use crate::files::error::FileError;
use crate::report::{self, TableWriter};
use crate::results::averages::Averages;
use crate::results::clean::CleanMetrics;
use crate::results::table::Provenance;

/// All parts of a run, wherever they stand, in order.
#[derive(Debug)]
pub struct Merge {
    folders: Vec<RunFolder>,
    /// Of each part its folder's index, its shard's and its own.
    parts: Vec<(usize, usize, usize)>,
    provenance: Provenance,
}

impl Merge {
    /// Finds every part once.
    ///
    /// # Errors
    ///
    /// [`FolderError`]: folders of different runs or cuts, parts that are missing, there twice, damaged or another
    /// run's.
    pub fn of(paths: &[PathBuf]) -> Result<Self, FolderError> {
        let mut folders: Vec<RunFolder> = Vec::new();
        for path in paths {
            let folder = RunFolder::open(path)?;
            if let Some(first) = folders.first() {
                folder.manifest.check_same(&first.manifest, path)?;
            }
            folder.check_strays()?;
            folders.push(folder);
        }
        let Some(first) = folders.first() else {
            return Err(FolderError::Nothing);
        };
        let manifest = &first.manifest;
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        let mut made: Option<Provenance> = None;
        let mut last = None;
        for (shard, all) in manifest.shards.iter().enumerate() {
            let before = parts.len();
            for (number, part) in all.iter().enumerate() {
                let mut found: Option<(usize, Provenance)> = None;
                for (index, folder) in folders.iter().enumerate() {
                    let Some(provenance) = folder.part(shard, number)? else {
                        continue;
                    };
                    if let Some((other, _)) = found {
                        return Err(FolderError::Double {
                            file: manifest.part_name(shard, number),
                            first: folders[other].path.clone(),
                            second: folder.path.clone(),
                        });
                    }
                    found = Some((index, provenance));
                }
                let Some((index, provenance)) = found else {
                    continue;
                };
                parts.push((index, shard, number));
                // a pair that was cut stands in several parts
                let again = usize::from(last == Some(part.from.pair) && part.from.run > 0);
                let pairs = provenance.pairs.iter().skip(again).cloned();
                match &mut made {
                    Some(made) => made.pairs.extend(pairs),
                    None => made = Some(provenance),
                }
                last = Some(last_pair(part.to));
            }
            let there = parts.len() - before;
            if there < all.len() {
                missing.push(match (manifest.shards.len(), there) {
                    (1, _) => format!("there are {there}"),
                    (n, 0) => format!("shard {shard}/{n}"),
                    (n, _) => format!("shard {shard}/{n} has {there} of {}", all.len()),
                });
            }
        }
        let count = manifest.parts().count();
        if parts.len() < count {
            return Err(FolderError::Missing {
                missing: count - parts.len(),
                parts: count,
                shards: missing,
            });
        }
        Ok(Self {
            provenance: made.unwrap_or_default(),
            folders,
            parts,
        })
    }

    /// Writes all rows to `out`, and averages beside it where one run would; of parts that keep averages, all of these.
    /// Which files were written.
    ///
    /// # Errors
    ///
    /// [`FolderError`] of a part that turns out to be damaged, or of a file that cannot be written.
    pub fn write(self, out: &Path) -> Result<Vec<PathBuf>, FolderError> {
        let manifest = &self.folders[0].manifest;
        let made = Provenance {
            command: manifest.command_to(&out.display().to_string()),
            part: None,
            ..self.provenance
        };
        if manifest.identity.means {
            let mut averages = Averages::new(manifest.over(), &manifest.metrics());
            let read_as = Averages::new(manifest.over(), &manifest.metrics());
            for (folder, shard, part) in self.parts {
                let path = self.folders[folder].part_path(shard, part);
                each_block(&path, &read_as, |block| {
                    averages.merge(&block);
                    Ok(())
                })
                .map_err(whichever)?;
            }
            report::write_means(&averages, &made, out)?;
            return Ok(vec![out.to_owned()]);
        }
        let mut table = TableWriter::create(out, &manifest.columns)?;
        let averages = manifest.averages;
        if averages {
            report::check_summary(out)?;
        }
        let nothing = CleanMetrics::default();
        let pairs = made.pairs.iter().zip(0..);
        let clean: HashMap<u32, (usize, &CleanMetrics)> = pairs
            .map(|(pair, index)| (pair.row.unwrap_or(index), (index as usize, &pair.clean)))
            .collect();
        let mut averages = averages.then(|| Averages::new(manifest.over(), &manifest.metrics()));
        for (folder, shard, part) in self.parts {
            let path = self.folders[folder].part_path(shard, part);
            let read = each_run(&path, |rows| {
                if let Some(averages) = &mut averages {
                    let known = clean.get(&rows[0].pair).copied();
                    let (pair, clean) = known.unwrap_or((rows[0].pair as usize, &nothing));
                    (0..)
                        .zip(rows)
                        .for_each(|(index, row)| averages.add(pair, row, index, clean));
                }
                table.rows(rows)
            });
            read.map_err(whichever)?;
        }
        table.finish(&made)?;
        let mut written = vec![out.to_owned()];
        if let Some(mut averages) = averages {
            averages.close();
            report::write_summary(&averages, &made, out)?;
            written.push(report::summary_path(out));
        }
        Ok(written)
    }
}

fn whichever(error: Unread<FileError>) -> FolderError {
    match error {
        Unread::Part(error) => error,
        Unread::Taker(error) => error.into(),
    }
}

/// The pair of the last run before a cursor.
fn last_pair(to: Cursor) -> usize {
    match to.run {
        0 => to.pair.saturating_sub(1),
        _ => to.pair,
    }
}
