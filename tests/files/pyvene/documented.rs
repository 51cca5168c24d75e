//! Every command of docs/pyvene.md, run as it stands there.

use crate::lab::Lab;

/// A command line's words, double quotes keeping them together.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('"').enumerate();
    let words = parts.flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn commands_of_the_page_run() {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = std::fs::read_to_string(format!("{root}/docs/pyvene.md")).unwrap();
    let lab = Lab::new();
    std::fs::create_dir(lab.path("saved")).unwrap();
    let config = std::fs::read(format!("{root}/tests/data/saved/config.json")).unwrap();
    lab.write("saved/config.json", config);
    let commands = page
        .lines()
        .filter_map(|line| line.strip_prefix("headlight "));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for command in commands {
        lab.ok(&words(command));
    }
    // the fact moves, as in the README
    let rows = lab.table("results.csv").rows;
    assert_eq!(rows.len(), 2);
    assert!(
        &*rows[0].target == " Madrid" && rows[0].prob < 0.01,
        "{rows:?}"
    );
    assert!(
        &*rows[1].target == " Rome" && rows[1].prob > 0.9,
        "{rows:?}"
    );
    // the default name is the folder's, and is not written over
    assert!(lab.read("saved.toml").contains("positions = [3, 4]"));
    let again = [
        "import", "pyvene", "saved", "--base", "a", "--source", "b", "--heads", "0",
    ];
    lab.refused(&again, &["saved.toml is there already", "--out"]);
}
