//! How much of an edge one run patches: the contribution at every position, or at one.

use std::fmt;

use super::edge::Edge;

/// What becomes a run of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Extent {
    /// An edge, at every position together.
    #[default]
    Whole,
    /// An edge at one position, and that for each position of the prompt.
    PerPosition,
}

/// What one run patches: an edge at every position, or at one. `a3.h5->a9.h6<q>@4` is what the receiver
/// reads of the sender at position 4 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EdgeAt {
    /// The edge.
    pub edge: Edge,
    /// The only position at which the receiver reads the source's contribution; `None` is at every one.
    pub position: Option<usize>,
}

impl Extent {
    /// The positions that have a run of their own, of a prompt of so many tokens.
    pub fn positions(self, length: usize) -> Vec<Option<usize>> {
        match self {
            Self::Whole => vec![None],
            Self::PerPosition => (0..length).map(Some).collect(),
        }
    }

    /// What the run of this index patches: edge by edge, and of one edge position by position.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn edge(self, edges: &[Edge], length: usize, run: usize) -> EdgeAt {
        match self {
            Self::Whole => EdgeAt {
                edge: edges[run],
                position: None,
            },
            Self::PerPosition => EdgeAt {
                edge: edges[run / length],
                position: Some(run % length),
            },
        }
    }
}

impl fmt::Display for EdgeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.edge.fmt(f)?;
        match self.position {
            Some(position) => write!(f, "@{position}"),
            None => Ok(()),
        }
    }
}
