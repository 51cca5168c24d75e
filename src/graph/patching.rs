//! Exact edge patching: one receiver reads one sender's contribution from the source.
//!
//! A run per edge adds the sender's difference to what the receiver reads, x + (c_source − c_base) at
//! every position or at one, and lets everything downstream follow. Nothing is linearised: this is what
//! edge attribution patching (EAP, EAP-IG) approximates by a gradient.
//!
//! A model has tens of thousands of edges, so runs are made and executed a few at a time; all receivers of a
//! sender share its difference.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::contribution::{Difference, Differences};
use super::edge::Edge;
use super::extent::{EdgeAt, Extent};
use super::node::Sender;
use crate::backend::{Backend, Readout};
use crate::check::check_pair;
use crate::execute::{ExecuteError, Limits, PairReadouts, Plan, Sink, execute};
use crate::model::{Checkpoint, Config};
use crate::patch::{Op, Patch, Run, Vector};
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::table::Row;

/// The most runs that are made and executed together.
const RUNS: usize = 2048;

/// Bytes of differences that are held together, unless one sender's are more.
const BYTES: usize = 64 << 20;

/// Why edges cannot be patched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgePatchingError {
    /// Nothing to take contributions from.
    #[error("edges are patched with a source prompt's contributions: give one")]
    NoSource,
    /// Positions of one prompt that the other does not have.
    #[error(
        "the base prompt has {base} tokens and the source {source_length}: a contribution is put where it was taken, so give prompts of equal length"
    )]
    Lengths {
        /// Tokens of the base.
        base: usize,
        /// Tokens of the source.
        source_length: usize,
    },
    /// Runs that do not fit the model or the memory, or an interruption.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Checks that a pair's edges can be patched.
///
/// # Errors
///
/// [`EdgePatchingError`] without a source, where the lengths differ, and where prompts or targets do
/// not fit the model.
pub fn check<'a>(pair: &'a Pair, config: &Config) -> Result<&'a [u32], EdgePatchingError> {
    check_pair(pair, config).map_err(|error| ExecuteError::Check {
        pair: 0,
        run: None,
        error,
    })?;
    let source = pair.source.as_deref().ok_or(EdgePatchingError::NoSource)?;
    match (pair.base.len(), source.len()) {
        (base, length) if base == length => Ok(source),
        (base, source_length) => Err(EdgePatchingError::Lengths {
            base,
            source_length,
        }),
    }
}

/// Makes the runs of a pair's edges, each edge by itself, and hands them on with the number of those before
/// them, in the order of [`Extent::edge`]; the edges of one sender should stand together.
///
/// # Errors
///
/// [`EdgePatchingError`]: what [`check`] finds, a budget too small, or an interruption; and what `part` says.
pub fn each_part<B: Backend, E: From<EdgePatchingError>>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    (edges, extent): (&[Edge], Extent),
    limits: &Limits<'_>,
    mut part: impl FnMut(usize, &PairRuns) -> Result<(), E>,
) -> Result<(), E> {
    let source = check(pair, backend.config())?;
    let groups: Vec<&[Edge]> = edges.chunk_by(|a, b| a.sender == b.sender).collect();
    let mut senders: Vec<Sender> = groups.iter().map(|group| group[0].sender).collect();
    senders.sort_unstable_by_key(|sender| sender.index(backend.config()));
    senders.dedup();
    let differences = Differences::new(backend, &pair.base, source, &senders, limits);
    let differences = differences.map_err(EdgePatchingError::from)?;
    let positions = extent.positions(pair.base.len());
    let (mut first, mut bytes, mut runs) = (0, 0, Vec::new());
    let mut flush = |runs: &mut Vec<Run>| {
        let count = runs.len();
        let runs = std::mem::take(runs).into();
        let pair = pair.clone();
        part(first, &PairRuns { pair, runs })?;
        first += count;
        Ok::<_, E>(())
    };
    for group in groups {
        let difference = differences.of(group[0].sender, model);
        bytes += size_of_val(&*difference.values);
        let each = positions.iter().map(|p| (*p, difference.at(*p)));
        let each: Vec<(Option<usize>, Difference)> = each.collect();
        for edge in group {
            for (position, difference) in &each {
                let (edge, position) = (*edge, *position);
                runs.push(run(EdgeAt { edge, position }, difference, &model.config));
                if runs.len() == RUNS {
                    flush(&mut runs)?;
                    bytes = 0;
                }
            }
        }
        if bytes > BYTES && !runs.is_empty() {
            flush(&mut runs)?;
            bytes = 0;
        }
    }
    match runs.is_empty() {
        true => Ok(()),
        false => flush(&mut runs),
    }
}

/// The runs of some edges of a pair, in their order; those of one sender share its difference.
///
/// # Errors
///
/// As [`each_part`].
pub fn runs_of<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    edges: &[EdgeAt],
    limits: &Limits<'_>,
) -> Result<Vec<Run>, EdgePatchingError> {
    let source = check(pair, backend.config())?;
    let mut senders: Vec<Sender> = edges.iter().map(|at| at.edge.sender).collect();
    senders.sort_unstable_by_key(|sender| sender.index(backend.config()));
    senders.dedup();
    let differences = Differences::new(backend, &pair.base, source, &senders, limits)?;
    let each = senders.iter().map(|s| (*s, differences.of(*s, model)));
    let whole: HashMap<Sender, Difference> = each.collect();
    let run = |at: &EdgeAt| {
        let difference = whole[&at.edge.sender].at(at.position);
        run(*at, &difference, &model.config)
    };
    Ok(edges.iter().map(run).collect())
}

/// Patches each edge by itself; the runs of the one pair are those of [`Extent::edge`].
///
/// # Errors
///
/// As [`each_part`].
pub fn patch_edges<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    edges: (&[Edge], Extent),
    limits: &Limits<'_>,
    sink: &mut dyn Sink,
) -> Result<Plan, EdgePatchingError> {
    let mut plan = Plan::default();
    each_part(backend, model, pair, edges, limits, |first, part| {
        let mut sink = Later { first, sink };
        plan += execute(backend, std::slice::from_ref(part), limits, &mut sink)?;
        Ok::<_, EdgePatchingError>(())
    })?;
    Ok(plan)
}

/// Takes runs of a pair that has had so many before.
struct Later<'s> {
    first: usize,
    sink: &'s mut dyn Sink,
}

impl Sink for Later<'_> {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        match self.first {
            0 => self.sink.pair(pair, clean),
            _ => ControlFlow::Continue(()),
        }
    }

    fn run(&mut self, pair: usize, run: usize, readouts: Vec<Readout>) -> ControlFlow<()> {
        self.sink.run(pair, self.first + run, readouts)
    }
}

/// Files a row of an edge's run under the receiver as what is patched, even where nothing had to be.
pub fn relabel(edge: EdgeAt, config: &Config, row: &mut Row) {
    let (component, layer, head) = edge.edge.receiver.site(config);
    row.component = Some(component.name().into());
    row.layer = Some(layer as u32);
    row.head = head.map(|head| head as u32);
    if let Some(position) = edge.position {
        row.position = Some(position as u32);
    }
    row.op = Some(Op::Add(Some(constant(&[].into(), 0))).label().into());
}

/// The run of one edge: without patches where the sender contributes the same in both prompts.
fn run(edge: EdgeAt, difference: &Difference, config: &Config) -> Run {
    let (component, layer, head) = edge.edge.receiver.site(config);
    let positions = difference.positions.clone();
    let rows = positions.len();
    let patch = || {
        let heads = head.into_iter().collect();
        let add = Op::Add(Some(constant(&difference.values, rows)));
        Patch::interchange(component, Some(layer), heads, positions).with_op(add)
    };
    Run {
        name: Some(edge.to_string()),
        patches: if rows == 0 { Vec::new() } else { vec![patch()] },
        ..Run::default()
    }
}

/// Which sender's it is stands in the run's name, so that plots have all of a receiver's together.
fn constant(values: &Arc<[f64]>, rows: usize) -> Vector {
    Vector {
        label: "source-base".into(),
        values: Arc::clone(values),
        rows,
    }
}
