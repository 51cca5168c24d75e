//! `headlight slurm`: job scripts that run a command's shards as an array, go on where the time was up, and merge.
//!
//! Nothing is submitted: the scripts can be read, changed and kept beside the results.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};

use super::{Cli, print};
use crate::error::Error;
use crate::files::error::FileError;
use crate::files::whole::WholeFile;
use crate::report;
use crate::text::{command_line, quoted};

/// Flags of `slurm`.
#[derive(Debug, Args)]
pub struct SlurmCommand {
    /// How many shards, each a task of the array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    shards: u32,
    /// Folder for the scripts: array.sbatch, merge.sbatch and submit.sh
    #[arg(long, value_name = "DIR")]
    scripts: PathBuf,
    /// Time of each task, as Slurm writes it; a task that needs more is requeued and goes on
    #[arg(long, default_value = "04:00:00", value_name = "TIME")]
    time: String,
    /// Seconds before the end at which a task stops
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    stop_before: u32,
    /// A further option for sbatch, such as --sbatch=--partition=gpu or --sbatch=--gpus=1; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Where the merged table goes; the folder's name with .parquet unless given
    #[arg(long, value_name = "F")]
    merge_to: Option<PathBuf>,
    /// The command, with --out DIR/
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl SlurmCommand {
    pub fn run(self) -> Result<ExitCode, Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let given = ["headlight"].into_iter();
        let words = given.chain(self.command.iter().map(String::as_str));
        let cli = match Cli::try_parse_from(words) {
            Ok(cli) => cli,
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or("");
                let said = first.strip_prefix("error: ").unwrap_or(first);
                return usage(format!("behind --: {said}"));
            }
        };
        let Some(table) = cli.table() else {
            return usage(
                "behind -- stands what is cut into shards: sweep, edges, path, trace, lens or run"
                    .into(),
            );
        };
        let Some(folder) = table.folder() else {
            return usage("the command's shards go to one folder: give it --out DIR/".into());
        };
        if table.parts.has_shard() {
            return usage("each task is given its own --shard: leave it out of the command".into());
        }
        let lines = self.sbatch.iter().chain([&self.time]);
        if let Some(option) = lines.into_iter().find(|text| text.contains(['\n', '\r'])) {
            return usage(format!("{option:?} is not one line"));
        }
        let merged = self.merge_to.clone().unwrap_or_else(|| {
            // without the slash at its end
            let plain: PathBuf = folder.components().collect();
            let mut name = plain.into_os_string();
            name.push(".parquet");
            name.into()
        });
        report::TableFormat::of(&merged)?;
        let here = std::env::current_dir().map_err(FileError::read_of(Path::new(".")))?;
        let headlight =
            std::env::current_exe().map_err(FileError::read_of(Path::new("headlight")))?;
        let (here, headlight) = (said(&here)?, said(&headlight)?);
        let create = |source| FileError::Create {
            path: self.scripts.clone(),
            source,
        };
        std::fs::create_dir_all(&self.scripts).map_err(create)?;
        let scripts = self.scripts.canonicalize().map_err(create)?;
        let files = [
            ("array.sbatch", self.array(&here, &headlight)),
            (
                "merge.sbatch",
                self.merge(&here, &headlight, folder, &merged)?,
            ),
            ("submit.sh", submit(&quoted(&said(&scripts)?))),
        ];
        let paths = files.map(|(name, text)| (self.scripts.join(name), text));
        for (path, text) in &paths {
            WholeFile::write(path, text.as_bytes())?;
        }
        print(&mut std::io::stdout().lock(), |out| {
            for (path, _) in &paths {
                writeln!(out, "wrote {}", path.display())?;
            }
            writeln!(out, "submit with: bash {}", paths[2].0.display())
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// `#SBATCH` lines that both jobs have.
    fn head(&self, name: &str, here: &str, own: &[String]) -> String {
        let mut head = format!("#!/bin/bash\n#SBATCH --job-name={name}\n");
        let chdir = format!("--chdir={}", quoted(here));
        for option in own.iter().chain([&chdir]).chain(&self.sbatch) {
            // writing into a string does not fail
            let _ = writeln!(head, "#SBATCH {option}");
        }
        head
    }

    /// The shards: a task stops before its time is up, or when it is asked to, and is requeued if parts are missing.
    fn array(&self, here: &str, headlight: &str) -> String {
        let own = [
            format!("--array=0-{}", self.shards - 1),
            format!("--time={}", self.time),
            "--requeue".to_owned(),
            "--open-mode=append".to_owned(),
            format!("--signal=B:USR1@{}", self.stop_before),
        ];
        let head = self.head("headlight", here, &own);
        let (headlight, command, shards) =
            (quoted(headlight), command_line(&self.command), self.shards);
        format!(
            r#"{head}
# Slurm signals this shell, which hands it on; headlight closes the part that is open and ends with 75.
task=
trap '[ -z "$task" ] || kill -USR1 "$task" 2>/dev/null' USR1 TERM
{headlight} {command} --resume --shard "$SLURM_ARRAY_TASK_ID/{shards}" &
task=$!
code=0
wait "$task" || code=$?
# a signal ends the waiting before the task
while kill -0 "$task" 2>/dev/null; do
    code=0
    wait "$task" || code=$?
done
if [ "$code" -gt 128 ]; then
    code=0
    wait "$task" || code=$?
fi
if [ "$code" -eq 75 ]; then
    echo "shard $SLURM_ARRAY_TASK_ID/{shards} is requeued and will go on" >&2
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"#
        )
    }

    /// The merge.
    fn merge(
        &self,
        here: &str,
        headlight: &str,
        folder: &Path,
        merged: &Path,
    ) -> Result<String, Error> {
        let head = self.head("headlight-merge", here, &[]);
        let (headlight, folder) = (quoted(headlight), quoted(&said(folder)?));
        let merged = quoted(&said(merged)?);
        Ok(format!(
            "{head}\nexec {headlight} merge {folder} --out {merged}\n"
        ))
    }
}

/// The script that submits both jobs, the second once every task of the first is done.
fn submit(scripts: &str) -> String {
    format!(
        r#"#!/bin/bash
set -eu
scripts={scripts}
array=$(sbatch --parsable "$scripts/array.sbatch")
merge=$(sbatch --parsable --dependency="afterok:$array" "$scripts/merge.sbatch")
echo "array $array, merge $merge"
"#
    )
}

/// A path as a script holds it.
fn said(path: &Path) -> Result<String, Error> {
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r']));
    text.map(str::to_owned).ok_or_else(|| {
        Error::Usage(format!(
            "{}: a job script cannot name this path: it must be UTF-8 in one line",
            path.display()
        ))
    })
}
