//! Puts the extension that was built where its Python files are, and runs the package's own tests.
//!
//! `HEADLIGHT_PYTHON` names an interpreter with the packages that `.ci/python` installs; without one
//! this is skipped, unless `HEADLIGHT_REQUIRE_PYTHON` is set.

use std::fs;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The extension, which is built before this test since it is of the same package.
fn extension() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let (before, after) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    folder.join(format!("{before}_headlight{after}"))
}

#[test]
fn the_python_package_passes_its_tests() {
    let Some(python) = std::env::var_os("HEADLIGHT_PYTHON") else {
        let required = std::env::var_os("HEADLIGHT_REQUIRE_PYTHON").is_some();
        assert!(
            !required,
            "HEADLIGHT_PYTHON is not set: run .ci/python, which prints what it should be"
        );
        // libtest captures what print macros write, not this
        let skipped = "the_python_package_passes_its_tests skipped: HEADLIGHT_PYTHON names no interpreter; \
                       HEADLIGHT_PYTHON=\"$(.ci/python)\" cargo test -p headlight-python runs it\n";
        let _ = stderr().write_all(skipped.as_bytes());
        return;
    };
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = if cfg!(windows) {
        "_headlight.pyd"
    } else {
        "_headlight.abi3.so"
    };
    fs::copy(extension(), crate_folder.join("headlight").join(place)).unwrap();
    let output = Command::new(python)
        .args(["-m", "pytest", "-q", "-rs"])
        .current_dir(crate_folder.parent().unwrap())
        .env("PYTHONPATH", crate_folder)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{error}");
    // which were left out, and why, is worth a line in a log
    let _ = stderr().write_all(said.lines().last().unwrap_or_default().as_bytes());
}
