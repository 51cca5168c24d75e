//! Compiles `kernels/*.cu` into one fatbin each, where nvcc is found; nothing without the feature `cuda`.
//!
//! nvcc is looked for in `$NVCC`, on the PATH, under `$CUDA_HOME` and `$CUDA_PATH`, and in the usual
//! folders; an empty `$NVCC` means none. Machine code is made for a list of chips that does not depend
//! on the machine that builds, as far as this nvcc knows them, and all of it from the PTX of the oldest,
//! which goes into the image too and serves every later chip: one program, and one run of the
//! compiler's front end. Where there is no nvcc, images are placeholders and everything else builds;
//! `HEADLIGHT_REQUIRE_CUDA=1` makes that an error.
//!
//! What the host and the kernels tell each other is stated in `kernels/arguments.cuh`; its twin in Rust is
//! made here (`build/arguments.rs`), nvcc or not.
//!
//! A source is compiled again if it, a header, the compiler or a flag has changed, whatever made cargo
//! run this. `tests/gpu/kernels.rs` reads what ptxas said (`ptxas.txt`) and what is in the images.

#[path = "build/arguments.rs"]
mod arguments;

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// Chips with machine code of their own: A100, RTX 30, RTX 40, H100, B200, RTX 50.
const CHIPS: [&str; 6] = ["80", "86", "89", "90a", "100", "120"];
/// The virtual chip whose PTX serves all others.
const PTX: &str = "80";
const FLAGS: [&str; 9] = [
    "-std=c++17",
    "-O3",
    "-fmad=false",
    "-lineinfo",
    "--fatbin",
    "-Xptxas",
    "-v",
    "--threads",
    "2",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let required = watched("HEADLIGHT_REQUIRE_CUDA").is_some_and(|v| v == "1");
    let compiler = Compiler::find();
    if compiler.is_none() && required {
        panic!("HEADLIGHT_REQUIRE_CUDA=1, but no nvcc was found: set NVCC or put it on the PATH");
    }

    let shared = Path::new("kernels/arguments.cuh");
    let shared = arguments::read(&text(shared))
        .unwrap_or_else(|error| panic!("{}: {error}", shared.display()));
    let checks = out.join("checks.cuh");
    write(&out.join("arguments.rs"), &shared.in_rust());
    write(&checks, &shared.checks());

    let (sources, headers) = kernels();
    let names: Vec<String> = sources.iter().map(|source| stem(source)).collect();
    // one does not replace the other, which may be wanted again
    let kind = if compiler.is_some() {
        "fatbin"
    } else {
        "placeholder"
    };
    let image = |name: &str| out.join(format!("{name}.{kind}"));
    let mut reports = String::new();
    match &compiler {
        Some(compiler) => {
            let compile =
                |i: usize| compiler.image(&sources[i], &headers, &checks, &image(&names[i]));
            for report in in_parallel(sources.len(), compile) {
                reports += &report.unwrap_or_else(|error| panic!("{error}"));
            }
            for line in reports.lines().filter(|line| line.contains("warning")) {
                println!("cargo::warning={line}");
            }
        }
        None => {
            for name in &names {
                // a NUL ends it, so that a driver that looks for PTX does not read on
                write(&image(name), &format!("not compiled: {name}.cu\0"));
            }
        }
    }
    write(&out.join("ptxas.txt"), &reports);

    let mut images =
        String::from("/// Every source of `kernels/`.\npub static IMAGES: &[Image] = &[\n");
    for name in &names {
        let data = image(name).display().to_string();
        images += &format!("    Image {{ name: {name:?}, data: include_bytes!({data:?}) }},\n");
    }
    let by = match &compiler {
        Some(compiler) => compiler.in_rust(),
        None => "None".to_owned(),
    };
    images += &format!(
        "];\n\n/// What compiled them; `None` if the images are placeholders.\n\
         pub const COMPILED_BY: Option<Compiler> = {by};\n"
    );
    write(&out.join("images.rs"), &images);
}

/// A variable whose change runs this again.
fn watched(variable: &str) -> Option<OsString> {
    println!("cargo::rerun-if-env-changed={variable}");
    env::var_os(variable)
}

/// Sources, and the text of all headers.
fn kernels() -> (Vec<PathBuf>, String) {
    let folder = fs::read_dir("kernels").expect("kernels/ lies beside build.rs");
    let mut files: Vec<PathBuf> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "cu" || e == "cuh"))
        .collect();
    files.sort();
    let (sources, headers): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|path| path.extension().is_some_and(|e| e == "cu"));
    (sources, headers.iter().map(|path| text(path)).collect())
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("OUT_DIR can be written");
}

fn stem(source: &Path) -> String {
    let stem = source.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Results of as many calls, as many at once as cargo has jobs.
fn in_parallel<T: Send>(count: usize, call: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return results;
            }
            results.push((i, call(i)));
        }
    };
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.unwrap_or(1usize).clamp(1, count.max(1)))
            .map(|_| scope.spawn(work))
            .collect();
        let joined = threads.into_iter().map(|t| t.join().expect("no panic"));
        joined.flatten().collect()
    });
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

/// An nvcc that runs, and how it is called.
struct Compiler {
    program: OsString,
    version: String,
    release: (u32, u32),
    /// Chips that it makes machine code for.
    chips: Vec<&'static str>,
    compresses: bool,
    flags: Vec<String>,
}

impl Compiler {
    /// The first that runs. Variables that come after it do not matter.
    fn find() -> Option<Self> {
        let under = |folder: &OsStr| Path::new(folder).join("bin").join("nvcc");
        if let Some(named) = watched("NVCC") {
            if named.is_empty() {
                return None;
            }
            let compiler = Self::at(named.as_ref());
            if compiler.is_some() {
                return compiler;
            }
            println!(
                "cargo::warning=NVCC is {}, which does not run",
                named.display()
            );
        }
        watched("PATH");
        let found = Self::at("nvcc".as_ref());
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter();
        found
            .or_else(|| {
                homes
                    .filter_map(watched)
                    .find_map(|h| Self::at(under(&h).as_ref()))
            })
            .or_else(|| {
                let usual = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"];
                let mut usual = usual.into_iter().map(OsStr::new);
                usual.find_map(|folder| Self::at(under(folder).as_ref()))
            })
    }

    fn at(program: &OsStr) -> Option<Self> {
        let ask = |question: &str| {
            let output = Command::new(program).arg(question).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success().then_some(text)
        };
        let version = ask("--version")?;
        let release = version.split("release ").nth(1).unwrap_or_default();
        let mut numbers = release.split(['.', ',']).map(|n| n.trim().parse().ok());
        // what does not say its release asks nothing of a driver
        let mut number = || numbers.next().flatten().unwrap_or(0);
        let release = (number(), number());

        let known = ask("--list-gpu-code").unwrap_or_default();
        let (chips, unknown): (Vec<_>, Vec<_>) = CHIPS.into_iter().partition(|chip| {
            // the list has no names of single architectures such as sm_90a
            let chip = format!("sm_{}", chip.trim_end_matches('a'));
            known.lines().any(|line| line.trim() == chip)
        });
        if !unknown.is_empty() {
            println!(
                "cargo::warning={} makes no machine code for sm_{}: there drivers compile the PTX",
                program.display(),
                unknown.join(", sm_")
            );
        }
        let mut flags: Vec<String> = FLAGS.map(String::from).into();
        let codes: String = chips.iter().map(|chip| format!("sm_{chip},")).collect();
        flags.push(format!(
            "-gencode=arch=compute_{PTX},code=[{codes}compute_{PTX}]"
        ));
        // a tenth of the size
        let compresses = ask("--help").is_some_and(|help| help.contains("--compress-mode"));
        if compresses {
            flags.push("--compress-mode=size".into());
        }
        Some(Self {
            program: program.to_owned(),
            version,
            release,
            chips,
            compresses,
            flags,
        })
    }

    /// What src/backend/cuda/images.rs knows of it.
    fn in_rust(&self) -> String {
        let Self {
            release,
            chips,
            compresses,
            ..
        } = self;
        format!(
            "Some(Compiler {{ release: {release:?}, chips: &{chips:?}, compresses: {compresses} }})"
        )
    }

    /// Compiles one source, unless it was already; what ptxas said of registers and spills.
    fn image(
        &self,
        source: &Path,
        headers: &str,
        checks: &Path,
        image: &Path,
    ) -> Result<String, String> {
        let mut made_of = DefaultHasher::new();
        (&self.version, &self.flags, source, text(source), headers).hash(&mut made_of);
        let key = format!("{:016x}", made_of.finish());
        let made = image.with_extension("made");
        let before = fs::read_to_string(&made).unwrap_or_default();
        if let Some((old, report)) = before.split_once('\n')
            && old == key
            && image.exists()
        {
            return Ok(report.to_owned());
        }
        let _ = fs::remove_file(&made);

        let mut command = Command::new(&self.program);
        let command = command
            .args(&self.flags)
            .args(["-I", "kernels", "-include"]);
        let command = command.arg(checks).arg("-o").arg(image).arg(source);
        let output = command.output();
        let output = output.map_err(|error| format!("nvcc does not run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!(
                "nvcc does not compile {} (an empty NVCC builds without):\n{said}",
                source.display()
            ));
        }
        let report = format!("== {}\n{said}\n", source.display());
        fs::write(&made, format!("{key}\n{report}"))
            .map_err(|error| format!("{}: {error}", made.display()))?;
        Ok(report)
    }
}
