//! The code of docs/python.md, run as it stands there, prints what the page says.
//!
//! `HEADLIGHT_PYTHON` names an interpreter with the packages that `.ci/python` installs; without one
//! this is skipped, unless `HEADLIGHT_REQUIRE_PYTHON` is set.

use std::io::{Write as _, stderr};
use std::process::Command;

use crate::lab::Lab;

/// The page's blocks of a language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = page.split(fence.as_str()).skip(1);
    let block = |part: &str| part.split("```").next().unwrap_or_default().to_owned();
    parts.map(block).collect()
}

#[test]
fn the_python_page_prints_what_it_says() {
    let page = include_str!("../../docs/python.md");
    let (code, said) = (blocks(page, "python"), blocks(page, "text"));
    assert!(code.len() >= 14 && said.len() >= 13, "{code:?} {said:?}");
    let Some(python) = std::env::var_os("HEADLIGHT_PYTHON") else {
        let required = std::env::var_os("HEADLIGHT_REQUIRE_PYTHON").is_some();
        assert!(
            !required,
            "HEADLIGHT_PYTHON is not set: run .ci/python, which prints what it should be"
        );
        // libtest captures what print macros write, not this
        let skipped = "the_python_page_prints_what_it_says skipped: HEADLIGHT_PYTHON names no interpreter; \
                       HEADLIGHT_PYTHON=\"$(.ci/python)\" cargo test --test docs python runs it\n";
        let _ = stderr().write_all(skipped.as_bytes());
        return;
    };
    let lab = Lab::new();
    lab.write("page.py", code.concat());
    // the folder that the page imports, as docs/pyvene.md does
    std::fs::create_dir(lab.path("saved")).unwrap();
    let config: &[u8] = include_bytes!("../data/saved/config.json");
    lab.write("saved/config.json", config);
    let program = lab.command::<&str>(&[]);
    let folder = std::path::Path::new(program.get_program())
        .parent()
        .unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new(python)
        .arg("page.py")
        .current_dir(lab.path(""))
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), said.concat());
    assert!(!lab.path("none.parquet").exists());
}
