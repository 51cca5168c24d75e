//! How tokens and components are spelt where a person reads them.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::site::Component;

/// A raw token as one visible word: spaces as `_`, a newline as `\n`, and everything that would not
/// show, or would drive the terminal, as an escape.
#[must_use]
pub fn token_label(raw: &str) -> String {
    let mut label = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            ' ' => label.push('_'),
            '\n' => label.push_str("\\n"),
            '\r' => label.push_str("\\r"),
            '\t' => label.push_str("\\t"),
            // Control characters, and those without a width: marks that would join their
            // neighbour, joiners, and the overrides of writing direction.
            _ if c.is_control() || c.width().unwrap_or(0) == 0 => {
                let _ = write!(label, "\\u{{{:x}}}", u32::from(c));
            }
            _ => label.push(c),
        }
    }
    label
}

/// A prompt or other running text for people: as it is, but with nothing in it that breaks a line or
/// drives the terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.split(' ')
        .map(token_label)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` cut to `limit` columns, the last of them `…` where something is missing.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > limit {
            break;
        }
        used += wide;
        short.push(c);
    }
    if limit > 0 {
        short.push('…');
    }
    short
}

/// The component of this name; a result file may hold others.
fn known(name: &str) -> Option<Component> {
    Component::all().find(|component| component.name() == name)
}

/// The place of a component in a forward pass; unknown ones come last.
pub(super) fn component_rank(name: &str) -> usize {
    known(name).map_or(usize::MAX, |component| component as usize)
}

/// A component's short name; an unknown one's whole name.
pub(super) fn component_short(name: &str) -> &str {
    known(name).map_or(name, |component| component.short())
}

/// Whether the component exists once in each layer. Unknown ones are taken to.
pub(super) fn component_layered(name: &str) -> bool {
    known(name).is_none_or(|component| !component.is_global())
}

/// A row's label: `v3`, `ln1.3`, `final`.
pub fn site_label(component: &str, layer: Option<u32>) -> String {
    let short = component_short(component);
    match layer {
        None => short.to_owned(),
        Some(layer) if short.ends_with(|c: char| c.is_ascii_digit()) => format!("{short}.{layer}"),
        Some(layer) => format!("{short}{layer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_show_what_would_not() {
        assert_eq!(token_label(" Madrid"), "_Madrid");
        assert_eq!(token_label("\n\n"), "\\n\\n");
        assert_eq!(token_label("\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(token_label("\u{202e}abc"), "\\u{202e}abc");
        assert_eq!(token_label("é中"), "é中");
    }

    #[test]
    fn long_labels_are_cut_to_their_columns() {
        assert_eq!(shorten("_capital", 5), "_cap…");
        assert_eq!(shorten("_is", 3), "_is");
        assert_eq!(width(&shorten("中中中中", 5)), 5);
        assert_eq!(shorten("ab", 0), "");
    }

    #[test]
    fn rows_are_named_as_in_the_reference_plot() {
        assert_eq!(site_label("head_value_output", Some(3)), "v3");
        assert_eq!(site_label("head_attention_value_output", Some(11)), "ov11");
        assert_eq!(site_label("ln_1_normalized", Some(3)), "ln1.3");
        assert_eq!(site_label("final_output", None), "final");
    }
}
