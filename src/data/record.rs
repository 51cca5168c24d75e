//! What the fields of a data set are called, and what they may hold.
//!
//! | field | also called | holds |
//! |---|---|---|
//! | `base` | `corrupted`, `corrupt` | the prompt that is patched (denoising): text, or a list of token ids |
//! | `source` | `clean` | the prompt that activations are taken from |
//! | `base_ids`, `source_ids` | | the same as token ids |
//! | `targets` | `target`, `answers`, `answer` | right answers: one text or several, each one token; numbers are token ids |
//! | `target_ids` | `correct_idx`, `answers_idx`, `clean_answer_idx`, `country_idx`, `capital_idx` | the same as token ids |
//! | `wrong_targets` | `wrong_target`, `wrong_answers`, `wrong_answer` | wrong answers |
//! | `wrong_target_ids` | `incorrect_idx`, `corrupted_answers_idx`, `corrupted_answer_idx`, `corrupted_country_idx`, `corrupted_capital_idx` | the same as token ids |
//! | `positions` | | where this pair is patched: numbers or names, as `--positions` takes them |
//! | `source_positions` | | where each of these is read in the source |
//! | `spans` | | named spans of the base: `{"subject": "Spain"}`, a token `3`, or first and last `[3, 4]` |
//! | `source_spans` | | the same spans in the source, where they are others |
//! | `id` | `prompt_id`, `case_id`, `known_id` | what the file calls the row: text or a number |
//!
//! Where `correct_idx` stands alone, or `label` and no other answer, it is the year of a Greater-Than row.
//!
//! Answers in a column `…_idx`, as EAP-IG's files have them, are all there are: texts beside them are the same answers
//! in words, without the space that a token may begin with.
//!
//! Fields with other names are passed over, as data sets carry labels and templates of their own; a
//! name that is one slip from a known one is an error, unless the row has that one too (`clean2` beside `clean`).

use std::path::Path;

use serde_json::Value;

use super::literal::literal;
use super::{Example, RowError, Span, SpanTokens, Token, facts, years};
use crate::prompt::pair::PromptText;
use crate::prompt::position::Position;

/// A row as its format gives it: named values.
pub struct Record<'a> {
    /// The file, for errors.
    pub path: &'a Path,
    /// `line 7` or `row 6`, for errors.
    pub place: &'a str,
    /// In file order.
    pub fields: Vec<(String, Value)>,
    /// Whether every value is text, as in CSV, so that lists are spelt in JSON.
    pub plain: bool,
}

/// Every field, its canonical name first.
const NAMES: [&[&str]; 12] = [
    &["base", "corrupted", "corrupt"],
    &["source", "clean"],
    &["base_ids"],
    &["source_ids"],
    &["targets", "target", "answers", "answer"],
    &[
        "target_ids",
        "correct_idx",
        "answers_idx",
        "clean_answer_idx",
        "country_idx",
        "capital_idx",
    ],
    &[
        "wrong_targets",
        "wrong_target",
        "wrong_answers",
        "wrong_answer",
    ],
    &[
        "wrong_target_ids",
        "incorrect_idx",
        "corrupted_answers_idx",
        "corrupted_answer_idx",
        "corrupted_country_idx",
        "corrupted_capital_idx",
    ],
    &["positions"],
    &["source_positions"],
    &["spans"],
    &["source_spans"],
];

/// Columns with which data sets name their rows.
const IDS: [&str; 4] = ["id", "prompt_id", "case_id", "known_id"];

/// Whether a field of this name is read.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.iter().any(|names| names.contains(&name))
}

/// A field that is there: its name as given, and its value.
type Given<'a> = Option<(&'a str, &'a Value)>;

impl Record<'_> {
    /// The example that the row means.
    ///
    /// # Errors
    ///
    /// [`RowError`] naming the first field that is wrong.
    pub fn example(mut self) -> Result<Example, RowError> {
        self.fields = facts::unfold(std::mem::take(&mut self.fields));
        self.check_names()?;
        let base = self.prompt("base", "base_ids")?.ok_or_else(|| {
            self.error(
                None,
                "has no base prompt: give base (or corrupted), or base_ids",
            )
        })?;
        let source = self.prompt("source", "source_ids")?;
        let (targets, wrong) = self.answers(&source)?;
        let positions = self.positions("positions")?;
        let source_positions = self.positions("source_positions")?;
        match (&positions, &source_positions) {
            (None, Some(_)) => {
                let problem = "is given without positions: give both or neither";
                return Err(self.error(Some("source_positions"), problem));
            }
            (Some(base), Some(source)) if base.len() != source.len() => {
                let (n, m) = (base.len(), source.len());
                let problem =
                    format!("has {m} positions where positions has {n}: give one for each");
                return Err(self.error(Some("source_positions"), problem));
            }
            _ => {}
        }
        Ok(Example {
            path: self.path.into(),
            place: self.place.into(),
            row: None,
            id: self.id(),
            base,
            source,
            targets,
            wrong,
            positions,
            source_positions,
            spans: self.spans()?,
            names: self.names()?,
        })
    }

    /// What the file calls the row, by the first of the names that such columns have.
    fn id(&self) -> Option<String> {
        IDS.iter().find_map(|name| {
            let (_, value) = self.fields.iter().find(|(given, _)| given == name)?;
            match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            }
        })
    }

    /// Right and wrong answers.
    fn answers(&self, source: &Option<PromptText>) -> Result<(Vec<Token>, Vec<Token>), RowError> {
        if let Some(year) = self.year(source)? {
            return Ok(years::answers(year));
        }
        let ids = |canonical| {
            let ids = self.ids(canonical)?.into_iter().flatten();
            Ok::<_, RowError>(ids.map(Token::Id))
        };
        let mut targets = self.in_words("targets", "target_ids")?;
        targets.extend(ids("target_ids")?);
        let mut wrong = self.in_words("wrong_targets", "wrong_target_ids")?;
        wrong.extend(ids("wrong_target_ids")?);
        Ok((targets, wrong))
    }

    /// Answers in words, where they are not those of a published file's ids over again.
    fn in_words(&self, texts: &str, ids: &str) -> Result<Vec<Token>, RowError> {
        match self.field(ids)? {
            Some((name, _)) if name.ends_with("_idx") => Ok(Vec::new()),
            _ => self.tokens(texts),
        }
    }

    /// The year of a Greater-Than row, in EAP-IG's files a `correct_idx` that stands alone, or a `label`.
    fn year(&self, source: &Option<PromptText>) -> Result<Option<u8>, RowError> {
        let said = |value| match source {
            Some(PromptText::Text(clean)) => years::year(clean, value),
            _ => None,
        };
        let ids = self.field("target_ids")?;
        let texts = self.field("targets")?.or(self.field("wrong_targets")?);
        if let (Some(("correct_idx", value)), None) = (ids, self.field("wrong_target_ids")?) {
            // what is no year would pass for a token id, and the reverse
            let year = said(value).filter(|_| texts.is_none());
            return year.map(Some).ok_or_else(|| {
                self.error(
                    Some("correct_idx"),
                    "stands without incorrect_idx, and is no year that the clean prompt ends with, as 52 in \
                     `1352 to 13`: give targets and wrong_targets (or target_ids, if it is an id)",
                )
            });
        }
        let label = self.fields.iter().find(|(name, _)| name == "label");
        let alone = ids.or(texts).is_none();
        Ok(label.filter(|_| alone).and_then(|(_, value)| said(value)))
    }

    fn error(&self, field: Option<&str>, problem: impl Into<String>) -> RowError {
        RowError::new(self.path, self.place, field, problem)
    }

    /// Refuses a name that stands twice, and one that is nearly a known one.
    fn check_names(&self) -> Result<(), RowError> {
        for (index, (name, _)) in self.fields.iter().enumerate() {
            if self.fields[..index].iter().any(|(other, _)| other == name) {
                return Err(self.error(Some(name), "is given twice: give it once"));
            }
            if is_known(name) || IDS.contains(&name.as_str()) {
                continue;
            }
            let lower = name.to_ascii_lowercase();
            let given = |names: &[&str]| {
                let mut fields = self.fields.iter();
                fields.any(|(name, value)| names.contains(&name.as_str()) && !value.is_null())
            };
            let near = NAMES.iter().find_map(|names| {
                let near = names
                    .iter()
                    .find(|known| strsim::osa_distance(known, &lower) <= 1);
                near.filter(|_| !given(names))
            });
            if let Some(near) = near {
                return Err(self.error(
                    Some(name),
                    format!("is no known field: did you mean {near}?"),
                ));
            }
        }
        Ok(())
    }

    /// The field of this canonical name, under whichever of its names; a null is a missing one.
    fn field(&self, canonical: &str) -> Result<Given<'_>, RowError> {
        let names = NAMES.iter().find(|names| names[0] == canonical);
        let mut given = None;
        for (name, value) in &self.fields {
            let meant = names.is_some_and(|names| names.contains(&name.as_str()));
            if !meant || value.is_null() {
                continue;
            }
            if let Some((earlier, _)) = given {
                let problem = format!("is another name of {earlier}: give one of them");
                return Err(self.error(Some(name), problem));
            }
            given = Some((name.as_str(), value));
        }
        Ok(given)
    }

    /// How the row calls its fields; ids count as what they are ids of.
    fn names(&self) -> Result<Vec<(&'static str, String)>, RowError> {
        let mut names = Vec::new();
        for (canonical, ids) in [
            ("base", "base_ids"),
            ("source", "source_ids"),
            ("targets", "target_ids"),
            ("wrong_targets", "wrong_target_ids"),
        ] {
            for field in [canonical, ids] {
                names.extend(
                    self.field(field)?
                        .map(|(name, _)| (canonical, name.to_owned())),
                );
            }
        }
        Ok(names)
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> RowError {
        self.error(Some(name), format!("should be {expected}, but is {found}"))
    }

    /// A value that may be a list; in a format of texts, one spelt in JSON or as pandas writes it.
    fn list(&self, name: &str, value: &Value) -> Result<Value, RowError> {
        match value {
            Value::String(text) if self.plain && text.trim_start().starts_with(['[', '{']) => {
                let json = serde_json::from_str(text);
                json.or_else(|error| literal(text).ok_or(error))
                    .map_err(|error| {
                        let problem = format!("begins like a list in JSON, but is none: {error}");
                        self.error(Some(name), problem)
                    })
            }
            // a tuple; a text may begin with a bracket
            Value::String(text) if self.plain && text.trim_start().starts_with('(') => {
                Ok(literal(text).unwrap_or_else(|| Value::Array(vec![value.clone()])))
            }
            Value::Array(_) | Value::Object(_) => Ok(value.clone()),
            single => Ok(Value::Array(vec![single.clone()])),
        }
    }

    fn prompt(&self, text: &str, ids: &str) -> Result<Option<PromptText>, RowError> {
        let written = match self.field(text)? {
            None => None,
            Some((name, value @ Value::String(text))) if self.plain && looks_like_ids(text) => {
                Some(PromptText::Ids(
                    self.numbers(name, &self.list(name, value)?)?,
                ))
            }
            Some((_, Value::String(text))) => Some(PromptText::Text(text.clone())),
            Some((name, value @ Value::Array(_))) => {
                Some(PromptText::Ids(self.numbers(name, value)?))
            }
            Some((name, other)) => {
                return Err(self.wrong(name, "text or a list of token ids", other));
            }
        };
        match (written, self.ids(ids)?) {
            (Some(_), Some(_)) => {
                let name = self.field(text)?.map_or(text, |(name, _)| name);
                let problem = format!("is given beside {name}: give one of them");
                Err(self.error(Some(ids), problem))
            }
            (Some(prompt), None) => Ok(Some(prompt)),
            (None, ids) => Ok(ids.map(PromptText::Ids)),
        }
    }

    /// Token ids: one or a list.
    fn ids(&self, canonical: &str) -> Result<Option<Vec<u32>>, RowError> {
        let Some((name, value)) = self.field(canonical)? else {
            return Ok(None);
        };
        self.numbers(name, &self.list(name, value)?).map(Some)
    }

    fn numbers(&self, name: &str, list: &Value) -> Result<Vec<u32>, RowError> {
        let Value::Array(list) = list else {
            return Err(self.wrong(name, "a list of token ids", list));
        };
        let number = |value: &Value| {
            let number = match value {
                Value::String(text) if self.plain => text.trim().parse().ok(),
                number => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            };
            number.ok_or_else(|| self.wrong(name, "a token id", value))
        };
        list.iter().map(number).collect()
    }

    fn tokens(&self, canonical: &str) -> Result<Vec<Token>, RowError> {
        let Some((name, value)) = self.field(canonical)? else {
            return Ok(Vec::new());
        };
        let Value::Array(list) = self.list(name, value)? else {
            return Err(self.wrong(name, "text or a list of texts", value));
        };
        let token = |value: &Value| match value {
            Value::String(text) => Ok(Token::Text(text.clone())),
            other => match other.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(id) => Ok(Token::Id(id)),
                None => Err(self.wrong(name, "a token's text or id", other)),
            },
        };
        list.iter().map(token).collect()
    }

    fn positions(&self, canonical: &str) -> Result<Option<Vec<Position>>, RowError> {
        let Some((name, value)) = self.field(canonical)? else {
            return Ok(None);
        };
        let expected = "positions: numbers, or names such as \"end\" and \"subject.last\"";
        let Value::Array(list) = self.list(name, value)? else {
            return Err(self.wrong(name, expected, value));
        };
        if list.is_empty() {
            return Err(self.error(
                Some(name),
                "is an empty list: leave it out to patch everywhere",
            ));
        }
        let position = |value: &Value| match value {
            Value::String(text) if !text.trim().is_empty() => Ok(Position::named(text)),
            other => match other.as_i64().and_then(|n| isize::try_from(n).ok()) {
                Some(number) => Ok(Position::Number(number)),
                None => Err(self.wrong(name, expected, other)),
            },
        };
        list.iter()
            .map(position)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn spans(&self) -> Result<Vec<Span>, RowError> {
        let source = self.stretches("source_spans")?;
        let spans: Vec<Span> = self
            .stretches("spans")?
            .into_iter()
            .map(|(name, base)| Span {
                source: source
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, s)| s.clone()),
                name,
                base,
            })
            .collect();
        match source
            .iter()
            .find(|(name, _)| !spans.iter().any(|s| s.name == *name))
        {
            Some((name, _)) => {
                let problem = format!("names {name:?}, which spans does not: give it in both");
                Err(self.error(Some("source_spans"), problem))
            }
            None => Ok(spans),
        }
    }

    fn stretches(&self, canonical: &str) -> Result<Vec<(String, SpanTokens)>, RowError> {
        let Some((name, value)) = self.field(canonical)? else {
            return Ok(Vec::new());
        };
        let expected = "named spans, as in {\"subject\": \"Spain\"}, {\"subject\": 3} or {\"subject\": [3, 4]}";
        let Value::Object(spans) = self.list(name, value)? else {
            return Err(self.wrong(name, expected, value));
        };
        let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let stretch = |(span, value): (&String, &Value)| {
            let stretch = match value {
                Value::String(words) if !words.trim().is_empty() => {
                    Some(SpanTokens::Words(words.clone()))
                }
                Value::Array(ends) => match ends.as_slice() {
                    [first, last] => number(first)
                        .zip(number(last))
                        .filter(|(first, last)| first <= last)
                        .map(|(first, last)| SpanTokens::Tokens(first, last)),
                    _ => None,
                },
                Value::Object(nth) => match (nth.get("words"), nth.get("nth"), nth.len()) {
                    (Some(Value::String(words)), Some(n), 2) if !words.trim().is_empty() => {
                        number(n).map(|n| SpanTokens::Nth(words.clone(), n))
                    }
                    _ => None,
                },
                other => number(other).map(|at| SpanTokens::Tokens(at, at)),
            };
            stretch
                .map(|stretch| (span.clone(), stretch))
                .ok_or_else(|| self.wrong(name, expected, value))
        };
        // an absent span of one row is a null in Parquet, whose rows all have the same
        spans
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(stretch)
            .collect()
    }
}

/// Whether a prompt in a format of texts is a list of numbers: nothing else in it, however they are set apart.
fn looks_like_ids(text: &str) -> bool {
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| {
        let number = |c: char| c.is_ascii_digit() || c.is_ascii_whitespace() || ",.-+".contains(c);
        inner.contains(|c: char| c.is_ascii_digit()) && inner.chars().all(number)
    })
}
