//! Greater-Than rows, as EAP-IG's files have them: the answer is any later year of the century.
//!
//! ```csv
//! clean,corrupted,correct_idx
//! The war lasted from the year 1352 to the year 13,The war lasted from the year 1301 to the year 13,52
//! ```
//!
//! `correct_idx` (`label` in an older file) is no token id there but the clean prompt's year: of the
//! texts `00` to `99`, those greater than it are right and it and those before it wrong, as in EAP-IG's
//! metric and in Hanna et al. 2023, "How does GPT-2 compute greater-than?". A token id in that column
//! would pass for a year, so the prompt has to bear it out: its last two numbers are the year with its
//! century, and the century.

use serde_json::Value;

use super::Token;

/// The year, 0 to 98, that a column's value is, if the clean prompt speaks of it.
pub(super) fn year(clean: &str, value: &Value) -> Option<u8> {
    let year = match value {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_u64()?,
    };
    let year = u8::try_from(year).ok().filter(|year| *year < 99)?;
    let numbers = clean.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.rev();
    // the prompt ends with the century
    let century = numbers.next().filter(|century| century.len() == 2)?;
    let whole = numbers.find(|number| !number.is_empty())?;
    (whole == format!("{century}{year:02}")).then_some(year)
}

/// Right and wrong answers: the years after this one, and it with those before.
pub(super) fn answers(year: u8) -> (Vec<Token>, Vec<Token>) {
    let token = |year: u8| Token::Text(format!("{year:02}"));
    let right = (year + 1..100).map(token).collect();
    (right, (0..=year).map(token).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_bear_their_years_out() {
        let of = |clean: &str, value: Value| year(clean, &value);
        let war = "The war lasted from the year 1352 to the year 13";
        assert_eq!(of(war, json!(52)), Some(52));
        assert_eq!(of(war, json!("52")), Some(52));
        assert_eq!(of("ranges from $ 1405 to $ 14", json!("5")), Some(5));
        assert_eq!(of("1339, 1365, 1377, 1403, 14", json!(3)), Some(3));
        assert_eq!(of("from 1700 to 17", json!(0)), Some(0));
        // nothing comes after 99
        assert_eq!(of("from 1799 to 17", json!(99)), None);
        for wrong in [
            json!(53),
            json!(1352),
            json!("x"),
            json!(-52),
            json!(5.5),
            json!([52]),
            Value::Null,
            json!(308),
        ] {
            assert_eq!(of(war, wrong.clone()), None, "{wrong}");
        }
        for other in [
            "",
            "13",
            "1352",
            "1352 to 14",
            "1352 to 13 ",
            "1352 to 135",
            "1352, 1353 to 13",
            "13520 to 13",
            "The capital of Italy is",
        ] {
            assert_eq!(of(other, json!(52)), None, "{other}");
        }
    }

    #[test]
    fn later_years_are_right() {
        let (right, wrong) = answers(52);
        let text = |year: &str| Token::Text(year.into());
        assert_eq!((right.len(), wrong.len()), (47, 53));
        assert_eq!((&right[0], &right[46]), (&text("53"), &text("99")));
        assert_eq!((&wrong[0], &wrong[52]), (&text("00"), &text("52")));
        assert_eq!(
            (answers(0).1, answers(98).0),
            (vec![text("00")], vec![text("99")])
        );
    }

    proptest! {
        #[test]
        fn any_prompt_has_a_year_or_none(clean in "[0-9 ,a]{0,12}|\\PC{0,12}", value in any::<i64>()) {
            if let Some(year) = year(&clean, &json!(value)) {
                prop_assert_eq!(i64::from(year), value);
                let (right, wrong) = answers(year);
                prop_assert!(right.len() + wrong.len() == 100 && !right.is_empty());
            }
        }
    }
}
