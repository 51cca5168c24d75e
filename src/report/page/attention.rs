//! The page of attention patterns: a grid of queries and keys for each head.

use super::Page;
use super::about::{
    About, FacetAbout, GroupAbout, Made, PageKind, PromptAbout, RowAbout, ValueAbout, View,
};
use super::document::Embedded;
use crate::execute::activations::Activation;
use crate::report::ReportError;
use crate::report::labels::one_line;
use crate::results::table::{PairProvenance, Provenance};
use crate::site::Component;

/// The patterns of a prompt.
pub struct AttentionPrompt<'a> {
    /// The prompt, as the base of a pair.
    pub prompt: &'a PairProvenance,
    /// `[heads, queries, keys]` of each layer.
    pub layers: Vec<(usize, Activation)>,
}

/// The page of some prompts' patterns, or scores, made in this way.
///
/// # Errors
///
/// [`ReportError::NothingToPlot`] for a component that is neither, and of no prompts.
pub fn attention_page(
    component: Component,
    prompts: &[AttentionPrompt<'_>],
    made: &Provenance,
) -> Result<Page, ReportError> {
    check_attention(component)?;
    let mut numbers = Embedded::default();
    let (mut views, mut facets) = (Vec::new(), Vec::new());
    for (index, AttentionPrompt { prompt, layers }) in prompts.iter().enumerate() {
        let about = PromptAbout::new(&prompt.base_text, &prompt.base_ids, &prompt.base_tokens);
        for (layer, found) in layers {
            let [heads, queries, keys] = found.shape[..] else {
                return Err(ReportError::NothingToPlot(format!(
                    "{} has no queries and keys",
                    found.name
                )));
            };
            for head in 0..heads {
                let own = &found.values[head * queries * keys..][..queries * keys];
                let grid = (component, *layer, head);
                facets.push(facet(
                    grid,
                    index,
                    numbers.cells.len(),
                    (queries, keys),
                    &about,
                ));
                // the last query lowest in the file's order of rows, so that the first is drawn on top
                for query in (0..queries).rev() {
                    let row = own[query * keys..][..keys].iter().enumerate();
                    let seen = row.map(|(key, x)| match key <= query {
                        true => *x as f32,
                        // masked
                        false => f32::NAN,
                    });
                    numbers.cells.extend(seen);
                }
            }
        }
        let number = prompt.row.unwrap_or(index as u32);
        let label = about.text.as_deref().map(one_line).unwrap_or_default();
        views.push(View {
            label: format!("prompt {number}: {label}"),
            pair: Some(number),
            base: Some(about),
            clean: vec![vec![(None, None)]],
            ..View::default()
        });
    }
    if facets.is_empty() {
        return Err(ReportError::NothingToPlot(
            "there are no prompts".to_owned(),
        ));
    }
    let title = match &views[..] {
        [
            View {
                base: Some(PromptAbout {
                    text: Some(text), ..
                }),
                ..
            },
        ] => {
            vec![
                ("prompt", format!("“{}”", one_line(text))),
                ("", one_line(&made.model)),
            ]
        }
        _ => vec![("", one_line(&made.model))],
    };
    let probability = component == Component::AttentionWeight;
    let about = About {
        kind: PageKind::Attention,
        title,
        notes: vec![
            "a row is a query, a column a key; keys behind the query are masked".to_owned(),
        ],
        made: Made::of(made),
        values: vec![ValueAbout {
            name: component.name().to_owned(),
            targets: 1,
            offset: 0,
            probability,
            metric: false,
            recovery: false,
        }],
        shown: 0,
        targets: vec![component.name().to_owned()],
        views,
        runs: Vec::new(),
        cells: numbers.cells.len(),
        facets,
        graph: None,
        // prompts have grids of their own
        stride: 0,
    };
    Ok(Page { about, numbers })
}

/// Refuses what is not attention, before anything is computed.
///
/// # Errors
///
/// [`ReportError::NothingToPlot`].
pub fn check_attention(component: Component) -> Result<(), ReportError> {
    match component {
        Component::AttentionWeight | Component::AttentionScores => Ok(()),
        other => Err(ReportError::NothingToPlot(format!(
            "{other} is no attention pattern: give attention_weight or attention_scores"
        ))),
    }
}

fn facet(
    (component, layer, head): (Component, usize, usize),
    view: usize,
    offset: usize,
    (queries, keys): (usize, usize),
    about: &PromptAbout,
) -> FacetAbout {
    let token = |position: usize| match about.tokens.get(position) {
        Some(token) => token.clone(),
        None => position.to_string(),
    };
    let row = |query: usize| RowAbout {
        label: token(query),
        site: format!("L{layer} H{head}"),
        component: component.name().to_owned(),
        layer: Some(layer as u32),
    };
    let group = |key: usize| GroupAbout {
        label: token(key),
        position: Some(key as u32),
        name: None,
    };
    FacetAbout {
        title: format!("L{layer} H{head}"),
        view: Some(view),
        offset,
        rows: (0..queries).rev().map(row).collect(),
        groups: (0..keys).map(group).collect(),
        heads: vec![String::new()],
        op: None,
        runs: Vec::new(),
        head: Some(head as u32),
    }
}
