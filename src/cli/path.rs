//! `headlight path`: path patching.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::data::{DataFlags, Fallback};
use super::edges::named;
use super::files::Files;
use super::output::Output;
use super::pairs::{Where, axis};
use super::prompts::{Prompts, default_targets};
use super::setup::Setup;
use super::{Global, note};
use crate::ask::preset::together;
use crate::check::{CheckError, check_run};
use crate::data::{Example, Reading, Resolved, RowError};
use crate::error::Error;
use crate::graph::edge::senders;
use crate::graph::matrix::Matrices;
use crate::graph::path::{Freeze, PathError, Paths, Receivers, receivers};
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::Spot;
use crate::report::Patched;
use crate::results::table::Table;
use crate::{data, report};

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
    output: Output,
    /// The results as arrays, senders × receivers (× positions): .npz or .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Frozen {
    Heads,
    All,
}

/// A pair with its runs, and where its senders send.
type Planned = (PairRuns, Vec<Spot>);

/// What every pair shares.
struct Ask<'a> {
    setup: &'a Setup,
    paths: &'a Paths,
    /// Where senders send.
    from: &'a Where,
    /// Where receivers receive.
    to: &'a Where,
    /// Runs of pairs that are patched at the same places.
    known: RefCell<HashMap<Places, Arc<[Run]>>>,
}

/// A prompt's length, where senders send, and where receivers receive.
type Places = (usize, Vec<Spot>, Vec<usize>);

impl Path {
    pub fn run(mut self, global: &Global) -> Result<ExitCode, Error> {
        self.output.check()?;
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
        let config = &setup.model.config;
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
        let ask = Ask {
            setup: &setup,
            paths: &paths,
            from: &from,
            to: &to,
            known: RefCell::default(),
        };
        let averages = rows.is_some();
        let planned: Vec<Planned> = match rows {
            Some(rows) => self.rows(rows, &ask)?,
            None => vec![ask.typed(self.prompts.pair(global, &setup, &self.data)?)?],
        };
        let (mut pairs, spots): (Vec<PairRuns>, Vec<Vec<Spot>>) = planned.into_iter().unzip();
        self.output.table.check_pairs(&pairs, averages)?;
        let labels = |spots: &Vec<Spot>| spots.iter().map(Spot::label).collect();
        let labels: Vec<Vec<String>> = spots.iter().map(labels).collect();
        let labels = self.arrays.as_ref().map(|_| axis(&labels)).transpose()?;
        setup.announce();
        default_targets(&setup, &mut pairs)?;
        let say = |table: &mut Table| {
            let of_pairs = table.rows.chunk_by_mut(|a, b| a.pair == b.pair);
            for (rows, (PairRuns { pair, .. }, spots)) in of_pairs.zip(pairs.iter().zip(&spots)) {
                paths.rows(rows, &setup.model, pair, spots);
            }
        };
        self.output.check_plot(&setup, &pairs, say)?;
        if self.arrays.is_some() {
            self.output.table.arrays_metric(&pairs);
        }
        let (outcome, time) = setup.execute(&pairs, 10, &self.output.table.metric)?;
        if let (Some(path), Some(labels)) = (&self.arrays, labels) {
            let mut matrices = Matrices::new(paths.axes(&labels), &self.output.table.metric);
            for (p, (PairRuns { pair, .. }, read)) in pairs.iter().zip(&outcome.pairs).enumerate() {
                let places = paths.places(config, spots[p].len(), labels.len());
                matrices.add(p, pair, read, &places);
            }
            report::write_arrays(&matrices.arrays(), &setup.provenance(&pairs), path)?;
            note(format_args!("wrote {}", path.display()));
        }
        let mut results = self.output.tabulate(&setup, &pairs, (&outcome, time));
        results.what = Patched::Path;
        results.notes = vec![self.held(&paths)];
        say(&mut results.table);
        self.output.write(&setup, &results, averages)
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

    /// The pairs of a data set.
    fn rows(&self, rows: data::Rows, ask: &Ask<'_>) -> Result<Vec<Planned>, Error> {
        let fallback = Fallback::of(&self.prompts.answers, ask.setup)?;
        let reading = Reading {
            positions: ask.from.listed(),
            reads_source: true,
            ..self.data.reading(ask.setup, &fallback)?
        };
        self.data
            .each(rows, &reading, ask.setup, |example, resolved| {
                Ok(ask.plan(&reading, example, resolved))
            })
    }
}

impl Ask<'_> {
    /// The one pair that was typed.
    fn typed(&self, pair: Pair) -> Result<Planned, Error> {
        let example = Example::of_ids(pair.base.clone(), pair.source.clone());
        let reads_source = pair.source.is_some();
        let reading = Reading::of_positions(&self.setup.model, self.from.listed(), reads_source);
        let resolved = reading.resolve(&example);
        let resolved = resolved.map_err(|e| Error::Usage(format!("--positions: {}", e.problem)))?;
        let resolved = Resolved { pair, ..resolved };
        let planned = self.plan(&reading, &example, resolved);
        planned.map_err(|error| Error::Usage(error.problem))
    }

    /// A pair with its runs.
    fn plan(
        &self,
        reading: &Reading<'_>,
        example: &Example,
        Resolved { pair, spots }: Resolved,
    ) -> Result<Planned, RowError> {
        let wrong = |problem: String| RowError::new(&example.path, &example.place, None, problem);
        let everywhere = self.from.listed().is_none() && example.positions.is_none();
        let check = Paths::check_pair(&pair, everywhere);
        check.map_err(|error: PathError| wrong(error.to_string()))?;
        let spots = match self.from {
            Where::Together => vec![together(&spots)],
            Where::All | Where::Listed(_) => spots,
        };
        let length = pair.base.len();
        let at = match self.to.listed() {
            None => (0..length).collect(),
            Some(_) => {
                let receiving = Reading {
                    positions: self.to.listed(),
                    reads_source: false,
                    ..reading.clone()
                };
                let resolved = receiving.resolve(example).map_err(|mut error| {
                    error.problem = format!("--receiver-positions: {}", error.problem);
                    error
                })?;
                together(&resolved.spots).positions
            }
        };
        let config = &self.setup.model.config;
        let places = (length, spots, at);
        let mut known = self.known.borrow_mut();
        let runs = known.entry(places.clone()).or_insert_with(|| {
            let (length, spots, at) = &places;
            self.paths.runs(config, *length, spots, at).into()
        });
        let runs = Arc::clone(runs);
        let (_, spots, _) = places;
        for run in runs.iter() {
            let check = check_run(run, &runs, &pair, config);
            check.map_err(|error: CheckError| wrong(error.to_string()))?;
        }
        Ok((PairRuns { pair, runs }, spots))
    }
}

fn place(flag: &str, text: &str) -> Result<Where, Error> {
    let parsed = text.parse();
    parsed.map_err(|e| Error::Usage(format!("--{flag}: {e}")))
}
