//! The machine code has the instructions that were meant: tensor cores where a kernel is named after
//! them, asynchronous copies and matrix loads beside them, and 16-byte accesses where addresses allow.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use headlight::backend::cuda::Variant;
use headlight::backend::cuda::kernels::Kernel;
use headlight::backend::cuda::limits::Limit;

use super::{assert_none, chips, disassembler, image};

/// How often each instruction, with all its modifiers, stands in a kernel.
type Counts = BTreeMap<String, u32>;

/// Whether an instruction is of a pattern such as `LDG.128`: the pattern's name, and all its modifiers
/// among others.
fn is(instruction: &str, pattern: &str) -> bool {
    let mut has = instruction.split('.');
    let mut wanted = pattern.split('.');
    let modifiers: Vec<&str> = has.clone().skip(1).collect();
    has.next() == wanted.next() && wanted.all(|w| modifiers.contains(&w))
}

/// How many instructions are of any of the patterns in `a|b|c`.
fn count(counts: &Counts, patterns: &str) -> u32 {
    let of = |instruction: &str| patterns.split('|').any(|p| is(instruction, p));
    let of_pattern = counts.iter().filter(|(instruction, _)| of(instruction));
    of_pattern.map(|(_, n)| n).sum()
}

/// The instruction of a line such as `/*0040*/  @!P0 LDG.E.128 R4, [R2] ; /* … */`.
fn instruction(line: &str) -> Option<&str> {
    let (address, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    if address.len() > 8 {
        return None; // the encoding's second half
    }
    let mut words = rest.split([' ', ';']).filter(|word| !word.is_empty());
    let first = words.next()?;
    if first.starts_with('@') {
        words.next()
    } else {
        Some(first)
    }
}

/// Instructions of each kernel and chip in one image.
fn disassemble(cuobjdump: &Path, source: &str) -> BTreeMap<(String, String), Counts> {
    let mut command = Command::new(cuobjdump);
    let command = command.arg("-sass").arg(image(source));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut code: BTreeMap<(String, String), Counts> = BTreeMap::new();
    let mut chip = String::new();
    let mut counts: Option<&mut Counts> = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(name) = line.strip_prefix("arch = ") {
            chip = name.to_owned();
            counts = None;
        } else if let Some(name) = line.trim_start().strip_prefix("Function : ") {
            let key = (name.to_owned(), chip.clone());
            assert!(!code.contains_key(&key), "{key:?} is there twice");
            counts = Some(code.entry(key).or_default());
        } else if let Some(instruction) = instruction(&line) {
            let counts = counts.as_mut().expect("instructions belong to a kernel");
            match counts.get_mut(instruction) {
                Some(n) => *n += 1,
                None => _ = counts.insert(instruction.to_owned(), 1),
            }
        }
    }
    assert!(
        child.wait().unwrap().success(),
        "cuobjdump fails on {source}"
    );
    code
}

/// Every image's.
fn all(cuobjdump: &Path) -> BTreeMap<(String, String), Counts> {
    let mut sources: Vec<&str> = Kernel::all().iter().map(|kernel| kernel.source()).collect();
    sources.sort();
    sources.dedup();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut code = BTreeMap::new();
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            code.extend(disassemble(cuobjdump, source));
        }
        code
    };
    let at_once = thread::available_parallelism().map_or(1, |n| n.get());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    })
}

const READ_16: &str = "LDG.128|LD.128";
const WRITE_16: &str = "STG.128|ST.128";
const WRITE_8: &str = "STG.64|ST.64";
/// 16 bytes from global to shared memory, asynchronously.
const COPY_16: &str = "LDGSTS.128";
/// Four matrices for `mma`.
const LOAD_MATRICES: &str = "LDSM.M88.4";
const READ_SHARED_16: &str = "LDS.128";
const LOCAL: &str = "LDL|STL";
const DOUBLE: &str = "DADD|DMUL|DFMA";

const TF32: &str = "HMMA.1688.F32.TF32";
const BF16: &str = "HMMA.16816.F32.BF16";
const F16: &str = "HMMA.16816.F32";

/// The tensor cores' instruction of an arithmetic.
fn tensor(variant: Variant) -> Option<&'static str> {
    match variant {
        Variant::Ffma => None,
        Variant::Split | Variant::Tf32 => Some(TF32),
        Variant::Bf16 => Some(BF16),
        Variant::F16 => Some(F16),
    }
}

/// The arithmetic of a matrix product.
fn product(kernel: Kernel) -> Option<Variant> {
    match kernel {
        Kernel::Linear { variant, .. }
        | Kernel::ReadoutWanted(variant)
        | Kernel::ReadoutScan(variant, _)
        | Kernel::LogitGradients(variant) => Some(variant),
        _ => None,
    }
}

/// What the repeats of a limit's kernel consist of, and how many chains and steps that are: none may be
/// left out, nor be calculated once for all of a warp.
fn chains(kernel: Kernel) -> Option<(&'static str, u32)> {
    match kernel {
        Kernel::Limit(Limit::Ffma) => Some(("FFMA", 32 * 8)),
        Kernel::Limit(Limit::Tf32) => Some((TF32, 16 * 2)),
        Kernel::Limit(Limit::Bf16) => Some((BF16, 16 * 2)),
        Kernel::Limit(Limit::F16) => Some((F16, 16 * 2)),
        _ => None,
    }
}

/// What must be there, and what must not.
fn meant(kernel: Kernel) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut there, mut absent) = (Vec::new(), vec![LOCAL]);
    if !matches!(kernel, Kernel::ReadoutMerge) {
        absent.push(DOUBLE);
    }
    match product(kernel) {
        Some(variant) => {
            there.push(COPY_16);
            match tensor(variant) {
                Some(tensor) => there.extend([tensor, LOAD_MATRICES]),
                None => {
                    there.push(READ_SHARED_16);
                    absent.extend(["HMMA", "LDSM"]);
                }
            }
            if variant == Variant::F16 {
                absent.push("HMMA.BF16");
            }
        }
        None if chains(kernel).is_some_and(|(chains, _)| chains != "FFMA") => {}
        None => absent.push("HMMA"),
    }
    there.extend(match kernel {
        // the residual is read so too
        Kernel::Linear { .. } => vec![READ_16, WRITE_16],
        Kernel::ReadoutScan(..) => vec![WRITE_16],
        Kernel::Attention(element) => {
            let write = if element.bytes() == 4 {
                WRITE_16
            } else {
                WRITE_8
            };
            vec![COPY_16, READ_SHARED_16, READ_16, write]
        }
        // four numbers a lane, of input and output alike
        Kernel::LayerNorm(element) | Kernel::LayerNormAffine(element) if element.bytes() == 2 => {
            vec![READ_16, WRITE_8]
        }
        Kernel::Embed
        | Kernel::Gather(_)
        | Kernel::Add
        | Kernel::Activate(_)
        | Kernel::LayerNorm(_)
        | Kernel::LayerNormNormalize
        | Kernel::LayerNormAffine(_)
        | Kernel::Overwrite(_)
        | Kernel::Accumulate
        | Kernel::ActivateAdjoint(_)
        | Kernel::LayerNormAdjoint
        | Kernel::LayerNormNormalizedAdjoint
        | Kernel::TokenGradients(_) => vec![READ_16, WRITE_16],
        Kernel::Clear => vec![WRITE_16],
        Kernel::Same(_)
        | Kernel::LayerNormScale
        | Kernel::LayerNormScaleAdjoint
        | Kernel::ReadoutMerge => vec![READ_16],
        Kernel::Encode(_) | Kernel::Decode(_) | Kernel::LinearAdjoint(_) => {
            vec![READ_SHARED_16, "FFMA"]
        }
        Kernel::AttentionAdjointQueries(_) => vec![READ_16, "FFMA"],
        Kernel::AttentionAdjointKeys(_) => vec!["FFMA"],
        Kernel::ReadoutWanted(_) | Kernel::ReadoutTop | Kernel::LogitGradients(_) => Vec::new(),
        Kernel::Limit(Limit::Copy) => vec![READ_16, WRITE_16],
        Kernel::Limit(_) => Vec::new(),
    });
    (there, absent)
}

/// The same kernel with the product on tensor cores.
fn on_tensor_cores(kernel: Kernel) -> Kernel {
    match kernel {
        Kernel::Linear { tile, wide, .. } => Kernel::Linear {
            variant: Variant::Tf32,
            tile,
            wide,
        },
        Kernel::ReadoutScan(_, tile) => Kernel::ReadoutScan(Variant::Tf32, tile),
        Kernel::LogitGradients(_) => Kernel::LogitGradients(Variant::Tf32),
        _ => Kernel::ReadoutWanted(Variant::Tf32),
    }
}

#[test]
fn kernels_have_the_instructions_that_were_meant() {
    let Some(cuobjdump) = disassembler("kernels_have_the_instructions_that_were_meant") else {
        return;
    };
    let code = all(&cuobjdump);
    let chips = chips(code.keys().map(|(_, chip)| chip.clone()));
    let mut wrong = Vec::new();
    for kernel in Kernel::all() {
        let (there, absent) = meant(kernel);
        for chip in &chips {
            let of = |kernel: Kernel| code.get(&(kernel.name(), chip.clone()));
            let Some(counts) = of(kernel) else {
                wrong.push(format!("nothing of {kernel:?} on {chip}"));
                continue;
            };
            let mut tell = |what: String| wrong.push(format!("{kernel:?} on {chip}: {what}"));
            for patterns in &there {
                if count(counts, patterns) == 0 {
                    tell(format!("no {patterns}"));
                }
            }
            for patterns in &absent {
                if count(counts, patterns) > 0 {
                    tell(format!("has {patterns}"));
                }
            }
            // the epilogue has multiply-adds too; the product's come on top, at least the 16 of a small tile's
            // loop that a diagonal needs
            if product(kernel) == Some(Variant::Ffma)
                && let Some(other) = of(on_tensor_cores(kernel))
                && count(counts, "FFMA") < count(other, "FFMA") + 16
            {
                tell("the product has no FFMA".into());
            }
            if let Some((instruction, many)) = chains(kernel)
                && count(counts, instruction) < many
            {
                tell(format!("fewer than {many} {instruction}"));
            }
            // three products for one, whatever the loop is unrolled to
            if product(kernel) == Some(Variant::Split) && !count(counts, "HMMA").is_multiple_of(3) {
                tell("products do not come in threes".into());
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn instructions_are_read_and_matched() {
    let line =
        "        /*0f40*/              @!P0 LDG.E.128.CONSTANT R4, [R2.64] ;    /* 0x0000 */";
    assert_eq!(instruction(line), Some("LDG.E.128.CONSTANT"));
    let line =
        "        /*1af0*/                   EXIT ;                    /* 0x000000000000794d */";
    assert_eq!(instruction(line), Some("EXIT"));
    let line = "                                                          /* 0x000fe400078e00ff */";
    assert_eq!(instruction(line), None);
    assert_eq!(instruction("\t\tFunction : embed"), None);
    assert!(is("LDGSTS.E.BYPASS.LTC128B.128.ZFILL", COPY_16));
    assert!(!is("LDGSTS.E.LTC128B", COPY_16));
    assert!(!is("LDG.E.64", "LDG.128"));
    let counts = Counts::from([("LD.E.128".into(), 2), ("LDG.E.128".into(), 1)]);
    assert_eq!(count(&counts, READ_16), 3);
}
