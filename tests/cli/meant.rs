//! What is probably not meant: refused, or said in a line.

use crate::data::NARROW;
use crate::lab::{BASE, Lab, SOURCE};

const PATCH: &str = r#"component = "head_value_output", layer = 0, heads = [0], positions = [3]"#;

fn experiment(patch: &str) -> String {
    format!(
        "targets = [\" Madrid\"]\n[[pair]]\nbase = {BASE:?}\nsource = {SOURCE:?}\n[[run]]\npatches = [{{ {PATCH}, {patch} }}]\n"
    )
}

#[test]
fn numbers_of_operators_that_no_activation_can_have() {
    let lab = Lab::new();
    for (op, says) in [
        ("noise=-1", "`noise` needs a number that is not negative"),
        ("noise=NaN", "`noise` needs a finite number"),
        ("noise=inf", "`noise` needs a finite number"),
        ("noise=1e39", "`noise` needs a number up to 3.4e38"),
        ("scale=NaN", "`scale` needs a finite number"),
        ("scale=-1e39", "`scale` needs a number up to 3.4e38"),
        ("interpolate=inf", "`interpolate` needs a finite number"),
        (
            "interpolate=1e300",
            "`interpolate` needs a number up to 3.4e38",
        ),
    ] {
        lab.refused(
            &["sweep", "--op", op, "--out", "t.csv"],
            &[says, op.split_once('=').unwrap().1],
        );
    }
    for (patch, says) in [
        (
            "op = \"noise\", level = -1.0",
            "level = -1: give a number that is not negative",
        ),
        (
            "op = \"noise\", level = nan",
            "level = NaN: give a finite number",
        ),
        (
            "op = \"scale\", alpha = inf",
            "alpha = inf: give a finite number",
        ),
        (
            "op = \"interpolate\", alpha = 1e300",
            "alpha = 1e300: give a number up to 3.4e38",
        ),
    ] {
        lab.write("e.toml", experiment(patch));
        lab.refused(
            &["run", "e.toml", "--out", "t.csv"],
            &["head_value_output is patched with", says],
        );
    }
    // a negative factor turns a row round, and no noise is a control
    for op in ["scale=-1", "interpolate=-0.5", "noise=0"] {
        lab.ok(&[&["sweep", "--op", op], &NARROW[..]].concat());
    }
}

#[test]
fn what_a_list_names_twice() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["sweep", "--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--positions", "3,3"],
        &["--positions", "`3,3` names 3 twice"],
    );
    refused(&["--positions", "2-4,3"], &["`2-4,3` names 3 twice"]);
    refused(&["--positions", "end,end"], &["`end,end` names end twice"]);
    refused(
        &["--positions", "3,-2"],
        &[
            "--positions",
            "3 and -2 are the same token of the base prompt",
        ],
    );
    refused(
        &["--positions", "Spain,3"],
        &["Spain and 3 are the same token"],
    );
    refused(&["--layers", "0,0"], &["`0,0` names 0 twice"]);
    refused(&["--heads", "1,0-2"], &["--heads", "`1,0-2` names 1 twice"]);
    refused(&["--columns", "0-3,2"], &["`0-3,2` names 2 twice"]);
    lab.refused(
        &["path", "--receiver-positions", "4,4", "--out", "t.csv"],
        &["names 4 twice"],
    );
    let row = |positions: &str| {
        format!(
            "{{\"base\": {BASE:?}, \"source\": {SOURCE:?}, \"targets\": [\" Madrid\"], \"positions\": {positions}}}\n"
        )
    };
    for (positions, says) in [
        ("[3, 3]", "names 3 twice"),
        ("[\"end\", 2, \"end\"]", "names end twice"),
        ("[-2, 3]", "-2 and 3 are the same token of the base prompt"),
        (
            "[\"Spain\", 3]",
            "Spain and 3 are the same token of the base prompt",
        ),
    ] {
        lab.write("d.jsonl", row(positions));
        let args = ["sweep", "--data", "d.jsonl", "--out", "t.csv"];
        lab.refused(&args, &["d.jsonl, line 1", "positions", says]);
    }
    // two names may fall together in one row and not in another
    lab.write("d.jsonl", row("[\"Spain\", \"is\"]"));
    let args = [
        "sweep",
        "--data",
        "d.jsonl",
        "--positions",
        "Spain,-2",
        "--layers",
        "0",
        "--heads",
        "0",
    ];
    lab.ok(&args);
}

#[test]
fn an_answer_without_its_space() {
    let lab = Lab::new();
    lab.refused(
        &["sweep", "--answer", "Seattle", "--out", "t.csv"],
        &["`Seattle` is 5 tokens", "give one token"],
    );
    lab.refused(
        &["sweep", "--target", "Madrid", "--out", "t.csv"],
        &[
            "`Madrid` is 4 tokens",
            "` Madrid`, with a space before it, is one (948)",
        ],
    );
    lab.refused(
        &["sweep", "--targets", " Madrid ,  Rome", "--out", "t.csv"],
        &["` Madrid `", "` Madrid` is one (948)"],
    );
    lab.write(
        "d.jsonl",
        format!("{{\"base\": {BASE:?}, \"source\": {SOURCE:?}, \"target\": \"Madrid\"}}\n"),
    );
    lab.refused(
        &["sweep", "--data", "d.jsonl", "--out", "t.csv"],
        &[
            "line 1",
            "target",
            "` Madrid`, with a space before it, is one (948)",
        ],
    );
    // both are one token
    let said = lab.ok(&[&["sweep", "--target", "in"], &NARROW[..]].concat());
    let says = "target: `in` has no space before it, so it goes on with the word `is`; ` in` is a token too (";
    assert!(said.err.contains(says), "{}", said.err);
    // its first token alone
    let said = lab.ok(&[
        &["sweep", "--target", "Madrid", "--first-token"],
        &NARROW[..],
    ]
    .concat());
    assert!(
        said.err.contains("target: `M` has no space before it"),
        "{}",
        said.err
    );
    let said = lab.ok(&[&["sweep", "--target", " Madrid"], &NARROW[..]].concat());
    assert!(!said.err.contains("space"), "{}", said.err);
    let row = |target: &str| {
        format!("{{\"base\": {BASE:?}, \"source\": {SOURCE:?}, \"target\": {target:?}}}\n")
    };
    lab.write("d.jsonl", [" Madrid", "in", "it"].map(row).concat());
    let said = lab.ok(&[&["sweep", "--data", "d.jsonl"], &NARROW[..]].concat());
    let says = "targets: 2 of 3 pairs have one without a space before it, the first `in` in row 1";
    assert!(said.err.contains(says), "{}", said.err);
}

#[test]
fn a_prompt_that_ends_in_a_space() {
    let lab = Lab::new();
    let says =
        "the base prompt ends in a space, a token of its own: what follows begins without one";
    let spaced = format!("{BASE} ");
    let said = lab.ok(&[
        &[
            "sweep",
            "--base",
            &spaced,
            "--source",
            &format!("{SOURCE} "),
        ],
        &NARROW[..],
    ]
    .concat());
    assert!(said.err.contains(says), "{}", said.err);
    let other = "the source prompt ends in a space";
    assert!(said.err.contains(other), "{}", said.err);
    let says = says.replace("the base", "the");
    for command in [
        &["topk", &spaced][..],
        &[
            "cache",
            &spaced,
            "--component",
            "mlp_output",
            "--out",
            "a.safetensors",
        ],
    ] {
        let said = lab.ok(command);
        assert!(said.err.contains(&says), "{}", said.err);
    }
    let said = lab.ok(&["trace", &spaced, "--subject", "Spain", "--samples", "1"]);
    assert!(
        said.err.contains("the prompt ends in a space"),
        "{}",
        said.err
    );
    let row = |base: &str| {
        format!(
            "{{\"base\": {base:?}, \"source\": {:?}, \"target\": \" Madrid\"}}\n",
            format!("{SOURCE} ")
        )
    };
    lab.write("d.jsonl", [&spaced, &spaced].map(|base| row(base)).concat());
    let said = lab.ok(&[&["sweep", "--data", "d.jsonl"], &NARROW[..]].concat());
    let says = "prompts: 2 of 2 pairs have one that ends in a space, a token of its own, the first the base prompt in row 0";
    assert!(said.err.contains(says), "{}", said.err);
    for fine in [BASE, "The capital of Spain is:\n"] {
        let said = lab.ok(&["topk", fine]);
        assert!(!said.err.contains("ends in"), "{}", said.err);
    }
}
