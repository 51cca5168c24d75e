//! The build without features, which the README's first command makes: the job is done, and what was
//! left out is refused in a sentence that says how to have it.
//!
//! Run by `cargo test --no-default-features --test lean`.

#![cfg(not(any(
    feature = "cuda",
    feature = "hub",
    feature = "parquet",
    feature = "pdf",
    feature = "png"
)))]

#[allow(dead_code)] // of the commands' tests, which use all of it
#[path = "common/lab.rs"]
mod lab;

use std::path::Path;

use lab::Lab;

const REMEDY: &str = "build without --no-default-features";

#[test]
fn the_demo_shows_the_two_cells_that_carry_the_country() {
    let lab = Lab::new();
    let said = lab.ok(&["sweep", "--out", "t.csv", "--plot", "map.svg"]);
    assert!(said.err.contains("this build has no CUDA"), "{}", said.err);
    let strongest = said.out.split("strongest\n").nth(1).unwrap();
    let cells: Vec<Vec<&str>> = strongest
        .lines()
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    assert_eq!(cells[1], ["v0", "0"], "{strongest}");
    assert_eq!(cells[2], ["ov0", "0"], "{strongest}");
    assert_eq!(lab.table("t.csv").rows.len(), 400);
    assert!(lab.path("map.svg").exists());
    lab.ok(&["plot", "t.csv", "--out", "again.svg"]);
    assert_eq!(lab.read("map.svg"), lab.read("again.svg"));
}

#[test]
fn pictures_are_svg() {
    let lab = Lab::new();
    let needles = ["map.png", "no PNG", ".svg", REMEDY];
    lab.refused(&["sweep", "--plot", "map.png"], &needles);
    let needles = ["map.pdf", "no PDF", ".svg", REMEDY];
    lab.refused(&["sweep", "--plot", "map.pdf"], &needles);
}

#[test]
fn a_gpu_is_refused_and_not_looked_for() {
    let lab = Lab::new();
    lab.refused(&["sweep", "--device", "cuda"], &["no CUDA", REMEDY]);
    lab.refused(&["sweep", "--precision", "bf16"], &["no CUDA", REMEDY]);
    let info = lab.ok(&["info"]).out;
    assert!(
        info.contains("gpu        none: this build has no CUDA"),
        "{info}"
    );
}

#[test]
fn parquet_is_refused_wherever_a_file_is_named() {
    let lab = Lab::new();
    lab.write("t.parquet", "PAR1");
    let refused: [&[&str]; 3] = [
        &["sweep", "--out", "new.parquet"],
        &["sweep", "--data", "t.parquet"],
        &["plot", "t.parquet", "--out", "map.svg"],
    ];
    for args in refused {
        lab.refused(args, &[".parquet", "no Parquet", ".jsonl", REMEDY]);
    }
}

/// Nothing is fetched, and what another program fetched is used.
#[test]
fn a_hub_id_is_looked_up_in_the_cache_alone() {
    let lab = Lab::new();
    let asks = [
        "--model",
        "somebody/demo",
        "topk",
        "The capital of Spain is",
    ];
    let needles = [
        "`somebody/demo` is not in the cache at",
        "fetches nothing",
        REMEDY,
    ];
    let fetching = |lab: &Lab| {
        let mut command = lab.command(&asks);
        command.env_remove("HF_HUB_OFFLINE").output().unwrap()
    };
    let said = String::from_utf8(fetching(&lab).stderr).unwrap();
    for needle in needles {
        assert!(said.contains(needle), "{said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");

    let cached = lab.path("hf/hub/models--somebody--demo");
    let commit = "c0ffee".repeat(7)[..40].to_string();
    let snapshot = cached.join("snapshots").join(&commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(cached.join("refs")).unwrap();
    std::fs::write(cached.join("refs/main"), &commit).unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(demo.join(file), snapshot.join(file)).unwrap();
    }
    let output = fetching(&lab);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains("_Madrid"), "{said}");
}
