//! What ptxas reports of each kernel on each chip: no spills, no local memory, and no more registers
//! than leave room for the blocks that should share a multiprocessor.

use std::collections::BTreeMap;

use headlight::backend::cuda::kernels::Kernel;
use headlight::backend::cuda::limits::Limit;
use headlight::backend::cuda::{COMPILED_BY, Tile, Variant};

use super::{MEASURED, assert_none, chips, compiled};

/// As build.rs wrote it.
const REPORT: &str = include_str!(concat!(env!("OUT_DIR"), "/ptxas.txt"));

/// The most registers a thread may take. A multiprocessor has 65,536.
fn most_registers(kernel: Kernel) -> u32 {
    match kernel {
        // four blocks of 256 threads a multiprocessor
        Kernel::Attention(_)
        | Kernel::LayerNorm(_)
        | Kernel::LayerNormScale
        | Kernel::LayerNormNormalize
        | Kernel::LayerNormAdjoint
        | Kernel::LayerNormNormalizedAdjoint
        | Kernel::LayerNormScaleAdjoint
        | Kernel::ActivateAdjoint(_)
        | Kernel::AttentionAdjointQueries(_)
        | Kernel::AttentionAdjointKeys(_)
        | Kernel::Limit(Limit::Ffma) => 64,
        // five of 256 (of 128, ten), as memory's latency wants
        Kernel::Embed
        | Kernel::Gather(_)
        | Kernel::Add
        | Kernel::Activate(_)
        | Kernel::Same(_)
        | Kernel::LayerNormAffine(_)
        | Kernel::Overwrite(_)
        | Kernel::ReadoutMerge
        | Kernel::ReadoutTop
        | Kernel::Clear
        | Kernel::Accumulate
        | Kernel::TokenGradients(_)
        | Kernel::Limit(Limit::Copy) => 48,
        // two of 256
        Kernel::Limit(_) | Kernel::Encode(_) | Kernel::Decode(_) | Kernel::LinearAdjoint(_) => 128,
        // one block of 256 has a multiprocessor to itself and may take all 255; what is over what was
        // measured is on its way to spills
        Kernel::Linear {
            variant,
            tile: Tile::Large,
            ..
        }
        | Kernel::ReadoutScan(variant, Tile::Large) => match variant {
            Variant::Ffma => 255,
            Variant::Split => 252,
            Variant::Tf32 => 220,
            Variant::Bf16 | Variant::F16 => 200,
        },
        // three blocks of 128
        Kernel::Linear {
            tile: Tile::Medium, ..
        } => 168,
        // six blocks of 64, and where shared memory has room for them more
        Kernel::Linear {
            tile: Tile::Small, ..
        }
        | Kernel::ReadoutWanted(_) => 168,
        // four of 64, as many as shared memory has room for
        Kernel::ReadoutScan(_, Tile::Small | Tile::Medium) | Kernel::LogitGradients(_) => 248,
    }
}

/// Registers of each kernel on each chip, and what spills or takes local memory.
fn read(report: &str) -> (BTreeMap<(String, String), u32>, Vec<String>) {
    let mut registers = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut entry = None;
    let quoted = |line: &str| line.split('\'').map(String::from).collect::<Vec<_>>();
    for line in report.lines() {
        if line.contains("Compiling entry function '") {
            let words = quoted(line);
            assert!(entry.is_none(), "no registers before {line}");
            entry = Some((words[1].clone(), words[3].clone()));
        } else if line.contains("bytes stack frame") {
            // functions that a kernel calls have a line of their own
            let of_zero = ["stack frame", "spill stores", "spill loads"]
                .map(|what| format!("0 bytes {what}"))
                .join(", ");
            if line.trim() != of_zero {
                wrong.push(format!("{entry:?}: {}", line.trim()));
            }
        } else if let Some((_, used)) = line.split_once(": Used ") {
            let entry = entry.take().unwrap_or_else(|| panic!("whose? {line}"));
            if line.contains("lmem") {
                wrong.push(format!("{entry:?}: {line}"));
            }
            let count = used.split(' ').next().unwrap().parse().unwrap();
            let before = registers.insert(entry.clone(), count);
            assert_eq!(before, None, "{entry:?} is there twice");
        }
    }
    (registers, wrong)
}

#[test]
fn no_kernel_spills_or_takes_more_registers_than_it_may() {
    if !compiled("no_kernel_spills_or_takes_more_registers_than_it_may") {
        return;
    }
    let (registers, mut wrong) = read(REPORT);
    let chips = chips(registers.keys().map(|(_, chip)| chip.clone()));
    let kernels = Kernel::all();
    let measured = COMPILED_BY.is_some_and(|by| by.release.0 == MEASURED);
    for kernel in &kernels {
        let most = most_registers(*kernel);
        for chip in &chips {
            match registers.get(&(kernel.name(), chip.clone())) {
                None => wrong.push(format!("nothing of {kernel:?} on {chip}")),
                // other compilers give other numbers
                Some(&count) if count > most && measured => wrong.push(format!(
                    "{kernel:?} on {chip}: {count} registers, at most {most}"
                )),
                Some(_) => {}
            }
        }
    }
    if registers.len() != kernels.len() * chips.len() {
        wrong.push(format!("ptxas reports {} kernels", registers.len()));
    }
    assert_none(&wrong);
}

#[test]
fn spills_and_local_memory_in_a_report_are_found() {
    let report = |properties: &str, used: &str| {
        read(&format!(
            "ptxas info    : Compiling entry function 'k' for 'sm_80'\n\
             ptxas info    : Function properties for k\n    {properties}\n\
             ptxas info    : Used 30 registers, used 0 barriers{used}, 400 bytes cmem[0]\n"
        ))
    };
    let clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    let (registers, wrong) = report(clean, "");
    assert_eq!(registers[&("k".into(), "sm_80".into())], 30);
    assert_eq!(wrong.len(), 0);
    for (properties, used) in [
        (clean.replacen('0', "16", 1), ""),
        (
            clean.replace("0 bytes spill stores", "4 bytes spill stores"),
            "",
        ),
        (
            clean.replace("0 bytes spill loads", "4 bytes spill loads"),
            "",
        ),
        (clean.to_owned(), ", 8 bytes lmem"),
    ] {
        assert_eq!(report(&properties, used).1.len(), 1, "{properties}{used}");
    }
}
