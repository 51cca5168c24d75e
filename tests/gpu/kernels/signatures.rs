//! Sources declare the kernels that Rust does, with the parameters that it does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use headlight::backend::cuda::kernels::Kernel;

use super::{assert_none, disassembler, image};

/// A kernel's name and the types of its parameters.
type Signature = (String, Vec<String>);

/// Text without comments, every stretch of white space one space.
fn bare(text: &str) -> Result<String, String> {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        bare += &rest[..at];
        let end = if rest[at..].starts_with("//") {
            rest[at..].find('\n').unwrap_or(rest.len() - at)
        } else {
            2 + rest[at..].find("*/").ok_or("a comment has no end")?
        };
        bare.push(' ');
        rest = &rest[at + end..];
    }
    bare += rest;
    Ok(bare.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What follows the bracket that closes the one at the text's start, and what is between.
fn in_brackets(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some((&text[1..i], &text[i + 1..])),
            ')' => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// A parameter's type: what is left without its name and `__restrict__`.
fn type_of(parameter: &str) -> Option<String> {
    let parameter = parameter.replace("__restrict__", " ");
    let parameter = parameter.trim();
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !parameter.chars().all(|c| letter(c) || " *<>".contains(c)) {
        return None;
    }
    let kind = parameter.trim_end_matches(letter);
    let named = !kind.is_empty() && kind.len() < parameter.len();
    named.then(|| kind.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The kernels of one file. Any other form than
///
/// ```text
/// extern "C" __global__ void __launch_bounds__(…) name(type name, …) {
/// ```
///
/// is an error, and so is a condition or macro that could hide one.
fn signatures(text: &str) -> Result<Vec<Signature>, String> {
    let text = bare(text)?;
    if text.contains("__global__") && (text.contains("#if") || text.contains("#define")) {
        return Err("kernels stand beside preprocessor conditions or macros".into());
    }
    let mut signatures = Vec::new();
    for (at, word) in text.match_indices("__global__") {
        let around: String = text[at..].chars().take(80).collect();
        let one = || {
            let before = text[..at].ends_with("extern \"C\" ");
            let rest = text[at + word.len()..].strip_prefix(" void ")?;
            let rest = match rest.strip_prefix("__launch_bounds__") {
                Some(rest) => in_brackets(rest)?.1.trim_start(),
                None => rest,
            };
            let (name, rest) = rest.split_at(rest.find('(')?);
            let name_is_one = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let (parameters, rest) = in_brackets(rest)?;
            let parameters = parameters.split(',').map(type_of).collect::<Option<_>>()?;
            let whole = before && name_is_one && rest.starts_with(" {");
            whole.then(|| (name.to_owned(), parameters))
        };
        signatures.push(one().ok_or_else(|| format!("not understood: {around}"))?);
    }
    Ok(signatures)
}

#[test]
fn signatures_of_any_other_form_are_errors() {
    let good = "// a __global__ comment /*\nextern \"C\" __global__ void __launch_bounds__(256, 1) x(\n    \
                const float *__restrict__ a, /* b */ View<const bf16> b,\n    uint32_t c) {\n}";
    assert_eq!(
        signatures(good).unwrap(),
        [(
            "x".to_owned(),
            ["const float *", "View<const bf16>", "uint32_t"]
                .map(String::from)
                .into()
        )]
    );
    for (from, to) in [
        ("extern \"C\" ", ""),
        ("void", "int"),
        ("c) {", "c);"),
        (" c)", ")"),
        ("*__restrict__ a", "*__restrict__"),
        ("uint32_t c", "uint32_t c = 3"),
        ("uint32_t c", "float &c"),
        ("uint32_t c", "uint32_t c,"),
        ("uint32_t c", "float (*c)(float)"),
        (" x(", " NAME(x)("),
        ("extern", "#define KERNEL extern"),
        ("extern", "#if 1\nextern"),
        ("/* b */", "/* b"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(signatures(&bad).is_err(), "{bad}");
    }
}

#[test]
fn sources_and_rust_declare_the_same_kernels() {
    let mut wrong = Vec::new();
    let mut in_sources = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (file, text) = (path.display(), fs::read_to_string(&path).unwrap());
        let found = signatures(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let source = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let kernels_belong = path.extension().is_some_and(|e| e == "cu");
        if kernels_belong == found.is_empty() {
            wrong.push(format!("{file} has {} kernels", found.len()));
        }
        for (name, parameters) in found {
            let declared = (source.clone(), parameters);
            if in_sources.insert(name.clone(), declared).is_some() {
                wrong.push(format!("{file}: there is another {name}"));
            }
        }
    }
    for kernel in Kernel::all() {
        let name = kernel.name();
        let declared = (kernel.source().to_owned(), kernel.parameters());
        match in_sources.remove(&name) {
            None => wrong.push(format!("{name} is in no source, or twice in Rust")),
            Some(found) if found != declared => wrong.push(format!(
                "{name} is\n  {found:?} in the source,\n  {declared:?} in Rust"
            )),
            Some(_) => {}
        }
    }
    let unknown = in_sources.into_keys();
    wrong.extend(unknown.map(|name| format!("Rust does not know {name}")));
    assert_none(&wrong);
}

/// A parameter as PTX has it: its type, or the bytes of a structure.
fn in_ptx(parameter: &str) -> &'static str {
    match parameter {
        "uint32_t" => ".u32",
        "float" => ".f32",
        pointer if pointer.ends_with('*') => ".u64",
        view if view.starts_with("View<") => ".b8[24]",
        other => panic!("{other} is passed in no known way"),
    }
}

#[test]
fn compiled_kernels_take_arguments_of_the_declared_sizes() {
    let Some(cuobjdump) = disassembler("compiled_kernels_take_arguments_of_the_declared_sizes")
    else {
        return;
    };
    let mut compiled = BTreeMap::new();
    let mut sources: Vec<&str> = Kernel::all().iter().map(|kernel| kernel.source()).collect();
    sources.sort();
    sources.dedup();
    for source in sources {
        let output = Command::new(&cuobjdump)
            .arg("-ptx")
            .arg(image(source))
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for entry in text.split(".visible .entry ").skip(1) {
            let (name, rest) = entry.split_once('(').unwrap();
            let parameters = rest.split_once(')').unwrap().0.split(',');
            let kinds = parameters.map(|parameter| {
                let mut words = parameter.split_whitespace();
                let kind = words.find(|w| [".u32", ".f32", ".u64", ".b8"].contains(w));
                let size = parameter.find('[').map_or("", |at| parameter[at..].trim());
                format!("{}{size}", kind.unwrap_or(parameter))
            });
            compiled.insert(name.to_owned(), kinds.collect::<Vec<_>>());
        }
    }
    for kernel in Kernel::all() {
        let declared: Vec<_> = kernel.parameters().iter().map(|p| in_ptx(p)).collect();
        let name = kernel.name();
        let found = compiled
            .get(&name)
            .unwrap_or_else(|| panic!("no PTX of {name}"));
        assert_eq!(*found, declared, "{name}");
    }
}
