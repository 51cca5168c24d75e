//! Every layout in which transformers has saved a tokenizer, against the ids that its `AutoTokenizer`
//! gives: 3,000 strings each. What the two files of a folder contradict each other in, and what cannot
//! be honoured, is refused by its name.
//!
//! `tests/fixtures/make_tokenizers.py` wrote the layouts and asked transformers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use headlight::model::{ModelError, Tokenizer};
use serde_json::{Map, Value, json};

use super::folder;

/// Layouts that are refused, and what the refusal names.
const REFUSED: &[(&str, &str)] = &[
    (
        "added_tokens.json with a gap",
        "token `foo bar` is given the id 905, but by its place among the tokens it has 900",
    ),
    (
        "added_tokens.json that takes an id",
        "`foo bar` is given the id 300",
    ),
    (
        "added_tokens.json that gives another id",
        "`[UNK]` is given the id 903",
    ),
    (
        "added_tokens_decoder against added_tokens.json",
        "`foo bar` is given the id 900",
    ),
    (
        "added_tokens_decoder with a gap",
        "`<pad>` is given the id 907",
    ),
    (
        "added_tokens_decoder that takes an id",
        "`<pad>` is given the id 300",
    ),
    ("a token's object without its type", "pad_token is {"),
    (
        "fast, an added id with a gap",
        "`foo bar` is given the id 909",
    ),
    (
        "fast, an added id that is taken",
        "`foo bar` is given the id 300",
    ),
    (
        "fast, added_tokens.json against it",
        "`foo bar` is given the id 900",
    ),
    (
        "fast, added_tokens_decoder with another id",
        "`<pad>` is given the id 904",
    ),
    (
        "fast, added_tokens_decoder against it",
        "`foo bar` is given the id 900",
    ),
    (
        "fast with prefix space, configuration: null",
        "add_prefix_space is null, expected true or false",
    ),
    (
        "fast without prefix space, configuration: null",
        "add_prefix_space is null",
    ),
    (
        "sequence with prefix space, configuration: null",
        "add_prefix_space is null",
    ),
    (
        "fast with prefix space, configuration: nothing in it, no class of its own",
        "sets add_prefix_space",
    ),
    (
        "fast, a normalizer that is not read",
        "normalizer has a stage Replace",
    ),
    ("fast, byte_fallback", "sets byte_fallback"),
    ("fast, padding to a length", "(`padding`)"),
    ("fast, padding to a multiple", "(`padding`)"),
    ("fast, dropout", "dropout is 0.5"),
    (
        "the class RobertaTokenizer",
        "tokenizer_class is RobertaTokenizer",
    ),
    (
        "the class LlamaTokenizerFast",
        "tokenizer_class is LlamaTokenizerFast",
    ),
    (
        "the class BertTokenizer",
        "tokenizer_class is BertTokenizer",
    ),
    (
        "another class in config.json",
        "config.json` is no byte-level BPE tokenizer that can be used: its tokenizer_class is RobertaTokenizer",
    ),
    (
        "merges.txt without a version",
        "first line is not `#version: 0.2`",
    ),
    (
        "merges.txt without its last line's end",
        "last line has no end",
    ),
];

/// Layouts that transformers 4.57 does not open and that are read all the same: what it trips over
/// changes no id.
const ONLY_HERE: &[&str] = &["fast, switches left out", "the class TokenizersBackend"];

/// The most tokens that the layout `fast, truncation` keeps.
const CUT: usize = 6;

struct Fixtures {
    strings: Vec<String>,
    vocab: Map<String, Value>,
    merges: Vec<[String; 2]>,
    cases: Vec<Value>,
}

impl Fixtures {
    fn read() -> Self {
        let folder = match std::env::var_os("HEADLIGHT_TOKENIZERS") {
            Some(other) => other.into(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers"),
        };
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let mut cases: Value = serde_json::from_str(&text("cases.json")).unwrap();
        let merges = text("merges.txt");
        let pair = |line: &str| {
            let (a, b) = line.split_once(' ').unwrap();
            [a.to_owned(), b.to_owned()]
        };
        Fixtures {
            strings: serde_json::from_str(&text("strings.json")).unwrap(),
            vocab: serde_json::from_str(&text("vocab.json")).unwrap(),
            merges: merges.lines().skip(1).map(pair).collect(),
            cases: serde_json::from_value(cases["cases"].take()).unwrap(),
        }
    }

    /// Writes a layout's files, as the script does.
    fn write(&self, case: &Value, folder: &Path) {
        let list = |key: &str| -> Vec<&str> {
            let list = case[key].as_array().unwrap().iter();
            list.map(|token| token.as_str().unwrap()).collect()
        };
        let without = list("without");
        let mut vocab = self.vocab.clone();
        vocab.retain(|token, _| !without.contains(&token.as_str()));
        for token in list("extra") {
            let last = vocab.values().map(|id| id.as_u64().unwrap()).max().unwrap();
            vocab.insert(token.to_owned(), json!(last + 1));
        }
        let merges: Vec<&[String; 2]> = self
            .merges
            .iter()
            .filter(|[a, b]| {
                [a, b, &format!("{a}{b}")]
                    .iter()
                    .all(|token| vocab.contains_key(*token))
            })
            .collect();
        let lines: Vec<String> = merges.iter().map(|pair| pair.join(" ")).collect();
        std::fs::write(folder.join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
        for (name, content) in case["files"].as_object().unwrap() {
            let text = if name == "merges.txt" {
                match content.as_str().unwrap() {
                    "$merges" => format!("#version: 0.2\n{}\n", lines.join("\n")),
                    "$merges without version" => format!("{}\n", lines.join("\n")),
                    "$merges without end" => format!("#version: 0.2\n{}", lines.join("\n")),
                    "$merges with CRLF" => format!("#version: 0.2\r\n{}\r\n", lines.join("\r\n")),
                    other => other.to_owned(),
                }
            } else {
                let mut content = content.clone();
                let whole = |value: &mut Value| match value.as_str() {
                    Some("$vocab") => *value = Value::Object(vocab.clone()),
                    Some("$merges") => *value = json!(lines),
                    Some("$pairs") => *value = json!(merges),
                    _ => {}
                };
                if content.is_object() {
                    for key in ["vocab", "merges"] {
                        content.pointer_mut(&format!("/model/{key}")).map(whole);
                    }
                } else {
                    whole(&mut content);
                }
                content.to_string()
            };
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
}

fn numbers(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What transformers gives for every string, by layout.
fn expected(cases: &[Value]) -> BTreeMap<&str, Vec<Vec<u32>>> {
    let mut all: BTreeMap<&str, Vec<Vec<u32>>> = BTreeMap::new();
    for case in cases {
        let ids = if let Some(ids) = case["ids"].as_array() {
            ids.iter().map(numbers).collect()
        } else if let Some(near) = case["like"].as_str() {
            let mut ids = all[near].clone();
            for (at, other) in case["but"].as_object().unwrap() {
                ids[at.parse::<usize>().unwrap()] = numbers(other);
            }
            ids
        } else {
            continue;
        };
        all.insert(case["name"].as_str().unwrap(), ids);
    }
    all
}

#[test]
fn every_layout_gives_the_ids_of_transformers_or_is_refused() {
    let fixtures = Fixtures::read();
    let expected = expected(&fixtures.cases);
    assert!(fixtures.strings.len() == 3000 && fixtures.cases.len() > 100);
    let mut wrong = Vec::new();
    let mut refused = BTreeSet::new();
    for case in &fixtures.cases {
        let name = case["name"].as_str().unwrap();
        let dir = folder();
        fixtures.write(case, dir.path());
        let tokenizer = match Tokenizer::open(dir.path()) {
            Ok(tokenizer) => tokenizer.unwrap(),
            Err(error) => {
                let message = error.to_string();
                assert!(!message.contains('\n'), "{message}");
                let part = REFUSED.iter().find(|(refused, _)| *refused == name);
                if !part.is_some_and(|(_, part)| message.contains(part)) {
                    wrong.push(format!("{name}: {message}"));
                }
                refused.insert(name);
                continue;
            }
        };
        let Some(ids) = expected.get(name) else {
            assert!(ONLY_HERE.contains(&name), "{name}: {}", case["fails"]);
            assert_eq!(
                tokenizer.encode("The capital").unwrap(),
                expected["tokenizer.json alone"][3][..2]
            );
            continue;
        };
        let mut differing = 0;
        for (text, ids) in fixtures.strings.iter().zip(ids) {
            let found = tokenizer.encode(text);
            let cut = name == "fast, truncation" && ids.len() > CUT;
            match found {
                Err(ModelError::TextCut { most: CUT, .. }) if cut => {}
                Ok(found) if found == *ids && !cut => {}
                found => {
                    differing += 1;
                    if differing < 4 {
                        wrong.push(format!("{name}: {text:?} is {found:?}, expected {ids:?}"));
                    }
                }
            }
        }
        if differing > 3 {
            wrong.push(format!("{name}: {differing} differ"));
        }
        let [before, after] = tokenizer.around().map(<[u32]>::to_vec);
        let told = name.ends_with("add_bos_token in the configuration");
        let asked = if told {
            vec![899]
        } else {
            numbers(&case["before"])
        };
        if before != asked || after != numbers(&case["after"]) {
            wrong.push(format!("{name}: {before:?} before, {after:?} after"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let known: BTreeSet<&str> = REFUSED.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused, known);
}
