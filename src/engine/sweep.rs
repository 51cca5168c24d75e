//! A sweep as it is asked: which cells of a grid, and where.

use std::collections::HashSet;
use std::str::FromStr;

use crate::ask::grid::{Grid, GridError, IndexRange};
use crate::ask::preset::Preset;
use crate::error::Error;
use crate::patch::Op;
use crate::prompt::position::{Position, Spot};
use crate::site::Site;

/// A sweep, or a preset.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// What is patched, and how.
    pub grid: Grid,
    /// A ready-made one, whose sites the grid has.
    pub preset: Option<Preset>,
    /// Where.
    pub places: Where,
    /// Of scores and a pattern, the keys: one run each. `None` is every key that a query sees, in one run.
    pub keys: Option<Where>,
}

/// Where a sweep patches, as typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Where {
    /// At every position, or where a row says.
    All,
    /// At all of them in one run.
    Together,
    /// At these.
    Listed(Vec<Position>),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "together" => return Ok(Self::Together),
            _ => {}
        }
        let wrong = || {
            format!(
                "`{text}` is not a range: write all, 3, 0,4 or 2-5, or together, or names such as end, -1, subject.last or a word"
            )
        };
        let mut list: Vec<Position> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let of_numbers = part.starts_with(|c: char| c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_digit() || c == '-');
            match part.parse::<IndexRange>() {
                Ok(IndexRange::Some(numbers)) => {
                    list.extend(numbers.iter().map(|n| Position::Number(n.cast_signed())));
                }
                Err(wrong @ (GridError::Backwards { .. } | GridError::Doubled { .. })) => {
                    return Err(wrong.to_string());
                }
                _ if of_numbers || ["", "all", "together"].contains(&part) => return Err(wrong()),
                _ => list.push(Position::named(part)),
            }
        }
        let mut seen = HashSet::new();
        match list.iter().find(|position| !seen.insert(*position)) {
            Some(twice) => Err(GridError::Doubled {
                text: text.to_owned(),
                value: twice.to_string(),
            }
            .to_string()),
            None => Ok(Self::Listed(list)),
        }
    }
}

impl Where {
    /// The positions, if they are listed.
    pub fn listed(&self) -> Option<&[Position]> {
        match self {
            Self::Listed(list) => Some(list),
            _ => None,
        }
    }

    /// As plain numbers, if they are.
    pub(super) fn numbers(&self) -> Option<IndexRange> {
        match self {
            Self::All | Self::Together => Some(IndexRange::All),
            Self::Listed(list) => list
                .iter()
                .map(|position| match position {
                    Position::Number(n) => usize::try_from(*n).ok(),
                    Position::Named { .. } => None,
                })
                .collect::<Option<_>>()
                .map(IndexRange::Some),
        }
    }
}

impl Sweep {
    /// Interchanges at these sites, by the names that `--component` takes: one run a layer, head and position.
    ///
    /// # Errors
    ///
    /// [`Error::Component`] for a name that is none.
    pub fn of(sites: &[&str]) -> Result<Self, Error> {
        let sites: Result<Vec<Site>, _> = sites.iter().map(|name| name.parse()).collect();
        Ok(Self {
            grid: Grid::all(sites?),
            preset: None,
            places: Where::All,
            keys: None,
        })
    }

    /// A ready-made sweep.
    pub fn preset(preset: Preset) -> Self {
        Self {
            grid: Grid::all(preset.sites()),
            preset: Some(preset),
            places: Where::All,
            keys: None,
        }
    }

    /// In these layers.
    #[must_use]
    pub fn layers(mut self, layers: IndexRange) -> Self {
        self.grid.layers = layers;
        self
    }

    /// At these heads.
    #[must_use]
    pub fn heads(mut self, heads: IndexRange) -> Self {
        self.grid.heads = heads;
        self
    }

    /// At these positions.
    #[must_use]
    pub fn positions(self, places: Where) -> Self {
        Self { places, ..self }
    }

    /// At these keys, one run each: of scores and a pattern.
    #[must_use]
    pub fn keys(self, keys: Where) -> Self {
        Self {
            keys: Some(keys),
            ..self
        }
    }

    /// So many layers in one run, around the one that it is filed under.
    #[must_use]
    pub fn window(mut self, layers: usize) -> Self {
        self.grid.window = layers;
        self
    }

    /// With another operator.
    #[must_use]
    pub fn op(mut self, op: Op) -> Self {
        self.grid.op = op;
        self
    }
}

impl Sweep {
    /// Refuses what cannot be asked of any pair.
    pub(super) fn check(&self) -> Result<(), Error> {
        let usage = |problem: &str| Err(Error::Usage(problem.to_owned()));
        let preset = self.preset.is_some();
        match (&self.keys, self.grid.window) {
            (Some(Where::Together), _) => usage(
                "--keys together: without --keys one run touches every key; leave it out, or name some, as in subject",
            ),
            (Some(_), _) if preset => usage(
                "--keys: a preset says itself which keys are touched; leave it out, or give --component",
            ),
            (_, 0) => usage("--window 0 patches nothing: give 1 or more layers"),
            (_, 2..) if preset => usage(
                "--window: a preset patches one layer at a time; leave it out, or give --component",
            ),
            _ => Ok(()),
        }
    }

    /// Where one pair is patched, at each of the keys that were asked for. Of every key by itself those are left out
    /// that no query sees, and of knockouts those that are all that a query sees.
    pub(super) fn seeing(&self, spots: Vec<Spot>, listed: Vec<Spot>, length: usize) -> Vec<Spot> {
        let keys = match &self.keys {
            None => return spots,
            Some(Where::All) => (0..length).map(|p| Spot::same(None, vec![p])).collect(),
            Some(_) => listed,
        };
        let every = self.keys == Some(Where::All);
        let can = |spot: &Spot, key: &Spot| {
            let sees = |query: &usize| key.positions.iter().any(|key| key <= query);
            let only = |query: &usize| (0..=*query).all(|seen| key.positions.contains(&seen));
            let lost = self.grid.op == Op::Knockout && spot.positions.iter().any(only);
            !every || spot.positions.iter().any(sees) && !lost
        };
        let pairs = spots
            .iter()
            .flat_map(|spot| keys.iter().map(move |key| (spot, key)));
        let pairs = pairs.filter(|(spot, key)| can(spot, key));
        pairs.map(|(spot, key)| spot.seeing(key)).collect()
    }
}
