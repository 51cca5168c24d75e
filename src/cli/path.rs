//! `headlight path`: path patching.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::Global;
use super::data::DataFlags;
use super::files::Files;
use super::output::{Also, OutputFlags};
use super::prompts::Prompts;
use super::setup::Setup;
use super::table_file::TableFile;
use crate::engine::words::{named, place};
use crate::error::Error;
use crate::graph::edge::senders;
use crate::graph::path::{Freeze, Paths, Receivers, receivers};
use crate::report;

/// Flags of `path`.
#[derive(Debug, Args)]
pub struct Path {
    #[command(flatten)]
    prompts: Prompts,
    #[command(flatten)]
    data: DataFlags,
    /// What sends, each by itself: heads, mlps, all, input, a3, a3.h5 or m2
    #[arg(
        long,
        default_value = "heads",
        value_name = "NODES",
        value_delimiter = ','
    )]
    senders: Vec<String>,
    /// What receives, all of them together: logits, a9.h6<q> (or a9.h6.q), a9, q, k, v, m5, or a residual
    /// stream such as block_input.5
    #[arg(
        long,
        default_value = "logits",
        value_name = "NODES",
        value_delimiter = ','
    )]
    receivers: Vec<String>,
    /// Patch each receiver by itself
    #[arg(long)]
    apart: bool,
    /// What is held at the base's values on the way: the other heads, so that paths go through MLPs, or
    /// all of heads and MLPs
    #[arg(long, value_enum, default_value = "heads", value_name = "heads|all")]
    freeze: Frozen,
    /// Hold the scales of the layer norms on the way too
    #[arg(long)]
    freeze_scales: bool,
    /// Where senders send: together (at every position in one run), all (each by itself), or numbers and
    /// names such as end or subject.last, each by itself
    #[arg(
        long,
        default_value = "together",
        value_name = "RANGE|NAMES|together",
        allow_negative_numbers = true
    )]
    positions: String,
    /// Where receivers receive, all together: all, or numbers and names
    #[arg(
        long,
        default_value = "all",
        value_name = "RANGE|NAMES",
        allow_negative_numbers = true
    )]
    receiver_positions: String,
    #[command(flatten)]
    output: OutputFlags,
    /// The results as arrays, senders × receivers (× positions): .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Frozen {
    Heads,
    All,
}

impl Path {
    pub fn table(&self) -> &TableFile {
        &self.output.table
    }

    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.output.check(global)?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref());
        self.output.files(files).check(global)?;
        let from = place("positions", &self.positions)?;
        let to = place("receiver-positions", &self.receiver_positions)?;
        let sending = named("senders", &self.senders)?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let (engine, config) = (&setup.engine, &setup.engine.model().config);
        let all = receivers(&self.receivers, config)?;
        let paths = Paths {
            senders: senders(&sending, config)?,
            receivers: match self.apart {
                true => Receivers::apart(all),
                false => vec![Receivers::together(&self.receivers, all)?],
            },
            freeze: match self.freeze {
                Frozen::Heads => Freeze::Heads,
                Frozen::All => Freeze::All,
            },
            freeze_scales: self.freeze_scales,
        };
        paths.check(config)?;
        let notes = vec![self.held(&paths)];
        let of_data = rows.is_some();
        let pairs = self.prompts.pairs(rows, global, engine, &self.data)?;
        let question = engine.paths(paths, (&from, &to), pairs)?;
        let also = Also {
            arrays: self.arrays.as_deref(),
            averages: of_data,
            targets: true,
            notes,
            ..Also::default()
        };
        self.output.answer(&setup, question, also)
    }

    /// Which paths are drawn, in words.
    fn held(&self, paths: &Paths) -> String {
        let to: Vec<&str> = paths.receivers.iter().map(|r| r.name.as_str()).collect();
        let held = match self.freeze {
            Frozen::Heads => "other heads",
            Frozen::All => "other heads and MLPs",
        };
        let scales = if self.freeze_scales {
            " and scales"
        } else {
            ""
        };
        format!(
            "paths to {}; {held}{scales} held at the base's",
            to.join(", ")
        )
    }
}
