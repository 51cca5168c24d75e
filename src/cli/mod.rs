//! The command line: flags in, library calls, text out. One file a subcommand.
//!
//! Nothing here computes. A subcommand turns its flags into the library's types, calls it, and
//! writes what came back; text for people goes where a result does not.

mod attribute;
mod bench;
mod cache;
mod circuit;
mod clock;
mod collect;
mod components;
mod data;
mod edges;
mod files;
mod folder;
mod import;
mod info;
mod interrupt;
mod kept;
mod lens;
mod merge;
mod output;
mod part;
mod path;
mod picture;
mod plan;
mod plot;
mod program;
mod progress;
mod prompts;
mod run;
mod setup;
mod shard;
mod slurm;
mod status;
mod stopping;
mod sweep;
mod table_file;
mod topk;
mod tops;
mod trace;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::plan::PlanFormat;
pub use self::program::{one_line, program};
pub use self::setup::Bytes;
use self::table_file::TableFile;
use crate::backend;
use crate::engine::DeviceWish;
use crate::error::Error;

/// Activation patching on GPT-2: every layer, head and position in one ragged batch.
#[derive(Debug, Parser)]
#[command(name = "headlight", version, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The model that is built in, and opened where none is named.
const DEMO: &str = "demo";

/// Flags that stand before or after the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// A Hugging Face GPT-2 folder, a hub id such as openai-community/gpt2, or the built-in demo
    #[arg(
        long,
        global = true,
        default_value = DEMO,
        value_name = "DIR|HUB_ID|demo"
    )]
    model: String,
    /// Where to compute; several GPUs of one kind share patched runs out among them
    #[arg(
        long,
        global = true,
        default_value = "auto",
        value_name = "auto|cpu|cuda[:N,M]|all"
    )]
    device: DeviceWish,
    /// Precision of activations; f64 is the reference
    #[arg(long, global = true, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Threads; all cores unless given
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory for activations, such as 512M or 2G; a quarter of what is free unless given
    #[arg(long, global = true, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Say more: the most probable tokens of the first prompts, a line each
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Whether a command is only planned, and how that is said.
    #[arg(skip)]
    plan: Option<PlanFormat>,
}

/// [`backend::Precision`] as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// Single precision throughout: on a GPU, tensor cores by splitting where that is faster
    F32,
    /// Double precision: CPU only, the reference
    F64,
    /// Linear layers on operands rounded to TensorFloat-32: GPU only
    Tf32,
    /// What linear layers and attention read is bfloat16: GPU only
    Bf16,
    /// What linear layers and attention read is half precision: GPU only
    F16,
}

impl From<Precision> for backend::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F64 => Self::F64,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Next-token distribution of a prompt
    Topk(topk::Topk),
    /// Patch every layer, head and position, and see which move the target
    Sweep(Box<sweep::SweepFlags>),
    /// Patch every edge between heads and MLPs, one at a time, exactly
    Edges(Box<edges::Edges>),
    /// Estimate by gradients what patches do, and verify the largest exactly
    Attribute(attribute::Attribute),
    /// Choose a circuit by the scores of its edges, and run it alone
    Circuit(Box<circuit::CircuitFlags>),
    /// Patch what a sender tells some receivers with everything else between them held, exactly
    Path(Box<path::Path>),
    /// Corrupt a subject with noise, and see which restored states bring the answer back
    Trace(Box<trace::Trace>),
    /// Say what residual streams would say if they were the last, or what parts of the model add to a logit
    Lens(Box<lens::LensFlags>),
    /// Run an experiment file (TOML or JSON)
    Run(Box<run::RunFile>),
    /// Say what a command would run, how much that is and how long it takes, and run nothing
    Plan(plan::PlanCommand),
    /// How far a run in a folder is
    Status(status::StatusCommand),
    /// Put the parts of a run in folders together as one result file
    Merge(merge::MergeCommand),
    /// Write job scripts for Slurm: shards of a command as an array, and their merge
    Slurm(slurm::SlurmCommand),
    /// Turn what another tool saved into an experiment file
    Import(import::Import),
    /// Export clean activations as safetensors
    Cache(cache::Cache),
    /// Draw a result file as a heat map (SVG or PNG)
    Plot(plot::Plot),
    /// Compare every operation and whole runs with double precision
    Verify(verify::Verify),
    /// Measure speed
    Bench(bench::Bench),
    /// Every component of the model: names, aliases, shapes, and what it is
    Components,
    /// The model, the devices, and which would be used
    Info,
}

/// Lists that begin with a minus made their flag's: `--positions -2,-1` is what `--positions=-2,-1` is.
fn join_lists(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const FLAGS: [&str; 4] = [
        "--positions",
        "--receiver-positions",
        "--source-positions",
        "--at",
    ];
    let is_list = |text: &OsString| {
        let mut rest = text.to_str().unwrap_or_default().chars();
        rest.next() == Some('-') && rest.next().is_some_and(|c| c.is_ascii_digit())
    };
    let mut all: Vec<OsString> = Vec::new();
    for argument in arguments {
        match all.last_mut() {
            Some(flag) if FLAGS.iter().any(|known| flag == known) && is_list(&argument) => {
                flag.push("=");
                flag.push(argument);
            }
            _ => all.push(argument),
        }
    }
    all
}

impl Cli {
    /// Where the table of a command that patches goes.
    fn table(&self) -> Option<&TableFile> {
        match &self.command {
            Command::Sweep(command) => Some(command.table()),
            Command::Edges(command) => Some(command.table()),
            Command::Path(command) => Some(command.table()),
            Command::Trace(command) => Some(command.table()),
            Command::Lens(command) => Some(command.table()),
            Command::Run(command) => Some(command.table()),
            _ => None,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; an interruption and a closed pipe are errors too, for [`program`] to tell apart.
    pub fn run(mut self) -> Result<ExitCode, Error> {
        if let Command::Plan(plan) = self.command {
            self.global.plan = Some(plan.format);
            self.command = plan.command.into();
        }
        let global = &self.global;
        match self.command {
            Command::Plan(_) => Ok(ExitCode::SUCCESS),
            Command::Status(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Slurm(command) => command.run(),
            Command::Topk(command) => command.run(global),
            Command::Sweep(command) => command.run(global),
            Command::Edges(command) => command.run(global),
            Command::Attribute(command) => command.run(global),
            Command::Circuit(command) => command.run(global),
            Command::Path(command) => command.run(global),
            Command::Trace(command) => command.run(global),
            Command::Lens(command) => command.run(global),
            Command::Run(command) => command.run(global),
            Command::Import(command) => command.run(global),
            Command::Cache(command) => command.run(global),
            Command::Plot(command) => command.run(),
            Command::Verify(command) => command.run(global),
            Command::Bench(command) => command.run(global),
            Command::Components => components::run(global),
            Command::Info => info::run(global),
        }
    }
}

/// Says something on standard error. Nobody may be listening, which is no reason to stop.
fn note(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes through a function and turns its I/O errors into [`Error::Output`].
fn print(
    out: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Error> {
    write(out).and_then(|()| out.flush()).map_err(Error::Output)
}
