//! `headlight run`: experiment files.

use serde_json::{Value, json};

use crate::lab::{BASE, Lab, SOURCE, bits};
use crate::models::{self, Tensors};

const HEAD: &str = r#"
targets = [" Madrid", " Rome"]
[[pair]]
base = "The capital of Spain is"
source = "The capital of Italy is"
"#;

fn toml(lab: &Lab, runs: &str) -> Vec<headlight::results::table::Row> {
    lab.write("e.toml", format!("{HEAD}{runs}"));
    lab.rows("run", &["e.toml"])
}

#[test]
fn toml_json_and_a_sweep_say_the_same() {
    let lab = Lab::new();
    let rows = toml(
        &lab,
        r#"
        [[run]]
        name = "v2@3"
        patches = [{ component = "head_value_output", layer = 2, heads = [1], positions = [3], op = "interchange" }]
        [[run]]
        patches = [{ component = "blocks.2.attn.hook_v", heads = [1], positions = [4] }]
    "#,
    );
    let file = json!({
        "targets": [" Madrid", " Rome"], "pair": [{"base": BASE, "source": SOURCE}],
        "run": [
            {"name": "v2@3", "patches": [{"component": "hook_v", "layer": 2, "heads": [1], "positions": [3]}]},
            {"patches": [{"component": "head_value_output.2", "layer": 2, "heads": [1], "positions": [4]}]},
        ],
    });
    lab.write("e.json", file.to_string());
    assert_eq!(lab.rows("run", &["e.json"]), rows);
    let names: Vec<_> = rows.iter().map(|r| r.name.as_deref()).collect();
    assert_eq!(names, [Some("v2@3"), Some("v2@3"), None, None]);
    let mut sweep = lab.sweep(&[
        "--component",
        "hook_v",
        "--layers",
        "2",
        "--heads",
        "1",
        "--positions",
        "3-4",
    ]);
    sweep
        .iter_mut()
        .filter(|r| r.run == 0)
        .for_each(|r| r.name = Some("v2@3".into()));
    assert_eq!(sweep, rows);
}

#[test]
fn pairs_have_their_own_targets_and_run_counts() {
    let lab = Lab::new();
    lab.write("e.toml", format!("{HEAD}[[pair]]\nbase_ids = [279, 285, 263]\nsource = \"The city of\"\ntarget_ids = [7]\n\
        [[run]]\npatches = [{{ component = \"block_output\", layer = 0, positions = [0, 1] }}]\n\
        [[run]]\npatches = [{{ component = \"block_output\", layer = 1, positions = [2] }}]\n"));
    let rows = lab.rows("run", &["e.toml"]);
    let order: Vec<_> = rows.iter().map(|r| (r.pair, r.run, r.target_id)).collect();
    assert_eq!(
        order,
        [
            (0, 0, 948),
            (0, 0, 1052),
            (0, 1, 948),
            (0, 1, 1052),
            (1, 0, 7),
            (1, 1, 7)
        ]
    );
    assert_eq!(
        (rows[0].position, rows[2].position, rows[4].position),
        (None, Some(2), None)
    );
}

/// Columns of each example's own: a run for each pair that only that pair has.
#[test]
fn runs_of_some_pairs_are_those_of_the_pairs_alone() {
    let lab = Lab::new();
    let pair = |base: &str, source: &str| json!({"base": format!("The capital of {base} is"), "source": format!("The capital of {source} is")});
    let pairs = [pair("Spain", "Italy"), pair("France", "Germany")];
    let run = |columns: &str, of: Option<usize>| {
        let patch =
            json!({"component": "block_output", "layer": 0, "positions": [3], "columns": columns});
        let mut run = json!({"name": columns, "patches": [patch]});
        if let Some(pair) = of {
            run["pairs"] = json!([pair]);
        }
        run
    };
    let rows = |pairs: &[Value], runs: &[Value]| {
        let targets = [" Madrid", " Rome", " Paris", " Berlin"];
        let file = json!({"targets": targets, "pair": pairs, "run": runs});
        lab.write("e.json", file.to_string());
        lab.rows("run", &["e.json"])
    };
    let columns = ["0-40", "30-127"];
    let all = rows(
        &pairs,
        &[run(columns[0], Some(0)), run(columns[1], Some(1))],
    );
    let named: Vec<_> = all.iter().map(|r| (r.pair, r.name.as_deref())).collect();
    let expected = [[(0, Some("0-40")); 4], [(1, Some("30-127")); 4]].concat();
    assert_eq!(named, expected);
    let mut alone = Vec::new();
    for (pair, columns) in pairs.iter().zip(columns) {
        let rows = rows(std::slice::from_ref(pair), &[run(columns, None)]);
        assert!(rows.iter().all(|r| r.prob != r.base_prob), "{columns}");
        alone.extend(bits(&rows));
    }
    assert_eq!(bits(&all), alone);
    // the other pair's columns are something else
    let other = rows(&pairs[..1], &[run(columns[1], None)]);
    assert_ne!(bits(&other), alone[..4]);
}

#[test]
fn a_freeze_undoes_what_stands_upstream() {
    let lab = Lab::new();
    let rows = toml(
        &lab,
        r#"
        [[run]]
        patches = [{ component = "block_output", layer = 1, positions = [3] }]
        [[run]]
        patches = [
            { component = "block_output", layer = 1, positions = [3] },
            { component = "block_output", layer = 3, positions = [3, 4], source = "base" },
        ]
        [[run]]
        patches = [{ component = "block_output", layer = 3, positions = [4], source = "base" }]
    "#,
    );
    assert!(rows[0].prob != rows[0].base_prob);
    for row in &rows[2..] {
        assert_eq!(row.prob, row.base_prob, "{row:?}");
    }
    // patches that disagree leave a cell empty, and those that agree fill it
    assert_eq!(
        (
            rows[2].component.as_deref(),
            rows[2].layer,
            rows[2].position
        ),
        (Some("block_output"), None, None)
    );
    assert!(
        rows[2].patches.contains(r#""source":"base""#),
        "{}",
        rows[2].patches
    );
}

#[test]
fn runs_of_several_patches_need_no_place_in_a_grid() {
    let lab = Lab::new();
    let several = r#"
        [[run]]
        patches = [
            { component = "hook_v", layer = 1, heads = [0, 2], positions = [3] },
            { component = "hook_resid_post", layer = 2, positions = [4], op = "scale", alpha = 0.5 },
        ]
    "#;
    let rows = toml(&lab, several);
    assert_eq!(rows.len(), 2);
    let said = lab.ok(&["run", "e.toml"]).out;
    assert!(said.contains("\n1 run in "), "{said}");
    let moved = said.split_once("strongest\n").unwrap().1;
    assert!(moved.starts_with("run "), "{moved}");
    assert!(
        moved.contains("run 0") && moved.contains("_Madrid"),
        "{moved}"
    );
    lab.refused(
        &["run", "e.toml", "--out", "u.csv", "--plot", "m.svg"],
        &["nothing to plot"],
    );
}

#[test]
fn the_patches_column_is_an_experiment() {
    let lab = Lab::new();
    let mut tensors = Tensors::new();
    tensors.insert(
        "ramp".into(),
        (vec![32], (0..32).map(|i| i as f32 / 8.0).collect()),
    );
    lab.write("v.safetensors", models::file(&tensors));
    lab.write("prompts.txt", "The capital of France is\n");
    let cell = [
        "--component",
        "hook_z",
        "--layers",
        "2",
        "--heads",
        "0,3",
        "--positions",
        "3-4",
    ];
    for op in [
        &["interchange"][..],
        &["zero"],
        &["add"],
        &["subtract"],
        &["set=v.safetensors#ramp"],
        &["add=v.safetensors#ramp"],
        &["subtract=v.safetensors#ramp"],
        &["mean=prompts.txt"],
        &["scale=0.1"],
        &["interpolate=0.3"],
        &["noise=0.7", "--seed", "18446744073709551615"],
    ] {
        let rows = lab.sweep(&[&cell[..], &["--op"], op].concat());
        again(&lab, &rows);
    }
    let rows = toml(
        &lab,
        r#"
        [[run]]
        patches = [
            { component = "hook_v", layer = 1, heads = [0, 2], positions = [3, 4], source_layer = 2, source_heads = [1, 1], source_positions = [4, 3] },
            { component = "attention_scores", layer = 3, heads = [1], positions = [4], keys = [0, 3], op = "scale", alpha = 0.5 },
            { component = "final_output", positions = [4], op = "mean", mean_ids = [[279, 285], [263]] },
            { component = "mlp_output", layer = 4, positions = [4], source = "base" },
            { component = "mlp_output", layer = 4, positions = [4], op = "noise", level = 0.1, sample = 3 },
        ]
    "#,
    );
    again(&lab, &rows);
}

/// Runs the patches of a table's rows as an experiment, and expects the same numbers.
fn again(lab: &Lab, rows: &[headlight::results::table::Row]) {
    let runs = rows
        .iter()
        .step_by(2)
        .map(|r| json!({"patches": serde_json::from_str::<Value>(&r.patches).unwrap()}));
    let file = json!({
        "targets": [" Madrid", " Rome"], "pair": [{"base": BASE, "source": SOURCE}], "run": runs.collect::<Vec<_>>(),
    });
    lab.write("again.json", file.to_string());
    let back = lab.rows("run", &["again.json"]);
    assert_eq!(bits(&back), bits(rows), "{file}");
    assert_eq!(back, rows);
}

#[test]
fn files_are_found_beside_the_experiment() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("sub")).unwrap();
    let mut tensors = Tensors::new();
    tensors.insert("x".into(), (vec![128], vec![0.5; 128]));
    lab.write("sub/v.safetensors", models::file(&tensors));
    lab.write("sub/e.toml", format!("{HEAD}[[run]]\npatches = [{{ component = \"block_output\", layer = 0, positions = [1], op = \"set\", value = \"v.safetensors#x\" }}]"));
    assert_eq!(lab.rows("run", &["sub/e.toml"]).len(), 2);
}

#[test]
fn malformed_files_are_refused_by_line_and_column() {
    let lab = Lab::new();
    let refused = |name: &str, text: &str, needles: &[&str]| {
        lab.write(name, text);
        lab.refused(&["run", name, "--out", "t.csv"], needles);
    };
    refused(
        "e.toml",
        "targets = [\n  \" Rome\"\npair = 3\n",
        &["e.toml:"],
    );
    refused("e.toml", "x = ", &["e.toml:1:5"]);
    refused("e.toml", "", &["e.toml is empty"]);
    refused("e.toml", HEAD, &["e.toml:", "`run`"]);
    refused(
        "e.toml",
        &format!(
            "{HEAD}[[run]]\npatches = [{{ component = \"hook_v\", layr = 1, positions = [3] }}]"
        ),
        &["e.toml:7:", "`layr`", "`layer`"],
    );
    refused(
        "e.toml",
        &format!(
            "{HEAD}[[run]]\npatches = [\n  {{ component = \"head_value_ouput\", positions = [3] }},\n]"
        ),
        &["e.toml:8:", "`head_value_ouput`", "`head_value_output`"],
    );
    refused(
        "e.toml",
        &format!(
            "{HEAD}[[run]]\npatches = [{{ component = \"hook_v\", layer = -1, positions = [3] }}]"
        ),
        &["e.toml:7:", "-1"],
    );
    refused(
        "e.toml",
        &format!(
            "{HEAD}[[run]]\npatches = [{{ component = \"hook_v\", layer = 1, positions = [3], op = \"zeros\" }}]"
        ),
        &["e.toml:7:", "`zeros`", "`zero`"],
    );
    refused(
        "e.json",
        "{\"pair\": [{\"base\": \"a\"},\n ], \"run\": []}",
        &["e.json:2:2", "trailing comma"],
    );
    refused(
        "e.json",
        "{\"pair\": [{\"base\": \"a\", \"bas\": 1}],\n \"run\": []}",
        &["e.json:1:", "`bas`", "`base`"],
    );
    refused(
        "e.json",
        "{\"pair\": [{\"base\": \"a\"}], \"run\": [\n{\"patches\": [{\"component\": \"hook_w\", \"positions\": [0]}]}]}",
        &["e.json:2:", "`hook_w`"],
    );
    refused("e.json", "", &["e.json is empty"]);
    refused("e.yaml", HEAD, &["e.yaml", ".toml nor .json"]);
    lab.write("latin.toml", b"targets = [\"Espa\xf1a\"]");
    lab.refused(&["run", "latin.toml"], &["latin.toml", "utf-8"]);
    lab.refused(&["run", "none.toml"], &["none.toml", "No such file"]);
    lab.refused(&["run", "."], &[".toml nor .json"]);
    lab.refused(&["run"], &["FILE"]);
}

#[test]
fn experiments_that_cannot_be_meant_are_refused() {
    let lab = Lab::new();
    let refused = |text: &str, needles: &[&str]| {
        lab.write("e.toml", text);
        lab.refused(&["run", "e.toml", "--out", "t.csv"], needles);
    };
    let patch = |text: &str, needles: &[&str]| {
        refused(&format!("{HEAD}[[run]]\npatches = [{{ {text} }}]"), needles);
    };
    let v = "component = \"hook_v\", layer = 1, heads = [0]";
    refused(&format!("run = []\n{HEAD}"), &["no runs", "[[run]]"]);
    refused(
        "pair = []\n[[run]]\npatches = []",
        &["no pairs", "[[pair]]"],
    );
    refused(
        "targets = [\" Rome\"]\n[[pair]]\nsource = \"a\"\n[[run]]\npatches = []",
        &["pair 0", "base or base_ids"],
    );
    refused(
        "[[pair]]\nbase = \"a\"\n[[run]]\npatches = []",
        &["pair 0", "no targets"],
    );
    refused(
        "targets = [\"Madrid Rome\"]\n[[pair]]\nbase = \"a\"\n[[run]]\npatches = []",
        &["pair 0", "`Madrid Rome` is", "tokens"],
    );
    refused(
        "targets = [\" Rome\", \" Rome\"]\n[[pair]]\nbase = \"a\"\n[[run]]\npatches = []",
        &["pair 0", "twice"],
    );
    refused(
        "targets = [\" Rome\"]\n[[pair]]\nbase = \"\"\n[[run]]\npatches = []",
        &["pair 0", "base prompt is empty"],
    );
    refused(
        &format!(
            "targets = [\" Rome\"]\n[[pair]]\nbase = \"a\"\n[[run]]\npatches = [{{ {v}, positions = [0] }}]"
        ),
        &["reads a source prompt", "give one"],
    );
    patch(
        "component = \"hook_v\", layer = 1, positions = [3]",
        &["head_value_output", "heads are 0 to 3"],
    );
    patch(
        "component = \"hook_v\", heads = [0], positions = [3]",
        &["needs a layer", "0 to 4"],
    );
    patch(
        "component = \"hook_v.1\", layer = 2, heads = [0], positions = [3]",
        &["run 0, patch 0", "layer 1", "2"],
    );
    patch(
        "component = \"value_output\", layer = 1, heads = [0], positions = [3]",
        &["has no heads", "head_value_output"],
    );
    patch(
        "component = \"final_output\", layer = 1, positions = [3]",
        &["outside the layers"],
    );
    patch(
        "component = \"hook_v\", layer = 7, heads = [0], positions = [3]",
        &["layer 7", "0 to 4"],
    );
    patch(
        "component = \"hook_v\", layer = 1, heads = [4], positions = [3]",
        &["head 4", "0 to 3"],
    );
    patch(&format!("{v}, positions = [5]"), &["position 5", "0 to 4"]);
    patch(&format!("{v}, positions = []"), &["needs positions"]);
    patch(&format!("{v}, positions = [3, 3]"), &["position 3 twice"]);
    patch(
        "component = \"hook_v\", layer = 1, heads = [2, 2], positions = [3]",
        &["head 2 twice"],
    );
    patch(
        "component = \"hook_pattern\", layer = 1, heads = [0], positions = [3], keys = [1, 1]",
        &["key 1 twice"],
    );
    patch(
        "component = \"hook_pattern\", layer = 1, heads = [0], positions = [2], keys = [3]",
        &["masked at key 3"],
    );
    patch(
        "component = \"hook_pattern\", layer = 1, heads = [0], positions = [2], source_positions = [3]",
        &["same query position"],
    );
    patch(
        &format!("{v}, positions = [3], keys = [1]"),
        &["has no keys"],
    );
    patch(
        &format!("{v}, positions = [3], source_heads = [1, 2]"),
        &["1 heads but 2 source_heads"],
    );
    patch(
        &format!("{v}, positions = [3], source_positions = [9]"),
        &["position 9", "only 5 tokens"],
    );
    patch(
        &format!("{v}, positions = [3], source_layer = 9"),
        &["layer 9", "0 to 4"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"scale\""),
        &["`scale` needs alpha"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"scale\", alpha = nan"),
        &["finite"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"set\""),
        &["`set` needs value"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"set\", value = \"none.safetensors#x\""),
        &["run 0, patch 0", "none.safetensors"],
    );
    patch(
        &format!("{v}, positions = [3], alpha = 1.0"),
        &["`interchange` takes no alpha"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"zero\", source_layer = 1"),
        &["`zero` takes no source_layer"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"mean\""),
        &["mean_ids"],
    );
    patch(
        &format!("{v}, positions = [3], op = \"mean\", mean_ids = []"),
        &["at least one prompt"],
    );
}

#[test]
fn experiments_have_metrics_and_averages() {
    let lab = Lab::new();
    lab.write(
        "e.toml",
        "[[pair]]\nbase = \"The capital of Spain is\"\nsource = \"The capital of Italy is\"\n\
         targets = [\" Madrid\"]\nwrong_targets = [\" Rome\"]\n\
         [[pair]]\nbase = \"The capital of Italy is\"\nsource = \"The capital of Spain is\"\n\
         targets = [\" Rome\"]\nwrong_target_ids = [948]\n\
         [[run]]\nname = \"all\"\npatches = [{ component = \"block_input\", layer = 0, positions = [0, 1, 2, 3, 4] }]\n",
    );
    let rows = lab.rows("run", &["e.toml", "--metric", "recovery_logit_diff,top1"]);
    for row in &rows {
        assert!((row.metrics[0] - 1.0).abs() < 1e-5, "{row:?}");
        assert_eq!(row.metrics[1], 0.0);
    }
    let averages = lab.read("t.summary.csv");
    assert_eq!(averages.lines().count(), 2);
    assert!(
        averages
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("all,block_input,0,"),
        "{averages}"
    );
}

#[test]
fn what_is_collected_goes_to_its_file() {
    let lab = Lab::new();
    let text = r#"
        [[pair]]
        base = "The capital of Spain is"
        [[run]]
        patches = [
            { component = "head_value_output", layer = 1, heads = [0, 2], positions = "all", op = "collect" },
            { component = "attention_weight", layer = 0, heads = [1], positions = ["end"], op = "collect" },
        ]
    "#;
    lab.write("e.toml", text);
    lab.ok(&["run", "e.toml", "--collect", "c.safetensors"]);
    lab.ok(&[
        "cache",
        BASE,
        "--component",
        "head_value_output,attention_weight",
        "--layers",
        "0-1",
        "--out",
        "all.safetensors",
    ]);
    let read = |file: &str| std::fs::read(lab.path(file)).unwrap();
    let (some, all) = (read("c.safetensors"), read("all.safetensors"));
    let some = safetensors::SafeTensors::deserialize(&some).unwrap();
    let all = safetensors::SafeTensors::deserialize(&all).unwrap();
    let (values, pattern) = (some.tensor("0.0.0").unwrap(), some.tensor("0.0.1").unwrap());
    assert_eq!(
        (values.shape(), pattern.shape()),
        (&[2, 5, 32][..], &[1, 1, 5][..])
    );
    let cached = all.tensor("head_value_output.1").unwrap();
    let head = 5 * 32 * 4;
    assert_eq!(values.data()[..head], cached.data()[..head]);
    assert_eq!(values.data()[head..], cached.data()[2 * head..3 * head]);
    let cached = all.tensor("attention_weight.0").unwrap();
    assert_eq!(pattern.data(), &cached.data()[(25 + 20) * 4..(25 + 25) * 4]);

    lab.refused(&["run", "e.toml"], &["give --collect F.safetensors"]);
    let other = ["run", "e.toml", "--collect", "x.npz"];
    lab.refused(&other, &["must end in .safetensors"]);
    let nothing = ["sweep", "--collect", "x.safetensors"];
    lab.refused(&nothing, &["there is none: leave it out"]);
}
