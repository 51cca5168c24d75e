//! What people read: prompts as they were written, and nothing that drives a terminal.

use crate::lab::Lab;

#[test]
fn prompts_do_not_drive_the_terminal() {
    let lab = Lab::new();
    let prompts = ["--base", "a\u{1b}[31mb", "--source", "a\u{1b}[31mc"];
    let said = lab.ok(&[&["sweep", "--layers", "0"], &prompts[..]].concat());
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
    for line in ["base:   a\\u{1b}[31mb\n", "source: a\\u{1b}[31mc\n"] {
        assert!(said.out.contains(line), "{said:?}");
    }
}

#[test]
fn prompts_beyond_ascii_are_readable() {
    let lab = Lab::new();
    let prompts = ["--base", "東京 é", "--source", "東亰 é"];
    let flags = ["sweep", "--layers", "0", "--out", "t.csv"];
    let said = lab.ok(&[&flags, &prompts[..]].concat());
    for line in [
        "base:   東京 é\n",
        "source: 東亰 é\n",
        "base    “東京 é”",
        "source  “東亰 é”",
    ] {
        assert!(said.out.contains(line), "{said:?}");
    }
    // a table keeps its prompts
    let made = lab.table("t.csv").provenance;
    assert_eq!(made.pairs[0].base_text.as_deref(), Some("東京 é"));
    assert_eq!(made.pairs[0].source_text.as_deref(), Some("東亰 é"));
}
