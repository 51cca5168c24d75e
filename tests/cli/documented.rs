//! Every command of the pages in docs, run as it stands there.

use crate::data::lab_with;
use crate::lab::Lab;

const FILES: [&str; 7] = [
    "experiment.toml",
    "capitals.jsonl",
    "capitals.csv",
    "eap_ig.csv",
    "auto_circuit.json",
    "facts.json",
    "known.json",
];

/// Runs the commands in a page's blocks of shell; the page, and where its files are. What no
/// machine of ours can run stands in a block of text.
fn run(page: &str) -> (String, Vec<String>, Lab) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    let page = std::fs::read_to_string(path).unwrap();
    let lab = lab_with(&FILES);
    let mut block = None;
    let mut commands = Vec::new();
    for line in page.lines() {
        match (line.strip_prefix("```"), line.strip_prefix("headlight ")) {
            (Some(language), _) => block = Some(language),
            (None, Some(command)) if block == Some("sh") => commands.push(command.to_owned()),
            _ => {}
        }
    }
    for command in &commands {
        lab.ok(&words(command));
    }
    (page, commands, lab)
}

/// A line as a shell splits it, with double quotes alone.
pub fn words(line: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => all.extend(part.split_whitespace().map(str::to_owned)),
            _ => all.push(part.to_owned()),
        }
    }
    all
}

/// The README's commands, in its blocks and its table, where its files are.
#[test]
fn commands_of_the_readme_run() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("README.md")).unwrap();
    let data = root.join("tests/data");
    let names = std::fs::read_dir(&data)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let files: Vec<&str> = names
        .iter()
        .map(|name| &**name)
        .filter(|name| *name != "saved")
        .collect();
    let lab = lab_with(&files);
    std::fs::create_dir(lab.path("saved")).unwrap();
    lab.write(
        "saved/config.json",
        std::fs::read(data.join("saved/config.json")).unwrap(),
    );
    // the experiment is the page's own
    assert!(page.contains(lab.read("experiment.toml").trim_end()));

    let whole = page.replace("\\\n", " ");
    let block = |line: &str| Some(line.strip_prefix("headlight ")?.to_owned());
    let mut commands: Vec<String> = whole.lines().filter_map(block).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    let cells = whole
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let known = [
        "topk",
        "sweep",
        "edges",
        "path",
        "trace",
        "run",
        "import",
        "lens",
        "cache",
        "plot",
        "components",
        "verify --published",
    ];
    let is_command = |cell: &&str| {
        known.iter().any(|known| {
            let rest = cell.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    };
    let table: Vec<&str> = cells.map(|(cell, _)| cell).filter(is_command).collect();
    assert_eq!(table.len(), known.len() + 2, "{table:?}");
    commands.extend(table.into_iter().map(str::to_owned));
    for command in &commands {
        assert!(!command.contains('…'), "{command}");
        // neither the hub nor a checkpoint of GPT-2's shape is at hand
        let here = command
            .replace("openai-community/gpt2", "demo")
            .replace("--model OUT", "--model demo");
        // a word of one token in GPT-2's vocabulary, and of two in the demo's
        let here = here.replace("His capital", "The capital");
        lab.ok(&words(&here));
    }
    for file in [
        "head0.parquet",
        "head0.png",
        "patch.npz",
        "acts.safetensors",
        "map.svg",
        "page.html",
        "saved.toml",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
}

#[test]
fn commands_of_the_page_of_plots_run() {
    let (_, commands, lab) = run("plots.md");
    assert!(commands.len() >= 8, "{commands:?}");
    for file in [
        "results.html",
        "edges.html",
        "circuit.html",
        "attention.html",
    ] {
        assert!(lab.read(file).starts_with("<!DOCTYPE html>"), "{file}");
    }
    let starts = |file: &str, with: &[u8]| {
        let bytes = std::fs::read(lab.path(file)).unwrap();
        assert!(bytes.starts_with(with), "{file}");
    };
    starts("head0.pdf", b"%PDF");
    starts("change.png", b"\x89PNG");
    starts("diff.svg", b"<svg ");
    starts("small.png", b"\x89PNG");
    // what is drawn is said
    assert!(lab.read("change.svg").contains("change of probability"));
    assert!(lab.read("trace.svg").contains("colours begin at "));
}

#[test]
fn commands_of_the_edges_page_run() {
    let (page, commands, lab) = run("edges.md");
    assert!(commands.len() >= 6, "{commands:?}");
    // what two of them print
    let mut examples = page.split("```text\n").skip(1);
    let each = commands.iter().find(|c| c.contains("--per-position"));
    for command in [Some(&commands[0]), each] {
        let said = lab.ok(&words(command.unwrap()));
        let example = examples.next().unwrap().split_once("```").unwrap().0;
        assert!(
            example.lines().count() > 3 && said.out.contains(example),
            "{example}"
        );
    }
}

#[test]
fn commands_of_the_tracing_page_run() {
    let (page, commands, lab) = run("tracing.md");
    assert!(commands.len() >= 6, "{commands:?}");
    assert!(page.contains(lab.read("known.json").trim_end()));
    for file in [
        "trace.png",
        "mlp.npz",
        "facts.svg",
        "facts.summary.csv",
        "known.npz",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
}

#[test]
fn commands_of_the_data_page_run() {
    let (page, commands, lab) = run("data.md");
    assert!(commands.len() >= 15, "{commands:?}");
    // every format, metric and preset family has one
    let all = commands.join("\n");
    for word in [
        ".jsonl",
        ".csv",
        "eap_ig",
        "auto_circuit",
        "rank",
        "logit_diff",
        "prob_diff",
        "kl",
        "top1",
        "entropy",
        "recovery_",
        "prob",
        "logprob",
        "logit",
        "every-head-by-position",
        "noise",
        "--bos",
        "--skip-bad",
        "--top",
    ] {
        assert!(all.contains(word), "{word}");
    }
    // the examples in the page are the files that the commands read
    let capitals = lab.read("capitals.jsonl");
    assert!(page.contains(capitals.lines().next().unwrap()));
    for name in ["capitals.csv", "eap_ig.csv", "auto_circuit.json"] {
        assert!(page.contains(lab.read(name).trim_end()), "{name}");
    }
    assert!(page.contains(lab.read("facts.json").lines().nth(1).unwrap()));
}

#[test]
fn commands_of_the_lens_page_run() {
    let (page, commands, lab) = run("lens.md");
    assert!(commands.len() >= 4, "{commands:?}");
    prints(&page, &lab, &[&commands[0]]);
    for file in [
        "lens.csv",
        "lens.png",
        "lens.npz",
        "heads.svg",
        "parts.summary.csv",
        "parts.npz",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
}

#[test]
fn commands_of_the_paths_page_run() {
    let (page, commands, lab) = run("paths.md");
    assert!(commands.len() >= 7, "{commands:?}");
    let said = lab.ok(&words(&commands[0]));
    let example = page.split("```text\n").nth(1).unwrap();
    let example = example.split_once("```").unwrap().0;
    assert!(
        example.lines().count() > 3 && said.out.contains(example),
        "{example}"
    );
}

/// Checks that a page's examples are what some of its commands print.
fn prints(page: &str, lab: &Lab, commands: &[&String]) {
    let mut examples = page.split("```text\n").skip(1);
    for command in commands {
        let said = lab.ok(&words(command));
        let example = examples.next().unwrap().split_once("```").unwrap().0;
        assert!(
            example.lines().count() > 3 && said.out.contains(example),
            "{example}\n{}",
            said.out
        );
    }
}

#[test]
fn commands_of_the_attribution_page_run() {
    let (page, commands, lab) = run("attribution.md");
    assert!(commands.len() >= 10, "{commands:?}");
    // every method and rule has one, or is a default
    let all = commands.join("\n");
    for word in [
        "eap-ig-inputs",
        "eap-ig-activations",
        "clean-corrupted",
        "relp",
        "--rule left",
        "--gradient-at both",
        "--data",
        "--graph",
    ] {
        assert!(all.contains(word), "{word}");
    }
    let failing = commands.iter().filter(|c| c.contains("--seed")).collect();
    prints(&page, &lab, &[vec![&commands[0]], failing].concat());
}

#[test]
fn commands_of_the_circuits_page_run() {
    let (page, commands, lab) = run("circuits.md");
    assert!(commands.len() >= 8, "{commands:?}");
    prints(&page, &lab, &[&commands[2]]);
    for file in ["circuit.json", "evaluated.csv", "data.summary.csv"] {
        assert!(lab.path(file).exists(), "{file}");
    }
}

#[test]
fn commands_of_the_scale_page_run() {
    let (_, commands, lab) = run("scale.md");
    assert!(commands.len() >= 12, "{commands:?}");
    for file in [
        "capitals/manifest.json",
        "capitals/part-00000.parquet",
        "capitals/summary.parquet",
        "capitals.parquet",
        "edges/part-00000.parquet",
        "paths/part-00000.parquet",
        "traces/part-00000.parquet",
        "all.summary.parquet",
        "jobs/submit.sh",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
    assert_eq!(
        lab.table("capitals.parquet").rows,
        lab.table("all.parquet").rows
    );
}
