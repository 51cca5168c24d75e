//! The main loops of products on paper: what a stage consists of, and how long it takes on a simulated
//! multiprocessor (simulate.py). benches/RESULTS.md has the figures, with a column for measured ones.
//!
//! Bounds are what was found, and a twentieth more. One that is exceeded means that something got slower
//! on paper: look at what the loop consists of before raising it.

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::{MEASURED, assert_none, disassembler, image, skip};
use headlight::backend::cuda::COMPILED_BY;

/// The chip that is simulated.
const CHIP: &str = "sm_90a";

/// One loop.
struct Loop {
    kernel: &'static str,
    /// How often its inner loop runs in a stage; 1 where it is unrolled.
    steps: u32,
    /// Blocks that share the multiprocessor.
    blocks: u32,
    /// The most cycles of a stage of all of them.
    cycles: u32,
    /// Instructions of a stage: matrix products, matrices loaded, copies, and the most of all kinds.
    products: u32,
    loads: u32,
    copies: u32,
    all: u32,
}

#[rustfmt::skip]
const fn of(kernel: &'static str, (steps, blocks): (u32, u32), cycles: u32, [products, loads, copies, all]: [u32; 4]) -> Loop {
    Loop { kernel, steps, blocks, cycles, products, loads, copies, all }
}

/// Stages are of 32 of K in large and medium tiles of 32-bit operands, of 64 in all others.
#[rustfmt::skip]
const LOOPS: [Loop; 22] = [
    of("linear_split_large", (3, 1), 4594, [288, 28, 10, 1198]),
    of("linear_split_medium", (3, 1), 1853, [144, 20, 10, 736]),
    of("linear_split_medium", (3, 3), 3572, [144, 20, 10, 736]),
    of("linear_split_small", (1, 1), 844, [48, 16, 12, 453]),
    of("linear_split_small", (1, 2), 878, [48, 16, 12, 453]),
    of("linear_split_small", (1, 6), 1947, [48, 16, 12, 453]),
    of("linear_tf32_large", (1, 1), 2071, [96, 28, 10, 517]),
    of("linear_tf32_medium", (1, 3), 1634, [48, 20, 10, 381]),
    of("linear_tf32_small", (1, 1), 763, [16, 16, 12, 285]),
    of("linear_ffma_medium", (8, 3), 7736, [1536, 0, 10, 1982]),
    of("linear_ffma_small", (16, 1), 2128, [512, 0, 12, 1007]),
    of("linear_bf16_large", (1, 1), 1640, [96, 28, 10, 249]),
    of("linear_bf16_medium", (1, 1), 771, [48, 20, 10, 190]),
    of("linear_bf16_medium", (1, 3), 1592, [48, 20, 10, 190]),
    of("linear_bf16_small", (1, 1), 396, [8, 8, 6, 117]),
    of("linear_bf16_small", (1, 8), 1048, [8, 8, 6, 117]),
    of("linear_f16_large", (1, 1), 1640, [96, 28, 10, 249]),
    of("readout_scan_split_large", (3, 1), 4790, [288, 28, 10, 1201]),
    of("readout_scan_split_small", (3, 2), 2159, [144, 28, 26, 872]),
    of("readout_scan_tf32_large", (1, 1), 1815, [96, 28, 10, 520]),
    of("readout_scan_bf16_large", (1, 1), 1596, [96, 28, 10, 249]),
    of("readout_scan_bf16_small", (1, 2), 1012, [48, 28, 26, 256]),
];

/// What was found of a loop: cycles of a stage, its instructions, and how many of each kind.
struct Found {
    cycles: u32,
    all: u32,
    kinds: BTreeMap<String, u32>,
}

impl Found {
    fn count(&self, kind: &str) -> u32 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

/// A line of simulate.py.
fn read(line: &str) -> (String, u32, Found) {
    let mut words = line.split(' ');
    let name = words.next().unwrap().to_owned();
    let mut number = || words.next().unwrap().parse().unwrap();
    let (blocks, cycles, all) = (number(), number(), number());
    let kinds = words.map(|word| {
        let (kind, count) = word.split_once('=').unwrap();
        (kind.to_owned(), count.parse().unwrap())
    });
    let kinds = kinds.collect();
    (name, blocks, Found { cycles, all, kinds })
}

/// Python: `$HEADLIGHT_PYTHON`, or the one on the PATH.
fn python(test: &str) -> Option<PathBuf> {
    let named = env::var_os("HEADLIGHT_PYTHON").map(PathBuf::from);
    let found = named.into_iter().chain(["python3".into()]).find(|program| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        skip(test, "there is no Python");
    }
    found
}

/// What the simulation says of the loops of one source's kernels.
fn simulate(python: &Path, cuobjdump: &Path, source: &str, loops: &[&Loop]) -> String {
    let arguments = loops
        .iter()
        .map(|l| format!("{}:{}:{}", l.kernel, l.steps, l.blocks));
    let code = Command::new(cuobjdump)
        .args(["-sass", "-arch", CHIP])
        .arg(image(source))
        .output()
        .unwrap();
    assert!(code.status.success(), "cuobjdump fails on {source}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu/kernels/simulate.py");
    let mut child = Command::new(python)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(&code.stdout));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "simulate.py fails on {source}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn main_loops_take_no_longer_on_paper_than_they_did() {
    let test = "main_loops_take_no_longer_on_paper_than_they_did";
    let (Some(cuobjdump), Some(python)) = (disassembler(test), python(test)) else {
        return;
    };
    // other compilers make other code
    if COMPILED_BY.is_none_or(|by| by.release.0 != MEASURED) {
        return;
    }
    let mut found: BTreeMap<(String, u32), Found> = BTreeMap::new();
    for source in ["linear", "linear_half", "readout", "readout_half"] {
        let half = source.ends_with("half");
        let readout = source.starts_with("readout");
        let own = |l: &&Loop| {
            l.kernel.contains("16_") == half && l.kernel.starts_with("readout") == readout
        };
        let own: Vec<&Loop> = LOOPS.iter().filter(own).collect();
        for line in simulate(&python, &cuobjdump, source, &own).lines() {
            let (name, blocks, loop_found) = read(line);
            found.insert((name, blocks), loop_found);
        }
    }
    let mut wrong = Vec::new();
    for l in &LOOPS {
        let found = &found[&(l.kernel.to_owned(), l.blocks)];
        let mut tell = |what: &str, found: u32, meant: u32| {
            let Loop { kernel, blocks, .. } = l;
            wrong.push(format!(
                "{kernel}, {blocks} at a time: {found} {what}, not {meant}"
            ));
        };
        let product = if l.kernel.contains("ffma") {
            "FFMA"
        } else {
            "HMMA"
        };
        for (kind, meant) in [
            (product, l.products),
            ("LDSM", l.loads),
            ("LDGSTS", l.copies),
            ("LOCAL", 0),
            ("BAR", 1),
        ] {
            if found.count(kind) != meant {
                tell(kind, found.count(kind), meant);
            }
        }
        if found.all > l.all {
            tell("instructions a stage", found.all, l.all);
        }
        if found.cycles > l.cycles {
            tell("cycles a stage", found.cycles, l.cycles);
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_line_of_the_simulation_is_read() {
    let (name, blocks, found) = read("linear_split_large 1 4375 1141 HMMA=288 BAR=1");
    assert_eq!((&*name, blocks), ("linear_split_large", 1));
    assert_eq!((found.cycles, found.all), (4375, 1141));
    assert_eq!((found.count("HMMA"), found.count("LOCAL")), (288, 0));
}
