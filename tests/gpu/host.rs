//! What a sweep asks of a device: launches, copies, waits and allocations, counted by a driver that computes
//! nothing (tests/silent). Times are benches/host.rs's.

use std::ops::ControlFlow;
use std::process::Command;

use headlight::ask::grid::Grid;
use headlight::backend::cuda::{Cuda, Device};
use headlight::backend::{Precision, Readout};
use headlight::execute::{Limits, PairReadouts, Sink, execute};
use headlight::model::Checkpoint;
use headlight::prompt::pair::{Pair, PairRuns};

use crate::silent::{Counts, Silent};

/// Takes everything and counts runs.
struct Counting(usize);

impl Sink for Counting {
    fn pair(&mut self, _: usize, _: &PairReadouts) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn run(&mut self, _: usize, _: usize, _: Vec<Readout>) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

/// A process has one CUDA driver, and the others' is the emulated one: so this is counted in another.
#[test]
fn a_sweep_waits_for_what_it_reads_and_asks_for_the_same_every_time() {
    let program = std::env::current_exe().unwrap();
    let counted = Command::new(program)
        .args(["--exact", "host::counted", "--ignored", "--nocapture"])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&counted.stdout).into_owned();
    assert!(
        said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&counted.stderr)
    );
}

#[test]
#[ignore = "of the test above, in a process of its own"]
fn counted() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Silent::load(folder.path());
    let model = Checkpoint::resolve("demo").unwrap();
    let device = Device::open(0).unwrap();
    let cuda = Cuda::new(device, &model, Precision::F32, &mut |_| ()).unwrap();
    let runs = Grid::all(Grid::default_sites())
        .runs(&model.config, 5)
        .unwrap();
    let count = runs.len();
    let pairs = [PairRuns {
        pair: Pair {
            base: vec![1, 2, 3, 4, 5],
            source: Some(vec![6, 7, 8, 9, 10]),
            targets: vec![0, 1],
            ..Pair::default()
        },
        runs: runs.into(),
    }];
    let mut seen: Vec<Counts> = Vec::new();
    for _ in 0..3 {
        driver.take();
        let mut sink = Counting(0);
        execute(&cuda, &pairs, &Limits::new(1 << 30), &mut sink).unwrap();
        assert_eq!(sink.0, count);
        seen.push(Counts {
            first_launch: 0,
            ..driver.take()
        });
    }
    for (i, counts) in seen.iter().enumerate() {
        println!("{counts:?}");
        // a copy more where the pinned block that is being filled ends, allocations more while buffers grow
        assert!((3..=4).contains(&counts.to_device), "{counts:?}");
        let grow = if i == 0 { 10 } else { 1 };
        assert!((44..=44 + grow).contains(&counts.allocations), "{counts:?}");
        let exact = Counts {
            to_device: 0,
            allocations: 0,
            frees: 0,
            ..*counts
        };
        let expected = Counts {
            launches: 126,
            bytes_to_device: 127_664,
            to_host: 3,
            bytes_to_host: 6752,
            // for what is read, and for nothing else
            waits: 3,
            // the pool gives nothing back while it waits
            kept: u64::MAX,
            ..Counts::default()
        };
        assert_eq!(exact, expected);
    }
}
