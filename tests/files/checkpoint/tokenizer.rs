//! Tokens as Hugging Face's tokenizer makes them, and tokenizer files that are refused.
//!
//! `vocab.json` and `merges.txt` are the part of GPT-2's own that the texts in `tokens.json` need,
//! with GPT-2's ids; the ids in `tokens.json` come from `GPT2TokenizerFast`.

use headlight::model::{Checkpoint, ModelError, SeveralTokens, Tokenizer};
use serde_json::{Value, json};

use super::{config, folder, refusal, safetensors, tensors, write};

const VOCAB: &str = include_str!("vocab.json");
const MERGES: &str = include_str!("merges.txt");
const TOKENS: &str = include_str!("tokens.json");

fn gpt2() -> Tokenizer {
    let (vocab, merges) = (VOCAB.as_bytes(), MERGES.as_bytes());
    Tokenizer::from_vocab_and_merges(vocab, "vocab.json", merges, "merges.txt").unwrap()
}

/// The same tokenizer as `tokenizer.json`.
fn as_json() -> Value {
    let vocab: Value = serde_json::from_str(VOCAB).unwrap();
    let merges: Vec<&str> = MERGES.lines().skip(1).collect();
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 50256, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "vocab": vocab, "merges": merges},
    })
}

fn parse(json: &Value) -> Result<Tokenizer, ModelError> {
    Tokenizer::from_json(json.to_string().as_bytes(), "tokenizer.json")
}

#[test]
fn the_tokens_are_hugging_faces_from_either_layout() {
    let mut pairs = as_json();
    for merge in pairs["model"]["merges"].as_array_mut().unwrap() {
        let both: Vec<String> = merge
            .as_str()
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        *merge = json!(both);
    }
    let known: Vec<Value> = serde_json::from_str(TOKENS).unwrap();
    assert!(known.len() > 15);
    for tokenizer in [gpt2(), parse(&as_json()).unwrap(), parse(&pairs).unwrap()] {
        assert_eq!(
            tokenizer.encode("The capital of Spain is").unwrap(),
            [464, 3139, 286, 8602, 318]
        );
        for case in &known {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(json!(ids), case["ids"], "{text:?}");
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| tokenizer.bytes(id).unwrap())
                .copied()
                .collect();
            assert_eq!(bytes, text.as_bytes());
        }
    }
}

#[test]
fn tokens_are_shown_byte_by_byte_where_they_are_no_text() {
    let tokenizer = gpt2();
    // 日 is a token and a byte, and 🙂 begins with a token of three of its four bytes.
    assert_eq!(tokenizer.decode_raw(33768), "\\xE6\\x97");
    assert_eq!(tokenizer.decode_raw(98), "\\xA5");
    assert_eq!(tokenizer.decode_raw(8582), " \\xF0\\x9F".trim_start());
    assert_eq!(tokenizer.decode_raw(8602), " Spain");
    assert_eq!(tokenizer.display(8602), "_Spain");
    assert_eq!(tokenizer.display(198), "\\n");
    assert_eq!(tokenizer.decode_raw(198), "\n");
    assert_eq!(tokenizer.decode_raw(50256), "<|endoftext|>");
    assert_eq!(tokenizer.decode_raw(50300), "[50300]");
}

#[test]
fn a_target_is_one_token() {
    let tokenizer = gpt2();
    assert_eq!(tokenizer.target(" Rome").unwrap(), 10598);
    let error = tokenizer.target("  two spaces,").unwrap_err();
    let ModelError::NotOneToken { tokens, .. } = &error else {
        panic!("{error}")
    };
    assert!(tokens.len() > 1);
    let message = error.to_string();
    assert!(
        message.contains("` two` (734)") && message.contains("` ` (220)"),
        "{message}"
    );
    let of = |several| tokenizer.answer("  two spaces,", several).unwrap();
    assert_eq!(of(SeveralTokens::First), [220]);
    assert_eq!(
        of(SeveralTokens::Joint),
        tokenizer.encode("  two spaces,").unwrap()
    );
    let message = tokenizer.answer("", SeveralTokens::First);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("target `` is empty"), "{message}");
}

#[test]
fn text_without_tokens_is_an_error_rather_than_left_out() {
    let mut small = as_json();
    small["model"]["merges"] = json!([]);
    small["model"]["vocab"] = json!({"a": 0, "b": 1, "Ġ": 2});
    small["added_tokens"] = json!([]);
    let tokenizer = parse(&small).unwrap();
    assert_eq!(tokenizer.encode("a b").unwrap(), [0, 2, 1]);
    let message = tokenizer.encode("a céb").unwrap_err().to_string();
    assert!(
        message.contains("`a céb`") && message.contains("no token for `c`"),
        "{message}"
    );
}

#[test]
fn added_tokens_have_the_ids_that_are_given() {
    let mut file = as_json();
    // transformers counts on from the vocabulary's size, which here is a part of GPT-2's.
    let next = file["model"]["vocab"].as_object().unwrap().len();
    let mask = json!({"id": next, "content": "<mask>", "special": true});
    file["added_tokens"].as_array_mut().unwrap().push(mask);
    let tokenizer = parse(&file).unwrap();
    assert_eq!(
        json!(tokenizer.encode("<mask>The<mask>").unwrap()),
        json!([next, 464, next])
    );
    assert_eq!(tokenizer.decode_raw(next as u32), "<mask>");
    for (token, part) in [
        (
            json!({"id": 60000, "content": "<mask>"}),
            "`<mask>` is given the id 60000, but by its place among the tokens it has",
        ),
        (
            json!({"id": 464, "content": "<mask>"}),
            "`<mask>` is given the id 464",
        ),
        (
            json!({"id": 7, "content": "The"}),
            "`The` is given the id 7, but by its place among the tokens it has 464",
        ),
    ] {
        file["added_tokens"][1] = token;
        let message = parse(&file).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn each_broken_tokenizer_json_says_what_is_wrong() {
    let bos: Vec<Value> = vec![json!({"SpecialToken": {"id": "<x>", "type_id": 0}}); 17];
    let cases: [(&str, Value, &str); 16] = [
        ("/model", json!(null), "no object `model`"),
        (
            "/model/type",
            json!("WordPiece"),
            "its model is WordPiece, expected BPE",
        ),
        ("/model/vocab", json!([]), "no object `vocab`"),
        ("/model/vocab", json!({}), "needs the token"),
        ("/model/vocab/The", json!(-3), "token `The` has id -3"),
        (
            "/model/vocab/The",
            json!(1e9),
            "token `The` has id 1000000000",
        ),
        (
            "/model/vocab/The",
            json!(4294967295u32),
            "token `The` has id 4294967295",
        ),
        ("/model/vocab/The", json!(318), "id 318 is given both to"),
        ("/model/merges", json!({}), "no list `merges`"),
        (
            "/model/merges/3",
            json!("a b c"),
            "merge 3 is \"a b c\", expected two tokens",
        ),
        (
            "/model/merges/3",
            json!(["! ", "#"]),
            "needs the token `! `",
        ),
        ("/model/merges/3", json!("! !"), "needs the token `!!`"),
        (
            "/model/continuing_subword_prefix",
            json!("##"),
            "sets `continuing_subword_prefix`",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Whitespace"}),
            "its pre_tokenizer is not ByteLevel",
        ),
        (
            "/normalizer",
            json!({"type": "Precompiled"}),
            "its normalizer has a stage Precompiled",
        ),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": bos, "special_tokens": {"<x>": {"ids": [0]}}}),
            "its post_processor puts 17 tokens on one side of a text, expected at most 16",
        ),
    ];
    for (place, value, part) in cases {
        let mut broken = as_json();
        *broken.pointer_mut(place).unwrap() = value;
        let error = parse(&broken).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{message}");
        assert!(
            message.contains(part) && !message.contains('\n'),
            "{place}: {message}"
        );
    }
    let message = Tokenizer::from_json(b"{\"model\":", "t.json")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`t.json`") && message.contains("not a JSON object"),
        "{message}"
    );
}

#[test]
fn tokenizer_files_in_a_folder() {
    let dir = folder();
    write(dir.path(), &config(), &safetensors(&tensors("F32"), ""));
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let drop = |name: &str| std::fs::remove_file(dir.path().join(name)).unwrap();

    put("merges.txt", "#version: 0.2\na b\n");
    let (error, message) = refusal(dir.path());
    assert!(
        matches!(error, ModelError::HalfTokenizer { .. }),
        "{message}"
    );
    assert!(
        message.contains("merges.txt` lies there without vocab.json"),
        "{message}"
    );
    put("vocab.json", "{\"a\": 0, \"b\": 1");
    assert!(matches!(
        refusal(dir.path()).0,
        ModelError::Tokenizer { .. }
    ));
    put("vocab.json", "{\"a\": 0, \"b\": 1}");
    let (_, message) = refusal(dir.path());
    assert!(
        message.contains("merges.txt") && message.contains("needs the token `ab`"),
        "{message}"
    );
    put("vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 2}");
    let model = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(model.text().unwrap().encode("abba").unwrap(), [2, 1, 0]);
    assert_eq!(
        (model.display(2), model.display(9)),
        ("ab".into(), "[9]".into())
    );
    put("merges.txt", "#version: 0.2\r\na b\r\n");
    assert_eq!(
        Checkpoint::open(dir.path())
            .unwrap()
            .text()
            .unwrap()
            .target("ab")
            .unwrap(),
        2
    );
    put("merges.txt", "#version: 0.2\na b\n\na\n");
    assert!(
        refusal(dir.path())
            .1
            .contains("line 3 is ``, expected two tokens")
    );
    put("merges.txt", "#version: 0.2\na\n");
    assert!(
        refusal(dir.path())
            .1
            .contains("line 2 is `a`, expected two tokens")
    );
    for (merges, part) in [
        ("a b\na b\n", "line 3 is `a b`, which stands there before"),
        ("a\tb\n", "line 2 is `a\\tb`, expected two tokens"),
        ("a\u{a0}b\n", "line 2 is `a\\u{a0}b`, expected two tokens"),
    ] {
        put("merges.txt", &format!("#version: 0.2\n{merges}"));
        let (_, message) = refusal(dir.path());
        assert!(message.contains(part), "{message}");
    }
    drop("merges.txt");
    assert!(
        refusal(dir.path())
            .1
            .contains("vocab.json` lies there without merges.txt")
    );

    // tokenizer.json goes first, and knows more tokens than this model: texts without them are read.
    put("tokenizer.json", &as_json().to_string());
    let model = Checkpoint::open(dir.path()).unwrap();
    let tokenizer = model.text().unwrap();
    assert_eq!(tokenizer.encode("!\"#").unwrap(), [0, 1, 2]);
    let error = tokenizer.encode("!<|endoftext|>").unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(
            error,
            ModelError::TokenizerBeyondVocab {
                id: 50256,
                vocab: 11,
                ..
            }
        ),
        "{message}"
    );
    assert!(
        message.contains("`<|endoftext|>` has id 50256, but the model's vocabulary ends at 10"),
        "{message}"
    );
}

#[test]
fn a_text_beyond_the_context_is_refused_before_it_is_taken_apart() {
    let dir = folder();
    write(dir.path(), &config(), &safetensors(&tensors("F32"), ""));
    std::fs::write(dir.path().join("tokenizer.json"), as_json().to_string()).unwrap();
    let model = Checkpoint::open(dir.path()).unwrap();
    let tokenizer = model.text().unwrap();
    // The longest token has so many bytes, and the model takes six.
    let longest = (0..50257)
        .filter_map(|id| tokenizer.bytes(id))
        .map(<[u8]>::len)
        .max();
    let most = longest.unwrap() * 6;
    let at_most = "!".repeat(most);
    assert_eq!(tokenizer.encode(&at_most).unwrap().len(), most);
    let start = std::time::Instant::now();
    for text in ["!".repeat(most + 1), "!".repeat(100_000_000)] {
        let error = tokenizer.encode(&text).unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, ModelError::TextTooLong { context: 6, most: m, .. } if m == most),
            "{message}"
        );
        assert!(message.len() < 400, "{message}");
    }
    // To take apart the second would be a minute's work.
    assert!(start.elapsed().as_secs() < 5);
}
