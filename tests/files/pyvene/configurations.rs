//! Configurations that pyvene would run otherwise than they read, or not at all: one sentence each.

use serde_json::{Value, json};

use super::folder;
use crate::lab::{Lab, fixture};

/// A save of the fixtures, copied, with its configuration changed.
fn changed(lab: &Lab, name: &str, change: impl Fn(&mut Value)) {
    let to = lab.path("saved");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(folder().join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value = serde_json::from_str(&lab.read("saved/config.json")).unwrap();
    change(&mut config);
    lab.write("saved/config.json", config.to_string());
}

/// The command line for `saved`.
fn command(more: &[&str]) -> Vec<String> {
    let model = fixture("tied");
    let args = [
        "--model",
        &model,
        "import",
        "pyvene",
        "saved",
        "--base-ids",
        "5,17,60,3,88",
        "--target-ids",
        "4,31",
        "--out",
        "x.toml",
    ];
    let args = args.iter().chain(more).map(|arg| (*arg).to_owned());
    args.collect()
}

const SOURCE: [&str; 2] = ["--source-ids", "41,9,60,22,7"];

#[test]
fn what_pyvene_does_silently_wrong_is_refused() {
    let lab = Lab::new();
    let refused = |name: &str, change: &dyn Fn(&mut Value), more: &[&str], needles: &[&str]| {
        changed(&lab, name, change);
        lab.refused(&command(&[&SOURCE, more].concat()), needles);
    };
    let field = |index: usize, field: usize, value: Value| {
        move |c: &mut Value| c["representations"][index][field] = value.clone()
    };
    let none = |_: &mut Value| {};
    refused(
        "heads",
        &field(0, 2, json!("pos")),
        &["--heads", "0"],
        &["representation 0", "h.pos"],
    );
    refused("heads", &none, &[], &["--heads"]);
    refused(
        "heads",
        &none,
        &["--heads", "5"],
        &["head 5 is out of range"],
    );
    refused(
        "vanilla",
        &field(0, 2, json!("h.pos")),
        &[],
        &["use unit pos"],
    );
    refused(
        "vanilla",
        &none,
        &["--heads", "0"],
        &["no representation has heads"],
    );
    refused(
        "vanilla",
        &field(0, 0, json!(7)),
        &[],
        &["layer 7 is out of range", "0 to 2"],
    );
    refused("vanilla", &field(0, 1, json!("../x")), &[], &["`../x`"]);
    refused(
        "vanilla",
        &none,
        &["--positions", "4,-1"],
        &["4 and -1 are the same token"],
    );
    refused("vanilla", &none, &["--positions", "9"], &["position 9"]);
    refused(
        "vanilla",
        &none,
        &["--positions", "3,4", "--source-positions", "1"],
        &["each of the 2"],
    );
    refused(
        "vanilla",
        &none,
        &["--columns", "99"],
        &["column 99", "0 to 31"],
    );
    refused(
        "vanilla",
        &none,
        &["--subspaces", "0"],
        &["no subspace_partition"],
    );
    refused(
        "vanilla",
        &none,
        &["--positions", "1", "--positions", "2"],
        &["2 times for 1"],
    );
    refused(
        "rotated",
        &none,
        &["--subspaces", "2"],
        &["subspace 2 is out of range", "0 to 1"],
    );
    refused(
        "rotated",
        &field(0, 3, json!(2)),
        &[],
        &["max_number_of_units is 2"],
    );
    refused(
        "boundless",
        &none,
        &["--columns", "3"],
        &["ignores subspaces"],
    );
    refused(
        "pattern",
        &none,
        &["--heads", "0", "--positions", "2"],
        &["all positions"],
    );
    refused(
        "skip",
        &field(0, 1, json!("value_output")),
        &[],
        &["another activation"],
    );
    refused(
        "serial",
        &none,
        &["--source-ids", "1,2", "--source-ids", "1,2"],
        &["3 source prompts", "read 2"],
    );
    let grouped = |a: Value, b: Value| {
        move |c: &mut Value| {
            (c["representations"][0][8], c["representations"][1][8]) = (a.clone(), b.clone());
        }
    };
    refused(
        "serial",
        &grouped(json!(0), json!(0)),
        &[],
        &["representation 1", "serial mode"],
    );
    refused(
        "two_sources",
        &grouped(json!(0), json!(2)),
        &[],
        &["group_key is 2"],
    );
    refused(
        "two_sources",
        &grouped(json!(0), Value::Null),
        &[],
        &["no group_key"],
    );
    let linked = |c: &mut Value| {
        (c["representations"][0][9], c["representations"][1][9]) = (json!("a"), json!("a"));
    };
    refused(
        "two_sources",
        &linked,
        &[],
        &["link key is representation 0's too"],
    );
    refused("two_sources", &field(0, 10, json!(1)), &[], &["moe_key"]);
    let two_paths = |c: &mut Value| {
        c["representations"][0] = json!([1, "mlp_output"]);
        c["representations"][1] = json!([0, "h[1].mlp.c_proj.output"]);
    };
    refused(
        "two_sources",
        &two_paths,
        &[],
        &["representation 1", "another module"],
    );
    refused(
        "low_rank",
        &field(0, 12, json!(true)),
        &[],
        &["source_representation", "ignores"],
    );
    refused(
        "autoencoder",
        &|c| c["intervention_dimensions"][0] = json!(77),
        &[],
        &["latent [77] of 40", "--columns"],
    );
    refused(
        "rotated",
        &|c| c["intervention_dimensions"][0] = json!(0),
        &[],
        &["interchange_dim is 0"],
    );
    refused(
        "rotated",
        &|c| c["intervention_dimensions"] = json!([1, 2]),
        &[],
        &["2 entries for 1"],
    );
    refused(
        "rotated",
        &|c| c["intervention_types"][0] = json!("<class '__main__.Mine'>"),
        &[],
        &["`<class '__main__.Mine'>`"],
    );
    let foreign = "<class 'mine.RotatedSpaceIntervention'>";
    refused(
        "rotated",
        &|c| c["intervention_types"][0] = json!(foreign),
        &[],
        &["none of pyvene's own"],
    );
    refused("rotated", &|c| c["mode"] = json!("both"), &[], &["`both`"]);
    refused(
        "rotated",
        &|c| c["model_type"] = json!("LlamaModel"),
        &[],
        &["`LlamaModel`", "GPT-2"],
    );
    refused(
        "rotated",
        &field(0, 1, json!("model.layers[1].output")),
        &[],
        &["module path"],
    );
    refused(
        "rotated",
        &field(0, 1, json!("mlp_activation")),
        &[],
        &["cannot read", "intkey_layer_1_comp_mlp_activation"],
    );
    refused(
        "noise",
        &none,
        &["--positions", "0,1"],
        &["has 4 rows", "2 positions"],
    );
}

#[test]
fn files_that_are_not_as_they_should_be_are_refused() {
    let lab = Lab::new();
    let same = |_: &mut Value| {};
    let refused = |needles: &[&str]| lab.refused(&command(&SOURCE), needles);
    lab.refused(&command(&SOURCE), &["cannot read", "config.json"]);
    // pyvene saves neither of these
    for name in ["pca", "noise"] {
        changed(&lab, name, same);
        std::fs::remove_file(
            lab.path("saved/intkey_layer_1_comp_block_output_unit_pos_nunit_1#0.bin"),
        )
        .or_else(|_| {
            std::fs::remove_file(
                lab.path("saved/intkey_layer_0_comp_block_input_unit_pos_nunit_1#0.bin"),
            )
        })
        .unwrap();
        refused(&["save writes none", "torch.save("]);
    }
    // another width
    changed(&lab, "low_rank", same);
    let key = "saved/intkey_layer_1_comp_mlp_output_unit_pos_nunit_1#0.bin";
    let other =
        folder().join("sigmoid_mask/intkey_layer_1_comp_mlp_activation_unit_pos_nunit_1#0.bin");
    std::fs::copy(other, lab.path(key)).unwrap();
    refused(&["is of 128 numbers", "has 32", "--model"]);
    let other = folder()
        .join("sigmoid_mask_rotated/intkey_layer_1_comp_attention_output_unit_pos_nunit_1#0.bin");
    std::fs::copy(&other, lab.path("saved/pytorch_model.bin")).unwrap();
    refused(&[
        "pytorch_model.bin",
        "parameters of the model itself",
        "--model",
    ]);
    // a model that happens to be called as the parameters would be
    changed(&lab, "low_rank", same);
    lab.write("x.safetensors", "somebody's");
    refused(&["x.safetensors is there already"]);
    std::fs::remove_file(lab.path("x.safetensors")).unwrap();
    lab.ok(&command(&SOURCE));
    // one's own may be written again
    lab.ok(&command(&SOURCE));
    changed(&lab, "vanilla", same);
    lab.refused(&command(&[]), &["0 source prompts", "--source"]);
}

#[test]
fn targets_are_the_top_tokens_unless_given() {
    let lab = Lab::new();
    changed(&lab, "vanilla", |_| {});
    let args = command(&SOURCE);
    let args: Vec<&String> = args
        .iter()
        .filter(|arg| !["--target-ids", "4,31"].contains(&&arg[..]))
        .collect();
    lab.ok(&args);
    let written: toml::Table = lab.read("x.toml").parse().unwrap();
    let targets = written["target_ids"].as_array().unwrap().len();
    assert!((1..=2).contains(&targets), "{targets}");
}
