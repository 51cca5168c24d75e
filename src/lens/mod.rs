//! What stands in the residual stream, said in tokens: the logit lens, which reads a stream as if it were the last,
//! and direct logit attribution, which says what each part of the model adds to a logit.
//!
//! Neither patches anything. A lens is a run all the same: a stream written over the last one at the position that is
//! read, of which the light cone leaves the final layer norm and the unembedding. So whatever reads runs reads it.

pub mod contributions;
pub mod streams;

use crate::results::table::Row;
use crate::site::Component;

/// A row of a lens: a stream, or a part of the model that adds to the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LensPart {
    /// Its name: `block_output.3`, `a3.h1`, `m2`, `b_O.3`.
    pub name: String,
    /// The component that holds it; biases stand in none.
    pub component: Option<Component>,
    /// Its layer.
    pub layer: Option<usize>,
    /// Its head.
    pub head: Option<usize>,
}

impl LensPart {
    /// Files a row under it.
    pub fn relabel(&self, row: &mut Row) {
        let index = |x: Option<usize>| x.map(|x| x as u32);
        row.component = self.component.map(|component| component.name().into());
        (row.layer, row.head) = (index(self.layer), index(self.head));
        // nothing is patched
        row.op = None;
        (row.source_layer, row.source_head, row.source_position) = (None, None, None);
    }
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LensError {
    /// What is no residual stream.
    #[error(
        "a lens reads residual streams, and {component} is none: give block_input, block_mid or block_output"
    )]
    NoStream {
        /// What was named.
        component: Component,
    },
    /// A name of several tokens.
    #[error(
        "{name} is {count} tokens, and a lens reads one: give {name}.first or {name}.last, or a number"
    )]
    SeveralTokens {
        /// As given.
        name: String,
        /// How many.
        count: usize,
    },
    /// A token that two names mean.
    #[error("position {position} is named twice: name each once")]
    Twice {
        /// The position.
        position: usize,
    },
    /// A metric that says nothing of what is added to a logit.
    #[error(
        "what a part adds to a logit has no {metric}: leave --metric out, or name logit or logit_diff"
    )]
    NoMetric {
        /// The metric.
        metric: String,
    },
}
