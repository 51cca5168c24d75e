//! Positions that a row counts, in both of its prompts, under a BOS and turned round: what an experiment says
//! of the same tokens.

use headlight::model::Checkpoint;
use headlight::results::table::Row;

use crate::lab::{Lab, bits};

const BASE: &str = "The capital of Spain is";
const SOURCE: &str = "People say that the capital of Italy is";

/// The row's own positions, one a line as prompt and number, in both prompts of its pair.
const POSITIONS: [[i64; 2]; 3] = [[3, 6], [1, -2], [-1, 0]];

fn tokens(text: &str, bos: bool) -> Vec<u32> {
    let ids = Checkpoint::demo()
        .unwrap()
        .text()
        .unwrap()
        .encode(text)
        .unwrap();
    [vec![0; usize::from(bos)], ids].concat()
}

/// A run of an experiment for each position, by hand: tokens, numbers, and which prompt is patched.
fn by_hand(lab: &Lab, bos: bool, noise: bool) -> Vec<Row> {
    let prompts = [BASE, SOURCE].map(|text| tokens(text, bos));
    let [patched, read] = if noise { [1, 0] } else { [0, 1] };
    let mut text = format!(
        "target_ids = [948, 1052]\n[[pair]]\nbase_ids = {:?}\nsource_ids = {:?}\n",
        prompts[patched], prompts[read]
    );
    for positions in POSITIONS {
        let at = |side: usize| {
            let length = prompts[side].len() as i64;
            match positions[side] {
                n @ 0.. => n + i64::from(bos),
                n => length + n,
            }
        };
        text += &format!(
            "[[run]]\npatches = [{{ component = \"block_output\", layer = 1, positions = [{}], source_positions = [{}] }}]\n",
            at(patched),
            at(read)
        );
    }
    lab.write("e.toml", text);
    lab.rows("run", &["e.toml"])
}

#[test]
fn positions_of_a_row_mean_its_own_tokens_under_a_bos_and_turned_round() {
    let lab = Lab::new();
    let [here, there] = [0, 1].map(|side| POSITIONS.map(|p| p[side]));
    lab.write(
        "d.jsonl",
        format!(
            "{{\"base\": {BASE:?}, \"source\": {SOURCE:?}, \"target_ids\": [948, 1052], \"positions\": {here:?}, \"source_positions\": {there:?}}}\n"
        ),
    );
    let sweep = [
        "--data",
        "d.jsonl",
        "--component",
        "block_output",
        "--layers",
        "1",
    ];
    let mut all = Vec::new();
    for bos in [false, true] {
        for noise in [false, true] {
            let mut args = sweep.to_vec();
            args.extend(bos.then_some("--bos"));
            args.extend(
                noise
                    .then_some(["--direction", "noise"])
                    .into_iter()
                    .flatten(),
            );
            let rows = lab.sweep(&args);
            assert_eq!(rows.len(), 6);
            let expected = by_hand(&lab, bos, noise);
            assert_eq!(bits(&rows), bits(&expected), "bos {bos}, noise {noise}");
            let places = |rows: &[Row]| -> Vec<_> {
                let of = |row: &Row| (row.position, row.source_position);
                rows.iter().map(of).collect()
            };
            assert_eq!(places(&rows), places(&expected), "bos {bos}, noise {noise}");
            all.push(bits(&rows));
        }
    }
    // four different questions
    for (i, rows) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != rows), "{i}");
    }
}
