//! A folder of one's own, the binary run in it, and what it said.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use headlight::report;
use headlight::results::table::{Row, Table};
use tempfile::TempDir;

/// The reference prompts.
pub const BASE: &str = "The capital of Spain is";
pub const SOURCE: &str = "The capital of Italy is";

/// A working folder; every file that a test names is in it.
pub struct Lab {
    dir: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command, in this folder and away from the user's own settings.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("headlight"));
        command.args(args).current_dir(self.dir.path());
        command
            .env("HF_HOME", self.path("hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("HF_ENDPOINT");
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Said {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Runs what must succeed.
    pub fn ok<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    }

    /// Runs what must be refused: exit code 2, one sentence that holds all of `needles`, no file made
    /// or changed, and the device not named where the sentence can come first.
    pub fn refused<A: AsRef<OsStr>>(&self, args: &[A], needles: &[&str]) -> Said {
        let before = self.files();
        let said = self.run(args);
        let what: Vec<_> = args
            .iter()
            .map(|a| a.as_ref().to_string_lossy().into_owned())
            .collect();
        assert_eq!(said.code, Some(2), "{what:?}: {said:?}");
        assert_eq!(said.out, "", "{what:?}");
        assert!(
            said.err.starts_with("headlight: ") && said.err.ends_with('\n'),
            "{what:?}: {}",
            said.err
        );
        assert_eq!(said.err.lines().count(), 1, "{what:?}: {}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
        for needle in needles {
            assert!(
                said.err.contains(needle),
                "{what:?} says nothing of {needle:?}: {}",
                said.err
            );
        }
        assert_eq!(self.files(), before, "{what:?} left something behind");
        said
    }

    /// Runs what must be refused once the model is open: as [`Lab::refused`], but for the line that names the
    /// device and what says how rows are read.
    pub fn refused_after_device(&self, args: &[&str], needles: &[&str]) {
        let before = self.files();
        let said = self.run(args);
        assert_eq!(said.code, Some(2), "{args:?}: {said:?}");
        let last = said.err.lines().last().unwrap_or("");
        assert!(last.starts_with("headlight: "), "{args:?}: {}", said.err);
        for needle in needles {
            assert!(last.contains(needle), "{args:?}: {needle:?}: {last}");
        }
        assert!(self.files() == before, "{args:?} left something behind");
    }

    /// Every file here and what it holds.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let bytes = std::fs::read(&path).unwrap_or_default();
                        files.insert(path, bytes);
                    }
                }
            }
        }
        files
    }

    /// A result file's table.
    pub fn table(&self, name: &str) -> Table {
        report::read(&self.path(name)).unwrap()
    }

    /// The rows of `headlight sweep … --out t.csv`.
    pub fn sweep(&self, args: &[&str]) -> Vec<Row> {
        self.rows("sweep", args)
    }

    /// The rows of `headlight COMMAND … --out t.csv`.
    pub fn rows(&self, command: &str, args: &[&str]) -> Vec<Row> {
        self.ok(&[&[command], args, &["--out", "t.csv"]].concat());
        self.table("t.csv").rows
    }
}

/// A checkpoint of tests/fixtures.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    path.into_os_string().into_string().unwrap()
}

/// Probabilities, bit for bit.
pub fn bits(rows: &[Row]) -> Vec<(u64, u64)> {
    rows.iter()
        .map(|r| (r.prob.to_bits(), r.logit.to_bits()))
        .collect()
}
