//! A sweep as typed: components × layers × heads × positions, one run a cell.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ask::window::window;
use crate::basis::Basis;
use crate::model::Config;
use crate::patch::{Op, Patch, Run};
use crate::prompt::position::Spot;
use crate::site::{Component, Site, columns};

/// Which of a range: `all`, `3`, `0,4`, `2-5`, or several of these with commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IndexRange {
    /// Every one that exists.
    #[default]
    All,
    /// These, in the order given.
    Some(Vec<usize>),
}

/// What is wrong with a sweep's flags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GridError {
    /// Not a range.
    #[error("`{text}` is not a range: write all, 3, 0,4 or 2-5")]
    Span {
        /// As given.
        text: String,
    },
    /// A range that goes down.
    #[error(
        "`{text}` is not a range: a range goes from the lower to the higher, as in {low}-{high}"
    )]
    Backwards {
        /// As given.
        text: String,
        /// Its lower end.
        low: usize,
        /// Its higher end.
        high: usize,
    },
    /// Beyond what the model or prompt has.
    #[error("{what} {value} is out of range: {what}s are 0 to {last}")]
    OutOfRange {
        /// `layer`, `head` or `position`.
        what: &'static str,
        /// As given.
        value: usize,
        /// The largest that exists.
        last: usize,
    },
    /// A range of what no component has.
    #[error("--{flag} {given} applies to nothing here: {reason}; leave it out")]
    Idle {
        /// The flag, without dashes.
        flag: &'static str,
        /// Its value.
        given: String,
        /// Why.
        reason: &'static str,
    },
    /// One component of one layer, twice.
    #[error("{component}{} is named twice: name each component once", layer.map_or(String::new(), |l| format!(" of layer {l}")))]
    Twice {
        /// The component.
        component: Component,
        /// Its layer, for components within the layers.
        layer: Option<usize>,
    },
    /// Not an operator.
    #[error(
        "unknown operator `{text}`: use interchange, zero, knockout, add, subtract, collect, skip, set=F#tensor, set=x, add=F#tensor, mean=PROMPTS.txt, mean-by-position=PROMPTS.txt, scale=x, interpolate=α or noise=level"
    )]
    Op {
        /// As given.
        text: String,
    },
    /// Something named twice in one list.
    #[error("`{text}` names {value} twice: name each once")]
    Doubled {
        /// As given.
        text: String,
        /// What stands there twice.
        value: String,
    },
    /// An operator whose number is none, or none that an activation can have.
    #[error("`{op}` needs {needs}, not `{text}`")]
    Number {
        /// The operator.
        op: String,
        /// What would be right.
        needs: &'static str,
        /// As given.
        text: String,
    },
}

/// Nothing that is counted has so many; a longer range is a slip of the hand, not a sweep.
const LONGEST: usize = 1 << 20;

impl FromStr for IndexRange {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        if text == "all" {
            return Ok(IndexRange::All);
        }
        let wrong = || GridError::Span {
            text: text.to_owned(),
        };
        let mut list = Vec::new();
        for part in text.split(',') {
            let number = |s: &str| {
                s.trim()
                    .parse::<usize>()
                    .ok()
                    .filter(|n| isize::try_from(*n).is_ok())
                    .ok_or_else(wrong)
            };
            match part.split_once('-') {
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(GridError::Backwards {
                            text: part.trim().to_owned(),
                            low: to,
                            high: from,
                        });
                    }
                    // of a range that ends nowhere, its end stands for the rest: it is what will be
                    // found not to exist
                    list.extend(if to < LONGEST { from } else { to }..=to);
                }
                None => list.push(number(part)?),
            }
        }
        let mut seen = HashSet::new();
        match list.iter().find(|n| !seen.insert(**n)) {
            Some(twice) => Err(GridError::Doubled {
                text: text.to_owned(),
                value: twice.to_string(),
            }),
            None => Ok(IndexRange::Some(list)),
        }
    }
}

impl fmt::Display for IndexRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexRange::All => f.write_str("all"),
            IndexRange::Some(list) => {
                let text: Vec<String> = list.iter().map(usize::to_string).collect();
                f.write_str(&text.join(","))
            }
        }
    }
}

impl IndexRange {
    /// The members of `0..count` that are meant.
    ///
    /// # Errors
    ///
    /// [`GridError::OutOfRange`] naming the first that does not exist.
    pub fn of(&self, count: usize, what: &'static str) -> Result<Vec<usize>, GridError> {
        match self {
            IndexRange::All => Ok((0..count).collect()),
            IndexRange::Some(list) => match list.iter().find(|v| **v >= count) {
                Some(&value) => Err(GridError::OutOfRange {
                    what,
                    value,
                    last: count.saturating_sub(1),
                }),
                None => Ok(list.clone()),
            },
        }
    }
}

/// A sweep over one pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// What is patched; a site with a layer ignores `layers`.
    pub sites: Vec<Site>,
    /// Which layers.
    pub layers: IndexRange,
    /// Which heads, for components that have them.
    pub heads: IndexRange,
    /// Which positions.
    pub positions: IndexRange,
    /// One run patches all heads.
    pub heads_together: bool,
    /// One run patches all positions.
    pub positions_together: bool,
    /// How many layers one run patches together, around the one that it is filed under
    /// ([`window`]).
    pub window: usize,
    /// Which columns of the row, or coordinates of the basis.
    pub columns: IndexRange,
    /// Each of them in a run of its own.
    pub columns_apart: bool,
    /// In which coordinates the operator acts.
    pub basis: Option<Arc<Basis>>,
    /// What is done.
    pub op: Op,
}

impl Grid {
    /// Interchanges at these sites: every layer, head and position by itself, whole rows.
    pub fn all(sites: Vec<Site>) -> Self {
        Self {
            sites,
            layers: IndexRange::All,
            heads: IndexRange::All,
            positions: IndexRange::All,
            heads_together: false,
            positions_together: false,
            window: 1,
            columns: IndexRange::All,
            columns_apart: false,
            basis: None,
            op: Op::Interchange,
        }
    }

    /// The reference job's components: z and v of every head.
    pub fn default_sites() -> Vec<Site> {
        [
            Component::HeadAttentionValueOutput,
            Component::HeadValueOutput,
        ]
        .map(|component| Site {
            component,
            layer: None,
        })
        .to_vec()
    }

    /// One run a cell, by component, layer, head, position.
    ///
    /// # Errors
    ///
    /// [`GridError`]: a range beyond what there is, or of what no component has; a component twice.
    pub fn runs(&self, config: &Config, positions: usize) -> Result<Vec<Run>, GridError> {
        let positions = self.positions.of(positions, "position")?;
        let spots: Vec<Spot> = split(&positions, self.positions_together)
            .into_iter()
            .map(|positions| Spot::same(None, positions))
            .collect();
        self.runs_at(config, &spots)
    }

    /// One run a cell at these positions instead of the grid's own, by component, layer, head, spot.
    ///
    /// # Errors
    ///
    /// As [`Grid::runs`], for all but positions.
    pub fn runs_at(&self, config: &Config, spots: &[Spot]) -> Result<Vec<Run>, GridError> {
        if self.sites.iter().all(|s| !s.component.has_heads())
            && (self.heads_together || self.heads != IndexRange::All)
        {
            let given = if self.heads_together {
                "together".into()
            } else {
                self.heads.to_string()
            };
            return Err(GridError::Idle {
                flag: "heads",
                given,
                reason: "the components have no heads",
            });
        }
        let mut runs = Vec::new();
        for (component, layers) in by_layer(&self.sites, &self.layers, config)? {
            let heads = if component.has_heads() {
                split(&self.heads.of(config.heads, "head")?, self.heads_together)
            } else {
                vec![Vec::new()]
            };
            let columns = self.columns_of(component, config)?;
            for layer in &layers {
                for heads in &heads {
                    for (spot, columns) in spots
                        .iter()
                        .flat_map(|spot| columns.iter().map(move |columns| (spot, columns)))
                    {
                        let place = self.place(spot, columns.as_deref());
                        let patch = Patch::interchange(
                            component,
                            *layer,
                            heads.clone(),
                            spot.positions.clone(),
                        );
                        let patch = Patch {
                            source_positions: spot.source_positions.clone(),
                            keys: spot.keys.clone(),
                            columns: columns.clone(),
                            basis: self.basis.clone(),
                            ..patch.with_op(self.op.clone())
                        };
                        runs.push(Run {
                            name: place.as_ref().map(|name| run_name(component, *layer, name)),
                            position: place.filter(|name| name != Spot::ALL),
                            layer: layer.filter(|_| self.window > 1),
                            patches: self.in_window(patch, config),
                            ..Run::default()
                        });
                    }
                }
            }
        }
        Ok(runs)
    }

    /// The columns of each run: all of them, some together, or one after the other.
    fn columns_of(
        &self,
        component: Component,
        config: &Config,
    ) -> Result<Vec<Option<Vec<usize>>>, GridError> {
        if !self.columns_apart {
            return Ok(vec![match &self.columns {
                IndexRange::All => None,
                IndexRange::Some(columns) => Some(columns.clone()),
            }]);
        }
        let (count, what) = match &self.basis {
            Some(basis) => (basis.coordinates(), "coordinate"),
            None => (columns(component, config), "column"),
        };
        let each = self.columns.of(count, what)?.into_iter();
        Ok(each.map(|column| Some(vec![column])).collect())
    }

    /// The name of a place, with the column where each has a run of its own: `end#17`.
    fn place(&self, spot: &Spot, columns: Option<&[usize]>) -> Option<String> {
        match columns {
            Some([column]) if self.columns_apart => Some(format!("{}#{column}", spot.label())),
            _ => spot.name.clone(),
        }
    }

    /// A patch in every layer of its window.
    fn in_window(&self, patch: Patch, config: &Config) -> Vec<Patch> {
        match patch.layer {
            Some(layer) if self.window > 1 => window(layer, self.window, config.layers)
                .map(|layer| Patch {
                    layer: Some(layer),
                    ..patch.clone()
                })
                .collect(),
            _ => vec![patch],
        }
    }
}

/// `head_value_output.3@subject.last`: what is patched at a position that goes by a name.
fn run_name(component: Component, layer: Option<usize>, spot: &str) -> String {
    match layer {
        Some(layer) => format!("{component}.{layer}@{spot}"),
        None => format!("{component}@{spot}"),
    }
}

/// A component with the layers that it is asked of; the one outside the layers is `None`.
pub type Layers = (Component, Vec<Option<usize>>);

/// Every site with its layers: the one in its name, or else those of `layers`.
///
/// # Errors
///
/// [`GridError`] for a layer that does not exist, a site named twice, and layers that apply to none.
pub fn by_layer(
    sites: &[Site],
    layers: &IndexRange,
    config: &Config,
) -> Result<Vec<Layers>, GridError> {
    let open = |site: &Site| !site.component.is_global() && site.layer.is_none();
    if *layers != IndexRange::All && !sites.iter().any(open) {
        let reason = "the components stand outside the layers, or name their own";
        return Err(GridError::Idle {
            flag: "layers",
            given: layers.to_string(),
            reason,
        });
    }
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(sites.len());
    for site in sites {
        let component = site.component;
        let own: Vec<Option<usize>> = match (component.is_global(), site.layer) {
            (true, _) => vec![None],
            (false, Some(layer)) => IndexRange::Some(vec![layer])
                .of(config.layers, "layer")?
                .into_iter()
                .map(Some)
                .collect(),
            (false, None) => layers
                .of(config.layers, "layer")?
                .into_iter()
                .map(Some)
                .collect(),
        };
        if let Some(&layer) = own.iter().find(|l| !seen.insert((component, **l))) {
            return Err(GridError::Twice { component, layer });
        }
        all.push((component, own));
    }
    Ok(all)
}

fn split(list: &[usize], together: bool) -> Vec<Vec<usize>> {
    if together {
        vec![list.to_vec()]
    } else {
        list.iter().map(|x| vec![*x]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_mean_what_the_manual_says() {
        let of = |text: &str| text.parse::<IndexRange>().unwrap().of(8, "layer");
        assert_eq!(of("all").unwrap(), (0..8).collect::<Vec<_>>());
        assert_eq!(of("3").unwrap(), [3]);
        assert_eq!(of("0,4").unwrap(), [0, 4]);
        assert_eq!(of("2-5").unwrap(), [2, 3, 4, 5]);
        assert_eq!(of("5,2-3").unwrap(), [5, 2, 3]);
        let said = "5,2-3,3".parse::<IndexRange>().unwrap_err().to_string();
        assert_eq!(said, "`5,2-3,3` names 3 twice: name each once");
        assert_eq!(
            of("8").unwrap_err().to_string(),
            "layer 8 is out of range: layers are 0 to 7"
        );
        assert_eq!(
            of("0-4000000000").unwrap_err().to_string(),
            "layer 4000000000 is out of range: layers are 0 to 7"
        );
        assert_eq!(
            "0,5-2".parse::<IndexRange>().unwrap_err().to_string(),
            "`5-2` is not a range: a range goes from the lower to the higher, as in 2-5"
        );
        for wrong in ["", "a", "3-", "-3", "5-2", "1,,2", "99999999999999999999"] {
            assert!(wrong.parse::<IndexRange>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_an_error(text in "[0-9,a-z -]{0,12}") {
            if let Ok(span) = text.parse::<IndexRange>() {
                prop_assert_eq!(span.to_string().parse::<IndexRange>().unwrap(), span);
            }
        }
    }
}
