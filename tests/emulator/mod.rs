//! Builds the emulated CUDA driver: a `libcuda.so.1` that runs the project's own kernels on the CPU,
//! one fiber for each of their threads, and checks every access (README.md in this folder).
//!
//! Use it in a test with
//!
//! ```ignore
//! #[path = "emulator/mod.rs"]
//! mod emulator;
//! let driver = emulator::load(&emulator::library()); // before anything asks for libcuda
//! ```
#![allow(dead_code)] // each test uses a part

#[path = "../../build/arguments.rs"]
pub mod arguments;
pub mod direct;
pub mod gpu;

use arguments::{Interface, Structure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The engine, linked with the kernels; then the driver.
const ENGINE: [&str; 8] = [
    "fibers",
    "collectives",
    "matrix",
    "access",
    "copies",
    "failures",
    "shared_memory",
    "engine",
];
const DRIVER: [&str; 6] = [
    "settings", "memory", "work", "streams", "launches", "reports",
];

const KERNEL_FLAGS: [&str; 12] = [
    "-O2",
    "-DHEADLIGHT_EMULATED",
    "-ffp-contract=off",
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
    "-Wno-class-memaccess",
    "-Wno-subobject-linkage",
    "-Wno-unused-variable",
];
const COMMON_FLAGS: [&str; 4] = ["-std=c++17", "-gdwarf-4", "-fPIC", "-fvisibility=hidden"];
const AT_ONCE: usize = 2;
/// Bytes between one shared variable and the next; shared_memory.cpp has the same number.
const SHARED_GAP: u64 = 64;

/// The driver with the project's kernels, built if need be. `HEADLIGHT_EMULATOR_KERNELS` names a folder
/// to take instead.
pub fn library() -> PathBuf {
    match std::env::var_os("HEADLIGHT_EMULATOR_KERNELS") {
        Some(folder) => library_of(Path::new(&folder)),
        None => library_of(&root().join("kernels")),
    }
}

/// The driver with all kernels (`*.cu`) of a folder: a mutated copy of `kernels/`, or planted bugs.
/// Headers that the folder has not are taken from `kernels/`.
pub fn library_of(kernels: &Path) -> PathBuf {
    let kernels = kernels
        .canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}", kernels.display()));
    let build = Build::new(&kernels);
    let folder = build.cache.join(&build.key()[..24]);
    let library = folder.join("libcuda.so.1");
    if library.exists() {
        return library;
    }
    // One process builds, the others wait for it; what dies half-way leaves nothing in place.
    let lock = File::create(build.cache.join("lock")).unwrap();
    lock.lock().unwrap();
    if !library.exists() {
        let began = std::time::Instant::now();
        build.link(&folder);
        eprintln!(
            "emulated driver built in {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
    library
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Opens the driver for the whole process; `dlopen("libcuda.so.1")` finds it from then on.
pub fn load(library: &Path) -> direct::Driver {
    direct::Driver::open(library)
}

struct Build {
    cache: PathBuf,
    emulator: PathBuf,
    kernels: PathBuf,
    compiler: String,
    /// The compiler's version.
    version: Vec<u8>,
    flags: Vec<String>,
    /// Where headers are looked for, in this order.
    includes: [PathBuf; 3],
}

impl Build {
    fn new(kernels: &Path) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
        fs::create_dir_all(cache.join("objects")).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let version = Command::new(&compiler).arg("--version").output().unwrap_or_else(|e| {
            panic!(
                "the emulated CUDA driver is built with a C++ compiler, and `{compiler}` cannot be \
                 run ({e}): install g++ (Debian: apt install g++), or name one in CXX"
            )
        });
        let emulator = root().join("tests/emulator");
        let mut flags: Vec<String> = COMMON_FLAGS.iter().map(|f| f.to_string()).collect();
        flags.extend(processor_flags());
        Build {
            cache,
            includes: [kernels.into(), root().join("kernels"), emulator.clone()],
            emulator,
            kernels: kernels.into(),
            compiler,
            version: version.stdout,
            flags,
        }
    }

    fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.version);
        hash.update(self.flags.join(" "));
        hash.update(KERNEL_FLAGS.join(" "));
        for folder in &self.includes {
            for source in files(folder, &["cu", "cuh", "cpp", "hpp"]) {
                hash.update(source.to_string_lossy().as_bytes());
                hash.update(fs::read(source).unwrap());
            }
        }
        hash.update(fs::read(self.emulator.join("mod.rs")).unwrap());
        hash.update(fs::read(root().join("build/arguments.rs")).unwrap());
        hex(&hash.finalize())
    }

    /// Compiles what is not there yet, links, and puts the finished folder in place.
    fn link(&self, folder: &Path) {
        let sources = files(&self.kernels, &["cu"]);
        assert!(
            !sources.is_empty(),
            "{} holds no kernels",
            self.kernels.display()
        );
        let mut jobs: Vec<(PathBuf, String, &[&str])> = Vec::new();
        for source in &sources {
            jobs.push((source.clone(), self.registered(source), &KERNEL_FLAGS));
        }
        for (names, flags) in [
            (&ENGINE[..], &["-O3", "-fno-exceptions"][..]),
            (&DRIVER, &["-O2"]),
        ] {
            for name in names {
                let source = self.emulator.join(format!("{name}.cpp"));
                let text = fs::read_to_string(&source).unwrap();
                jobs.push((source, text, flags));
            }
        }
        let objects = self.compile(&jobs);
        let (engine, driver) = objects.split_at(sources.len() + ENGINE.len());

        let work = tempfile::Builder::new()
            .prefix("link")
            .tempdir_in(&self.cache)
            .unwrap();
        let kernels = work.path().join("kernels-0.so");
        self.run(
            Command::new(&self.compiler)
                .arg("-shared")
                .arg("-o")
                .arg(&kernels)
                .args(engine)
                .args([
                    "-Wl,-z,defs",
                    "-Wl,-Bsymbolic",
                    "-Wl,--build-id=none",
                    "-ldl",
                ]),
        );
        // A copy for each launch that may run at a time: its static variables are its shared memory.
        fs::copy(&kernels, work.path().join("kernels-1.so")).unwrap();
        self.run(
            Command::new(&self.compiler)
                .args(["-shared", "-Wl,-soname,libcuda.so.1", "-o"])
                .arg(work.path().join("libcuda.so.1"))
                .args(driver)
                .args(["-Wl,-z,defs", "-pthread", "-ldl"]),
        );
        // For LD_LIBRARY_PATH: this name is asked for first.
        std::os::unix::fs::symlink("libcuda.so.1", work.path().join("libcuda.so")).unwrap();
        let _ = fs::remove_dir_all(folder);
        fs::rename(work.keep(), folder).unwrap();
    }

    /// Objects in the order of the jobs, `AT_ONCE` at a time, the longest sources first.
    fn compile(&self, jobs: &[(PathBuf, String, &[&str])]) -> Vec<PathBuf> {
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(fs::metadata(&jobs[i].0).map_or(0, |m| m.len())));
        let next = AtomicUsize::new(0);
        let objects = Mutex::new(vec![PathBuf::new(); jobs.len()]);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (source, text, flags) = &jobs[i];
                        let object = self.object(source, text, flags);
                        objects.lock().unwrap()[i] = object;
                    }
                });
            }
        });
        objects.into_inner().unwrap()
    }

    /// A source that includes the kernels of one file, checks what they are launched with and registers
    /// each by its name. They stand in an anonymous namespace, so that files may use the same names for
    /// different things, as they may for nvcc.
    fn registered(&self, source: &Path) -> String {
        let mut unit = format!(
            "#include \"device.cuh\"\n#include \"registry.hpp\"\nnamespace {{\n#include \"common.cuh\"\n\
             #include \"{}\"\n}}\n",
            source.display()
        );
        let places = self.includes.iter().map(|f| f.join("arguments.cuh"));
        let shared = places
            .filter_map(|path| fs::read_to_string(path).ok())
            .next();
        let shared = arguments::read(&shared.unwrap()).unwrap();
        unit += &shared.checks();
        for structure in &shared.structures {
            unit += &pointers(&shared, structure);
        }
        for (name, bound) in kernels_in(&fs::read_to_string(source).unwrap()) {
            writeln!(unit, "HEADLIGHT_REGISTER({name}, {bound})").unwrap();
        }
        unit
    }

    /// Contents of every file that a text includes, however deep, each once.
    fn included(&self, text: &str, folder: &Path, seen: &mut BTreeMap<PathBuf, String>) {
        for line in text.lines() {
            let Some(rest) = line.trim().strip_prefix("#include \"") else {
                continue;
            };
            let name = rest.split('"').next().unwrap();
            let mut places = [folder]
                .into_iter()
                .chain(self.includes.iter().map(|f| &**f));
            let found = places.find_map(|f| Some(f.join(name)).filter(|path| path.exists()));
            if let Some(path) = found.filter(|path| !seen.contains_key(path)) {
                let text = fs::read_to_string(&path).unwrap();
                seen.insert(path.clone(), text.clone());
                self.included(&text, path.parent().unwrap(), seen);
            }
        }
    }

    /// Objects are known by what they are made of, not by the folder that it lies in: of a copy of
    /// `kernels/` only what was changed is compiled.
    fn object(&self, source: &Path, text: &str, flags: &[&str]) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(&self.version);
        hash.update(self.flags.join(" "));
        hash.update(flags.join(" "));
        hash.update(text.replace(&*source.to_string_lossy(), ""));
        let mut included = BTreeMap::new();
        self.included(text, source.parent().unwrap(), &mut included);
        let name = |path: &PathBuf| path.file_name().unwrap().to_owned();
        let mut files: Vec<_> = included.iter().map(|(p, text)| (name(p), text)).collect();
        files.sort();
        for (name, text) in files {
            hash.update(name.as_encoded_bytes());
            hash.update(text);
        }
        let key = &hex(&hash.finalize())[..24];
        let object = self.cache.join("objects").join(format!("{key}.o"));
        if object.exists() {
            return object;
        }
        let work = tempfile::Builder::new()
            .prefix("compile")
            .tempdir_in(&self.cache)
            .unwrap();
        let (unit, made) = (work.path().join("unit.cpp"), work.path().join("unit.o"));
        let assembly = work.path().join("unit.s");
        if source.extension().is_some_and(|e| e == "cu") {
            fs::write(&unit, text).unwrap();
            self.run(
                self.compiles(flags)
                    .arg("-S")
                    .arg(&unit)
                    .arg("-o")
                    .arg(&assembly),
            );
            let padded = with_gaps(&fs::read_to_string(&assembly).unwrap());
            fs::write(&assembly, padded).unwrap();
            self.run(
                Command::new(&self.compiler)
                    .arg("-c")
                    .arg(&assembly)
                    .arg("-o")
                    .arg(&made),
            );
        } else {
            self.run(
                self.compiles(flags)
                    .arg("-c")
                    .arg(source)
                    .arg("-o")
                    .arg(&made),
            );
        }
        fs::rename(&made, &object).unwrap();
        object
    }

    fn compiles(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.compiler);
        command.args(&self.flags).args(flags);
        for include in &self.includes {
            command.arg("-I").arg(include);
        }
        command
    }

    fn run(&self, command: &mut Command) {
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(
            output.status.success(),
            "the emulated CUDA driver did not build: {command:?}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What tells the driver where a structure's pointers are, those of structures in it included.
fn pointers(shared: &Interface, structure: &Structure) -> String {
    fn collect(shared: &Interface, of: &Structure, name: &str, at: usize, list: &mut Vec<String>) {
        for field in &of.fields {
            let (name, at) = (format!("{name}{}", field.name), at + field.offset);
            match shared.structures.iter().find(|s| s.name == field.kind) {
                Some(inner) => collect(shared, inner, &format!("{name}."), at, list),
                None if field.kind == "Pointer" => list.push(format!("{{\"{name}\", {at}}}")),
                None => {}
            }
        }
    }
    let mut list = Vec::new();
    collect(shared, structure, "", 0, &mut list);
    if list.is_empty() {
        return String::new();
    }
    let names: Vec<String> = (0..structure.parameters).map(|i| format!("T{i}")).collect();
    let template = |before: &str| match &*names {
        [] => String::new(),
        names => format!("<{before}{}>", names.join(&format!(", {before}"))),
    };
    let (parameters, arguments) = (template("class "), template(""));
    format!(
        "template {}\nstruct headlight::PointersOf<{}{arguments}> {{\n  \
         static constexpr Pointer list[] = {{{}}};\n  static constexpr uint32_t count = {};\n}};\n",
        if parameters.is_empty() {
            "<>"
        } else {
            &parameters
        },
        structure.name,
        list.join(", "),
        list.len()
    )
}

/// Makes every shared variable (a function's own static one) longer by what shared_memory.cpp takes off
/// again, so that past the end of one lies nothing, not the next one.
fn with_gaps(assembly: &str) -> String {
    let lengthen = |line: &str| -> Option<String> {
        let rest = line.strip_prefix("\t.comm\t_ZZ")?;
        let [name, size, alignment] = rest.split(',').collect::<Vec<_>>()[..] else {
            return None;
        };
        let size: u64 = size.parse().ok()?;
        Some(format!(
            "\t.comm\t_ZZ{name},{},{alignment}",
            size + SHARED_GAP
        ))
    };
    let lines = assembly
        .lines()
        .map(|line| lengthen(line).unwrap_or_else(|| line.to_string()));
    lines.map(|line| line + "\n").collect()
}

/// Names and launch bounds (`0`: none) of the kernels in a source text.
pub fn kernels_in(text: &str) -> Vec<(String, String)> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .flat_map(str::split_whitespace)
        .collect();
    let code = code.join(" ");
    let code = code.replace("KERNEL(", "extern \"C\" __global__ void __launch_bounds__(");
    let mut found = Vec::new();
    for rest in code.split("extern \"C\" __global__ void ").skip(1) {
        let mut rest = rest.trim_start();
        let mut bound = "0";
        if let Some(bounds) = rest.strip_prefix("__launch_bounds__(") {
            let end = bounds.find(')').expect("a launch bound ends");
            bound = bounds[..end].split(',').next().unwrap().trim();
            rest = bounds[end + 1..].trim_start();
        }
        let name = rest.split('(').next().unwrap().trim();
        found.push((name.to_string(), bound.to_string()));
    }
    found
}

/// fmaf() and conversions as instructions where the processor has them.
fn processor_flags() -> Vec<String> {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = facts
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let has = |word: &str| line.split_whitespace().any(|w| w == word);
    ["fma", "avx2", "f16c"]
        .iter()
        .filter(|f| has(f))
        .map(|f| format!("-m{f}"))
        .collect()
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            extensions
                .iter()
                .any(|e| path.extension().is_some_and(|x| x == *e))
        })
        .collect();
    found.sort();
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
