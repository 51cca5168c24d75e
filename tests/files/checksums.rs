//! Bytes that are not those that were written: of data sets as others write them, and of our own Parquet files.

#![cfg(feature = "parquet")]

use std::fs;
use std::path::Path;

use headlight::data;
use headlight::report;

use crate::report::tables::REFERENCE;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    fs::read(folder.join(name)).unwrap()
}

/// What a data set holds, in words; nothing where it is refused.
fn read(bytes: Vec<u8>) -> Option<String> {
    let rows = data::parquet::parse(Path::new("x.parquet"), bytes).ok()?;
    // what is refused row by row says so
    rows.iter().all(Result::is_ok).then(|| format!("{rows:?}"))
}

/// Where the footer begins.
fn footer(file: &[u8]) -> usize {
    let end = file.len() - 8;
    end - u32::from_le_bytes(file[end..end + 4].try_into().unwrap()) as usize
}

/// A small deterministic generator.
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

/// How many of so many damages to one to three bytes before the footer are refused, and read as something else.
fn damaged(name: &str, tries: usize) -> (usize, usize) {
    let whole = fixture(name);
    let wanted = read(whole.clone()).unwrap();
    let (end, mut damage) = (footer(&whole), Damage(25));
    let (mut refused, mut wrong) = (0, 0);
    for _ in 0..tries {
        let mut bytes = whole.clone();
        for _ in 0..=damage.below(3) {
            let at = 4 + damage.below(end - 4);
            bytes[at] ^= 1 + damage.below(255) as u8;
        }
        match read(bytes) {
            None => refused += 1,
            Some(other) => wrong += usize::from(other != wanted),
        }
    }
    (refused, wrong)
}

#[test]
fn pages_with_checksums_are_never_read_as_others() {
    let tries = std::env::var("HEADLIGHT_DAMAGE").ok();
    let tries = tries.and_then(|text| text.parse().ok()).unwrap_or(4000);
    for name in ["checksums_v1.parquet", "checksums_v2.parquet"] {
        let (refused, wrong) = damaged(name, tries);
        println!("{name}: {refused} of {tries} refused, {wrong} wrong");
        assert_eq!(wrong, 0, "{name}");
        assert!(refused > tries / 2, "{name}: {refused}");
    }
}

#[test]
fn statistics_tell_most_damage_where_there_are_no_checksums() {
    let (refused, wrong) = damaged("none.parquet", 4000);
    println!("{refused} of 4000 refused, {wrong} wrong");
    assert!(wrong <= 53, "{wrong}");
}

#[test]
fn a_page_that_decodes_to_one_row_three_times_is_refused() {
    let bytes = fixture("one_byte_off.parquet");
    let error = data::parquet::parse(Path::new("x.parquet"), bytes).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("x.parquet: not readable as Parquet: ")
            && said.contains("column base, row group 0"),
        "{said}"
    );
}

#[test]
fn our_own_files_are_refused_whatever_byte_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let mut table = REFERENCE.table();
    table.rows.truncate(40);
    report::write(&table, &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let wanted = format!("{:?}", report::read(&path).unwrap());
    let (mut damage, mut refused) = (Damage(26), 0);
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        let at = damage.below(bytes.len());
        bytes[at] ^= 1 + damage.below(255) as u8;
        fs::write(&path, &bytes).unwrap();
        match report::read(&path) {
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains('\n'), "{error}");
            }
            // the checksum's own name, which is all that is another
            Ok(table) => assert_eq!(format!("{table:?}"), wanted, "byte {at}"),
        }
    }
    assert!(refused > 2900, "{refused}");
    let mut bytes = whole.clone();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let said = report::read(&path).unwrap_err().to_string();
    assert!(
        said.contains("its bytes are not those that were written"),
        "{said}"
    );
}
