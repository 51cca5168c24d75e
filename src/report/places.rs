//! Where each row of a result goes in a picture: its facet, and its place along the axes; and what the axes are once
//! all rows have come.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ReportError;
use super::heatmap::Group;
use super::labels::{component_layered, component_rank, component_short, site_label, token_label};
use crate::results::table::{Row, Text};

/// The most rows of a facet that components share: two of GPT-2 small, as pyvene draws them.
const SHARED_ROWS: usize = 24;

/// The facet that a cell belongs to: a component, an operator and a target, by their indices.
pub(super) type FacetOf = (usize, usize, usize);

/// Where along the columns a cell stands: at a position that goes by its number, or by the name, of this index,
/// that was asked for and is another number in each prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stand {
    Number(u32),
    Name(usize),
}

/// Layer, position and head of a cell.
pub(super) type CellAt = (Option<u32>, Option<Stand>, Option<u32>);

/// What a run is filed under beside its name: no two of a pair may have the same.
type Filed = (Text, Option<Text>, Option<Stand>, [Option<u32>; 6]);

/// The places of the rows so far. A pair's rows come together, and so do a run's.
#[derive(Default)]
pub(super) struct CellPlaces {
    /// The run whose rows come, how many of its rows have come, and its pair's first run.
    here: Option<(u32, u32)>,
    /// Which of its run's rows the last one is.
    pub index: usize,
    first_run: u32,
    pub rows: usize,
    pub pairs: usize,
    /// Runs that patch several sites.
    pub several: usize,
    /// Names of runs that patch nothing and stand for no site, such as biases.
    pub siteless: Vec<Text>,
    /// The targets of each index; nothing where pairs have their own.
    targets: Vec<Option<(u32, Text)>>,
    pub components: Vec<Text>,
    pub ops: Vec<Option<Text>>,
    pub heads: BTreeSet<u32>,
    /// Component and layer of the rows that there would be if all components shared a facet.
    sites: BTreeSet<(usize, Option<u32>)>,
    /// Names of positions, in the order in which they came.
    names: Vec<Text>,
    /// The position and token of each place, as far as all pairs agree on them.
    stands: HashMap<Stand, (Option<u32>, Option<Text>)>,
    filed: HashMap<Filed, Text>,
    /// Two runs of one pair, by their names, that have a single cell.
    pub crowded: Option<(Text, Text)>,
}

/// Which facets there are.
pub(super) struct FacetPlan {
    /// The components of each, in the order in which they were asked for.
    pub shares: Vec<Vec<usize>>,
    /// The operators, in the order of their names.
    pub ops: Vec<usize>,
    /// Whether all components share a facet.
    pub together: bool,
}

/// The axes of a facet.
pub(super) struct FacetAxes {
    /// Layer and component, the lowest first.
    pub rows: Vec<(Option<u32>, usize)>,
    /// Left to right.
    pub stands: Vec<Option<Stand>>,
    /// Within each position.
    pub heads: Vec<Option<u32>>,
}

/// Place of a thing in a list of few, to whose end it is added if it is new.
fn place<T: PartialEq + Clone>(list: &mut Vec<T>, thing: &T) -> usize {
    list.iter().position(|x| x == thing).unwrap_or_else(|| {
        list.push(thing.clone());
        list.len() - 1
    })
}

impl CellPlaces {
    /// Where a row goes: nowhere, if its run patches several sites.
    pub fn add(&mut self, row: &Row) -> Option<(FacetOf, CellAt)> {
        self.rows += 1;
        let run = Some((row.pair, row.run));
        self.index += 1;
        if self.here != run {
            self.index = 0;
            if self.here.is_none_or(|(pair, _)| pair != row.pair) {
                self.pairs += 1;
                self.first_run = row.run;
                self.filed.clear();
            }
            self.here = run;
            self.file(row);
        }
        if row.run == self.first_run {
            self.target(row);
        }
        match &row.component {
            Some(component) if row.layer.is_some() || !component_layered(component) => {
                Some(self.place(row, component))
            }
            _ => {
                match &row.name {
                    Some(name) if &*row.patches == "[]" => {
                        place(&mut self.siteless, name);
                    }
                    _ => self.several += usize::from(self.index == 0),
                }
                None
            }
        }
    }

    /// Notes a run that patches what the grid has a single cell for and another does too, such as spans of
    /// several tokens, or one sender's paths to several receivers.
    fn file(&mut self, row: &Row) {
        let (Some(name), Some(component)) = (&row.name, &row.component) else {
            return;
        };
        let stand = self.stand(row);
        let numbers = [
            row.layer,
            row.head,
            row.sample,
            row.source_layer,
            row.source_head,
            row.source_position,
        ];
        let filed = (component.clone(), row.op.clone(), stand, numbers);
        let other = self.filed.entry(filed).or_insert_with(|| name.clone());
        if self.crowded.is_none() && other != name {
            self.crowded = Some((other.clone(), name.clone()));
        }
    }

    /// Where a row stands along the columns.
    fn stand(&mut self, row: &Row) -> Option<Stand> {
        match &row.position_name {
            Some(name) if !name.is_empty() => Some(Stand::Name(place(&mut self.names, name))),
            _ => row.position.map(Stand::Number),
        }
    }

    fn target(&mut self, row: &Row) {
        let own = (row.target_id, &row.target);
        match self.targets.get_mut(self.index) {
            None => self.targets.push(Some((row.target_id, row.target.clone()))),
            Some(known) => {
                if known.as_ref().is_some_and(|(id, text)| (*id, text) != own) {
                    *known = None;
                }
            }
        }
    }

    fn place(&mut self, row: &Row, component: &Text) -> (FacetOf, CellAt) {
        let component = place(&mut self.components, component);
        let op = place(&mut self.ops, &row.op);
        let stand = self.stand(row);
        if let Some(stand) = stand {
            let agreed = self.stands.entry(stand);
            let (position, token) = agreed.or_insert_with(|| (row.position, row.token.clone()));
            *position = position.filter(|_| *position == row.position);
            *token = token
                .take()
                .filter(|token| Some(token) == row.token.as_ref());
        }
        self.heads.extend(row.head);
        self.sites.insert((component, row.layer));
        let of = (component, op, self.index);
        (of, (row.layer, stand, row.head))
    }

    /// Refuses rows of which no picture can be made.
    pub fn check(&self) -> Result<(), ReportError> {
        if self.rows == 0 {
            return Err(ReportError::NothingToPlot(
                "the table has no rows".to_owned(),
            ));
        }
        if let Some((one, other)) = &self.crowded {
            return Err(ReportError::Crowded {
                one: one.to_string(),
                other: other.to_string(),
            });
        }
        if self.components.is_empty() {
            return Err(ReportError::NothingToPlot(
                "every run patches several components or layers at once, which has no place in a \
                 grid; a sweep patches one a run"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// What the targets are called, by their index.
    pub fn targets(&self) -> Vec<String> {
        let label = |(index, target): (usize, &Option<(u32, Text)>)| match target {
            Some((_, name)) => token_label(name),
            // Pairs with targets of their own: the first of each belong together.
            None => format!("target {} of each pair", index + 1),
        };
        self.targets.iter().enumerate().map(label).collect()
    }

    /// Whether heads stand side by side.
    pub fn side_by_side(&self) -> bool {
        self.heads.len() > 1
    }

    /// Which facets there are, where so many components may share one if heads do not stand side by side.
    pub fn plan(&self, most_together: usize) -> FacetPlan {
        // in the order in which they were asked for
        let components: Vec<usize> = (0..self.components.len()).collect();
        let few = components.len() <= most_together && self.sites.len() <= SHARED_ROWS;
        let together = !self.side_by_side() && (components.len() == 1 || few);
        let mut ops: Vec<usize> = (0..self.ops.len()).collect();
        ops.sort_by_key(|op| &self.ops[*op]);
        let size = if together { components.len() } else { 1 };
        FacetPlan {
            shares: components.chunks(size.max(1)).map(<[_]>::to_vec).collect(),
            ops,
            together,
        }
    }

    /// What a facet is called beside its target: its component where it has only one, its operator where there are
    /// several.
    pub fn title(&self, plan: &FacetPlan, share: &[usize], op: usize) -> Vec<String> {
        let mut parts = Vec::new();
        if let (false, [component]) = (plan.together, share) {
            let name = &*self.components[*component];
            parts.push(format!("{} ({name})", component_short(name)));
        }
        if self.ops.len() > 1 {
            let op = self.ops[op].as_deref();
            parts.push(op.unwrap_or("several operators").to_owned());
        }
        parts
    }

    /// The axes of the facets of these components, which they share, whether or not each has them all; `known` are
    /// the cells that have something.
    pub fn axes<'a>(
        &self,
        share: &[usize],
        known: impl Iterator<Item = (usize, &'a CellAt)>,
    ) -> FacetAxes {
        let (mut rows, mut stands, mut heads) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let shared = known.filter(|(component, _)| share.contains(component));
        for (component, (layer, stand, head)) in shared {
            let name = &self.components[component];
            let rank = component_rank(name);
            // Global sites lie below the first layer or above the last.
            let height = match layer {
                Some(layer) => i64::from(*layer),
                None if rank < component_rank("block_input") => -1,
                None => i64::from(u32::MAX) + 1,
            };
            rows.insert((height, rank, name), (*layer, component));
            stands.insert(*stand);
            heads.insert(*head);
        }
        FacetAxes {
            rows: rows.into_values().collect(),
            stands: stands.into_iter().collect(),
            heads: heads.into_iter().collect(),
        }
    }

    /// The columns of a facet, as they are called.
    pub fn groups(&self, axes: &FacetAxes) -> Vec<Group> {
        let label = |head: &Option<u32>| match head {
            // A component without heads has nothing to set side by side after all.
            _ if axes.heads.len() == 1 => String::new(),
            Some(head) => head.to_string(),
            None => "–".to_owned(),
        };
        let group = |stand: &Option<Stand>| Group {
            label: stand.map_or_else(String::new, |stand| self.label(stand)),
            position: stand.and_then(|stand| self.stands.get(&stand)?.0),
            columns: axes.heads.iter().map(label).collect(),
        };
        axes.stands.iter().map(group).collect()
    }

    /// What the rows of a facet of these components are called.
    pub fn row_labels(&self, share: &[usize], axes: &FacetAxes) -> Vec<String> {
        let label = |(layer, component): &(Option<u32>, usize)| match layer {
            Some(layer) if share.len() == 1 && self.side_by_side() => format!("L{layer}"),
            layer => site_label(&self.components[*component], *layer),
        };
        axes.rows.iter().map(label).collect()
    }

    /// The name that a place goes by, if it goes by one.
    pub fn name(&self, stand: Stand) -> Option<&str> {
        match stand {
            Stand::Name(name) => Some(&self.names[name]),
            Stand::Number(_) => None,
        }
    }

    /// The name that was asked for, else the token, else the number.
    fn label(&self, stand: Stand) -> String {
        let token = || self.stands.get(&stand)?.1.as_ref();
        match (stand, token()) {
            (Stand::Name(name), _) => token_label(&self.names[name]),
            (Stand::Number(_), Some(token)) => token_label(token),
            (Stand::Number(number), None) => number.to_string(),
        }
    }
}
