//! What can be asked for is listed, defaults are said, and a suggestion is what was meant.

use headlight::site::Component;

use crate::lab::{Lab, fixture};

#[test]
fn components_are_listed_with_names_aliases_shapes_and_meanings() {
    let lab = Lab::new();
    let list = lab.ok(&["components"]).out;
    for component in Component::all() {
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(component.name()));
        let line = line.unwrap_or_else(|| panic!("{component} is not listed"));
        assert!(line.ends_with(component.meaning()), "{line}");
    }
    for says in [
        "head_value_output            0-4     [positions, 4, 32]    a head's value\n  or blocks.L.attn.hook_v, hook_v\n",
        "block_output                 0-4     [positions, 128]      residual stream that leaves the layer\n  or blocks.L.hook_resid_post, hook_resid_post\n",
        "token_embedding              –       [positions, 128]      row of the token embedding table\n  or hook_embed\n",
        "attention_weight             0-4     [positions, 4, keys]",
        "A layer may stand in the name: head_value_output.4 or blocks.4.attn.hook_v.",
    ] {
        assert!(list.contains(says), "{says}\n{list}");
    }
    // of the model at hand
    let model = fixture("tied");
    let other = lab.ok(&["components", "--model", &model]).out;
    assert!(other.contains("head_value_output") && other != list);
    for command in ["sweep", "cache", "trace"] {
        assert_eq!(
            lab.ok(&[command, "--component", "help"]).out,
            list,
            "{command}"
        );
        let said = lab.ok(&[command, "--component=help", "--model", &model]);
        assert_eq!(said.out, other, "{command}");
    }
}

/// What a command does without a flag stands behind it.
#[test]
fn help_says_defaults() {
    let lab = Lab::new();
    let everywhere = ["model", "device", "precision", "threads", "memory"];
    let pairs = ["base", "source", "targets", "metric", "direction", "out"];
    for (command, flags) in [
        (
            "sweep",
            &[
                "component",
                "layers",
                "heads",
                "positions",
                "op",
                "columns",
                "basis",
                "seed",
                "colour",
            ][..],
        ),
        ("edges", &["senders", "receivers"]),
        (
            "path",
            &[
                "senders",
                "receivers",
                "positions",
                "receiver-positions",
                "freeze",
            ],
        ),
        (
            "trace",
            &["component", "window", "samples", "noise", "seed", "colour"],
        ),
    ] {
        let help = lab.ok(&[command, "--help"]).out;
        let of_pairs = pairs
            .iter()
            .filter(|flag| command != "trace" || !["base", "source"].contains(flag));
        for flag in flags.iter().chain(&everywhere).chain(of_pairs) {
            let (_, said) = help
                .split_once(&format!("\n      --{flag} "))
                .unwrap_or_else(|| panic!("{command} {flag}"));
            let said = said.split("\n      --").next().unwrap();
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                said.contains("[default: ") || said.contains("unless given"),
                "{command} --{flag} {said}"
            );
        }
    }
    for (command, flag) in [
        ("topk", "number"),
        ("topk", "format"),
        ("cache", "layers"),
        ("plot", "value"),
    ] {
        let help = lab.ok(&[command, "--help"]).out;
        let (_, said) = help.split_once(&format!("--{flag} <")).unwrap();
        let said = said.split("\n      --").next().unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("[default: ") || said.contains("unless given"),
            "{command} --{flag}"
        );
    }
}

#[test]
fn negative_positions_work_as_written() {
    let lab = Lab::new();
    let narrow = ["--component", "hook_v", "--layers", "0", "--heads", "0"];
    let rows = |positions: &[&str]| {
        let rows = lab.sweep(&[&narrow[..], positions].concat());
        rows.iter()
            .map(|row| (row.position, row.prob.to_bits()))
            .collect::<Vec<_>>()
    };
    let of = rows(&["--positions", "3,4"]);
    assert_eq!(rows(&["--positions", "-2,-1"]), of);
    assert_eq!(rows(&["--positions=-2,-1"]), of);
    assert_eq!(rows(&["--positions", "-2,end"]), of);
    lab.ok(&[
        "path",
        "--positions",
        "-2,-1",
        "--receiver-positions",
        "-1,-2",
    ]);
    // a flag whose value was forgotten does not take the next one
    lab.refused(
        &["sweep", "--positions", "--layers", "0", "--out", "t.csv"],
        &["--positions"],
    );
}

#[test]
fn suggestions_are_what_was_meant() {
    let lab = Lab::new();
    let said = |args: &[&str]| lab.refused(args, &[]).err;
    for name in [
        "hook_resid",
        "hook_normal",
        "foo",
        "head_output",
        "attention",
        "hook_query",
        "mlp",
    ] {
        let said = said(&["sweep", "--component", name, "--out", "t.csv"]);
        let meant = name == "mlp";
        assert_eq!(said.contains("did you mean"), meant, "{said}");
        assert!(meant || said.contains("headlight components"), "{said}");
    }
    let slip = said(&["sweep", "--component", "hook_rseid_pre", "--out", "t.csv"]);
    assert!(slip.contains("did you mean `hook_resid_pre`?"), "{slip}");
    let preset = said(&["sweep", "--preset", "foo"]);
    assert!(
        !preset.contains("did you mean") && preset.contains("mlp_out, "),
        "{preset}"
    );
}
