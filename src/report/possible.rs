//! Whether the numbers of a table that was read are such as a run can give: a picture of a probability of −5
//! or of layer 999,999,999 would look like any other.

use std::path::Path;

use super::ReportError;
use crate::model::{LARGEST_SIZE, MOST_LAYERS};
use crate::results::metric::{Metric, Quantity};
use crate::results::table::{Row, Table};

/// How far rounding goes beyond what a number can be.
const ROUNDING: f64 = 1e-5;

/// Refuses a table with a number that no run gives. One that is none may stand anywhere, and an infinite one
/// where the row's probability is none: what its patches wrote overflowed.
///
/// # Errors
///
/// [`ReportError::Field`] for the first, by its row, from 0, and its column.
pub fn check_possible(table: &Table, path: &Path) -> Result<(), ReportError> {
    let metrics: Vec<Option<Metric>> = table.metrics.iter().map(|m| m.parse().ok()).collect();
    let wrong = |row| wrong_index(row).or_else(|| wrong_number(row, &table.metrics, &metrics));
    let mut rows = table.rows.iter().enumerate();
    let first = rows.find_map(|(number, row)| Some((number, wrong(row)?)));
    match first {
        None => Ok(()),
        Some((number, (column, problem))) => Err(ReportError::Field {
            path: path.to_owned(),
            place: format!("row {number}"),
            column,
            problem,
        }),
    }
}

fn wrong_index(row: &Row) -> Option<(String, String)> {
    let all = [
        ("layer", row.layer, MOST_LAYERS),
        ("source_layer", row.source_layer, MOST_LAYERS),
        ("head", row.head, LARGEST_SIZE),
        ("source_head", row.source_head, LARGEST_SIZE),
        ("position", row.position, LARGEST_SIZE),
        ("source_position", row.source_position, LARGEST_SIZE),
    ];
    all.into_iter().find_map(|(column, index, count)| {
        let index = index.filter(|index| u64::from(*index) >= count)?;
        let problem = format!(
            "{index} is beyond every model's, which end at {}",
            count - 1
        );
        Some((column.to_owned(), problem))
    })
}

fn wrong_number(
    row: &Row,
    names: &[String],
    metrics: &[Option<Metric>],
) -> Option<(String, String)> {
    use Quantity::{Logit, Logprob, Prob};
    let fixed = [
        ("prob", row.prob, Prob),
        ("logprob", row.logprob, Logprob),
        ("logit", row.logit, Logit),
        ("base_prob", row.base_prob, Prob),
        ("source_prob", row.source_prob.unwrap_or(f64::NAN), Prob),
    ];
    let fixed = fixed.map(|(name, value, quantity)| (name, value, Metric::plain(quantity)));
    let named = names.iter().zip(&row.metrics).zip(metrics);
    // what is no metric of ours may be anything
    let named = named.filter_map(|((name, value), metric)| Some((&**name, *value, (*metric)?)));
    fixed
        .into_iter()
        .chain(named)
        .find_map(|(name, value, metric)| {
            let [least, most] = metric.range();
            let overflowed = row.prob.is_nan() && value.is_infinite();
            let fits = value >= least - ROUNDING && value <= most + ROUNDING;
            let said = match (least.abs() < f64::MAX, most < f64::MAX) {
                (true, true) => format!("a number from {least} to {most}"),
                (true, false) => format!("{least} or more"),
                (false, true) => format!("{most} or less"),
                (false, false) => "a finite number".to_owned(),
            };
            let wrong = !value.is_nan() && !overflowed && !fits;
            wrong.then(|| {
                (
                    name.to_owned(),
                    format!("{value} is no {name}, which is {said}"),
                )
            })
        })
}
