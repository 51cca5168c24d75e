//! What a page says of its numbers: the JSON that its script reads.

use std::collections::BTreeMap;

use serde::Serialize;

use super::again::NamedAt;
use crate::report::labels::{one_line, token_label};
use crate::report::places::CellPlaces;
use crate::results::table::{PairProvenance, Provenance};

/// What the numbers are, and how they were made.
#[derive(Debug, Serialize)]
pub(super) struct About {
    /// What the page shows.
    pub kind: PageKind,
    /// What was patched: label and text, one line an entry.
    pub title: Vec<(&'static str, String)>,
    /// What a reader has to know besides, one sentence an entry.
    pub notes: Vec<String>,
    pub made: Made,
    /// The columns.
    pub values: Vec<ValueAbout>,
    /// The column that the page opens with.
    pub shown: usize,
    /// What the targets are called.
    pub targets: Vec<String>,
    /// Whose numbers there are: the mean over pairs, if there are several, then each pair.
    pub views: Vec<View>,
    /// How cells are run: patches, with holes for what the cell's place says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
    /// The grids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facets: Vec<FacetAbout>,
    /// The graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphAbout>,
    /// Numbers of one column of one target of one view.
    pub cells: usize,
    /// Numbers from one view to the next.
    pub stride: usize,
}

/// What a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PageKind {
    Cells,
    Attention,
    Edges,
}

/// How a result was made, as far as a page says it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Made {
    pub version: String,
    pub model: String,
    pub device: String,
    pub precision: String,
    pub command: String,
}

/// A column.
#[derive(Debug, Serialize)]
pub(super) struct ValueAbout {
    pub name: String,
    /// How many targets it has numbers of: one, if they are the whole run's.
    pub targets: usize,
    /// Where its numbers begin in those of a view.
    pub offset: usize,
    /// Whether zero is the natural low end.
    pub probability: bool,
    /// Whether `--metric` knows it.
    pub metric: bool,
    /// Whether it is a recovery, which is 0 as in the base and 1 as in the source.
    pub recovery: bool,
}

/// Whose numbers are shown.
#[derive(Debug, Default, Serialize)]
pub(super) struct View {
    pub label: String,
    /// The pair's number; of the mean over pairs nothing.
    pub pair: Option<u32>,
    pub base: Option<PromptAbout>,
    pub source: Option<PromptAbout>,
    /// The targets of the pair: id and text.
    pub targets: Vec<(u32, String)>,
    /// How the pair is asked again, if its prompts are known and files and flags can say it.
    pub asked: Option<AskedAgain>,
    /// What the clean prompts have, by column and target; nothing where that is not known. Of the mean over
    /// pairs each cell has its own base, among the numbers.
    pub clean: Vec<Vec<(Option<f64>, Option<f64>)>>,
}

/// What else a pair asks than its prompts and targets say.
#[derive(Debug, Default, Serialize)]
pub(super) struct AskedAgain {
    /// Its wrong answers.
    pub wrong: Vec<u32>,
    /// The position that is read out, where that is not the last.
    pub at: Option<usize>,
    /// Where positions that go by a name stand.
    pub stands: BTreeMap<String, NamedAt>,
    /// Whether only the ids of its prompts are what was run.
    pub ids: bool,
}

/// A prompt.
#[derive(Debug, Default, Serialize)]
pub(super) struct PromptAbout {
    pub text: Option<String>,
    pub ids: Vec<u32>,
    /// As they are shown.
    pub tokens: Vec<String>,
}

/// A grid; its cells are row by row, in each row by position and then by head.
#[derive(Debug, Serialize)]
pub(super) struct FacetAbout {
    /// Its component and operator, where there are several.
    pub title: String,
    /// The only view that it is of, where views have grids of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<usize>,
    /// Where its cells begin.
    pub offset: usize,
    /// The lowest first.
    pub rows: Vec<RowAbout>,
    pub groups: Vec<GroupAbout>,
    /// What the columns of each position are called; one without a name where heads are not set side by side.
    pub heads: Vec<String>,
    /// The operator, as `--op` spells it.
    pub op: Option<String>,
    /// Of each cell how it is run, as `CellRuns::of` says; one number where all are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<i32>,
    /// The head, where all cells have the same.
    pub head: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct RowAbout {
    pub label: String,
    /// The site, shortly: what a row is called away from its grid.
    pub site: String,
    pub component: String,
    pub layer: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct GroupAbout {
    pub label: String,
    pub position: Option<u32>,
    /// The name that the position goes by, if it goes by one.
    pub name: Option<String>,
}

/// A graph: of each edge sender, receiver and position are among the numbers.
#[derive(Debug, Default, Serialize)]
pub(super) struct GraphAbout {
    /// As edges name them, without the query, key or value.
    pub nodes: Vec<String>,
    /// What edges go to, as they name it, and which node that is.
    pub receivers: Vec<(String, usize)>,
    /// Of each edge, whether a circuit has it; empty where nothing was chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<u8>,
    /// Whether edges are of single positions.
    pub positions: bool,
}

impl Made {
    pub fn of(made: &Provenance) -> Self {
        Self {
            version: made.version.clone(),
            model: made.model.clone(),
            device: made.device.clone(),
            precision: made.precision.clone(),
            command: one_line(&made.command),
        }
    }
}

impl View {
    /// A pair, of which the provenance knows the prompts, if it does.
    pub fn of(number: u32, made: &Provenance) -> Self {
        let mut pairs = made.pairs.iter().zip(0..);
        let own = pairs.find(|(pair, index)| pair.row.unwrap_or(*index) == number);
        let Some((pair, _)) = own else {
            return Self {
                label: format!("pair {number}"),
                pair: Some(number),
                ..Self::default()
            };
        };
        let base = PromptAbout::new(&pair.base_text, &pair.base_ids, &pair.base_tokens);
        let name = match (&pair.id, &base.text) {
            (Some(id), _) => format!("pair {number} ({})", one_line(id)),
            (None, Some(text)) => format!("pair {number}: {}", one_line(text)),
            (None, None) => format!("pair {number}"),
        };
        Self {
            label: name,
            pair: Some(number),
            base: Some(base),
            source: source(pair),
            asked: asked(pair),
            ..Self::default()
        }
    }
}

/// Answers of several tokens, and readouts that no one number says, can be asked by nothing on one line.
fn asked(pair: &PairProvenance) -> Option<AskedAgain> {
    let apart = pair.source_ids.is_some() && pair.source_readout != pair.readout;
    (!pair.joint && !apart).then(|| AskedAgain {
        wrong: pair.wrong_ids.clone(),
        at: pair.readout,
        stands: BTreeMap::new(),
        ids: pair.ids_alone,
    })
}

fn source(pair: &PairProvenance) -> Option<PromptAbout> {
    let ids = pair.source_ids.as_ref()?;
    Some(PromptAbout::new(
        &pair.source_text,
        ids,
        &pair.source_tokens,
    ))
}

impl PromptAbout {
    pub fn new(text: &Option<String>, ids: &[u32], tokens: &[String]) -> Self {
        Self {
            text: text.clone(),
            ids: ids.to_vec(),
            tokens: tokens.iter().map(|token| token_label(token)).collect(),
        }
    }
}

impl About {
    /// Stars the labels of positions.
    pub fn star(&mut self, positions: &[usize]) {
        let groups = self.facets.iter_mut().flat_map(|facet| &mut facet.groups);
        for group in groups {
            if group
                .position
                .is_some_and(|p| positions.contains(&(p as usize)))
            {
                group.label.push('*');
            }
        }
    }
}

/// The title of a picture's places, as a page has it.
pub(super) fn title(made: &Provenance, places: &CellPlaces) -> Vec<(&'static str, String)> {
    let lines = crate::report::heatmap::title(made, places).into_iter();
    lines.map(|line| (line.label, line.text)).collect()
}

/// Metrics come first; where there is none, the probability does.
pub(super) fn first_shown(values: &[ValueAbout]) -> usize {
    let field = |name: &str| ["logprob", "logit"].contains(&name);
    let mut shown = values.iter();
    shown.position(|value| !field(&value.name)).unwrap_or(0)
}
