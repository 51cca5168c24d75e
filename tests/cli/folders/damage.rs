//! Parts whose bytes are not those that were written, though they decode.

use super::{COMMANDS, assert_same, lab, results, to};

/// One bit of a part's pages, far from its footer.
fn damage(lab: &crate::lab::Lab, part: &str) {
    let mut bytes = std::fs::read(lab.path(part)).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 4;
    std::fs::write(lab.path(part), bytes).unwrap();
}

#[test]
fn a_part_with_a_flipped_bit_is_computed_anew_and_never_merged() {
    let lab = lab(20);
    let args = to(COMMANDS[0].1, "d/", "300");
    lab.ok(&args);
    let wanted = results(&lab, "d");
    let part = wanted
        .keys()
        .find(|name| name.starts_with("part-"))
        .unwrap();
    damage(&lab, &format!("d/{part}"));
    lab.refused(
        &["merge", "d", "--out", "t.csv"],
        &[part, "its bytes are not those that were written"],
    );
    let said = lab.ok(&args);
    assert!(
        said.err.contains(&**part) && said.err.contains("computed anew"),
        "{}",
        said.err
    );
    assert_same(&lab, "d", &wanted, "after a part was damaged");
}
