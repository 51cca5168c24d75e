//! A checksum over every byte of a Parquet file, which stands in the file itself.
//!
//! Parquet has checksums for its pages, which the parquet crate reads and does not write, and none for its footer. So
//! a file of ours ends with the CRC-32 of all its bytes (IEEE 802.3, as in zip and PNG), as eight hexadecimal digits
//! among the footer's own metadata, for which zeros stand while it is computed. Other readers see one entry more.

use std::io::{self, Write};

use crc32fast::Hasher;

/// The entry's key.
pub(super) const KEY: &str = "headlight.crc32";

/// What stands in the digits' place until they are known.
pub(super) const BLANK: &str = "00000000";

/// The key as Thrift's compact protocol writes it, with what comes before the digits: field 2, text of eight bytes.
fn before_digits() -> Vec<u8> {
    [KEY.as_bytes(), &[0x18, 8]].concat()
}

/// Where the digits begin.
fn digits_at(bytes: &[u8]) -> Option<usize> {
    let before = before_digits();
    // the provenance may name the key, but text as JSON has no such control characters
    let at = bytes.windows(before.len()).rposition(|w| w == before)? + before.len();
    (at + BLANK.len() <= bytes.len()).then_some(at)
}

/// Bytes on the way to a file, of which the last are held back for the checksum.
pub(super) struct Sealed<W: Write> {
    out: W,
    crc: Hasher,
    held: Option<Vec<u8>>,
}

impl<W: Write> Sealed<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            crc: Hasher::new(),
            held: None,
        }
    }

    /// From here on the footer is written.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Writes what was held back, with the checksum in it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let mut footer = self.held.take().unwrap_or_default();
        let missing = || io::Error::other("the footer has no place for a checksum");
        let at = digits_at(&footer).ok_or_else(missing)?;
        self.crc.update(&footer);
        let digits = format!("{:08x}", self.crc.finalize());
        footer[at..at + BLANK.len()].copy_from_slice(digits.as_bytes());
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let written = self.out.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether a file has the bytes that were written; nothing where it has no checksum of ours.
pub(super) fn holds(bytes: &[u8]) -> Option<bool> {
    // a footer whose length was damaged is looked for everywhere
    let footer = footer_at(bytes);
    let in_footer = digits_at(&bytes[footer..]).map(|at| footer + at);
    let at = in_footer.or_else(|| digits_at(bytes))?;
    let (before, digits) = bytes.split_at(at);
    let (digits, after) = digits.split_at(BLANK.len());
    let mut crc = Hasher::new();
    crc.update(before);
    crc.update(BLANK.as_bytes());
    crc.update(after);
    Some(format!("{:08x}", crc.finalize()).as_bytes() == digits)
}

/// Where the footer begins, by what the end of the file says; the file's begin where that is nothing.
fn footer_at(bytes: &[u8]) -> usize {
    let Some((rest, end)) = bytes.split_last_chunk::<8>() else {
        return 0;
    };
    let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
    rest.len().saturating_sub(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(rows: &[u8], footer: &[u8]) -> Vec<u8> {
        let mut file = Sealed::new(Vec::new());
        file.write_all(rows).unwrap();
        file.hold();
        file.write_all(footer).unwrap();
        file.finish().unwrap()
    }

    /// A footer whose length stands behind it.
    fn footer() -> Vec<u8> {
        let mut footer = [
            b"schema, ",
            &before_digits()[..],
            BLANK.as_bytes(),
            b", names",
        ]
        .concat();
        footer.extend((footer.len() as u32).to_le_bytes());
        footer.extend(b"PAR1");
        footer
    }

    #[test]
    fn every_bit_counts() {
        let file = sealed(b"PAR1 rows headlight.crc32", &footer());
        assert_eq!(holds(&file), Some(true));
        let (mut noticed, mut unsealed) = (0, 0);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                match holds(&damaged) {
                    Some(true) => panic!("byte {at}, bit {bit}"),
                    Some(false) => noticed += 1,
                    None => unsealed += 1,
                }
            }
        }
        // the key itself: nothing else of the file is changed then
        assert_eq!(unsealed, 8 * before_digits().len());
        assert_eq!(noticed, 8 * file.len() - unsealed);
    }

    #[test]
    fn files_of_others_have_none() {
        assert_eq!(holds(b"PAR1PAR1"), None);
        assert_eq!(holds(b""), None);
        assert!(Sealed::new(Vec::new()).finish().is_err());
    }
}
