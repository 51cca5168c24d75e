//! Spaces that were forgotten or left over: a token mostly begins with the space before its word, so that
//! `Madrid` and ` Madrid` are two, and a prompt that ends in a space is followed by words without one.

use super::Engine;
use crate::patch::Prompt;
use crate::prompt::pair::Pair;
use crate::text::counted;

/// What is said of one pair, and a word of it for a list of several.
struct Doubt {
    pair: usize,
    example: String,
    sentence: String,
}

impl Engine {
    /// What prompts and answers may be meant to be otherwise, a line each; of several pairs how many these
    /// are, and the first.
    pub fn spaces<'p>(&self, pairs: impl Iterator<Item = &'p Pair>) -> Vec<String> {
        let (mut ends, mut begins) = (Vec::new(), Vec::new());
        let mut count = 0;
        for (index, pair) in pairs.enumerate() {
            let row = pair.row.as_ref().map_or(index, |row| row.number as usize);
            ends.extend(self.ends(pair, row));
            begins.extend(self.begins(pair, row));
            count += 1;
        }
        if count == 1 {
            let said = ends.into_iter().chain(begins.into_iter().take(1));
            return said.map(|doubt| doubt.sentence).collect();
        }
        let all = [
            ("prompts", ends, "that ends in a space, a token of its own"),
            ("targets", begins, "without a space before it"),
        ];
        let said = all.into_iter().filter_map(|(what, mut doubts, how)| {
            doubts.dedup_by_key(|doubt| doubt.pair);
            let (pairs, first) = (doubts.len(), doubts.first()?);
            let Doubt { pair, example, .. } = first;
            let of = counted(count, "pair");
            Some(format!(
                "{what}: {pairs} of {of} have one {how}, the first {example} in row {pair}"
            ))
        });
        said.collect()
    }

    /// Prompts that end in a space.
    fn ends(&self, pair: &Pair, row: usize) -> Vec<Doubt> {
        let spaced = |prompt: &Prompt| {
            let last = pair.ids(*prompt).and_then(|ids| ids.last());
            let tokenizer = self.model.tokenizer.as_ref();
            let bytes = last.and_then(|id| tokenizer?.bytes(*id));
            bytes.is_some_and(|bytes| bytes.ends_with(b" "))
        };
        let doubt = |prompt| {
            let name = match &pair.source {
                Some(_) => format!("the {} prompt", pair.prompt_name(prompt)),
                None => "the prompt".to_owned(),
            };
            Doubt {
                pair: row,
                sentence: format!(
                    "{name} ends in a space, a token of its own: what follows begins without one"
                ),
                example: name,
            }
        };
        let prompts = [Prompt::Base, Prompt::Source].into_iter();
        prompts.filter(spaced).map(doubt).collect()
    }

    /// Answers that go on with the base's last word, and are tokens with a space before them too.
    fn begins(&self, pair: &Pair, row: usize) -> Vec<Doubt> {
        let Some(tokenizer) = &self.model.tokenizer else {
            return Vec::new();
        };
        // a word is seldom of more tokens
        let end = tokenizer.decode(&pair.base[pair.base.len().saturating_sub(8)..]);
        let word = end.rsplit(char::is_whitespace).next().unwrap_or_default();
        let cased = |c: char| c.is_lowercase() || c.is_uppercase();
        if !word.ends_with(cased) {
            return Vec::new();
        }
        let doubt = |id: u32| {
            let text = str::from_utf8(tokenizer.bytes(id)?).ok()?;
            let (spaced, _) = tokenizer.meant(text).filter(|_| text.starts_with(cased))?;
            Some(Doubt {
                pair: row,
                example: format!("`{text}`"),
                sentence: format!(
                    "target: `{text}` has no space before it, so it goes on with the word `{word}`; ` {text}` is a token too ({spaced})"
                ),
            })
        };
        pair.answers().into_iter().filter_map(doubt).collect()
    }
}
