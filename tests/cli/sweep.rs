//! `headlight sweep`: the reference job, its flags and what it writes.

use headlight::report;
use headlight::results::table::Row;

use crate::lab::{BASE, Lab, SOURCE, bits, fixture};

const COLUMNS: &str = "pair,run,name,component,layer,head,position,token,op,source_layer,source_head,source_position,\
    sample,target,target_id,prob,logprob,logit,base_prob,source_prob,patches";

type Place<'a> = (&'a str, Option<u32>, Option<u32>, Option<u32>);

fn place(row: &Row) -> Place<'_> {
    (
        row.component.as_deref().unwrap_or(""),
        row.layer,
        row.head,
        row.position,
    )
}

fn targets(rows: &[Row]) -> Vec<(&str, u32)> {
    let mut targets: Vec<_> = rows.iter().map(|r| (&*r.target, r.target_id)).collect();
    targets.truncate(rows.iter().filter(|r| r.run == 0).count());
    targets
}

#[test]
fn without_prompts_it_is_the_reference_job() {
    let lab = Lab::new();
    let said = lab.ok(&["sweep", "--out", "t.csv"]);
    assert_eq!(lab.read("t.csv").lines().next(), Some(COLUMNS));
    let table = lab.table("t.csv");
    assert_eq!(table.rows.len(), 2 * 5 * 4 * 5 * 2);
    assert_eq!(targets(&table.rows), [(" Madrid", 948), (" Rome", 1052)]);
    for (i, row) in table.rows.iter().enumerate() {
        let (run, target) = (i / 2, i % 2);
        let component = ["head_attention_value_output", "head_value_output"][run / 100];
        let (layer, head, position) = (run % 100 / 20, run % 20 / 5, run % 5);
        assert_eq!(row.run as usize, run);
        assert_eq!(
            place(row),
            (
                component,
                Some(layer as u32),
                Some(head as u32),
                Some(position as u32)
            )
        );
        let token = ["The", " capital", " of", " Spain", " is"][position];
        assert_eq!(
            (row.token.as_deref(), row.op.as_deref()),
            (Some(token), Some("interchange"))
        );
        assert_eq!(
            (row.source_layer, row.source_position),
            (row.layer, row.position)
        );
        assert_eq!((row.name.as_ref(), row.sample), (None, None));
        // the prompts begin alike, and what is alike cannot be changed
        if position < 3 {
            assert_eq!(row.prob, row.base_prob, "{row:?}");
        }
        let [base, source] = [[0.984, 0.0], [0.0, 0.969]].map(|p| p[target]);
        assert!(
            (row.base_prob - base).abs() < 2e-3 && (row.source_prob.unwrap() - source).abs() < 2e-3,
            "{row:?}"
        );
        assert!((row.prob.ln() - row.logprob).abs() < 1e-9);
    }
    assert!(table.rows.iter().any(|r| r.prob != r.base_prob));

    for text in [
        "base:   The capital of Spain is → _Madrid 0.9843, ",
        "\nsource: The capital of Italy is → _Rome 0.9691, ",
        "\nstrongest\n",
        "\n200 runs in ",
        "\nwrote t.csv\n",
    ] {
        assert!(said.out.contains(text), "{text}: {}", said.out);
    }
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);

    let how = &table.provenance;
    assert_eq!(
        (
            how.model.as_str(),
            how.device.as_str(),
            how.precision.as_str()
        ),
        ("demo", "cpu", "f32")
    );
    assert!(
        how.model_hash.len() == 64 && how.command.ends_with("sweep --out t.csv"),
        "{how:?}"
    );
    assert_eq!(
        how.pairs[0].source_tokens,
        ["The", " capital", " of", " Italy", " is"]
    );
    assert!(lab.path("t.csv.meta.json").exists());
    // the time from start to last byte is the sum of its parts
    let times = said
        .out
        .lines()
        .find(|line| line.starts_with("200 runs in "))
        .unwrap();
    let after = |word: &str| -> f64 {
        let rest = times.split_once(word).unwrap().1.trim_start();
        let number = rest
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()
            .unwrap();
        number.parse().unwrap()
    };
    let parts = ["loading", "planning", "computing", "writing"].map(after);
    let whole = after("runs in");
    assert!((parts.iter().sum::<f64>() - whole).abs() < 0.03, "{times}");
    // a line a prompt, and more on request
    assert_eq!(
        said.out.lines().position(str::is_empty),
        Some(2),
        "{}",
        said.out
    );
    let more = lab.ok(&["sweep", "--verbose", "--layers", "0"]).out;
    assert!(
        more.starts_with("base:   The capital of Spain is\n_Madrid              0.98"),
        "{more}"
    );
    assert!(
        more.contains("\nsource: The capital of Italy is\n_Rome                0.96"),
        "{more}"
    );
    let told = |l: &&str| l.split_whitespace().count() == 2 && l.contains(" 0.");
    assert_eq!(more.lines().filter(told).count(), 20);
}

#[test]
fn prompts_and_targets_may_be_text_or_ids() {
    let lab = Lab::new();
    let narrow = ["--layers", "1", "--positions", "3"];
    let sweep = |args: &[&str]| lab.sweep(&[args, &narrow].concat());
    let reference = sweep(&[]);
    let text = ["--base", BASE, "--source", SOURCE];
    assert_eq!(sweep(&text), reference);
    let ids = [
        "--base-ids",
        "279,285,263,700,261",
        "--source-ids",
        "279,285,263,751,261",
    ];
    assert_eq!(sweep(&ids), reference);
    for same in [
        &["--targets", " Madrid, Rome"][..],
        &["--target", " Madrid", "--target", " Rome"],
        &["--target-ids", "948,1052"],
        &["--targets", " Madrid", "--target-ids", "1052"],
    ] {
        assert_eq!(sweep(&[&text, same].concat()), reference, "{same:?}");
        assert_eq!(sweep(same), reference, "{same:?}");
    }
    assert_eq!(targets(&sweep(&["--target", ","]))[0].0, ",");
    assert_eq!(
        targets(&sweep(&["--targets", " Rome, Madrid"])),
        [(" Rome", 1052), (" Madrid", 948)]
    );
    // nothing is trimmed, so this is not the token ` Rome`
    lab.refused(
        &["sweep", "--targets", "Rome"],
        &["target `Rome` is", "tokens"],
    );
    assert_eq!(
        targets(&sweep(&["--target", "Madrid", "--first-token"]))[0].0,
        "M"
    );
}

#[test]
fn default_targets_are_the_top_token_of_either_prompt() {
    let lab = Lab::new();
    let args = [
        "--base",
        "The capital of France is",
        "--op",
        "zero",
        "--layers",
        "0",
        "--positions",
        "4",
    ];
    let one = lab.sweep(&args);
    assert_eq!(
        targets(&one).iter().map(|t| t.0).collect::<Vec<_>>(),
        [" Paris"]
    );
    assert!(one.iter().all(|r| r.source_prob.is_none()));
    // the same token on top of both counts once
    let twice = lab.sweep(&[&args[..], &["--source", "The capital of France is"]].concat());
    assert_eq!(targets(&twice).len(), 1);
}

#[test]
fn components_have_two_names() {
    let lab = Lab::new();
    let sweep =
        |component: &str, more: &[&str]| lab.sweep(&[&["--component", component], more].concat());
    assert_eq!(
        sweep("hook_z", &[]),
        sweep("head_attention_value_output", &[])
    );
    assert_eq!(
        sweep("blocks.3.attn.hook_v", &[]),
        sweep("head_value_output.3", &[])
    );
    assert_eq!(
        sweep("head_value_output.3", &[]),
        sweep("hook_v", &["--layers", "3"])
    );
    assert_eq!(
        sweep("hook_z, hook_v", &["--layers", "1"]),
        sweep("hook_z,hook_v", &["--layers", "1"])
    );
    let both = sweep(
        "hook_resid_post,final_output",
        &["--positions", "4", "--layers", "0"],
    );
    let places: Vec<Place<'_>> = both.iter().step_by(2).map(place).collect();
    assert_eq!(
        places,
        [
            ("block_output", Some(0), None, Some(4)),
            ("final_output", None, None, Some(4))
        ]
    );
    // every component has an interchange
    let all: Vec<&str> = headlight::site::Component::all()
        .map(|c| c.name())
        .collect();
    let rows = sweep(
        &all.join(","),
        &["--layers", "2", "--heads", "1", "--positions", "3"],
    );
    assert_eq!(rows.len(), 2 * all.len());
}

#[test]
fn ranges_choose_cells() {
    let lab = Lab::new();
    let rows = lab.sweep(&[
        "--component",
        "hook_z",
        "--layers",
        "0,2-3",
        "--heads",
        "1",
        "--positions",
        "3-4",
    ]);
    let cells: Vec<_> = rows
        .iter()
        .step_by(2)
        .map(|r| (r.layer.unwrap(), r.head.unwrap(), r.position.unwrap()))
        .collect();
    assert_eq!(
        cells,
        [
            (0, 1, 3),
            (0, 1, 4),
            (2, 1, 3),
            (2, 1, 4),
            (3, 1, 3),
            (3, 1, 4)
        ]
    );
}

#[test]
fn together_is_one_run() {
    let lab = Lab::new();
    let heads = lab.sweep(&[
        "--component",
        "hook_z",
        "--layers",
        "4",
        "--heads",
        "together",
        "--positions",
        "4",
    ]);
    assert_eq!(
        place(&heads[0]),
        ("head_attention_value_output", Some(4), None, Some(4))
    );
    assert_eq!(heads.len(), 2);
    assert!(
        heads[0].patches.contains("\"heads\":[0,1,2,3]"),
        "{}",
        heads[0].patches
    );
    // all heads at once are the unsplit tensor
    let whole = lab.sweep(&[
        "--component",
        "attention_value_output",
        "--layers",
        "4",
        "--positions",
        "4",
    ]);
    assert_eq!(bits(&heads), bits(&whole));
    let both = lab.sweep(&[
        "--component",
        "block_input",
        "--layers",
        "0",
        "--positions",
        "together",
    ]);
    assert_eq!(
        (place(&both[0]), both[0].token.as_ref()),
        (("block_input", Some(0), None, None), None)
    );
    // the whole source at the input is the source run
    for row in &both {
        assert!(
            (row.prob - row.source_prob.unwrap()).abs() < 1e-6,
            "{row:?}"
        );
    }
    lab.ok(&[
        "sweep",
        "--heads",
        "together",
        "--positions",
        "together",
        "--plot",
        "m.svg",
    ]);
}

#[test]
fn global_flags_stand_on_either_side() {
    let lab = Lab::new();
    let f64s = |args: &[&str]| {
        lab.ok(args);
        let table = lab.table("t.csv");
        assert_eq!(table.provenance.precision, "f64");
        table.rows
    };
    let before = f64s(&[
        "--precision",
        "f64",
        "--threads",
        "1",
        "--memory",
        "64M",
        "sweep",
        "--out",
        "t.csv",
    ]);
    let after = f64s(&[
        "sweep",
        "--out",
        "t.csv",
        "--device",
        "cpu",
        "--precision",
        "f64",
        "--memory",
        "1G",
    ]);
    assert_eq!(before, after);
    let single = lab.sweep(&[]);
    for (a, b) in single.iter().zip(&after) {
        assert!((a.logprob - b.logprob).abs() < 1e-4, "{a:?} {b:?}");
    }
    // neither threads nor memory decide a bit
    assert_eq!(lab.sweep(&["--threads", "1", "--memory", "400K"]), single);
}

#[test]
fn every_format_holds_the_same_rows() {
    let lab = Lab::new();
    let mut tables = Vec::new();
    for name in ["t.csv", "t.jsonl", "t.parquet"] {
        lab.ok(&["sweep", "--out", name]);
        assert_eq!(
            lab.path(&format!("{name}.meta.json")).exists(),
            name != "t.parquet"
        );
        let mut table = lab.table(name);
        assert!(table.provenance.command.ends_with(name));
        table.provenance.command.clear();
        tables.push(table);
        let drawn = format!("{name}.svg");
        lab.ok(&["plot", name, "--out", &drawn]);
        assert_eq!(lab.read(&drawn), lab.read("t.csv.svg"), "{name}");
    }
    assert!(tables.windows(2).all(|t| t[0] == t[1]));
    // a file that stands is replaced whole
    lab.write("t.csv", "old");
    lab.ok(&["sweep", "--out", "t.csv", "--layers", "0"]);
    assert_eq!(lab.table("t.csv").rows.len(), 80);
}

#[test]
fn a_dash_is_csv_on_standard_output_and_nothing_else() {
    let lab = Lab::new();
    let said = lab.ok(&["sweep", "--out", "-"]);
    lab.ok(&["sweep", "--out", "t.csv"]);
    assert_eq!(said.out, lab.read("t.csv"));
    for text in ["device: ", "_Madrid", "strongest", "200 runs in"] {
        assert!(said.err.contains(text), "{text}: {}", said.err);
    }
    assert!(!said.err.contains("wrote -"));
}

#[test]
fn plots_are_drawn_beside_the_table() {
    let lab = Lab::new();
    let said = lab.ok(&["sweep", "--out", "t.parquet", "--plot", "m.svg"]);
    assert!(
        said.out.contains("wrote t.parquet\nwrote m.svg\n"),
        "{}",
        said.out
    );
    assert!(lab.read("m.svg").contains("<svg"));
    lab.ok(&["sweep", "--plot", "m.png"]);
    assert!(
        std::fs::read(lab.path("m.png"))
            .unwrap()
            .starts_with(b"\x89PNG\r\n")
    );
    lab.ok(&["plot", "t.parquet", "--out", "l.svg", "--value", "logprob"]);
    assert_ne!(lab.read("l.svg"), lab.read("m.svg"));
    assert!(report::read(&lab.path("t.parquet")).is_ok());
}

#[test]
fn a_model_without_a_tokenizer_takes_ids() {
    let lab = Lab::new();
    for model in ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"] {
        let model = fixture(model);
        let args = [
            "--model",
            &model,
            "--base-ids",
            "1,2,3",
            "--source-ids",
            "1,4,3",
            "--target-ids",
            "5",
        ];
        let rows = lab.sweep(&args);
        assert_eq!(
            (&*rows[0].target, rows[0].token.as_deref()),
            ("[5]", Some("[1]"))
        );
        assert!(rows.iter().any(|r| r.prob != r.base_prob));
    }
    lab.refused(
        &["sweep", "--model", &fixture("tied")],
        &["no prompts", "--base", "--source"],
    );
}
