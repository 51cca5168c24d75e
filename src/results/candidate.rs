//! What the model says next: the most probable tokens of a distribution.

use serde_json::{Number, Value, json};

use crate::backend::Readout;
use crate::model::Checkpoint;
use crate::results::columns::float_text;
use crate::results::rows::raw;

/// One token of the distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// The token, decoded raw; its id in brackets where there is no tokenizer.
    pub token: String,
    /// Its probability.
    pub prob: f64,
    /// Natural logarithm of the probability.
    pub logprob: f64,
    /// Its logit.
    pub logit: f64,
}

impl Candidate {
    /// A readout's most probable tokens.
    pub fn all(model: &Checkpoint, read: &Readout) -> Vec<Self> {
        let candidate = |(id, logit): &(u32, f64)| {
            let logprob = read.log_probability(*logit);
            Self {
                id: *id,
                token: raw(model, *id),
                prob: logprob.exp(),
                logprob,
                logit: *logit,
            }
        };
        read.top.iter().map(candidate).collect()
    }

    /// Those of a row's `top_tokens`; nothing of what is none of them.
    pub fn of_column(text: &str) -> Vec<Self> {
        let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
        let number = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        };
        let one = |value: Value| {
            Some(Self {
                id: value["id"].as_u64()?.try_into().ok()?,
                token: value["token"].as_str()?.to_owned(),
                prob: number(&value["prob"])?,
                logprob: number(&value["logprob"])?,
                logit: number(&value["logit"])?,
            })
        };
        all.into_iter().filter_map(one).collect()
    }

    /// With its fields by their names; a number that JSON has not is text.
    pub fn json(&self) -> Value {
        let number = |value: f64| match Number::from_f64(value) {
            Some(number) => Value::Number(number),
            None => float_text(value).into(),
        };
        json!({
            "id": self.id,
            "token": self.token,
            "prob": number(self.prob),
            "logprob": number(self.logprob),
            "logit": number(self.logit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_reads_back_what_was_written_in_it() {
        let of = |id, token: &str, prob: f64| Candidate {
            id,
            token: token.into(),
            prob,
            logprob: prob.ln(),
            logit: -0.1,
        };
        let all = vec![
            of(7, " \"é\n", 0.1 + 0.2),
            of(0, "", 0.0),
            of(u32::MAX, "x", f64::NAN),
        ];
        let written = Value::from(all.iter().map(Candidate::json).collect::<Vec<_>>());
        let read = Candidate::of_column(&written.to_string());
        assert_eq!(format!("{read:?}"), format!("{all:?}"));
        for text in ["", "{}", "[1]", "[{\"id\":-1,\"token\":\"\"}]"] {
            assert_eq!(Candidate::of_column(text), [], "{text}");
        }
    }
}
