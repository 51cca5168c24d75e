//! Workloads whose speed is worth knowing, shared by `headlight bench` and `benches/`.
//!
//! Timings are of whole operations through the [`Backend`] contract, as the forward pass calls them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::backend::{
    Attention, Backend, Epilogue, Linear, Norm, ReadoutSpec, Rows, Store, Weight,
};
use crate::patch::{Op, Run};
use crate::plan::tables::{AttentionRows, Ref};
use crate::sweep::execute::{self, ExecuteError, Limits, Outcome, Plan};
use crate::sweep::grid::{Grid, Span};
use crate::sweep::pair::{Pair, PairRuns};

/// One operation over some rows, ready to be run again and again.
pub struct Kernel<'a> {
    /// What it is, with its shape.
    pub name: String,
    /// Floating-point operations of one run; 0 where bytes are what limits it.
    pub flops: f64,
    /// Bytes that one run must read and write at least.
    pub bytes: f64,
    /// Runs it once.
    pub run: Box<dyn FnMut() + 'a>,
}

/// Every operation of the forward pass over `rows` rows; attention over prompts of `length` tokens.
pub fn kernels<B: Backend>(backend: &B, rows: usize, length: usize) -> Vec<Kernel<'_>> {
    let config = backend.config();
    let (d, i, v) = (config.width, config.inner, config.vocab);
    let size = backend.value_bytes() as f64;
    let fill = |n: usize| {
        (0..n)
            .map(|i| ((i * 7919) % 2017) as f64 / 1009.0 - 1.0)
            .collect::<Vec<_>>()
    };
    let matrix =
        |rows: usize, width: usize, store| backend.upload(rows, width, store, &fill(rows * width));
    let list: Arc<Vec<u32>> = Arc::new((0..rows as u32).collect());
    let refs: Arc<Vec<Ref>> = Arc::new((0..rows).map(Ref::own).collect());
    let mut kernels: Vec<Kernel<'_>> = Vec::new();
    for (name, weight, k, n, activate) in [
        ("linear c_attn third", Weight::Query(0), d, d, false),
        ("linear c_fc, activation", Weight::MlpPre(0), d, i, true),
        (
            "linear MLP c_proj, residual",
            Weight::MlpOutput(0),
            i,
            d,
            false,
        ),
    ] {
        let written = match weight {
            Weight::Query(_) => Store::Heads,
            Weight::MlpPre(_) => Store::Branch,
            _ => Store::Residual,
        };
        let input = matrix(rows, k, Store::Branch);
        let (residual, mut out) = (matrix(rows, n, Store::Residual), matrix(rows, n, written));
        let (list, refs) = (list.clone(), refs.clone());
        kernels.push(Kernel {
            name: format!("{name}, {rows} × {k} → {n}"),
            flops: 2.0 * (rows * k * n) as f64,
            bytes: size * (rows * (k + n) + k * n) as f64,
            run: Box::new(move || {
                let epilogue = match (activate, k == n) {
                    (true, _) => Epilogue::Activate,
                    (_, true) => Epilogue::None,
                    _ => Epilogue::Residual(Rows {
                        own: &residual,
                        trace: None,
                        refs: &refs,
                    }),
                };
                let linear = Linear {
                    weight,
                    columns: 0..n,
                    input: &input,
                    rows: &list,
                    out_rows: None,
                    epilogue,
                };
                backend.linear(&linear, &mut out);
            }),
        });
    }
    let (input, mut out) = (
        matrix(rows, d, Store::Residual),
        matrix(rows, d, Store::Branch),
    );
    kernels.push(Kernel {
        name: format!("layer norm, {rows} × {d}"),
        flops: 0.0,
        bytes: size * (2 * rows * d) as f64,
        run: Box::new(move || {
            backend.layer_norm(
                Norm::LnF,
                &Rows {
                    own: &input,
                    trace: None,
                    refs: &refs,
                },
                &mut out,
            );
        }),
    });
    let prompts = rows.div_ceil(length);
    let mut tables = AttentionRows::default();
    for prompt in 0..prompts {
        for position in 0..length {
            tables.key.push(Ref::own(prompt * length + position));
            tables.value.push(Ref::own(prompt * length + position));
            tables.query.push(Ref::own(prompt * length + position));
            tables.first.push((prompt * length) as u32);
            tables.count.push(position as u32 + 1);
        }
    }
    let all = prompts * length;
    let (query, key, value, mut out) = (
        matrix(all, d, Store::Heads),
        matrix(all, d, Store::Heads),
        matrix(all, d, Store::Heads),
        matrix(all, d, Store::Heads),
    );
    let constants = backend.constants(&[]);
    kernels.push(Kernel {
        name: format!("attention, {prompts} prompts of {length}"),
        flops: 4.0 * (d * prompts * length * (length + 1) / 2) as f64,
        bytes: size * (4 * all * d) as f64,
        run: Box::new(move || {
            let attention = Attention {
                layer: 0,
                query: (&query, None),
                key: (&key, None),
                value: (&value, None),
                rows: &tables,
                scores: &[],
                weights: &[],
                keep_scores: None,
                keep_weights: None,
                stride: 0,
            };
            backend.attention(&attention, &mut [], &constants, &mut out);
        }),
    });
    let input = matrix(rows, d, Store::Branch);
    kernels.push(Kernel {
        name: format!("readout, {rows} × {d} → {v}"),
        flops: 2.0 * (rows * d * v) as f64,
        bytes: size * (rows * d + d * v) as f64,
        run: Box::new(move || {
            let spec = ReadoutSpec {
                ids: vec![0; rows],
                first: (0..=rows).collect(),
                top: 0,
                ..ReadoutSpec::default()
            };
            // a device that fails here fails in the sweep that follows, and says so there
            let _ = std::hint::black_box(backend.readout(&input, rows, &spec));
        }),
    });
    kernels
}

/// The median time of one run: a warm-up, then repeats until they fill about a fifth of a second.
pub fn median(run: &mut dyn FnMut()) -> Duration {
    run();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || (start.elapsed() < Duration::from_millis(200) && times.len() < 1000) {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// The sweep over z and v of every head, layer and position of two prompts that share no token,
/// so that no patch is dead; at most `most` runs, evenly spread.
pub fn sweep<B: Backend>(backend: &B, length: usize, most: usize) -> PairRuns {
    let config = backend.config();
    let id = |i: usize, shift: usize| ((i * 2 + shift) * 7919 % config.vocab) as u32;
    let ids = |shift| (0..length).map(|i| id(i, shift)).collect::<Vec<_>>();
    let grid = Grid {
        sites: Grid::default_sites(),
        layers: Span::All,
        heads: Span::All,
        positions: Span::All,
        heads_together: false,
        positions_together: false,
        op: Op::Interchange,
    };
    // every range is `all`, which always exists
    let runs: Vec<Run> = grid.runs(config, length).unwrap_or_default();
    let count = runs.len().min(most);
    let total = runs.len();
    let spread: Vec<Run> = (0..count)
        .map(|i| runs[i * total / count].clone())
        .collect();
    let pair = Pair {
        base: ids(0),
        source: Some(ids(1)),
        targets: vec![0, 1],
        wrong: Vec::new(),
        readouts: Vec::new(),
    };
    PairRuns {
        pair,
        runs: spread.into(),
    }
}

/// Runs a sweep once: its plan before the traces, what was read, operations executed, seconds.
///
/// # Errors
///
/// [`ExecuteError`] for a budget too small or an interruption.
pub fn time_sweep<B: Backend>(
    backend: &B,
    runs: &PairRuns,
    memory: u64,
    stop: &AtomicBool,
) -> Result<(Plan, Outcome, u64, f64), ExecuteError> {
    let plan = execute::plan(backend, std::slice::from_ref(runs));
    let before = backend.executed_flops();
    let start = Instant::now();
    let limits = Limits {
        memory,
        top: 1,
        top_of_runs: 0,
        ranks: false,
        kl: false,
        stop,
    };
    let outcome = execute::execute(backend, std::slice::from_ref(runs), &limits)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((plan, outcome, backend.executed_flops() - before, seconds))
}
