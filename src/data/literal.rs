//! Lists as pandas writes them into CSV: Python's own spelling, `['gem', 'gems']`, or NumPy's, `[464 3139]`.
//!
//! Only what a list, tuple or dictionary of plain values prints as is read; anything else is no literal.

use serde_json::{Map, Number, Value};

/// Lists in lists, no deeper than any field has use for.
const DEPTH: usize = 8;

/// A list, tuple or dictionary, as the JSON that would mean the same; `None` for text that is none.
pub(super) fn literal(text: &str) -> Option<Value> {
    let mut rest = Literal { text: text.trim() };
    let value = rest.value(DEPTH)?;
    let whole = matches!(value, Value::Array(_) | Value::Object(_));
    (whole && rest.text.is_empty()).then_some(value)
}

/// What is still to be read.
struct Literal<'a> {
    text: &'a str,
}

impl Literal<'_> {
    fn take(&mut self, token: &str) -> bool {
        self.text = self.text.trim_start();
        let rest = self.text.strip_prefix(token);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.text = self.text.trim_start();
        match self.text.chars().next()? {
            '[' => self.list("[", "]", depth.checked_sub(1)?),
            '(' => self.list("(", ")", depth.checked_sub(1)?),
            '{' => self.dictionary(depth.checked_sub(1)?),
            quote @ ('\'' | '"') => self.string(quote).map(Value::String),
            _ => self.word(),
        }
    }

    /// Values with commas between them or, as NumPy prints arrays, none.
    fn list(&mut self, open: &str, close: &str, depth: usize) -> Option<Value> {
        self.take(open);
        let mut list = Vec::new();
        while !self.take(close) {
            list.push(self.value(depth)?);
            let spaced = self.text.starts_with(char::is_whitespace);
            let apart = self.take(",") || spaced;
            if !apart && !self.text.trim_start().starts_with(close) {
                return None;
            }
        }
        Some(Value::Array(list))
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.take("{");
        let mut all = Map::new();
        while !self.take("}") {
            let Value::String(name) = self.value(depth)? else {
                return None;
            };
            if !self.take(":") {
                return None;
            }
            all.insert(name, self.value(depth)?);
            if !self.take(",") && !self.text.trim_start().starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(all))
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut chars = self.text.chars();
        chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    c @ ('\\' | '\'' | '"') => c,
                    'x' => escaped(&mut chars, 2)?,
                    'u' => escaped(&mut chars, 4)?,
                    'U' => escaped(&mut chars, 8)?,
                    _ => return None,
                }),
                c => text.push(c),
            }
        }
        self.text = chars.as_str();
        Some(text)
    }

    /// A number or a name.
    fn word(&mut self) -> Option<Value> {
        let end = self
            .text
            .find(|c: char| c.is_whitespace() || ",:]})".contains(c));
        let (word, rest) = self.text.split_at(end.unwrap_or(self.text.len()));
        self.text = rest;
        match word {
            "None" => return Some(Value::Null),
            "True" => return Some(true.into()),
            "False" => return Some(false.into()),
            _ => {}
        }
        let whole = word.parse::<i64>().ok().map(Value::from);
        // a finite number; names such as nan are none of JSON's
        let number = || Number::from_f64(word.parse().ok()?).map(Value::Number);
        whole.or_else(number)
    }
}

/// The character of so many hexadecimal digits.
fn escaped(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = chars.by_ref().take(digits).collect();
    let all = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    char::from_u32(u32::from_str_radix(&text, 16).ok().filter(|_| all)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_pandas_writes_is_read() {
        for (text, value) in [
            ("['gem', 'gems']", json!(["gem", "gems"])),
            ("[' Rome']", json!([" Rome"])),
            (
                r#"["it's", 'a "b"', 'c\'s']"#,
                json!(["it's", "a \"b\"", "c's"]),
            ),
            (r"['\n\t\\', '\xe9\u2019']", json!(["\n\t\\", "é’"])),
            ("[464  3139\n 286]", json!([464, 3139, 286])),
            ("['a' 'b']", json!(["a", "b"])),
            ("(1, 2)", json!([1, 2])),
            ("(1,)", json!([1])),
            (
                "{'subject': 'Spain', 'at': [3, 4]}",
                json!({"subject": "Spain", "at": [3, 4]}),
            ),
            ("[None, -1, 1.5]", json!([null, -1, 1.5])),
            ("[]", json!([])),
        ] {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        for text in [
            "",
            "[",
            "['a'",
            "['a' 'b",
            "[a]",
            "[1]]",
            "['a''b']",
            "'a'",
            "3",
            "[nan]",
            "[1 ... 3]",
            r"['\q']",
            r"['\xg0']",
            r"['\ud800']",
            "{1: 2}",
            "{'a' 1}",
            "[[[[[[[[[1]]]]]]]]]",
            "array([1])",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_none(text in "[\\[\\](){}'\", a1\\\\x:é-]{0,16}|\\PC{0,12}") {
            let _ = literal(&text);
        }

        #[test]
        fn lists_of_texts_come_back(list in prop::collection::vec("[^\\\\']{0,6}", 0..4)) {
            let written: Vec<String> = list.iter().map(|t| format!("'{t}'")).collect();
            prop_assert_eq!(literal(&format!("[{}]", written.join(", "))), Some(json!(list)));
        }
    }
}
