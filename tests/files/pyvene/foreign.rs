//! Bytes that somebody else wrote: an answer or an error, never a panic.

use std::path::Path;

use headlight::pyvene::configuration::Configuration;
use headlight::pyvene::state::StateDict;
use proptest::prelude::*;

use super::folder;

/// Every state dict of the fixtures.
fn state_dicts() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in [
        "boundless",
        "low_rank_bf16",
        "head_rotated_f64",
        "noise",
        "jump_relu",
        "added",
    ] {
        for entry in std::fs::read_dir(folder().join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "bin") {
                all.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert_eq!(all.len(), 6);
    all
}

/// Opens a state dict and reads all of its tensors.
fn whole(bytes: Vec<u8>) -> Result<usize, String> {
    let mut state = StateDict::of_bytes(bytes, Path::new("F.bin")).map_err(|e| e.to_string())?;
    let names: Vec<String> = state.names().map(str::to_owned).collect();
    for name in &names {
        state.tensor(name).map_err(|e| e.to_string())?;
    }
    Ok(names.len())
}

#[test]
fn state_dicts_are_read() {
    for bytes in state_dicts() {
        let tensors = whole(bytes.clone()).unwrap();
        assert!(tensors >= 3);
        assert_eq!(whole(with_pickle(&bytes, |_| {})).unwrap(), tensors);
    }
}

#[test]
fn other_formats_are_errors_with_a_way_out() {
    // torch.save(…, _use_new_zipfile_serialization=False) begins with its magic number
    let legacy = whole(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec()).unwrap_err();
    assert!(
        legacy.contains("no zip archive") && legacy.contains("torch.save"),
        "{legacy}"
    );
    assert!(whole(Vec::new()).is_err());
    let npz = {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("x.npy", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.finish().unwrap().into_inner()
    };
    assert!(whole(npz).unwrap_err().contains("no data.pkl"));
}

#[test]
fn a_pickle_that_would_run_a_program_is_refused() {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.")
        .unwrap();
    let said = whole(zip.finish().unwrap().into_inner()).unwrap_err();
    assert!(
        said.starts_with("F.bin: data.pkl, byte 2: global `posix.system`"),
        "{said}"
    );
}

/// An archive with another pickle, its checksum right again.
fn with_pickle(bytes: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    use std::io::{Cursor, Read, Write};
    let mut from = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut to = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..from.len() {
        let mut entry = from.by_index(i).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if name.ends_with("data.pkl") {
            change(&mut data);
        }
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        to.start_file(name, stored).unwrap();
        to.write_all(&data).unwrap();
    }
    to.finish().unwrap().into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_state_dicts_never_panic(
        which in 0usize..6,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = state_dicts().swap_remove(which);
        // most of a file is numbers: changes at its ends reach the pickle and the directory
        let length = bytes.len();
        for (at, value) in changes {
            let at = at.index(2048.min(length));
            let at = if value & 1 == 0 { at } else { length - 1 - at };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        let _ = whole(bytes);
    }

    #[test]
    fn mutated_pickles_never_panic(
        which in 0usize..6,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bytes = with_pickle(&state_dicts()[which], |pickle| {
            for (at, value) in &changes {
                let at = at.index(pickle.len());
                pickle[at] = *value;
            }
        });
        let _ = whole(bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(bytes.clone());
        let _ = whole([b"PK\x03\x04", &bytes[..]].concat());
        let _ = Configuration::parse(&bytes, Path::new("config.json"));
    }

    #[test]
    fn mutated_configurations_never_panic(
        which in proptest::sample::select(&["rotated", "serial", "grouped", "path_03", "autoencoder"][..]),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = std::fs::read(folder().join(which).join("config.json")).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = Configuration::parse(&bytes, Path::new("config.json")) {
            let count = headlight::pyvene::steps::sources(&read).unwrap_or(1);
            let _ = headlight::pyvene::steps::steps(&read, count);
        }
    }

    #[test]
    fn replaced_values_of_a_configuration_never_panic(
        which in proptest::sample::select(&["rotated", "serial", "grouped"][..]),
        field in 0usize..14,
        value in prop_oneof![
            Just("null"), Just("-1"), Just("18446744073709551615"), Just("1e300"), Just("[]"), Just("[[4, 1]]"),
            Just("[[0, 99999999999]]"), Just("\"../../x\""), Just("true"), Just("[1, [2]]"), Just("{}"), Just("\"h.pos\""),
        ],
    ) {
        let text = std::fs::read_to_string(folder().join(which).join("config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["representations"][0][field] = serde_json::from_str(value).unwrap();
        if let Ok(read) = Configuration::parse(json.to_string().as_bytes(), Path::new("config.json")) {
            for made in &read.representations {
                prop_assert!(!made.file.contains('/'), "{}", made.file);
            }
            let count = headlight::pyvene::steps::sources(&read).unwrap_or(1);
            let _ = headlight::pyvene::steps::steps(&read, count);
        }
    }
}
