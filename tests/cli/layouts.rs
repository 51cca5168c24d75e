//! Published data sets' layouts, made small in our own words and the demo's tokens: columns as they are published,
//! none renamed.

use headlight::results::table::Row;

use crate::lab::{Lab, bits};

const ITALY: &str = "The capital of Italy is";
const SPAIN: &str = "The capital of Spain is";
/// Ids of ` Rome` and ` Madrid`.
const IDS: [u32; 2] = [1052, 948];

/// One head of the file's rows, with their logit difference.
fn load(lab: &Lab, name: &str, text: &str) -> Vec<Row> {
    lab.write(name, text);
    let args = [
        "--component",
        "hook_v",
        "--heads",
        "0",
        "--layers",
        "0",
        "--metric",
        "logit_diff",
    ];
    lab.sweep(&[&["--data", name], &args[..]].concat())
}

/// Spain's prompt patched with Italy's, whose answer is Rome and not Madrid.
fn denoised(lab: &Lab) -> Vec<Row> {
    let row = format!(
        r#"{{"base": "{SPAIN}", "source": "{ITALY}", "target_ids": [1052], "wrong_target_ids": [948]}}"#
    );
    load(lab, "own.jsonl", &row)
}

fn same(found: &[Row], wanted: &[Row], what: &str) {
    assert_eq!(bits(found), bits(wanted), "{what}");
    let metrics = |rows: &[Row]| {
        rows.iter()
            .map(|row| row.metrics.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics(found), metrics(wanted), "{what}");
    let targets = |rows: &[Row]| rows.iter().map(|row| row.target_id).collect::<Vec<_>>();
    assert_eq!(targets(found), targets(wanted), "{what}");
}

#[test]
fn eap_igs_six_files_load_as_they_are() {
    let lab = Lab::new();
    let [rome, madrid] = IDS;
    let wanted = denoised(&lab);
    for (name, text) in [
        (
            "ioi.csv",
            format!("clean,corrupted,correct_idx,incorrect_idx\n{ITALY},{SPAIN},{rome},{madrid}\n"),
        ),
        (
            "fact_retrieval.csv",
            format!(
                "clean,capital,country,country_idx,corrupted,corrupted_capital,corrupted_country,corrupted_country_idx\n\
                 {ITALY},a,b,{rome},{SPAIN},c,d,{madrid}\n"
            ),
        ),
        (
            "fact_retrieval_reversed.csv",
            format!(
                "clean,country,capital,capital_idx,corrupted,corrupted_capital_idx\n{ITALY},a,b,{rome},{SPAIN},{madrid}\n"
            ),
        ),
        (
            "gender_bias.csv",
            format!(
                "clean,corrupted,clean_answer_idx,corrupted_answer_idx\n{ITALY},{SPAIN},{rome},{madrid}\n"
            ),
        ),
        // texts without the space that the tokens begin with, as pandas writes lists
        (
            "hypernymy.csv",
            format!(
                "clean,h1,hypernym,answers,answers_idx,corrupted,c1,corrupted_hypernym,corrupted_answers,\
                 corrupted_answers_idx,clean2,corrupted2,prob_diff\n\
                 {ITALY},x,y,\"['Rome', 'Roma']\",\"[{rome}]\",{SPAIN},z,w,['Madrid'],[{madrid}],said again,and again,0.25\n"
            ),
        ),
        (
            "pandas_lists.csv",
            format!(
                "prompt_id,clean,corrupted,clean2,answers,correct_idx,incorrect_idx\n\
                 7,{ITALY},{SPAIN},the same said again,\"[' Rome', ' Roma']\",\"[{rome}]\",\"[{madrid}]\"\n"
            ),
        ),
    ] {
        same(&load(&lab, name, &text), &wanted, name);
    }
    // agreement has no answers in the file
    let sva = format!("clean,corrupted,plural\n{ITALY},{SPAIN},1\n");
    lab.write("sva.csv", sva);
    let rows = lab.sweep(&[
        "--data",
        "sva.csv",
        "--target",
        " Rome",
        "--component",
        "hook_v",
        "--heads",
        "0",
        "--layers",
        "0",
    ]);
    assert_eq!(bits(&rows), bits(&wanted));
}

/// IOI, docstring, Greater-Than and facts about capitals: answers by text or id, one or several, with and without
/// what all prompts share.
#[test]
fn auto_circuits_four_files_load_as_they_are() {
    let lab = Lab::new();
    let wanted = denoised(&lab);
    let prompts = |clean: &str, corrupt: &str, right: &str, wrong: &str| {
        format!(
            r#"[{{"clean": {clean}, "corrupt": {corrupt}, "answers": {right}, "wrong_answers": {wrong}}}]"#
        )
    };
    let (italy, spain) = (format!("{ITALY:?}"), format!("{SPAIN:?}"));
    let words = prompts(&italy, &spain, r#"[" Rome"]"#, r#"[" Madrid"]"#);
    let ids = |prompt: &str| {
        let said = lab.ok(&[
            "cache",
            prompt,
            "--component",
            "block_output",
            "--layers",
            "0",
            "--out",
            "c.safetensors",
        ]);
        drop(said);
        let file = std::fs::read(lab.path("c.safetensors")).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
        metadata.metadata().as_ref().unwrap()["ids"].clone()
    };
    let numbers = prompts(&ids(ITALY), &ids(SPAIN), "[1052]", "[948]");
    for (name, text) in [
        (
            "ioi.json",
            format!(
                r#"{{"word_idxs": {{"subject": 3, "end": 4}}, "seq_labels": ["The", "capital", "of", "land", "is"], "prompts": {words}}}"#
            ),
        ),
        (
            "docstring.json",
            format!(r#"{{"seq_labels": [], "word_idxs": {{}}, "prompts": {words}}}"#),
        ),
        ("greater_than.json", format!(r#"{{"prompts": {numbers}}}"#)),
        (
            "capitals.json",
            format!(
                r#"{{"prompts": {}}}"#,
                prompts(&italy, &spain, "[1052]", "[948]")
            ),
        ),
    ] {
        same(&load(&lab, name, &text), &wanted, name);
    }
}

#[test]
fn romes_two_files_load_as_they_are() {
    let lab = Lab::new();
    let spain = [
        "--op",
        "zero",
        "--component",
        "block_output",
        "--layers",
        "0",
        "--positions",
        "subject",
    ];
    let load = |name: &str, text: &str| {
        lab.write(name, text);
        lab.sweep(&[&["--data", name], &spain[..]].concat())
    };
    let known = load(
        "known_1000.json",
        r#"[{"known_id": 0, "subject": "Spain", "attribute": "Madrid", "template": "The capital of {} is",
             "prediction": " Madrid, where", "prompt": "The capital of Spain is", "relation_id": "P36"}]"#,
    );
    let counter = load(
        "counterfact.json",
        r#"[{"case_id": 0, "pararel_idx": 1, "requested_rewrite": {"prompt": "The capital of {} is", "relation_id": "P36",
             "target_new": {"str": "Rome", "id": "Q220"}, "target_true": {"str": "Madrid", "id": "Q2807"},
             "subject": "Spain"}, "paraphrase_prompts": ["a"], "neighborhood_prompts": ["b"], "generation_prompts": ["c"]}]"#,
    );
    assert_eq!(bits(&known), bits(&counter));
    assert_eq!((known.len(), &*known[0].target), (1, " Madrid"));
}

/// A list of ids is one in every format, however it is set apart.
#[test]
fn ids_in_a_csv_prompt_are_ids() {
    let lab = Lab::new();
    let line = |list: &str| {
        format!("base,source,target_ids,wrong_target_ids\n\"{list}\",\"[5, 6, 7]\",[8],[9]\n")
    };
    let json =
        r#"{"base": [5, 6, 9], "source": [5, 6, 7], "target_ids": [8], "wrong_target_ids": [9]}"#;
    let wanted = load(&lab, "ids.jsonl", json);
    assert_eq!(wanted.len(), 3);
    for list in ["[5, 6, 9]", "[5 6 9]", " [5,6,  9] "] {
        same(&load(&lab, "ids.csv", &line(list)), &wanted, list);
    }
    // as numbers are written that are no ids: not taken for text
    for list in ["[5.0, 6.0]", "[5, -6]", "[5  6 ... 9]"] {
        lab.write("bad.csv", line(list));
        lab.refused(
            &["sweep", "--data", "bad.csv"],
            &["bad.csv, line 2, field base"],
        );
    }
    // a text may begin with a bracket
    lab.write(
        "text.csv",
        "base,targets\n[The capital] of Spain is, Madrid\n",
    );
    lab.ok(&[
        "sweep", "--data", "text.csv", "--op", "zero", "--layers", "0",
    ]);
}

/// A second name that is one slip from a known one is a column of its own where the known one stands too.
#[test]
fn a_column_beside_the_known_one_is_no_slip() {
    let lab = Lab::new();
    let row = format!(
        r#"{{"case": 3, "base": "{SPAIN}", "source": "{ITALY}", "target_ids": [1052], "wrong_target_ids": [948], "sources": "x"}}"#
    );
    same(&load(&lab, "a.jsonl", &row), &denoised(&lab), "sources");
    for slip in [
        r#""clean2": "x", "base""#,
        r#""positons": [3], "base""#,
        r#""wrong_targts": [" Rome"], "base""#,
    ] {
        lab.write(
            "b.jsonl",
            format!(r#"{{{slip}: "{SPAIN}", "targets": [" Rome"]}}"#),
        );
        lab.refused(
            &["sweep", "--data", "b.jsonl", "--op", "zero"],
            &["did you mean"],
        );
    }
}
