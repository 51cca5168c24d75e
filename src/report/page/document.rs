//! The file itself: a template, the description as JSON, the numbers in base64, the styles and the script, and a
//! policy by which the browser runs and loads nothing else.

use sha2::{Digest, Sha256};

use super::about::About;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// The script's files in order, in one scope of their own.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("data.js"),
    include_str!("colour.js"),
    include_str!("state.js"),
    include_str!("facet.js"),
    include_str!("drawing.js"),
    include_str!("grids.js"),
    include_str!("heads.js"),
    include_str!("graph.js"),
    include_str!("rerun.js"),
    include_str!("pins.js"),
    include_str!("strongest.js"),
    include_str!("downloads.js"),
    include_str!("controls.js"),
    include_str!("main.js"),
    "})();\n"
);

/// What a page embeds.
#[derive(Debug, Default)]
pub(super) struct Embedded {
    /// View by view, column by column, target by target.
    pub cells: Vec<f32>,
    /// Of the mean over pairs, what the base has in the same pairs, cell by cell.
    pub bases: Vec<f32>,
    /// Sender, receiver and position of each edge; 2³² − 1 for every position.
    pub edges: Vec<u32>,
}

/// The page.
pub(super) fn html(about: &About, numbers: &Embedded) -> String {
    let hash = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text.as_bytes())));
    let mut page = String::new();
    // what is filled in is not looked at again
    for (i, part) in TEMPLATE.split("{{").enumerate() {
        let rest = match part.split_once("}}") {
            Some((name, rest)) if i > 0 => {
                match name {
                    "policy" => {
                        page.push_str("default-src 'none'; img-src data: blob:; style-src ");
                        page.push_str(&hash(STYLE));
                        page.push_str("; script-src ");
                        page.push_str(&hash(SCRIPT));
                        page.push_str("; base-uri 'none'; form-action 'none'");
                    }
                    "title" => page.push_str(&escaped(&name_of(about))),
                    "style" => page.push_str(STYLE),
                    "script" => page.push_str(SCRIPT),
                    "about" => page.push_str(&json(about)),
                    "cells" => page.push_str(&base64(&bytes(&numbers.cells, f32::to_le_bytes))),
                    "bases" => page.push_str(&base64(&bytes(&numbers.bases, f32::to_le_bytes))),
                    "edges" => page.push_str(&base64(&bytes(&numbers.edges, u32::to_le_bytes))),
                    _ => {}
                }
                rest
            }
            _ => part,
        };
        page.push_str(rest);
    }
    page
}

/// What the browser's window is called.
fn name_of(about: &About) -> String {
    let first = about.title.iter().find(|(label, _)| *label == "base");
    match first {
        Some((_, text)) => format!("{text} – headlight"),
        None => "headlight".to_owned(),
    }
}

/// JSON in which nothing ends or begins an element.
fn json(about: &About) -> String {
    // text and numbers, which always serialise
    let text = serde_json::to_string(about).unwrap_or_default();
    text.replace('<', "\\u003c")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn bytes<T: Copy>(numbers: &[T], of: fn(T) -> [u8; 4]) -> Vec<u8> {
    numbers.iter().copied().flat_map(of).collect()
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            text.push(match i <= three.len() {
                true => char::from(DIGITS[(all >> (18 - 6 * i)) as usize & 63]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, coded) in vectors {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }

    /// An element of a script ends at `</script`, whatever stands round it.
    #[test]
    fn neither_script_nor_style_ends_its_element() {
        for end in ["</script", "<!--"] {
            assert!(!SCRIPT.to_lowercase().contains(end));
        }
        assert!(!STYLE.to_lowercase().contains("</style"));
    }
}
