//! One word, one thing: no two types of `src` that another file can name go by the same name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::floors::sources;

/// The types that a source declares for others than itself, whoever they are.
fn types(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start().strip_prefix("pub")?;
        let line = match line.strip_prefix('(') {
            Some(narrow) => narrow.split_once(')')?.1,
            None => line,
        };
        let (kind, name) = line.trim_start().split_once(' ')?;
        let declares = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
        declares.then(|| &name[..end.unwrap_or(name.len())])
    })
}

#[test]
fn no_two_types_share_a_name() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let file = path.strip_prefix(&src).unwrap().display().to_string();
        for name in types(&text) {
            declared
                .entry(name.to_owned())
                .or_default()
                .push(file.clone());
        }
    }
    assert!(declared.len() > 300, "only {} types found", declared.len());
    let shared: Vec<_> = declared.iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(
        shared.is_empty(),
        "each of these names stands for two things: {shared:#?}"
    );
}

#[test]
fn types_are_seen_however_they_are_declared() {
    let text = "pub struct A<'a>(u8);\n    pub(super) enum B {\npub(crate) type C = u8;\npub(in crate::x) trait D: E {\nstruct F;\npub fn G() {}\n/// pub struct H";
    assert_eq!(types(text).collect::<Vec<_>>(), ["A", "B", "C", "D"]);
}
