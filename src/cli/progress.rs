//! How far a command is: a bar on a terminal, elsewhere a line now and then, for people or for programs.
//!
//! What is done is measured in planned operations, not in runs, of which some take a thousand times what others take;
//! where only their number is planned, in runs.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::note;
use crate::engine::Question;
use crate::execute::costs::PairCost;
use crate::files::error::FileError;
use crate::folder::cut::{Cursor, RunRange};
use crate::results::rows::{Gather, RunResult};

/// How progress is shown.
#[derive(Debug, Default, Args)]
pub struct ProgressFlags {
    /// Progress on standard error: a bar, a line now and then for people (log) or programs (json), or
    /// none; a bar on a terminal and a log elsewhere unless given
    #[arg(long, value_enum, value_name = "bar|log|json|none")]
    progress: Option<Shown>,
    /// Seconds from one line of --progress log or json to the next
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = seconds)]
    progress_every: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shown {
    Bar,
    Log,
    Json,
    None,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|s| (0.01..=86400.0).contains(s));
    seconds.ok_or_else(|| "it takes a number of seconds from 0.01 to 86400".to_owned())
}

/// What is done by now.
#[derive(Default)]
struct Done {
    runs: Arc<AtomicU64>,
    flops: AtomicU64,
    /// Of these what had been there before.
    kept_runs: AtomicU64,
    kept_flops: AtomicU64,
    /// Whether what passes had been there before.
    keeping: AtomicBool,
}

/// Follows results as they pass.
pub struct Progress {
    done: Arc<Done>,
    costs: Vec<PairCost>,
    /// Operations of the pairs before each.
    before: Vec<u64>,
    /// Operations before the first run.
    begin: u64,
    teller: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to show how far a stretch of a question's runs is; `costs` are its pairs'.
    pub fn begin(
        flags: &ProgressFlags,
        question: &Question<'_>,
        costs: Vec<PairCost>,
        stretch: RunRange,
    ) -> Self {
        let mut before = Vec::with_capacity(costs.len());
        let mut all: u64 = 0;
        for cost in &costs {
            before.push(all);
            all += cost.clean + cost.flops.last().unwrap_or(&0);
        }
        let mut progress = Self {
            done: Arc::default(),
            costs,
            before,
            begin: 0,
            teller: None,
        };
        let end = match stretch.end.pair < question.pairs.len() {
            true => progress.flops(stretch.end),
            false => all,
        };
        progress.begin = progress.flops(stretch.start);
        let total = Total {
            what: "runs",
            runs: progress.runs(stretch),
            flops: end - progress.begin,
            start: Instant::now(),
        };
        progress.teller = tell(flags, total, progress.done.clone());
        progress
    }

    /// Begins to show how many of so many `what` (runs, edges) are done, as `done` counts them.
    pub fn count(
        flags: &ProgressFlags,
        what: &'static str,
        total: u64,
        done: Arc<AtomicU64>,
    ) -> Self {
        let done = Arc::new(Done {
            runs: done,
            ..Done::default()
        });
        let total = Total {
            what,
            runs: total,
            flops: 0,
            start: Instant::now(),
        };
        Self {
            teller: tell(flags, total, done.clone()),
            done,
            costs: Vec::new(),
            before: Vec::new(),
            begin: 0,
        }
    }

    /// Operations planned of the runs before one.
    fn flops(&self, at: Cursor) -> u64 {
        let Some(cost) = self.costs.get(at.pair) else {
            return 0;
        };
        let here = match at.run.checked_sub(1) {
            Some(run) => cost.clean + cost.flops.get(run).unwrap_or(&0),
            None => 0,
        };
        self.before[at.pair] + here
    }

    /// How many runs of a stretch are read out.
    fn runs(&self, stretch: RunRange) -> u64 {
        let before = |at: Cursor| {
            let whole = self.costs[..at.pair].iter();
            let whole: u64 = whole
                .map(|cost| u64::from(*cost.read_out.last().unwrap_or(&0)))
                .sum();
            let run = at.run.checked_sub(1);
            let here = run.and_then(|run| Some(self.costs.get(at.pair)?.read_out[run]));
            whole + u64::from(here.unwrap_or(0))
        };
        before(stretch.end) - before(stretch.start)
    }

    /// Whether what passes now had been there before, and says nothing of the speed.
    pub fn keep(&self, keeping: bool) {
        self.done.keeping.store(keeping, Ordering::Relaxed);
    }

    /// How many runs had been there before.
    pub fn kept(&self) -> u64 {
        self.done.kept_runs.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    /// Shows no more.
    fn drop(&mut self) {
        if let Some((stop, teller)) = self.teller.take() {
            drop(stop);
            // it has nothing to say if it panicked
            let _ = teller.join();
        }
    }
}

impl Gather for Progress {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let at = Cursor::new(result.pair, result.run + 1);
        let flops = self.flops(at).saturating_sub(self.begin);
        let before = self.done.flops.swap(flops, Ordering::Relaxed);
        self.done.runs.fetch_add(1, Ordering::Relaxed);
        if self.done.keeping.load(Ordering::Relaxed) {
            self.done.kept_runs.fetch_add(1, Ordering::Relaxed);
            let more = flops.saturating_sub(before);
            self.done.kept_flops.fetch_add(more, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Says a last time how far the command is, before its process ends.
type LastWord = Box<dyn FnOnce() + Send>;

/// Of whoever says lines for programs.
static LAST: Mutex<Option<LastWord>> = Mutex::new(None);

/// The process is about to end: programs that follow are told.
pub fn stopped() {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(say) = last {
        say();
    }
}

/// What there is to do, and since when.
#[derive(Clone, Copy)]
struct Total {
    /// What is counted: runs, or edges that are tried.
    what: &'static str,
    runs: u64,
    /// None where they are not planned.
    flops: u64,
    start: Instant,
}

/// What is said at one time; the names are those of `--progress json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Said {
    /// Seconds since 1970.
    time: f64,
    /// `running`, then `ended`, or `stopped` where it ended before all was done.
    state: &'static str,
    #[serde(skip)]
    what: &'static str,
    runs: u64,
    runs_total: u64,
    /// Of the runs those that had been there before this process began.
    runs_kept: u64,
    flops: u64,
    flops_total: u64,
    seconds: f64,
    runs_per_second: f64,
    flops_per_second: f64,
    /// Nothing before the first run is done.
    seconds_left: Option<f64>,
}

impl Total {
    fn said(&self, done: &Done, state: &'static str) -> Said {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let seconds = self.start.elapsed().as_secs_f64();
        let (runs, flops) = (of(&done.runs), of(&done.flops).min(self.flops));
        let now = (
            (runs - of(&done.kept_runs).min(runs)) as f64,
            (flops - of(&done.kept_flops).min(flops)) as f64,
        );
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (runs_per_second, flops_per_second) = (now.0 / seconds, now.1 / seconds);
        let left = match self.flops {
            0 => self.runs.saturating_sub(runs) as f64 / runs_per_second,
            all => (all - flops) as f64 / flops_per_second,
        };
        let state = match state {
            "ended" if runs < self.runs => "stopped",
            state => state,
        };
        Said {
            time: unix.map_or(0.0, |time| time.as_secs_f64()),
            state,
            what: self.what,
            runs,
            runs_total: self.runs,
            runs_kept: of(&done.kept_runs),
            flops,
            flops_total: self.flops,
            seconds,
            runs_per_second,
            flops_per_second,
            seconds_left: Some(left).filter(|left| left.is_finite()),
        }
    }
}

impl Said {
    /// `1234 of 10000 runs (12%), 1200 runs/s, 340.1 GFLOP/s, 1 min 12 s left`
    fn line(&self) -> String {
        let share = match self.flops_total {
            0 => 100.0 * self.runs as f64 / self.runs_total.max(1) as f64,
            total => 100.0 * self.flops as f64 / total as f64,
        };
        format!(
            "{} of {} {} ({share:.0}%), {}",
            self.runs,
            self.runs_total,
            self.what,
            self.rates()
        )
    }

    fn rates(&self) -> String {
        let left = match self.seconds_left {
            // what takes less than a second is not over
            Some(seconds) if seconds < 1.0 => "less than 1 s left".to_owned(),
            Some(seconds) => format!("{} left", duration(seconds)),
            None => return "planning".to_owned(),
        };
        if self.flops_total == 0 {
            return format!("{:.0} {}/s, {left}", self.runs_per_second, self.what);
        }
        let (speed, unit) = match self.flops_per_second {
            flops if flops >= 1e12 => (flops / 1e12, "TFLOP/s"),
            flops => (flops / 1e9, "GFLOP/s"),
        };
        format!(
            "{:.0} runs/s, {speed:.1} {unit}, {left}",
            self.runs_per_second
        )
    }
}

/// Seconds in the two largest units.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round();
    if whole >= 1e9 {
        return format!("{:.0} years", whole / 31_557_600.0);
    }
    let whole = whole as u64;
    let (days, hours) = (whole / 86_400, whole / 3_600 % 24);
    let (minutes, seconds) = (whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Shows how far it is, as the flags or the place where it is shown want it.
fn tell(
    flags: &ProgressFlags,
    total: Total,
    done: Arc<Done>,
) -> Option<(Sender<()>, JoinHandle<()>)> {
    let default = match std::io::stderr().is_terminal() {
        true => Shown::Bar,
        false => Shown::Log,
    };
    match flags.progress.unwrap_or(default) {
        Shown::None => None,
        Shown::Bar => Some(bar(total, done)),
        Shown::Log => Some(log(total, done, flags.progress_every)),
        Shown::Json => Some(objects(total, done, flags.progress_every)),
    }
}

/// Says something each time so many seconds have passed, and once more at the end.
fn each(
    seconds: f64,
    mut say: impl FnMut(&'static str) + Send + 'static,
) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    let every = Duration::from_secs_f64(seconds);
    let tell = move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
            say("running");
        }
        say("ended");
    };
    (stop, std::thread::spawn(tell))
}

/// Lines for people.
fn log(total: Total, done: Arc<Done>, seconds: f64) -> (Sender<()>, JoinHandle<()>) {
    each(seconds, move |state| {
        if state == "running" {
            note(format_args!("{}", total.said(&done, state).line()));
        }
    })
}

/// Objects for programs, the last of which says how it ended, be it with the process.
fn objects(total: Total, done: Arc<Done>, seconds: f64) -> (Sender<()>, JoinHandle<()>) {
    let say = move |state| {
        // plain numbers always serialise
        let said = serde_json::to_string(&total.said(&done, state)).unwrap_or_default();
        note(format_args!("{said}"));
    };
    let say = Arc::new(say);
    let last = say.clone();
    let mut word = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *word = Some(Box::new(move || last("ended")));
    drop(word);
    each(seconds, move |state| {
        let mut word = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        // nothing comes after the last word
        let said = match state {
            "running" => word.is_none(),
            _ => word.take().is_none(),
        };
        if !said {
            say(state);
        }
    })
}

fn bar(total: Total, done: Arc<Done>) -> (Sender<()>, JoinHandle<()>) {
    let length = match total.flops {
        0 => total.runs.max(1),
        flops => flops,
    };
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    // the template is a constant, and well-formed
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    each(0.1, move |state| {
        let said = total.said(&done, state);
        bar.set_position(if total.flops == 0 {
            said.runs
        } else {
            said.flops
        });
        bar.set_message(said.rates());
        if state == "ended" {
            bar.finish_and_clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_done_and_what_is_left() {
        let said = Said {
            time: 0.0,
            state: "running",
            what: "runs",
            runs: 1234,
            runs_total: 10_000,
            runs_kept: 0,
            flops: 120,
            flops_total: 1000,
            seconds: 1.0,
            runs_per_second: 1200.4,
            flops_per_second: 3.401e11,
            seconds_left: Some(72.0),
        };
        let line = "1234 of 10000 runs (12%), 1200 runs/s, 340.1 GFLOP/s, 1 min 12 s left";
        assert_eq!(said.line(), line);
        let fast = Said {
            flops_per_second: 3.4e12,
            seconds_left: None,
            ..said
        };
        assert_eq!(fast.line(), "1234 of 10000 runs (12%), planning");
        let counted = Said {
            what: "edges",
            flops: 0,
            flops_total: 0,
            ..said
        };
        let line = "1234 of 10000 edges (12%), 1200 edges/s, 1 min 12 s left";
        assert_eq!(counted.line(), line);
        let nearly = Said {
            seconds_left: Some(0.4),
            ..fast
        };
        assert!(nearly.line().ends_with("3.4 TFLOP/s, less than 1 s left"));
    }

    #[test]
    fn durations_have_two_units() {
        let said = [0.2, 59.4, 61.0, 7322.0, 200_000.0, 1e10].map(duration);
        let wanted = [
            "0 s",
            "59 s",
            "1 min 1 s",
            "2 h 2 min",
            "2 d 7 h",
            "317 years",
        ];
        assert_eq!(said, wanted);
    }
}
