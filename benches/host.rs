//! The host's own time under a driver that computes nothing (tests/silent): what planning, recording and
//! reading cost a run, which is what a GPU would wait for. Medians of five.
//!
//! `cargo bench --bench host [-- --threads N]`; the first launch is counted from the sweep's start.

mod random_gpt2;
#[path = "../tests/silent/mod.rs"]
mod silent;

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use headlight::ask::grid::Grid;
use headlight::backend::cuda::{Cuda, Device};
use headlight::backend::{Backend, Precision, Readout};
use headlight::execute::{Limits, PairReadouts, Sink, execute};
use headlight::prompt::pair::{Pair, PairRuns};

/// Takes everything and keeps nothing.
struct Nothing;

impl Sink for Nothing {
    fn pair(&mut self, _: usize, _: &PairReadouts) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn run(&mut self, _: usize, _: usize, _: Vec<Readout>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Pairs of prompts that share no token, patched at every head, layer and position of some sites.
fn pairs(cuda: &Cuda, count: usize, length: usize, sites: &[&str]) -> Vec<PairRuns> {
    let config = cuda.config();
    let sites = match sites {
        [] => Grid::default_sites(),
        sites => sites
            .iter()
            .map(|name| name.parse().expect("a site"))
            .collect(),
    };
    let runs: std::sync::Arc<[_]> = Grid::all(sites)
        .runs(config, length)
        .expect("ranges that exist")
        .into();
    let id = |pair: usize, i: usize, shift: usize| {
        (((pair * 64 + i) * 2 + shift) * 7919 % config.vocab) as u32
    };
    (0..count)
        .map(|p| PairRuns {
            pair: Pair {
                base: (0..length).map(|i| id(p, i, 0)).collect(),
                source: Some((0..length).map(|i| id(p, i, 1)).collect()),
                targets: vec![0, 1],
                ..Pair::default()
            },
            runs: runs.clone(),
        })
        .collect()
}

/// Processor time of the whole process, in seconds.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or("");
    let fields: Vec<f64> = after
        .split_whitespace()
        .filter_map(|f| f.parse().ok())
        .collect();
    // utime and stime stand 12th and 13th behind the name, of which the first is a letter
    fields.get(10..12).map_or(0.0, |t| (t[0] + t[1]) / 100.0)
}

fn main() {
    let mut arguments = std::env::args();
    let threads = arguments
        .find(|a| a == "--threads")
        .and_then(|_| arguments.next()?.parse().ok())
        .unwrap_or(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .expect("the first pool");
    let folder = tempfile::tempdir().expect("a folder");
    let driver = silent::Silent::load(folder.path());
    let model = random_gpt2::random_gpt2();
    let device = Device::open(0).expect("the silent device");
    let stop = AtomicBool::new(false);
    for (name, count, length, sites) in [
        ("reference: 1,440 runs of 5 tokens", 1, 5, &[][..]),
        (
            "indirect object: 86,400 runs of 15 tokens",
            8,
            15,
            &["hook_z", "hook_q", "hook_k", "hook_v", "hook_pattern"][..],
        ),
    ] {
        let cuda = Cuda::new(device.clone(), &model, Precision::F32, &mut |_| ()).expect("room");
        let pairs = pairs(&cuda, count, length, sites);
        let runs: usize = pairs.iter().map(|p| p.runs.len()).sum();
        let limits = Limits::new(2 << 30).until(&stop);
        let mut seen = Vec::new();
        for _ in 0..6 {
            driver.take();
            let (start, used) = (Instant::now(), processor());
            execute(&cuda, &pairs, &limits, &mut Nothing).expect("a sweep that fits");
            let (wall, used) = (start.elapsed().as_secs_f64(), processor() - used);
            let counts = driver.take();
            let first = counts.first_launch as f64 / 1e6;
            seen.push((wall, used, first, counts));
        }
        // the first warms up
        let mut of = seen.split_off(1);
        of.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (wall, _, first, counts) = of[of.len() / 2];
        let used = of.iter().map(|s| s.1).sum::<f64>() / of.len() as f64;
        println!(
            "{name}, {threads} thread(s): {:.2} µs a run ({:.1} ms, {:.1} ms of processor time), first launch after {first:.2} ms",
            wall * 1e6 / runs as f64,
            wall * 1e3,
            used * 1e3,
        );
        println!("    {counts:?}");
    }
}
