//! How far a folder's run is.

use std::fs;
use std::time::SystemTime;

use serde::Serialize;

use super::error::FolderError;
use super::lock::FolderLock;
use super::parts::RunFolder;
use crate::report;
use crate::text::command_line;

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The command.
    pub command: String,
    /// `done`, `running`, or `stopped`, which is neither.
    pub state: State,
    /// How many runs are to be read out.
    pub runs: u64,
    /// How many of them stand in parts, whole or stopped.
    pub runs_done: u64,
    /// How many parts there will be.
    pub parts: usize,
    /// How many are whole.
    pub parts_done: usize,
    /// Operations planned of all runs.
    pub flops: u64,
    /// Operations planned of those in whole parts.
    pub flops_done: u64,
    /// Bytes of the parts that are whole.
    pub bytes: u64,
    /// Seconds until all is done, going by how fast parts appeared; nothing where none runs or that is not to be told.
    pub seconds_left: Option<f64>,
    /// Each shard.
    pub shards: Vec<ShardStatus>,
}

/// How far a shard is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// Its index.
    pub shard: usize,
    /// As of all.
    pub state: State,
    /// As of all.
    pub runs: u64,
    /// As of all.
    pub runs_done: u64,
    /// As of all.
    pub parts: usize,
    /// As of all.
    pub parts_done: usize,
    /// What is wrong with its parts, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every part is whole.
    Done,
    /// A process writes.
    Running,
    /// Parts are missing and nobody writes.
    Stopped,
}

impl Status {
    /// Looks at a folder; footers of parts are read, and nothing is held up.
    ///
    /// # Errors
    ///
    /// [`FolderError`] of what is no run's folder.
    pub fn of(folder: &RunFolder) -> Result<Self, FolderError> {
        let manifest = &folder.manifest;
        let mut status = Self {
            command: command_line(&manifest.command),
            state: State::Done,
            runs: manifest.runs(),
            runs_done: 0,
            parts: manifest.parts().count(),
            parts_done: 0,
            flops: manifest.parts().map(|part| part.flops).sum(),
            flops_done: 0,
            bytes: 0,
            seconds_left: None,
            shards: Vec::new(),
        };
        let (mut rate, mut running) = (0.0, false);
        for (index, parts) in manifest.shards.iter().enumerate() {
            let whole = (manifest.shards.len() > 1).then_some(index);
            let held = FolderLock::is_held(&folder.path, whole);
            let mut shard = ShardStatus {
                shard: index,
                state: State::Done,
                runs: parts.iter().map(|part| part.runs).sum(),
                runs_done: 0,
                parts: parts.len(),
                parts_done: 0,
                problems: Vec::new(),
            };
            let mut written: Vec<(SystemTime, u64)> = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                match folder.part(index, number) {
                    Ok(Some(_)) => {
                        shard.parts_done += 1;
                        shard.runs_done += part.runs;
                        status.flops_done += part.flops;
                        if let Ok(about) = fs::metadata(folder.part_path(index, number)) {
                            status.bytes += about.len();
                            written.extend(about.modified().ok().map(|at| (at, part.flops)));
                        }
                    }
                    Ok(None) => {
                        let open = folder.open_part(index, number);
                        let about = open.and_then(|(path, _)| report::read_about(&path).ok());
                        // a part of averages says it; else every run of a part has as many rows
                        shard.runs_done += about.map_or(0, |(about, rows)| {
                            let stamp = about.provenance.part.as_ref();
                            match (stamp.and_then(|stamp| stamp.done), part.rows) {
                                (Some(done), _) => done.runs,
                                (None, 0) => 0,
                                (None, all) => part.runs * rows / all,
                            }
                        });
                    }
                    Err(error) => shard.problems.push(error.to_string()),
                }
            }
            shard.state = match (shard.parts_done == shard.parts, held) {
                (true, _) => State::Done,
                (false, true) => State::Running,
                (false, false) => State::Stopped,
            };
            running |= held && shard.state == State::Running;
            if shard.state == State::Running {
                rate += speed(&mut written);
            }
            status.parts_done += shard.parts_done;
            status.runs_done += shard.runs_done;
            status.shards.push(shard);
        }
        status.state = match (status.parts_done == status.parts, running) {
            (true, _) => State::Done,
            (false, true) => State::Running,
            (false, false) => State::Stopped,
        };
        let left = status.flops - status.flops_done;
        status.seconds_left = (rate > 0.0).then(|| left as f64 / rate);
        Ok(status)
    }
}

/// Operations a second, going by the last parts that appeared.
fn speed(written: &mut [(SystemTime, u64)]) -> f64 {
    const PARTS: usize = 20;
    written.sort_unstable();
    let last = &written[written.len().saturating_sub(PARTS)..];
    let [first, rest @ ..] = last else { return 0.0 };
    let Some((end, _)) = rest.last() else {
        return 0.0;
    };
    let flops: u64 = rest.iter().map(|(_, flops)| flops).sum();
    let seconds = end.duration_since(first.0).map_or(0.0, |d| d.as_secs_f64());
    match seconds > 0.0 {
        true => flops as f64 / seconds,
        false => 0.0,
    }
}
