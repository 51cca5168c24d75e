//! Compiles `kernels/*.cu` into one fatbin each, where nvcc is found.
//!
//! nvcc is looked for in `$NVCC`, on the PATH, under `$CUDA_HOME` and `$CUDA_PATH`, and in the usual
//! folders. Machine code is made for a list of chips that does not depend on the machine that builds,
//! as far as this nvcc knows them, and PTX for the oldest of them, which serves every later one. Where
//! there is no nvcc, images are placeholders and everything else builds; `HEADLIGHT_REQUIRE_CUDA=1`
//! makes that an error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Chips with machine code of their own: A100, RTX 30, RTX 40, H100, B200, RTX 50.
const CHIPS: [&str; 6] = ["80", "86", "89", "90a", "100", "120"];
/// The virtual chip whose PTX serves all others.
const PTX: &str = "80";

fn main() {
    for variable in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "PATH",
        "HEADLIGHT_REQUIRE_CUDA",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let required = env::var_os("HEADLIGHT_REQUIRE_CUDA").is_some_and(|v| v == "1");
    let sources = sources();

    let compiler = nvcc();
    if compiler.is_none() && required {
        panic!("HEADLIGHT_REQUIRE_CUDA=1, but no nvcc was found: set NVCC or put it on the PATH");
    }
    let version = compiler.as_deref().and_then(major_version);
    let chips = compiler.as_deref().map_or(Vec::new(), known_chips);
    let mut images =
        String::from("/// Every source of `kernels/`.\npub static IMAGES: &[Image] = &[\n");
    let mut reports = String::new();
    for source in &sources {
        let name = source
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = out.join(format!("{name}.fatbin"));
        match &compiler {
            Some(nvcc) => reports += &compile(nvcc, source, &image, &chips),
            // a NUL ends it, so that a driver that looks for PTX does not read on
            None => fs::write(&image, format!("not compiled: {name}.cu\0"))
                .expect("OUT_DIR can be written"),
        }
        images += &format!(
            "    Image {{ name: {name:?}, data: include_bytes!({:?}) }},\n",
            image.display().to_string()
        );
    }
    images += &format!(
        "];\n\n/// Major version of the CUDA compiler; `None` if the images are placeholders.\n\
         pub const COMPILED_BY: Option<u32> = {version:?};\n"
    );
    fs::write(out.join("images.rs"), images).expect("OUT_DIR can be written");
    fs::write(out.join("ptxas.txt"), reports).expect("OUT_DIR can be written");
    println!("cargo::rustc-env=HEADLIGHT_KERNELS_OUT={}", out.display());
}

fn sources() -> Vec<PathBuf> {
    let folder = fs::read_dir("kernels").expect("kernels/ lies beside build.rs");
    let mut sources: Vec<PathBuf> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    sources
}

/// The first nvcc that runs.
fn nvcc() -> Option<OsString> {
    let under = |folder: PathBuf| folder.join("bin").join("nvcc").into_os_string();
    let home = |variable| env::var_os(variable).map(|home| under(PathBuf::from(home)));
    let places = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"];
    [
        env::var_os("NVCC"),
        Some("nvcc".into()),
        home("CUDA_HOME"),
        home("CUDA_PATH"),
    ]
    .into_iter()
    .flatten()
    .chain(places.map(|place| under(PathBuf::from(place))))
    .find(|nvcc| {
        let version = Command::new(nvcc).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

fn major_version(nvcc: &std::ffi::OsStr) -> Option<u32> {
    let output = Command::new(nvcc).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("release ")
        .nth(1)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Those of our chips that this nvcc makes code for.
fn known_chips(nvcc: &std::ffi::OsStr) -> Vec<&'static str> {
    let output = Command::new(nvcc).arg("--list-gpu-code").output();
    let text = output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    CHIPS
        .into_iter()
        .filter(|chip| {
            // the list has no names of single architectures such as sm_90a
            let chip = format!("sm_{}", chip.trim_end_matches('a'));
            text.lines().any(|line| line.trim() == chip)
        })
        .collect()
}

/// Compiles one source; returns what ptxas said of registers and spills.
fn compile(nvcc: &std::ffi::OsStr, source: &Path, image: &Path, chips: &[&str]) -> String {
    let mut command = Command::new(nvcc);
    command.args([
        "-std=c++17",
        "-O3",
        "-fmad=false",
        "-lineinfo",
        "--fatbin",
        "-Xptxas",
        "-v",
    ]);
    command.args(["--threads", "0"]);
    for chip in chips {
        command.arg(format!("-gencode=arch=compute_{chip},code=sm_{chip}"));
    }
    command.arg(format!("-gencode=arch=compute_{PTX},code=compute_{PTX}"));
    let output = command.arg("-o").arg(image).arg(source).output();
    let output = output.unwrap_or_else(|error| panic!("nvcc does not run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        panic!("nvcc does not compile {}:\n{said}", source.display());
    }
    format!("== {}\n{said}\n", source.display())
}
