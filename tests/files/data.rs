//! Data-set parsers on arbitrary and on damaged bytes, and Parquet as other tools write it.

#![cfg(feature = "parquet")]

use std::path::Path;
use std::sync::Arc;

use headlight::data;
use headlight::data::{DataError, Examples, Span, SpanTokens, Token};
use headlight::prompt::pair::PromptText;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

type Parse = fn(&Path, Vec<u8>) -> Result<Examples, DataError>;

const PARSERS: [(&str, Parse); 4] = [
    ("jsonl", data::jsonl::parse),
    ("csv", data::csv::parse),
    ("json", data::json::parse),
    ("parquet", data::parquet::parse),
];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name),
    )
    .unwrap()
}

/// Every error is one sentence that names the file.
fn parse(kind: usize, bytes: Vec<u8>) {
    let (name, parse) = PARSERS[kind];
    let file = format!("x.{name}");
    let sentence = |text: String| {
        assert!(text.starts_with(&file) && !text.contains('\n'), "{text:?}");
    };
    match parse(Path::new(&file), bytes) {
        Err(error) => sentence(error.to_string()),
        Ok(rows) => rows
            .iter()
            .filter_map(|row| row.as_ref().err())
            .for_each(|error| sentence(error.to_string())),
    }
}

/// A Parquet file with a text, a list, a map and an optional column, as pandas would write them.
fn parquet_file() -> Vec<u8> {
    let schema = "message pairs {
        required binary base (STRING);
        optional binary source (STRING);
        optional group targets (LIST) { repeated group list { optional binary element (STRING); } }
        optional group target_ids (LIST) { repeated group list { optional int64 element; } }
        optional group spans { optional binary subject (STRING); }
    }";
    let mut out = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(&mut out, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| ByteArray::from(*t))
            .collect::<Vec<_>>()
    };
    let mut text = |values: &[&str], definition: Option<&[i16]>, repetition: Option<&[i16]>| {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&texts(values), definition, repetition)
            .unwrap();
        column.close().unwrap();
    };
    text(&["a b", "c d"], None, None);
    text(&["e f"], Some(&[1, 0]), None);
    text(&[" x", " y"], Some(&[3, 3, 0]), Some(&[0, 1, 0]));
    let mut ids = group.next_column().unwrap().unwrap();
    ids.typed::<Int64Type>()
        .write_batch(&[7], Some(&[0, 3]), Some(&[0, 0]))
        .unwrap();
    ids.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts(&["b"]), Some(&[2, 1]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    out
}

#[test]
fn parquet_lists_structs_and_nulls_are_read() {
    let rows = data::parquet::parse(Path::new("x.parquet"), parquet_file()).unwrap();
    let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
    let text = |t: &str| PromptText::Text(t.to_owned());
    assert_eq!(
        (&rows[0].base, &rows[0].source),
        (&text("a b"), &Some(text("e f")))
    );
    assert_eq!((&rows[1].base, &rows[1].source), (&text("c d"), &None));
    assert_eq!(
        rows[0].targets,
        [Token::Text(" x".into()), Token::Text(" y".into())]
    );
    assert_eq!(rows[1].targets, [Token::Id(7)]);
    let words = SpanTokens::Words("b".into());
    let span = Span {
        name: "subject".into(),
        base: words,
        source: None,
    };
    assert_eq!(
        (&rows[0].spans[..], &rows[1].spans[..]),
        (&[span][..], &[][..])
    );
    assert_eq!(rows[1].place, "row 1");
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_no_part_of_a_row() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.csv", "\u{feff}base,targets\r\nx,y\r\n"),
        (
            "a.jsonl",
            "\u{feff}{\"base\": \"x\", \"targets\": \"y\"}\r\n",
        ),
        (
            "a.json",
            "\u{feff}{\"prompts\": [{\"corrupt\": \"x\", \"answers\": \"y\"}]}\r\n",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let rows = data::read(&path).unwrap();
        let row = rows[0].as_ref().unwrap();
        assert_eq!(row.base, PromptText::Text("x".into()), "{name}");
        assert_eq!(row.targets, [Token::Text("y".into())], "{name}");
    }
}

#[test]
fn fields_of_csv_may_be_lists_in_json() {
    let csv = "base_ids,target_ids,wrong_target_ids,positions,spans\n\
               \"[1, 2]\",3,\"[4, 5]\",end,\"{\"\"s\"\": 1}\"\n1,x,,,\n";
    let rows = data::csv::parse(Path::new("x.csv"), csv.into()).unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!(row.base, PromptText::Ids(vec![1, 2]));
    assert_eq!(row.wrong, [Token::Id(4), Token::Id(5)]);
    assert_eq!(row.positions.as_ref().unwrap()[0].to_string(), "end");
    assert_eq!(row.spans[0].base, SpanTokens::Tokens(1, 1));
    let said = rows[1].as_ref().unwrap_err().to_string();
    assert!(
        said.starts_with("x.csv, line 3, field target_ids: should be a token id"),
        "{said}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_refused_in_a_sentence(kind in 0usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse(kind, bytes);
    }

    #[test]
    fn arbitrary_text_of_the_right_letters_too(kind in 0usize..3, text in "[\\[\\]{}\",:\\\\ \n01basetrgd.-]{0,80}") {
        parse(kind, text.into_bytes());
    }

    #[test]
    fn damaged_files_are_refused_in_a_sentence(
        kind in 0usize..6,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let (kind, mut bytes) = match kind {
            0 => (kind, file("capitals.jsonl")),
            1 => (kind, file("capitals.csv")),
            2 => (kind, file("auto_circuit.json")),
            3 => (kind, parquet_file()),
            4 => (2, file("facts.json")),
            _ => (2, file("known.json")),
        };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        parse(kind, bytes);
    }

    #[test]
    fn rows_that_were_written_are_read_back(
        base in "\\PC{1,20}", source in proptest::option::of("\\PC{1,20}"),
        targets in proptest::collection::vec("\\PC{1,8}", 1..4), ids in proptest::collection::vec(any::<u32>(), 0..3),
    ) {
        let object = serde_json::json!({"base": base, "source": source, "targets": targets, "wrong_target_ids": ids});
        let whole = serde_json::json!({"prompts": [object]}).to_string();
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["corrupted", "clean", "answers", "incorrect_idx"]).unwrap();
        let list = serde_json::to_string(&targets).unwrap();
        csv.write_record([&base, source.as_deref().unwrap_or(""), &list, &format!("{ids:?}")]).unwrap();
        let csv = csv.into_inner().unwrap();
        for (kind, bytes) in [(0, object.to_string().into_bytes()), (1, csv), (2, whole.into_bytes())] {
            let rows = PARSERS[kind].1(Path::new("x"), bytes).unwrap();
            prop_assert_eq!(rows.len(), 1);
            let row = rows[0].as_ref().unwrap();
            prop_assert_eq!(&row.base, &PromptText::Text(base.clone()));
            prop_assert_eq!(&row.source, &source.clone().map(PromptText::Text));
            let texts: Vec<Token> = targets.iter().cloned().map(Token::Text).collect();
            prop_assert_eq!(&row.targets, &texts);
            let wrong: Vec<Token> = ids.iter().copied().map(Token::Id).collect();
            prop_assert_eq!(&row.wrong, &wrong);
        }
    }
}
