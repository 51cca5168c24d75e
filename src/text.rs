//! Numbers and words as sentences spell them.

/// So many of a thing in running text: `1 run`, `3 runs`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// A number as shortly as it reads back to the same: `0.5`, `3`, `1e30`.
pub(crate) fn shortest(number: f64) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let runs = [0, 1, 2].map(|count| counted(count, "run"));
        assert_eq!(runs, ["0 runs", "1 run", "2 runs"]);
    }
}
