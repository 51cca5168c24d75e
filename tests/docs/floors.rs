//! Data goes one way: no file of `src` imports from a floor above its own, as ARCHITECTURE.md lists
//! them, and no circle crosses folders. Read off the sources, comments left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// The floors, lowest first: the words between the marks of ARCHITECTURE.md.
fn floors() -> Vec<String> {
    let (_, list) = ARCHITECTURE.split_once("<!-- floors -->").unwrap();
    let (list, _) = list.split_once("<!-- /floors -->").unwrap();
    list.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

pub fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

/// The folder, or the file, of `src` that a path stands in.
fn floor_of(path: &Path) -> String {
    let mut parts = path.iter().map(|part| part.to_str().unwrap());
    let first = parts.next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The folders that a source imports from: the word after each `crate::`, in code.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        // a group of imports is written out by the formatter, one word before each `::`
        let words: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split(';').next().unwrap_or("");
                group.split([',', '{', '}']).map(str::trim).collect()
            }
            None => vec![rest],
        };
        for word in words {
            let end = word.find(|c: char| !c.is_alphanumeric() && c != '_');
            found.insert(word[..end.unwrap_or(word.len())].to_owned());
        }
    }
    found
}

fn imports_by_file() -> BTreeMap<PathBuf, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&src, &mut all);
    all.iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            (path.strip_prefix(&src).unwrap().to_owned(), imports(&text))
        })
        .collect()
}

#[test]
fn every_folder_has_a_floor() {
    let floors = floors();
    let known: BTreeSet<&String> = floors.iter().collect();
    assert_eq!(known.len(), floors.len(), "a floor is listed twice");
    let there: BTreeSet<String> = imports_by_file().keys().map(|p| floor_of(p)).collect();
    let there: BTreeSet<&String> = there
        .iter()
        .filter(|f| !["lib", "main"].contains(&f.as_str()))
        .collect();
    assert_eq!(there, known);
}

#[test]
fn nothing_imports_from_a_floor_above() {
    let floors = floors();
    let rank = |floor: &str| floors.iter().position(|f| f == floor);
    let mut up = Vec::new();
    for (path, imports) in imports_by_file() {
        let own = floor_of(&path);
        let Some(own) = rank(&own) else { continue };
        for import in imports {
            if rank(&import).is_some_and(|other| other > own) {
                up.push(format!("{} imports from {import}", path.display()));
            }
        }
    }
    // with this every circle stands within one folder
    assert!(up.is_empty(), "{}", up.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::plan::x;\n// crate::cli\nuse crate::{a::B, c::{D, E}};\nfn f() { crate::g::h() }";
    let found = imports(text);
    assert!(["plan", "a", "c", "g"].iter().all(|f| found.contains(*f)));
    assert!(!found.contains("cli"));
}
