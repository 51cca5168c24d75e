//! Not a bit has moved: what commands write, against what an earlier build wrote.
//!
//! `recorded/SECTION.txt` lists commands and `SECTION.sha256` the SHA-256 of everything that each of them
//! writes: tables, averages, arrays, activations, pictures, experiments, and what it prints. They were
//! recorded with a release build of the commit before the one that added them, and a debug build gives
//! the same. What is hashed is a text with every bit of every number in it (`recorded/outputs.rs` says
//! what it leaves out: times, versions, the program's own path).
//!
//! - `HEADLIGHT_RECORD=NAME` (or several with commas, or `all`) runs as ever, writes the hashes of these
//!   commands anew, and fails, so that nothing passes that was recorded a moment ago;
//! - `HEADLIGHT_RECORD_KEEP=FOLDER` keeps what was hashed as `FOLDER/SECTION/NAME/OUTPUT`;
//! - `HEADLIGHT_RECORD_BINARY=FILE` runs another build's program.
//!
//! So where a hash differs, the difference is that of two folders, one kept by the other build.
//!
//! Threads, chunks and the vector width change no bit (ARCHITECTURE.md, invariant 1). But double precision
//! takes `exp`, and every probability `exp` and `ln`, from the system's own library, and what that rounds
//! otherwise moves last digits: glibc does on a processor without FMA. So a section begins with a hash of
//! what those functions gave where it was recorded. Where they give something else, nothing can be
//! compared and the test is skipped, which `HEADLIGHT_REQUIRE_RECORDED=1` makes a failure;
//! `HEADLIGHT_RECORD=all` with another build's program records there. (The emulated device takes `erff`
//! of there, too, which is not in that hash: Rust does not offer it.)

#![cfg(all(
    feature = "cuda",
    feature = "hub",
    feature = "parquet",
    feature = "png"
))]

mod experiments;
mod outputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::emulator;
use crate::lab::Lab;
use sha2::{Digest, Sha256};

/// A name and the commands that are run one after the other.
struct Entry {
    name: String,
    commands: Vec<Vec<String>>,
}

/// Hashes of outputs, by command and output.
type Hashes = BTreeMap<(String, String), String>;

/// What was recorded of a section.
struct Recorded {
    /// What the system's library gave there.
    library: String,
    hashes: Hashes,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A list of commands: a name, then the command lines below it, set in.
fn entries(section: &str) -> Vec<Entry> {
    let path = folder().join(format!("files/recorded/{section}.txt"));
    let text = fs::read_to_string(path).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        match (line.trim(), line.starts_with(' ')) {
            ("", _) => {}
            (comment, _) if comment.starts_with('#') => {}
            (command, true) => entries.last_mut().unwrap().commands.push(words(command)),
            (name, false) => entries.push(Entry {
                name: name.to_owned(),
                commands: Vec::new(),
            }),
        }
    }
    let names: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names.len(), entries.len(), "{section}: a name stands twice");
    for Entry { name, commands } in &entries {
        assert!(!commands.is_empty(), "{section}: {name} has no command");
    }
    entries
}

/// A line as a shell splits it, with double quotes alone.
fn words(line: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => all.extend(part.split_whitespace().map(str::to_owned)),
            _ => all.push(part.to_owned()),
        }
    }
    all
}

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// A hash of what the functions give that come from the system's library; the device takes one more.
fn library(device: bool) -> String {
    let mut values = String::new();
    for i in 1..=1000 {
        let x = std::hint::black_box(f64::from(i) * 0.0173);
        write!(values, "{:?} {:?} ", (-x).exp(), x.ln()).unwrap();
        if device {
            write!(values, "{:?} ", (-x as f32).exp()).unwrap();
        }
    }
    sha256(values.as_bytes())
}

fn hashes_path(section: &str) -> PathBuf {
    folder().join(format!("files/recorded/{section}.sha256"))
}

impl Recorded {
    const LIBRARY: &str = "the system's exp and ln";

    /// A line a hash, as `sha256sum` writes them: `HASH  NAME/OUTPUT`.
    fn read(section: &str) -> Self {
        let text = fs::read_to_string(hashes_path(section)).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.split_once("  ").unwrap());
        let library = lines.next().map_or("", |(hash, _)| hash).to_owned();
        let hash = |(hash, place): (&str, &str)| {
            let (name, output) = place.split_once('/').unwrap();
            ((name.to_owned(), output.to_owned()), hash.to_owned())
        };
        let hashes = lines.map(hash).collect();
        Self { library, hashes }
    }

    fn write(&self, section: &str, entries: &[Entry]) {
        let mut text = format!("{}  {}\n", self.library, Self::LIBRARY);
        for entry in entries {
            let of_entry = |((name, _), _): &(&(String, String), &String)| *name == entry.name;
            for ((name, output), hash) in self.hashes.iter().filter(of_entry) {
                writeln!(text, "{hash}  {name}/{output}").unwrap();
            }
        }
        fs::write(hashes_path(section), text).unwrap();
    }
}

/// Copies the files of a folder that a test may read, and of the folders in it.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => copy(&path, &to.join(name), wanted),
            false if wanted(&name) => drop(fs::copy(&path, to.join(name)).unwrap()),
            false => {}
        }
    }
}

/// A folder with everything that commands name: models, bases, data sets, experiments, pyvene's saves.
fn lab() -> Lab {
    let lab = Lab::new();
    let tests = folder();
    let all = |_: &str| true;
    copy(&tests.join("files/recorded/files"), &lab.path(""), &all);
    copy(&tests.join("data"), &lab.path(""), &all);
    copy(&tests.join("fixtures/pyvene"), &lab.path("pyvene"), &all);
    let bases = |name: &str| name.ends_with(".safetensors");
    copy(&tests.join("fixtures/bases"), &lab.path("bases"), &bases);
    let model = |name: &str| name == "config.json" || name.contains("safetensors");
    for name in ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"] {
        copy(&tests.join("fixtures").join(name), &lab.path(name), &model);
        for (file, experiment) in experiments::of(&tests.join("fixtures"), name) {
            lab.write(&format!("{name}/{file}"), experiment);
        }
    }
    lab
}

/// Everything that an entry writes, as text by name, or why a command failed. What it made is removed.
fn outputs(
    lab: &Lab,
    entry: &Entry,
    driver: Option<&Path>,
) -> Result<BTreeMap<String, String>, String> {
    let before = lab.files();
    let mut outputs = BTreeMap::new();
    for (i, args) in entry.commands.iter().enumerate() {
        let mut command = lab.command(args);
        if let Some(other) = env::var_os("HEADLIGHT_RECORD_BINARY") {
            let same = command;
            command = std::process::Command::new(other);
            command.args(same.get_args());
            command.current_dir(same.get_current_dir().unwrap());
            for (name, value) in same.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        match driver {
            Some(library) => {
                command.env("LD_LIBRARY_PATH", library.parent().unwrap());
                command.env("HEADLIGHT_EMULATOR_DRIVER", "99000");
            }
            None => drop(command.env_remove("LD_LIBRARY_PATH")),
        }
        let output = command.output().unwrap();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("headlight {}: {error}", args.join(" ")));
        }
        let said = String::from_utf8(output.stdout).expect("output is UTF-8");
        outputs.insert(format!("stdout.{i}"), outputs::without_times(&said));
    }
    for (path, bytes) in lab.files() {
        if before.contains_key(&path) {
            continue;
        }
        let name = path.strip_prefix(lab.path("")).unwrap().to_str().unwrap();
        outputs.insert(name.to_owned(), outputs::text(name, &bytes));
        fs::remove_file(path).unwrap();
    }
    Ok(outputs)
}

/// Runs the commands of a section and compares what they write with what was recorded.
fn check(section: &str, driver: Option<&Path>) {
    let entries = entries(section);
    let recorded = Recorded::read(section);
    let anew = env::var("HEADLIGHT_RECORD").unwrap_or_default();
    let library = library(driver.is_some());
    if recorded.library != library && anew != "all" {
        let why = format!(
            "exp and ln of this system's library are not those of where tests/files/recorded/{section}.sha256 was \
             recorded, which the head of tests/files/recorded.rs says more of"
        );
        let required = env::var_os("HEADLIGHT_REQUIRE_RECORDED").is_some_and(|v| v == "1");
        assert!(!required && anew.is_empty(), "{why}");
        // past the harness, which keeps what a passing test prints
        let skipped = format!("recorded/{section} skipped: {why}\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        return;
    }
    let keep = env::var_os("HEADLIGHT_RECORD_KEEP");
    let lab = lab();
    let (mut found, mut failed) = (Hashes::new(), String::new());
    for entry in &entries {
        let outputs = outputs(&lab, entry, driver).unwrap_or_else(|error| {
            writeln!(failed, "{}: {error}", entry.name).unwrap();
            BTreeMap::new()
        });
        for (output, text) in outputs {
            if let Some(keep) = &keep {
                let kept = Path::new(keep).join(section).join(&entry.name);
                fs::create_dir_all(&kept).unwrap();
                fs::write(kept.join(&output), &text).unwrap();
            }
            found.insert((entry.name.clone(), output), sha256(text.as_bytes()));
        }
    }
    assert!(failed.is_empty(), "{section}: commands fail:\n{failed}");
    if !anew.is_empty() {
        let asked = |name: &str| anew == "all" || anew.split(',').any(|asked| asked == name);
        let kept = recorded.hashes.into_iter();
        let kept = kept.filter(|((name, _), _)| !asked(name));
        let fresh = found.into_iter().filter(|((name, _), _)| asked(name));
        let hashes = kept.chain(fresh).collect();
        Recorded { library, hashes }.write(section, &entries);
        panic!("{section}: recorded {anew} anew; now run without HEADLIGHT_RECORD");
    }
    let differ = differences(&entries, &recorded.hashes, &found);
    let hashes = format!("tests/files/recorded/{section}.sha256");
    assert!(
        differ.is_empty(),
        "{hashes} says otherwise:\n{differ}\
         To see how, have both builds write, and compare:\n  \
         git worktree add target/old $(git log -1 --format=%H {hashes})\n  \
         (cd target/old && cargo build --release)\n  \
         HEADLIGHT_RECORD_KEEP=$PWD/target/was HEADLIGHT_RECORD_BINARY=$PWD/target/old/target/release/headlight \
         cargo test --test files recorded\n  \
         HEADLIGHT_RECORD_KEEP=$PWD/target/now cargo test --test files recorded\n  \
         diff -r target/was/{section} target/now/{section}\n\
         If the issue says that it is to differ: HEADLIGHT_RECORD=NAME cargo test --test files recorded"
    );
}

/// A line for each output that is not as recorded, and the commands that wrote it.
fn differences(entries: &[Entry], recorded: &Hashes, found: &Hashes) -> String {
    let mut differ = String::new();
    let mut last = None;
    let places: BTreeSet<_> = recorded.keys().chain(found.keys()).collect();
    for place @ (name, output) in places {
        let what = match (recorded.get(place), found.get(place)) {
            (Some(want), Some(got)) if want == got => continue,
            (_, None) => "was recorded and is not written",
            (None, _) => "is written and was not recorded",
            _ => "differs",
        };
        if last.replace(name) != Some(name) {
            writeln!(differ, "  {name}").unwrap();
            let entry = entries.iter().find(|entry| entry.name == *name);
            for command in entry.map_or(&[][..], |entry| &entry.commands) {
                writeln!(differ, "    headlight {}", command.join(" ")).unwrap();
            }
        }
        writeln!(differ, "    - {output} {what}").unwrap();
    }
    differ
}

#[test]
fn sweeps_of_the_demo_model() {
    check("demo", None);
}

#[test]
fn random_checkpoints() {
    check("random", None);
}

#[test]
fn data_sets() {
    check("data", None);
}

#[test]
fn edges_and_paths() {
    check("graph", None);
}

#[test]
fn causal_tracing() {
    check("tracing", None);
}

#[test]
fn experiments_and_imports() {
    check("experiments", None);
}

#[test]
fn the_emulated_device() {
    check("device", Some(&emulator::library()));
}

/// As many commands as were asked for, and of every kind.
#[test]
fn the_list_has_every_command_and_operator() {
    let sections = [
        "demo",
        "random",
        "data",
        "graph",
        "tracing",
        "experiments",
        "device",
    ];
    let entries: Vec<Entry> = sections.iter().flat_map(|s| self::entries(s)).collect();
    let commands: Vec<&Vec<String>> = entries.iter().flat_map(|e| &e.commands).collect();
    assert!(commands.len() >= 60, "{}", commands.len());
    let all: BTreeSet<&str> = commands
        .iter()
        .flat_map(|c| c.iter().map(|w| &**w))
        .collect();
    for word in [
        "topk",
        "sweep",
        "edges",
        "path",
        "trace",
        "run",
        "cache",
        "import",
        "plot",
        "--bos",
        "--skip-bad",
        "--known",
        "--first-token",
        "--direction",
        "--columns",
        "--basis",
        "--collect",
        "--per-position",
        "--apart",
        "--freeze",
        "--freeze-scales",
        "--window",
        "--noise",
        "f64",
        "bf16",
        "interchange",
        "zero",
        "add",
        "subtract",
        "skip",
        "collect",
    ] {
        assert!(all.contains(word), "{word} is in no command");
    }
    for start in [
        "set=",
        "add=",
        "subtract=",
        "mean=",
        "scale=",
        "interpolate=",
        "noise=",
    ] {
        assert!(all.iter().any(|word| word.starts_with(start)), "{start}");
    }
    for end in [
        ".csv",
        ".jsonl",
        ".parquet",
        ".npz",
        ".safetensors",
        ".svg",
        ".json",
        ".toml",
    ] {
        assert!(all.iter().any(|word| word.ends_with(end)), "{end}");
    }
}
