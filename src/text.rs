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

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A command as a shell reads it back.
pub(crate) fn command_line<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    let words = words.into_iter().map(|word| quoted(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// The known name that another is a slip of the hand from, or the beginning of: what is merely like it is
/// another thing.
pub(crate) fn slip_of<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // what all hooks begin with says nothing
    let bare = name.strip_prefix("hook_").unwrap_or(name);
    let begins = |known: &str| {
        let rest = known.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('_'))
    };
    let known: Vec<&str> = known.collect();
    // the beginning of several names is that of none
    let beginning = known.iter().filter(|known| begins(known)).count() == 1;
    let far = |known: &str| match beginning && begins(known) {
        true => 0,
        false => strsim::osa_distance(known, name),
    };
    let most = match bare.chars().count() {
        0..=1 => 0,
        2..=5 => 1,
        _ => 2,
    };
    let nearest = *known.iter().min_by_key(|known| (far(known), known.len()))?;
    let (slips, same_length) = (far(nearest), nearest.len() == name.len());
    // one letter for another makes another short name
    let another = most == 1 && same_length && bare.len() < 4;
    (slips <= most && !another).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_shell() {
        assert_eq!(quoted("runs/ioi/"), "runs/ioi/");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted(" Madrid, Rome"), "' Madrid, Rome'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        let line = command_line(["topk", "The capital of Spain is", "--top=3"]);
        assert_eq!(line, "topk 'The capital of Spain is' --top=3");
    }

    #[test]
    fn a_slip_is_no_other_name() {
        let known = [
            "hook_pre",
            "hook_post",
            "hook_z",
            "mlp_out",
            "head_value_output",
        ];
        let slip = |name| slip_of(name, known.into_iter());
        for (name, meant) in [
            ("hook_zz", "hook_z"),
            ("hook_psot", "hook_post"),
            ("mlp_uot", "mlp_out"),
            ("head_value_ouput", "head_value_output"),
            ("head_value", "head_value_output"),
            ("mlp", "mlp_out"),
        ] {
            assert_eq!(slip(name), Some(meant), "{name}");
        }
        for name in [
            "foo",
            "hook_result",
            "hook_q",
            "hook_",
            "hook_x",
            "resid",
            "",
            "mlp_in",
            "pre",
        ] {
            assert_eq!(slip(name), None, "{name}");
        }
    }

    #[test]
    fn one_is_singular() {
        let runs = [0, 1, 2].map(|count| counted(count, "run"));
        assert_eq!(runs, ["0 runs", "1 run", "2 runs"]);
    }
}
