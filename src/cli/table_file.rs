//! The result table and its metrics, and what every command that patches says of its results.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Global;
use super::clock::Spent;
use super::files::Files;
use super::folder::FolderFlags;
use super::progress::ProgressFlags;
use crate::backend::Readout;
use crate::engine::{Answer, Engine, Form, Question};
use crate::error::Error;
use crate::execute::PairReadouts;
use crate::files::error::FileError;
use crate::folder::parts::RunFolder;
use crate::model::Checkpoint;
use crate::prompt::pair::PairRuns;
use crate::report;
use crate::report::{TopkFormat, one_line, write_topk};
use crate::results::blocks::BlockAverage;
use crate::results::candidate::Candidate;
use crate::results::kept::RowsWish;
use crate::results::metric::Metric;
use crate::results::rows::{Gather, PairResult, RunResult};
use crate::results::table::Provenance;
use crate::text::counted;

/// Where the table goes, and what stands in it.
#[derive(Debug, Default, Args)]
pub struct TableFile {
    /// Result table: .csv, .jsonl or .parquet by its ending; - is CSV on standard output; DIR/ is a folder
    /// of parts, which can be stopped and gone on with; none unless given
    #[arg(long, value_name = "F|DIR/")]
    pub out: Option<PathBuf>,
    /// Metrics, each a column: rank, logit_diff, prob_diff, kl, top1, entropy, loss, or recovery_ before
    /// one of these or prob, logprob, logit; none unless given
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metric: Vec<Metric>,
    /// The N most probable tokens after each run, in the column `top_tokens`; none unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// What --out holds: all rows, means over pairs alone, or (auto) all up to 100 million and means of more
    #[arg(long, default_value_t, value_name = "all|means|auto")]
    pub rows: RowsWish,
    #[command(flatten)]
    pub parts: FolderFlags,
    #[command(flatten)]
    pub progress: ProgressFlags,
}

impl TableFile {
    /// Refuses a file that could not be written, before anything is computed.
    pub fn check(&self, global: &Global) -> Result<(), Error> {
        if self.rows != RowsWish::Auto && self.out.is_none() && global.plan.is_none() {
            return Err(Error::Usage(
                "--rows says what --out holds: give --out, or leave it out".into(),
            ));
        }
        self.parts.check(self.folder(), global.plan.is_some())?;
        match self.path() {
            Some(out) => Ok(report::check_writable(out)?),
            None => Ok(()),
        }
    }

    /// The same, of a command that writes no folders.
    pub fn check_one_file(&self, global: &Global) -> Result<(), Error> {
        match self.folder() {
            Some(folder) => Err(Error::Usage(format!(
                "--out {}: this command writes one file and no folder of parts: leave the slash out",
                folder.display()
            ))),
            None => self.check(global),
        }
    }

    /// What is written: the table, and what may stand beside it.
    pub fn files(&self, files: Files) -> Files {
        let out = self.path();
        files
            .writes("--out", out)
            .writes("the provenance of --out", out.map(report::meta_path))
            .writes("the averages of --out", out.map(report::summary_path))
    }

    /// The file that the table goes to, if it goes to one.
    pub fn path(&self) -> Option<&Path> {
        let out = self.out.as_deref()?;
        (!is_standard_output(out) && self.folder().is_none()).then_some(out)
    }

    /// The folder that the run goes to, if it goes to one: by a slash at its end, or because a run made it.
    pub fn folder(&self) -> Option<&Path> {
        let out = self.out.as_deref()?;
        let text = out.as_os_str().to_string_lossy();
        let slash = text.ends_with(std::path::is_separator);
        (slash || RunFolder::is_one(out)).then_some(out)
    }

    /// Refuses what a folder of parts has no place for.
    pub fn check_folder(&self, flags: &[(&str, bool)]) -> Result<(), Error> {
        let given = flags.iter().find(|(_, given)| *given);
        match (self.folder(), given) {
            (Some(_), Some((flag, _))) => Err(Error::Usage(format!(
                "{flag} is not written by runs in folders: leave it out, or give --out a file"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the table goes to standard output, and everything else past it.
    pub fn is_stdout(&self) -> bool {
        self.out.as_deref().is_some_and(is_standard_output)
    }

    /// How the result was made; the hash reads every weight, so only a file has it.
    pub fn provenance(&self, engine: &Engine, pairs: &[PairRuns]) -> Provenance {
        engine.provenance(pairs, self.out.is_some())
    }

    /// How many of the most probable tokens after each run are asked for.
    pub fn top_tokens(&self) -> usize {
        self.top.map_or(0, |top| top as usize)
    }

    /// Where text for people goes: past the table.
    pub fn people(&self) -> Box<dyn Write> {
        match self.is_stdout() {
            true => Box::new(io::stderr().lock()),
            false => Box::new(io::stdout().lock()),
        }
    }
}

/// Whether a file is standard output by one of its names.
fn is_standard_output(out: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .map(Path::new)
        .contains(&out)
}

/// How many pairs' prompts are shown where more is said.
const SHOWN: usize = 3;
/// How many tokens are told of a prompt in one line.
const TOLD: usize = 3;
/// How many characters of a prompt, its last, stand in one line.
const LONGEST_PROMPT: usize = 120;

fn text(model: &Checkpoint, ids: &[u32]) -> String {
    match &model.tokenizer {
        Some(tokenizer) => one_line(&tokenizer.decode(ids)),
        None => format!("{ids:?}"),
    }
}

/// What is said of results: the first prompts, how many rows, and how many of them say nothing.
#[derive(Default)]
pub struct Seen {
    pub rows: usize,
    lost: usize,
    clean: Vec<PairReadouts>,
    /// Whether rows have no probabilities, so that nothing is lost where these are no numbers.
    of_parts: bool,
}

impl Gather for Seen {
    fn pair(&mut self, result: &PairResult<'_>) -> Result<(), FileError> {
        // of pairs that are there already nobody knows what comes next
        if self.clean.len() < SHOWN && self.clean.len() == result.index {
            self.clean.push(result.clean.clone());
        }
        Ok(())
    }

    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        self.rows += result.rows.len();
        let lost = result.rows.iter().filter(|row| !row.logprob.is_finite());
        self.lost += if self.of_parts { 0 } else { lost.count() };
        Ok(())
    }

    fn block(&mut self, block: &BlockAverage) -> Result<(), FileError> {
        // behind prob stands logprob
        if let Some(logprobs) = block.sums.values.get(1) {
            let lost = logprobs.values() - logprobs.count();
            self.rows += logprobs.values() as usize;
            self.lost += if self.of_parts { 0 } else { lost as usize };
        }
        Ok(())
    }
}

impl Seen {
    /// Of a question.
    pub fn of(question: &Question<'_>) -> Self {
        Self {
            of_parts: matches!(question.form, Form::Lens { by: Some(_), .. }),
            ..Self::default()
        }
    }

    /// Both prompts' most probable tokens, as the reference tutorial prints them.
    pub fn write_prompts(
        &self,
        model: &Checkpoint,
        pairs: &[PairRuns],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let top = |read: &Readout, out: &mut dyn Write| {
            write_topk(&Candidate::all(model, read), TopkFormat::Table, out)
        };
        for (i, (PairRuns { pair, .. }, read)) in pairs.iter().zip(&self.clean).enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            if let Some(base) = read.base.last() {
                writeln!(out, "base:   {}", text(model, &pair.base))?;
                top(base, out)?;
            }
            if let (Some(source), Some(ids)) = (&read.source, &pair.source) {
                writeln!(out, "\nsource: {}", text(model, ids))?;
                top(source, out)?;
            }
        }
        if pairs.len() > SHOWN {
            let more = counted(pairs.len() - SHOWN, "more pair");
            writeln!(out, "\n… and {more}, {} rows in all", self.rows)?;
        }
        Ok(())
    }

    /// What the model says to the first pair's prompts, a line each.
    pub fn write_tops(
        &self,
        model: &Checkpoint,
        pairs: &[PairRuns],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (Some(PairRuns { pair, .. }), Some(read)) = (pairs.first(), self.clean.first()) else {
            return Ok(());
        };
        let mut line = |name: &str, ids: &[u32], read: &Readout| {
            let prompt = text(model, ids);
            let over = prompt.chars().count().saturating_sub(LONGEST_PROMPT);
            let cut = match over {
                0 => prompt,
                over => format!("…{}", prompt.chars().skip(over + 1).collect::<String>()),
            };
            let top = Candidate::all(model, read);
            let top: Vec<String> = top.iter().take(TOLD).map(Candidate::in_short).collect();
            writeln!(out, "{name:<7} {cut} → {}", top.join(", "))
        };
        if let Some(base) = read.base.last() {
            line("base:", &pair.base, base)?;
        }
        if let (Some(source), Some(ids)) = (&read.source, &pair.source) {
            line("source:", ids, source)?;
        }
        match pairs.len() - 1 {
            0 => Ok(()),
            more => writeln!(
                out,
                "… and {}, {} rows in all",
                counted(more, "more pair"),
                self.rows
            ),
        }
    }

    /// How many rows are not finite.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// How many of some rows say nothing, where some do.
    pub fn write_lost(rows: usize, lost: usize, out: &mut dyn Write) -> io::Result<()> {
        match lost {
            0 => Ok(()),
            1 => writeln!(
                out,
                "\n1 of {} is not finite: what its patches wrote overflowed or divided by zero",
                counted(rows, "row")
            ),
            _ => writeln!(
                out,
                "\n{lost} of {rows} rows are not finite: what their patches wrote overflowed or divided by zero"
            ),
        }
    }
}

/// How long it took, and which files were written.
pub fn write_done(
    Answer { plan, .. }: &Answer,
    (kept, spent): (u64, Spent),
    written: &[PathBuf],
    out: &mut dyn Write,
) -> io::Result<()> {
    let (runs, copied) = (plan.count, plan.copied);
    let had = match kept {
        0 => String::new(),
        1 => "; 1 was there already".to_owned(),
        _ => format!("; {kept} were there already"),
    };
    let skipped = match copied {
        0 => String::new(),
        1 => "; 1 skipped: it writes what stands there already, or no readout sees it".to_owned(),
        _ => format!(
            "; {copied} skipped: they write what stands there already, or no readout sees them"
        ),
    };
    let computing = spent.computing.as_secs_f64();
    // a folder that was whole already has computed nothing
    let rates = match runs {
        0 => String::new(),
        _ => format!(
            " ({:.0} runs/s, {:.1} GFLOP/s)",
            runs as f64 / computing,
            plan.flops() as f64 / computing / 1e9
        ),
    };
    writeln!(
        out,
        "\n{} in {:.2} s: loading {:.2}, planning {:.2}, computing {computing:.2}{rates}, writing {:.2}{skipped}{had}",
        counted(runs, "run"),
        spent.whole.as_secs_f64(),
        spent.loading.as_secs_f64(),
        spent.planning.as_secs_f64(),
        spent.writing.as_secs_f64(),
    )?;
    for path in written {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
