//! Sources declare the kernels that Rust does, each with the argument that Rust has for it, and what both
//! sides know of arguments is read as it is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use headlight::backend::cuda::kernels::Kernel;

use super::{assert_none, disassembler, image};
use crate::emulator::arguments::{Structure, read};

/// A source without comments, every stretch of white space one space.
fn source(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let lines = text.lines().filter_map(|line| line.split("//").next());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

/// The sources of all kernels.
fn sources() -> Vec<&'static str> {
    let mut sources: Vec<&str> = Kernel::all().iter().map(|kernel| kernel.source()).collect();
    sources.sort();
    sources.dedup();
    sources
}

#[test]
fn sources_and_rust_declare_the_same_kernels() {
    let mut wrong = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let files = fs::read_dir(folder).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let kernels = path.extension().is_some_and(|e| e == "cu");
        kernels.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
    });
    let mut files: Vec<String> = files.collect();
    files.sort();
    assert_eq!(files, sources());
    for file in files {
        let text = source(&format!("{file}.cu"));
        // kernels have no other form, and nothing hides one
        for other in ["__global__", "#if", "#define", "/*"] {
            if text.contains(other) {
                wrong.push(format!("{file} has {other}"));
            }
        }
        let of_file = Kernel::all()
            .into_iter()
            .filter(|kernel| kernel.source() == file);
        let of_file: Vec<Kernel> = of_file.collect();
        for kernel in &of_file {
            let (name, argument) = (kernel.name(), kernel.argument_in_source());
            let declared = format!(") {name}(const __grid_constant__ {argument} a) {{");
            if text.matches(&declared).count() != 1 {
                wrong.push(format!("{file} does not have {declared}"));
            }
        }
        let kernels = text.matches("KERNEL(").count();
        if kernels != of_file.len() {
            wrong.push(format!(
                "{file} has {kernels} kernels, Rust {}",
                of_file.len()
            ));
        }
    }
    assert_none(&wrong);
}

#[test]
fn compiled_kernels_take_an_argument_of_the_size_that_rust_gives() {
    let test = "compiled_kernels_take_an_argument_of_the_size_that_rust_gives";
    let Some(cuobjdump) = disassembler(test) else {
        return;
    };
    let mut compiled = BTreeMap::new();
    for source in sources() {
        let output = Command::new(&cuobjdump)
            .arg("-ptx")
            .arg(image(source))
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for entry in text.split(".visible .entry ").skip(1) {
            let (name, rest) = entry.split_once('(').unwrap();
            let parameters = rest.split_once(')').unwrap().0;
            compiled.insert(name.to_owned(), parameters.trim().to_owned());
        }
    }
    let interface = read(&fs::read_to_string("kernels/arguments.cuh").unwrap()).unwrap();
    for kernel in Kernel::all() {
        let (name, argument) = (kernel.name(), kernel.argument_in_source());
        let of_kernel = |s: &&Structure| argument.split('<').next() == Some(&s.name);
        let size = interface.structures.iter().find(of_kernel).unwrap().size;
        let found = compiled
            .get(&name)
            .unwrap_or_else(|| panic!("no PTX of {name}"));
        let end = format!(".b8 {name}_param_0[{size}]");
        assert!(found.ends_with(&end) && !found.contains(','), "{found}");
    }
}

#[test]
fn what_arguments_may_not_say_is_an_error() {
    let good = "#pragma once\nconstexpr uint32_t A = 1, B = 0xff;  // two\nenum class Code : uint32_t { X, Y };\n\
                template <class T>\nstruct Inner {\n  const T *a, *b;\n  Code code;\n};\n\
                struct alignas(16) Outer {\n  float x;\n  Inner<const float> inner;\n};\n";
    let interface = read(good).unwrap();
    assert_eq!(interface.constants, [("A".into(), 1), ("B".into(), 255)]);
    let places = |s: &Structure| -> Vec<usize> { s.fields.iter().map(|f| f.offset).collect() };
    let [inner, outer] = &interface.structures[..] else {
        panic!("{interface:?}")
    };
    assert_eq!((inner.size, places(inner)), (24, vec![0, 8, 16]));
    assert_eq!((outer.size, places(outer)), (32, vec![0, 8]));
    for (from, to) in [
        ("A = 1", "A = B"),
        ("A = 1", "A = -1"),
        ("0xff", "0x100000000"),
        ("A = 1, B", "A = 1; B"),
        ("uint32_t A", "int A"),
        ("Code : uint32_t", "Code : uint8_t"),
        ("{ X, Y }", "{ X = 3, Y }"),
        ("const T *a, *b", "T a"),
        ("Code code", "int code"),
        ("Code code", "Code code[2]"),
        ("Code code", "Code code = Code::X"),
        ("Code code", "Code at() const { return X; }"),
        ("Code code", "Later code"),
        ("float x", "float &x"),
        ("<const float>", "<const float"),
        ("Outer {", "Outer : Inner<float> {"),
        ("};\nstruct", "}\nstruct"),
        ("struct alignas(16)", "using O = Outer; struct"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(read(&bad).is_err(), "{bad}");
    }
}
