//! The kernels as sources and as machine code, without running them: their signatures are those that
//! launches are checked against, nothing spills, and the instructions that were meant are there.
//!
//! What needs nvcc or a disassembler is skipped without them, in one line that says so;
//! `HEADLIGHT_REQUIRE_CUDA=1` makes that a failure.

mod instructions;
mod loops;
mod resources;
mod signatures;

use std::env;
use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::Command;

use headlight::backend::cuda::COMPILED_BY;

/// Chips that have machine code, as far as nvcc knows them.
const CHIPS: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];

/// The compiler whose code the bounds and counts were measured on.
const MEASURED: u32 = 13;

/// What this compiler must have made code for.
fn chips(found: impl Iterator<Item = String>) -> Vec<String> {
    if COMPILED_BY.is_some_and(|by| by.release.0 >= MEASURED) {
        CHIPS.map(String::from).into()
    } else {
        let mut found: Vec<String> = found.collect();
        found.sort();
        found.dedup();
        assert!(!found.is_empty(), "there is no machine code");
        found
    }
}

fn skip(test: &str, why: &str) {
    let required = env::var_os("HEADLIGHT_REQUIRE_CUDA").is_some_and(|v| v == "1");
    assert!(!required, "HEADLIGHT_REQUIRE_CUDA=1, but {why}");
    // not captured, and in one piece
    let _ = stderr().write_all(format!("{test} skipped: {why}\n").as_bytes());
}

/// Whether the images are code.
fn compiled(test: &str) -> bool {
    if COMPILED_BY.is_none() {
        skip(test, "the kernels were built without nvcc");
    }
    COMPILED_BY.is_some()
}

/// cuobjdump: `$CUOBJDUMP`, beside `$NVCC`, or on the PATH.
fn disassembler(test: &str) -> Option<PathBuf> {
    if !compiled(test) {
        return None;
    }
    let beside = env::var_os("NVCC").map(|nvcc| PathBuf::from(nvcc).with_file_name("cuobjdump"));
    let found = [
        env::var_os("CUOBJDUMP").map(PathBuf::from),
        beside,
        Some("cuobjdump".into()),
    ]
    .into_iter()
    .flatten()
    .find(|program| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        skip(test, "there is no cuobjdump");
    }
    found
}

/// What build.rs made of a source.
fn image(source: &str) -> PathBuf {
    PathBuf::from(env!("OUT_DIR")).join(format!("{source}.fatbin"))
}

/// Fails with all that is wrong.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
