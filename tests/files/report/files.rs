//! Tables in files: what is written reads back, and what is damaged is refused.

use std::fs::{self, File};
use std::path::Path;

use headlight::files::error::FileError;
use headlight::report;
use headlight::report::{ReportError, TableFormat};
use headlight::results::clean::CleanLevels;
use headlight::results::metric::Quantity;
use headlight::results::table::{PairProvenance, Provenance, Row, Table, Text};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::tables::REFERENCE;

const ENDINGS: [&str; 3] = ["csv", "jsonl", "parquet"];

/// Any number at all, with the odd ones often.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<f64>(),
        1 => prop::sample::select(vec![
            0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE, 5e-324, f64::MAX,
            f64::EPSILON, 0.1, 1.0 / 3.0,
        ]),
    ]
    // Text keeps that a number is NaN, not which.
    .prop_map(|number| if number.is_nan() { f64::NAN } else { number })
}

/// Any text, with what breaks formats often.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ ,\"\n\r\t\\\\a\u{0}\u{feff}中🦀]{0,8}",
        Just(" Madrid".to_owned()),
    ]
}

/// Any text but none at all, which CSV cannot tell from a missing one.
fn some_words() -> impl Strategy<Value = String> {
    words().prop_filter("not empty", |text| !text.is_empty())
}

fn row(metrics: usize) -> impl Strategy<Value = Row> {
    let index = || option::of(any::<u32>());
    (
        (any::<u32>(), any::<u32>(), any::<u32>(), words(), words()),
        [
            option::of(some_words()),
            option::of(some_words()),
            option::of(some_words()),
            option::of(some_words()),
        ],
        [
            index(),
            index(),
            index(),
            index(),
            index(),
            index(),
            index(),
        ],
        [number(), number(), number(), number()],
        option::of(number()),
        vec(number(), metrics),
    )
        .prop_map(|(ids, texts, indices, numbers, source_prob, metrics)| {
            let (pair, run, target_id, target, patches) = ids;
            let [name, component, token, op] = texts.map(|text| text.map(Text::from));
            let [
                layer,
                head,
                position,
                source_layer,
                source_head,
                source_position,
                sample,
            ] = indices;
            let [prob, logprob, logit, base_prob] = numbers;
            Row {
                pair,
                run,
                name,
                component,
                layer,
                head,
                position,
                token,
                op,
                source_layer,
                source_head,
                source_position,
                sample,
                target: target.into(),
                target_id,
                prob,
                logprob,
                logit,
                base_prob,
                source_prob,
                position_name: Some(patches.chars().skip(1).collect::<String>().into()),
                id: Some(patches.chars().rev().collect::<String>().into()),
                top_tokens: Some(patches.chars().step_by(2).collect::<String>().into()),
                patches: patches.into(),
                metrics,
            }
        })
}

fn provenance() -> impl Strategy<Value = Provenance> {
    let pair = (
        vec(any::<u32>(), 0..4),
        vec(words(), 0..4),
        option::of(vec(any::<u32>(), 0..4)),
    );
    (vec(words(), 6), vec(pair, 0..3)).prop_map(|(mut texts, pairs)| Provenance {
        version: texts.remove(0),
        model: texts.remove(0),
        model_hash: texts.remove(0),
        device: texts.remove(0),
        precision: texts.remove(0),
        command: texts.remove(0),
        pairs: pairs
            .into_iter()
            .map(|(base_ids, base_tokens, source_ids)| PairProvenance {
                row: base_ids.first().copied(),
                id: base_tokens.first().cloned(),
                clean: [Quantity::Kl, Quantity::LogitDiff]
                    .into_iter()
                    .take(base_tokens.len())
                    .map(|quantity| {
                        let base = base_ids.iter().map(|id| f64::from(*id) / 3.0).collect();
                        let source = source_ids.iter().flatten().map(|id| f64::from(*id));
                        let source = source.collect();
                        (quantity, CleanLevels { base, source })
                    })
                    .collect(),
                readout: source_ids.as_ref().map(Vec::len),
                source_readout: base_ids.first().map(|id| *id as usize),
                wrong_ids: base_ids.clone(),
                joint: base_ids.len() % 2 == 1,
                base_ids,
                source_tokens: base_tokens.clone(),
                ids_alone: base_tokens.len() % 2 == 1,
                source_text: base_tokens.first().cloned(),
                base_text: base_tokens.last().cloned(),
                base_tokens,
                source_ids,
            })
            .collect(),
        part: None,
    })
}

fn table() -> impl Strategy<Value = Table> {
    (0usize..3, any::<bool>(), any::<bool>()).prop_flat_map(|(metrics, ids, names)| {
        (vec(row(metrics), 0..12), provenance()).prop_map(move |(mut rows, provenance)| {
            // all have one, or none has
            if !ids {
                rows.iter_mut().for_each(|row| row.id = None);
            }
            if !names {
                rows.iter_mut().for_each(|row| row.position_name = None);
            }
            if ids != names {
                rows.iter_mut().for_each(|row| row.top_tokens = None);
            }
            Table {
                metrics: ["kl", "logit, \"diff\"", "été"][..metrics]
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect(),
                rows,
                provenance,
            }
        })
    })
}

/// Every number of a table as bits, so that -0 and NaN count.
fn bits(table: &Table) -> Vec<u64> {
    let numbers = table.rows.iter().flat_map(|row| {
        [
            row.prob,
            row.logprob,
            row.logit,
            row.base_prob,
            row.source_prob.unwrap_or(0.0),
        ]
        .into_iter()
        .chain(row.metrics.iter().copied())
    });
    numbers.map(f64::to_bits).collect()
}

/// The table without its numbers, which compare by bits.
fn rest(table: &Table) -> Table {
    let mut table = table.clone();
    for row in &mut table.rows {
        [row.prob, row.logprob, row.logit, row.base_prob] = [0.0; 4];
        row.source_prob = row.source_prob.map(|_| 0.0);
        row.metrics.fill(0.0);
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_table_reads_back(table in table()) {
        let folder = tempfile::tempdir().unwrap();
        for ending in ENDINGS {
            let path = folder.path().join(format!("t.{ending}"));
            report::write(&table, &path).unwrap();
            let back = report::read(&path).unwrap();
            prop_assert_eq!(bits(&back), bits(&table), "{}", ending);
            prop_assert_eq!(rest(&back), rest(&table), "{}", ending);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        for ending in ENDINGS {
            let path = folder.path().join(format!("t.{ending}"));
            fs::write(&path, &bytes).unwrap();
            let _ = report::read(&path);
        }
    }
}

/// A small deterministic generator, for damage of which there should be plenty.
struct Damage(u64);

impl Damage {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut table = REFERENCE.table();
    table.rows.truncate(40);
    table.rows[0].name = Some("a \"name\"\n".into());
    let folder = tempfile::tempdir().unwrap();
    // `HEADLIGHT_DAMAGE=100000 cargo test` looks further.
    let tries = std::env::var("HEADLIGHT_DAMAGE").ok();
    let tries = tries.and_then(|text| text.parse().ok()).unwrap_or(800);
    let mut damage = Damage(7);
    for ending in ENDINGS {
        let path = folder.path().join(format!("t.{ending}"));
        report::write(&table, &path).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut refused = 0;
        for _ in 0..tries {
            let mut bytes = whole.clone();
            for _ in 0..=damage.below(4) {
                let at = damage.below(bytes.len());
                match damage.below(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = damage.below(256) as u8,
                    2 => bytes[at] ^= 1 << damage.below(8),
                    _ => {
                        // The ends of a Parquet file matter most.
                        let at = bytes.len() - 1 - damage.below(bytes.len().min(900));
                        bytes[at] = damage.below(256) as u8;
                    }
                }
            }
            fs::write(&path, &bytes).unwrap();
            refused += usize::from(report::read(&path).is_err());
        }
        assert!(refused > 100, "{ending}: only {refused} refused");
    }
}

#[test]
fn the_fence_around_parquet_lets_other_panics_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    fs::write(&path, b"PAR1PAR1").unwrap();
    assert!(report::read(&path).is_err());
    assert!(std::panic::catch_unwind(|| panic!("said aloud")).is_err());
}

#[test]
fn the_header_is_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let table = REFERENCE.table();
    report::write(&table, &path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some(
            "pair,run,name,component,layer,head,position,token,op,source_layer,source_head,\
             source_position,sample,target,target_id,prob,logprob,logit,base_prob,source_prob,\
             patches,kl,logit_diff"
        )
    );
    assert!(lines.next().unwrap().starts_with(
        "0,0,,head_attention_value_output,0,0,0,The,interchange,0,0,0,, Madrid,14708,0.105,"
    ));
    let meta: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("t.csv.meta.json")).unwrap()).unwrap();
    assert_eq!(meta["model"], "gpt2");

    let mut streamed = Vec::new();
    report::write_csv(&table, &mut streamed).unwrap();
    assert_eq!(String::from_utf8(streamed).unwrap(), text);

    let path = folder.path().join("t.jsonl");
    report::write(&table, &path).unwrap();
    let line = fs::read_to_string(&path).unwrap();
    assert!(line.starts_with(
        r#"{"pair":0,"run":0,"name":null,"component":"head_attention_value_output","layer":0,"#
    ));
}

/// Writes `text` over a good CSV or JSONL file's and returns what reading it says.
fn said(folder: &Path, ending: &str, change: impl Fn(&str) -> String) -> String {
    let path = folder.join(format!("t.{ending}"));
    let mut table = REFERENCE.table();
    table.rows.truncate(3);
    report::write(&table, &path).unwrap();
    let text = change(&fs::read_to_string(&path).unwrap());
    fs::write(&path, text).unwrap();
    let said = report::read(&path).unwrap_err().to_string();
    said.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let csv = |change: &dyn Fn(&str) -> String| said(folder.path(), "csv", change);
    let jsonl = |change: &dyn Fn(&str) -> String| said(folder.path(), "jsonl", change);
    assert_eq!(
        csv(&|text| text.replacen("10598,", "Rome,", 1)),
        "t.csv, line 3, column target_id: expected a whole number from 0 to 4294967295, found \"Rome\""
    );
    assert_eq!(
        csv(&|text| text.replacen(",0.105,", ",,", 1)),
        "t.csv, line 2, column prob: expected a number, found nothing"
    );
    assert_eq!(
        csv(&|text| text.replacen("logprob,", "", 1))
            .split(';')
            .next(),
        Some("t.csv: the column logprob is missing")
    );
    assert_eq!(
        csv(&|text| text.replacen("pair,run", "run,pair", 1)),
        "t.csv: column 1 should be pair, but is \"run\""
    );
    assert_eq!(
        csv(&|text| format!("{text}1,2\n")),
        "t.csv: line 5 has 2 fields, but the header names 23"
    );
    assert_eq!(
        csv(&|_| String::new()),
        "t.csv: the file is empty; a result begins with a line of column names"
    );
    assert_eq!(
        jsonl(&|text| text.replacen("\"layer\":0", "\"layer\":-1", 1)),
        "t.jsonl, line 1, column layer: expected a whole number from 0 to 4294967295 or null, found -1"
    );
    assert_eq!(
        jsonl(&|text| text.replacen("\"kl\":", "\"pair\":", 1)),
        "t.jsonl: line 1: there are two columns pair"
    );
    let cut = jsonl(&|text| text[..text.len() / 2].to_owned());
    assert!(
        cut.starts_with("t.jsonl: line 2 is not a JSON object of a result row"),
        "{cut}"
    );
}

#[test]
fn names_and_places_that_cannot_work() {
    let folder = tempfile::tempdir().unwrap();
    let table = REFERENCE.table();
    for name in ["t.txt", "t", "t.csv.gz"] {
        let said = report::write(&table, &folder.path().join(name))
            .unwrap_err()
            .to_string();
        assert!(
            said.ends_with("which must end in .csv, .jsonl or .parquet"),
            "{said}"
        );
    }
    assert_eq!(
        TableFormat::of(Path::new("A.CSV")).unwrap(),
        TableFormat::Csv
    );
    let lost = folder.path().join("none/t.csv");
    assert!(matches!(
        report::write(&table, &lost),
        Err(ReportError::File(FileError::NoFolder { .. }))
    ));
    assert!(matches!(
        report::check_writable(&lost),
        Err(ReportError::File(FileError::NoFolder { .. }))
    ));
    assert!(matches!(
        report::read(&folder.path().join("t.csv")),
        Err(ReportError::File(FileError::Read { .. }))
    ));
    report::check_writable(&folder.path().join("t.csv")).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut uneven = table.clone();
    uneven.rows[5].metrics.pop();
    for ending in ENDINGS {
        let path = folder.path().join(format!("t.{ending}"));
        assert!(matches!(
            report::write(&uneven, &path),
            Err(ReportError::Inconsistent(_))
        ));
        assert!(!path.exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_to_be_full() {
    let table = REFERENCE.table();
    for format in [TableFormat::Csv, TableFormat::Jsonl, TableFormat::Parquet] {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = format.write(&table, &mut full).unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::StorageFull,
            "{format:?}: {error}"
        );
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let said = report::write_csv(&table, full).unwrap_err().to_string();
    assert_eq!(
        said,
        "standard output: cannot write: the disk is full; free some space or write elsewhere"
    );
}

#[test]
fn a_closed_pipe_is_no_error_of_ours() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let error = report::write_csv(&REFERENCE.table(), writer).unwrap_err();
    assert!(error.is_broken_pipe());
}

#[test]
fn rows_beyond_one_parquet_row_group_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let mut table = REFERENCE.table();
    table.rows.truncate(100);
    let block = table.rows.clone();
    for run in 0..1400 {
        table
            .rows
            .extend(block.iter().cloned().map(|row| Row { run, ..row }));
    }
    report::write(&table, &path).unwrap();
    assert!(report::read(&path).unwrap() == table);
}
