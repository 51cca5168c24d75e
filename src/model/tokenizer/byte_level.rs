//! GPT-2's byte alphabet: each byte has a printable character, and vocabularies are written in those.
//!
//! Printable Latin-1 stands for itself and the remaining bytes, in order, for U+0100 and up: a space
//! is `Ġ`, a newline `Ċ`. A token need not be whole UTF-8, which is why tokens are kept as bytes.

use std::fmt::Write;

/// The byte that `character` stands for.
pub(super) fn to_byte(character: char) -> Option<u8> {
    match character as u32 {
        code @ (33..=126 | 161..=172 | 174..=255) => Some(code as u8),
        code @ 256..=288 => Some((code - 256) as u8),
        code @ 289..=322 => Some((code - 289 + 127) as u8),
        323 => Some(173),
        _ => None,
    }
}

/// The bytes of a vocabulary entry; `None` where it is not written in the byte alphabet.
pub(super) fn to_bytes(token: &str) -> Option<Box<[u8]>> {
    token.chars().map(to_byte).collect()
}

/// Bytes as text: UTF-8 as it is, and each byte that belongs to none as `\xNN`.
pub(super) fn show(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing into a string does not fail.
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The character that stands for `byte`.
    fn to_char(byte: u8) -> char {
        let moved = match byte {
            0..=32 => byte as u32,
            127..=160 => byte as u32 - 127 + 33,
            173 => 67,
            _ => return char::from(byte),
        };
        char::from_u32(256 + moved).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    #[test]
    fn the_alphabet_is_a_bijection_and_that_of_the_tokenizers_crate() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let ours: std::collections::HashSet<char> = (0..=255).map(to_char).collect();
        assert_eq!((ours.len(), alphabet.len()), (256, 256));
        assert!(ours.iter().all(|c| alphabet.contains(c)));
        assert!((0..=255).all(|byte| to_byte(to_char(byte)) == Some(byte)));
        assert_eq!(
            (to_char(b' '), to_char(b'\n'), to_byte('é')),
            ('Ġ', 'Ċ', Some(0xe9))
        );
        assert!(
            (0..=0x2fff)
                .filter_map(char::from_u32)
                .filter_map(to_byte)
                .count()
                == 256
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_are_shown_in_hexadecimal() {
        assert_eq!(show("né\n".as_bytes()), "né\n");
        assert_eq!(show(&[b'a', 0xc3]), "a\\xC3");
        assert_eq!(show(&[0xa9, b'z', 0xf0, 0x9f]), "\\xA9z\\xF0\\x9F");
    }
}
