//! Where words stand in a tokenised prompt.

/// A prompt as bytes, with the end of each token.
pub struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Why words do not name a place. The sentence goes on from the prompt's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// They are not there.
    #[error(
        "does not contain {words:?}, and no span has that name: give a word of it, a span, end, or a number"
    )]
    Absent {
        /// As given.
        words: String,
    },
    /// They are there more than once.
    #[error("contains {words:?} {count} times: name one by a number, or by a span of tokens")]
    Several {
        /// As given.
        words: String,
        /// How often.
        count: usize,
    },
}

impl Words {
    /// A prompt of tokens; one without bytes is a gap that no word reaches over.
    pub fn new<'a>(tokens: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for token in tokens {
            // no text holds this byte
            bytes.extend_from_slice(token.unwrap_or(b"\xff"));
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    /// Tokens in the prompt.
    pub fn tokens(&self) -> usize {
        self.ends.len()
    }

    /// The first and the last token of some words, which must stand whole: `is` is not in `This`.
    ///
    /// # Errors
    ///
    /// [`WordsError`].
    pub fn find(&self, words: &str) -> Result<(usize, usize), WordsError> {
        match self.starts(words)[..] {
            [] => Err(WordsError::Absent {
                words: words.to_owned(),
            }),
            [start] => Ok(self.tokens_of(start, words)),
            ref several => Err(WordsError::Several {
                words: words.to_owned(),
                count: several.len(),
            }),
        }
    }

    /// The same of words that stand several times: the place at which they stand for the n-th time, from 0.
    ///
    /// # Errors
    ///
    /// [`WordsError::Absent`] where they do not stand so often.
    pub fn find_nth(&self, words: &str, n: usize) -> Result<(usize, usize), WordsError> {
        let start = self.starts(words).get(n).copied();
        let found = start.map(|start| self.tokens_of(start, words));
        found.ok_or_else(|| WordsError::Absent {
            words: words.to_owned(),
        })
    }

    /// How often words stand before a byte.
    pub fn count_before(&self, words: &str, byte: usize) -> usize {
        self.starts(words).partition_point(|start| *start < byte)
    }

    /// The first and the last token of words that begin at a byte.
    fn tokens_of(&self, start: usize, words: &str) -> (usize, usize) {
        let token = |byte: usize| self.ends.partition_point(|end| *end <= byte);
        (token(start), token(start + words.trim().len() - 1))
    }

    /// The bytes at which words stand whole.
    fn starts(&self, words: &str) -> Vec<usize> {
        let needle = words.trim().as_bytes();
        if needle.is_empty() {
            return Vec::new();
        }
        let joins = |a: Option<&u8>, b: Option<&u8>| {
            // bytes of other alphabets count as letters
            let letter = |byte: &u8| byte.is_ascii_alphanumeric() || (0x80..0xff).contains(byte);
            a.is_some_and(letter) && b.is_some_and(letter)
        };
        (0..=self.bytes.len().saturating_sub(needle.len()))
            .filter(|&start| {
                let end = start + needle.len();
                let before = start.checked_sub(1).and_then(|i| self.bytes.get(i));
                self.bytes.get(start..end) == Some(needle)
                    && !joins(before, needle.first())
                    && !joins(needle.last(), self.bytes.get(end))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_whole_and_once() {
        let prompt = Words::new(
            ["This", " is", " Zürich", ", is", " it", "?"]
                .map(|t| Some(t.as_bytes()))
                .into_iter(),
        );
        assert_eq!(prompt.find("This"), Ok((0, 0)));
        assert_eq!(prompt.find(" Zürich, is it"), Ok((2, 4)));
        assert_eq!(prompt.find("it?"), Ok((4, 5)));
        assert!(matches!(
            prompt.find("is"),
            Err(WordsError::Several { count: 2, .. })
        ));
        for absent in ["his", "Zü", "", " ", "it is"] {
            assert!(
                matches!(prompt.find(absent), Err(WordsError::Absent { .. })),
                "{absent}"
            );
        }
        let gap = Words::new([Some(b"a".as_slice()), None, Some(b"b")].into_iter());
        assert_eq!(gap.find("b"), Ok((2, 2)));
        assert!(gap.find("ab").is_err());
    }
}
