//! Whether the suite would notice: hand-made mutations of kernels and launches, each with the one test
//! of gpu/parity.rs that must fail under it (mutations/list.toml).
//!
//! A kernel is mutated in a copy of `kernels/`, from which an emulated driver is built; the test program
//! itself is not. A launch is mutated in a copy of the crate, which is built anew. Either way a test that
//! fails without the mutation, is not there, or takes over 20 seconds has killed nothing, and a mutation
//! that does not compile is an error of the list.
//!
//! `cargo test` tries five; `tests/gpu/mutations/run` tries all, and with names those.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::emulator;
use serde::Deserialize;

/// A test takes less.
const MOST: Duration = Duration::from_secs(20);
/// Parts of the crate that its tests are built from.
const CRATE: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "build",
    "src",
    "kernels",
    "benches",
    "tests",
    // a member of the workspace, without which cargo builds none
    "python",
];

#[derive(Deserialize)]
struct List {
    mutation: Vec<Mutation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    file: String,
    before: String,
    after: String,
    /// What goes wrong.
    breaks: String,
    /// The test of gpu/parity.rs that must fail.
    killed_by: String,
    /// Whether every `cargo test` tries it.
    #[serde(default)]
    quick: bool,
}

impl Mutation {
    fn in_kernels(&self) -> bool {
        self.file.starts_with("kernels/")
    }

    /// The mutated file.
    fn text(&self, root: &Path) -> String {
        let text = fs::read_to_string(root.join(&self.file)).unwrap();
        let count = text.matches(&self.before).count();
        assert_eq!(
            count, 1,
            "{}: what it replaces stands {count} times in {}",
            self.name, self.file
        );
        text.replace(&self.before, &self.after)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list() -> Vec<Mutation> {
    let text = fs::read_to_string(root().join("tests/gpu/mutations/list.toml")).unwrap();
    toml::from_str::<List>(&text).unwrap().mutation
}

#[test]
fn the_list_fits_the_sources() {
    let list = list();
    let names: BTreeSet<&str> = list.iter().map(|m| &*m.name).collect();
    assert_eq!(names.len(), list.len(), "a name stands for one mutation");
    for mutation in &list {
        let Mutation {
            name,
            killed_by,
            breaks,
            ..
        } = mutation;
        assert_ne!(
            mutation.text(root()),
            fs::read_to_string(root().join(&mutation.file)).unwrap()
        );
        let (file, test) = match killed_by.split_once("::") {
            Some((module, test)) => (format!("tests/gpu/parity/{module}.rs"), test),
            None => ("tests/gpu/parity.rs".into(), &**killed_by),
        };
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let test = format!("#[test]\nfn {test}() {{");
        assert!(text.contains(&test), "{name}: {file} has no {killed_by}");
        assert!(!breaks.is_empty(), "{name}");
    }
    let launches = list.iter().filter(|m| !m.in_kernels()).count();
    assert!(list.len() >= 25 && launches >= 6);
    assert_eq!(list.iter().filter(|m| m.quick && m.in_kernels()).count(), 5);
    for file in fs::read_dir(root().join("kernels")).unwrap() {
        let name = format!("kernels/{}", file.unwrap().file_name().display());
        // the emulated driver has its own device.cuh; what measures a device is not for it
        let not_ours = ["kernels/device.cuh", "kernels/limits.cu"].contains(&&*name);
        assert!(
            not_ours || list.iter().any(|m| m.file == name),
            "{name} is never mutated"
        );
    }
}

#[test]
fn five_mutations_are_killed() {
    kill(list().into_iter().filter(|m| m.quick).collect());
}

/// Those named in `HEADLIGHT_MUTATIONS`, or all.
#[test]
#[ignore = "tests/gpu/mutations/run: a quarter of an hour"]
fn every_mutation_is_killed() {
    let named = std::env::var("HEADLIGHT_MUTATIONS").unwrap_or_default();
    let named: Vec<&str> = named.split_whitespace().collect();
    let mut list = list();
    list.retain(|m| named.is_empty() || named.contains(&&*m.name));
    assert!(
        list.len() >= named.len(),
        "mutations/list.toml does not have all of {named:?}"
    );
    kill(list);
}

/// What a test under a mutation came to.
enum Outcome {
    /// It failed, because of this.
    Killed(String),
    Survived,
    /// The list or the suite is wrong.
    Error(String),
}

fn kill(list: Vec<Mutation>) {
    let (kernels, launches): (Vec<_>, Vec<_>) = list.into_iter().partition(Mutation::in_kernels);
    let mut table = Table::default();
    if !kernels.is_empty() {
        // the tests are this very program's
        let parity = std::env::current_exe().unwrap();
        let kernels_as_they_are = passing(&parity, &kernels);
        for mutation in &kernels {
            let began = Instant::now();
            let mut built = Duration::ZERO;
            let outcome = match kernels_as_they_are.get(&*mutation.killed_by) {
                Some(Some(why)) => Outcome::Error(format!("fails without a mutation, too: {why}")),
                _ => mutate_kernel(mutation, &parity, &mut built),
            };
            table.row(mutation, outcome, built, began.elapsed() - built);
        }
    }
    if !launches.is_empty() {
        let copy = target_folder().join("mutations");
        let (folder, target) = (copy.join("crate"), copy.join("target"));
        copy_crate(&folder, None);
        let parity = parity_of(&folder, &target).unwrap();
        let launches_as_they_are = passing(&parity, &launches);
        for mutation in &launches {
            let began = Instant::now();
            copy_crate(&folder, Some(mutation));
            let parity = parity_of(&folder, &target);
            let built = began.elapsed();
            let began = Instant::now();
            let outcome = match (launches_as_they_are.get(&*mutation.killed_by), parity) {
                (Some(Some(why)), _) => {
                    Outcome::Error(format!("fails without a mutation, too: {why}"))
                }
                (_, Err(why)) => Outcome::Error(why),
                (_, Ok(parity)) => run(&parity, &mutation.killed_by, &root().join("kernels")),
            };
            table.row(mutation, outcome, built, began.elapsed());
        }
        copy_crate(&folder, None);
    }
    assert!(table.wrong.is_empty(), "{}", table.wrong.join("\n"));
}

/// Runs each named test without mutations: why it fails, if it does.
fn passing<'a>(parity: &Path, list: &'a [Mutation]) -> BTreeMap<&'a str, Option<String>> {
    let tests: BTreeSet<&str> = list.iter().map(|m| &*m.killed_by).collect();
    let fails = |test: &str| match run(parity, test, &root().join("kernels")) {
        Outcome::Survived => None,
        Outcome::Killed(why) | Outcome::Error(why) => Some(why),
    };
    tests.into_iter().map(|test| (test, fails(test))).collect()
}

fn mutate_kernel(mutation: &Mutation, parity: &Path, built: &mut Duration) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("mutated")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    for file in fs::read_dir(root().join("kernels")).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let name = Path::new(&mutation.file).file_name().unwrap();
    fs::write(folder.path().join(name), mutation.text(root())).unwrap();

    let began = Instant::now();
    let library = std::panic::catch_unwind(|| emulator::library_of(folder.path()));
    *built = began.elapsed();
    let Ok(library) = library else {
        return Outcome::Error("does not compile".into());
    };
    let outcome = run(parity, &mutation.killed_by, folder.path());
    let _ = fs::remove_dir_all(library.parent().unwrap());
    outcome
}

/// Runs one test, with the kernels of a folder.
fn run(parity: &Path, test: &str, kernels: &Path) -> Outcome {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let said = work.path().join("said");
    let file = File::create(&said).unwrap();
    let mut command = Command::new(parity);
    command
        .args(["--exact", &format!("parity::{test}"), "--nocapture"])
        .env("HEADLIGHT_EMULATOR_KERNELS", kernels)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        // the first run may have to build a driver before its test
        if began.elapsed() > 10 * MOST {
            child.kill().unwrap();
            child.wait().unwrap();
            return Outcome::Error(format!("{test} does not end"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(&said).unwrap();
    if !said.contains("running 1 test\n") {
        return Outcome::Error(format!("there is no test {test}"));
    }
    if status.success() && said.contains("1 passed; 0 failed; 0 ignored") {
        return Outcome::Survived;
    }
    if let Some(signal) = status.signal() {
        return Outcome::Killed(format!("signal {signal}"));
    }
    if !said.contains("0 passed; 1 failed") {
        return Outcome::Error(format!("{test} said neither ok nor FAILED:\n{said}"));
    }
    Outcome::Killed(why(&said))
}

/// The first thing that was found wrong.
fn why(said: &str) -> String {
    let report = "emulated driver: ";
    let reports = said.lines().filter_map(|line| line.strip_prefix(report));
    if let Some(found) = reports
        .map(|r| r.split(": ").next().unwrap())
        .find(|r| !r.starts_with("at exit"))
    {
        let kind = found.split(", block").next().unwrap();
        return format!("report: {kind}");
    }
    if let Some((count, _)) = said.split_once(" over:\n") {
        return format!("gate: {} over", count.lines().last().unwrap());
    }
    let panic = said
        .lines()
        .skip_while(|line| !line.contains(" panicked at "));
    let message = panic.skip(1).find(|line| !line.trim().is_empty());
    let message: String = message.unwrap_or("?").chars().take(70).collect();
    format!("assertion: {message}")
}

#[derive(Default)]
struct Table {
    headed: bool,
    wrong: Vec<String>,
}

impl Table {
    fn row(&mut self, mutation: &Mutation, outcome: Outcome, built: Duration, ran: Duration) {
        if !self.headed {
            eprintln!(
                "| mutation | test | killed by | build, s | test, s |\n|---|---|---|---|---|"
            );
            self.headed = true;
        }
        let Mutation {
            name, killed_by, ..
        } = mutation;
        let (mut word, wrong) = match outcome {
            Outcome::Killed(why) => (why, false),
            Outcome::Survived => ("SURVIVED".into(), true),
            Outcome::Error(why) => (format!("ERROR: {why}"), true),
        };
        let slow = ran > MOST;
        if slow {
            word += " (TOO SLOW)";
        }
        eprintln!(
            "| {name} | {killed_by} | {word} | {:.1} | {:.1} |",
            built.as_secs_f64(),
            ran.as_secs_f64()
        );
        if wrong || slow {
            self.wrong
                .push(format!("{name}: {word}; {}", mutation.breaks));
        }
    }
}

/// The folder that cargo builds into.
fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Builds the parity tests of a crate's folder, without kernels; the executable, or what is wrong.
fn parity_of(folder: &Path, target: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .current_dir(folder)
        .args(["test", "--no-run", "--test", "gpu", "--locked", "--offline"])
        .args(["--message-format", "json", "--target-dir"])
        .arg(target);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    for variable in ["NVCC", "HEADLIGHT_REQUIRE_CUDA"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let messages = || {
        said.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
    };
    if !output.status.success() {
        let errors: Vec<String> = messages()
            .filter_map(|m: serde_json::Value| Some(m["message"]["rendered"].as_str()?.to_owned()))
            .collect();
        return Err(format!(
            "does not compile:\n{}{}",
            errors.join(""),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    messages()
        .filter(|m: &serde_json::Value| m["target"]["name"] == "gpu")
        .find_map(|m| Some(m["executable"].as_str()?.into()))
        .ok_or_else(|| format!("cargo names no executable:\n{said}"))
}

/// Makes a folder the crate with a mutation or none. Files that are as they should be keep their time, so
/// that only what has changed is built.
fn copy_crate(to: &Path, mutation: Option<&Mutation>) {
    fn copy(from: &Path, to: &Path, mutated: &dyn Fn(&Path) -> Option<String>) {
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
            let names = |folder: &Path| -> BTreeSet<std::ffi::OsString> {
                let entries = fs::read_dir(folder).unwrap();
                entries.map(|e| e.unwrap().file_name()).collect()
            };
            for gone in names(to).difference(&names(from)) {
                let gone = to.join(gone);
                if gone.is_dir() {
                    fs::remove_dir_all(gone).unwrap();
                } else {
                    fs::remove_file(gone).unwrap();
                }
            }
            for name in names(from) {
                copy(&from.join(&name), &to.join(&name), mutated);
            }
        } else {
            let content = match mutated(from) {
                Some(text) => text.into_bytes(),
                None => fs::read(from).unwrap(),
            };
            if fs::read(to).ok().as_ref() != Some(&content) {
                fs::write(to, content).unwrap();
            }
        }
    }
    let mutated = |path: &Path| {
        let mutation = mutation.filter(|m| root().join(&m.file) == path)?;
        Some(mutation.text(root()))
    };
    fs::create_dir_all(to).unwrap();
    for part in CRATE {
        copy(&root().join(part), &to.join(part), &mutated);
    }
}
