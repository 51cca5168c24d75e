//! Facts as ROME's data sets write them, in the words of [`record`](super::record).
//!
//! known_1000 has `{"prompt": "Vinson Massif is located in the continent", "subject": "Vinson Massif",
//! "attribute": "Antarctica"}`; CounterFact `{"requested_rewrite": {"prompt": "{} is located in the
//! continent", "subject": …, "target_true": {"str": "Antarctica"}, "target_new": {"str": "Europe"}}}`.
//!
//! | there | here |
//! |---|---|
//! | `prompt`, whose `{}` is the subject | `base` |
//! | `subject` | the span `subject`; where it stands several times, the one that `{}` in `prompt` or `template` says |
//! | `attribute` or `target_true` | `targets`, after a space, as the prompt goes on with it |
//! | `target_new` | `wrong_targets`, likewise |

use serde_json::{Map, Value};

use crate::prompt::position::Words;

/// Fields that make a row something else than a fact.
const OTHERS: [&str; 6] = [
    "base",
    "corrupted",
    "corrupt",
    "base_ids",
    "clean",
    "source",
];

/// A row's fields with those of a fact under their names here; other rows as they are.
pub(super) fn unfold(mut fields: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let rewrite = fields
        .iter()
        .position(|(name, value)| name == "requested_rewrite" && value.is_object());
    if let Some(at) = rewrite
        && let (_, Value::Object(inner)) = fields.remove(at)
    {
        fields.extend(inner);
    }
    let given = |name: &str| {
        fields
            .iter()
            .find(|(n, v)| n == name && !v.is_null())
            .map(|(_, v)| v)
    };
    // CounterFact's answers are {"str": …}
    let text = |name: &str| {
        let value = given(name)?;
        value.as_str().or_else(|| value.get("str")?.as_str())
    };
    let (Some(prompt), Some(subject)) = (text("prompt"), text("subject")) else {
        return fields;
    };
    if OTHERS.iter().any(|name| given(name).is_some()) {
        return fields;
    }
    let base = prompt.replace("{}", subject);
    let mut more = Vec::new();
    if given("spans").is_none() {
        // where the subject stands more than once, `{}` says which is meant, there or in the template
        let templates = [Some(prompt), text("template")].into_iter().flatten();
        let mut places = templates.filter(|template| template.replace("{}", subject) == base);
        let place = places.find_map(|template| template.find("{}"));
        let whole = Words::new(std::iter::once(Some(base.as_bytes())));
        let span = match place.filter(|_| whole.find(subject).is_err()) {
            Some(place) => {
                let nth = whole.count_before(subject, place);
                serde_json::json!({"words": subject, "nth": nth})
            }
            None => Value::from(subject),
        };
        let span = Map::from_iter([("subject".to_owned(), span)]);
        more.push(("spans", Value::Object(span)));
    }
    more.push(("base", Value::from(base)));
    let follows = |answer: &str| match answer.starts_with(' ') {
        true => Value::from(answer),
        false => Value::from(format!(" {answer}")),
    };
    let own = |names: &[&str]| names.iter().any(|name| given(name).is_some());
    let right = text("attribute").or(text("target_true"));
    if let Some(answer) =
        right.filter(|_| !own(&["targets", "target", "answers", "answer", "target_ids"]))
    {
        more.push(("targets", follows(answer)));
    }
    let wrong = text("target_new");
    if let Some(answer) = wrong.filter(|_| {
        !own(&[
            "wrong_targets",
            "wrong_target",
            "wrong_answers",
            "wrong_answer",
            "wrong_target_ids",
        ])
    }) {
        more.push(("wrong_targets", follows(answer)));
    }
    let more = more
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let more: Vec<(String, Value)> = more.collect();
    fields.extend(more);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: Value) -> Value {
        let Value::Object(fields) = json else {
            panic!("an object")
        };
        Value::Object(unfold(fields.into_iter().collect()).into_iter().collect())
    }

    #[test]
    fn both_of_romes_files_are_facts() {
        let known = of(serde_json::json!({
            "known_id": 0, "prompt": "Vinson Massif is in", "subject": "Vinson Massif", "attribute": "Antarctica",
        }));
        assert_eq!(known["base"], "Vinson Massif is in");
        assert_eq!(known["spans"]["subject"], "Vinson Massif");
        assert_eq!(known["targets"], " Antarctica");
        let counter = of(serde_json::json!({
            "case_id": 0, "requested_rewrite": {"prompt": "The mother tongue of {} is", "subject": "Ann",
                "target_new": {"str": "English", "id": "Q1860"}, "target_true": {"str": "French", "id": "Q150"}},
        }));
        assert_eq!(counter["base"], "The mother tongue of Ann is");
        assert_eq!(
            (&counter["targets"], &counter["wrong_targets"]),
            (&" French".into(), &" English".into())
        );
    }

    #[test]
    fn of_a_subject_that_stands_twice_the_braces_say_which() {
        let span = |row: Value| of(row)["spans"]["subject"].clone();
        let nth = |nth: usize| serde_json::json!({"words": "Paris", "nth": nth});
        let prompt = "Paris, not Paris in Texas: {} is in";
        let row = serde_json::json!({"prompt": prompt, "subject": "Paris", "attribute": "France"});
        assert_eq!(span(row), nth(2));
        let row = serde_json::json!({"prompt": "{}, not Paris, is in", "subject": "Paris"});
        assert_eq!(span(row), nth(0));
        let template = "Paris? {} is in";
        let row = serde_json::json!({"prompt": "Paris? Paris is in", "template": template, "subject": "Paris"});
        assert_eq!(span(row), nth(1));
        // part of a word is no place of it; without braces nothing is known; once is once
        for (prompt, template) in [
            ("Parisians know that {} is in", ""),
            ("Paris? Paris is in", ""),
            ("Paris? Paris is in", "{} of another prompt"),
        ] {
            let row =
                serde_json::json!({"prompt": prompt, "template": template, "subject": "Paris"});
            assert_eq!(span(row), "Paris", "{prompt}");
        }
    }

    #[test]
    fn other_rows_stay_as_they_are() {
        for row in [
            serde_json::json!({"base": "a", "prompt": "b", "subject": "c"}),
            serde_json::json!({"prompt": "b"}),
            serde_json::json!({"clean": "a", "corrupted": "b", "subject": "c", "prompt": "d"}),
            serde_json::json!({"requested_rewrite": 3, "prompt": 4, "subject": null}),
        ] {
            assert_eq!(of(row.clone()), row);
        }
        let own = of(
            serde_json::json!({"prompt": "b", "subject": "b", "targets": [" x"], "attribute": "y"}),
        );
        assert_eq!(own["targets"], serde_json::json!([" x"]));
    }
}
