//! Exact edge patching: one receiver reads one sender's contribution from the source.
//!
//! A run per edge adds the sender's difference to what the receiver reads, x + (c_source − c_base) at
//! every position or at one, and lets everything downstream follow. Nothing is linearised: this is what
//! edge attribution patching (EAP, EAP-IG) approximates by a gradient.
//!
//! A model has tens of thousands of edges, so runs are made, executed and given away a few at a time; all
//! receivers of a sender share its difference.

use std::sync::Arc;

use super::contribution::{Difference, Differences};
use super::edge::Edge;
use super::extent::{EdgeAt, Extent};
use super::node::Sender;
use crate::backend::Backend;
use crate::check::check_pair;
use crate::execute::{ExecuteError, Limits, Outcome};
use crate::model::{Checkpoint, Config};
use crate::patch::{Op, Patch, Run, Vector};
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::metric::Metric;
use crate::results::rows::{raw, table};
use crate::results::table::{Provenance, Row};

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

/// Some edges that have been run.
#[derive(Debug)]
pub struct Batch {
    /// The edges, and where each was patched, one a run.
    pub edges: Vec<EdgeAt>,
    /// How many runs stood before them.
    pub first: usize,
    /// The pair with its runs.
    pub pair: PairRuns,
    /// What was read of the pair, the only one.
    pub outcome: Outcome,
}

impl Batch {
    /// The rows of the result table, with the receiver as what is patched, even where nothing had to be.
    /// `pair` is the pair's index; runs are counted over all batches.
    pub fn rows(&self, model: &Checkpoint, metrics: &[Metric], pair: usize) -> Vec<Row> {
        let pairs = std::slice::from_ref(&self.pair);
        let of = Provenance::default();
        let mut rows = table(model, pairs, &self.outcome, metrics, of).rows;
        for row in &mut rows {
            let EdgeAt { edge, position } = self.edges[row.run as usize];
            let (component, layer, head) = edge.receiver.site(&model.config);
            row.component = Some(component.name().into());
            row.layer = Some(layer as u32);
            row.head = head.map(|head| head as u32);
            if let Some(position) = position {
                let token = self.pair.pair.base.get(position);
                row.position = Some(position as u32);
                row.token = token.map(|id| raw(model, *id));
            }
            row.op = Some(Op::Add(Some(constant(&[].into(), 0))).label());
            (row.pair, row.run) = (pair as u32, self.first as u32 + row.run);
        }
        rows
    }
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

/// Patches each edge by itself and hands the readouts on, batch by batch in the order given, for which
/// the edges of one sender should stand together; of one edge, position by position.
///
/// # Errors
///
/// [`EdgePatchingError`]: what [`check`] finds, a budget too small, or an interruption.
pub fn patch_edges<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    edges: &[Edge],
    extent: Extent,
    limits: &Limits<'_>,
    mut done: impl FnMut(Batch),
) -> Result<(), EdgePatchingError> {
    let source = check(pair, backend.config())?;
    let groups: Vec<&[Edge]> = edges.chunk_by(|a, b| a.sender == b.sender).collect();
    let mut senders: Vec<Sender> = groups.iter().map(|group| group[0].sender).collect();
    senders.sort_unstable_by_key(|sender| sender.index(backend.config()));
    senders.dedup();
    let differences = Differences::new(backend, &pair.base, source, &senders, limits)?;
    let positions = extent.positions(pair.base.len());
    let (mut first, mut bytes) = (0, 0);
    let (mut waiting, mut runs) = (Vec::new(), Vec::new());
    let mut flush = |waiting: &mut Vec<EdgeAt>, runs: &mut Vec<Run>| {
        let edges = std::mem::take(waiting);
        let pair = PairRuns {
            pair: pair.clone(),
            runs: std::mem::take(runs).into(),
        };
        let outcome = Outcome::of(backend, std::slice::from_ref(&pair), limits)?;
        let count = edges.len();
        done(Batch {
            edges,
            first,
            pair,
            outcome,
        });
        first += count;
        Ok::<_, EdgePatchingError>(())
    };
    for group in groups {
        let difference = differences.of(group[0].sender, model);
        bytes += size_of_val(&*difference.values);
        let each = positions.iter().map(|p| (*p, difference.at(*p)));
        let each: Vec<(Option<usize>, Difference)> = each.collect();
        for edge in group {
            for (position, difference) in &each {
                let (edge, position) = (*edge, *position);
                let edge = EdgeAt { edge, position };
                runs.push(run(edge, difference, &model.config));
                waiting.push(edge);
                if runs.len() == RUNS {
                    flush(&mut waiting, &mut runs)?;
                    bytes = 0;
                }
            }
        }
        if bytes > BYTES && !runs.is_empty() {
            flush(&mut waiting, &mut runs)?;
            bytes = 0;
        }
    }
    match runs.is_empty() {
        true => Ok(()),
        false => flush(&mut waiting, &mut runs),
    }
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
