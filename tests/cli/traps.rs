//! What goes wrong in pyvene without a word, and what is said here instead, or why it cannot happen.

use headlight::results::table::Row;

use crate::lab::{BASE, Lab, SOURCE, bits};

const V: &str = "component = \"head_value_output\", layer = 0, heads = [0]";
const TARGETS: &str = "targets = [\" Madrid\", \" Rome\"]\n";

fn pair(base: &str, source: Option<&str>) -> String {
    let source = source.map_or(String::new(), |s| format!("source = {s:?}\n"));
    format!("[[pair]]\nbase = {base:?}\n{source}")
}

fn experiment(pairs: &[String], patch: &str) -> String {
    let run = format!("[[run]]\npatches = [{{ {patch} }}]\n");
    format!("{TARGETS}{}{run}", pairs.concat())
}

fn reference() -> String {
    pair(BASE, Some(SOURCE))
}

/// The rows of one patch on some pairs.
fn rows(pairs: &[String], patch: &str) -> Vec<Row> {
    let lab = Lab::new();
    lab.write("e.toml", experiment(pairs, patch));
    lab.rows("run", &["e.toml"])
}

fn refused(pairs: &[String], patch: &str, needles: &[&str]) {
    let lab = Lab::new();
    lab.write("e.toml", experiment(pairs, patch));
    lab.refused(&["run", "e.toml", "--out", "t.csv"], needles);
}

/// There, a flat `[3, 4]` means source position 3 and base position 4.
#[test]
fn a_flat_list_of_positions_is_two_positions() {
    let one = [reference()];
    let flat = rows(&one, &format!("{V}, positions = [3, 4]"));
    let both = rows(
        &one,
        &format!("{V}, positions = [3, 4], source_positions = [3, 4]"),
    );
    let moved = rows(
        &one,
        &format!("{V}, positions = [4], source_positions = [3]"),
    );
    assert_eq!(bits(&flat), bits(&both));
    assert_ne!(bits(&flat), bits(&moved));
}

/// There, one row of locations for a batch writes the first example's result into every example.
#[test]
fn one_list_of_positions_serves_every_pair_with_its_own_values() {
    let patch = format!("{V}, positions = [3]");
    let pairs = [
        reference(),
        pair(
            "The capital of France is",
            Some("The capital of Germany is"),
        ),
    ];
    let together = rows(&pairs, &patch);
    let apart = [rows(&pairs[..1], &patch), rows(&pairs[1..], &patch)].concat();
    assert_eq!(bits(&together), bits(&apart));
    assert_ne!(bits(&together[..2]), bits(&together[2..]));
    // a pair that does not have the position is an error that names the pair
    let pairs = [reference(), pair("The capital", Some("The capital"))];
    refused(&pairs, &patch, &["pair 1", "position 3", "0 to 1"]);
}

/// There, a head site without a location patches the unsplit tensor: values overwrite queries.
#[test]
fn a_location_is_never_left_out() {
    let one = [reference()];
    refused(&one, V, &["e.toml:", "missing field `positions`"]);
    refused(
        &one,
        &format!("{V}, positions = []"),
        &["needs positions", "0 to 4"],
    );
    refused(
        &one,
        "component = \"head_value_output\", layer = 0, positions = [3]",
        &["needs heads", "0 to 3"],
    );
    // all of them is said in words, and is the values alone
    let all =
        "component = \"head_value_output\", layer = 0, heads = [0, 1, 2, 3], positions = \"all\"";
    let whole = "component = \"value_output\", layer = 0, positions = [0, 1, 2, 3, 4]";
    let queries = "component = \"query_output\", layer = 0, positions = [0, 1, 2, 3, 4]";
    assert_eq!(bits(&rows(&one, all)), bits(&rows(&one, whole)));
    assert_ne!(bits(&rows(&one, all)), bits(&rows(&one, queries)));
}

/// There, an interchange without a source changes nothing.
#[test]
fn an_interchange_needs_a_source() {
    let none = [pair(BASE, None)];
    let patch = format!("{V}, positions = [3]");
    refused(
        &none,
        &patch,
        &["`interchange`", "source prompt", "none", "give one"],
    );
    refused(
        &none,
        &format!("{patch}, source = \"other\""),
        &["\"other\"", "base, source"],
    );
    refused(
        &[reference()],
        &format!("{patch}, source_run = \"a\""),
        &["\"a\"", "no earlier run"],
    );
    // operators that read nothing need none
    assert_eq!(rows(&none, &format!("{patch}, op = \"zero\"")).len(), 2);
}

/// There, of duplicate positions the last one wins.
#[test]
fn a_position_is_named_once() {
    let one = [reference()];
    refused(
        &one,
        &format!("{V}, positions = [3, 3]"),
        &["position 3 twice", "two patches"],
    );
    refused(
        &one,
        &format!("{V}, positions = [3, -2]"),
        &["position 3 twice"],
    );
    // where each is read may repeat
    let read = format!("{V}, positions = [3, 4], source_positions = [3, 3]");
    assert_eq!(rows(&one, &read).len(), 2);
}

/// There, prompts of other lengths are padded on the left, which moves every position.
#[test]
fn prompts_of_other_lengths_are_never_padded() {
    let long = "Everyone knows that the capital of Spain is";
    let patch = "component = \"block_input\", layer = 0, positions = [-1]";
    let pairs = [pair(BASE, Some(SOURCE)), pair(long, Some(SOURCE))];
    let together = rows(&pairs, patch);
    let apart = [rows(&pairs[..1], patch), rows(&pairs[1..], patch)].concat();
    assert_eq!(bits(&together), bits(&apart));
    // a number beyond the source is an error with the way out; a name or an end is found in each
    let beyond = [pair(long, Some(SOURCE))];
    refused(
        &beyond,
        &format!("{V}, positions = [7]"),
        &[
            "position 7",
            "source prompt",
            "only 5 tokens",
            "source_positions",
        ],
    );
    let named = rows(&beyond, &format!("{V}, positions = [\"is\"]"));
    let numbered = rows(
        &beyond,
        &format!("{V}, positions = [-1], source_positions = [4]"),
    );
    assert_eq!(bits(&named), bits(&numbered));
    // words that stand nowhere in one of the prompts
    refused(
        &beyond,
        &format!("{V}, positions = [\"Spain\"]"),
        &["run 0, patch 0", "source prompt", "Spain"],
    );
}

/// A name or a layer that stands twice would be read once, or act twice, without a word.
#[test]
fn layers_and_runs_are_named_once() {
    let one = [reference()];
    let window = "component = \"mlp_output\", layers = [1, 2, 1], positions = [3]";
    refused(
        &one,
        window,
        &["run 0, patch 0", "layer 1 twice", "two patches"],
    );
    let step = |at: usize| {
        format!("[[run]]\nname = \"a\"\nstep = true\npatches = [{{ {V}, positions = [{at}] }}]\n")
    };
    let reader = "[[run]]\npatches = [{ component = \"block_output\", layer = 0, positions = [3], source_run = \"a\" }]\n";
    let lab = Lab::new();
    lab.write(
        "e.toml",
        [TARGETS, &reference(), &step(3), &step(4), reader].concat(),
    );
    let several = [
        "run 2, patch 0",
        "\"a\"",
        "several runs",
        "a name of its own",
    ];
    lab.refused(&["run", "e.toml", "--out", "t.csv"], &several);
    lab.write("e.toml", [TARGETS, &reference(), &step(3), reader].concat());
    assert_eq!(lab.rows("run", &["e.toml"]).len(), 2);
}

/// All positions of prompts of other lengths.
#[test]
fn all_positions_are_as_many_in_the_source() {
    let long = [pair(
        "Everyone knows that the capital of Spain is",
        Some(SOURCE),
    )];
    let needles = [
        "run 0, patch 0",
        "in the base prompt and 5 in the source prompt",
        "source_positions",
    ];
    refused(&long, &format!("{V}, positions = \"all\""), &needles);
    assert_eq!(
        rows(&long, &format!("{V}, positions = \"all\", op = \"zero\"")).len(),
        2
    );
}
