//! Whether something is left of what a query sees.
//!
//! A softmax over no key is nothing: a query whose every score is −∞ would get NaN, so a run that takes all keys of a
//! query is refused. Arithmetic on a score that was knocked out before is refused too: nothing can be added to −∞.

use std::collections::{BTreeMap, BTreeSet};

use super::CheckError;
use crate::patch::{Op, Patch};
use crate::site::Stage;

/// Checks the knockouts of a run's patches, in the order in which they act.
pub(super) fn check(patches: &[Patch]) -> Result<(), CheckError> {
    let of_scores = |patch: &&Patch| patch.component.stage() == Stage::Scores;
    if !patches.iter().any(|patch| patch.op == Op::Knockout) {
        return Ok(());
    }
    // by layer, head and query
    let mut gone: BTreeMap<[usize; 3], BTreeSet<usize>> = BTreeMap::new();
    for patch in patches.iter().filter(of_scores) {
        let layer = patch.layer.unwrap_or_default();
        let wrong = |problem: String| CheckError::Shape {
            site: patch.component.name(),
            problem,
        };
        for (&head, &query) in patch
            .heads
            .iter()
            .flat_map(|head| patch.positions.iter().map(move |query| (head, query)))
        {
            let every: Vec<usize>;
            let keys = match &patch.keys {
                Some(keys) => keys,
                None => {
                    every = (0..=query).collect();
                    &every
                }
            };
            let mut keys = keys.iter().copied().filter(|key| *key <= query);
            let gone = gone.entry([layer, head, query]).or_default();
            match &patch.op {
                Op::Knockout => gone.extend(keys),
                Op::Collect => {}
                Op::Zero | Op::Fill(_) | Op::Interchange => keys.for_each(|key| {
                    gone.remove(&key);
                }),
                other => {
                    if let Some(key) = keys.find(|key| gone.contains(key)) {
                        return Err(wrong(format!(
                            "is knocked out at query {query}, key {key} before `{}` acts there, and nothing can be \
                             done to −∞: leave one of the two patches out, or set the score instead",
                            other.label()
                        )));
                    }
                }
            }
        }
    }
    match gone
        .iter()
        .find(|([_, _, query], keys)| keys.len() > *query)
    {
        Some(([layer, head, query], _)) => Err(CheckError::Shape {
            site: crate::site::Component::AttentionScores.name(),
            problem: format!(
                "loses every key of query {query} in layer {layer}, head {head}, and a softmax over none is nothing: \
                 leave the query one key, or zero its head_attention_value_output"
            ),
        }),
        None => Ok(()),
    }
}
